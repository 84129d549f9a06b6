/*
 * The container around isola-vmm: nothing in it but the machine's files, no capability, and the
 * limits of the workload.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/str.h"
#include "wall/vm.h"

/* isola-fs needs these on shared files, and gives up all others; isola-vmm gives up all before the
 * guest runs. */
static json_t *make_capabilities(bool shares)
{
    return shares ? json_pack("[s, s, s, s]", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER",
                              "CAP_FSETID")
                  : json_array();
}

static json_t *make_process(bool shares, int report_fd)
{
    char number[16];
    json_t *process = json_pack(
        "{s:{s:i, s:i}, s:[s, s, s], s:[], s:s, s:b, s:{s:o, s:o, s:o, s:[]}}", "user", "uid", 0,
        "gid", 0, "args", "/isola-vmm", "--config-file", "/machine.json", "env", "cwd", "/",
        "noNewPrivileges", true, "capabilities", "bounding", make_capabilities(shares), "effective",
        make_capabilities(shares), "permitted", make_capabilities(shares), "inheritable");
    if (process != NULL && report_fd >= 0) {
        json_t *args = json_object_get(process, "args");
        (void)snprintf(number, sizeof(number), "%d", report_fd);
        (void)json_array_append_new(args, json_string("--report-fd"));
        (void)json_array_append_new(args, json_string(number));
    }
    return process;
}

static int add_mount(json_t *mounts, const char *to, const char *type, const char *from,
                     const char *option, const char *last)
{
    return json_array_append_new(
        mounts, json_pack("{s:s, s:s, s:s, s:[s, s, s, s]}", "destination", to, "type", type,
                          "source", from, "options", "nosuid", option,
                          str_eq(type, "bind") ? "rprivate" : "noexec", last));
}

static json_t *make_mounts(const json_t *vm, const char *program, bool shares, struct err *err)
{
    AUTO(json_unrefp) json_t *mounts = json_array();
    const json_t *binds = json_object_get(vm, "binds");
    int r = mounts == NULL ? -1
                           : add_mount(mounts, "/dev", "tmpfs", "tmpfs", "strictatime", "mode=755");
    /* isola-fs names its own descriptors by it; it shows these few processes and nothing else. */
    r = r < 0 || !shares ? r : add_mount(mounts, "/proc", "proc", "proc", "ro", "subset=pid");
    r = r < 0 ? r : add_mount(mounts, "/isola-vmm", "bind", program, "ro", "rbind");
    size_t index;
    json_t *bind;
    json_array_foreach ((json_t *)(uintptr_t)binds, index, bind) {
        const char *from = NULL;
        const char *to = NULL;
        bool writable = false;
        bool shallow = false;
        const struct json_path list = {.key = "binds"};
        const struct json_path at = {.parent = &list, .index = index};
        if (json_get_string(bind, &at, "from", &from, err) < 0 ||
            json_get_string(bind, &at, "to", &to, err) < 0 ||
            json_get_bool(bind, &at, "write", &writable, err) < 0 ||
            json_get_bool(bind, &at, "shallow", &shallow, err) < 0) {
            return NULL;
        }
        if (from == NULL || to == NULL) {
            (void)json_fail(&at, bind, err, "needs from and to");
            return NULL;
        }
        r = r < 0 ? r
                  : add_mount(mounts, to, "bind", from, writable ? "rw" : "ro",
                              shallow ? "bind" : "rbind");
    }
    if (r < 0) {
        (void)err_set(err, ENOMEM, "describe the machine's container");
        return NULL;
    }
    return TAKE_PTR(mounts);
}

/* Of the workload's: what holds a process as well as a machine. Its memory is the machine's size.
 */
static json_t *make_resources(const json_t *workload)
{
    static const char *const kept[] = {"cpu", "blockIO"};
    const json_t *theirs = json_object_get(json_object_get(workload, "linux"), "resources");
    json_t *resources = json_pack("{s:[{s:b, s:s}, {s:b, s:s, s:i, s:i, s:s}]}", "devices", "allow",
                                  false, "access", "rwm", "allow", true, "type", "c", "major", 10,
                                  "minor", 232, "access", "rw");
    for (size_t i = 0; i < COUNT(kept); i++) {
        json_t *part = json_object_get(theirs, kept[i]);
        if (part != NULL) {
            (void)json_object_set(resources, kept[i], part);
        }
    }
    return resources;
}

int vm_outer_spec(const json_t *vm, const json_t *workload, int report_fd, json_t **ret,
                  struct err *err)
{
    const char *program = json_string_value(json_object_get(vm, "program"));
    if (program == NULL) {
        return err_say(err, EINVAL, "%s: program is missing", VM_FILE);
    }
    bool shares = json_array_size(json_object_get(json_object_get(vm, "machine"), "fs")) > 0;
    AUTO(json_unrefp) json_t *mounts = make_mounts(vm, program, shares, err);
    if (mounts == NULL) {
        return -EINVAL;
    }
    const char *cgroup =
        json_string_value(json_object_get(json_object_get(workload, "linux"), "cgroupsPath"));
    AUTO(json_unrefp)
    json_t *spec = json_pack(
        "{s:s, s:{s:s, s:b}, s:o, s:O, s:{s:o, s:[{s:s}, {s:s}, {s:s}, {s:s}, {s:s}, {s:s}], "
        "s:[{s:s, s:s, s:i, s:i, s:i}]}}",
        "ociVersion", "1.2.0", "root", "path", "vm-root", "readonly", true, "process",
        make_process(shares, report_fd), "mounts", mounts, "linux", "resources",
        make_resources(workload), "namespaces", "type", "mount", "type", "pid", "type", "ipc",
        "type", "uts", "type", "network", "type", "cgroup", "devices", "path", "/dev/kvm", "type",
        "c", "major", 10, "minor", 232, "fileMode", 0600);
    if (spec == NULL) {
        return err_set(err, ENOMEM, "describe the machine's container");
    }
    if (cgroup != NULL) {
        (void)json_object_set_new(json_object_get(spec, "linux"), "cgroupsPath",
                                  json_string(cgroup));
    }
    *ret = TAKE_PTR(spec);
    return 0;
}
