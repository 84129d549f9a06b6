/*
 * container.h - the container wall: from an OCI spec to a running process, and its whole life.
 *
 * A container is a directory ROOT/ID with a state file, a cgroup, and the namespaces that its first
 * process holds. Nothing stays in the caller: every function finds the container again by root and
 * id, so any process may create, start, kill and delete in turn. A function that fails leaves
 * nothing behind that it made.
 *
 * The caller must be single-threaded in container_create() and container_exec() (namespaces are
 * joined), should call self_protect() of container/self.h first in main() (see there), and must not
 * expect its umask and signal mask to be those of the workload: the workload starts with default
 * signals and no other descriptors than 0, 1, 2 and preserve_fds.
 */
#ifndef CONTAINER_CONTAINER_H
#define CONTAINER_CONTAINER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "container/spec.h"
#include "container/stats.h"

struct err;
struct strv;

/* A process of a container. pidfd is the receiver's, close-on-exec. */
struct container_process {
    pid_t pid; /* as the caller's pid namespace numbers it */
    uint64_t start_time;
    int pidfd;
};

static inline void container_process_done(struct container_process *process)
{
    process->pidfd = close_fd(process->pidfd);
}
DEFINE_DONEP(struct container_process, container_process_done)

/* How stdio, terminal and parentage of a new process are arranged; shared by create and exec. */
struct container_io {
    int stdio[3];             /* become 0, 1, 2; -1: the caller's own; not closed */
    int console_fd;           /* connected Unix socket that gets the pty master, or -1 */
    const char *console_path; /* the same by path (--console-socket), or NULL */
    unsigned preserve_fds;    /* how many descriptors from 3 on the workload inherits */
    /*
     * The caller's parent becomes the parent of the new process and reaps it; the caller may then
     * exit. That parent must be a child subreaper (PR_SET_CHILD_SUBREAPER): when the spec joins a
     * user namespace the process is handed over by reparenting.
     */
    bool adopt;
    int parent_death_signal; /* 0: none; comes when the parent (see adopt) dies */
    const char *pid_file;    /* gets the pid, replaced in one step; NULL: none */
};

struct container_create_args {
    const char *root; /* state directory, made (0711) when missing: "/run/isola-oci" */
    const char *id;   /* [a-zA-Z0-9_+-][a-zA-Z0-9_+.-]* */
    const char *bundle;
    const struct spec *spec;
    /*
     * A detached mount (fsmount(), open_tree(OPEN_TREE_CLONE)) that becomes the root file system,
     * or -1: spec->root_path. Stays the caller's; it is moved, so it is good for one container.
     */
    int rootfs_fd;
    struct container_io io;
    bool no_pivot;
    bool no_new_keyring;
    bool systemd_cgroup; /* a scope of systemd; cgroupsPath is SLICE:PREFIX:NAME */
    /* With it: a container without limits goes without a cgroup when systemd cannot give one. */
    bool cgroup_optional;
    bool no_cgroup; /* the caller's own cgroups are kept */
    /*
     * Create and start in one go: no start socket, no second connection; returns when the workload
     * executes. start_fd must be -1.
     */
    bool start;
    /*
     * -1: container_start() finds the process through the state directory. Else one end of a
     * SOCK_SEQPACKET pair on which the process waits instead; the other end, in any process, is
     * given to container_start_fd(). Stays the caller's.
     */
    int start_fd;
    /*
     * A connected Unix socket that gets the directory of the files that the container has as copies
     * (mount option isola-copy), which no path of the container leads to; or -1. Nothing is sent
     * when there are none. Stays the caller's.
     */
    int copies_fd;
};

#define CONTAINER_IO_INIT                                                                          \
    {                                                                                              \
        .stdio = {-1, -1, -1}, .console_fd = -1                                                    \
    }
#define CONTAINER_CREATE_ARGS_INIT                                                                 \
    {                                                                                              \
        .rootfs_fd = -1, .io = CONTAINER_IO_INIT, .start_fd = -1, .copies_fd = -1                  \
    }

/*
 * Makes the container. After it, and before the start, /proc/PID/ns/net is the container's network
 * namespace and may be furnished. Errors of the final exec (with args->start) are -ENOENT: there is
 * no such program (exit code 127), -EACCES or -ENOEXEC: it cannot be executed (126); err says
 * which. *ret_exec_failed (may be NULL) tells such errors from -ENOENT of a missing bundle.
 */
int container_create(const struct container_create_args *args, struct container_process *ret,
                     bool *ret_exec_failed, struct err *err);

/*
 * Executes the workload of a created container and runs its poststart hooks. Errors as above; after
 * a failed exec the first process is gone and the state is "stopped".
 */
int container_start(const char *root, const char *id, bool *ret_exec_failed, struct err *err);
int container_start_fd(const char *root, const char *id, int start_fd, bool *ret_exec_failed,
                       struct err *err);

/* Signals the first process, or with all every process in the cgroup. -ESRCH when stopped. */
int container_kill(const char *root, const char *id, int signal, bool all, struct err *err);

/*
 * Removes a stopped container: what is left in its cgroup is killed, the cgroup and the state go,
 * poststop hooks run. force: kills a live one first; a container that does not exist is success.
 */
int container_delete(const char *root, const char *id, bool force, struct err *err);

enum container_status {
    CONTAINER_CREATING,
    CONTAINER_CREATED,
    CONTAINER_RUNNING,
    CONTAINER_PAUSED,
    CONTAINER_STOPPED,
};

/* "creating", "created", ... */
const char *container_status_name(enum container_status status);

struct container_state {
    char *id;
    enum container_status status; /* derived from the process, never stored */
    pid_t pid;                    /* 0 when stopped */
    uint64_t start_time;
    char *bundle;
    char *rootfs;
    char *owner;        /* user name or number */
    int64_t created_ns; /* since 1970 */
    char *cgroup;       /* below each hierarchy's root: "/isola/web" */
    json_t *json;       /* the whole state file */
};

/* -ENOENT: no such container. On success the caller gives *ret to container_state_done(). */
int container_state(const char *root, const char *id, struct container_state *ret, struct err *err);
void container_state_done(struct container_state *state);
DEFINE_DONEP(struct container_state, container_state_done)

/* The state as the runtime-spec prints it; NULL without memory. */
json_t *container_state_json(const struct container_state *state);

/* The ids below root, sorted; an absent root is an empty list. */
int container_list(const char *root, struct strv *ret, struct err *err);

struct container_exec_args {
    const char *root;
    const char *id;
    const struct spec_process *process; /* complete: defaults come from container_exec_spec() */
    struct container_io io;
    const char *cgroup; /* a sub-cgroup that exists or is made, or NULL */
    bool no_new_keyring;
    bool ignore_paused;
};

#define CONTAINER_EXEC_ARGS_INIT                                                                   \
    {                                                                                              \
        .io = CONTAINER_IO_INIT                                                                    \
    }

/* The process that exec starts from when only words are given: the container's own (free it). */
int container_exec_spec(const char *root, const char *id, struct spec **ret_spec, struct err *err);

/* Runs one more process in a running container. Errors of its exec as in container_create(). */
int container_exec(const struct container_exec_args *args, struct container_process *ret,
                   bool *ret_exec_failed, struct err *err);

int container_pause(const char *root, const char *id, struct err *err);
int container_resume(const char *root, const char *id, struct err *err);
int container_update(const char *root, const char *id, const struct spec_resources *resources,
                     struct err *err);

/* What it uses; of one that has stopped, what it used (its cgroup lives until container_delete). */
int container_stats(const char *root, const char *id, struct container_stats *ret, struct err *err);

/* How many of its processes were killed for want of memory; 0 without a memory cgroup. */
int container_oom_kills(const char *root, const char *id, uint64_t *ret, struct err *err);

/* The processes in the cgroup and below it. The caller frees *ret. */
int container_pids(const char *root, const char *id, pid_t **ret, size_t *ret_count,
                   struct err *err);

/*
 * True when containers of the calling, ordinary user can be scopes of his own systemd manager: it
 * has a socket below XDG_RUNTIME_DIR, and the host has cgroup v2 alone.
 */
bool container_has_user_scopes(void);
/* True for linux.cgroupsPath of a scope: SLICE:PREFIX:NAME. */
bool container_is_scope_path(const char *cgroups_path);
/* The controllers ("cpu memory pids") that his manager may give to them. Text or NULL: freed. */
char *container_user_controllers(struct err *err);

/* The features document of runtime-spec 1.2; NULL without memory. */
json_t *container_features(void);

/* Writes the pid in one step. */
int container_write_pid_file(const char *path, pid_t pid, struct err *err);

/* True for an id that may name a directory, a cgroup and a unit. */
bool container_id_is_valid(const char *id);

#endif
