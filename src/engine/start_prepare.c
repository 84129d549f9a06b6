/* Everything that a start needs before its first process is made. */
#include "engine/start_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/path.h"
#include "base/str.h"
#include "base/user_namespace.h"
#include "container/container.h"
#include "engine/apparmor.h"
#include "engine/bundle.h"
#include "engine/create.h"
#include "engine/emulator.h"
#include "engine/rootfs.h"
#include "engine/vm_start.h"
#include "engine/volume.h"
#include "image/platform.h"

void start_done(struct start *start)
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
    free(start->emulator_path);
    namespaces_done(&start->namespaces);
}

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

struct network_names start_names(const struct start *start)
{
    return workload_network_names(&start->workload, start->hostname);
}

static int write_files(struct start *start, struct err *err)
{
    const struct network_names names = start_names(start);
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

/* 1: of another CPU, that is emulated; 0, or a negative errno. */
static int is_foreign(const struct workload_config *config, struct err *err)
{
    struct platform platform;
    struct platform host;
    if (config->platform == NULL) {
        return 0;
    }
    int r = platform_parse(config->platform, &platform, err);
    platform_host(&host);
    return r < 0                                                                          ? r
           : platform_match(&host, &platform) == 0 && emulator_has(platform.architecture) ? 1
                                                                                          : 0;
}

static int write_bundle(struct start *start, struct err *err)
{
    const struct workload_config *config = &start->workload.config;
    AUTO(freep) char *cgroup = cgroup_of(start);
    start->init_path = dirs_helper("isola-init");
    int foreign = is_foreign(config, err);
    if (foreign < 0) {
        return foreign;
    }
    start->emulator_path = foreign > 0 ? dirs_helper(EMULATOR_PROGRAM) : NULL;
    if (cgroup == NULL || start->init_path == NULL ||
        (foreign > 0 && start->emulator_path == NULL)) {
        return err_set(err, ENOMEM, "bundle");
    }
    bool vm = vm_start_wanted(&start->workload);
    if (vm && foreign > 0) {
        return err_say(err, EOPNOTSUPP,
                       "programs for %s are emulated behind the container wall only: leave "
                       "--isolation vm out",
                       config->platform);
    }
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
        .emulator = start->emulator_path,
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

static int prepare_machine(const struct start *start, bool idle, struct err *err)
{
    const struct vm_start_inputs inputs = {
        .engine = start->engine,
        .workload = &start->workload,
        .lease = &start->lease,
        .root_dir = start->root_dir,
        .run_dir = start->run_dir,
        .hostname = start->hostname,
        .mounts = &start->mounts,
        .idle = idle,
    };
    return vm_start_prepare(&inputs, err);
}

int start_prepare(struct start *start, bool restart, struct err *err)
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
        r = reserve(start, restart, err);
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
        r = prepare_machine(start, false, err);
    }
    return r;
}

int start_prepare_idle(struct start *start, struct err *err)
{
    int r = engine_network(start->engine, &start->host, err);
    r = r < 0 ? r : mkdir_parents(start->run_dir, 0700);
    if (r < 0) {
        return err->code != 0 ? r : err_set(err, -r, "make directory '%s'", start->run_dir);
    }
    (void)snprintf(start->hostname, sizeof(start->hostname), "%.12s", start->workload.id);
    r = prepare_storage(start, err);
    r = r < 0 ? r : write_bundle(start, err);
    return r < 0 ? r : prepare_machine(start, true, err);
}

int start_find_dirs(struct start *start, struct err *err)
{
    start->root_dir = workload_root_path(start->engine, start->workload.id, NULL);
    start->run_dir = workload_run_path(start->engine, start->workload.id, NULL);
    return start->root_dir == NULL || start->run_dir == NULL ? err_set(err, ENOMEM, "start") : 0;
}
