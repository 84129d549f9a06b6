#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/str.h"
#include "container/names.h"
#include "container/spec_fields.h"

static int read_namespace(struct spec *spec, const json_t *item, const struct json_path *at,
                          void *element, struct err *err)
{
    (void)element;
    const char *type = NULL;
    const char *path = NULL;
    int r = json_get_string(item, at, "type", &type, err);
    if (r >= 0) {
        r = json_get_string(item, at, "path", &path, err);
    }
    if (r < 0) {
        return r;
    }
    const struct json_path type_path = {.parent = at, .key = "type"};
    size_t kind = 0;
    while (kind < SPEC_NS_COUNT && !str_eq(type, namespace_kinds[kind].name)) {
        kind++;
    }
    if (kind == SPEC_NS_COUNT) {
        return json_fail(&type_path, json_object_get(item, "type"), err, "is not a namespace");
    }
    if (spec->namespaces[kind].listed) {
        return json_fail(&type_path, json_object_get(item, "type"), err, "is given twice");
    }
    if (path != NULL && path[0] != '\0' && path[0] != '/') {
        const struct json_path path_path = {.parent = at, .key = "path"};
        return json_fail(&path_path, json_object_get(item, "path"), err,
                         "must be an absolute path");
    }
    spec->namespaces[kind] = (struct spec_namespace){
        .listed = true,
        .path = path != NULL && path[0] != '\0' ? path : NULL,
    };
    return 0;
}

static int read_device(struct spec *spec, const json_t *item, const struct json_path *at,
                       void *element, struct err *err)
{
    struct spec_device *device = element;
    const char *type = NULL;
    int64_t mode = 0666;
    static const struct spec_field fields[] = {
        {"path", FIELD_STRING, offsetof(struct spec_device, path), 0, 0},
        {"major", FIELD_U32, offsetof(struct spec_device, major), 0, 0},
        {"minor", FIELD_U32, offsetof(struct spec_device, minor), 0, 0},
        {"uid", FIELD_U32, offsetof(struct spec_device, uid), 0, 0},
        {"gid", FIELD_U32, offsetof(struct spec_device, gid), 0, 0},
        {0},
    };
    int r = spec_read_fields(spec, item, at, fields, device, err);
    if (r >= 0) {
        r = json_get_string(item, at, "type", &type, err);
    }
    if (r >= 0) {
        /* Engines copy st_mode: the file type in it is passed over. */
        r = json_get_int(item, at, "fileMode", 0, 0177777, &mode, err);
    }
    if (r < 0) {
        return r;
    }
    if (device->path == NULL || device->path[0] != '/') {
        const struct json_path path = {.parent = at, .key = "path"};
        return json_fail(&path, json_object_get(item, "path"), err, "must be an absolute path");
    }
    if (str_eq(type, "c") || str_eq(type, "u")) {
        device->type = S_IFCHR;
    } else if (str_eq(type, "b")) {
        device->type = S_IFBLK;
    } else if (str_eq(type, "p")) {
        device->type = S_IFIFO;
    } else {
        const struct json_path path = {.parent = at, .key = "type"};
        return json_fail(&path, json_object_get(item, "type"), err, "must be c, b, u or p");
    }
    device->mode = (mode_t)mode & 07777;
    return 0;
}

static int read_time_offsets(struct spec *spec, const json_t *object, const struct json_path *at,
                             struct err *err)
{
    const struct json_path path = {.parent = at, .key = "timeOffsets"};
    const struct {
        const char *key;
        struct spec_time_offset *target;
    } clocks[] = {{"monotonic", &spec->monotonic}, {"boottime", &spec->boottime}};
    json_t *offsets;
    int r = json_get_object(object, at, "timeOffsets", &offsets, err);
    if (r <= 0) {
        return r;
    }
    for (size_t i = 0; i < COUNT(clocks); i++) {
        const struct json_path clock_path = {.parent = &path, .key = clocks[i].key};
        int64_t nanosecs = 0;
        json_t *clock;
        r = json_get_object(offsets, &path, clocks[i].key, &clock, err);
        if (r == 0) {
            continue;
        }
        if (r > 0) {
            r = json_get_int(clock, &clock_path, "secs", INT64_MIN, INT64_MAX,
                             &clocks[i].target->secs, err);
        }
        if (r >= 0) {
            r = json_get_int(clock, &clock_path, "nanosecs", 0, 999999999, &nanosecs, err);
        }
        if (r < 0) {
            return r;
        }
        clocks[i].target->nanosecs = (uint32_t)nanosecs;
        clocks[i].target->set = true;
    }
    return 0;
}

static int read_personality(struct spec *spec, const json_t *object, const struct json_path *at,
                            struct err *err)
{
    const struct json_path path = {.parent = at, .key = "personality"};
    json_t *personality;
    int r = json_get_object(object, at, "personality", &personality, err);
    if (r <= 0) {
        return r;
    }
    json_t *flags;
    r = json_get_array(personality, &path, "flags", &flags, err);
    if (r < 0) {
        return r;
    }
    if (r > 0 && json_array_size(flags) > 0) {
        const struct json_path flags_path = {.parent = &path, .key = "flags"};
        return json_fail(&flags_path, flags, err, "the runtime-spec defines no flags yet");
    }
    const char *domain = NULL;
    r = json_get_string(personality, &path, "domain", &domain, err);
    if (r < 0) {
        return r;
    }
    uint64_t value;
    if (domain == NULL || name_lookup(personality_names, domain, &value) < 0) {
        const struct json_path domain_path = {.parent = &path, .key = "domain"};
        return json_fail(&domain_path, json_object_get(personality, "domain"), err,
                         "must be LINUX or LINUX32");
    }
    spec->personality_set = true;
    spec->personality = (unsigned long)value;
    return 0;
}

static int read_propagation(struct spec *spec, const json_t *object, const struct json_path *at,
                            struct err *err)
{
    const char *name = NULL;
    int r = json_get_string(object, at, "rootfsPropagation", &name, err);
    if (r <= 0 || name[0] == '\0') {
        return r;
    }
    uint64_t value;
    if (name_lookup(propagation_names, name, &value) < 0) {
        const struct json_path path = {.parent = at, .key = "rootfsPropagation"};
        return json_fail(&path, json_object_get(object, "rootfsPropagation"), err,
                         "must be shared, slave, private or unbindable");
    }
    spec->rootfs_propagation_set = true;
    spec->rootfs_propagation = (unsigned long)value | MS_REC;
    return 0;
}

static int refuse_unsupported(const json_t *object, const struct json_path *at, struct err *err)
{
    static const char *const keys[] = {"netDevices", "memoryPolicy"};
    for (size_t i = 0; i < COUNT(keys); i++) {
        const json_t *value = json_object_get(object, keys[i]);
        if (value != NULL && json_object_size(value) > 0) {
            const struct json_path path = {.parent = at, .key = keys[i]};
            return json_fail(&path, NULL, err, "this runtime does not support it");
        }
    }
    return 0;
}

static int read_rdt(struct spec *spec, const json_t *object, const struct json_path *at,
                    struct err *err)
{
    static const struct spec_field fields[] = {
        {"closID", FIELD_STRING, offsetof(struct spec_rdt, clos_id), 0, 0},
        {"l3CacheSchema", FIELD_STRING, offsetof(struct spec_rdt, l3_cache_schema), 0, 0},
        {"memBwSchema", FIELD_STRING, offsetof(struct spec_rdt, mem_bw_schema), 0, 0},
        {"enableCMT", FIELD_BOOL, offsetof(struct spec_rdt, enable_cmt), 0, 0},
        {"enableMBM", FIELD_BOOL, offsetof(struct spec_rdt, enable_mbm), 0, 0},
        {0},
    };
    const struct json_path path = {.parent = at, .key = "intelRdt"};
    json_t *part = NULL;
    int r = json_get_object(object, at, "intelRdt", &part, err);
    if (r <= 0) {
        return r;
    }
    spec->rdt.set = json_object_size(part) > 0;
    return spec_read_fields(spec, part, &path, fields, &spec->rdt, err);
}

static int read_parts(struct spec *spec, const json_t *object, const struct json_path *at,
                      struct err *err)
{
    void *items = NULL;
    size_t count;
    int r = spec_read_array(spec, object, at, "namespaces", 1, read_namespace, &items, &count, err);
    if (r >= 0) {
        r = spec_read_array(spec, object, at, "devices", sizeof(struct spec_device), read_device,
                            &items, &spec->device_count, err);
        spec->devices = spec->device_count > 0 ? items : NULL;
    }
    if (r >= 0) {
        r = spec_read_id_maps(spec, object, at, "uidMappings", &spec->uid_maps, err);
    }
    if (r >= 0) {
        r = spec_read_id_maps(spec, object, at, "gidMappings", &spec->gid_maps, err);
    }
    if (r >= 0) {
        r = spec_read_pairs(spec, object, at, "sysctl", &spec->sysctl, err);
    }
    typedef int part_fn(struct spec *, const json_t *, const struct json_path *, struct err *);
    static part_fn *const parts[] = {read_time_offsets, read_personality, read_propagation,
                                     read_rdt};
    for (size_t i = 0; r >= 0 && i < COUNT(parts); i++) {
        r = parts[i](spec, object, at, err);
    }
    json_t *part = NULL;
    if (r >= 0) {
        r = json_get_object(object, at, "resources", &part, err);
    }
    if (r > 0) {
        const struct json_path path = {.parent = at, .key = "resources"};
        r = spec_read_resources(spec, part, &path, err);
    }
    if (r >= 0) {
        r = json_get_object(object, at, "seccomp", &part, err);
    }
    if (r > 0) {
        const struct json_path path = {.parent = at, .key = "seccomp"};
        r = spec_read_seccomp(spec, part, &path, err);
    }
    return r < 0 ? r : 0;
}

int spec_read_linux(struct spec *spec, const json_t *object, const struct json_path *at,
                    struct err *err)
{
    static const struct spec_field fields[] = {
        {"cgroupsPath", FIELD_STRING, offsetof(struct spec, cgroups_path), 0, 0},
        {"mountLabel", FIELD_STRING, offsetof(struct spec, mount_label), 0, 0},
        {"maskedPaths", FIELD_STRINGS, offsetof(struct spec, masked_paths), 0, 0},
        {"readonlyPaths", FIELD_STRINGS, offsetof(struct spec, readonly_paths), 0, 0},
        {0},
    };
    int r = refuse_unsupported(object, at, err);
    if (r >= 0) {
        r = spec_read_fields(spec, object, at, fields, spec, err);
    }
    if (r >= 0) {
        r = read_parts(spec, object, at, err);
    }
    if (r < 0) {
        return r;
    }
    const struct {
        const char *key;
        const struct spec_strings *list;
    } lists[] = {{"maskedPaths", &spec->masked_paths}, {"readonlyPaths", &spec->readonly_paths}};
    for (size_t i = 0; i < COUNT(lists); i++) {
        for (size_t j = 0; j < lists[i].list->count; j++) {
            if (lists[i].list->items[j][0] != '/') {
                const struct json_path list_path = {.parent = at, .key = lists[i].key};
                const struct json_path path = {.parent = &list_path, .index = j};
                return json_fail(&path, json_array_get(json_object_get(object, lists[i].key), j),
                                 err, "must be an absolute path");
            }
        }
    }
    return 0;
}

/* Namespace that a sysctl belongs to, or SPEC_NS_COUNT: it is the whole machine's. */
static enum spec_namespace_kind sysctl_namespace(const char *name)
{
    static const char *const ipc[] = {"kernel.msgmax", "kernel.msgmnb",         "kernel.msgmni",
                                      "kernel.sem",    "kernel.shmall",         "kernel.shmmax",
                                      "kernel.shmmni", "kernel.shm_rmid_forced"};
    if (str_starts(name, "net.")) {
        return SPEC_NS_NETWORK;
    }
    if (str_starts(name, "fs.mqueue.")) {
        return SPEC_NS_IPC;
    }
    if (str_starts(name, "user.")) {
        return SPEC_NS_USER;
    }
    if (str_eq(name, "kernel.domainname") || str_eq(name, "kernel.hostname")) {
        return SPEC_NS_UTS;
    }
    for (size_t i = 0; i < COUNT(ipc); i++) {
        if (str_eq(name, ipc[i])) {
            return SPEC_NS_IPC;
        }
    }
    return SPEC_NS_COUNT;
}

static int check_sysctl(const struct spec *spec, const struct spec_pair *pair,
                        const struct json_path *at, struct err *err)
{
    const struct json_path path = {.parent = at, .key = pair->name};
    char dotted[256];
    if (strlen(pair->name) >= sizeof(dotted)) {
        return json_fail(&path, NULL, err, "is too long for a sysctl");
    }
    (void)strcpy(dotted, pair->name);
    for (char *p = dotted; *p != '\0'; p++) {
        *p = *p == '/' ? '.' : *p;
    }
    if (strstr(dotted, "..") != NULL) {
        return json_fail(&path, NULL, err, "is not the name of a sysctl");
    }
    enum spec_namespace_kind kind = sysctl_namespace(dotted);
    if (kind == SPEC_NS_COUNT) {
        return json_fail(&path, NULL, err,
                         "belongs to the whole machine, not to a namespace of the container");
    }
    if (!spec->namespaces[kind].listed) {
        return json_fail(&path, NULL, err,
                         "needs a %s namespace in linux.namespaces, or it would change the host",
                         namespace_kinds[kind].name);
    }
    return 0;
}

static int check_user_namespace(const struct spec *spec, struct err *err)
{
    const struct json_path at = {.key = "linux"};
    const struct json_path uids = {.parent = &at, .key = "uidMappings"};
    const struct json_path gids = {.parent = &at, .key = "gidMappings"};
    const struct spec_namespace *user = &spec->namespaces[SPEC_NS_USER];
    if (!user->listed && (spec->uid_maps.count > 0 || spec->gid_maps.count > 0)) {
        return json_fail(spec->uid_maps.count > 0 ? &uids : &gids, NULL, err,
                         "needs a user namespace in linux.namespaces");
    }
    if (user->listed && user->path == NULL) {
        if (spec->uid_maps.count == 0) {
            return json_fail(&uids, NULL, err, "must map at least one id into the user namespace");
        }
        if (spec->gid_maps.count == 0) {
            return json_fail(&gids, NULL, err, "must map at least one id into the user namespace");
        }
    }
    return 0;
}

static int check_cgroups_path(const struct spec *spec, struct err *err)
{
    const struct json_path at = {.key = "linux"};
    const struct json_path path = {.parent = &at, .key = "cgroupsPath"};
    if (spec->cgroups_path == NULL) {
        return 0;
    }
    AUTO(strv_donep) struct strv parts = {0};
    if (strv_split(&parts, spec->cgroups_path, "/") < 0) {
        return err_set(err, ENOMEM, "read cgroupsPath");
    }
    if (strv_has(&parts, "..")) {
        const json_t *value = json_object_get(json_object_get(spec->json, "linux"), "cgroupsPath");
        return json_fail(&path, value, err, "must not hold '..'");
    }
    return 0;
}

int spec_check(const struct spec *spec, struct err *err)
{
    const struct json_path at = {.key = "linux"};
    const struct json_path sysctl = {.parent = &at, .key = "sysctl"};
    const struct json_path hostname = {.key = "hostname"};
    const struct json_path domainname = {.key = "domainname"};
    int r = check_user_namespace(spec, err);
    if (r >= 0) {
        r = check_cgroups_path(spec, err);
    }
    for (size_t i = 0; r >= 0 && i < spec->sysctl.count; i++) {
        r = check_sysctl(spec, &spec->sysctl.items[i], &sysctl, err);
    }
    if (r < 0) {
        return r;
    }
    if (!spec->namespaces[SPEC_NS_UTS].listed &&
        (spec->hostname != NULL || spec->domainname != NULL)) {
        return json_fail(spec->hostname != NULL ? &hostname : &domainname, NULL, err,
                         "needs a uts namespace in linux.namespaces, or it would rename the host");
    }
    if (!spec->namespaces[SPEC_NS_MOUNT].listed) {
        const struct json_path namespaces = {.parent = &at, .key = "namespaces"};
        return json_fail(&namespaces, NULL, err,
                         "must list a mount namespace: mounts would land on the host");
    }
    if ((spec->monotonic.set || spec->boottime.set) &&
        (!spec->namespaces[SPEC_NS_TIME].listed || spec->namespaces[SPEC_NS_TIME].path != NULL)) {
        const struct json_path offsets = {.parent = &at, .key = "timeOffsets"};
        return json_fail(&offsets, NULL, err, "needs a new time namespace in linux.namespaces");
    }
    return 0;
}
