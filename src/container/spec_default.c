/* The configuration that `isola-oci spec` writes. */
#include <unistd.h>

#include "container/spec.h"

static json_t *capability_list(void)
{
    return json_pack("[s, s, s]", "CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE");
}

static json_t *process(void)
{
    return json_pack("{s:b, s:{s:i, s:i}, s:[s], s:[s, s], s:s, s:{s:o, s:o, s:[], s:o, s:[]}, "
                     "s:[{s:s, s:i, s:i}], s:b}",
                     "terminal", 1, "user", "uid", 0, "gid", 0, "args", "sh", "env",
                     "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                     "TERM=xterm", "cwd", "/", "capabilities", "bounding", capability_list(),
                     "effective", capability_list(), "inheritable", "permitted", capability_list(),
                     "ambient", "rlimits", "type", "RLIMIT_NOFILE", "hard", 1024, "soft", 1024,
                     "noNewPrivileges", 1);
}

static json_t *mount(const char *destination, const char *type, const char *source, json_t *options)
{
    return json_pack("{s:s, s:s, s:s, s:o}", "destination", destination, "type", type, "source",
                     source, "options", options);
}

static json_t *mounts(bool rootless)
{
    json_t *pts = json_pack("[s, s, s, s, s]", "nosuid", "noexec", "newinstance", "ptmxmode=0666",
                            "mode=0620");
    if (!rootless) {
        (void)json_array_append_new(pts, json_string("gid=5"));
    }
    json_t *list = json_pack(
        "[o, o, o, o, o]",
        mount("/proc", "proc", "proc", json_pack("[s, s, s]", "nosuid", "noexec", "nodev")),
        mount("/dev", "tmpfs", "tmpfs",
              json_pack("[s, s, s, s]", "nosuid", "strictatime", "mode=755", "size=65536k")),
        mount("/dev/pts", "devpts", "devpts", pts),
        mount(
            "/dev/shm", "tmpfs", "shm",
            json_pack("[s, s, s, s, s]", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k")),
        mount("/dev/mqueue", "mqueue", "mqueue",
              json_pack("[s, s, s]", "nosuid", "noexec", "nodev")));
    (void)json_array_append_new(
        list, mount("/sys", "sysfs", "sysfs",
                    json_pack("[s, s, s, s]", "nosuid", "noexec", "nodev", "ro")));
    (void)json_array_append_new(
        list, mount("/sys/fs/cgroup", "cgroup", "cgroup",
                    json_pack("[s, s, s, s, s]", "nosuid", "noexec", "nodev", "relatime", "ro")));
    return list;
}

static json_t *strings(const char *const *items, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        (void)json_array_append_new(list, json_string(items[i]));
    }
    return list;
}

static json_t *platform(bool rootless)
{
    static const char *const masked[] = {
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    };
    static const char *const readonly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                           "/proc/sysrq-trigger"};
    json_t *linux_part =
        json_pack("{s:{s:[{s:b, s:s}]}, s:[{s:s}, {s:s}, {s:s}, {s:s}, {s:s}, {s:s}], s:o, s:o}",
                  "resources", "devices", "allow", 0, "access", "rwm", "namespaces", "type", "pid",
                  "type", "network", "type", "ipc", "type", "uts", "type", "mount", "type",
                  "cgroup", "maskedPaths", strings(masked, sizeof(masked) / sizeof(masked[0])),
                  "readonlyPaths", strings(readonly, sizeof(readonly) / sizeof(readonly[0])));
    if (rootless) {
        (void)json_array_append_new(json_object_get(linux_part, "namespaces"),
                                    json_pack("{s:s}", "type", "user"));
        (void)json_object_set_new(linux_part, "uidMappings",
                                  json_pack("[{s:i, s:I, s:i}]", "containerID", 0, "hostID",
                                            (json_int_t)geteuid(), "size", 1));
        (void)json_object_set_new(linux_part, "gidMappings",
                                  json_pack("[{s:i, s:I, s:i}]", "containerID", 0, "hostID",
                                            (json_int_t)getegid(), "size", 1));
        (void)json_object_del(linux_part, "resources");
    }
    return linux_part;
}

json_t *spec_default(bool rootless)
{
    return json_pack("{s:s, s:o, s:{s:s, s:b}, s:s, s:o, s:o}", "ociVersion", SPEC_VERSION,
                     "process", process(), "root", "path", "rootfs", "readonly", 1, "hostname",
                     "isola", "mounts", mounts(rootless), "linux", platform(rootless));
}
