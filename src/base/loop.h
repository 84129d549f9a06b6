/*
 * loop.h - one event loop a thread: descriptors, timers, signals.
 *
 * Callbacks run on the thread that calls loop_run(). A callback may add and remove any source,
 * itself included; a removed source is never called again.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/signalfd.h>

#include "base/cleanup.h"

struct loop;
struct loop_source;

/* events: EPOLL* bits that happened. */
typedef void loop_fd_fn(struct loop_source *source, int fd, uint32_t events, void *data);
typedef void loop_timer_fn(struct loop_source *source, void *data);
typedef void loop_signal_fn(const struct signalfd_siginfo *info, void *data);

int loop_new(struct loop **ret_loop);
void loop_free(struct loop *loop);
DEFINE_FREEP(struct loop *, loop_free)

/* The descriptor stays the caller's, who removes the source before closing it. */
int loop_add_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn *fn, void *data,
                struct loop_source **ret_source);
int loop_source_set_events(struct loop_source *source, uint32_t events);

/* Fires once after delay_ns; loop_timer_set() arms it again. delay_ns < 0: not armed. */
int loop_add_timer(struct loop *loop, int64_t delay_ns, loop_timer_fn *fn, void *data,
                   struct loop_source **ret_source);
int loop_timer_set(struct loop_source *source, int64_t delay_ns);

/*
 * Counted, any thread: while somebody wants it, the thread that runs the loop does not take the CPU
 * from another when it is woken (SCHED_BATCH, sched(7)). Where that is forbidden nothing changes.
 */
void loop_be_patient(struct loop *loop, bool patient);

/* Blocks the signal for this thread and reports it from the loop. */
int loop_add_signal(struct loop *loop, int signal, loop_signal_fn *fn, void *data);

/* Accepts NULL. */
void loop_remove(struct loop_source *source);

/* Runs until loop_quit(); returns what was given there, or a negative errno. */
int loop_run(struct loop *loop);
void loop_quit(struct loop *loop, int result);

#endif
