#include "engine/bundle.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/json.h"
#include "base/process.h"
#include "engine/emulator.h"
#include "engine/id_range.h"

static const char default_path[] =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/* PATH, HOSTNAME, TERM and HOME unless the image or the user says otherwise. */
static json_t *make_env(const struct bundle_inputs *in)
{
    AUTO(strv_donep) struct strv env = {0};
    int r = 0;
    if (env_get(&in->config->env, "PATH") == NULL) {
        r = strv_add(&env, default_path);
    }
    if (r == 0 && in->hostname != NULL) {
        r = strv_addf(&env, "HOSTNAME=%s", in->hostname);
    }
    if (r == 0 && in->config->tty) {
        r = strv_add(&env, "TERM=xterm");
    }
    for (size_t i = 0; r == 0 && i < in->config->env.count; i++) {
        r = env_set(&env, in->config->env.items[i]);
    }
    if (r == 0 && env_get(&env, "HOME") == NULL) {
        r = strv_addf(&env, "HOME=%s", in->user->home);
    }
    return r == 0 ? json_from_strv(&env) : NULL;
}

static json_t *make_user(const struct user *user)
{
    json_t *groups = json_array();
    for (size_t i = 0; i < user->group_count; i++) {
        (void)json_array_append_new(groups, json_integer(user->groups[i]));
    }
    return json_pack("{s:I, s:I, s:o}", "uid", (json_int_t)user->uid, "gid", (json_int_t)user->gid,
                     "additionalGids", groups);
}

static json_t *make_args(const struct bundle_inputs *in)
{
    AUTO(strv_donep) struct strv words = {0};
    if (strv_copy(&in->config->args, &words) < 0 ||
        (in->emulator != NULL && emulator_wrap(&words) < 0)) {
        return NULL;
    }
    json_t *args = json_from_strv(&words);
    if (in->config->init && args != NULL) {
        (void)json_array_insert_new(args, 0, json_string("--"));
        (void)json_array_insert_new(args, 0, json_string("/dev/init"));
    }
    return args;
}

static int add_namespace(json_t *list, const char *type, const char *path)
{
    if (path != NULL && path[0] == '\0') {
        return 0;
    }
    return json_array_append_new(list, path != NULL
                                           ? json_pack("{s:s, s:s}", "type", type, "path", path)
                                           : json_pack("{s:s}", "type", type));
}

static bool has_own_ids(const struct bundle_inputs *in)
{
    return in->ids != NULL && in->ids->size > 0;
}

static int add_id_map(json_t *linux_part, const char *key, unsigned start, unsigned size)
{
    return json_object_set_new(linux_part, key,
                               json_pack("[{s:i, s:I, s:I}]", "containerID", 0, "hostID",
                                         (json_int_t)start, "size", (json_int_t)size));
}

static json_t *make_namespaces(const struct bundle_inputs *in)
{
    json_t *list = json_array();
    int r = add_namespace(list, "mount", NULL);
    r |= add_namespace(list, "pid", in->pid_path);
    r |= add_namespace(list, "ipc", in->ipc_path);
    r |= add_namespace(list, "uts", in->uts_path);
    r |= add_namespace(list, "network", in->net_path);
    r |= add_namespace(list, "cgroup", in->host_cgroupns ? "" : NULL);
    r |= has_own_ids(in) ? add_namespace(list, "user", in->user_path) : 0;
    if (r != 0) {
        json_decref(list);
        return NULL;
    }
    return list;
}

/* Parameters that name no namespace of the workload's own would change the host's. */
static int add_sysctls(const struct bundle_inputs *in, json_t *linux_part, struct err *err)
{
    json_t *object = json_object();
    if (json_object_set_new(linux_part, "sysctl", object) < 0) {
        return err_set(err, ENOMEM, "sysctl");
    }
    if (in->shared) {
        return 0; /* the machine's: see vm_bundle.c */
    }
    for (size_t i = 0; i < in->config->sysctl.count; i++) {
        AUTO(freep) char *key = strdup(in->config->sysctl.items[i]);
        char *value = key != NULL ? strchr(key, '=') : NULL;
        if (value == NULL) {
            return err_say(err, EINVAL, "--sysctl '%s' is not KEY=VALUE",
                           in->config->sysctl.items[i]);
        }
        *value++ = '\0';
        bool net = str_starts(key, "net.");
        if (net && str_eq(in->net_path, "")) {
            return err_say(err, EINVAL,
                           "--sysctl %s would change the host: the network is the host's", key);
        }
        if (json_object_set_new(object, key, json_string(value)) < 0) {
            return err_set(err, ENOMEM, "sysctl");
        }
    }
    /* Where the processes are the host's an ordinary user can mount no procfs to write to. */
    bool has_proc = !in->rootless || !str_eq(in->pid_path, "");
    /* As Docker does: binding low ports and ping need no capability in an own network. */
    if (in->net_path == NULL && has_proc) {
        if (json_object_get(object, "net.ipv4.ip_unprivileged_port_start") == NULL) {
            (void)json_object_set_new(object, "net.ipv4.ip_unprivileged_port_start",
                                      json_string("0"));
        }
        if (json_object_get(object, "net.ipv4.ping_group_range") == NULL) {
            char range[32];
            unsigned last = MIN(in->last_gid, (unsigned)INT32_MAX);
            (void)snprintf(range, sizeof(range), "0 %u", last);
            (void)json_object_set_new(object, "net.ipv4.ping_group_range", json_string(range));
        }
    }
    return 0;
}

static void mask_paths(json_t *linux_part)
{
    static const char *const masked[] = {
        "/proc/asound",     "/proc/acpi",        "/proc/interrupts",
        "/proc/kcore",      "/proc/keys",        "/proc/latency_stats",
        "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
        "/proc/scsi",       "/sys/firmware",     "/sys/devices/virtual/powercap",
    };
    static const char *const readonly[] = {
        "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
    };
    json_t *list = json_array();
    for (size_t i = 0; i < COUNT(masked); i++) {
        (void)json_array_append_new(list, json_string(masked[i]));
    }
    (void)json_object_set_new(linux_part, "maskedPaths", list);
    list = json_array();
    for (size_t i = 0; i < COUNT(readonly); i++) {
        (void)json_array_append_new(list, json_string(readonly[i]));
    }
    (void)json_object_set_new(linux_part, "readonlyPaths", list);
}

int bundle_build(const struct bundle_inputs *in, json_t **ret, struct err *err)
{
    const struct workload_config *config = in->config;
    json_t *process = json_pack("{s:b, s:o, s:o, s:o, s:s}", "terminal", config->tty, "user",
                                make_user(in->user), "args", make_args(in), "env", make_env(in),
                                "cwd", config->workdir != NULL ? config->workdir : "/");
    json_t *linux_part = json_pack("{s:s, s:o, s:s}", "cgroupsPath", in->cgroup, "namespaces",
                                   make_namespaces(in), "rootfsPropagation", "rslave");
    AUTO(json_unrefp)
    json_t *spec =
        json_pack("{s:s, s:{s:s, s:b}, s:o, s:o}", "ociVersion", "1.2.0", "root", "path", "rootfs",
                  "readonly", config->read_only, "process", process, "linux", linux_part);
    if (spec == NULL) {
        return err_set(err, ENOMEM, "make the bundle");
    }
    if (in->hostname != NULL && !str_eq(in->uts_path, "")) {
        (void)json_object_set_new(spec, "hostname", json_string(in->hostname));
    }
    if (config->domainname != NULL) {
        (void)json_object_set_new(spec, "domainname", json_string(config->domainname));
    }
    if (config->oom_score_adj != 0) {
        (void)json_object_set_new(process, "oomScoreAdj", json_integer(config->oom_score_adj));
    }
    if (!config->privileged &&
        !str_eq(bundle_security_option(config, "systempaths"), "unconfined")) {
        mask_paths(linux_part);
    }
    if (has_own_ids(in) && in->user_path == NULL &&
        (add_id_map(linux_part, "uidMappings", in->ids->uid_start, in->ids->size) < 0 ||
         add_id_map(linux_part, "gidMappings", in->ids->gid_start, in->ids->size) < 0)) {
        return err_set(err, ENOMEM, "id maps");
    }
    int r = add_sysctls(in, linux_part, err);
    if (r == 0) {
        r = bundle_add_rights(in, process, linux_part, err);
    }
    if (r == 0) {
        r = bundle_add_limits(in, process, linux_part, err);
    }
    if (r == 0) {
        r = bundle_add_mounts(in, spec, err);
    }
    if (r < 0) {
        return r;
    }
    *ret = TAKE_PTR(spec);
    return 0;
}
