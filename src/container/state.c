#include "container/state.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/path.h"
#include "base/process.h"
#include "base/str.h"
#include "container/cgroup.h"
#include "container/rdt.h"

#define ID_LENGTH_MAX ((size_t)255)
#define STATE_SIZE_MAX ((size_t)1 << 20)

bool container_id_is_valid(const char *id)
{
    size_t len = strlen(id);
    if (len == 0 || len > ID_LENGTH_MAX) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        /* The first may not be a dot: no ".", no "..", none of our own hidden files. */
        if (!isalnum((unsigned char)id[i]) && strchr(i == 0 ? "_+-" : "_+.-", id[i]) == NULL) {
            return false;
        }
    }
    return true;
}

const char *container_status_name(enum container_status status)
{
    static const char *const names[] = {
        [CONTAINER_CREATING] = "creating", [CONTAINER_CREATED] = "created",
        [CONTAINER_RUNNING] = "running",   [CONTAINER_PAUSED] = "paused",
        [CONTAINER_STOPPED] = "stopped",
    };
    return names[status];
}

int state_open_root(const char *root, bool make, struct err *err)
{
    int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && make) {
        int r = mkdir_parents(root, 0711);
        fd = r < 0 ? -1 : open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    return fd < 0 ? err_set(err, errno, "open state directory '%s'", root) : fd;
}

int state_make(int root_fd, const char *id, struct err *err)
{
    if (!container_id_is_valid(id)) {
        return err_say(err, EINVAL,
                       "container id '%s': must be letters, digits, '_', '+', '-' and '.', not "
                       "starting with '.'",
                       id);
    }
    if (mkdirat(root_fd, id, 0700) < 0) {
        return errno == EEXIST ? err_say(err, EEXIST, "container '%s' exists already", id)
                               : err_set(err, errno, "make the state of container '%s'", id);
    }
    int fd = openat(root_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_set(err, errno, "open the state of container '%s'", id) : fd;
}

static json_t *annotations_json(const struct spec *spec)
{
    json_t *annotations = json_object_get(spec->json, "annotations");
    return annotations != NULL ? json_incref(annotations) : json_object();
}

int state_write(int dir_fd, const struct state_record *record, struct err *err)
{
    const struct rdt_group *rdt = record->rdt;
    AUTO(json_unrefp)
    json_t *json = json_pack(
        "{s:s, s:s, s:i, s:I, s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:o, s:s*, s:b, s:s*, s:b, s:b}",
        "ociVersion", SPEC_VERSION, "id", record->id, "pid", (int)record->pid, "startTime",
        (json_int_t)record->start_time, "bundle", record->bundle, "rootfs", record->rootfs,
        "cgroup", record->cgroup, "cgroupNames",
        record->cgroup_names != NULL ? record->cgroup_names : "", "poststop",
        record->spec->hooks[SPEC_HOOK_POSTSTOP].count > 0, "createdNs",
        (json_int_t)record->created_ns, "uid", (json_int_t)geteuid(), "annotations",
        annotations_json(record->spec), "systemdUnit", record->systemd_unit, "systemdUser",
        record->systemd_user, "rdtGroup", rdt != NULL ? rdt->name : NULL, "rdtMade",
        rdt != NULL && rdt->made, "rdtMonitored", rdt != NULL && rdt->monitored);
    AUTO(freep) char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    if (text == NULL) {
        return err_set(err, ENOMEM, "write the state");
    }
    int r = replace_file_at(dir_fd, "state.json", text, strlen(text), 0600, false);
    return r < 0 ? err_set(err, -r, "write state.json into the state directory (--root)") : 0;
}

int state_write_config(int dir_fd, const struct spec *spec, struct err *err)
{
    /* Complete before state.json names the container: nobody can read half of it. */
    AUTO(closep)
    int fd = openat(dir_fd, "config.json", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int r = fd < 0 ? -errno : write_full(fd, spec->text, spec->text_len);
    return r < 0 ? err_set(err, -r, "write config.json into the state directory (--root)") : 0;
}

static int take_string(const json_t *json, const char *key, char **ret)
{
    const char *text = json_string_value(json_object_get(json, key));
    *ret = strdup(text != NULL ? text : "");
    return *ret == NULL ? -ENOMEM : 0;
}

int state_cgroup(const struct container_state *state, struct cgroup *cgroup, struct err *err)
{
    const char *names = json_string_value(json_object_get(state->json, "cgroupNames"));
    return cgroup_init_known(cgroup, state->cgroup, names, err);
}

static enum container_status find_status(int dir_fd, const struct container_state *state)
{
    if (!process_is_alive(state->pid, state->start_time)) {
        return CONTAINER_STOPPED;
    }
    if (faccessat(dir_fd, STATE_SOCKET, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        return CONTAINER_CREATED;
    }
    struct cgroup cgroup;
    if (state_cgroup(state, &cgroup, NULL) == 0 && cgroup_is_frozen(&cgroup)) {
        return CONTAINER_PAUSED;
    }
    return CONTAINER_RUNNING;
}

static int fill(int dir_fd, const char *id, struct container_state *state, struct err *err)
{
    state->id = strdup(id);
    int r = json_load_at(dir_fd, "state.json", STATE_SIZE_MAX, &state->json, NULL);
    if (r == -ENOENT) {
        /* Somebody is at it, or died at it. */
        state->status = CONTAINER_CREATING;
        state->bundle = strdup("");
        state->rootfs = strdup("");
        state->owner = strdup("");
        state->cgroup = strdup("");
        return 0;
    }
    if (r < 0) {
        return err_set(err, -r, "read the state of container '%s'", id);
    }
    const json_t *json = state->json;
    state->pid = (pid_t)json_integer_value(json_object_get(json, "pid"));
    state->start_time = (uint64_t)json_integer_value(json_object_get(json, "startTime"));
    state->created_ns = json_integer_value(json_object_get(json, "createdNs"));
    r = take_string(json, "bundle", &state->bundle);
    r = r < 0 ? r : take_string(json, "rootfs", &state->rootfs);
    r = r < 0 ? r : take_string(json, "cgroup", &state->cgroup);
    state->owner = str_printf("%lld", (long long)json_integer_value(json_object_get(json, "uid")));
    if (r < 0 || state->id == NULL || state->owner == NULL) {
        return err_set(err, ENOMEM, "read the state of container '%s'", id);
    }
    state->status = find_status(dir_fd, state);
    if (state->status == CONTAINER_STOPPED) {
        state->pid = 0;
    }
    return 0;
}

int state_read(int root_fd, const char *id, struct container_state *ret, struct err *err)
{
    if (!container_id_is_valid(id)) {
        return err_say(err, EINVAL, "container id '%s' is not valid", id);
    }
    AUTO(closep) int dir = openat(root_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0) {
        return errno == ENOENT ? err_say(err, ENOENT, "container '%s' does not exist", id)
                               : err_set(err, errno, "open the state of container '%s'", id);
    }
    AUTO(container_state_donep) struct container_state state = {0};
    int r = fill(dir, id, &state, err);
    if (r < 0) {
        return r;
    }
    *ret = state;
    state = (struct container_state){0};
    return 0;
}

int container_state(const char *root, const char *id, struct container_state *ret, struct err *err)
{
    AUTO(closep) int root_fd = state_open_root(root, false, NULL);
    if (root_fd < 0) {
        return err_say(err, ENOENT, "container '%s' does not exist", id);
    }
    return state_read(root_fd, id, ret, err);
}

void container_state_done(struct container_state *state)
{
    free(state->id);
    free(state->bundle);
    free(state->rootfs);
    free(state->owner);
    free(state->cgroup);
    json_decref(state->json);
    *state = (struct container_state){0};
}

json_t *container_state_json(const struct container_state *state)
{
    json_t *json = json_pack("{s:s, s:s, s:s, s:i, s:s, s:s}", "ociVersion", SPEC_VERSION, "id",
                             state->id, "status", container_status_name(state->status), "pid",
                             (int)state->pid, "bundle", state->bundle, "rootfs", state->rootfs);
    char created[TIME_TEXT_SIZE];
    format_time(state->created_ns, created);
    json_t *annotations = json_object_get(state->json, "annotations");
    if (json == NULL || json_object_set_new(json, "created", json_string(created)) < 0 ||
        json_object_set_new(json, "owner", json_string(state->owner)) < 0 ||
        (json_object_size(annotations) > 0 &&
         json_object_set(json, "annotations", annotations) < 0)) {
        json_decref(json);
        return NULL;
    }
    return json;
}

char *state_text(const struct state_record *record, const char *status)
{
    AUTO(json_unrefp)
    json_t *json = json_pack("{s:s, s:s, s:s, s:i, s:s, s:o}", "ociVersion", SPEC_VERSION, "id",
                             record->id, "status", status, "pid", (int)record->pid, "bundle",
                             record->bundle, "annotations", annotations_json(record->spec));
    return json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int container_list(const char *root, struct strv *ret, struct err *err)
{
    int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? 0 : err_set(err, errno, "open state directory '%s'", root);
    }
    AUTO(closedirp) DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        (void)close_fd(fd);
        return err_set(err, errno, "read state directory '%s'", root);
    }
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        if (container_id_is_valid(entry->d_name) && strv_add(ret, entry->d_name) < 0) {
            return err_set(err, ENOMEM, "list containers");
        }
    }
    if (ret->count > 1) {
        qsort(ret->items, ret->count, sizeof(*ret->items), compare_names);
    }
    return 0;
}
