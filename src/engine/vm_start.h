/*
 * vm_start.h - the part of a start that only the vm wall needs.
 */
#ifndef ENGINE_VM_START_H
#define ENGINE_VM_START_H

#include <stdbool.h>

struct engine;
struct err;
struct mount_specs;
struct network_lease;
struct workload;

/* Where isola-init is in a machine, for --init. */
#define VM_GUEST_INIT "/isola-init"

bool vm_start_wanted(const struct workload *workload);

struct vm_start_inputs {
    struct engine *engine;
    const struct workload *workload;
    const struct network_lease *lease;
    const char *root_dir; /* ROOT/workloads/ID */
    const char *run_dir;  /* RUN/workloads/ID */
    const char *hostname;
    const struct mount_specs *mounts;
    bool idle; /* see vm_idle.h */
};

/*
 * Writes RUN/workloads/ID/vm.json, and makes what it names: disks of the layers, a scratch disk, an
 * initial file system. The image is pinned, the sources of mounts exist and config.json is written.
 */
int vm_start_prepare(const struct vm_start_inputs *inputs, struct err *err);

#endif
