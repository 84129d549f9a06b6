/*
 * monitor.h - the jailed process that runs the machine, as the process sees it that was started.
 *
 * isola-vmm is two processes: the one that was started stays outside, speaks to whoever steers the
 * machine and opens what he names; the other, process 1 of a pid namespace, makes the machine,
 * enters the jail (jail.h) and runs it. No byte of the guest is read outside, and nothing that
 * comes from the jailed process is believed: answers have one size, their text is cleaned.
 *
 * On the loop's thread.
 */
#ifndef VMM_MONITOR_H
#define VMM_MONITOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "vmm/monitor_protocol.h"

struct err;
struct loop;
struct monitor;
struct snapshot_files;

struct monitor_options {
    const char *id;                        /* may be NULL */
    int config_fd;                         /* borrowed: the description, or -1: */
    const struct snapshot_files *snapshot; /* borrowed */
    int gdb_fd;                            /* borrowed; a socket that listens, or -1 */
    bool track_dirty;                      /* the same */
    bool resume;                           /* of a snapshot */
    const char *uds; /* of vsock: where the guest's connections go; NULL: nowhere */
};

/* Called once when the process has ended, on the loop's thread. */
typedef void monitor_ended_fn(struct monitor *monitor, void *data);

/* Returns when the guest runs, or with what the other process says why not. */
int monitor_start(const struct monitor_options *options, struct loop *loop, monitor_ended_fn *ended,
                  void *data, struct monitor **ret, struct err *err);

/* Kills the process where it still runs, removes vsock's socket. Accepts NULL. */
void monitor_free(struct monitor *monitor);
DEFINE_FREEP(struct monitor *, monitor_free)

/*
 * One call and its answer (NULL: of no interest); fds are borrowed. Fails as the other process
 * says, or -ESRCH when it is gone. SIGTERM or SIGINT, blocked as they are, kill the other process
 * when it does not answer: no guest keeps this process from its end.
 */
int monitor_call(struct monitor *monitor, enum monitor_verb verb, uint32_t value, const int *fds,
                 size_t fd_count, struct monitor_answer *ret, struct err *err);

/* Asks it to end in order; the second time kills it. */
void monitor_stop(struct monitor *monitor);
/* After it has ended: its exit code; one that was killed is said on standard error. */
int monitor_exit_code(const struct monitor *monitor);

#endif
