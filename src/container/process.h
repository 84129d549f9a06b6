/*
 * process.h - the last steps of a container's process: from "in its namespaces" to its program.
 */
#ifndef CONTAINER_PROCESS_H
#define CONTAINER_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "container/seccomp_filter.h"
#include "container/spec.h"

struct err;

struct process_plan {
    const struct spec_process *process;
    const struct seccomp_filter *filter;
    int notify_fd;            /* connected to the listener's socket, or -1 */
    const char *notify_state; /* ContainerProcessState with "%d" ids filled in, or NULL */
    unsigned preserve_fds;
    int parent_death_signal; /* set again after the ids changed; 0: none */
    const char *keyring;     /* name of the session keyring, or NULL: none is made */
    bool personality_set;
    unsigned long personality;
    int label_fd; /* a procfs for labels_set() when a label is to be set, else -1 */
};

/*
 * Limits of another process, or of the caller (pid 0). Fails on what cannot be had, naming the
 * limit and the capability.
 */
int process_set_rlimits(pid_t pid, const struct spec_process *process, struct err *err);

/*
 * Raises hard limits of another process that will be in a user namespace, where it cannot do so
 * itself; what it can lower itself is left to it.
 */
int process_raise_rlimits(pid_t pid, const struct spec_process *process, struct err *err);

/* oom_score_adj of a process, through the host's /proc. */
int process_set_oom_score(pid_t pid, const struct spec_process *process, struct err *err);

/* Scheduler, I/O priority and CPU affinity of the calling process. */
int process_set_priorities(const struct spec_process *process, struct err *err);

/*
 * Inside the container: into the working directory, which make makes when it is missing (a new
 * container's; an exec must not). -ENOENT in Docker's words; -EPERM when it is not below our root.
 */
int process_enter_cwd(const struct spec_process *process, bool make, struct err *err);

/*
 * Everything else up to the program itself: keyring, labels, ids, capabilities, filter,
 * descriptors. After it process_exec() follows at once.
 */
int process_become(const struct process_plan *plan, struct err *err);

/*
 * Executes the program. Returns only on failure: -ENOENT not found, -EACCES or -ENOEXEC not
 * executable.
 */
int process_exec(const struct spec_process *process, struct err *err);

/*
 * Looks for the program without executing it, so that a container whose program is missing is not
 * made at all. The answers are those of process_exec(); the exec itself decides in the end.
 */
int process_find(const struct spec_process *process, struct err *err);

/* Parses "0-3,7" into a mask and applies it to the process. */
int process_set_affinity(pid_t pid, const char *list, const char *field, struct err *err);

#endif
