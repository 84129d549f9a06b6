/*
 * vm.h - the vm wall: a kernel of its own in a virtual machine, for the same workload.
 *
 * Outside, the workload is a container of the container wall whose one process is isola-vmm: its
 * cgroup holds the limits, its namespaces the machine. Inside, isola-guest (src/guest) starts the
 * workload as the same config.json says. BUNDLE/vm.json, written by the engine, joins the two:
 *
 *   machine  isola-vmm's description, with paths as the machine sees them
 *   guest    the agent's "configure", without the OCI configuration
 *   binds    [{"from": host's path, "to": the machine's path, "write": false, "shallow": false}];
 *            shallow leaves out what is mounted below
 *   taps     [host's interface]: the i-th is the machine's descriptor 3 + i
 *   program  host's path of isola-vmm
 */
#ifndef WALL_VM_H
#define WALL_VM_H

#include <jansson.h>

#include "wall/wall.h"

#define VM_FILE "vm.json"
#define VM_FILE_MAX ((size_t)4 << 20)
/* BUNDLE/VM_SOCKET_DIR is the machine's /run; the agent is reached by the socket in it. */
#define VM_SOCKET_DIR "vm-run"
#define VM_SOCKET "vsock"
/* Where the agent mounts the shares, out of the workload's sight. */
#define VM_GUEST_SHARES "/run/isola/shares"

extern const struct wall vm_wall;

/*
 * vm_spec.c: the container around isola-vmm, which tells report_fd of its end (-1: nobody).
 * workload is the parsed config.json.
 */
int vm_outer_spec(const json_t *vm, const json_t *workload, int report_fd, json_t **ret,
                  struct err *err);

/*
 * vm_client.c: a connection to the agent of the machine in bundle; waits up to timeout_ms while
 * pidfd's process lives. The descriptor is the caller's.
 */
int vm_connect(const char *bundle, int pidfd, int timeout_ms, struct err *err);
/* Sends a request and takes its answer, which must be of type want; *ret may be NULL. */
int vm_ask(int fd, const json_t *request, const char *want, json_t **ret, bool *ret_exec_failed,
           struct err *err);

/* vm_streams.c: a process's standard streams on this side; -1: none. */
struct vm_streams {
    int listener[3]; /* where the agent connects them */
    int fd[3];
    char *path[3];
};
#define VM_STREAMS_INIT                                                                            \
    {                                                                                              \
        .listener = {-1, -1, -1}, .fd = { -1, -1, -1 }                                             \
    }
/* One process has one set of listeners at a time. vm_streams_unlisten() follows in any case. */
int vm_streams_listen(struct vm_streams *streams, const char *bundle, const bool wanted[3],
                      struct err *err);
/* Names their ports in a request; 0 or -ENOMEM. */
int vm_streams_describe(const struct vm_streams *streams, json_t *request);
/* After the agent's answer: fills fd, which is the caller's. */
int vm_streams_accept(struct vm_streams *streams, struct err *err);
void vm_streams_unlisten(struct vm_streams *streams);
/*
 * A raw pty: the master goes through console_fd, the slave is returned and the caller's. The
 * process's own terminal is in the machine.
 */
int vm_terminal_open(int console_fd, struct err *err);

/*
 * vm_files.c: isola-files in the machine, which reads or writes files for us (engine/files_serve.c
 * has its words). What comes out of it is the guest's, and hostile.
 */
struct vm_files_request {
    const char *const *words; /* ends with NULL */
    bool input;               /* fd[0] takes what we send */
    bool output;              /* fd[1] gives what it sends */
    bool freeze;              /* the workload stands still meanwhile */
};

struct vm_files {
    int control;
    struct vm_streams streams;
};
#define VM_FILES_INIT                                                                              \
    {                                                                                              \
        .control = -1, .streams = VM_STREAMS_INIT                                                  \
    }

/* bundle: of a machine that runs. Pass ret to vm_files_done() in any case. */
int vm_files_start(const char *bundle, const struct vm_files_request *request, struct vm_files *ret,
                   struct err *err);
/*
 * Closes the streams and waits for the end: 0, or the error that isola-files says. Without it
 * nothing is known of what was read or written.
 */
int vm_files_finish(struct vm_files *files, struct err *err);
void vm_files_done(struct vm_files *files);
DEFINE_DONEP(struct vm_files, vm_files_done)

/*
 * Like vm_wall.start(), but the workload itself is not started: for its files. The machine is ended
 * by vm_power_off(), which waits for it to write everything out.
 */
int vm_start_idle(const char *root, const char *id, int start_fd, struct err *err);
int vm_power_off(const char *root, const char *id, int pidfd, struct err *err);

/* The workload's processes, as the agent tells. *ret is a new reference to a list of objects. */
int vm_processes(const char *root, const char *id, json_t **ret, struct err *err);

/* Adds what the machine of a bundle has received and sent. 0 or a negative errno. */
int vm_network_bytes(const char *bundle, uint64_t *ret_in, uint64_t *ret_out);

/* vm_exec.c */
int vm_exec(const struct container_exec_args *args, struct container_process *ret,
            bool *ret_exec_failed, struct err *err);

#endif
