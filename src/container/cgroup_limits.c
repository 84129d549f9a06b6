/* Limits: the spec's numbers, written into the files of v1 and v2. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"
#include "base/str.h"
#include "base/user_namespace.h"
#include "container/cgroup.h"

#define IN(member) offsetof(struct spec_resources, member)

/* Writes and names in the error both the spec's field and the file. */
static int put(const struct cgroup *cgroup, const char *controller, const char *file,
               const char *text, const char *field, struct err *err)
{
    const struct cgroup_hierarchy *hierarchy = cgroup_find(cgroup, controller);
    if (hierarchy == NULL) {
        return err_say(err, EOPNOTSUPP,
                       "linux.resources.%s = %s: the host has no cgroup controller '%s'", field,
                       text, controller);
    }
    int r = cgroup_write(cgroup, hierarchy, file, text);
    if (r < 0) {
        (void)err_set(err, -r, "linux.resources.%s = %s: write '%s'", field, text, file);
        if (r == -ENOENT || r == -EACCES) {
            err_hint(err, "the kernel or the cgroup above does not offer controller '%s'",
                     controller);
        }
    }
    return r;
}

static int put_number(const struct cgroup *cgroup, const char *controller, const char *file,
                      int64_t value, const char *field, struct err *err)
{
    char text[32];
    (void)snprintf(text, sizeof(text), "%lld", (long long)value);
    return put(cgroup, controller, file, text, field, err);
}

struct number_file {
    const char *controller;
    const char *file;
    size_t offset; /* of a struct spec_number */
    const char *field;
    bool zero_counts; /* 0 is a value; else it means "not given", as engines write it */
};

static const struct number_file v1_files[] = {
    {"memory", "memory.soft_limit_in_bytes", IN(memory.reservation), "memory.reservation", false},
    {"memory", "memory.kmem.tcp.limit_in_bytes", IN(memory.kernel_tcp), "memory.kernelTCP", false},
    {"memory", "memory.kmem.limit_in_bytes", IN(memory.kernel), "memory.kernel", false},
    {"memory", "memory.use_hierarchy", IN(memory.use_hierarchy), "memory.useHierarchy", false},
    {"memory", "memory.swappiness", IN(memory.swappiness), "memory.swappiness", true},
    {"cpu", "cpu.shares", IN(cpu.shares), "cpu.shares", false},
    {"cpu", "cpu.cfs_burst_us", IN(cpu.burst), "cpu.burst", false},
    {"cpu", "cpu.rt_period_us", IN(cpu.realtime_period), "cpu.realtimePeriod", false},
    {"cpu", "cpu.rt_runtime_us", IN(cpu.realtime_runtime), "cpu.realtimeRuntime", false},
    {"cpu", "cpu.idle", IN(cpu.idle), "cpu.idle", false},
    {"blkio", "blkio.weight", IN(block_io.weight), "blockIO.weight", false},
    {"blkio", "blkio.leaf_weight", IN(block_io.leaf_weight), "blockIO.leafWeight", false},
    {"net_cls", "net_cls.classid", IN(network.class_id), "network.classID", false},
};

static const struct spec_number *number_at(const struct spec_resources *res, size_t offset)
{
    return (const struct spec_number *)(const void *)((const char *)res + offset);
}

/* Whichever of the two limits moves first, memory must never be above memory and swap. */
static int put_memory_v1(const struct cgroup *cgroup, const struct spec_resources *res,
                         struct err *err)
{
    const struct spec_number *limit = &res->memory.limit;
    const struct spec_number *swap = &res->memory.swap;
    bool has_limit = limit->set && limit->value != 0;
    bool has_swap = swap->set && swap->value != 0;
    const char *limit_file = "memory.limit_in_bytes";
    const char *swap_file = "memory.memsw.limit_in_bytes";
    int r =
        has_limit ? put_number(cgroup, "memory", limit_file, limit->value, "memory.limit", err) : 0;
    if (has_swap && (r == 0 || r == -EINVAL)) {
        bool again = r == -EINVAL;
        r = put_number(cgroup, "memory", swap_file, swap->value, "memory.swap", err);
        if (r == 0 && again) {
            r = put_number(cgroup, "memory", limit_file, limit->value, "memory.limit", err);
        }
    }
    if (r == 0 && res->memory.disable_oom_killer.set && res->memory.disable_oom_killer.value != 0) {
        r = put(cgroup, "memory", "memory.oom_control", "1", "memory.disableOOMKiller", err);
    }
    return r;
}

/* Quota and period constrain each other too: try again in the other order. */
static int put_quota_v1(const struct cgroup *cgroup, const struct spec_resources *res,
                        struct err *err)
{
    bool has_quota = res->cpu.quota.set && res->cpu.quota.value != 0;
    bool has_period = res->cpu.period.set && res->cpu.period.value != 0;
    const char *period_file = "cpu.cfs_period_us";
    int r = 0;
    bool again = false;
    if (has_period) {
        r = put_number(cgroup, "cpu", period_file, res->cpu.period.value, "cpu.period", err);
        again = r == -EINVAL && has_quota;
    }
    if (has_quota && (r == 0 || again)) {
        r = put_number(cgroup, "cpu", "cpu.cfs_quota_us", res->cpu.quota.value, "cpu.quota", err);
    }
    if (r == 0 && again) {
        r = put_number(cgroup, "cpu", period_file, res->cpu.period.value, "cpu.period", err);
    }
    return r;
}

static int put_block_io_v1(const struct cgroup *cgroup, const struct spec_resources *res,
                           struct err *err)
{
    static const struct {
        const char *file;
        const char *field;
    } throttles[SPEC_THROTTLE_KIND_COUNT] = {
        [SPEC_THROTTLE_READ_BPS] = {"blkio.throttle.read_bps_device",
                                    "blockIO.throttleReadBpsDevice"},
        [SPEC_THROTTLE_WRITE_BPS] = {"blkio.throttle.write_bps_device",
                                     "blockIO.throttleWriteBpsDevice"},
        [SPEC_THROTTLE_READ_IOPS] = {"blkio.throttle.read_iops_device",
                                     "blockIO.throttleReadIOPSDevice"},
        [SPEC_THROTTLE_WRITE_IOPS] = {"blkio.throttle.write_iops_device",
                                      "blockIO.throttleWriteIOPSDevice"},
    };
    char text[96];
    int r = 0;
    for (size_t kind = 0; r == 0 && kind < SPEC_THROTTLE_KIND_COUNT; kind++) {
        const struct spec_throttles *list = &res->block_io.throttles[kind];
        for (size_t i = 0; r == 0 && i < list->count; i++) {
            (void)snprintf(text, sizeof(text), "%u:%u %llu", list->items[i].major,
                           list->items[i].minor, (unsigned long long)list->items[i].rate);
            r = put(cgroup, "blkio", throttles[kind].file, text, throttles[kind].field, err);
        }
    }
    for (size_t i = 0; r == 0 && i < res->block_io.weight_device_count; i++) {
        const struct spec_weight_device *device = &res->block_io.weight_devices[i];
        const struct spec_number *weights[] = {&device->weight, &device->leaf_weight};
        static const char *const files[] = {"blkio.weight_device", "blkio.leaf_weight_device"};
        for (size_t j = 0; r == 0 && j < COUNT(weights); j++) {
            if (weights[j]->set) {
                (void)snprintf(text, sizeof(text), "%u:%u %lld", device->major, device->minor,
                               (long long)weights[j]->value);
                r = put(cgroup, "blkio", files[j], text, "blockIO.weightDevice", err);
            }
        }
    }
    return r;
}

/* What is the same in v1 and v2 but for the name of a file. */
static int put_common(const struct cgroup *cgroup, const struct spec_resources *res,
                      struct err *err)
{
    char text[128];
    int r = 0;
    if (res->cpu.cpus != NULL) {
        r = put(cgroup, "cpuset", "cpuset.cpus", res->cpu.cpus, "cpu.cpus", err);
    }
    if (r == 0 && res->cpu.mems != NULL) {
        r = put(cgroup, "cpuset", "cpuset.mems", res->cpu.mems, "cpu.mems", err);
    }
    if (r == 0 && res->pids_limit.set && res->pids_limit.value != 0) {
        (void)snprintf(text, sizeof(text), "%lld", (long long)res->pids_limit.value);
        r = put(cgroup, "pids", "pids.max", res->pids_limit.value < 0 ? "max" : text, "pids.limit",
                err);
    }
    for (size_t i = 0; r == 0 && i < res->hugepage_count; i++) {
        const struct cgroup_hierarchy *hierarchy = cgroup_find(cgroup, "hugetlb");
        bool v1 = hierarchy != NULL && !hierarchy->unified;
        char file[64];
        (void)snprintf(file, sizeof(file), "hugetlb.%.16s.%s", res->hugepages[i].page_size,
                       v1 ? "limit_in_bytes" : "max");
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)res->hugepages[i].limit);
        r = put(cgroup, "hugetlb", file, text, "hugepageLimits", err);
    }
    for (size_t i = 0; r == 0 && i < res->network.priority_count; i++) {
        (void)snprintf(text, sizeof(text), "%.15s %u", res->network.priorities[i].name,
                       res->network.priorities[i].priority);
        r = put(cgroup, "net_prio", "net_prio.ifpriomap", text, "network.priorities", err);
    }
    for (size_t i = 0; r == 0 && i < res->rdma_count; i++) {
        int n = snprintf(text, sizeof(text), "%.64s", res->rdma[i].device);
        if (res->rdma[i].handles.set) {
            n += snprintf(text + n, sizeof(text) - (size_t)n, " hca_handle=%lld",
                          (long long)res->rdma[i].handles.value);
        }
        if (res->rdma[i].objects.set) {
            (void)snprintf(text + n, sizeof(text) - (size_t)n, " hca_object=%lld",
                           (long long)res->rdma[i].objects.value);
        }
        r = put(cgroup, "rdma", "rdma.max", text, "rdma", err);
    }
    return r;
}

int cgroup_apply_v1(const struct cgroup *cgroup, const struct spec_resources *res, struct err *err)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < COUNT(v1_files); i++) {
        const struct spec_number *number = number_at(res, v1_files[i].offset);
        /* A swappiness of -1 is Docker's word for "as the host has it". */
        bool given =
            number->set && (v1_files[i].zero_counts ? number->value >= 0 : number->value != 0);
        if (given) {
            r = put_number(cgroup, v1_files[i].controller, v1_files[i].file, number->value,
                           v1_files[i].field, err);
        }
    }
    r = r < 0 ? r : put_memory_v1(cgroup, res, err);
    r = r < 0 ? r : put_quota_v1(cgroup, res, err);
    r = r < 0 ? r : put_block_io_v1(cgroup, res, err);
    return r;
}

static const char *max_or_number(int64_t value, char *text, size_t size)
{
    if (value < 0) {
        return "max";
    }
    (void)snprintf(text, size, "%lld", (long long)value);
    return text;
}

static int put_memory_v2(const struct cgroup *cgroup, const struct spec_resources *res,
                         struct err *err)
{
    char text[32];
    const struct spec_number *limit = &res->memory.limit;
    const struct spec_number *swap = &res->memory.swap;
    int r = 0;
    /* v1 counts memory and swap together, v2 apart. */
    if (swap->set && swap->value != 0) {
        if (swap->value > 0 && (!limit->set || limit->value <= 0)) {
            return err_say(err, EINVAL,
                           "linux.resources.memory.swap = %lld: needs memory.limit with cgroup v2",
                           (long long)swap->value);
        }
        if (swap->value > 0 && swap->value < limit->value) {
            return err_say(err, EINVAL, "linux.resources.memory.swap = %lld: is below memory.limit",
                           (long long)swap->value);
        }
        int64_t value = swap->value < 0 ? -1 : swap->value - limit->value;
        r = put(cgroup, "memory", "memory.swap.max", max_or_number(value, text, sizeof(text)),
                "memory.swap", err);
    }
    if (r == 0 && limit->set && limit->value != 0) {
        r = put(cgroup, "memory", "memory.max", max_or_number(limit->value, text, sizeof(text)),
                "memory.limit", err);
    }
    if (r == 0 && res->memory.reservation.set && res->memory.reservation.value != 0) {
        r = put(cgroup, "memory", "memory.low",
                max_or_number(res->memory.reservation.value, text, sizeof(text)),
                "memory.reservation", err);
    }
    return r;
}

static int put_cpu_v2(const struct cgroup *cgroup, const struct spec_resources *res,
                      struct err *err)
{
    char text[64];
    int r = 0;
    if (res->cpu.shares.set && res->cpu.shares.value != 0) {
        /* 2..262144 becomes 1..10000 */
        int64_t shares = MIN(MAX(res->cpu.shares.value, (int64_t)2), (int64_t)262144);
        r = put_number(cgroup, "cpu", "cpu.weight", 1 + ((shares - 2) * 9999) / 262142,
                       "cpu.shares", err);
    }
    bool quota = res->cpu.quota.set && res->cpu.quota.value != 0;
    bool period = res->cpu.period.set && res->cpu.period.value != 0;
    if (r == 0 && (quota || period)) {
        char number[32] = "max";
        if (quota && res->cpu.quota.value > 0) {
            (void)snprintf(number, sizeof(number), "%lld", (long long)res->cpu.quota.value);
        }
        (void)snprintf(text, sizeof(text), "%s %lld", number,
                       (long long)(period ? res->cpu.period.value : 100000));
        r = put(cgroup, "cpu", "cpu.max", text, "cpu.quota", err);
    }
    if (r == 0 && res->cpu.burst.set && res->cpu.burst.value != 0) {
        r = put_number(cgroup, "cpu", "cpu.max.burst", res->cpu.burst.value, "cpu.burst", err);
    }
    if (r == 0 && res->cpu.idle.set && res->cpu.idle.value != 0) {
        r = put_number(cgroup, "cpu", "cpu.idle", res->cpu.idle.value, "cpu.idle", err);
    }
    return r;
}

static int put_block_io_v2(const struct cgroup *cgroup, const struct spec_resources *res,
                           struct err *err)
{
    static const char *const keys[SPEC_THROTTLE_KIND_COUNT] = {
        [SPEC_THROTTLE_READ_BPS] = "rbps",
        [SPEC_THROTTLE_WRITE_BPS] = "wbps",
        [SPEC_THROTTLE_READ_IOPS] = "riops",
        [SPEC_THROTTLE_WRITE_IOPS] = "wiops",
    };
    char text[96];
    int r = 0;
    if (res->block_io.weight.set && res->block_io.weight.value != 0) {
        int64_t weight = MAX(res->block_io.weight.value, (int64_t)10);
        (void)snprintf(text, sizeof(text), "default %lld",
                       (long long)(1 + (weight - 10) * 9999 / 990));
        r = put(cgroup, "io", "io.weight", text, "blockIO.weight", err);
    }
    for (size_t i = 0; r == 0 && i < res->block_io.weight_device_count; i++) {
        const struct spec_weight_device *device = &res->block_io.weight_devices[i];
        if (device->weight.set) {
            (void)snprintf(text, sizeof(text), "%u:%u %lld", device->major, device->minor,
                           (long long)(1 + (device->weight.value - 10) * 9999 / 990));
            r = put(cgroup, "io", "io.weight", text, "blockIO.weightDevice", err);
        }
    }
    for (size_t kind = 0; r == 0 && kind < SPEC_THROTTLE_KIND_COUNT; kind++) {
        const struct spec_throttles *list = &res->block_io.throttles[kind];
        for (size_t i = 0; r == 0 && i < list->count; i++) {
            (void)snprintf(text, sizeof(text), "%u:%u %s=%llu", list->items[i].major,
                           list->items[i].minor, keys[kind],
                           (unsigned long long)list->items[i].rate);
            r = put(cgroup, "io", "io.max", text, "blockIO.throttle", err);
        }
    }
    return r;
}

/* Settings that only v1 has must not be taken and dropped. */
static int refuse_v1_only(const struct spec_resources *res, struct err *err)
{
    const struct {
        const struct spec_number *number;
        int64_t neutral;
        const char *field;
    } rows[] = {
        {&res->memory.swappiness, -1, "memory.swappiness"},
        {&res->memory.kernel, 0, "memory.kernel"},
        {&res->memory.kernel_tcp, 0, "memory.kernelTCP"},
        {&res->memory.disable_oom_killer, 0, "memory.disableOOMKiller"},
        {&res->cpu.realtime_runtime, 0, "cpu.realtimeRuntime"},
        {&res->cpu.realtime_period, 0, "cpu.realtimePeriod"},
        {&res->block_io.leaf_weight, 0, "blockIO.leafWeight"},
        {&res->network.class_id, 0, "network.classID"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (rows[i].number->set && rows[i].number->value != rows[i].neutral) {
            return err_say(err, EOPNOTSUPP, "linux.resources.%s = %lld: cgroup v2 does not have it",
                           rows[i].field, (long long)rows[i].number->value);
        }
    }
    return 0;
}

int cgroup_apply_v2(const struct cgroup *cgroup, const struct spec_resources *res, struct err *err)
{
    int r = refuse_v1_only(res, err);
    r = r < 0 ? r : put_memory_v2(cgroup, res, err);
    r = r < 0 ? r : put_cpu_v2(cgroup, res, err);
    r = r < 0 ? r : put_block_io_v2(cgroup, res, err);
    return r;
}

/* A limit below what is in use now would make the kernel kill: refused when the caller says so. */
static int check_usage(const struct cgroup *cgroup, const struct spec_resources *res,
                       struct err *err)
{
    const struct spec_number *limit = &res->memory.limit;
    struct container_stats stats = {0};
    if (!res->memory.check_before_update || !limit->set || limit->value <= 0 ||
        cgroup_stats(cgroup, &stats) < 0 || !stats.memory.set ||
        stats.memory.usage <= (uint64_t)limit->value) {
        return 0;
    }
    return err_say(err, EBUSY,
                   "linux.resources.memory.limit = %lld: is below the %llu bytes that are in use",
                   (long long)limit->value, (unsigned long long)stats.memory.usage);
}

static bool asks_for_limits(const struct spec_resources *res)
{
    struct spec_resources none;
    memset(&none, 0, sizeof(none)); /* padding too: the spec's own memory is zeroed */
    none.devices = res->devices;
    none.device_count = res->device_count;
    return memcmp(res, &none, sizeof(none)) != 0;
}

int cgroup_apply(const struct cgroup *cgroup, const struct spec_resources *res, bool update,
                 struct err *err)
{
    int r = 0;
    if (asks_for_limits(res)) {
        if (cgroup->count == 0) {
            return err_say(err, EOPNOTSUPP,
                           "linux.resources: limits need a cgroup, and the container has none");
        }
        r = check_usage(cgroup, res, err);
        if (r == 0) {
            r = cgroup_has_v1(cgroup) ? cgroup_apply_v1(cgroup, res, err)
                                      : cgroup_apply_v2(cgroup, res, err);
        }
        r = r < 0 ? r : put_common(cgroup, res, err);
        for (size_t i = 0; r == 0 && i < res->unified.count; i++) {
            const struct spec_pair *pair = &res->unified.items[i];
            char field[128];
            (void)snprintf(field, sizeof(field), "unified.%.100s", pair->name);
            r = put(cgroup, "unified", pair->name, pair->value, field, err);
        }
    }
    return r < 0 || update ? r : cgroup_apply_devices(cgroup, res, err);
}

static int write_rule(int fd, const struct spec_device_rule *rule)
{
    char text[96];
    char major[24] = "*";
    char minor[24] = "*";
    if (rule->major >= 0) {
        (void)snprintf(major, sizeof(major), "%lld", (long long)rule->major);
    }
    if (rule->minor >= 0) {
        (void)snprintf(minor, sizeof(minor), "%lld", (long long)rule->minor);
    }
    int n = snprintf(text, sizeof(text), "%c %s:%s %s%s%s", rule->type, major, minor,
                     rule->read ? "r" : "", rule->write ? "w" : "", rule->mknod ? "m" : "");
    return n > 0 && write(fd, text, (size_t)n) == n ? 0 : -errno;
}

static int apply_devices_v1(const struct cgroup *cgroup, const struct cgroup_hierarchy *hierarchy,
                            const struct spec_resources *res, struct err *err)
{
    char path[PATH_MAX];
    int r = cgroup_file(cgroup, hierarchy, "devices.allow", path);
    AUTO(closep) int allow = r < 0 ? -1 : open(path, O_WRONLY | O_CLOEXEC);
    r = r < 0 ? r : cgroup_file(cgroup, hierarchy, "devices.deny", path);
    AUTO(closep) int deny = r < 0 || allow < 0 ? -1 : open(path, O_WRONLY | O_CLOEXEC);
    if (deny < 0) {
        return err_set(err, errno, "open '%s'", path);
    }
    bool all = false;
    for (size_t i = 0; i < res->device_count; i++) {
        const struct spec_device_rule *rule = &res->devices[i];
        r = write_rule(rule->allow ? allow : deny, rule);
        if (r < 0) {
            return err_set(err, -r, "linux.resources.devices[%zu]", i);
        }
        all = rule->type == 'a' ? rule->allow : all;
    }
    for (size_t i = 0; !all && i < cgroup_default_device_count; i++) {
        r = write_rule(allow, &cgroup_default_devices[i]);
        if (r < 0) {
            return err_set(err, -r, "allow the default devices");
        }
    }
    return 0;
}

int cgroup_apply_devices(const struct cgroup *cgroup, const struct spec_resources *res,
                         struct err *err)
{
    const struct cgroup_hierarchy *hierarchy = cgroup_find(cgroup, "devices");
    if (res->device_count == 0 || hierarchy == NULL) {
        return 0;
    }
    if (!hierarchy->unified) {
        return apply_devices_v1(cgroup, hierarchy, res, err);
    }
    struct err ours = ERR_NONE;
    int r = device_bpf_attach(hierarchy->dir_fd, res->devices, res->device_count, &ours);
    /* An ordinary user may load no such program; he has only nodes that he may open anyway. */
    if (r == -EPERM && !user_is_host_root()) {
        return 0;
    }
    if (r < 0 && err != NULL) {
        *err = ours;
    }
    return r;
}
