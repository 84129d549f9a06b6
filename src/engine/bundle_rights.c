#include <ctype.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "base/err.h"
#include "base/json.h"
#include "engine/bundle.h"
#include "engine/seccomp_profile.h"

/* In the order of their numbers (linux/capability.h). */
static const char *const capability_names[] = {
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
};

#define BIT(cap) (UINT64_C(1) << (cap))
#define CAPABILITIES_ALL (BIT(COUNT(capability_names)) - 1)

/* Docker's set: what programs that expect to be root in a container of their own need. */
#define CAPABILITIES_DEFAULT                                                                       \
    (BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) | BIT(CAP_FSETID) | BIT(CAP_KILL) |  \
     BIT(CAP_SETGID) | BIT(CAP_SETUID) | BIT(CAP_SETPCAP) | BIT(CAP_NET_BIND_SERVICE) |            \
     BIT(CAP_NET_RAW) | BIT(CAP_SYS_CHROOT) | BIT(CAP_MKNOD) | BIT(CAP_AUDIT_WRITE) |              \
     BIT(CAP_SETFCAP))

static int find_capability(const char *text, uint64_t *ret, struct err *err)
{
    char name[64] = "CAP_";
    size_t skip = strncasecmp(text, "CAP_", 4) == 0 ? 4 : 0;
    size_t len = strlen(text + skip);
    if (len + 5 > sizeof(name)) {
        return err_say(err, EINVAL, "capability '%s' is not known", text);
    }
    for (size_t i = 0; i <= len; i++) {
        name[4 + i] = (char)toupper((unsigned char)text[skip + i]);
    }
    if (str_eq(name, "CAP_ALL")) {
        *ret = CAPABILITIES_ALL;
        return 0;
    }
    for (size_t i = 0; i < COUNT(capability_names); i++) {
        if (str_eq(capability_names[i], name)) {
            *ret = BIT(i);
            return 0;
        }
    }
    return err_say(err, EINVAL, "capability '%s' is not known; see capabilities(7)", text);
}

static int apply(const struct strv *list, bool all_only, bool add, uint64_t *set, struct err *err)
{
    for (size_t i = 0; i < list->count; i++) {
        uint64_t bits = 0;
        int r = find_capability(list->items[i], &bits, err);
        if (r < 0) {
            return r;
        }
        if ((bits == CAPABILITIES_ALL) == all_only) {
            *set = add ? *set | bits : *set & ~bits;
        }
    }
    return 0;
}

static bool names(const struct strv *list, uint64_t wanted)
{
    uint64_t set = 0;
    return apply(list, false, true, &set, NULL) == 0 && (set & wanted) == wanted;
}

int bundle_capabilities(const struct workload_config *config, struct strv *ret, struct err *err)
{
    uint64_t set = config->privileged ? CAPABILITIES_ALL : CAPABILITIES_DEFAULT;
    /* ALL first, then the single ones, so that `--cap-drop ALL --cap-add X` leaves X. */
    int r = apply(&config->cap_add, true, true, &set, err);
    if (r == 0) {
        r = apply(&config->cap_drop, true, false, &set, err);
    }
    if (r == 0) {
        r = apply(&config->cap_add, false, true, &set, err);
    }
    if (r == 0) {
        r = apply(&config->cap_drop, false, false, &set, err);
    }
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < COUNT(capability_names); i++) {
        if ((set & BIT(i)) == 0) {
            continue;
        }
        if (prctl(PR_CAPBSET_READ, i) != 1) {
            /*
             * CAP_SYS_RESOURCE, for one, is missing in many sandboxes. Defaults are clamped; what
             * the user named must be had.
             */
            if (names(&config->cap_add, BIT(i))) {
                return err_say(err, EPERM, "--cap-add %s: this process does not have it itself",
                               capability_names[i]);
            }
            continue;
        }
        r = strv_add(ret, capability_names[i]);
        if (r < 0) {
            return err_set(err, -r, "list capabilities");
        }
    }
    return 0;
}

const char *bundle_security_option(const struct workload_config *config, const char *key)
{
    size_t len = strlen(key);
    for (size_t i = 0; i < config->security_opt.count; i++) {
        const char *option = config->security_opt.items[i];
        if (strncmp(option, key, len) == 0 && (option[len] == '=' || option[len] == ':')) {
            return option + len + 1;
        }
    }
    return NULL;
}

static int check_security_options(const struct workload_config *config, struct err *err)
{
    static const char *const known[] = {"seccomp", "apparmor", "label", "no-new-privileges",
                                        "systempaths"};
    for (size_t i = 0; i < config->security_opt.count; i++) {
        const char *option = config->security_opt.items[i];
        size_t len = strcspn(option, "=:");
        bool found = false;
        for (size_t k = 0; k < COUNT(known); k++) {
            found = found || (strlen(known[k]) == len && strncmp(option, known[k], len) == 0);
        }
        if (!found) {
            return err_say(err, EINVAL,
                           "--security-opt '%s' is not seccomp=, apparmor=, label=, "
                           "no-new-privileges or systempaths=",
                           option);
        }
    }
    return 0;
}

static bool no_new_privileges(const struct workload_config *config)
{
    const char *value = bundle_security_option(config, "no-new-privileges");
    return strv_has(&config->security_opt, "no-new-privileges") || str_eq(value, "true");
}

static int add_seccomp(const struct workload_config *config, const struct strv *capabilities,
                       json_t *linux_part, struct err *err)
{
    const char *profile = bundle_security_option(config, "seccomp");
    if (str_eq(profile, "unconfined") || (profile == NULL && config->privileged)) {
        return 0;
    }
    json_t *seccomp = NULL;
    int r = profile != NULL ? seccomp_profile_load(profile, capabilities, &seccomp, err)
                            : seccomp_profile_default(capabilities, &seccomp, err);
    if (r < 0) {
        return r;
    }
    return json_object_set_new(linux_part, "seccomp", seccomp) < 0 ? err_set(err, ENOMEM, "seccomp")
                                                                   : 0;
}

int bundle_add_rights(const struct bundle_inputs *in, json_t *process, json_t *linux_part,
                      struct err *err)
{
    AUTO(strv_donep) struct strv list = {0};
    int r = check_security_options(in->config, err);
    if (r == 0) {
        r = bundle_capabilities(in->config, &list, err);
    }
    if (r < 0) {
        return r;
    }
    json_t *bounding = json_from_strv(&list);
    /* Another user than root starts with none, but may get them back by exec of a file that has. */
    json_t *effective = in->user->uid == 0 ? json_incref(bounding) : json_array();
    json_t *caps = json_pack("{s:o, s:o, s:O}", "bounding", bounding, "effective", effective,
                             "permitted", effective);
    if (caps == NULL || json_object_set_new(process, "capabilities", caps) < 0) {
        return err_set(err, ENOMEM, "capabilities");
    }
    if (no_new_privileges(in->config)) {
        (void)json_object_set_new(process, "noNewPrivileges", json_true());
    }
    if (in->apparmor != NULL) {
        (void)json_object_set_new(process, "apparmorProfile", json_string(in->apparmor));
    }
    const char *label = bundle_security_option(in->config, "label");
    if (label != NULL && !str_eq(label, "disable")) {
        return err_say(err, EOPNOTSUPP, "--security-opt label=%s: only label=disable is supported",
                       label);
    }
    return add_seccomp(in->config, &list, linux_part, err);
}
