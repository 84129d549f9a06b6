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

/* vm_spec.c: the container around isola-vmm. workload is the parsed config.json. */
int vm_outer_spec(const json_t *vm, const json_t *workload, json_t **ret, struct err *err);

/*
 * vm_client.c: a connection to the agent of the machine in bundle; waits up to timeout_ms while
 * pidfd's process lives. The descriptor is the caller's.
 */
int vm_connect(const char *bundle, int pidfd, int timeout_ms, struct err *err);
/* Sends a request and takes its answer, which must be of type want; *ret may be NULL. */
int vm_ask(int fd, const json_t *request, const char *want, json_t **ret, bool *ret_exec_failed,
           struct err *err);

/* vm_exec.c */
int vm_exec(const struct container_exec_args *args, struct container_process *ret,
            bool *ret_exec_failed, struct err *err);

#endif
