#include "engine/create.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/process.h"
#include "base/user_namespace.h"
#include "engine/bundle.h"
#include "engine/event.h"
#include "engine/id_range.h"
#include "engine/mount_spec.h"
#include "engine/vm_bundle.h"
#include "engine/volume.h"
#include "image/image.h"
#include "image/store.h"
#include "wall/vm.h"
#include "wall/wall.h"

#define LINES_FILE_MAX ((size_t)1 << 20)
#define NAME_TRIES 16

int create_restart_policy(const char *text, struct restart_policy *ret, struct err *err)
{
    *ret = (struct restart_policy){0};
    if (text == NULL || text[0] == '\0' || str_eq(text, "no")) {
        return 0;
    }
    if (str_eq(text, "always")) {
        ret->kind = RESTART_ALWAYS;
        return 0;
    }
    if (str_eq(text, "unless-stopped")) {
        ret->kind = RESTART_UNLESS_STOPPED;
        return 0;
    }
    if (str_starts(text, "on-failure")) {
        const char *rest = text + strlen("on-failure");
        ret->kind = RESTART_ON_FAILURE;
        if (*rest == '\0' ||
            (*rest == ':' && parse_i64(rest + 1, &ret->max) == 0 && ret->max >= 0)) {
            return 0;
        }
    }
    return err_say(err, EINVAL,
                   "--restart '%s' is not no, on-failure[:N], always or unless-stopped", text);
}

/* One line a NAME=VALUE; '#' starts a comment; NAME alone takes the value from our environment. */
static int add_file_lines(const char *path, struct strv *ret, struct err *err)
{
    AUTO(buf_donep) struct buf text = {0};
    AUTO(strv_donep) struct strv lines = {0};
    int r = read_file(path, LINES_FILE_MAX, &text);
    if (r == 0) {
        r = strv_split(&lines, text.data != NULL ? text.data : "", "\r\n");
    }
    if (r < 0) {
        return err_set(err, -r, "read '%s'", path);
    }
    for (size_t i = 0; r == 0 && i < lines.count; i++) {
        const char *line = lines.items[i] + strspn(lines.items[i], " \t");
        if (line[0] != '#' && line[0] != '\0') {
            r = strv_add(ret, line);
        }
    }
    return r;
}

/* Image, files, options: later ones win. A bare NAME takes our own value, or removes nothing. */
static int merge_env(struct workload_config *config, const struct strv *image_env, struct err *err)
{
    AUTO(strv_donep) struct strv asked = {0};
    AUTO(strv_donep) struct strv env = {0};
    int r = strv_copy(image_env, &env);
    for (size_t i = 0; r == 0 && i < config->env_file.count; i++) {
        r = add_file_lines(config->env_file.items[i], &asked, err);
    }
    if (r == 0) {
        r = strv_copy(&config->env, &asked);
    }
    for (size_t i = 0; r == 0 && i < asked.count; i++) {
        const char *item = asked.items[i];
        if (item[0] == '=' || item[0] == '\0') {
            return err_say(err, EINVAL, "environment '%s' has no name", item);
        }
        if (strchr(item, '=') != NULL) {
            r = env_set(&env, item);
            continue;
        }
        const char *value = getenv(item);
        AUTO(freep) char *pair = value != NULL ? str_printf("%s=%s", item, value) : NULL;
        r = pair != NULL ? env_set(&env, pair) : 0;
    }
    if (r < 0) {
        return err_wrap(err, -r, "environment");
    }
    strv_done(&config->env);
    config->env = env;
    env = (struct strv){0};
    return 0;
}

static int merge_labels(struct workload_config *config, const struct strv *image_labels,
                        struct err *err)
{
    AUTO(strv_donep) struct strv labels = {0};
    AUTO(strv_donep) struct strv asked = {0};
    int r = strv_copy(image_labels, &labels);
    for (size_t i = 0; r == 0 && i < config->label_file.count; i++) {
        r = add_file_lines(config->label_file.items[i], &asked, err);
    }
    if (r == 0) {
        r = strv_copy(&config->label, &asked);
    }
    for (size_t i = 0; r == 0 && i < asked.count; i++) {
        bool bare = strchr(asked.items[i], '=') == NULL;
        AUTO(freep) char *pair = str_printf("%s%s", asked.items[i], bare ? "=" : "");
        r = pair == NULL ? -ENOMEM : env_set(&labels, pair);
    }
    if (r < 0) {
        return err_wrap(err, -r, "labels");
    }
    strv_done(&config->label);
    config->label = labels;
    labels = (struct strv){0};
    return 0;
}

/* Docker's rule: a replaced entry point also drops the image's command. */
static int merge_args(struct workload_config *config, const struct image_config *image,
                      struct err *err)
{
    int r = 0;
    strv_done(&config->args);
    if (config->entrypoint_set) {
        r = config->entrypoint[0] != '\0' ? strv_add(&config->args, config->entrypoint) : 0;
    } else {
        r = strv_copy(&image->entrypoint, &config->args);
    }
    config->entry_count = (int64_t)config->args.count;
    if (r == 0 && config->command.count > 0) {
        r = strv_copy(&config->command, &config->args);
    } else if (r == 0 && !config->entrypoint_set) {
        r = strv_copy(&image->cmd, &config->args);
    }
    if (r < 0) {
        return err_set(err, -r, "command");
    }
    if (config->args.count == 0) {
        return err_say(err, EINVAL, "image '%s' names no command; give one: isola run %s COMMAND",
                       config->image, config->image);
    }
    return 0;
}

static int merge_health(struct workload_config *config, const struct image_health *image,
                        struct err *err)
{
    int r = 0;
    if (config->no_healthcheck) {
        if (config->health_cmd != NULL) {
            return err_say(err, EINVAL, "--no-healthcheck cannot go with --health-cmd");
        }
        return 0;
    }
    if (config->health_cmd != NULL) {
        r = strv_add(&config->health_test, "CMD-SHELL");
        r = r == 0 ? strv_add(&config->health_test, config->health_cmd) : r;
    } else if (image->given && image->test.count > 1) {
        r = strv_copy(&image->test, &config->health_test);
    }
    if (config->health_interval == 0) {
        config->health_interval = (uint64_t)MAX(image->interval_ns, (int64_t)0);
    }
    if (config->health_timeout == 0) {
        config->health_timeout = (uint64_t)MAX(image->timeout_ns, (int64_t)0);
    }
    if (config->health_start_period == 0) {
        config->health_start_period = (uint64_t)MAX(image->start_period_ns, (int64_t)0);
    }
    if (config->health_retries == 0) {
        config->health_retries = image->retries;
    }
    return r < 0 ? err_set(err, -r, "health check") : 0;
}

static int merge(struct workload_config *config, const struct image *image, struct err *err)
{
    int r = merge_args(config, &image->config, err);
    if (r == 0) {
        r = merge_env(config, &image->config.env, err);
    }
    if (r == 0) {
        r = merge_labels(config, &image->config.labels, err);
    }
    if (r == 0) {
        r = merge_health(config, &image->config.health, err);
    }
    if (r < 0) {
        return r;
    }
    config->image_id = image->id;
    if (config->user == NULL) {
        config->user = image->config.user;
    }
    if (config->workdir == NULL && image->config.workdir[0] != '\0') {
        config->workdir = image->config.workdir;
    }
    if (config->stop_signal == NULL && image->config.stop_signal[0] != '\0') {
        config->stop_signal = image->config.stop_signal;
    }
    r = strv_copy(&image->config.volumes, &config->image_volume);
    if (r == 0) {
        r = strv_copy(&image->config.ports, &config->expose);
    }
    if (r == 0) {
        r = strv_copy(&image->layers, &config->layers);
    }
    return r < 0 ? err_set(err, -r, "image '%s'", config->image) : 0;
}

int create_network_request(const struct workload_config *config, struct network_request *ret,
                           struct err *err)
{
    AUTO(network_request_donep) struct network_request request = {0};
    int r = 0;
    for (size_t i = 0; r == 0 && i < config->network.count; i++) {
        r = network_request_add(&request, config->network.items[i], err);
    }
    if (r == 0) {
        r = network_request_set(&request, config->ip, config->ip6, config->mac_address,
                                &config->network_alias, err);
    }
    for (size_t i = 0; r == 0 && i < config->publish.count; i++) {
        r = port_parse_publish(config->publish.items[i], &request.ports, err);
    }
    for (size_t i = 0; r == 0 && i < config->expose.count; i++) {
        r = port_parse_expose(config->expose.items[i], &request.exposed, err);
    }
    request.publish_all = config->publish_all;
    if (r == 0) {
        r = network_request_check(&request, err);
    }
    if (r < 0) {
        return r;
    }
    *ret = request;
    request = (struct network_request){0};
    return 0;
}

static int check_log_options(const struct workload_config *config, struct err *err)
{
    if (config->log_driver != NULL && !str_eq(config->log_driver, "k8s-file") &&
        !str_eq(config->log_driver, "json-file") && !str_eq(config->log_driver, "local") &&
        !str_eq(config->log_driver, "none")) {
        return err_say(err, EINVAL, "--log-driver '%s' is not k8s-file or none",
                       config->log_driver);
    }
    for (size_t i = 0; i < config->log_opt.count; i++) {
        const char *option = config->log_opt.items[i];
        uint64_t value;
        int r = -ENOENT;
        if (str_starts(option, "max-size=")) {
            r = parse_size(option + strlen("max-size="), &value);
        } else if (str_starts(option, "max-file=")) {
            r = parse_u64(option + strlen("max-file="), 10, &value);
            r = r == 0 && (value < 1 || value > 1000) ? -ERANGE : r;
        }
        if (r < 0) {
            return err_say(err, EINVAL, "--log-opt '%s' is not max-size=SIZE or max-file=N",
                           option);
        }
    }
    return 0;
}

/* What only one of the walls has, and what the other needs. */
static int check_wall(const struct wall *wall, const struct workload_config *config,
                      struct err *err)
{
    if (wall != &vm_wall) {
        return config->kernel == NULL ? 0
                                      : err_say(err, EINVAL,
                                                "--kernel needs --isolation vm: a container has "
                                                "the host's kernel");
    }
    if (!user_is_host_root()) {
        (void)err_say(
            err, EPERM,
            "--isolation vm needs root: what an ordinary user has of networks and cgroups "
            "does not reach into a machine");
        err_hint(err, "run it as root, or without the engine: isola machine run");
        return -EPERM;
    }
    return vm_bundle_check(config, err);
}

/* Everything that a later start would refuse, refused now. */
static int check(const struct workload_config *config, struct mount_specs *ret_mounts,
                 struct err *err)
{
    const struct wall *wall;
    struct restart_policy policy;
    AUTO(network_request_donep) struct network_request request = {0};
    AUTO(strv_donep) struct strv capabilities = {0};
    if (config->name != NULL && !name_is_safe(config->name)) {
        return err_say(
            err, EINVAL,
            "--name '%s' must start with a letter or digit and hold only [a-zA-Z0-9_.+-]",
            config->name);
    }
    if (config->stop_signal != NULL && signal_from_name(config->stop_signal) < 0) {
        return err_say(err, EINVAL, "stop signal '%s' is not known", config->stop_signal);
    }
    if (config->workdir != NULL && config->workdir[0] != '/') {
        return err_say(err, EINVAL, "working directory '%s' is not an absolute path",
                       config->workdir);
    }
    int r = config_check_text(config, err);
    if (r == 0) {
        r = id_range_check(config, !user_is_host_root(), err);
    }
    if (r == 0) {
        r = wall_find(config->isolation, &wall, err);
    }
    if (r == 0) {
        r = check_wall(wall, config, err);
    }
    if (r == 0) {
        r = create_restart_policy(config->restart, &policy, err);
    }
    if (r == 0 && policy.kind != RESTART_NO && config->rm) {
        r = err_say(err, EINVAL, "--rm cannot go with --restart");
    }
    if (r == 0) {
        r = check_log_options(config, err);
    }
    if (r == 0) {
        r = create_network_request(config, &request, err);
    }
    if (r == 0) {
        r = bundle_capabilities(config, &capabilities, err);
    }
    r = r < 0 ? r : mount_specs_parse(config, ret_mounts, err);
    return r < 0 || wall != &vm_wall ? r : vm_shares_check(ret_mounts, err);
}

/* The names that anonymous volumes got, so that the next start finds them again. */
static int note_anonymous(struct workload_config *config, const struct mount_specs *before,
                          const struct mount_specs *after)
{
    for (size_t i = 0; i < before->count; i++) {
        if (before->items[i].type == MOUNT_VOLUME && before->items[i].source == NULL) {
            int r = strv_addf(&config->anonymous_volume, "%s=%s", after->items[i].target,
                              after->items[i].source);
            if (r < 0) {
                return r;
            }
        }
    }
    return 0;
}

static int insert(struct engine *engine, struct workload *workload, struct mount_specs *mounts,
                  const struct mount_specs *as_asked, struct err *err)
{
    AUTO(db_tx_donep) struct db_tx tx = {0};
    AUTO(strv_donep) struct strv attributes = {0};
    int r = db_begin(engine->db, &tx, err);
    if (r == 0) {
        r = workload_insert(engine, workload, err);
    }
    if (r == 0) {
        r = volume_claim(engine, workload->id, mounts, err);
    }
    if (r == 0 && note_anonymous(&workload->config, as_asked, mounts) < 0) {
        r = err_set(err, ENOMEM, "name volumes");
    }
    if (r == 0 && workload->config.anonymous_volume.count > 0) {
        r = workload_save_config(engine, workload, err);
    }
    if (r == 0) {
        (void)strv_addf(&attributes, "image=%s", workload->config.image);
        (void)strv_addf(&attributes, "name=%s", workload->name);
        r = event_add(engine->db, "container", "create", workload->id, &attributes, err);
    }
    return r < 0 ? r : db_commit(&tx, err);
}

/* With the user's name once, with random ones until one is free. */
static int insert_named(struct engine *engine, struct workload *workload,
                        struct mount_specs *mounts, struct err *err)
{
    AUTO(mount_specs_donep) struct mount_specs as_asked = {0};
    int r = mount_specs_parse(&workload->config, &as_asked, err);
    if (r < 0) {
        return r;
    }
    for (int try = 0;; try++) {
        char name[64];
        workload_new_name(try, name, sizeof(name));
        const char *asked = workload->config.name;
        free(workload->name);
        workload->name = strdup(asked != NULL ? asked : name);
        if (workload->name == NULL) {
            return err_set(err, ENOMEM, "name the workload");
        }
        r = insert(engine, workload, mounts, &as_asked, err);
        if (r != -EEXIST || asked != NULL || try >= NAME_TRIES) {
            return r;
        }
    }
}

/* A file's path is kept as it is from everywhere. *ret is the caller's, for config to borrow. */
static int find_kernel(struct workload_config *config, char **ret, struct err *err)
{
    struct stat st;
    if (config->kernel == NULL || strchr(config->kernel, '/') == NULL) {
        return 0;
    }
    AUTO(freep) char *path = realpath(config->kernel, NULL);
    if (path == NULL || stat(path, &st) < 0) {
        return err_set(err, errno, "--kernel '%s'", config->kernel);
    }
    if (!S_ISREG(st.st_mode)) {
        return err_say(err, EINVAL, "--kernel '%s' is not a file", config->kernel);
    }
    config->kernel = path;
    *ret = TAKE_PTR(path);
    return 0;
}

int create_workload(struct engine *engine, struct workload_config *config,
                    char ret_id[WORKLOAD_ID_SIZE], struct err *err)
{
    AUTO(image_donep) struct image image = {0};
    AUTO(mount_specs_donep) struct mount_specs mounts = {0};
    struct image_store *store;
    struct platform platform;
    struct platform host;
    char shown[PLATFORM_TEXT_SIZE];
    AUTO(freep) char *kernel = NULL;
    int r = engine_store(engine, &store, err);
    if (r == 0 && config->platform != NULL) {
        r = platform_parse(config->platform, &platform, err);
    }
    if (r == 0) {
        r = image_resolve(store, config->image, config->platform != NULL ? &platform : NULL, &image,
                          err);
    }
    if (r == 0) {
        r = merge(config, &image, err);
    }
    if (r == 0) {
        r = check(config, &mounts, err);
    }
    r = r < 0 ? r : find_kernel(config, &kernel, err);
    if (r < 0) {
        return r;
    }
    struct workload workload = {
        .state = WORKLOAD_CREATED, .created_ns = clock_realtime_ns(), .config = *config};
    /* One that was asked for without is of the platform that its image is. */
    platform_host(&host);
    if (config->platform == NULL && platform_match(&host, &image.platform) == 0) {
        platform_format(&image.platform, shown);
        workload.config.platform = shown;
    }
    if (workload_new_id(workload.id) < 0) {
        return err_set(err, EIO, "make an id");
    }
    /* Until the row is there: else `system check` would take the directory and the pin for left. */
    AUTO(closep) int lock = workload_lock(engine, workload.id, err);
    if (lock < 0) {
        return lock;
    }
    AUTO(freep) char *dir = workload_root_path(engine, workload.id, NULL);
    r = dir == NULL ? -ENOMEM : mkdir_parents(dir, 0710);
    if (r < 0) {
        return err_set(err, -r, "make directory '%s'", dir);
    }
    r = image_pin(store, workload.id, image.id, err);
    if (r == 0) {
        r = insert_named(engine, &workload, &mounts, err);
    }
    workload.config.platform = config->platform;
    *config = workload.config; /* the lists may have grown */
    config->kernel = kernel != NULL ? NULL : config->kernel;
    free(workload.name);
    if (r < 0) {
        (void)image_unpin(store, workload.id, NULL);
        (void)remove_tree_at(AT_FDCWD, dir);
        workload_remove_lock(engine, workload.id);
        return r;
    }
    /* What the image lent to config goes with it. */
    config->image_id = NULL;
    config->user = NULL;
    config->workdir = NULL;
    config->stop_signal = NULL;
    (void)snprintf(ret_id, WORKLOAD_ID_SIZE, "%s", workload.id);
    return 0;
}
