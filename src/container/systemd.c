#include "container/systemd.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/io.h"
#include "base/str.h"

#define MANAGER_INTERFACE "org.freedesktop.systemd1.Manager"

bool systemd_is_unit_path(const char *path)
{
    const char *first = strchr(path, ':');
    return first != NULL && strchr(path, '/') == NULL && strchr(first + 1, ':') != NULL;
}

/* What systemd takes as the name of a unit. */
static bool is_unit_name(const char *name, const char *suffix)
{
    size_t len = strlen(name);
    if (len <= strlen(suffix) || len >= SYSTEMD_NAME_SIZE || !str_ends(name, suffix)) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)name[i]) && strchr(":-_.\\", name[i]) == NULL) {
            return false;
        }
    }
    return true;
}

/* "a-b.slice" lies in "a.slice": no empty part. "-.slice" is the root. */
static bool is_slice_name(const char *name)
{
    if (strcmp(name, "-.slice") == 0) {
        return true;
    }
    return is_unit_name(name, ".slice") && name[0] != '-' && strstr(name, "--") == NULL &&
           strstr(name, "-.slice") == NULL;
}

int systemd_unit_init(struct systemd_unit *unit, const char *path, const char *id, bool user,
                      struct err *err)
{
    *unit = (struct systemd_unit){.user = user};
    const char *slice = user ? "user.slice" : "system.slice";
    size_t slice_len = strlen(slice);
    const char *prefix = "isola-oci";
    size_t prefix_len = strlen(prefix);
    const char *name = id;
    if (path != NULL) {
        if (!systemd_is_unit_path(path)) {
            (void)err_say(err, EINVAL,
                          "linux.cgroupsPath = \"%s\": must be SLICE:PREFIX:NAME with the systemd "
                          "cgroup driver",
                          path);
            err_hint(err, "with a path use the cgroupfs driver");
            return -EINVAL;
        }
        const char *first = strchr(path, ':');
        const char *second = strchr(first + 1, ':');
        slice_len = first > path ? (size_t)(first - path) : slice_len;
        slice = first > path ? path : slice;
        prefix = first + 1;
        prefix_len = (size_t)(second - prefix);
        name = second + 1;
    }
    int n = snprintf(unit->slice, sizeof(unit->slice), "%.*s", (int)slice_len, slice);
    int m = snprintf(unit->name, sizeof(unit->name), "%.*s%s%s%s", (int)prefix_len, prefix,
                     prefix_len > 0 ? "-" : "", name, str_ends(name, ".scope") ? "" : ".scope");
    if (n < 0 || (size_t)n >= sizeof(unit->slice) || !is_slice_name(unit->slice)) {
        return err_say(err, EINVAL, "linux.cgroupsPath = \"%s\": '%s' is not the name of a slice",
                       path, unit->slice);
    }
    if (str_ends(name, ".slice")) {
        return err_say(err, EINVAL, "linux.cgroupsPath = \"%s\": a slice holds no processes", path);
    }
    if (name[0] == '\0' || m < 0 || (size_t)m >= sizeof(unit->name) ||
        !is_unit_name(unit->name, ".scope")) {
        return err_say(err, EINVAL, "%s = \"%s\": '%s' is not a name for a systemd unit",
                       path != NULL ? "linux.cgroupsPath" : "container id",
                       path != NULL ? path : id, unit->name);
    }
    return 0;
}

int systemd_unit_path(const struct systemd_unit *unit, const char *manager, char *out, size_t size,
                      struct err *err)
{
    AUTO(buf_donep) struct buf path = {0};
    int r = strcmp(manager, "/") == 0 ? 0 : buf_add_str(&path, manager);
    if (strcmp(unit->slice, "-.slice") != 0) {
        size_t len = strlen(unit->slice) - strlen(".slice");
        for (size_t i = 1; r == 0 && i <= len; i++) {
            if (i == len || unit->slice[i] == '-') {
                r = buf_printf(&path, "/%.*s.slice", (int)i, unit->slice);
            }
        }
    }
    r = r < 0 ? r : buf_printf(&path, "/%s", unit->name);
    if (r == 0 && path.len >= size) {
        r = -ENAMETOOLONG;
    }
    if (r < 0) {
        return err_set(err, -r, "the cgroup of systemd unit '%s'", unit->name);
    }
    memcpy(out, path.data, path.len + 1);
    return 0;
}

int systemd_manager_path(struct dbus *bus, char *out, size_t size, struct err *err)
{
    AUTO(dbus_writer_donep) struct dbus_writer w = {0};
    struct dbus_message answer;
    dbus_put_string(&w, MANAGER_INTERFACE);
    dbus_put_string(&w, "ControlGroup");
    int r = dbus_call(bus, "org.freedesktop.DBus.Properties", "Get", "ss", &w, &answer, err);
    if (r < 0) {
        return r;
    }
    struct dbus_reader reader = {.data = answer.body, .len = answer.body_len};
    const char *type;
    const char *manager;
    if (strcmp(answer.signature, "v") != 0 || dbus_get_signature(&reader, &type) < 0 ||
        strcmp(type, "s") != 0 || dbus_get_string(&reader, &manager) < 0 ||
        (manager[0] != '\0' && manager[0] != '/')) {
        return err_say(err, EPROTO, "systemd does not tell its cgroup");
    }
    int n = snprintf(out, size, "%s", manager);
    return n < 0 || (size_t)n >= size ? err_set(err, ENAMETOOLONG, "the cgroup of systemd") : 0;
}

int systemd_find_path(struct dbus *bus, const struct systemd_unit *unit, char *out, size_t size,
                      struct err *err)
{
    char manager[PATH_MAX];
    int r = systemd_manager_path(bus, manager, sizeof(manager), err);
    return r < 0 ? r : systemd_unit_path(unit, manager, out, size, err);
}

static void put_name(struct dbus_writer *w, const char *name, const char *type)
{
    dbus_put_struct(w);
    dbus_put_string(w, name);
    dbus_put_signature(w, type);
}

static void put_text(struct dbus_writer *w, const char *name, const char *text)
{
    put_name(w, name, "s");
    dbus_put_string(w, text);
}

static void put_flag(struct dbus_writer *w, const char *name, bool value)
{
    put_name(w, name, "b");
    dbus_put_bool(w, value);
}

static int put_scope(struct dbus_writer *w, const struct systemd_unit *unit, pid_t pid,
                     const struct spec *spec, bool unified, struct err *err)
{
    put_text(w, "Description", "container of isola-oci");
    put_text(w, "Slice", unit->slice);
    put_name(w, "PIDs", "au");
    size_t pids = dbus_begin_array(w, sizeof(uint32_t));
    dbus_put_u32(w, (uint32_t)pid);
    dbus_end_array(w, pids, sizeof(uint32_t));
    put_flag(w, "Delegate", true);
    put_flag(w, "DefaultDependencies", false);
    put_text(w, "CollectMode", "inactive-or-failed");
    static const char *const accounting[] = {"CPUAccounting", "MemoryAccounting",
                                             "TasksAccounting"};
    for (size_t i = 0; i < COUNT(accounting); i++) {
        put_flag(w, accounting[i], true);
    }
    put_flag(w, unified ? "IOAccounting" : "BlockIOAccounting", true);
    int r = systemd_put_resources(w, &spec->resources, unified, err);
    for (size_t i = 0; r == 0 && i < spec->annotations.count; i++) {
        r = systemd_put_annotation(w, &spec->annotations.items[i], err);
    }
    return r;
}

/* Calls a method that answers with a job, and waits for its end. */
static int run_job(struct dbus *bus, const char *unit, const char *method, const char *signature,
                   const struct dbus_writer *w, struct err *err)
{
    struct dbus_message answer;
    char result[64];
    int r = dbus_call(bus, "", method, signature, w, &answer, err);
    if (r < 0) {
        return r;
    }
    struct dbus_reader reader = {.data = answer.body, .len = answer.body_len};
    const char *path;
    if (strcmp(answer.signature, "o") != 0 || dbus_get_string(&reader, &path) < 0) {
        return err_say(err, EPROTO, "systemd names no job");
    }
    AUTO(freep) char *job = strdup(path);
    r = job == NULL ? err_set(err, ENOMEM, "systemd unit '%s'", unit)
                    : dbus_wait_job(bus, job, result, sizeof(result), err);
    if (r == 0 && strcmp(result, "done") != 0) {
        (void)err_say(err, EIO, "systemd's job ended with '%s'", result);
        err_hint(err, "see journalctl --unit=%s", unit);
        return -EIO;
    }
    return r;
}

/* "4:memory:PATH", "0::PATH": where systemd put the process. */
static int check_place(pid_t pid, const char *path, struct err *err)
{
    char file[64];
    AUTO(buf_donep) struct buf text = {0};
    (void)snprintf(file, sizeof(file), "/proc/%d/cgroup", (int)pid);
    int r = read_file(file, (size_t)1 << 16, &text);
    AUTO(freep) char *line = str_printf(":%s\n", path);
    if (r < 0 || text.data == NULL || line == NULL) {
        return err_set(err, r < 0 ? -r : ENOMEM, "read '%s'", file);
    }
    return strstr(text.data, line) != NULL
               ? 0
               : err_say(err, EXDEV, "systemd did not put the process into cgroup '%s'", path);
}

int systemd_start_scope(struct dbus *bus, const struct systemd_unit *unit, pid_t pid,
                        const struct spec *spec, bool unified, const char *path, struct err *err)
{
    AUTO(dbus_writer_donep) struct dbus_writer w = {0};
    dbus_put_string(&w, unit->name);
    dbus_put_string(&w, "fail"); /* one that exists is not ours to replace */
    size_t properties = dbus_begin_array(&w, 8);
    int r = put_scope(&w, unit, pid, spec, unified, err);
    dbus_end_array(&w, properties, 8);
    dbus_end_array(&w, dbus_begin_array(&w, 8), 8); /* no units beside it */
    r = r < 0 ? r : run_job(bus, unit->name, "StartTransientUnit", "ssa(sv)a(sa(sv))", &w, err);
    r = r < 0 ? r : check_place(pid, path, err);
    return r < 0 ? err_wrap(err, -r, "start systemd unit '%s'", unit->name) : 0;
}

int systemd_update(const char *unit, bool user, const struct spec_resources *resources,
                   bool unified, struct err *err)
{
    AUTO(dbus_closep) struct dbus *bus = NULL;
    AUTO(dbus_writer_donep) struct dbus_writer w = {0};
    struct dbus_message answer;
    dbus_put_string(&w, unit);
    dbus_put_bool(&w, true); /* until the scope ends */
    size_t properties = dbus_begin_array(&w, 8);
    int r = systemd_put_resources(&w, resources, unified, err);
    dbus_end_array(&w, properties, 8);
    r = r < 0 ? r : dbus_open(user, &bus, err);
    r = r < 0 ? r : dbus_call(bus, "", "SetUnitProperties", "sba(sv)", &w, &answer, err);
    return r < 0 ? err_wrap(err, -r, "update systemd unit '%s'", unit) : 0;
}

int systemd_attach(const char *unit, bool user, pid_t pid, const char *sub, struct err *err)
{
    AUTO(dbus_closep) struct dbus *bus = NULL;
    AUTO(dbus_writer_donep) struct dbus_writer w = {0};
    struct dbus_message answer;
    dbus_put_string(&w, unit);
    dbus_put_string(&w, sub != NULL ? sub : "");
    size_t pids = dbus_begin_array(&w, sizeof(uint32_t));
    dbus_put_u32(&w, (uint32_t)pid);
    dbus_end_array(&w, pids, sizeof(uint32_t));
    int r = dbus_open(user, &bus, err);
    r = r < 0 ? r : dbus_call(bus, "", "AttachProcessesToUnit", "ssau", &w, &answer, err);
    return r < 0 ? err_wrap(err, -r, "enter systemd unit '%s'", unit) : 0;
}

int systemd_stop(const char *unit, bool user, struct err *err)
{
    AUTO(dbus_closep) struct dbus *bus = NULL;
    AUTO(dbus_writer_donep) struct dbus_writer stop = {0};
    AUTO(dbus_writer_donep) struct dbus_writer reset = {0};
    struct dbus_message answer;
    dbus_put_string(&stop, unit);
    dbus_put_string(&stop, "replace");
    dbus_put_string(&reset, unit);
    int r = dbus_open(user, &bus, err);
    r = r < 0 ? r : run_job(bus, unit, "StopUnit", "ss", &stop, err);
    if (r == -ENOENT) {
        return 0;
    }
    if (r < 0) {
        return err_wrap(err, -r, "stop systemd unit '%s'", unit);
    }
    /* A scope that failed would stay for people to look at; mostly it is forgotten by now. */
    (void)dbus_call(bus, "", "ResetFailedUnit", "s", &reset, &answer, NULL);
    return 0;
}
