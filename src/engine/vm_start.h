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

/*
 * Writes RUN/workloads/ID/vm.json, and makes what it names: disks of the layers, a scratch disk, an
 * initial file system. The image is pinned, the sources of
 * mounts exist and config.json is written.
 */
int vm_start_prepare(struct engine *engine, const struct workload *workload,
                     const struct network_lease *lease, const char *root_dir, const char *run_dir,
                     const char *hostname, const struct mount_specs *mounts, struct err *err);

/*
 * What works on files or interfaces from outside does not reach into a machine: -EOPNOTSUPP naming
 * the workload when it is behind the vm wall, else 0.
 */
int vm_start_refuse(const struct workload *workload, const char *what, struct err *err);

#endif
