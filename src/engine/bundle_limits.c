#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/err.h"
#include "base/json.h"
#include "engine/bundle.h"

/* 100 ms, the kernel's default CFS period. */
#define CPU_PERIOD_US 100000

static const struct {
    const char *name;
    const char *limit;
    int resource;
} ulimits[] = {
    {"as", "RLIMIT_AS", RLIMIT_AS},
    {"core", "RLIMIT_CORE", RLIMIT_CORE},
    {"cpu", "RLIMIT_CPU", RLIMIT_CPU},
    {"data", "RLIMIT_DATA", RLIMIT_DATA},
    {"fsize", "RLIMIT_FSIZE", RLIMIT_FSIZE},
    {"locks", "RLIMIT_LOCKS", RLIMIT_LOCKS},
    {"memlock", "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
    {"msgqueue", "RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
    {"nice", "RLIMIT_NICE", RLIMIT_NICE},
    {"nofile", "RLIMIT_NOFILE", RLIMIT_NOFILE},
    {"nproc", "RLIMIT_NPROC", RLIMIT_NPROC},
    {"rss", "RLIMIT_RSS", RLIMIT_RSS},
    {"rtprio", "RLIMIT_RTPRIO", RLIMIT_RTPRIO},
    {"rttime", "RLIMIT_RTTIME", RLIMIT_RTTIME},
    {"sigpending", "RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    {"stack", "RLIMIT_STACK", RLIMIT_STACK},
};

/* -1 is "unlimited". JSON's integers are signed: RLIM_INFINITY is out of their range. */
static int parse_limit(const char *text, uint64_t *ret)
{
    if (str_eq(text, "-1") || str_eq(text, "unlimited")) {
        *ret = INT64_MAX;
        return 0;
    }
    int r = parse_u64(text, 10, ret);
    return r == 0 && *ret > INT64_MAX ? -ERANGE : r;
}

static int add_ulimits(const struct workload_config *config, json_t *process, struct err *err)
{
    json_t *list = json_array();
    if (json_object_set_new(process, "rlimits", list) < 0) {
        return err_set(err, ENOMEM, "ulimits");
    }
    for (size_t i = 0; i < config->ulimit.count; i++) {
        const char *text = config->ulimit.items[i];
        AUTO(strv_donep) struct strv parts = {0};
        uint64_t soft = 0;
        uint64_t hard = 0;
        const char *name = NULL;
        int r = strv_split(&parts, text, "=:");
        if (r == 0 && (parts.count == 2 || parts.count == 3)) {
            for (size_t k = 0; k < COUNT(ulimits); k++) {
                name = str_eq(ulimits[k].name, parts.items[0]) ? ulimits[k].limit : name;
            }
            r = parse_limit(parts.items[1], &soft);
            r = r == 0 ? parse_limit(parts.items[parts.count - 1], &hard) : r;
        }
        if (name == NULL || r < 0 || soft > hard) {
            return err_say(err, EINVAL, "--ulimit '%s' is not NAME=SOFT[:HARD] with SOFT <= HARD",
                           text);
        }
        (void)json_array_append_new(list, json_pack("{s:s, s:I, s:I}", "type", name, "soft",
                                                    (json_int_t)soft, "hard", (json_int_t)hard));
    }
    return 0;
}

static void set_number(json_t *object, const char *key, int64_t value)
{
    if (value != 0) {
        (void)json_object_set_new(object, key, json_integer(value));
    }
}

static int add_memory(const struct workload_config *config, json_t *resources, struct err *err)
{
    int64_t limit = (int64_t)config->memory;
    int64_t swap = config->memory_swap;
    if (limit != 0 && limit < 6 << 20) {
        return err_say(err, EINVAL, "--memory: less than 6m leaves no room for a process");
    }
    if (swap > 0 && limit == 0) {
        return err_say(err, EINVAL, "--memory-swap needs --memory");
    }
    if (swap > 0 && swap < limit) {
        return err_say(err, EINVAL,
                       "--memory-swap is the sum of both and must not be below --memory");
    }
    /* Docker's rule: as much swap again as memory, unless said otherwise. */
    if (swap == 0 && limit != 0) {
        swap = limit > INT64_MAX / 2 ? -1 : 2 * limit;
    }
    json_t *memory = json_object();
    set_number(memory, "limit", limit);
    set_number(memory, "swap", swap);
    set_number(memory, "reservation", (int64_t)config->memory_reservation);
    return json_object_set_new(resources, "memory", memory) < 0 ? err_set(err, ENOMEM, "limits")
                                                                : 0;
}

static int add_cpu(const struct workload_config *config, json_t *resources, struct err *err)
{
    json_t *cpu = json_object();
    if (json_object_set_new(resources, "cpu", cpu) < 0) {
        return err_set(err, ENOMEM, "limits");
    }
    if (config->nano_cpus != 0 && (config->cpu_quota != 0 || config->cpu_period != 0)) {
        return err_say(err, EINVAL, "--cpus cannot go with --cpu-quota or --cpu-period");
    }
    set_number(cpu, "shares", config->cpu_shares);
    set_number(cpu, "quota",
               config->nano_cpus != 0 ? config->nano_cpus / (1000000000 / CPU_PERIOD_US)
                                      : config->cpu_quota);
    set_number(cpu, "period", config->nano_cpus != 0 ? CPU_PERIOD_US : config->cpu_period);
    if (config->cpuset_cpus != NULL) {
        (void)json_object_set_new(cpu, "cpus", json_string(config->cpuset_cpus));
    }
    if (config->cpuset_mems != NULL) {
        (void)json_object_set_new(cpu, "mems", json_string(config->cpuset_mems));
    }
    return 0;
}

static int add_device(json_t *devices, json_t *rules, const char *host, const char *target,
                      const char *access, struct err *err)
{
    struct stat st;
    if (stat(host, &st) < 0) {
        return err_set(err, errno, "device '%s'", host);
    }
    if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode)) {
        return err_say(err, ENODEV, "'%s' is not a device", host);
    }
    const char *type = S_ISCHR(st.st_mode) ? "c" : "b";
    json_t *device =
        json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:i}", "path", target, "type", type, "major",
                  (int)major(st.st_rdev), "minor", (int)minor(st.st_rdev), "fileMode",
                  (int)(st.st_mode & 0777), "uid", (int)st.st_uid, "gid", (int)st.st_gid);
    json_t *rule =
        json_pack("{s:b, s:s, s:i, s:i, s:s}", "allow", 1, "type", type, "major",
                  (int)major(st.st_rdev), "minor", (int)minor(st.st_rdev), "access", access);
    if (json_array_append_new(devices, device) < 0 || json_array_append_new(rules, rule) < 0) {
        return err_set(err, ENOMEM, "device '%s'", host);
    }
    return 0;
}

/* /dev/x[:/dev/y][:rwm] */
static int add_asked_device(json_t *devices, json_t *rules, const char *text, struct err *err)
{
    AUTO(strv_donep) struct strv parts = {0};
    int r = strv_split(&parts, text, ":");
    if (r < 0 || parts.count < 1 || parts.count > 3 || parts.items[0][0] != '/') {
        return err_say(err, EINVAL, "--device '%s' is not /dev/NAME[:PATH][:rwm]", text);
    }
    const char *target = parts.items[0];
    const char *access = "rwm";
    for (size_t i = 1; i < parts.count; i++) {
        if (parts.items[i][0] == '/') {
            target = parts.items[i];
        } else if (parts.items[i][strspn(parts.items[i], "rwm")] == '\0') {
            access = parts.items[i];
        } else {
            return err_say(err, EINVAL, "--device '%s': '%s' is not of r, w and m", text,
                           parts.items[i]);
        }
    }
    return add_device(devices, rules, parts.items[0], target, access, err);
}

/* --privileged: every device node of the host's /dev, without what the workload has of its own. */
static void add_all_devices(json_t *devices, json_t *rules, const char *dir, int depth)
{
    AUTO(closedirp) DIR *d = opendir(dir);
    struct dirent *entry;
    while (d != NULL && (entry = readdir(d)) != NULL) {
        static const char *const own[] = {".",       "..",    "pts",      "shm",    "mqueue",
                                          "fd",      "stdin", "stdout",   "stderr", "ptmx",
                                          "console", "null",  "zero",     "full",   "random",
                                          "urandom", "tty",   "hugepages"};
        bool skip = false;
        for (size_t i = 0; i < COUNT(own); i++) {
            skip = skip || str_eq(entry->d_name, own[i]);
        }
        AUTO(freep) char *path = str_printf("%s/%s", dir, entry->d_name);
        struct stat st;
        if (skip || path == NULL || lstat(path, &st) < 0) {
            continue;
        }
        if (S_ISDIR(st.st_mode) && depth < 4) {
            add_all_devices(devices, rules, path, depth + 1);
        } else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
            (void)add_device(devices, rules, path, path, "rwm", NULL);
        }
    }
}

/* "c 42:* rmw" */
static int add_rule(json_t *rules, const char *text, struct err *err)
{
    char type = 0;
    char numbers[2][16];
    char access[4];
    int used = 0;
    if (sscanf(text, "%c %15[0-9*]:%15[0-9*] %3[rwm]%n", &type, numbers[0], numbers[1], access,
               &used) != 4 ||
        text[used] != '\0' || (type != 'a' && type != 'b' && type != 'c')) {
        return err_say(err, EINVAL, "--device-cgroup-rule '%s' is not like 'c 42:* rwm'", text);
    }
    json_t *rule =
        json_pack("{s:b, s:s%, s:s}", "allow", 1, "type", &type, (size_t)1, "access", access);
    static const char *const keys[] = {"major", "minor"};
    for (int i = 0; i < 2; i++) {
        uint64_t number;
        if (str_eq(numbers[i], "*")) {
            continue; /* any */
        }
        if (parse_u64(numbers[i], 10, &number) < 0) {
            json_decref(rule);
            return err_say(err, EINVAL, "--device-cgroup-rule '%s': '%s' is not a number nor '*'",
                           text, numbers[i]);
        }
        (void)json_object_set_new(rule, keys[i], json_integer((json_int_t)number));
    }
    return json_array_append_new(rules, rule) < 0 ? err_set(err, ENOMEM, "device rule") : 0;
}

static int add_devices(const struct bundle_inputs *in, json_t *linux_part, json_t *resources,
                       struct err *err)
{
    json_t *devices = json_array();
    json_t *rules = json_pack("[{s:b, s:s}]", "allow", in->config->privileged, "access", "rwm");
    if (json_object_set_new(linux_part, "devices", devices) < 0 ||
        json_object_set_new(resources, "devices", rules) < 0) {
        return err_set(err, ENOMEM, "devices");
    }
    if (in->config->privileged) {
        add_all_devices(devices, rules, "/dev", 0);
    }
    for (size_t i = 0; i < in->config->device.count; i++) {
        int r = add_asked_device(devices, rules, in->config->device.items[i], err);
        if (r < 0) {
            return r;
        }
    }
    for (size_t i = 0; i < in->config->device_cgroup_rule.count; i++) {
        int r = add_rule(rules, in->config->device_cgroup_rule.items[i], err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int bundle_add_limits(const struct bundle_inputs *in, json_t *process, json_t *linux_part,
                      struct err *err)
{
    const struct workload_config *config = in->config;
    json_t *resources = json_object();
    if (json_object_set_new(linux_part, "resources", resources) < 0) {
        return err_set(err, ENOMEM, "limits");
    }
    int r = add_ulimits(config, process, err);
    if (r == 0) {
        r = add_memory(config, resources, err);
    }
    if (r == 0) {
        r = add_cpu(config, resources, err);
    }
    if (r == 0 && config->pids_limit != 0) {
        (void)json_object_set_new(resources, "pids",
                                  json_pack("{s:I}", "limit", (json_int_t)config->pids_limit));
    }
    if (r == 0 && config->blkio_weight != 0) {
        if (config->blkio_weight < 10 || config->blkio_weight > 1000) {
            return err_say(err, EINVAL, "--blkio-weight must be between 10 and 1000");
        }
        (void)json_object_set_new(resources, "blockIO",
                                  json_pack("{s:I}", "weight", (json_int_t)config->blkio_weight));
    }
    return r < 0 ? r : add_devices(in, linux_part, resources, err);
}
