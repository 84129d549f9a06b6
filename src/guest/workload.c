/* The workload: made by the container wall's own code, in a machine of its own. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json.h"
#include "base/path.h"
#include "base/process.h"
#include "base/str.h"
#include "container/container.h"
#include "container/guest_filter.h"
#include "guest/agent.h"
#include "guest/network.h"
#include "guest/rootfs.h"

static int set_clock(int64_t realtime_ns, struct err *err)
{
    const struct timespec now = {.tv_sec = realtime_ns / 1000000000,
                                 .tv_nsec = realtime_ns % 1000000000};
    return realtime_ns > 0 && clock_settime(CLOCK_REALTIME, &now) < 0
               ? err_set(err, errno, "set the clock")
               : 0;
}

/*
 * Namespaces that the machine itself replaces: its network is the workload's, its users are all the
 * workload's, and so are its parameters (sysctl), of which some belong to the ipc namespace. Paths
 * would be those of the host.
 */
static int keep_namespaces(json_t *linux_part, struct err *err)
{
    static const char *const replaced[] = {"network", "user", "ipc"};
    json_t *list = json_object_get(linux_part, "namespaces");
    for (size_t i = json_array_size(list); i > 0; i--) {
        const json_t *item = json_array_get(list, i - 1);
        const char *type = json_string_value(json_object_get(item, "type"));
        bool drop = false;
        for (size_t j = 0; j < COUNT(replaced); j++) {
            drop |= str_eq(type, replaced[j]);
        }
        if (!drop && json_object_get(item, "path") != NULL) {
            return err_say(err, EINVAL,
                           "config.linux.namespaces[%zu].path: names a namespace of "
                           "the host, which a virtual machine cannot join",
                           i - 1);
        }
        if (drop) {
            (void)json_array_remove(list, i - 1);
        }
    }
    (void)json_object_del(linux_part, "uidMappings");
    (void)json_object_del(linux_part, "gidMappings");
    return 0;
}

/*
 * The files of the configuration as mounts, as the container wall has them; the workload's own come
 * behind, and one of them on the same place replaces ours.
 */
static int add_files(const struct guest_config *config, json_t *oci)
{
    json_t *mounts = json_object_get(oci, "mounts");
    bool read_only = json_is_true(json_object_get(json_object_get(oci, "root"), "readonly"));
    if (mounts == NULL) {
        mounts = json_array();
        (void)json_object_set_new(oci, "mounts", mounts);
    }
    int r = 0;
    for (size_t i = 0; r == 0 && i < config->file_count; i++) {
        const char *path = config->files[i].path;
        bool taken = false;
        for (size_t j = 0; j < json_array_size(mounts); j++) {
            const json_t *mount = json_array_get(mounts, j);
            taken |= str_eq(json_string_value(json_object_get(mount, "destination")), path);
        }
        if (!taken) {
            r = json_array_insert_new(mounts, 0,
                                      json_pack("{s:s, s:s, s:o, s:[s, s]}", "destination", path,
                                                "type", "bind", "source",
                                                json_sprintf(GUEST_FILES_DIR "/%zu", i), "options",
                                                "isola-copy", read_only ? "ro" : "rw"));
        }
    }
    return r;
}

/* The OCI configuration as it is inside the machine. A new reference. */
static int adapt(const struct guest_config *config, json_t **ret, struct err *err)
{
    AUTO(json_unrefp) json_t *oci = json_deep_copy(config->oci);
    json_t *linux_part = json_object_get(oci, "linux");
    json_t *annotations = json_object_get(oci, "annotations");
    if (json_object_size(json_object_get(oci, "hooks")) > 0) {
        return err_say(err, EINVAL,
                       "config.hooks: programs of the host cannot run in a virtual "
                       "machine");
    }
    int r = linux_part == NULL ? 0 : keep_namespaces(linux_part, err);
    if (r < 0) {
        return r;
    }
    if (annotations == NULL) {
        annotations = json_object();
        (void)json_object_set_new(oci, "annotations", annotations);
    }
    /* Whatever an image's label may have put there. */
    (void)json_object_del(annotations, GUEST_FILTER_ANNOTATION);
    if (config->seccomp != NULL) {
        (void)json_object_del(linux_part, "seccomp");
        r = json_object_set_new(annotations, GUEST_FILTER_ANNOTATION, json_string(config->seccomp));
    }
    json_t *root = json_object_get(oci, "root");
    if (!json_is_object(root)) {
        root = json_object();
        (void)json_object_set_new(oci, "root", root);
    }
    if (oci == NULL || r < 0 || add_files(config, oci) < 0 ||
        json_object_set_new(root, "path", json_string("rootfs")) < 0) {
        return err_set(err, ENOMEM, "read the configuration");
    }
    *ret = TAKE_PTR(oci);
    return 0;
}

static int load_spec(const struct guest_config *config, struct spec **ret, struct err *err)
{
    AUTO(json_unrefp) json_t *oci = NULL;
    int r = adapt(config, &oci, err);
    AUTO(freep) char *text = r < 0 ? NULL : json_dumps(oci, JSON_COMPACT);
    if (r == 0 && text == NULL) {
        r = err_set(err, ENOMEM, "read the configuration");
    }
    return r < 0 ? r : spec_parse(text, strlen(text), "config", ret, err);
}

static int write_sysctls(const struct guest_config *config, struct err *err)
{
    AUTO(closep) int sys = open("/proc/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < config->sysctl_count; i++) {
        const struct guest_sysctl *sysctl = &config->sysctls[i];
        AUTO(freep) char *path = strdup(sysctl->name);
        /* "net/ipv4/conf/eth0.5/mtu" is written with slashes for its dot. */
        for (char *p = path; p != NULL && strchr(sysctl->name, '/') == NULL && *p != '\0'; p++) {
            *p = *p == '.' ? '/' : *p;
        }
        AUTO(closep)
        int fd = path == NULL || sys < 0 ? -ENOMEM : open_in_root(sys, path, O_WRONLY, 0);
        int r = fd < 0 ? fd : write_full(fd, sysctl->value, strlen(sysctl->value));
        if (r < 0) {
            return err_set(err, -r, "sysctl %s = \"%s\"", sysctl->name, sysctl->value);
        }
    }
    return 0;
}

static void on_drained(void *data)
{
    struct agent *agent = data;
    if (agent->workload.state == WORKLOAD_EXITED) {
        agent_report_exit(agent);
    }
}

static int create(struct agent *agent, const struct guest_config *config, const struct spec *spec,
                  int rootfs_fd, bool *ret_exec_failed, struct err *err)
{
    struct workload *w = &agent->workload;
    const struct guest_stdio_options stdio = {
        .loop = agent->loop,
        .transport = &agent->transport,
        .ports = {config->with_stdin ? GUEST_PORT_STDIN : 0, GUEST_PORT_STDOUT, GUEST_PORT_STDERR},
        .terminal = spec->process.terminal,
        .reconnect = true,
        .drained = on_drained,
        .data = agent,
    };
    int start[2];
    int r = mkdir_parents(GUEST_BUNDLE, 0700);
    if (r < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, start) < 0) {
        return err_set(err, r < 0 ? -r : errno, "prepare the workload");
    }
    w->start_fd = start[0];
    AUTO(closep) int theirs = start[1];
    r = guest_stdio_open(&stdio, &w->stdio, err);
    if (r < 0) {
        return r;
    }
    struct container_create_args args = CONTAINER_CREATE_ARGS_INIT;
    args.root = GUEST_CONTAINERS;
    args.id = w->id;
    args.bundle = GUEST_BUNDLE;
    args.spec = spec;
    args.rootfs_fd = rootfs_fd;
    args.start_fd = theirs;
    guest_stdio_fill(&w->stdio, &args.io);
    struct container_process process = {.pidfd = -1};
    r = container_create(&args, &process, ret_exec_failed, err);
    process.pidfd = close_fd(process.pidfd);
    if (r < 0) {
        return r;
    }
    w->pid = process.pid;
    w->state = WORKLOAD_CREATED;
    return guest_stdio_attach(&w->stdio, err);
}

int workload_configure(struct agent *agent, const struct guest_config *config,
                       bool *ret_exec_failed, struct err *err)
{
    struct workload *w = &agent->workload;
    AUTO(spec_freep) struct spec *spec = NULL;
    AUTO(closep) int rootfs = -1;
    if (w->state != WORKLOAD_NONE) {
        return err_say(err, EBUSY, "this machine has its workload already");
    }
    int r = load_spec(config, &spec, err);
    r = r < 0 ? r : set_clock(config->realtime_ns, err);
    if (r == 0 && config->hostname != NULL &&
        sethostname(config->hostname, strlen(config->hostname)) < 0) {
        r = err_set(err, errno, "hostname '%s'", config->hostname);
    }
    r = r < 0 ? r : network_configure(config, err);
    r = r < 0 ? r : write_sysctls(config, err);
    r = r < 0 ? r : rootfs_write_files(config, err);
    if (r == 0) {
        r = rootfs = rootfs_build(config, json_object_get(spec->json, "mounts"), err);
    }
    if (r < 0) {
        return r;
    }
    free(w->id);
    w->id = strdup(config->id);
    return w->id == NULL ? err_set(err, ENOMEM, "configure")
                         : create(agent, config, spec, rootfs, ret_exec_failed, err);
}

int workload_start(struct agent *agent, bool *ret_exec_failed, struct err *err)
{
    struct workload *w = &agent->workload;
    if (w->state != WORKLOAD_CREATED) {
        return err_say(err, EINVAL,
                       w->state == WORKLOAD_NONE ? "there is no workload yet: configure it first"
                                                 : "the workload was started before");
    }
    int r = container_start_fd(GUEST_CONTAINERS, w->id, w->start_fd, ret_exec_failed, err);
    w->start_fd = close_fd(w->start_fd);
    if (r == 0) {
        w->state = WORKLOAD_RUNNING;
        agent_load_late(agent);
    }
    return r;
}

bool workload_reap(struct agent *agent, pid_t pid, int status)
{
    struct workload *w = &agent->workload;
    if (w->pid != pid || pid == 0) {
        return false;
    }
    bool was_running = w->state == WORKLOAD_RUNNING;
    w->pid = 0;
    w->state = WORKLOAD_EXITED;
    w->exit.code = exit_code_of(status);
    (void)container_oom_kills(GUEST_CONTAINERS, w->id, &w->exit.oom_kills, NULL);
    if (!was_running) {
        struct err err = ERR_NONE;
        (void)err_say(&err, ECHILD, "the workload's first process died before the start (%s %d)",
                      WIFSIGNALED(status) ? "signal" : "exit code",
                      WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        agent_fail(agent, &err);
    } else if (w->stdio.open_outputs == 0) {
        agent_report_exit(agent);
    }
    return true;
}

void workload_done(struct agent *agent)
{
    struct workload *w = &agent->workload;
    if (w->id != NULL && w->state != WORKLOAD_NONE) {
        (void)container_delete(GUEST_CONTAINERS, w->id, true, NULL);
    }
    guest_stdio_done(&w->stdio);
    w->start_fd = close_fd(w->start_fd);
    free(w->id);
    w->id = NULL;
}
