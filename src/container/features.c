/* The features document: what this runtime can do, read from the tables that do it. */
#include <seccomp.h>
#include <unistd.h>

#include "base/json.h"
#include "base/str.h"
#include "container/container.h"
#include "container/mount_options.h"
#include "container/names.h"

static json_t *names_of(const struct name_value *table)
{
    json_t *list = json_array();
    for (; table->name != NULL; table++) {
        (void)json_array_append_new(list, json_string(table->name));
    }
    return list;
}

static json_t *mount_options(void)
{
    AUTO(strv_donep) struct strv options = {0};
    return mount_options_list(&options) < 0 ? NULL : json_from_strv(&options);
}

static json_t *hooks(void)
{
    json_t *list = json_array();
    for (size_t i = 0; i < SPEC_HOOK_KIND_COUNT; i++) {
        (void)json_array_append_new(list, json_string(hook_kind_names[i]));
    }
    return list;
}

static json_t *namespaces(void)
{
    json_t *list = json_array();
    for (size_t i = 0; i < SPEC_NS_COUNT; i++) {
        char path[64];
        (void)snprintf(path, sizeof(path), "/proc/self/ns/%s", namespace_kinds[i].file);
        if (access(path, F_OK) == 0) {
            (void)json_array_append_new(list, json_string(namespace_kinds[i].name));
        }
    }
    return list;
}

json_t *container_features(void)
{
    const struct scmp_version *version = seccomp_version();
    json_t *cgroup = json_pack("{s:b, s:b, s:b, s:b, s:b}", "v1", 1, "v2", 1, "systemd", 1,
                               "systemdUser", 1, "rdma", 1);
    json_t *seccomp = json_pack(
        "{s:b, s:o, s:o, s:o, s:o, s:o}", "enabled", 1, "actions", names_of(seccomp_action_names),
        "operators", names_of(seccomp_op_names), "archs", names_of(seccomp_arch_names),
        "knownFlags", names_of(seccomp_flag_names), "supportedFlags", names_of(seccomp_flag_names));
    json_t *linux_part =
        json_pack("{s:o, s:o, s:o, s:o, s:{s:b}, s:{s:b}, s:{s:b}, s:{s:{s:b}}}", "namespaces",
                  namespaces(), "capabilities", names_of(capability_names), "cgroup", cgroup,
                  "seccomp", seccomp, "apparmor", "enabled", 1, "selinux", "enabled", 1, "intelRdt",
                  "enabled", 1, "mountExtensions", "idmap", "enabled", 1);
    AUTO(freep)
    char *library = str_printf("%u.%u.%u", version->major, version->minor, version->micro);
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:{s:s, s:s}}", "ociVersionMin", "1.0.0",
                     "ociVersionMax", SPEC_VERSION, "hooks", hooks(), "mountOptions",
                     mount_options(), "linux", linux_part, "annotations", "org.isola.version",
                     ISOLA_VERSION, "org.isola.libseccomp", library != NULL ? library : "");
}
