/*
 * vm_bundle.h - what a workload behind the vm wall needs beside its config.json: the machine, the
 * files that it is bound to, and what its agent is told. wall/vm.h says what is read from it.
 */
#ifndef ENGINE_VM_BUNDLE_H
#define ENGINE_VM_BUNDLE_H

#include <jansson.h>

#include "engine/config.h"
#include "engine/network.h"

struct err;

/* A machine has this much memory unless --memory says otherwise. */
#define VM_MEMORY_DEFAULT ((uint64_t)512 << 20)
#define VM_MEMORY_MIN ((uint64_t)64 << 20)

struct vm_bundle_inputs {
    const char *id;
    const struct workload_config *config;
    const struct network_lease *lease;
    const char *root;     /* the directory ROOT */
    const char *root_dir; /* ROOT/workloads/ID */
    const char *run_dir;  /* RUN/workloads/ID */
    const char *hostname;
    const struct strv *layers; /* EROFS images, topmost first */
};

/* Refuses, by name, the options that have no meaning behind this wall. */
int vm_bundle_check(const struct workload_config *config, struct err *err);

/* Makes the scratch disk and the initial file system when they are missing. A new reference. */
int vm_bundle_build(const struct vm_bundle_inputs *inputs, json_t **ret, struct err *err);

#endif
