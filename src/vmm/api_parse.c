/*
 * From a request to what is wanted: paths and bodies, checked before anything is done.
 */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/macros.h"
#include "base/str.h"
#include "vmm/api.h"

struct route {
    const char *method;
    const char *path; /* one that ends with '/' has an id behind */
    enum api_verb verb;
    const char *section;
    const char *key;
    int (*read)(struct api_call *call, struct err *err); /* of the body */
};

/* The body has these keys and no others. */
static int check_keys(const json_t *body, const char *const *keys, struct err *err)
{
    const char *name;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)body, name, value) {
        size_t i = 0;
        while (keys[i] != NULL && !str_eq(keys[i], name)) {
            i++;
        }
        if (keys[i] == NULL) {
            const struct json_path at = {.key = name};
            return json_fail(&at, value, err, "is not known here");
        }
    }
    return 0;
}

static int need_string(const json_t *body, const char *key, const char **ret, struct err *err)
{
    int r = json_get_string(body, NULL, key, ret, err);
    return r == 0 ? err_say(err, EINVAL, "%s is missing", key) : MIN(r, 0);
}

static int read_action(struct api_call *call, struct err *err)
{
    static const char *const keys[] = {"action_type", NULL};
    const char *type = NULL;
    int r = check_keys(call->body, keys, err);
    r = r < 0 ? r : need_string(call->body, "action_type", &type, err);
    if (r < 0) {
        return r;
    }
    if (str_eq(type, "InstanceStart")) {
        call->verb = API_START;
    } else if (str_eq(type, "SendCtrlAltDel")) {
        call->verb = API_CTRL_ALT_DEL;
    } else if (str_eq(type, "SendPowerButton")) {
        call->verb = API_POWER_BUTTON;
    } else if (str_eq(type, "FlushMetrics")) {
        return err_say(err, EOPNOTSUPP,
                       "action_type \"FlushMetrics\": isola-vmm writes no metrics");
    } else {
        return err_say(err, EINVAL, "action_type \"%.40s\" is not known", type);
    }
    return 0;
}

static int read_vm(struct api_call *call, struct err *err)
{
    static const char *const keys[] = {"state", NULL};
    const char *state = NULL;
    int r = check_keys(call->body, keys, err);
    r = r < 0 ? r : need_string(call->body, "state", &state, err);
    if (r < 0) {
        return r;
    }
    if (!str_eq(state, "Paused") && !str_eq(state, "Resumed")) {
        return err_say(err, EINVAL, "state must be \"Paused\" or \"Resumed\"");
    }
    call->verb = str_eq(state, "Paused") ? API_PAUSE : API_RESUME;
    return 0;
}

static int read_balloon(struct api_call *call, struct err *err)
{
    static const char *const keys[] = {"amount_mib", NULL};
    int64_t mib = 0;
    int r = check_keys(call->body, keys, err);
    r = r < 0 ? r : json_get_int(call->body, NULL, "amount_mib", 0, 1 << 20, &mib, err);
    if (r == 0) {
        return err_say(err, EINVAL, "amount_mib is missing");
    }
    call->balloon_mib = (uint32_t)mib;
    return MIN(r, 0);
}

static int read_drive_limit(struct api_call *call, struct err *err)
{
    static const char *const keys[] = {"drive_id", "rate_limiter", NULL};
    return check_keys(call->body, keys, err);
}

static int read_net_limits(struct api_call *call, struct err *err)
{
    static const char *const keys[] = {"iface_id", "rx_rate_limiter", "tx_rate_limiter", NULL};
    return check_keys(call->body, keys, err);
}

static int read_create(struct api_call *call, struct err *err)
{
    static const char *const keys[] = {"snapshot_path", "mem_file_path", "snapshot_type", NULL};
    const char *type = "Full";
    int r = check_keys(call->body, keys, err);
    r = r < 0 ? r : json_get_string(call->body, NULL, "snapshot_type", &type, err);
    if (r >= 0 && !str_eq(type, "Full") && !str_eq(type, "Diff")) {
        return err_say(err, EOPNOTSUPP, "snapshot_type must be \"Full\" or \"Diff\"");
    }
    call->kind = str_eq(type, "Diff") ? SNAPSHOT_DIFF : SNAPSHOT_FULL;
    r = r < 0 ? r : need_string(call->body, "snapshot_path", &call->paths.state, err);
    return r < 0 ? r : need_string(call->body, "mem_file_path", &call->paths.memory, err);
}

static int read_backend(struct api_call *call, struct err *err)
{
    static const char *const keys[] = {"backend_type", "backend_path", NULL};
    const char *type = NULL;
    json_t *backend = NULL;
    int r = json_get_object(call->body, NULL, "mem_backend", &backend, err);
    if (r <= 0) {
        return r < 0 ? r : need_string(call->body, "mem_file_path", &call->paths.memory, err);
    }
    r = check_keys(backend, keys, err);
    r = r < 0 ? r : need_string(backend, "backend_type", &type, err);
    if (r == 0 && !str_eq(type, "File")) {
        return err_say(err, EOPNOTSUPP, "mem_backend.backend_type must be \"File\"");
    }
    return r < 0 ? r : need_string(backend, "backend_path", &call->paths.memory, err);
}

/* Ours: what a difference rests on, the latest first. */
static int read_bases(struct api_call *call, struct err *err)
{
    const json_t *bases = json_object_get(call->body, "mem_base_paths");
    if (bases == NULL) {
        return 0;
    }
    if (!json_is_array(bases) || json_array_size(bases) > SNAPSHOT_BASES_MAX) {
        return err_say(err, EINVAL, "mem_base_paths must be a list of at most %u files",
                       SNAPSHOT_BASES_MAX);
    }
    for (size_t i = 0; i < json_array_size(bases); i++) {
        call->paths.base[i] = json_string_value(json_array_get(bases, i));
        if (call->paths.base[i] == NULL) {
            return err_say(err, EINVAL, "mem_base_paths must be a list of names");
        }
        call->paths.base_count++;
    }
    return 0;
}

static int read_load(struct api_call *call, struct err *err)
{
    static const char *const keys[] = {
        "snapshot_path",         "mem_file_path",     "mem_backend", "mem_base_paths",
        "enable_diff_snapshots", "track_dirty_pages", "resume_vm",   NULL};
    int r = check_keys(call->body, keys, err);
    r = r < 0 ? r : json_get_bool(call->body, NULL, "resume_vm", &call->resume, err);
    /* The older name, and the one that replaced it. */
    bool older = false;
    r = r < 0 ? r : json_get_bool(call->body, NULL, "enable_diff_snapshots", &older, err);
    r = r < 0 ? r : json_get_bool(call->body, NULL, "track_dirty_pages", &call->track_dirty, err);
    call->track_dirty = call->track_dirty || older;
    r = r < 0 ? r : need_string(call->body, "snapshot_path", &call->paths.state, err);
    r = r < 0 ? r : read_bases(call, err);
    return r < 0 ? r : read_backend(call, err);
}

static const struct route routes[] = {
    {"GET", "/", API_GET_INSTANCE, NULL, NULL, NULL},
    {"GET", "/version", API_GET_VERSION, NULL, NULL, NULL},
    {"GET", "/vm/config", API_GET_CONFIG, NULL, NULL, NULL},
    {"GET", "/machine-config", API_GET_MACHINE_CONFIG, NULL, NULL, NULL},
    {"GET", "/balloon", API_GET_BALLOON, NULL, NULL, NULL},
    {"GET", "/balloon/statistics", API_GET_STATISTICS, NULL, NULL, NULL},
    {"PUT", "/boot-source", API_DESCRIBE, "boot-source", NULL, NULL},
    {"PUT", "/machine-config", API_DESCRIBE, "machine-config", NULL, NULL},
    {"PATCH", "/machine-config", API_MERGE, "machine-config", NULL, NULL},
    {"PUT", "/drives/", API_DESCRIBE, "drives", "drive_id", NULL},
    {"PUT", "/network-interfaces/", API_DESCRIBE, "network-interfaces", "iface_id", NULL},
    {"PATCH", "/drives/", API_SET_LIMITS, "drives", "drive_id", read_drive_limit},
    {"PATCH", "/network-interfaces/", API_SET_LIMITS, "network-interfaces", "iface_id",
     read_net_limits},
    {"PUT", "/vsock", API_DESCRIBE, "vsock", NULL, NULL},
    {"PUT", "/entropy", API_DESCRIBE, "entropy", NULL, NULL},
    {"PUT", "/balloon", API_DESCRIBE, "balloon", NULL, NULL},
    {"PATCH", "/balloon", API_SET_BALLOON, "balloon", NULL, read_balloon},
    {"PUT", "/actions", API_START, NULL, NULL, read_action},
    {"PATCH", "/vm", API_PAUSE, NULL, NULL, read_vm},
    {"PUT", "/snapshot/create", API_SAVE, NULL, NULL, read_create},
    {"PUT", "/snapshot/load", API_RESTORE, NULL, NULL, read_load},
};

/* Does the path belong to the route, and what stands behind it. */
static bool matches(const struct route *route, const char *path, const char **ret_id)
{
    size_t len = strlen(route->path);
    if (route->key == NULL) {
        return str_eq(route->path, path);
    }
    if (strncmp(route->path, path, len) != 0 || path[len] == '\0' ||
        strchr(path + len, '/') != NULL) {
        return false;
    }
    *ret_id = path + len;
    return true;
}

static const struct route *find(const struct http_request *request, const char **ret_id,
                                struct err *err)
{
    bool known = false;
    for (size_t i = 0; i < COUNT(routes); i++) {
        if (matches(&routes[i], request->path, ret_id)) {
            if (str_eq(routes[i].method, request->method)) {
                return &routes[i];
            }
            known = true;
        }
    }
    (void)err_say(err, EINVAL, known ? "%s: %s is not possible" : "%s is not known (%s)",
                  request->path, request->method);
    return NULL;
}

int api_parse(const struct http_request *request, struct api_call *ret, struct err *err)
{
    AUTO(api_call_donep) struct api_call call = {0};
    const char *id = NULL;
    const struct route *route = find(request, &id, err);
    if (route == NULL) {
        return -EINVAL;
    }
    call.verb = route->verb;
    call.section = route->section;
    call.key = route->key;
    int r = 0;
    if (!str_eq(route->method, "GET")) {
        r = json_parse(request->body, request->body_len, "body", &call.body, err);
        if (r == 0 && !json_is_object(call.body)) {
            r = err_say(err, EINVAL, "the body must be an object");
        }
    } else if (request->body_len > 0) {
        r = err_say(err, EINVAL, "GET has no body");
    }
    if (r == 0 && id != NULL) {
        const char *named = json_string_value(json_object_get(call.body, route->key));
        r = str_eq(named, id)
                ? 0
                : err_say(err, EINVAL, "%s must be \"%s\", as the path says", route->key, id);
    }
    r = r < 0 || route->read == NULL ? r : route->read(&call, err);
    if (r < 0) {
        return r;
    }
    *ret = call;
    call.body = NULL;
    return 0;
}

void api_call_done(struct api_call *call)
{
    json_unrefp(&call->body);
    call->body = NULL;
}
