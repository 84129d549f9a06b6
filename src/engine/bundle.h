/*
 * bundle.h - the OCI config.json of a workload, from its configuration.
 *
 * What `isola run`'s options mean in terms of runtime-spec 1.2. Pure data: nothing here touches the
 * kernel, but for reading users from the root file system and devices from /dev.
 */
#ifndef ENGINE_BUNDLE_H
#define ENGINE_BUNDLE_H

#include <jansson.h>
#include <stdbool.h>

#include "engine/config.h"
#include "engine/mount_spec.h"
#include "engine/user.h"

struct err;
struct id_range;

struct bundle_inputs {
    const char *id;
    const struct workload_config *config;
    const struct mount_specs *mounts; /* with sources that exist */
    const struct user *user;
    const char *files_dir; /* resolv.conf, hosts, hostname; NULL: the image's own */
    const char *hostname;
    const char *cgroup;    /* path below the hierarchies' roots */
    const char *init_path; /* of isola-init, for --init */
    const char *emulator; /* of isola-emu-aarch64, for programs of another CPU; NULL: of this one */
    const char *bundle_dir; /* the volumes' sources may be relative to it */
    /* Paths of namespaces to join, or NULL for one of its own; "" for the host's. */
    const char *net_path;
    const char *ipc_path;
    const char *pid_path;
    const char *uts_path;
    const char *user_path; /* with ids: NULL is one of its own, "" does not occur */
    const char *apparmor;  /* profile, or NULL for none */
    bool host_cgroupns;
    bool shared;                /* mounts come from a machine's shares, see vm_bundle.h */
    bool rootless;              /* namespaces of the host cannot be mounted from */
    const struct id_range *ids; /* of a user namespace of its own; size 0: none */
    unsigned last_gid; /* the last that our user namespace maps: UINT32_MAX - 1 on the host */
};

/* A new reference. */
int bundle_build(const struct bundle_inputs *inputs, json_t **ret, struct err *err);

/* bundle_rights.c: the workload's capabilities as names, sorted by number. */
int bundle_capabilities(const struct workload_config *config, struct strv *ret, struct err *err);
/* process.capabilities, noNewPrivileges, apparmorProfile, selinuxLabel; linux.seccomp. */
int bundle_add_rights(const struct bundle_inputs *inputs, json_t *process, json_t *linux_part,
                      struct err *err);

/* bundle_mounts.c */
int bundle_add_mounts(const struct bundle_inputs *inputs, json_t *spec, struct err *err);

/* bundle_limits.c: linux.resources, process.rlimits, devices. */
int bundle_add_limits(const struct bundle_inputs *inputs, json_t *process, json_t *linux_part,
                      struct err *err);

/* The words of a "security-opt": value of key ("seccomp=..." or "seccomp:..."), or NULL. */
const char *bundle_security_option(const struct workload_config *config, const char *key);

#endif
