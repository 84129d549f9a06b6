/*
 * spec.h - an OCI config.json (runtime-spec 1.2) as a struct: parsed, checked, ready to use.
 *
 * All memory belongs to the spec: strings point into its JSON document, arrays into its arena. A
 * spec never changes after spec_load(), so it can be read after a fork. Pointers and lists that the
 * file does not have are NULL and 0. Numbers that may be absent say so by a `_set` member.
 */
#ifndef CONTAINER_SPEC_H
#define CONTAINER_SPEC_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct err;

#define SPEC_VERSION "1.2.0"
#define SPEC_FILE_SIZE_MAX ((size_t)16 << 20)

/* items ends with a NULL entry when it is not NULL. */
struct spec_strings {
    char **items;
    size_t count;
};

/* An optional signed number: -1 is a value of its own in many places ("unlimited"). */
struct spec_number {
    bool set;
    int64_t value;
};

struct spec_id_map {
    uint32_t container_id;
    uint32_t host_id;
    uint32_t size;
};

struct spec_id_maps {
    struct spec_id_map *items;
    size_t count;
};

struct spec_rlimit {
    int resource;     /* RLIMIT_* */
    const char *name; /* "RLIMIT_NOFILE" */
    uint64_t soft;
    uint64_t hard;
};

/* Capability sets as bits 1 << CAP_*. */
struct spec_capabilities {
    bool set;
    uint64_t bounding;
    uint64_t effective;
    uint64_t inheritable;
    uint64_t permitted;
    uint64_t ambient;
};

struct spec_scheduler {
    bool set;
    uint32_t policy; /* SCHED_* */
    int32_t nice;
    uint32_t priority;
    uint64_t flags; /* SCHED_FLAG_* */
    uint64_t runtime;
    uint64_t deadline;
    uint64_t period;
};

struct spec_process {
    bool terminal;
    uint16_t console_height; /* 0: not given */
    uint16_t console_width;
    uid_t uid;
    gid_t gid;
    bool umask_set;
    mode_t umask;
    gid_t *additional_gids;
    size_t additional_gid_count;
    struct spec_strings args;
    struct spec_strings env;
    const char *cwd;
    struct spec_capabilities capabilities;
    struct spec_rlimit *rlimits;
    size_t rlimit_count;
    bool no_new_privileges;
    const char *apparmor_profile;
    const char *selinux_label;
    struct spec_number oom_score_adj;
    bool io_priority_set;
    int io_priority; /* as ioprio_set() takes it */
    struct spec_scheduler scheduler;
    bool cpu_affinity_set; /* execCPUAffinity */
    const char *cpu_affinity_initial;
    const char *cpu_affinity_final;
};

struct spec_mount {
    const char *destination;
    const char *type;   /* NULL for bind mounts */
    const char *source; /* NULL: none */
    struct spec_strings options;
    struct spec_id_maps uid_maps; /* of the mount itself, with idmap or ridmap */
    struct spec_id_maps gid_maps;
};

struct spec_hook {
    const char *path;
    struct spec_strings args; /* argv, [0] included; empty: {path} */
    struct spec_strings env;
    int64_t timeout; /* seconds, 0: none */
};

struct spec_hooks {
    struct spec_hook *items;
    size_t count;
};

enum spec_hook_kind {
    SPEC_HOOK_PRESTART,
    SPEC_HOOK_CREATE_RUNTIME,
    SPEC_HOOK_CREATE_CONTAINER,
    SPEC_HOOK_START_CONTAINER,
    SPEC_HOOK_POSTSTART,
    SPEC_HOOK_POSTSTOP,
    SPEC_HOOK_KIND_COUNT,
};

enum spec_namespace_kind {
    SPEC_NS_MOUNT,
    SPEC_NS_UTS,
    SPEC_NS_IPC,
    SPEC_NS_NETWORK,
    SPEC_NS_PID,
    SPEC_NS_USER,
    SPEC_NS_CGROUP,
    SPEC_NS_TIME,
    SPEC_NS_COUNT,
};

struct spec_namespace {
    bool listed;
    const char *path; /* NULL: a new one */
};

struct spec_time_offset {
    bool set;
    int64_t secs;
    uint32_t nanosecs;
};

struct spec_device {
    const char *path;
    mode_t type; /* S_IFCHR, S_IFBLK, S_IFIFO */
    uint32_t major;
    uint32_t minor;
    mode_t mode; /* permission bits */
    uid_t uid;
    gid_t gid;
};

struct spec_device_rule {
    bool allow;
    char type;     /* 'a', 'c', 'b' */
    int64_t major; /* -1: any */
    int64_t minor;
    bool read;
    bool write;
    bool mknod;
};

struct spec_hugepage_limit {
    const char *page_size;
    uint64_t limit;
};

struct spec_weight_device {
    uint32_t major;
    uint32_t minor;
    struct spec_number weight;
    struct spec_number leaf_weight;
};

struct spec_throttle {
    uint32_t major;
    uint32_t minor;
    uint64_t rate;
};

enum spec_throttle_kind {
    SPEC_THROTTLE_READ_BPS,
    SPEC_THROTTLE_WRITE_BPS,
    SPEC_THROTTLE_READ_IOPS,
    SPEC_THROTTLE_WRITE_IOPS,
    SPEC_THROTTLE_KIND_COUNT,
};

struct spec_throttles {
    struct spec_throttle *items;
    size_t count;
};

/* A name and a text or a number, for lists that only pass through. */
struct spec_pair {
    const char *name;
    const char *value;
};

struct spec_pairs {
    struct spec_pair *items;
    size_t count;
};

struct spec_net_priority {
    const char *name;
    uint32_t priority;
};

struct spec_rdma {
    const char *device;
    struct spec_number handles;
    struct spec_number objects;
};

struct spec_resources {
    struct spec_device_rule *devices;
    size_t device_count;
    struct {
        struct spec_number limit;
        struct spec_number reservation;
        struct spec_number swap; /* memory and swap together, as in v1 */
        struct spec_number kernel;
        struct spec_number kernel_tcp;
        struct spec_number swappiness;
        struct spec_number disable_oom_killer; /* 0, 1 */
        struct spec_number use_hierarchy;
        bool check_before_update;
    } memory;
    struct {
        struct spec_number shares;
        struct spec_number quota;
        struct spec_number burst;
        struct spec_number period;
        struct spec_number realtime_runtime;
        struct spec_number realtime_period;
        struct spec_number idle;
        const char *cpus;
        const char *mems;
    } cpu;
    struct spec_number pids_limit;
    struct {
        struct spec_number weight;
        struct spec_number leaf_weight;
        struct spec_weight_device *weight_devices;
        size_t weight_device_count;
        struct spec_throttles throttles[SPEC_THROTTLE_KIND_COUNT];
    } block_io;
    struct spec_hugepage_limit *hugepages;
    size_t hugepage_count;
    struct {
        struct spec_number class_id;
        struct spec_net_priority *priorities;
        size_t priority_count;
    } network;
    struct spec_rdma *rdma;
    size_t rdma_count;
    struct spec_pairs unified;
};

struct spec_seccomp_arg {
    uint32_t index;
    uint64_t value;
    uint64_t value_two;
    uint32_t op; /* enum scmp_compare */
};

struct spec_seccomp_rule {
    struct spec_strings names;
    uint32_t action; /* SCMP_ACT_* with the errno in it */
    struct spec_seccomp_arg *args;
    size_t arg_count;
};

struct spec_seccomp {
    bool set;
    uint32_t default_action;
    uint32_t *architectures; /* SCMP_ARCH_* */
    size_t architecture_count;
    uint32_t flags; /* SECCOMP_FILTER_FLAG_* */
    const char *listener_path;
    const char *listener_metadata;
    bool has_notify;
    struct spec_seccomp_rule *rules;
    size_t rule_count;
};

/* linux.intelRdt */
struct spec_rdt {
    bool set;
    const char *clos_id;
    const char *l3_cache_schema;
    const char *mem_bw_schema;
    bool enable_cmt;
    bool enable_mbm;
};

struct spec {
    json_t *json; /* the document; hooks and annotations are copied into the state from here */
    struct spec_arena *arena;
    const char *text; /* the document as it was read, for the copy in the state */
    size_t text_len;
    const char *version;

    const char *root_path;
    bool root_readonly;
    const char *hostname;
    const char *domainname;
    struct spec_pairs annotations;

    bool has_process; /* without one a container can be created but not started */
    struct spec_process process;
    struct spec_mount *mounts;
    size_t mount_count;
    struct spec_hooks hooks[SPEC_HOOK_KIND_COUNT];

    struct spec_namespace namespaces[SPEC_NS_COUNT];
    struct spec_id_maps uid_maps;
    struct spec_id_maps gid_maps;
    struct spec_time_offset monotonic;
    struct spec_time_offset boottime;
    struct spec_device *devices;
    size_t device_count;
    const char *cgroups_path;
    struct spec_resources resources;
    bool rootfs_propagation_set;
    unsigned long rootfs_propagation; /* MS_SHARED, ... with MS_REC */
    struct spec_pairs sysctl;
    struct spec_strings masked_paths;
    struct spec_strings readonly_paths;
    const char *mount_label;
    bool personality_set;
    unsigned long personality;
    struct spec_seccomp seccomp;
    struct spec_rdt rdt;
};

/*
 * Reads dir_fd/path. Errors are one line that names the JSON path and the value:
 * "config.json: process.cwd = "x": must be an absolute path". On success *ret_spec is the caller's.
 */
int spec_load(int dir_fd, const char *path, struct spec **ret_spec, struct err *err);

/* The same from memory; name is for the error text. */
int spec_parse(const char *text, size_t len, const char *name, struct spec **ret_spec,
               struct err *err);

/* Accepts NULL. */
void spec_free(struct spec *spec);
DEFINE_FREEP(struct spec *, spec_free)

/* A process object alone (exec --process); free with spec_free(). Only spec->process is set. */
int spec_parse_process(const char *text, size_t len, const char *name, struct spec **ret_spec,
                       struct err *err);

/* A resources object alone (update); only spec->resources is set. */
int spec_parse_resources(const char *text, size_t len, const char *name, struct spec **ret_spec,
                         struct err *err);

/* Memory that lives as long as the spec, zeroed; NULL without memory. */
void *spec_alloc(struct spec *spec, size_t count, size_t size);

/* The config.json of `isola-oci spec`; rootless: as an ordinary user needs it. Caller unrefs. */
json_t *spec_default(bool rootless);

#endif
