/*
 * vm_bundle.h - what a workload behind the vm wall needs beside its config.json: the machine, the
 * files that it is bound to, and what its agent is told. wall/vm.h says what is read from it.
 */
#ifndef ENGINE_VM_BUNDLE_H
#define ENGINE_VM_BUNDLE_H

#include <jansson.h>

#include "engine/config.h"
#include "engine/mount_spec.h"
#include "engine/network.h"

struct err;

/* A machine has this much memory unless --memory says otherwise. */
#define VM_MEMORY_DEFAULT ((uint64_t)512 << 20)
/* What Debian's kernel, unpacked, leaves room in for its initial file system. */
#define VM_MEMORY_MIN ((uint64_t)80 << 20)

struct vm_bundle_inputs {
    const char *id;
    const struct workload_config *config;
    const struct network_lease *lease;
    const char *root;     /* the directory ROOT */
    const char *root_dir; /* ROOT/workloads/ID */
    const char *run_dir;  /* RUN/workloads/ID */
    const char *hostname;
    const struct strv *layers;        /* EROFS images, topmost first */
    const struct mount_specs *mounts; /* with sources that exist */
    bool idle; /* only for its files: no network, and /etc/hosts and such stay as they are */
};

/* Refuses, by name, the options that have no meaning behind this wall. */
int vm_bundle_check(const struct workload_config *config, struct err *err);

/* The same for what is mounted. */
int vm_shares_check(const struct mount_specs *mounts, struct err *err);
/* Where the agent finds the index-th of a workload's mounts, to be bound; the caller frees it. */
char *vm_share_source(const struct mount_spec *mount, size_t index);

/* Makes the scratch disk and the initial file system when they are missing. A new reference. */
int vm_bundle_build(const struct vm_bundle_inputs *inputs, json_t **ret, struct err *err);

/*
 * How many devices such a machine has, those of its board included, for an image of so many layers.
 */
int vm_bundle_devices(const struct workload_config *config, size_t layers, size_t *ret,
                      struct err *err);

#endif
