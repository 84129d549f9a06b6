#include "engine/start.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/path.h"
#include "base/process.h"
#include "base/user_namespace.h"
#include "container/container.h"
#include "engine/apparmor.h"
#include "engine/bundle.h"
#include "engine/create.h"
#include "engine/end.h"
#include "engine/event.h"
#include "engine/id_range.h"
#include "engine/namespaces.h"
#include "engine/network_host.h"
#include "engine/rootfs.h"
#include "engine/shim_process.h"
#include "engine/shim_protocol.h"
#include "engine/vm_start.h"
#include "engine/volume.h"
#include "engine/workload_network.h"

#define RESOLV_CONF "/etc/resolv.conf"

/* What a start gathers on its way; all of it ends with the start. */
struct start {
    struct engine *engine;
    struct workload workload;
    struct workload_run before; /* what a start that fails leaves; texts are workload.run.json's */
    struct network_host *host;
    struct network_request request;
    struct network_lease lease;
    struct mount_specs mounts;
    struct user user;
    struct id_range ids;
    int rootfs_fd;
    int control_fd;
    struct shim_identity shim;
    char *root_dir; /* ROOT/workloads/ID */
    char *run_dir;  /* RUN/workloads/ID */
    char *init_path;
    struct namespaces namespaces;
    char hostname[WORKLOAD_HOSTNAME_SIZE];
};

static void start_done(struct start *start)
{
    workload_done(&start->workload);
    network_request_done(&start->request);
    network_lease_done(&start->lease);
    mount_specs_done(&start->mounts);
    user_done(&start->user);
    (void)close_fd(start->rootfs_fd);
    (void)close_fd(start->control_fd);
    free(start->root_dir);
    free(start->run_dir);
    free(start->init_path);
    namespaces_done(&start->namespaces);
}
DEFINE_DONEP(struct start, start_done)

/*
 * In one transaction: the state, and the addresses and ports. What the last run was stays until
 * this one has begun: we may fail, or be killed.
 */
static int reserve(struct start *start, bool restart, struct err *err)
{
    AUTO(db_tx_donep) struct db_tx tx = {0};
    struct workload *workload = &start->workload;
    int64_t restarts = restart ? workload->run.restarts + 1 : 0;
    int r = db_begin(start->engine->db, &tx, err);
    if (r == 0) {
        workload->state = WORKLOAD_STARTING;
        workload->run.restarts = restarts;
        workload->run.error = NULL;
        workload->run.pid = 0;
        r = workload_save(start->engine, workload, err);
    }
    if (r == 0 && id_range_joined(&workload->config) == NULL) {
        r = id_range_reserve(start->engine, workload->id, &workload->config, &start->ids, err);
    }
    if (r == 0 && start->request.mode == NETWORK_MODE_BRIDGED) {
        r = network_reserve(start->host, workload->id, &start->request, &start->lease, err);
    }
    return r < 0 ? r : db_commit(&tx, err);
}

static int write_text(const char *dir, const char *name, const struct buf *text, struct err *err)
{
    AUTO(closep) int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r = fd < 0 ? -errno
                   : replace_file_at(fd, name, text->data != NULL ? text->data : "", text->len,
                                     0644, false);
    return r < 0 ? err_set(err, -r, "write '%s/%s'", dir, name) : 0;
}

static struct network_names names_of(const struct start *start)
{
    return workload_network_names(&start->workload, start->hostname);
}

static int write_files(struct start *start, struct err *err)
{
    const struct network_names names = names_of(start);
    AUTO(buf_donep) struct buf resolv = {0};
    AUTO(buf_donep) struct buf hosts = {0};
    AUTO(buf_donep) struct buf hostname = {0};
    int r = network_make_files(&start->request, &start->lease, &names, RESOLV_CONF, &resolv, &hosts,
                               &hostname, err);
    if (r == 0) {
        r = write_text(start->root_dir, "resolv.conf", &resolv, err);
    }
    if (r == 0) {
        r = write_text(start->root_dir, "hosts", &hosts, err);
    }
    return r < 0 ? r : write_text(start->root_dir, "hostname", &hostname, err);
}

/* Anonymous volumes got their names when the workload was created. */
static int name_anonymous(struct start *start, struct err *err)
{
    for (size_t i = 0; i < start->mounts.count; i++) {
        struct mount_spec *mount = &start->mounts.items[i];
        if (mount->type == MOUNT_VOLUME && mount->source == NULL) {
            const char *name = env_get(&start->workload.config.anonymous_volume, mount->target);
            mount->source = name != NULL ? strdup(name) : NULL;
            if (mount->source == NULL) {
                return err_say(err, ENOENT, "the volume of '%s' is not known", mount->target);
            }
        }
    }
    return 0;
}

/* An ordinary user's workload has only the ids that his user namespace maps. */
static int check_ids(const struct start *start, struct err *err)
{
    const struct user *user = &start->user;
    unsigned last_uid = user_namespace_last_id("uid_map");
    unsigned last_gid = user_namespace_last_id("gid_map");
    unsigned bad = user->uid > last_uid ? user->uid : user->gid;
    if (user->uid <= last_uid && user->gid <= last_gid) {
        return 0;
    }
    (void)err_say(err, EINVAL, "user '%s': id %u is not among your own ids, which end with %u",
                  start->workload.config.user != NULL ? start->workload.config.user : "root", bad,
                  user->uid > last_uid ? last_uid : last_gid);
    err_hint(err, "give yourself more, as root: usermod --add-subuids 100000-165535 "
                  "--add-subgids 100000-165535 NAME");
    return -EINVAL;
}

/* What would be taken and not kept. */
static int check_rootless(const struct start *start, struct err *err)
{
    if (start->workload.config.device_cgroup_rule.count > 0) {
        return err_say(err, EPERM, "--device-cgroup-rule: device rules need root");
    }
    return check_ids(start, err);
}

static int check_own_ids(const struct start *start, struct err *err)
{
    const struct user *user = &start->user;
    if (user->uid < start->ids.size && user->gid < start->ids.size) {
        return 0;
    }
    return err_say(err, EINVAL, "user '%s': id %u is not among the %u ids of --userns %s",
                   start->workload.config.user != NULL ? start->workload.config.user : "root",
                   user->uid < start->ids.size ? user->gid : user->uid, start->ids.size,
                   start->workload.config.userns);
}

/*
 * The root file system with the ids on disk, and what is taken from it; for a user namespace then
 * once more with the workload's ids.
 */
static int map_rootfs(struct start *start, struct rootfs_options *rootfs, struct err *err)
{
    AUTO(closep) int ids = id_range_namespace(&start->ids, err);
    if (ids < 0) {
        return err_wrap(err, -ids, "--userns %s", start->workload.config.userns);
    }
    start->rootfs_fd = close_fd(start->rootfs_fd);
    rootfs->id_map_fd = ids;
    rootfs->view = false;
    start->rootfs_fd = rootfs_mount(rootfs, err);
    return start->rootfs_fd < 0 ? start->rootfs_fd : check_own_ids(start, err);
}

static int prepare_storage(struct start *start, struct err *err)
{
    const struct workload_config *config = &start->workload.config;
    AUTO(freep) char *upper = str_printf("%s/upper", start->root_dir);
    AUTO(freep) char *work = str_printf("%s/work", start->root_dir);
    if (upper == NULL || work == NULL) {
        return err_set(err, ENOMEM, "root file system");
    }
    struct rootfs_options rootfs = {
        .id_map_fd = -1,
        .base = start->engine->dirs.root,
        .layers = &config->layers,
        .upper = upper,
        .work = work,
        .throw_away = config->rm,
        .view = start->ids.size > 0,
    };
    start->rootfs_fd = rootfs_mount(&rootfs, err);
    if (start->rootfs_fd < 0) {
        return start->rootfs_fd;
    }
    int r = mount_specs_parse(config, &start->mounts, err);
    if (r == 0) {
        r = name_anonymous(start, err);
    }
    if (r == 0) {
        r = volume_prepare(start->engine, &start->mounts, start->rootfs_fd, err);
    }
    if (r == 0) {
        r = user_resolve(start->rootfs_fd, config->user, &config->group_add, &start->user, err);
    }
    if (r == 0 && start->ids.size > 0) {
        r = map_rootfs(start, &rootfs, err);
    }
    return r == 0 && start->host->rootless ? check_rootless(start, err) : r;
}

/* An ordinary user's workload is a scope of his systemd manager, where there is one. */
static char *cgroup_of(const struct start *start)
{
    const char *parent = start->workload.config.cgroup_parent;
    return parent == NULL && start->host->rootless && container_has_user_scopes()
               ? str_printf("user.slice:isola:%s", start->workload.id)
               : str_printf("%s/%s", parent != NULL ? parent : "/isola", start->workload.id);
}

static int write_bundle(struct start *start, struct err *err)
{
    const struct workload_config *config = &start->workload.config;
    AUTO(freep) char *cgroup = cgroup_of(start);
    start->init_path = dirs_helper("isola-init");
    if (cgroup == NULL || start->init_path == NULL) {
        return err_set(err, ENOMEM, "bundle");
    }
    bool vm = vm_start_wanted(&start->workload);
    const struct bundle_inputs inputs = {
        .id = start->workload.id,
        .config = config,
        .mounts = &start->mounts,
        .user = &start->user,
        .files_dir = vm ? NULL : start->root_dir,
        .hostname = start->hostname,
        .rootless = start->host->rootless,
        .ids = &start->ids,
        .last_gid = start->host->rootless ? user_namespace_last_id("gid_map")
                    : start->ids.size > 0 ? start->ids.size - 1
                                          : UINT32_MAX - 1,
        .cgroup = cgroup,
        .init_path = vm ? VM_GUEST_INIT : start->init_path,
        .net_path = vm ? "" : start->namespaces.net,
        .ipc_path = start->namespaces.ipc,
        .pid_path = start->namespaces.pid,
        .user_path = start->namespaces.user,
        .uts_path = str_eq(config->uts, "host") ? "" : NULL,
        .apparmor = vm ? NULL : apparmor_profile(config),
        .host_cgroupns = str_eq(config->cgroupns, "host"),
        .shared = vm,
    };
    AUTO(json_unrefp) json_t *spec = NULL;
    int r =
        inputs.apparmor != NULL ? apparmor_load(inputs.apparmor, start->engine->dirs.run, err) : 0;
    r = r < 0 ? r : bundle_build(&inputs, &spec, err);
    if (r < 0) {
        return r;
    }
    AUTO(freep) char *text = json_dumps(spec, JSON_COMPACT);
    if (text == NULL) {
        return err_set(err, ENOMEM, "bundle");
    }
    const struct buf data = {.data = text, .len = strlen(text)};
    return write_text(start->run_dir, "config.json", &data, err);
}

static int prepare(struct start *start, const struct start_options *options, struct err *err)
{
    const struct workload_config *config = &start->workload.config;
    int r = engine_network(start->engine, &start->host, err);
    if (r == 0) {
        r = create_network_request(config, &start->request, err);
    }
    if (r == 0) {
        r = namespaces_resolve(start->engine, config, &start->request, &start->namespaces,
                               &start->ids, err);
    }
    if (r == 0) {
        r = reserve(start, options->restart, err);
    }
    if (r < 0) {
        return r;
    }
    workload_hostname(&start->workload, &start->request, start->hostname);
    r = mkdir_parents(start->run_dir, 0700);
    if (r < 0) {
        return err_set(err, -r, "make directory '%s'", start->run_dir);
    }
    r = write_files(start, err);
    if (r == 0) {
        r = prepare_storage(start, err);
    }
    r = r < 0 ? r : write_bundle(start, err);
    if (r == 0 && vm_start_wanted(&start->workload)) {
        r = vm_start_prepare(start->engine, &start->workload, &start->lease, start->root_dir,
                             start->run_dir, start->hostname, &start->mounts, err);
    }
    return r;
}

/* The shim's next packet; -EPIPE when the connection has ended. */
static ssize_t receive(int fd, void *packet, size_t size)
{
    ssize_t n;
    do {
        n = recv(fd, packet, size, 0);
    } while (n < 0 && errno == EINTR);
    return n < (ssize_t)sizeof(struct shim_message) ? -EPIPE : n;
}

static uint32_t roles_of(const struct start_options *options)
{
    return options->watch ? (unsigned)SHIM_WATCH | SHIM_INPUT | (options->reaper ? SHIM_REAPER : 0U)
                          : 0U;
}

static int send_start(int fd, const struct start_options *options)
{
    const struct shim_message messages[] = {
        {.type = SHIM_HELLO, .value = roles_of(options)},
        {.type = SHIM_START},
    };
    for (size_t i = 0; i < COUNT(messages); i++) {
        if (send(fd, &messages[i], sizeof(messages[i]), MSG_NOSIGNAL) < 0) {
            return -errno;
        }
    }
    return 0;
}

/* The worker of the shim was killed: the next one says how far the start has come. */
static int reconnect(struct start *start, const struct start_options *options, struct err *err)
{
    const struct shim_seen nothing = {{0}};
    start->control_fd = close_fd(start->control_fd);
    start->control_fd = shim_process_reconnect(start->engine, start->workload.id, -1, &start->shim,
                                               roles_of(options) | SHIM_STARTER, &nothing, NULL);
    return start->control_fd < 0
               ? err_say(err, EPIPE, "isola-shim died before the workload started")
               : 0;
}

/* Reads the shim's next word, which must be want. */
static int expect(struct start *start, const struct start_options *options, uint32_t want,
                  uint32_t *ret_value, struct err *err)
{
    char packet[sizeof(struct shim_message) + SHIM_DATA_MAX];
    struct shim_message message = {0};
    for (bool resumed = false;;) {
        ssize_t n = receive(start->control_fd, packet, sizeof(packet));
        if (n < 0) {
            int r = reconnect(start, options, err);
            if (r < 0) {
                return r;
            }
            resumed = true;
            continue;
        }
        memcpy(&message, packet, sizeof(message));
        *ret_value = message.value;
        if (message.type == want) {
            return 0;
        }
        if (message.type == SHIM_FAILED && (size_t)n == sizeof(message) + sizeof(*err)) {
            struct err theirs;
            memcpy(&theirs, packet + sizeof(message), sizeof(theirs));
            theirs.text[sizeof(theirs.text) - 1] = '\0';
            return err_say(err, theirs.code > 0 ? theirs.code : EIO, "%s", theirs.text);
        }
        if (resumed && message.type == SHIM_EXITED) {
            continue; /* told to all; what it means for the start comes as answer to us */
        }
        if (message.type == SHIM_EXITED) {
            return err_say(err, ECHILD, "the first process ended before its start (exit code %u)",
                           message.value);
        }
        if (message.type != SHIM_CREATED || want != SHIM_STARTED) {
            return err_say(err, EPROTO, "isola-shim said %u instead of %u", message.type, want);
        }
        /* The worker that was killed may not have read it. */
        (void)send_start(start->control_fd, options);
    }
}

static int attach_network(struct start *start, pid_t pid, struct err *err)
{
    if (start->namespaces.net != NULL) {
        return 0;
    }
    if (vm_start_wanted(&start->workload)) {
        return network_attach_taps(start->host, &start->lease, err);
    }
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
    AUTO(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return err_set(err, errno, "open '%s'", path);
    }
    /* Only now is it sure whose it is: a pid may be given again. */
    struct workload_status status;
    AUTO(closep) int dir = open(start->run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r = dir < 0 ? -errno : status_read(dir, &status);
    if (r < 0 || status.pid != pid || !process_is_alive(pid, status.pid_start)) {
        return err_say(err, ESRCH, "the workload's first process died before its start");
    }
    return network_attach(start->host, &start->lease, fd, err);
}

static int launch(struct start *start, const struct start_options *options, int *exit_code,
                  struct err *err)
{
    const struct network_names names = names_of(start);
    uint32_t value = 0;
    int r = workload_write_dns(start->host, &start->lease, &names, start->run_dir, err);
    if (r == 0) {
        const struct shim_process process = {
            .engine = start->engine,
            .workload = &start->workload,
            .run_dir = start->run_dir,
            .log_dir = str_eq(start->workload.config.log_driver, "none") ? NULL : start->root_dir,
            .rootfs_fd = start->rootfs_fd,
        };
        start->control_fd = shim_process_spawn(&process, &start->shim, err);
        r = start->control_fd < 0 ? start->control_fd : 0;
    }
    if (r == 0) {
        r = expect(start, options, SHIM_CREATED, &value, err);
        *exit_code = r < 0 && value != 0 ? (int)value : *exit_code;
    }
    if (r == 0) {
        start->workload.run.pid = (int64_t)value;
        r = attach_network(start, (pid_t)value, err);
    }
    if (r == 0) {
        /* If the connection is broken expect() makes a new one and says it again. */
        (void)send_start(start->control_fd, options);
        r = expect(start, options, SHIM_STARTED, &value, err);
        *exit_code = r < 0 && value != 0 ? (int)value : *exit_code;
    }
    return r;
}

static int note_start(struct start *start, struct err *err)
{
    struct workload *workload = &start->workload;
    AUTO(db_tx_donep) struct db_tx tx = {0};
    AUTO(strv_donep) struct strv attributes = {0};
    (void)strv_addf(&attributes, "image=%s", workload->config.image);
    (void)strv_addf(&attributes, "name=%s", workload->name);
    workload->state = WORKLOAD_RUNNING;
    workload->run = (struct workload_run){
        .started_ns = clock_realtime_ns(),
        .pid = workload->run.pid,
        .restarts = workload->run.restarts,
        .json = workload->run.json,
    };
    int r = db_begin(start->engine->db, &tx, err);
    if (r == 0) {
        r = workload_save(start->engine, workload, err);
    }
    if (r == 0) {
        r = event_add(start->engine->db, "container", "start", workload->id, &attributes, err);
    }
    return r < 0 ? r : db_commit(&tx, err);
}

/*
 * After a failure: nothing of the attempt is left but the row, which says why. A workload that ran
 * before is again what its last run left, exit code included.
 */
static void undo(struct start *start, int exit_code, const struct err *why)
{
    struct workload *workload = &start->workload;
    struct engine *engine = start->engine;
    start->control_fd = close_fd(start->control_fd);
    end_clean_up(engine, workload->id);
    int64_t restarts = workload->run.restarts;
    workload->run = start->before;
    workload->run.restarts = restarts;
    workload->run.error = err_text(why);
    workload->run.pid = 0;
    if (workload->run.started_ns == 0) {
        workload->state = WORKLOAD_CREATED;
        workload->run.exit_code = exit_code;
    } else {
        workload->state = WORKLOAD_EXITED;
    }
    (void)workload_save(engine, workload, NULL);
    workload->run.error = NULL;
}

static int load(struct start *start, const char *id, struct err *err)
{
    struct workload *workload = &start->workload;
    int r = workload_load(start->engine, id, workload, err);
    if (r < 0) {
        return r;
    }
    bool alive = workload_status_alive(&workload->status);
    if (alive && (workload->state == WORKLOAD_RUNNING || workload->state == WORKLOAD_PAUSED)) {
        return err_say(err, EALREADY, "workload '%s' already runs", workload->name);
    }
    /* A start that was cut short, or an end that nobody noted: what it left goes first. */
    if (workload->state != WORKLOAD_CREATED && workload->state != WORKLOAD_EXITED) {
        end_clean_up(start->engine, id);
    } else {
        end_remove_run_dir(start->engine, id); /* of a run whose end was cut short */
    }
    start->before = workload->run;
    start->root_dir = workload_root_path(start->engine, id, NULL);
    start->run_dir = workload_run_path(start->engine, id, NULL);
    return start->root_dir == NULL || start->run_dir == NULL ? err_set(err, ENOMEM, "start") : 0;
}

int start_workload(struct engine *engine, const char *id, const struct start_options *options,
                   int *ret_control, int *ret_exit_code, struct err *err)
{
    AUTO(start_donep) struct start start = {.engine = engine, .rootfs_fd = -1, .control_fd = -1};
    int exit_code = 125;
    AUTO(closep) int lock = workload_lock(engine, id, err);
    if (lock < 0) {
        return lock;
    }
    int r = load(&start, id, err);
    if (r < 0) {
        return r;
    }
    r = prepare(&start, options, err);
    if (r == 0) {
        r = launch(&start, options, &exit_code, err);
    }
    if (r == 0) {
        r = note_start(&start, err);
    }
    if (r < 0) {
        (void)err_wrap(err, -r, "start '%s'", start.workload.name);
        undo(&start, exit_code, err);
        if (ret_exit_code != NULL) {
            *ret_exit_code = exit_code;
        }
        return r;
    }
    if (ret_control != NULL) {
        *ret_control = options->watch ? TAKE_FD(start.control_fd) : -1;
    }
    return 0;
}
