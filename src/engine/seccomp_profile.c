#include "engine/seccomp_profile.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>

#include "base/err.h"
#include "base/json.h"
#include "base/str.h"

#define PROFILE_MAX ((size_t)1 << 20)

#define NAMESPACE_FLAGS                                                                            \
    (CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET |     \
     CLONE_NEWCGROUP)

/* socket(AF_VSOCK) reaches the hypervisor of the host. */
#define FAMILY_VSOCK 40

static int default_rules(const struct strv *capabilities, json_t *rules)
{
    json_t *names = json_array();
    int r = 0;
    for (size_t i = 0; seccomp_allowed[i] != NULL; i++) {
        r |= json_array_append_new(names, json_string(seccomp_allowed[i]));
    }
    for (size_t i = 0; seccomp_capability_rules[i].capability != NULL; i++) {
        if (strv_has(capabilities, seccomp_capability_rules[i].capability)) {
            r |= json_array_append_new(names, json_string(seccomp_capability_rules[i].name));
        }
    }
    r |= json_array_append_new(rules,
                               json_pack("{s:o, s:s}", "names", names, "action", "SCMP_ACT_ALLOW"));
    r |= json_array_append_new(rules,
                               json_pack("{s:[s], s:s, s:[{s:i, s:i, s:s}]}", "names", "socket",
                                         "action", "SCMP_ACT_ALLOW", "args", "index", 0, "value",
                                         FAMILY_VSOCK, "op", "SCMP_CMP_NE"));
    /* 0 is PER_LINUX, 0xffffffff asks for the current one; 8 is PER_LINUX32, 0x20000 UNAME26. */
    static const int64_t personalities[] = {0, 8, 0x20000, 0x20008, 0xffffffff};
    for (size_t i = 0; i < COUNT(personalities); i++) {
        r |= json_array_append_new(
            rules, json_pack("{s:[s], s:s, s:[{s:i, s:I, s:s}]}", "names", "personality", "action",
                             "SCMP_ACT_ALLOW", "args", "index", 0, "value",
                             (json_int_t)personalities[i], "op", "SCMP_CMP_EQ"));
    }
    if (!strv_has(capabilities, "CAP_SYS_ADMIN")) {
        r |= json_array_append_new(rules,
                                   json_pack("{s:[s], s:s, s:[{s:i, s:I, s:I, s:s}]}", "names",
                                             "clone", "action", "SCMP_ACT_ALLOW", "args", "index",
                                             0, "value", (json_int_t)NAMESPACE_FLAGS, "valueTwo",
                                             (json_int_t)0, "op", "SCMP_CMP_MASKED_EQ"));
        /* Its flags are behind a pointer, which a filter cannot follow. */
        r |=
            json_array_append_new(rules, json_pack("{s:[s], s:s, s:i}", "names", "clone3", "action",
                                                   "SCMP_ACT_ERRNO", "errnoRet", ENOSYS));
    }
    return r;
}

int seccomp_profile_default(const struct strv *capabilities, json_t **ret, struct err *err)
{
#if defined(__x86_64__)
    json_t *architectures =
        json_pack("[s, s, s]", "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32");
#else
    json_t *architectures = json_pack("[s, s]", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM");
#endif
    json_t *rules = json_array();
    int failed = default_rules(capabilities, rules);
    AUTO(json_unrefp)
    json_t *profile =
        json_pack("{s:s, s:i, s:o, s:o}", "defaultAction", "SCMP_ACT_ERRNO", "defaultErrnoRet",
                  EPERM, "architectures", architectures, "syscalls", rules);
    if (failed != 0 || profile == NULL) {
        return err_set(err, ENOMEM, "make the seccomp profile");
    }
    *ret = TAKE_PTR(profile);
    return 0;
}

/* Docker's includes/excludes: {"caps": [...], "arches": [...], "minKernel": "4.8"}. */
static bool condition_holds(const json_t *condition, const struct strv *capabilities,
                            bool when_empty)
{
    const json_t *caps = json_object_get(condition, "caps");
    const json_t *arches = json_object_get(condition, "arches");
    size_t i;
    json_t *item;
    bool any = when_empty;
    json_array_foreach (caps, i, item) {
        const char *name = json_string_value(item);
        if (name != NULL && strv_has(capabilities, name) != when_empty) {
            return !when_empty;
        }
    }
    if (json_array_size(arches) > 0) {
        bool ours = false;
        json_array_foreach (arches, i, item) {
#if defined(__x86_64__)
            ours = ours || str_eq(json_string_value(item), "amd64");
#else
            ours = ours || str_eq(json_string_value(item), "arm64");
#endif
        }
        return ours;
    }
    return any;
}

/* One rule of Docker's form in the runtime-spec's; NULL when its conditions leave it out. */
static json_t *convert_rule(json_t *rule, const struct strv *capabilities)
{
    const json_t *includes = json_object_get(rule, "includes");
    const json_t *excludes = json_object_get(rule, "excludes");
    if (json_object_size(includes) > 0 && !condition_holds(includes, capabilities, true)) {
        return NULL;
    }
    if (json_object_size(excludes) > 0 && condition_holds(excludes, capabilities, false)) {
        return NULL;
    }
    json_t *copy = json_deep_copy(rule);
    static const char *const ours[] = {"includes", "excludes", "comment"};
    for (size_t i = 0; i < COUNT(ours); i++) {
        (void)json_object_del(copy, ours[i]);
    }
    json_t *name = json_object_get(copy, "name");
    if (json_is_string(name)) {
        (void)json_object_set_new(copy, "names", json_pack("[O]", name));
        (void)json_object_del(copy, "name");
    }
    return copy;
}

static int convert_architectures(json_t *profile)
{
    const json_t *map = json_object_get(profile, "archMap");
    if (!json_is_array(map)) {
        return 0;
    }
#if defined(__x86_64__)
    const char *native = "SCMP_ARCH_X86_64";
#else
    const char *native = "SCMP_ARCH_AARCH64";
#endif
    json_t *list = json_array();
    size_t i;
    json_t *item;
    json_array_foreach (map, i, item) {
        if (str_eq(json_string_value(json_object_get(item, "architecture")), native)) {
            (void)json_array_append(list, json_object_get(item, "architecture"));
            (void)json_array_extend(list, json_object_get(item, "subArchitectures"));
        }
    }
    (void)json_object_del(profile, "archMap");
    return json_object_set_new(profile, "architectures", list);
}

int seccomp_profile_load(const char *path, const struct strv *capabilities, json_t **ret,
                         struct err *err)
{
    AUTO(json_unrefp) json_t *profile = NULL;
    int r = json_load_at(AT_FDCWD, path, PROFILE_MAX, &profile, err);
    if (r < 0) {
        return err_wrap(err, -r, "seccomp profile");
    }
    if (!json_is_string(json_object_get(profile, "defaultAction"))) {
        return err_say(err, EINVAL, "seccomp profile '%s' has no defaultAction", path);
    }
    json_t *rules = json_array();
    size_t i;
    json_t *rule;
    json_array_foreach (json_object_get(profile, "syscalls"), i, rule) {
        json_t *converted = convert_rule(rule, capabilities);
        if (converted != NULL) {
            (void)json_array_append_new(rules, converted);
        }
    }
    if (json_object_set_new(profile, "syscalls", rules) < 0 || convert_architectures(profile) < 0) {
        return err_set(err, ENOMEM, "seccomp profile '%s'", path);
    }
    *ret = TAKE_PTR(profile);
    return 0;
}
