/* struct container_stats as a message and back, by a table. */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "container/guest_protocol.h"

struct field {
    const char *name;
    size_t offset;
};

struct part {
    const char *name;
    size_t set_offset;
    const struct field *fields;
    size_t count;
};

#define AT(member) offsetof(struct container_stats, member)

static const struct field cpu_fields[] = {
    {"usage_ns", AT(cpu.usage_ns)},
    {"user_ns", AT(cpu.user_ns)},
    {"system_ns", AT(cpu.system_ns)},
    {"periods", AT(cpu.periods)},
    {"throttled_periods", AT(cpu.throttled_periods)},
    {"throttled_ns", AT(cpu.throttled_ns)},
};
static const struct field memory_fields[] = {
    {"usage", AT(memory.usage)},         {"max_usage", AT(memory.max_usage)},
    {"limit", AT(memory.limit)},         {"inactive_file", AT(memory.inactive_file)},
    {"cache", AT(memory.cache)},         {"rss", AT(memory.rss)},
    {"swap", AT(memory.swap)},           {"failures", AT(memory.failures)},
    {"oom_kills", AT(memory.oom_kills)},
};
static const struct field pids_fields[] = {
    {"current", AT(pids.current)},
    {"limit", AT(pids.limit)},
};
static const struct part parts[] = {
    {"cpu", AT(cpu.set), cpu_fields, COUNT(cpu_fields)},
    {"memory", AT(memory.set), memory_fields, COUNT(memory_fields)},
    {"pids", AT(pids.set), pids_fields, COUNT(pids_fields)},
};

#define IO_AT(member) offsetof(struct container_io_stats, member)

static const struct field io_fields[] = {
    {"read_bytes", IO_AT(read_bytes)},
    {"write_bytes", IO_AT(write_bytes)},
    {"read_ops", IO_AT(read_ops)},
    {"write_ops", IO_AT(write_ops)},
};

/* Numbers cross as signed ones: UINT64_MAX ("none") is -1. */
static int write_fields(const void *base, const struct field *fields, size_t count, json_t *object)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value;
        memcpy(&value, (const char *)base + fields[i].offset, sizeof(value));
        if (json_object_set_new(object, fields[i].name, json_integer((json_int_t)value)) < 0) {
            return -ENOMEM;
        }
    }
    return 0;
}

static int read_fields(const json_t *object, const struct json_path *at, const struct field *fields,
                       size_t count, void *base, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        int64_t value = 0;
        int r = json_get_int(object, at, fields[i].name, INT64_MIN, INT64_MAX, &value, err);
        if (r < 0) {
            return r;
        }
        memcpy((char *)base + fields[i].offset, &value, sizeof(value));
    }
    return 0;
}

static json_t *io_new(const struct container_stats *stats)
{
    json_t *list = json_array();
    for (size_t i = 0; i < stats->io.count; i++) {
        const struct container_io_stats *device = &stats->io.devices[i];
        json_t *object = json_pack("{s:I, s:I}", "major", (json_int_t)device->major, "minor",
                                   (json_int_t)device->minor);
        if (object == NULL || write_fields(device, io_fields, COUNT(io_fields), object) < 0 ||
            json_array_append_new(list, object) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *guest_stats_new(const struct container_stats *stats)
{
    AUTO(json_unrefp) json_t *message = json_pack("{s:s}", "type", "stats");
    for (size_t i = 0; i < COUNT(parts); i++) {
        bool set;
        memcpy(&set, (const char *)stats + parts[i].set_offset, sizeof(set));
        json_t *object = set ? json_object() : NULL;
        if (set && (json_object_set_new(message, parts[i].name, object) < 0 ||
                    write_fields(stats, parts[i].fields, parts[i].count, object) < 0)) {
            return NULL;
        }
    }
    if (stats->io.set && json_object_set_new(message, "io", io_new(stats)) < 0) {
        return NULL;
    }
    return TAKE_PTR(message);
}

static int read_io(const json_t *message, const struct json_path *top, struct container_stats *out,
                   struct err *err)
{
    const struct json_path at = {.parent = top, .key = "io"};
    json_t *list = NULL;
    int r = json_get_array(message, top, "io", &list, err);
    if (r <= 0) {
        return r;
    }
    if (json_array_size(list) > COUNT(out->io.devices)) {
        return err_say(err, EBADMSG, "stats.io: %zu devices, more than %zu", json_array_size(list),
                       COUNT(out->io.devices));
    }
    out->io.set = true;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const struct json_path item_at = {.parent = &at, .index = i};
        const json_t *item = json_array_get(list, i);
        struct container_io_stats *device = &out->io.devices[i];
        int64_t major = 0;
        int64_t minor = 0;
        r = json_get_int(item, &item_at, "major", 0, UINT32_MAX, &major, err);
        r = r < 0 ? r : json_get_int(item, &item_at, "minor", 0, UINT32_MAX, &minor, err);
        r = r < 0 ? r : read_fields(item, &item_at, io_fields, COUNT(io_fields), device, err);
        if (r < 0) {
            return r;
        }
        device->major = (uint32_t)major;
        device->minor = (uint32_t)minor;
        out->io.count = i + 1;
    }
    return 0;
}

int guest_stats_read(const json_t *message, struct container_stats *ret, struct err *err)
{
    const struct json_path top = {.key = "stats"};
    struct container_stats stats = {0};
    int r = guest_answer_check(message, "stats", NULL, err);
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; r >= 0 && i < COUNT(parts); i++) {
        const struct json_path at = {.parent = &top, .key = parts[i].name};
        json_t *object = NULL;
        r = json_get_object(message, &top, parts[i].name, &object, err);
        if (r > 0) {
            const bool set = true;
            memcpy((char *)&stats + parts[i].set_offset, &set, sizeof(set));
            r = read_fields(object, &at, parts[i].fields, parts[i].count, &stats, err);
        }
    }
    r = r < 0 ? r : read_io(message, &top, &stats, err);
    if (r < 0) {
        return -EBADMSG;
    }
    *ret = stats;
    return 0;
}
