/* What a spec asks for, as properties of a systemd unit: resources, device rules, annotations. */
#include <ctype.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/io.h"
#include "base/str.h"
#include "container/cgroup.h"
#include "container/systemd.h"

#define ANNOTATION_PREFIX "org.systemd.property."
#define USEC_PER_SEC 1000000ULL

static void put_name(struct dbus_writer *w, const char *name, const char *type)
{
    dbus_put_struct(w);
    dbus_put_string(w, name);
    dbus_put_signature(w, type);
}

static void put_number(struct dbus_writer *w, const char *name, uint64_t value)
{
    put_name(w, name, "t");
    dbus_put_u64(w, value);
}

static bool is_given(const struct spec_number *number)
{
    return number->set && number->value != 0;
}

/* Below 0: no limit. */
static void put_limit(struct dbus_writer *w, const char *name, const struct spec_number *number)
{
    if (is_given(number)) {
        put_number(w, name, number->value < 0 ? UINT64_MAX : (uint64_t)number->value);
    }
}

static void put_memory(struct dbus_writer *w, const struct spec_resources *res, bool unified)
{
    const struct spec_number *limit = &res->memory.limit;
    const struct spec_number *swap = &res->memory.swap;
    put_limit(w, unified ? "MemoryMax" : "MemoryLimit", limit);
    if (!unified) {
        return;
    }
    put_limit(w, "MemoryLow", &res->memory.reservation);
    /* Memory and swap together in the spec, swap alone here; odd pairs are refused by the files. */
    if (is_given(swap) && (swap->value < 0 || (is_given(limit) && swap->value >= limit->value))) {
        put_number(w, "MemorySwapMax",
                   swap->value < 0 ? UINT64_MAX : (uint64_t)(swap->value - limit->value));
    }
}

static void put_cpu(struct dbus_writer *w, const struct spec_resources *res, bool unified)
{
    const struct spec_number *shares = &res->cpu.shares;
    if (is_given(shares)) {
        int64_t value = MIN(MAX(shares->value, (int64_t)2), (int64_t)262144);
        put_number(w, unified ? "CPUWeight" : "CPUShares",
                   (uint64_t)(unified ? 1 + (value - 2) * 9999 / 262142 : value));
    }
    uint64_t period = is_given(&res->cpu.period) && res->cpu.period.value > 0
                          ? (uint64_t)res->cpu.period.value
                          : 100000;
    if (is_given(&res->cpu.period)) {
        put_number(w, "CPUQuotaPeriodUSec", period);
    }
    if (is_given(&res->cpu.quota)) {
        uint64_t usec = UINT64_MAX;
        if (res->cpu.quota.value > 0) {
            /* systemd keeps whole percents: rounded up, the file has the exact figure. */
            unsigned __int128 share =
                (unsigned __int128)res->cpu.quota.value * USEC_PER_SEC / period;
            usec = share > UINT64_MAX / 2 ? UINT64_MAX : ((uint64_t)share + 9999) / 10000 * 10000;
        }
        put_number(w, "CPUQuotaPerSecUSec", usec);
    }
}

/* "0-3,7" as bits, the lowest first. */
static int put_set(struct dbus_writer *w, const char *name, const char *list, const char *field,
                   struct err *err)
{
    uint8_t bits[CPU_SETSIZE / 8] = {0};
    size_t used = 0;
    for (const char *p = list; *p != '\0';) {
        char *end;
        unsigned long from = strtoul(p, &end, 10);
        unsigned long to = from;
        bool ok = isdigit((unsigned char)*p);
        if (ok && *end == '-') {
            ok = isdigit((unsigned char)end[1]);
            to = strtoul(end + 1, &end, 10);
        }
        if (!ok || to < from || to >= CPU_SETSIZE ||
            (*end != '\0' && *end != ',' && !isspace((unsigned char)*end))) {
            return err_say(err, EINVAL, "linux.resources.%s = \"%s\": is not a list such as 0-3,7",
                           field, list);
        }
        for (; from <= to; from++) {
            bits[from / 8] |= (uint8_t)(1U << from % 8);
            used = MAX(used, from / 8 + 1);
        }
        p = end + strspn(end, ", \n");
    }
    put_name(w, name, "ay");
    size_t array = dbus_begin_array(w, 1);
    for (size_t i = 0; i < used; i++) {
        dbus_put_byte(w, bits[i]);
    }
    dbus_end_array(w, array, 1);
    return 0;
}

/* Files of v2 that systemd knows as properties: it must not write its own value over them. */
static void put_unified(struct dbus_writer *w, const struct spec_pair *pair)
{
    static const struct {
        const char *file;
        const char *property;
    } rows[] = {
        {"memory.min", "MemoryMin"},          {"memory.low", "MemoryLow"},
        {"memory.high", "MemoryHigh"},        {"memory.max", "MemoryMax"},
        {"memory.swap.max", "MemorySwapMax"}, {"pids.max", "TasksMax"},
        {"cpu.weight", "CPUWeight"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        uint64_t value = UINT64_MAX;
        if (strcmp(pair->name, rows[i].file) == 0 &&
            (strcmp(pair->value, "max") == 0 || parse_u64(pair->value, 10, &value) == 0)) {
            put_number(w, rows[i].property, value);
        }
    }
}

/* /proc/devices names the driver of a major number; DeviceAllow takes it as char-NAME. */
static bool driver_name(const char *devices, char type, int64_t major, char *out, size_t size)
{
    const char *p = strstr(devices, type == 'c' ? "Character devices:" : "Block devices:");
    p = p == NULL ? NULL : strchr(p, '\n');
    while (p != NULL && p[1] != '\0' && p[1] != '\n') {
        long long number;
        char name[64];
        p++;
        if (sscanf(p, "%lld %63s", &number, name) == 2 && number == major) {
            return snprintf(out, size, "%s-%s", type == 'c' ? "char" : "block", name) < (int)size;
        }
        p = strchr(p, '\n');
    }
    return false;
}

static bool device_word(const struct spec_device_rule *rule, const char *devices, char *out,
                        size_t size)
{
    const char *kind = rule->type == 'c' ? "char" : "block";
    if (rule->major >= 0 && rule->minor >= 0) {
        (void)snprintf(out, size, "/dev/%s/%lld:%lld", kind, (long long)rule->major,
                       (long long)rule->minor);
        return true;
    }
    if (rule->major < 0 && rule->minor < 0) {
        (void)snprintf(out, size, "%s-*", kind);
        return true;
    }
    return rule->major >= 0 && driver_name(devices, rule->type, rule->major, out, size);
}

static void put_device(struct dbus_writer *w, const struct spec_device_rule *rule,
                       const char *devices)
{
    char word[128];
    char access[4];
    (void)snprintf(access, sizeof(access), "%s%s%s", rule->read ? "r" : "", rule->write ? "w" : "",
                   rule->mknod ? "m" : "");
    if (device_word(rule, devices, word, sizeof(word))) {
        dbus_put_struct(w);
        dbus_put_string(w, word);
        dbus_put_string(w, access);
    }
}

/*
 * A list of what is allowed is told to systemd, which in v1 would otherwise allow everything when
 * it is reloaded. Other lists it cannot express: the cgroup itself has them.
 */
static void put_devices(struct dbus_writer *w, const struct spec_resources *res)
{
    const struct spec_device_rule *rules = res->devices;
    bool plain = res->device_count > 0 && !rules[0].allow && rules[0].type == 'a';
    for (size_t i = 1; plain && i < res->device_count; i++) {
        plain = rules[i].allow && rules[i].type != 'a';
    }
    AUTO(buf_donep) struct buf devices = {0};
    if (!plain || read_file("/proc/devices", (size_t)1 << 16, &devices) < 0 ||
        devices.data == NULL) {
        return;
    }
    char word[128];
    for (size_t i = 1; i < res->device_count; i++) {
        if (!device_word(&rules[i], devices.data, word, sizeof(word))) {
            return;
        }
    }
    put_name(w, "DevicePolicy", "s");
    dbus_put_string(w, "strict");
    put_name(w, "DeviceAllow", "a(ss)");
    size_t array = dbus_begin_array(w, 8);
    for (size_t i = 0; i < cgroup_default_device_count; i++) {
        put_device(w, &cgroup_default_devices[i], devices.data);
    }
    for (size_t i = 1; i < res->device_count; i++) {
        put_device(w, &rules[i], devices.data);
    }
    dbus_end_array(w, array, 8);
}

int systemd_put_resources(struct dbus_writer *w, const struct spec_resources *res, bool unified,
                          struct err *err)
{
    put_memory(w, res, unified);
    put_cpu(w, res, unified);
    put_limit(w, "TasksMax", &res->pids_limit);
    int r = 0;
    if (unified && res->cpu.cpus != NULL) {
        r = put_set(w, "AllowedCPUs", res->cpu.cpus, "cpu.cpus", err);
    }
    if (r == 0 && unified && res->cpu.mems != NULL) {
        r = put_set(w, "AllowedMemoryNodes", res->cpu.mems, "cpu.mems", err);
    }
    if (is_given(&res->block_io.weight)) {
        int64_t weight = res->block_io.weight.value;
        put_number(w, unified ? "IOWeight" : "BlockIOWeight",
                   (uint64_t)(unified && weight >= 10 ? 1 + (weight - 10) * 9999 / 990 : weight));
    }
    for (size_t i = 0; unified && i < res->unified.count; i++) {
        put_unified(w, &res->unified.items[i]);
    }
    put_devices(w, res);
    return r;
}

/* A text in quotes; *p moves behind it. The caller frees the result; NULL: it is none. */
static char *read_text(const char **p)
{
    char quote = **p;
    const char *end = quote == '\'' || quote == '"' ? strchr(*p + 1, quote) : NULL;
    if (end == NULL || memchr(*p, '\\', (size_t)(end - *p)) != NULL) {
        return NULL;
    }
    char *text = strndup(*p + 1, (size_t)(end - *p - 1));
    *p = end + 1;
    return text;
}

static bool put_text_value(struct dbus_writer *w, const char *name, const char *value)
{
    AUTO(freep) char *text = read_text(&value);
    if (text == NULL || *value != '\0') {
        return false;
    }
    put_name(w, name, "s");
    dbus_put_string(w, text);
    return true;
}

static bool put_list_value(struct dbus_writer *w, const char *name, const char *value)
{
    put_name(w, name, "as");
    size_t array = dbus_begin_array(w, sizeof(uint32_t));
    const char *p = value + 1 + strspn(value + 1, " ");
    while (*p != ']') {
        AUTO(freep) char *text = read_text(&p);
        p += strspn(p, " ");
        if (text == NULL || (*p != ',' && *p != ']')) {
            return false;
        }
        dbus_put_string(w, text);
        p += *p == ',';
        p += strspn(p, " ");
    }
    dbus_end_array(w, array, sizeof(uint32_t));
    return p[1] == '\0';
}

static bool parse_whole(const char *text, int64_t min, int64_t max, int64_t *ret)
{
    return parse_i64(text, ret) == 0 && *ret >= min && *ret <= max;
}

/* "uint64 5", "int32 -1", "5" */
static bool put_number_value(struct dbus_writer *w, const char *name, const char *value)
{
    const char *blank = strchr(value, ' ');
    size_t len = blank == NULL ? 0 : (size_t)(blank - value);
    const char *digits = blank == NULL ? value : blank + strspn(blank, " ");
    int64_t number;
    uint64_t big;
    if (len == strlen("uint64") && strncmp(value, "uint64", len) == 0) {
        if (parse_u64(digits, 10, &big) < 0) {
            return false;
        }
        put_number(w, name, big);
    } else if (len == strlen("int64") && strncmp(value, "int64", len) == 0) {
        if (parse_i64(digits, &number) < 0) {
            return false;
        }
        put_name(w, name, "x");
        dbus_put_u64(w, (uint64_t)number);
    } else if (len == strlen("uint32") && strncmp(value, "uint32", len) == 0) {
        if (!parse_whole(digits, 0, UINT32_MAX, &number)) {
            return false;
        }
        put_name(w, name, "u");
        dbus_put_u32(w, (uint32_t)number);
    } else if (len == 0 || (len == strlen("int32") && strncmp(value, "int32", len) == 0)) {
        if (!parse_whole(digits, INT32_MIN, INT32_MAX, &number)) {
            return false;
        }
        put_name(w, name, "i");
        dbus_put_u32(w, (uint32_t)(int32_t)number);
    } else {
        return false;
    }
    return true;
}

/* TimeoutStopSec=5 as its microseconds, which is what systemd takes over D-Bus. */
static bool put_seconds(struct dbus_writer *w, const char *name, const char *value)
{
    const char *blank = strrchr(value, ' ');
    char *end;
    double seconds = strtod(blank != NULL ? blank + 1 : value, &end);
    AUTO(freep) char *usec = str_printf("%.*sUSec", (int)(strlen(name) - strlen("Sec")), name);
    if (*end != '\0' || end == value || !(seconds >= 0) || seconds > 1e12 || usec == NULL) {
        return false;
    }
    put_number(w, usec, (uint64_t)(seconds * (double)USEC_PER_SEC));
    return true;
}

static bool put_value(struct dbus_writer *w, const char *name, const char *value)
{
    size_t len = strlen(name);
    if (len > strlen("Sec") && str_ends(name, "Sec") && !str_ends(name, "USec")) {
        return put_seconds(w, name, value);
    }
    if (strcmp(value, "true") == 0 || strcmp(value, "false") == 0) {
        put_name(w, name, "b");
        dbus_put_bool(w, value[0] == 't');
        return true;
    }
    return value[0] == '['                       ? put_list_value(w, name, value)
           : value[0] == '\'' || value[0] == '"' ? put_text_value(w, name, value)
                                                 : put_number_value(w, name, value);
}

int systemd_put_annotation(struct dbus_writer *w, const struct spec_pair *annotation,
                           struct err *err)
{
    if (!str_starts(annotation->name, ANNOTATION_PREFIX)) {
        return 0;
    }
    const char *name = annotation->name + strlen(ANNOTATION_PREFIX);
    size_t letters = 0;
    while (isalnum((unsigned char)name[letters])) {
        letters++;
    }
    if (letters < 3 || name[letters] != '\0') {
        return err_say(err, EINVAL, "annotations.%s: does not name a property of systemd",
                       annotation->name);
    }
    if (!put_value(w, name, annotation->value)) {
        (void)err_say(err, EINVAL, "annotations.%s = \"%s\": is not a value", annotation->name,
                      annotation->value);
        err_hint(err, "write true, 'text', ['a', 'b'], 5, uint64 5");
        return -EINVAL;
    }
    return 0;
}
