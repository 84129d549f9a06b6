#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/str.h"
#include "container/spec_fields.h"

#define IN(member) offsetof(struct spec_resources, member)

static int read_device_rule(struct spec *spec, const json_t *item, const struct json_path *at,
                            void *element, struct err *err)
{
    (void)spec;
    struct spec_device_rule *rule = element;
    const char *type = "a";
    const char *access = "rwm";
    rule->major = -1;
    rule->minor = -1;
    int r = json_get_bool(item, at, "allow", &rule->allow, err);
    if (r >= 0) {
        r = json_get_string(item, at, "type", &type, err);
    }
    if (r >= 0) {
        r = json_get_string(item, at, "access", &access, err);
    }
    if (r >= 0) {
        r = json_get_int(item, at, "major", -1, UINT32_MAX, &rule->major, err);
    }
    if (r >= 0) {
        r = json_get_int(item, at, "minor", -1, UINT32_MAX, &rule->minor, err);
    }
    if (r < 0) {
        return r;
    }
    if (type[0] == '\0' || type[1] != '\0' || strchr("acbu", type[0]) == NULL) {
        const struct json_path path = {.parent = at, .key = "type"};
        return json_fail(&path, json_object_get(item, "type"), err, "must be a, c, b or u");
    }
    rule->type = (char)(type[0] == 'u' ? 'c' : type[0]);
    for (const char *p = access; *p != '\0'; p++) {
        if (strchr("rwm", *p) == NULL) {
            const struct json_path path = {.parent = at, .key = "access"};
            return json_fail(&path, json_object_get(item, "access"), err,
                             "must be made of r, w and m");
        }
        rule->read |= *p == 'r';
        rule->write |= *p == 'w';
        rule->mknod |= *p == 'm';
    }
    return 0;
}

static int read_hugepage(struct spec *spec, const json_t *item, const struct json_path *at,
                         void *element, struct err *err)
{
    static const struct spec_field fields[] = {
        {"pageSize", FIELD_STRING, offsetof(struct spec_hugepage_limit, page_size), 0, 0},
        {"limit", FIELD_U64, offsetof(struct spec_hugepage_limit, limit), 0, 0},
        {0},
    };
    struct spec_hugepage_limit *limit = element;
    int r = spec_read_fields(spec, item, at, fields, limit, err);
    if (r < 0) {
        return r;
    }
    const struct json_path path = {.parent = at, .key = "pageSize"};
    /* It becomes a part of a file name. */
    if (limit->page_size == NULL || !str_ends(limit->page_size, "B") ||
        strlen(limit->page_size) > 16 ||
        limit->page_size[strspn(limit->page_size, "0123456789KMGB")] != '\0') {
        return json_fail(&path, json_object_get(item, "pageSize"), err,
                         "must be a page size such as 2MB");
    }
    return 0;
}

static int read_weight_device(struct spec *spec, const json_t *item, const struct json_path *at,
                              void *element, struct err *err)
{
    static const struct spec_field fields[] = {
        {"major", FIELD_U32, offsetof(struct spec_weight_device, major), 0, 0},
        {"minor", FIELD_U32, offsetof(struct spec_weight_device, minor), 0, 0},
        {"weight", FIELD_NUMBER, offsetof(struct spec_weight_device, weight), 10, 1000},
        {"leafWeight", FIELD_NUMBER, offsetof(struct spec_weight_device, leaf_weight), 10, 1000},
        {0},
    };
    return spec_read_fields(spec, item, at, fields, element, err);
}

static int read_throttle(struct spec *spec, const json_t *item, const struct json_path *at,
                         void *element, struct err *err)
{
    static const struct spec_field fields[] = {
        {"major", FIELD_U32, offsetof(struct spec_throttle, major), 0, 0},
        {"minor", FIELD_U32, offsetof(struct spec_throttle, minor), 0, 0},
        {"rate", FIELD_U64, offsetof(struct spec_throttle, rate), 0, 0},
        {0},
    };
    return spec_read_fields(spec, item, at, fields, element, err);
}

static int read_block_io(struct spec *spec, const json_t *object, const struct json_path *at,
                         struct err *err)
{
    static const struct spec_field fields[] = {
        {"weight", FIELD_NUMBER, IN(block_io.weight), 0, 1000},
        {"leafWeight", FIELD_NUMBER, IN(block_io.leaf_weight), 0, 1000},
        {0},
    };
    static const char *const keys[SPEC_THROTTLE_KIND_COUNT] = {
        [SPEC_THROTTLE_READ_BPS] = "throttleReadBpsDevice",
        [SPEC_THROTTLE_WRITE_BPS] = "throttleWriteBpsDevice",
        [SPEC_THROTTLE_READ_IOPS] = "throttleReadIOPSDevice",
        [SPEC_THROTTLE_WRITE_IOPS] = "throttleWriteIOPSDevice",
    };
    struct spec_resources *res = &spec->resources;
    int r = spec_read_fields(spec, object, at, fields, res, err);
    if (r < 0) {
        return r;
    }
    void *items = NULL;
    r = spec_read_array(spec, object, at, "weightDevice", sizeof(struct spec_weight_device),
                        read_weight_device, &items, &res->block_io.weight_device_count, err);
    res->block_io.weight_devices = items;
    for (size_t i = 0; r >= 0 && i < SPEC_THROTTLE_KIND_COUNT; i++) {
        items = NULL;
        r = spec_read_array(spec, object, at, keys[i], sizeof(struct spec_throttle), read_throttle,
                            &items, &res->block_io.throttles[i].count, err);
        res->block_io.throttles[i].items = items;
    }
    return r;
}

static int read_net_priority(struct spec *spec, const json_t *item, const struct json_path *at,
                             void *element, struct err *err)
{
    static const struct spec_field fields[] = {
        {"name", FIELD_STRING, offsetof(struct spec_net_priority, name), 0, 0},
        {"priority", FIELD_U32, offsetof(struct spec_net_priority, priority), 0, 0},
        {0},
    };
    int r = spec_require(item, at, "name", err);
    return r < 0 ? r : spec_read_fields(spec, item, at, fields, element, err);
}

static int read_network(struct spec *spec, const json_t *object, const struct json_path *at,
                        struct err *err)
{
    static const struct spec_field fields[] = {
        {"classID", FIELD_NUMBER, IN(network.class_id), 0, UINT32_MAX},
        {0},
    };
    void *items = NULL;
    int r = spec_read_fields(spec, object, at, fields, &spec->resources, err);
    if (r >= 0) {
        r = spec_read_array(spec, object, at, "priorities", sizeof(struct spec_net_priority),
                            read_net_priority, &items, &spec->resources.network.priority_count,
                            err);
        spec->resources.network.priorities = items;
    }
    return r;
}

static int read_rdma(struct spec *spec, const json_t *object, const struct json_path *at,
                     struct err *err)
{
    static const struct spec_field fields[] = {
        {"hcaHandles", FIELD_NUMBER, offsetof(struct spec_rdma, handles), 0, UINT32_MAX},
        {"hcaObjects", FIELD_NUMBER, offsetof(struct spec_rdma, objects), 0, UINT32_MAX},
        {0},
    };
    struct spec_rdma *items = spec_alloc(spec, json_object_size(object), sizeof(*items));
    if (items == NULL) {
        return err_set(err, ENOMEM, "read rdma");
    }
    void *iter = json_object_iter((json_t *)(uintptr_t)object);
    while (iter != NULL) {
        const char *name = json_object_iter_key(iter);
        const json_t *value = json_object_iter_value(iter);
        const struct json_path path = {.parent = at, .key = name};
        if (!json_is_object(value)) {
            return json_fail(&path, value, err, "must be an object");
        }
        items[spec->resources.rdma_count].device = name;
        int r =
            spec_read_fields(spec, value, &path, fields, &items[spec->resources.rdma_count], err);
        if (r < 0) {
            return r;
        }
        spec->resources.rdma_count++;
        iter = json_object_iter_next((json_t *)(uintptr_t)object, iter);
    }
    spec->resources.rdma = items;
    return 0;
}

static int read_memory(struct spec *spec, const json_t *object, const struct json_path *at,
                       struct err *err)
{
    static const struct spec_field fields[] = {
        {"limit", FIELD_NUMBER, IN(memory.limit), -1, INT64_MAX},
        {"reservation", FIELD_NUMBER, IN(memory.reservation), -1, INT64_MAX},
        {"swap", FIELD_NUMBER, IN(memory.swap), -1, INT64_MAX},
        {"kernel", FIELD_NUMBER, IN(memory.kernel), -1, INT64_MAX},
        {"kernelTCP", FIELD_NUMBER, IN(memory.kernel_tcp), -1, INT64_MAX},
        {"swappiness", FIELD_NUMBER, IN(memory.swappiness), -1, 100},
        {"disableOOMKiller", FIELD_FLAG, IN(memory.disable_oom_killer), 0, 0},
        {"useHierarchy", FIELD_FLAG, IN(memory.use_hierarchy), 0, 0},
        {"checkBeforeUpdate", FIELD_BOOL, IN(memory.check_before_update), 0, 0},
        {0},
    };
    return spec_read_fields(spec, object, at, fields, &spec->resources, err);
}

static int read_cpu(struct spec *spec, const json_t *object, const struct json_path *at,
                    struct err *err)
{
    static const struct spec_field fields[] = {
        {"shares", FIELD_NUMBER, IN(cpu.shares), 0, INT64_MAX},
        {"quota", FIELD_NUMBER, IN(cpu.quota), 0, 0},
        {"burst", FIELD_NUMBER, IN(cpu.burst), 0, INT64_MAX},
        {"period", FIELD_NUMBER, IN(cpu.period), 0, INT64_MAX},
        {"realtimeRuntime", FIELD_NUMBER, IN(cpu.realtime_runtime), 0, 0},
        {"realtimePeriod", FIELD_NUMBER, IN(cpu.realtime_period), 0, INT64_MAX},
        {"idle", FIELD_NUMBER, IN(cpu.idle), 0, 1},
        {"cpus", FIELD_STRING, IN(cpu.cpus), 0, 0},
        {"mems", FIELD_STRING, IN(cpu.mems), 0, 0},
        {0},
    };
    return spec_read_fields(spec, object, at, fields, &spec->resources, err);
}

static int read_pids(struct spec *spec, const json_t *object, const struct json_path *at,
                     struct err *err)
{
    static const struct spec_field fields[] = {
        {"limit", FIELD_NUMBER, IN(pids_limit), 0, 0},
        {0},
    };
    return spec_read_fields(spec, object, at, fields, &spec->resources, err);
}

static int check_unified(const struct spec_pairs *unified, const struct json_path *at,
                         struct err *err)
{
    const struct json_path path = {.parent = at, .key = "unified"};
    for (size_t i = 0; i < unified->count; i++) {
        const char *name = unified->items[i].name;
        if (strchr(name, '/') != NULL || strchr(name, '.') == NULL || name[0] == '.') {
            const struct json_path item = {.parent = &path, .key = name};
            return json_fail(&item, NULL, err, "is not the name of a cgroup v2 file");
        }
    }
    return 0;
}

int spec_read_resources(struct spec *spec, const json_t *object, const struct json_path *at,
                        struct err *err)
{
    typedef int part_fn(struct spec *, const json_t *, const struct json_path *, struct err *);
    static const struct {
        const char *key;
        part_fn *fn;
    } parts[] = {
        {"memory", read_memory},    {"cpu", read_cpu},         {"pids", read_pids},
        {"blockIO", read_block_io}, {"network", read_network}, {"rdma", read_rdma},
    };
    struct spec_resources *res = &spec->resources;
    void *items = NULL;
    int r = spec_read_array(spec, object, at, "devices", sizeof(struct spec_device_rule),
                            read_device_rule, &items, &res->device_count, err);
    res->devices = items;
    for (size_t i = 0; r >= 0 && i < COUNT(parts); i++) {
        const struct json_path path = {.parent = at, .key = parts[i].key};
        json_t *part;
        r = json_get_object(object, at, parts[i].key, &part, err);
        if (r > 0) {
            r = parts[i].fn(spec, part, &path, err);
        }
    }
    if (r >= 0) {
        items = NULL;
        r = spec_read_array(spec, object, at, "hugepageLimits", sizeof(struct spec_hugepage_limit),
                            read_hugepage, &items, &res->hugepage_count, err);
        res->hugepages = items;
    }
    if (r >= 0) {
        r = spec_read_pairs(spec, object, at, "unified", &res->unified, err);
    }
    return r < 0 ? r : check_unified(&res->unified, at, err);
}
