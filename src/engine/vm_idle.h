/*
 * vm_idle.h - the files of a workload behind the vm wall, running or not.
 *
 * The disk of a machine is a file system that its guest wrote: this host never mounts it. Where the
 * workload does not run its machine is booted without it, without a network, and under the lock of
 * the workload; volumes and bind mounts are there as for a run.
 */
#ifndef ENGINE_VM_IDLE_H
#define ENGINE_VM_IDLE_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct engine;
struct err;
struct vm_files;
struct workload;

struct vm_idle {
    struct engine *engine;
    char *id;
    char *bundle; /* of the machine that runs: see wall/vm.h */
    bool booted;  /* by us */
    int lock;
    pid_t pid;
    int pidfd;
};
#define VM_IDLE_INIT                                                                               \
    {                                                                                              \
        .lock = -1, .pidfd = -1                                                                    \
    }

/*
 * Call from a process with one thread that ignores SIGPIPE. -EBUSY for a paused workload. Pass ret
 * to vm_idle_done() in any case.
 */
int vm_idle_open(struct engine *engine, const struct workload *workload, struct vm_idle *ret,
                 struct err *err);

/* Ends a machine that was booted: what was written to it is on its disk only after 0. */
int vm_idle_close(struct vm_idle *idle, struct err *err);
/* Ends one at once. */
void vm_idle_done(struct vm_idle *idle);
DEFINE_DONEP(struct vm_idle, vm_idle_done)

#endif
