#include "engine/bundle.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/err.h"
#include "base/json.h"
#include "engine/vm_bundle.h"
#include "unit.h"

static void set_list(struct strv *list, const char *words)
{
    strv_done(list);
    ck_assert_int_eq(strv_split(list, words, " "), 0);
}

START_TEST(capabilities_start_from_dockers_set_and_all_comes_first)
{
    static const struct {
        const char *add;
        const char *drop;
        size_t count;
        const char *has;
        const char *lacks;
    } cases[] = {
        {"", "", 14, "CAP_CHOWN", "CAP_SYS_ADMIN"},
        {"sys_time", "", 15, "CAP_SYS_TIME", "CAP_SYS_ADMIN"},
        {"CAP_SYS_TIME Sys_Time", "", 15, "CAP_SYS_TIME", "CAP_SYS_ADMIN"},
        {"", "CHOWN", 13, "CAP_KILL", "CAP_CHOWN"},
        {"NET_ADMIN", "ALL", 1, "CAP_NET_ADMIN", "CAP_CHOWN"},
        {"", "all", 0, NULL, "CAP_CHOWN"},
        {"CHOWN", "CHOWN", 13, "CAP_KILL", "CAP_CHOWN"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        AUTO(config_donep) struct workload_config config = {0};
        AUTO(strv_donep) struct strv names = {0};
        set_list(&config.cap_add, cases[i].add);
        set_list(&config.cap_drop, cases[i].drop);
        ck_assert_int_eq(bundle_capabilities(&config, &names, NULL), 0);
        ck_assert_uint_eq(names.count, cases[i].count);
        ck_assert(cases[i].has == NULL || strv_has(&names, cases[i].has));
        ck_assert(!strv_has(&names, cases[i].lacks));
    }
}
END_TEST

START_TEST(unknown_capabilities_are_named)
{
    static const char *const bad[] = {"FLY", "", "CAP_", "CAP_CAP_CHOWN",
                                      "CHOWNCHOWNCHOWNCHOWNCHOWNCHOWNCHOWNCHOWNCHOWNCHOWNCHOWN"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        AUTO(config_donep) struct workload_config config = {0};
        struct strv names = {0};
        struct err err = ERR_NONE;
        ck_assert_int_eq(strv_add(i % 2 == 0 ? &config.cap_add : &config.cap_drop, bad[i]), 0);
        ck_assert_int_eq(bundle_capabilities(&config, &names, &err), -EINVAL);
        ck_assert_ptr_nonnull(strstr(err_text(&err), bad[i]));
    }
}
END_TEST

/* Builds the limits of one option; returns what bundle_add_limits() does. */
static int limits(const struct workload_config *config, json_t **ret_process, json_t **ret_linux)
{
    const struct bundle_inputs inputs = {.id = "x", .config = config};
    *ret_process = json_object();
    *ret_linux = json_object();
    return bundle_add_limits(&inputs, *ret_process, *ret_linux, NULL);
}

START_TEST(ulimits_are_name_soft_and_hard)
{
    static const struct {
        const char *text;
        json_int_t soft; /* -1: refused */
        json_int_t hard;
    } cases[] = {
        {"nofile=10", 10, 10},
        {"nofile=10:20", 10, 20},
        {"core=0:unlimited", 0, INT64_MAX},
        {"core=-1", INT64_MAX, INT64_MAX},
        {"nofile=20:10", -1, 0},
        {"nofile", -1, 0},
        {"nofile=", -1, 0},
        {"files=1", -1, 0},
        {"nofile=x", -1, 0},
        {"nofile=1:2:3", -1, 0},
        {"nofile=9223372036854775808", -1, 0},
        {"", -1, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        AUTO(config_donep) struct workload_config config = {0};
        AUTO(json_unrefp) json_t *process = NULL;
        AUTO(json_unrefp) json_t *linux_part = NULL;
        ck_assert_int_eq(strv_add(&config.ulimit, cases[i].text), 0);
        int r = limits(&config, &process, &linux_part);
        ck_assert_msg((r == 0) == (cases[i].soft >= 0), "%s", cases[i].text);
        if (r == 0) {
            json_t *item = json_array_get(json_object_get(process, "rlimits"), 0);
            ck_assert_int_eq(json_integer_value(json_object_get(item, "soft")), cases[i].soft);
            ck_assert_int_eq(json_integer_value(json_object_get(item, "hard")), cases[i].hard);
        }
    }
}
END_TEST

START_TEST(devices_are_paths_and_access)
{
    static const struct {
        const char *text;
        const char *path; /* NULL: refused */
        const char *access;
    } cases[] = {
        {"/dev/null", "/dev/null", "rwm"},
        {"/dev/null:/dev/x", "/dev/x", "rwm"},
        {"/dev/null:r", "/dev/null", "r"},
        {"/dev/null:/dev/x:rw", "/dev/x", "rw"},
        {"/dev/null:/dev/x:q", NULL, NULL},
        {"null", NULL, NULL},
        {"/dev/no-such-device", NULL, NULL},
        {"/etc/passwd", NULL, NULL},
        {"", NULL, NULL},
        {"/dev/null:/a:r:w", NULL, NULL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        AUTO(config_donep) struct workload_config config = {0};
        AUTO(json_unrefp) json_t *process = NULL;
        AUTO(json_unrefp) json_t *linux_part = NULL;
        ck_assert_int_eq(strv_add(&config.device, cases[i].text), 0);
        int r = limits(&config, &process, &linux_part);
        ck_assert_msg((r == 0) == (cases[i].path != NULL), "%s", cases[i].text);
        if (r == 0) {
            json_t *device = json_array_get(json_object_get(linux_part, "devices"), 0);
            json_t *rules = json_object_get(json_object_get(linux_part, "resources"), "devices");
            ck_assert_str_eq(json_string_value(json_object_get(device, "path")), cases[i].path);
            /* Everything is refused first, then this one allowed. */
            ck_assert(json_is_false(json_object_get(json_array_get(rules, 0), "allow")));
            json_t *rule = json_array_get(rules, 1);
            ck_assert_str_eq(json_string_value(json_object_get(rule, "access")), cases[i].access);
        }
    }
}
END_TEST

START_TEST(device_rules_are_checked_to_the_last_letter)
{
    static const struct {
        const char *text;
        bool good;
    } cases[] = {
        {"c 1:3 rwm", true},
        {"b 8:* r", true},
        {"a *:* rwm", true},
        {"c 1:3 rwmx", false},
        {"x 1:3 r", false},
        {"c 1 r", false},
        {"c 1:3", false},
        {"", false},
        {"c -1:3 r", false},
        {"c 1:3 rwmrwm", false},
        {"c 99999999999999999999:1 r", false},
        {"c 1*:3 r", false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        AUTO(config_donep) struct workload_config config = {0};
        AUTO(json_unrefp) json_t *process = NULL;
        AUTO(json_unrefp) json_t *linux_part = NULL;
        ck_assert_int_eq(strv_add(&config.device_cgroup_rule, cases[i].text), 0);
        ck_assert_msg((limits(&config, &process, &linux_part) == 0) == cases[i].good, "%s",
                      cases[i].text);
    }
}
END_TEST

START_TEST(memory_and_cpu_limits_follow_dockers_rules)
{
    static const struct {
        uint64_t memory;
        int64_t swap;
        int64_t cpus;
        int64_t quota;
        bool good;
        json_int_t want_swap;
        json_int_t want_quota;
    } cases[] = {
        {64 << 20, 0, 0, 0, true, 128 << 20, 0},
        {64 << 20, -1, 0, 0, true, -1, 0},
        {64 << 20, 96 << 20, 0, 0, true, 96 << 20, 0},
        {INT64_MAX, 0, 0, 0, true, -1, 0},
        {1 << 20, 0, 0, 0, false, 0, 0},
        {0, 96 << 20, 0, 0, false, 0, 0},
        {64 << 20, 32 << 20, 0, 0, false, 0, 0},
        {0, 0, 1500000000, 0, true, 0, 150000},
        {0, 0, 0, 5000, true, 0, 5000},
        {0, 0, 1000000000, 5000, false, 0, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        AUTO(config_donep)
        struct workload_config config = {.memory = cases[i].memory,
                                         .memory_swap = cases[i].swap,
                                         .nano_cpus = cases[i].cpus,
                                         .cpu_quota = cases[i].quota};
        AUTO(json_unrefp) json_t *process = NULL;
        AUTO(json_unrefp) json_t *linux_part = NULL;
        ck_assert_int_eq(limits(&config, &process, &linux_part) == 0, cases[i].good);
        if (cases[i].good) {
            json_t *resources = json_object_get(linux_part, "resources");
            json_t *memory = json_object_get(resources, "memory");
            json_t *cpu = json_object_get(resources, "cpu");
            ck_assert_int_eq(json_integer_value(json_object_get(memory, "swap")),
                             cases[i].want_swap);
            ck_assert_int_eq(json_integer_value(json_object_get(cpu, "quota")),
                             cases[i].want_quota);
        }
    }
}
END_TEST

START_TEST(mounts_of_a_machine_come_from_its_shares)
{
    static const struct {
        const char *volume;
        const char *source; /* as the agent finds it */
        const char *option;
    } cases[] = {
        {"/tmp:/a:ro", "/run/isola/shares/0", "rro"},
        {"/etc/passwd:/b", "/run/isola/shares/1/file", "rprivate"},
        {"name:/c", "/run/isola/shares/2", "rprivate"},
    };
    AUTO(config_donep) struct workload_config config = {0};
    AUTO(mount_specs_donep) struct mount_specs mounts = {0};
    AUTO(json_unrefp) json_t *spec = json_object();
    for (size_t i = 0; i < COUNT(cases); i++) {
        ck_assert_int_eq(strv_add(&config.volume, cases[i].volume), 0);
    }
    ck_assert_int_eq(mount_specs_parse(&config, &mounts, NULL), 0);
    ck_assert_uint_eq(mounts.count, COUNT(cases));
    const struct bundle_inputs inputs = {
        .id = "x", .config = &config, .mounts = &mounts, .last_gid = 65534, .shared = true};
    ck_assert_int_eq(bundle_add_mounts(&inputs, spec, NULL), 0);
    const json_t *list = json_object_get(spec, "mounts");
    for (size_t i = 0; i < COUNT(cases); i++) {
        const json_t *mount = json_array_get(list, json_array_size(list) - COUNT(cases) + i);
        ck_assert_str_eq(json_string_value(json_object_get(mount, "source")), cases[i].source);
        ck_assert_str_eq(json_string_value(json_object_get(mount, "type")), "bind");
        AUTO(freep) char *text = json_dumps(json_object_get(mount, "options"), JSON_COMPACT);
        ck_assert_ptr_nonnull(strstr(text, cases[i].option));
    }
}
END_TEST

START_TEST(mounts_that_would_pass_between_kernels_are_refused)
{
    static const struct {
        const char *volume;
        int result;
    } cases[] = {
        {"/tmp:/a", 0},
        {"/tmp:/a:private", 0},
        {"/tmp:/a:rprivate", 0},
        {"/tmp:/a:rslave", -EOPNOTSUPP},
        {"/tmp:/a:shared", -EOPNOTSUPP},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        AUTO(config_donep) struct workload_config config = {0};
        AUTO(mount_specs_donep) struct mount_specs mounts = {0};
        ck_assert_int_eq(strv_add(&config.volume, cases[i].volume), 0);
        ck_assert_int_eq(mount_specs_parse(&config, &mounts, NULL), 0);
        ck_assert_int_eq(vm_bundle_check(&config, NULL), 0);
        ck_assert_int_eq(vm_shares_check(&mounts, NULL), cases[i].result);
    }
}
END_TEST

int main(void)
{
    return unit_run("engine/bundle", (const TTest *const[]){
                                         capabilities_start_from_dockers_set_and_all_comes_first,
                                         unknown_capabilities_are_named,
                                         ulimits_are_name_soft_and_hard,
                                         devices_are_paths_and_access,
                                         device_rules_are_checked_to_the_last_letter,
                                         memory_and_cpu_limits_follow_dockers_rules,
                                         mounts_of_a_machine_come_from_its_shares,
                                         mounts_that_would_pass_between_kernels_are_refused,
                                         NULL,
                                     });
}
