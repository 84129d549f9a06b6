/*
 * io_thread.h - a thread with an event loop of its own, for devices that are not to share the
 * machine's.
 *
 * Devices are made with its loop; what must happen on "the loop's thread" goes through
 * io_thread_call(). Nobody may hold the lock of one of its devices while he waits there.
 */
#ifndef VMM_IO_THREAD_H
#define VMM_IO_THREAD_H

#include "base/cleanup.h"

struct err;
struct io_thread;
struct loop;

/* Makes the loop; the thread comes with io_thread_start(). */
int io_thread_new(struct io_thread **ret, struct err *err);
/* Before it starts, or after io_thread_stop(). Its devices must be gone. Accepts NULL. */
void io_thread_free(struct io_thread *thread);
DEFINE_FREEP(struct io_thread *, io_thread_free)

struct loop *io_thread_loop(struct io_thread *thread);

/* After the process is jailed: a thread keeps the rights it was made with. 0 or a negative errno.
 */
int io_thread_start(struct io_thread *thread);
/* The loop's callback that runs ends first. Does nothing when it was not started. */
void io_thread_stop(struct io_thread *thread);

/* Runs fn on the thread and waits for it; here when there is no thread, or thread is NULL. */
typedef void io_thread_fn(void *data);
void io_thread_call(struct io_thread *thread, io_thread_fn *fn, void *data);

#endif
