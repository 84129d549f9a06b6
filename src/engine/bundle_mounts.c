#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/err.h"
#include "base/json.h"
#include "engine/bundle.h"
#include "engine/emulator.h"
#include "engine/id_range.h"
#include "engine/vm_bundle.h"

#define TTY_GID 5u
#define SHM_SIZE_DEFAULT (UINT64_C(64) << 20)
#define EMULATOR_CACHE_SIZE (UINT64_C(256) << 20)

static const struct {
    const char *target;
    const char *type;
    const char *source;
    const char *options; /* separated by commas */
} standard_mounts[] = {
    {"/proc", "proc", "proc", "nosuid,noexec,nodev"},
    {"/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"},
    {"/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"},
    {"/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"},
    {"/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"},
    {"/sys/fs/cgroup", "cgroup", "cgroup", "nosuid,noexec,nodev,relatime,ro"},
};

static int add_mount(json_t *mounts, const char *target, const char *type, const char *source,
                     const struct strv *options)
{
    json_t *list = json_from_strv(options);
    return json_array_append_new(mounts,
                                 json_pack("{s:s, s:s, s:s, s:o}", "destination", target, "type",
                                           type, "source", source, "options", list));
}

/* True when the user mounts something on target himself. */
static bool is_taken(const struct bundle_inputs *in, const char *target)
{
    for (size_t i = 0; i < in->mounts->count; i++) {
        if (str_eq(in->mounts->items[i].target, target)) {
            return true;
        }
    }
    return false;
}

static int add_standard(const struct bundle_inputs *in, json_t *mounts)
{
    for (size_t i = 0; i < COUNT(standard_mounts); i++) {
        if (is_taken(in, standard_mounts[i].target)) {
            continue;
        }
        AUTO(strv_donep) struct strv options = {0};
        int r = strv_split(&options, standard_mounts[i].options, ",");
        /* The terminal group, where it is among the ids that we have. */
        if (r == 0 && in->last_gid < TTY_GID && str_eq(standard_mounts[i].type, "devpts")) {
            free(options.items[options.count - 1]);
            options.items[--options.count] = NULL;
        }
        bool is_sys = str_starts(standard_mounts[i].target, "/sys");
        const char *type = standard_mounts[i].type;
        const char *source = standard_mounts[i].source;
        if (r == 0 && in->config->privileged && is_sys) {
            free(options.items[options.count - 1]);
            options.items[--options.count] = NULL;
        }
        /* A sysfs of a network namespace that is not ours cannot be mounted: show the host's. */
        if (r == 0 && str_eq(type, "sysfs") && in->net_path != NULL) {
            type = "bind";
            source = "/sys";
            r = strv_add(&options, "rbind");
        }
        /* Nor can a user mount a procfs or queues of namespaces that are the host's. */
        if (r == 0 && in->rootless &&
            ((str_eq(type, "proc") && str_eq(in->pid_path, "")) ||
             (str_eq(type, "mqueue") && str_eq(in->ipc_path, "")))) {
            if (access(standard_mounts[i].target, F_OK) < 0) {
                continue;
            }
            type = "bind";
            source = standard_mounts[i].target;
            r = strv_add(&options, "rbind");
        }
        if (r == 0) {
            r = add_mount(mounts, standard_mounts[i].target, type, source, &options);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int add_shm(const struct bundle_inputs *in, json_t *mounts)
{
    AUTO(strv_donep) struct strv options = {0};
    uint64_t size = in->config->shm_size != 0 ? in->config->shm_size : SHM_SIZE_DEFAULT;
    if (is_taken(in, "/dev/shm")) {
        return 0;
    }
    if (str_eq(in->ipc_path, "")) {
        int r = strv_split(&options, "rbind,nosuid,noexec,nodev", ",");
        return r < 0 ? r : add_mount(mounts, "/dev/shm", "bind", "/dev/shm", &options);
    }
    int r = strv_split(&options, "nosuid,noexec,nodev,mode=1777", ",");
    if (r == 0) {
        r = strv_addf(&options, "size=%llu", (unsigned long long)size);
    }
    return r < 0 ? r : add_mount(mounts, "/dev/shm", "tmpfs", "shm", &options);
}

static int add_file(const struct bundle_inputs *in, json_t *mounts, const char *name,
                    const char *target)
{
    AUTO(strv_donep) struct strv options = {0};
    if (in->files_dir == NULL || is_taken(in, target)) {
        return 0;
    }
    AUTO(freep) char *source = str_printf("%s/%s", in->files_dir, name);
    /* A copy, whose mount does not tell where ours lies. */
    int r = source == NULL ? -ENOMEM : strv_split(&options, "isola-copy,rprivate", ",");
    if (r == 0 && in->config->read_only) {
        r = strv_add(&options, "ro");
    }
    return r < 0 ? r : add_mount(mounts, target, "bind", source, &options);
}

static int add_user_mount(const struct bundle_inputs *in, size_t index, json_t *mounts)
{
    const struct mount_spec *spec = &in->mounts->items[index];
    AUTO(freep) char *shared = NULL;
    AUTO(strv_donep) struct strv options = {0};
    if (spec->type == MOUNT_TMPFS) {
        int r = strv_split(&options, "nosuid,nodev,noexec", ",");
        for (size_t i = 0; r == 0 && i < spec->options.count; i++) {
            r = strv_add(&options, spec->options.items[i]);
        }
        if (r == 0 && spec->read_only) {
            r = strv_add(&options, "ro");
        }
        return r < 0 ? r : add_mount(mounts, spec->target, "tmpfs", "tmpfs", &options);
    }
    bool recursive = spec->type == MOUNT_VOLUME || spec->recursive;
    int r = strv_add(&options, recursive ? "rbind" : "bind");
    if (r == 0) {
        r = strv_add(&options, spec->propagation != NULL ? spec->propagation : "rprivate");
    }
    /* A volume is ours, and all its users see the same owners; a directory of the host keeps its.
     */
    if (r == 0 && spec->type == MOUNT_VOLUME && in->ids != NULL && in->ids->size > 0) {
        r = strv_add(&options, "idmap");
    }
    if (r == 0 && spec->read_only) {
        /* Without the r a file system mounted below would stay writable. */
        r = strv_add(&options, recursive ? "rro" : "ro");
    }
    const char *source = spec->source;
    if (r == 0 && in->shared) {
        shared = vm_share_source(spec, index);
        source = shared;
        r = shared == NULL ? -ENOMEM : 0;
    }
    return r < 0 ? r : add_mount(mounts, spec->target, "bind", source, &options);
}

/* A program of ours, which a workload can neither change nor reach by way of the mount. */
static int add_program(json_t *mounts, const char *target, const char *path)
{
    AUTO(strv_donep) struct strv options = {0};
    int r = strv_split(&options, "isola-copy,ro", ",");
    return r < 0 ? r : add_mount(mounts, target, "bind", path, &options);
}

/*
 * The translator, and memory for what it translates: the workload's own, for it is executed and a
 * workload could write anything there.
 */
static int add_emulator(const struct bundle_inputs *in, json_t *mounts)
{
    AUTO(strv_donep) struct strv options = {0};
    uint64_t size = in->config->memory == 0 ? EMULATOR_CACHE_SIZE
                                            : MIN(in->config->memory / 8, EMULATOR_CACHE_SIZE);
    int r = strv_split(&options, "nosuid,nodev,noexec,mode=1777", ",");
    r = r < 0 ? r : strv_addf(&options, "size=%" PRIu64, size);
    r = r < 0 ? r : add_program(mounts, EMULATOR_PATH, in->emulator);
    return r < 0 ? r : add_mount(mounts, EMULATOR_CACHE_PATH, "tmpfs", "tmpfs", &options);
}

static int add_init(const struct bundle_inputs *in, json_t *mounts)
{
    int r = in->config->init ? add_program(mounts, "/dev/init", in->init_path) : 0;
    return r < 0 || in->emulator == NULL ? r : add_emulator(in, mounts);
}

int bundle_add_mounts(const struct bundle_inputs *in, json_t *spec, struct err *err)
{
    json_t *mounts = json_array();
    int r = json_object_set_new(spec, "mounts", mounts) < 0 ? -ENOMEM : add_standard(in, mounts);
    if (r == 0) {
        r = add_shm(in, mounts);
    }
    if (r == 0) {
        r = add_init(in, mounts);
    }
    if (r == 0) {
        r = add_file(in, mounts, "resolv.conf", "/etc/resolv.conf");
    }
    if (r == 0) {
        r = add_file(in, mounts, "hostname", "/etc/hostname");
    }
    if (r == 0) {
        r = add_file(in, mounts, "hosts", "/etc/hosts");
    }
    for (size_t i = 0; r == 0 && i < in->mounts->count; i++) {
        r = add_user_mount(in, i, mounts);
    }
    return r < 0 ? err_set(err, ENOMEM, "list mounts") : 0;
}
