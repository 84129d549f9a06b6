/* Reading what a cgroup counts. Files that are missing leave their part unset. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/str.h"
#include "container/cgroup.h"

#define FILE_SIZE_MAX ((size_t)1 << 20)
#define USER_HZ_NS 10000000ULL
/* v1 reports "no limit" as the largest number of whole pages. */
#define V1_NO_LIMIT 0x7ffffffffffff000ULL

static bool read_text(const struct cgroup *cgroup, const char *controller, const char *file,
                      struct buf *out)
{
    const struct cgroup_hierarchy *hierarchy = cgroup_find(cgroup, controller);
    char path[PATH_MAX];
    buf_clear(out);
    return hierarchy != NULL && cgroup_file(cgroup, hierarchy, file, path) == 0 &&
           read_file(path, FILE_SIZE_MAX, out) == 0 && out->data != NULL;
}

static bool read_number(const struct cgroup *cgroup, const char *controller, const char *file,
                        uint64_t *ret)
{
    AUTO(buf_donep) struct buf text = {0};
    if (!read_text(cgroup, controller, file, &text)) {
        return false;
    }
    *ret = str_starts(text.data, "max") ? UINT64_MAX : strtoull(text.data, NULL, 10);
    return true;
}

/* "key 123" on a line of its own; 0 when there is none. */
static uint64_t value_of(const char *text, const char *key)
{
    size_t len = strlen(key);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, len) == 0 && line[len] == ' ') {
            return strtoull(line + len, NULL, 10);
        }
    }
    return 0;
}

static void read_cpu(const struct cgroup *cgroup, bool v1, struct container_stats *s)
{
    AUTO(buf_donep) struct buf text = {0};
    if (!v1) {
        if (read_text(cgroup, "cpu", "cpu.stat", &text)) {
            s->cpu.set = true;
            s->cpu.usage_ns = value_of(text.data, "usage_usec") * 1000;
            s->cpu.user_ns = value_of(text.data, "user_usec") * 1000;
            s->cpu.system_ns = value_of(text.data, "system_usec") * 1000;
            s->cpu.periods = value_of(text.data, "nr_periods");
            s->cpu.throttled_periods = value_of(text.data, "nr_throttled");
            s->cpu.throttled_ns = value_of(text.data, "throttled_usec") * 1000;
        }
        return;
    }
    s->cpu.set = read_number(cgroup, "cpuacct", "cpuacct.usage", &s->cpu.usage_ns);
    if (read_text(cgroup, "cpuacct", "cpuacct.stat", &text)) {
        s->cpu.user_ns = value_of(text.data, "user") * USER_HZ_NS;
        s->cpu.system_ns = value_of(text.data, "system") * USER_HZ_NS;
    }
    if (read_text(cgroup, "cpu", "cpu.stat", &text)) {
        s->cpu.periods = value_of(text.data, "nr_periods");
        s->cpu.throttled_periods = value_of(text.data, "nr_throttled");
        s->cpu.throttled_ns = value_of(text.data, "throttled_time");
    }
}

uint64_t cgroup_oom_kills(const struct cgroup *cgroup)
{
    AUTO(buf_donep) struct buf text = {0};
    const char *file = cgroup_has_v1(cgroup) ? "memory.oom_control" : "memory.events";
    return read_text(cgroup, "memory", file, &text) ? value_of(text.data, "oom_kill") : 0;
}

static void read_memory(const struct cgroup *cgroup, bool v1, struct container_stats *s)
{
    AUTO(buf_donep) struct buf text = {0};
    const char *usage = v1 ? "memory.usage_in_bytes" : "memory.current";
    s->memory.set = read_number(cgroup, "memory", usage, &s->memory.usage);
    if (!s->memory.set) {
        return;
    }
    (void)read_number(cgroup, "memory", v1 ? "memory.max_usage_in_bytes" : "memory.peak",
                      &s->memory.max_usage);
    s->memory.limit = UINT64_MAX;
    (void)read_number(cgroup, "memory", v1 ? "memory.limit_in_bytes" : "memory.max",
                      &s->memory.limit);
    if (v1 && s->memory.limit >= V1_NO_LIMIT) {
        s->memory.limit = UINT64_MAX;
    }
    if (read_text(cgroup, "memory", "memory.stat", &text)) {
        s->memory.inactive_file = value_of(text.data, v1 ? "total_inactive_file" : "inactive_file");
        s->memory.cache = value_of(text.data, v1 ? "total_cache" : "file");
        s->memory.rss = value_of(text.data, v1 ? "total_rss" : "anon");
        s->memory.swap = v1 ? value_of(text.data, "total_swap") : 0;
    }
    if (v1) {
        (void)read_number(cgroup, "memory", "memory.failcnt", &s->memory.failures);
        s->memory.oom_kills = cgroup_oom_kills(cgroup);
    } else {
        (void)read_number(cgroup, "memory", "memory.swap.current", &s->memory.swap);
        if (read_text(cgroup, "memory", "memory.events", &text)) {
            s->memory.failures = value_of(text.data, "max");
            s->memory.oom_kills = value_of(text.data, "oom_kill");
        }
    }
}

static struct container_io_stats *io_device(struct container_stats *s, uint32_t major,
                                            uint32_t minor)
{
    for (size_t i = 0; i < s->io.count; i++) {
        if (s->io.devices[i].major == major && s->io.devices[i].minor == minor) {
            return &s->io.devices[i];
        }
    }
    if (s->io.count == CONTAINER_STATS_DEVICES_MAX) {
        return NULL;
    }
    struct container_io_stats *device = &s->io.devices[s->io.count++];
    *device = (struct container_io_stats){.major = major, .minor = minor};
    return device;
}

/* "8:0 Read 123" lines. */
static void read_io_v1(const struct cgroup *cgroup, const char *file, bool bytes,
                       struct container_stats *s)
{
    AUTO(buf_donep) struct buf text = {0};
    if (!read_text(cgroup, "blkio", file, &text)) {
        return;
    }
    s->io.set = true;
    char *rest = NULL;
    for (char *line = strtok_r(text.data, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        unsigned major;
        unsigned minor;
        char word[16];
        unsigned long long value;
        if (sscanf(line, "%u:%u %15s %llu", &major, &minor, word, &value) != 4) {
            continue;
        }
        struct container_io_stats *device = io_device(s, major, minor);
        if (device != NULL && strcmp(word, "Read") == 0) {
            *(bytes ? &device->read_bytes : &device->read_ops) = value;
        } else if (device != NULL && strcmp(word, "Write") == 0) {
            *(bytes ? &device->write_bytes : &device->write_ops) = value;
        }
    }
}

static void read_io_v2(const struct cgroup *cgroup, struct container_stats *s)
{
    AUTO(buf_donep) struct buf text = {0};
    if (!read_text(cgroup, "io", "io.stat", &text)) {
        return;
    }
    s->io.set = true;
    char *rest = NULL;
    for (char *line = strtok_r(text.data, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        unsigned major;
        unsigned minor;
        unsigned long long values[4];
        if (sscanf(line, "%u:%u rbytes=%llu wbytes=%llu rios=%llu wios=%llu", &major, &minor,
                   &values[0], &values[1], &values[2], &values[3]) != 6) {
            continue;
        }
        struct container_io_stats *device = io_device(s, major, minor);
        if (device != NULL) {
            device->read_bytes = values[0];
            device->write_bytes = values[1];
            device->read_ops = values[2];
            device->write_ops = values[3];
        }
    }
}

int cgroup_stats(const struct cgroup *cgroup, struct container_stats *ret)
{
    bool v1 = cgroup_has_v1(cgroup);
    read_cpu(cgroup, v1, ret);
    read_memory(cgroup, v1, ret);
    if (read_number(cgroup, "pids", "pids.current", &ret->pids.current)) {
        ret->pids.set = true;
        ret->pids.limit = UINT64_MAX;
        (void)read_number(cgroup, "pids", "pids.max", &ret->pids.limit);
    }
    if (v1) {
        read_io_v1(cgroup, "blkio.throttle.io_service_bytes_recursive", true, ret);
        read_io_v1(cgroup, "blkio.throttle.io_serviced_recursive", false, ret);
    } else {
        read_io_v2(cgroup, ret);
    }
    return 0;
}
