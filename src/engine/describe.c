#include "engine/describe.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "engine/apparmor.h"
#include "engine/create.h"
#include "engine/log_file.h"
#include "engine/mount_spec.h"
#include "engine/network.h"

void describe_status(const struct workload *workload, char *out, size_t size)
{
    char age[64];
    int64_t now = clock_realtime_ns();
    switch (workload->state) {
    case WORKLOAD_CREATED:
        (void)snprintf(out, size, "Created");
        return;
    case WORKLOAD_STARTING:
        (void)snprintf(out, size, "Starting");
        return;
    case WORKLOAD_RUNNING:
    case WORKLOAD_PAUSED: {
        const char *health = workload->status.health == HEALTH_NONE ? ""
                             : workload->status.health == HEALTH_STARTING
                                 ? "health: starting"
                                 : health_name(workload->status.health);
        format_age(now - workload->run.started_ns, age, sizeof(age));
        (void)snprintf(out, size, "Up %s%s%s%s%s", age, health[0] != '\0' ? " (" : "", health,
                       health[0] != '\0' ? ")" : "",
                       workload->state == WORKLOAD_PAUSED ? " (Paused)" : "");
        return;
    }
    case WORKLOAD_RESTARTING:
    case WORKLOAD_EXITED:
        format_age(now - workload->run.finished_ns, age, sizeof(age));
        (void)snprintf(out, size, "%s (%d) %s ago",
                       workload->state == WORKLOAD_EXITED ? "Exited" : "Restarting",
                       (int)workload->run.exit_code, age);
        return;
    }
}

static char *join(const struct strv *list, const char *separator)
{
    AUTO(buf_donep) struct buf text = {0};
    for (size_t i = 0; i < list->count; i++) {
        if ((i > 0 && buf_add_str(&text, separator) < 0) ||
            buf_add_str(&text, list->items[i]) < 0) {
            return NULL;
        }
    }
    return buf_take(&text);
}

static int load_lease(struct engine *engine, const struct workload *workload,
                      struct network_lease *ret, struct err *err)
{
    struct network_host *host;
    int r = engine_network(engine, &host, err);
    return r < 0 ? r : network_load(host, workload->id, ret, err);
}

static char *mount_names(const struct workload *workload)
{
    AUTO(mount_specs_donep) struct mount_specs mounts = {0};
    AUTO(strv_donep) struct strv names = {0};
    if (mount_specs_parse(&workload->config, &mounts, NULL) < 0) {
        return strdup("");
    }
    for (size_t i = 0; i < mounts.count; i++) {
        const struct mount_spec *mount = &mounts.items[i];
        const char *name = mount->source != NULL
                               ? mount->source
                               : env_get(&workload->config.anonymous_volume, mount->target);
        if (name != NULL && strv_add(&names, name) < 0) {
            return NULL;
        }
    }
    return join(&names, ",");
}

/* What `network` names, or the default. */
static char *network_names(const struct workload *workload)
{
    return workload->config.network.count > 0 ? join(&workload->config.network, ",")
                                              : strdup("bridge");
}

int describe_row(struct engine *engine, const struct workload *workload, json_t **ret,
                 struct err *err)
{
    AUTO(network_lease_donep) struct network_lease lease = {0};
    AUTO(buf_donep) struct buf ports = {0};
    AUTO(freep) char *labels = join(&workload->config.label, ",");
    AUTO(freep) char *command = join(&workload->config.args, " ");
    AUTO(freep) char *mounts = mount_names(workload);
    AUTO(freep) char *networks = network_names(workload);
    char status[128];
    char created[TIME_TEXT_SIZE];
    char age[64];
    int r = load_lease(engine, workload, &lease, err);
    if (r == 0) {
        r = port_list_print(&lease.ports, &ports);
    }
    if (r < 0 || labels == NULL || command == NULL || mounts == NULL || networks == NULL) {
        return err_wrap(err, r < 0 ? -r : ENOMEM, "describe '%s'", workload->name);
    }
    describe_status(workload, status, sizeof(status));
    format_time(workload->created_ns, created);
    format_age(clock_realtime_ns() - workload->created_ns, age, sizeof(age));
    AUTO(freep) char *ago = str_printf("%s ago", age);
    AUTO(freep) char *quoted = str_printf("\"%s\"", command);
    json_t *row = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "ID", workload->id,
        "Image", workload->config.image, "Command", quoted, "CreatedAt", created, "RunningFor", ago,
        "Ports", ports.data != NULL ? ports.data : "", "State",
        workload_state_name(workload->state), "Status", status, "Names", workload->name, "Labels",
        labels, "Mounts", mounts, "Networks", networks, "Isolation",
        workload->config.isolation != NULL ? workload->config.isolation : "container");
    if (row == NULL) {
        return err_set(err, ENOMEM, "describe '%s'", workload->name);
    }
    *ret = row;
    return 0;
}

static json_t *describe_health(const struct workload *workload)
{
    char checked[TIME_TEXT_SIZE];
    if (workload->config.health_test.count == 0) {
        return json_null();
    }
    format_time(workload->status.health_checked_ns, checked);
    return json_pack("{s:s, s:i, s:[{s:s, s:i}]}", "Status", health_name(workload->status.health),
                     "FailingStreak", workload->status.health_failures, "Log", "End", checked,
                     "ExitCode", workload->status.health_exit_code);
}

static json_t *describe_state(const struct workload *workload)
{
    char started[TIME_TEXT_SIZE] = "0001-01-01T00:00:00Z";
    char finished[TIME_TEXT_SIZE] = "0001-01-01T00:00:00Z";
    const struct workload_run *run = &workload->run;
    bool running = workload->state == WORKLOAD_RUNNING || workload->state == WORKLOAD_PAUSED;
    if (run->started_ns != 0) {
        format_time(run->started_ns, started);
    }
    if (run->finished_ns != 0) {
        format_time(run->finished_ns, finished);
    }
    return json_pack("{s:s, s:b, s:b, s:b, s:b, s:b, s:I, s:I, s:s, s:s, s:s, s:o}", "Status",
                     workload_state_name(workload->state), "Running", running, "Paused",
                     workload->state == WORKLOAD_PAUSED, "Restarting",
                     workload->state == WORKLOAD_RESTARTING, "OOMKilled", run->oom_killed, "Dead",
                     0, "Pid", running ? (json_int_t)workload->status.pid : (json_int_t)0,
                     "ExitCode", (json_int_t)run->exit_code, "Error",
                     run->error != NULL ? run->error : "", "StartedAt", started, "FinishedAt",
                     finished, "Health", describe_health(workload));
}

static json_t *describe_mounts(struct engine *engine, const struct workload *workload)
{
    static const char *const types[] = {"bind", "volume", "tmpfs"};
    AUTO(mount_specs_donep) struct mount_specs mounts = {0};
    json_t *list = json_array();
    if (mount_specs_parse(&workload->config, &mounts, NULL) < 0) {
        return list;
    }
    for (size_t i = 0; i < mounts.count; i++) {
        const struct mount_spec *mount = &mounts.items[i];
        const char *name = mount->source != NULL
                               ? mount->source
                               : env_get(&workload->config.anonymous_volume, mount->target);
        AUTO(freep) char *path = NULL;
        if (mount->type == MOUNT_VOLUME && name != NULL) {
            path = str_printf("%s/volumes/%s/_data", engine->dirs.root, name);
        }
        json_t *object =
            json_pack("{s:s, s:s, s:s, s:b, s:s, s:s}", "Type", types[mount->type], "Source",
                      path != NULL   ? path
                      : name != NULL ? name
                                     : "",
                      "Destination", mount->target, "RW", !mount->read_only, "Mode",
                      mount->read_only ? "ro" : "", "Propagation",
                      mount->propagation != NULL ? mount->propagation : "rprivate");
        if (mount->type == MOUNT_VOLUME && name != NULL) {
            (void)json_object_set_new(object, "Name", json_string(name));
            (void)json_object_set_new(object, "Driver", json_string("local"));
        }
        (void)json_array_append_new(list, object);
    }
    return list;
}

static json_t *describe_labels(const struct strv *labels)
{
    json_t *object = json_object();
    for (size_t i = 0; i < labels->count; i++) {
        const char *equals = strchr(labels->items[i], '=');
        if (equals != NULL) {
            (void)json_object_setn_new(object, labels->items[i],
                                       (size_t)(equals - labels->items[i]),
                                       json_string(equals + 1));
        }
    }
    return object;
}

/* The health check as it was configured; null when there is none. */
static json_t *describe_check(const struct workload_config *c)
{
    if (c->health_test.count == 0) {
        return json_null();
    }
    return json_pack("{s:o, s:I, s:I, s:I, s:I}", "Test", json_from_strv(&c->health_test),
                     "Interval", (json_int_t)c->health_interval, "Timeout",
                     (json_int_t)c->health_timeout, "StartPeriod",
                     (json_int_t)c->health_start_period, "Retries", (json_int_t)c->health_retries);
}

static const char *text(const char *s)
{
    return s != NULL ? s : "";
}

/* args[from..to-1]; null when there is none, as Docker shows it. */
static json_t *some_words(const struct strv *args, size_t from, size_t to)
{
    const struct strv part = {.items = args->items + from, .count = to - from};
    return part.count == 0 ? json_null() : json_from_strv(&part);
}

static json_t *describe_config(const struct workload *workload)
{
    const struct workload_config *c = &workload->config;
    char hostname[HOST_NAME_MAX + 1] = "";
    if (c->hostname != NULL) {
        (void)snprintf(hostname, sizeof(hostname), "%s", c->hostname);
    } else if (c->network.count > 0 && str_eq(c->network.items[0], "host")) {
        (void)gethostname(hostname, sizeof(hostname) - 1);
    } else {
        (void)snprintf(hostname, sizeof(hostname), "%.*s", (int)WORKLOAD_SHORT_ID_LENGTH,
                       workload->id);
    }
    size_t entry = MIN((size_t)c->entry_count, c->args.count);
    return json_pack("{s:s, s:s, s:s, s:b, s:b, s:o, s:o, s:o, s:o, s:s, s:s, s:o, s:s, s:I}",
                     "Hostname", hostname, "Domainname", text(c->domainname), "User", text(c->user),
                     "Tty", c->tty, "OpenStdin", c->interactive, "Env", json_from_strv(&c->env),
                     "Entrypoint", some_words(&c->args, 0, entry), "Cmd",
                     some_words(&c->args, entry, c->args.count), "Healthcheck", describe_check(c),
                     "Image", text(c->image), "WorkingDir", text(c->workdir), "Labels",
                     describe_labels(&c->label), "StopSignal",
                     c->stop_signal != NULL ? c->stop_signal : "SIGTERM", "StopTimeout",
                     (json_int_t)c->stop_timeout);
}

static json_t *describe_restart_policy(const struct workload_config *config)
{
    struct restart_policy policy = {0};
    (void)create_restart_policy(config->restart, &policy, NULL); /* checked at creation */
    const char *name =
        config->restart != NULL && config->restart[0] != '\0' ? config->restart : "no";
    return json_pack("{s:s%, s:I}", "Name", name, strcspn(name, ":"), "MaximumRetryCount",
                     (json_int_t)policy.max);
}

static json_t *describe_host_config(const struct workload *workload)
{
    const struct workload_config *c = &workload->config;
    return json_pack(
        "{s:o, s:s, s:b, s:b, s:b, s:o, s:o, s:o, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I,"
        " s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:s*}",
        "Binds", json_from_strv(&c->volume), "NetworkMode",
        c->network.count > 0 ? c->network.items[0] : "bridge", "Privileged", c->privileged,
        "ReadonlyRootfs", c->read_only, "AutoRemove", c->rm, "CapAdd", json_from_strv(&c->cap_add),
        "CapDrop", json_from_strv(&c->cap_drop), "SecurityOpt", json_from_strv(&c->security_opt),
        "IpcMode", c->ipc != NULL ? c->ipc : "private", "PidMode", text(c->pid), "UTSMode",
        text(c->uts), "Isolation", c->isolation != NULL ? c->isolation : "container", "Memory",
        (json_int_t)c->memory, "MemorySwap", (json_int_t)c->memory_swap, "MemoryReservation",
        (json_int_t)c->memory_reservation, "NanoCpus", (json_int_t)c->nano_cpus, "CpuShares",
        (json_int_t)c->cpu_shares, "PidsLimit", (json_int_t)c->pids_limit, "CpusetCpus",
        text(c->cpuset_cpus), "ShmSize", (json_int_t)(c->shm_size != 0 ? c->shm_size : 64 << 20),
        "OomScoreAdj", (json_int_t)c->oom_score_adj, "Dns", json_from_strv(&c->dns), "ExtraHosts",
        json_from_strv(&c->add_host), "Tmpfs", json_from_strv(&c->tmpfs), "RestartPolicy",
        describe_restart_policy(c), "Kernel", c->kernel);
}

/* Docker's old fields beside Networks: those of the first network. */
static json_t *describe_network(const struct network_lease *lease)
{
    json_t *settings = network_lease_to_inspect(lease);
    json_t *networks = json_object_get(settings, "Networks");
    json_t *first = json_object_iter_value(json_object_iter(networks));
    static const char *const names[] = {"IPAddress", "Gateway", "MacAddress", "GlobalIPv6Address",
                                        "IPv6Gateway"};
    for (size_t i = 0; settings != NULL && i < COUNT(names); i++) {
        json_t *value = json_object_get(first, names[i]);
        (void)json_object_set_new(settings, names[i],
                                  value != NULL ? json_incref(value) : json_string(""));
    }
    json_t *length = json_object_get(first, "IPPrefixLen");
    (void)json_object_set_new(settings, "IPPrefixLen",
                              length != NULL ? json_incref(length) : json_integer(0));
    return settings;
}

int describe_workload(struct engine *engine, const struct workload *workload, json_t **ret,
                      struct err *err)
{
    AUTO(network_lease_donep) struct network_lease lease = {0};
    AUTO(freep) char *log = workload_root_path(engine, workload->id, LOG_FILE);
    AUTO(freep) char *resolv = workload_root_path(engine, workload->id, "resolv.conf");
    AUTO(freep) char *hosts = workload_root_path(engine, workload->id, "hosts");
    AUTO(freep) char *upper = workload_root_path(engine, workload->id, "upper");
    AUTO(freep) char *name = str_printf("/%s", workload->name);
    char created[TIME_TEXT_SIZE];
    int r = load_lease(engine, workload, &lease, err);
    if (r < 0) {
        return r;
    }
    format_time(workload->created_ns, created);
    const struct strv *args = &workload->config.args;
    struct strv rest = {.items = args->items + (args->count > 0 ? 1 : 0),
                        .count = args->count > 0 ? args->count - 1 : 0};
    const char *apparmor = apparmor_profile(&workload->config);
    json_t *object = json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:o, s:o, s:o, s:o,"
        " s:{s:s, s:{s:s, s:o}}}",
        "Id", workload->id, "Created", created, "Path", args->count > 0 ? args->items[0] : "",
        "Args", json_from_strv(&rest), "State", describe_state(workload), "Image",
        text(workload->config.image_id), "ResolvConfPath", resolv, "HostsPath", hosts, "LogPath",
        log, "Name", name, "RestartCount", (json_int_t)workload->run.restarts, "Platform", "linux",
        "AppArmorProfile", text(apparmor), "HostConfig", describe_host_config(workload), "Mounts",
        describe_mounts(engine, workload), "Config", describe_config(workload), "NetworkSettings",
        describe_network(&lease), "GraphDriver", "Name", "overlay2", "Data", "UpperDir", upper,
        "LowerDirs", json_from_strv(&workload->config.layers));
    if (object == NULL) {
        return err_set(err, ENOMEM, "describe '%s'", workload->name);
    }
    *ret = object;
    return 0;
}
