/*
 * init.h - the container's first process, from its birth to the workload's program; and what it
 * says to the process that makes it.
 */
#ifndef CONTAINER_INIT_H
#define CONTAINER_INIT_H

#include <stdbool.h>

#include "base/err.h"
#include "container/cgroup.h"
#include "container/container.h"
#include "container/mounts.h"
#include "container/seccomp_filter.h"

enum init_message_kind {
    INIT_HOOKS,   /* runs the hooks of the runtime's side, then answers */
    INIT_CREATED, /* waits for the start */
    INIT_FAILED,
    INIT_EXEC_FAILED,
};

struct init_message {
    enum init_message_kind kind;
    struct err err;
};

/* All that the first process needs; it has its own copy, made by fork. */
struct init_plan {
    const struct container_create_args *args;
    const struct spec *spec;
    struct mount_plan mounts;
    struct cgroup cgroup;
    struct seccomp_filter filter;
    int namespaces[SPEC_NS_COUNT]; /* descriptors to join, -1: none */
    bool born_in_unified;          /* CLONE_INTO_CGROUP was used */
    bool wait_for_go;              /* the parent has work to do first */
    bool parent_opens_mounts;
    bool parent_sets_limits;
    int sync_fd;  /* SOCK_SEQPACKET to the parent */
    int start_fd; /* listening socket in the state directory, or args->start_fd; -1: none */
    int console_fd;
    int notify_fd;
    const char *bundle;       /* absolute */
    const char *state_format; /* the OCI state for hooks of the container's side, without pid */
};

/* Never returns. */
_Noreturn void init_main(struct init_plan *plan);

int init_send(int fd, enum init_message_kind kind, const struct err *err);

/*
 * Shared with exec: what the listener of a seccomp filter is told beside its descriptor; state is
 * borrowed. To be called while /proc is the host's. The caller frees it; NULL without memory.
 */
char *init_notify_state(const struct spec *spec, json_t *state);

/* Shared with exec: stdio, terminal. */
int init_set_stdio(const struct container_io *io, const struct spec_process *process,
                   struct err *err);
/* Makes a pty in the devpts below root_fd and sends the master; *ret_slave is the caller's. */
int init_make_terminal(int root_fd, int console_fd, const struct spec_process *process,
                       int *ret_slave, struct err *err);
int init_take_terminal(int slave_fd, struct err *err);
/* In a new user namespace: become its root, where it has one. */
void init_become_root(void);
/* Default dispositions for all signals that may have been ignored, and an empty mask. */
void init_reset_signals(void);

#endif
