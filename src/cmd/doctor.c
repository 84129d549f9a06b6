#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/user_namespace.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "container/container.h"
#include "engine/apparmor.h"
#include "engine/emulator.h"
#include "engine/kernel.h"
#include "engine/network.h"
#include "wall/wall.h"

#define OVERLAYFS_MAGIC 0x794c7630

/* What a finding means for the container wall. */
enum verdict {
    GOOD,
    POOR, /* works, with less */
    BAD,  /* does not work */
};

static int say(enum verdict verdict, const char *what, const char *remedy)
{
    static const char *const words[] = {"ok", "warning", "MISSING"};
    (void)printf("  %-8s %s\n", words[verdict], what);
    if (remedy != NULL && verdict != GOOD) {
        (void)printf("  %-8s -> %s\n", "", remedy);
    }
    return verdict == BAD ? 1 : 0;
}

static bool file_has(const char *path, const char *word)
{
    AUTO(buf_donep) struct buf text = {0};
    return read_file(path, (size_t)1 << 20, &text) == 0 && strstr(text.data, word) != NULL;
}

static int check_kernel(void)
{
    static const struct {
        const char *path;
        const char *what;
        const char *remedy;
    } needs[] = {
        {"/proc/self/ns/pid", "process namespaces", "use a kernel with CONFIG_PID_NS"},
        {"/proc/self/ns/net", "network namespaces", "use a kernel with CONFIG_NET_NS"},
        {"/proc/self/ns/user", "user namespaces", "use a kernel with CONFIG_USER_NS"},
        {"/proc/self/ns/cgroup", "cgroup namespaces", "use a kernel with CONFIG_CGROUPS"},
        {"/proc/sys/kernel/seccomp/actions_avail", "seccomp filters",
         "use a kernel with CONFIG_SECCOMP_FILTER"},
    };
    int bad = 0;
    for (size_t i = 0; i < COUNT(needs); i++) {
        bad += say(access(needs[i].path, F_OK) == 0 ? GOOD : BAD, needs[i].what, needs[i].remedy);
    }
    bad += say(file_has("/proc/filesystems", "\toverlay") ? GOOD : BAD, "overlayfs",
               "modprobe overlay");
    return bad;
}

static int check_cgroups(void)
{
    static const char *const controllers[] = {"memory", "cpu", "pids", "cpuset"};
    bool v2 = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
    int bad = 0;
    (void)printf("  %-8s cgroup layout: %s\n", "ok", v2 ? "v2" : "v1 or hybrid");
    for (size_t i = 0; i < COUNT(controllers); i++) {
        AUTO(freep) char *v1_path = str_printf("/sys/fs/cgroup/%s", controllers[i]);
        AUTO(freep) char *what = str_printf("%s limits", controllers[i]);
        bool there = v2 ? file_has("/sys/fs/cgroup/cgroup.controllers", controllers[i])
                        : v1_path != NULL && access(v1_path, F_OK) == 0;
        bad += say(there ? GOOD : POOR, what,
                   v2 ? "enable it in /sys/fs/cgroup/cgroup.subtree_control"
                      : "mount the controller below /sys/fs/cgroup");
    }
    return bad;
}

static int check_root(const struct engine *engine)
{
    struct statfs fs;
    if (statfs(engine->dirs.root, &fs) < 0) {
        return say(BAD, "root directory", "choose another with --root");
    }
    return say(fs.f_type == OVERLAYFS_MAGIC ? BAD : GOOD, "root directory's file system",
               "it is an overlay itself; put --root on ext4, xfs or btrfs");
}

static bool has_word(const char *text, const char *word)
{
    AUTO(strv_donep) struct strv words = {0};
    return strv_split(&words, text, " \n") == 0 && strv_has(&words, word);
}

/* Limits of an ordinary user whose workloads are scopes of his systemd manager. */
static int check_user_manager(void)
{
    static const char *const wanted[] = {"memory", "cpu", "pids", "cpuset", "io"};
    struct err err = ERR_NONE;
    AUTO(freep) char *controllers = container_user_controllers(&err);
    if (controllers == NULL) {
        AUTO(freep) char *what = str_printf("no limits, pause and stats: %s", err_text(&err));
        return say(POOR, what != NULL ? what : "no limits, pause and stats",
                   "log in again, or as root: loginctl enable-linger NAME");
    }
    AUTO(buf_donep) struct buf missing = {0};
    int r = buf_add_str(&missing, "your systemd manager may not limit:");
    for (size_t i = 0; r == 0 && i < COUNT(wanted); i++) {
        r = has_word(controllers, wanted[i]) ? 0 : buf_printf(&missing, " %s", wanted[i]);
    }
    bool all = r == 0 && str_ends(missing.data, ":");
    return say(all ? GOOD : POOR,
               all ? "limits, pause and stats by your systemd manager" : missing.data,
               "as root: systemctl edit user@.service: [Service] Delegate=cpu cpuset io memory "
               "pids; then log in again");
}

/* Else where limits can come from: his own cgroup of v2, if he may write to it. */
static int check_delegation(void)
{
    if (container_has_user_scopes()) {
        return check_user_manager();
    }
    AUTO(buf_donep) struct buf text = {0};
    bool v2 = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
    char *own = v2 && read_file("/proc/self/cgroup", 65536, &text) == 0 && text.data != NULL
                    ? strstr(text.data, "0::/")
                    : NULL;
    if (own != NULL) {
        own += strlen("0::");
        own[strcspn(own, "\n")] = '\0';
        AUTO(freep) char *path = str_printf("/sys/fs/cgroup%s", own);
        AUTO(freep)
        char *what = str_printf("cgroup '%s' is yours: --cgroup-parent takes a directory beside or "
                                "below it, for limits",
                                own);
        if (path != NULL && what != NULL && access(path, W_OK) == 0) {
            return say(GOOD, what, NULL);
        }
    }
    return say(POOR,
               "no limits (--memory, --cpus, --pids-limit), pause and stats: no cgroup is yours",
               v2 ? "log in, so that XDG_RUNTIME_DIR names where your systemd manager is, or as "
                    "root: loginctl enable-linger NAME"
                  : "boot with cgroup v2 (kernel parameter systemd.unified_cgroup_hierarchy=1)");
}

/* We are root of a user namespace by now. */
static int check_user(void)
{
    unsigned ids = user_namespace_last_id("uid_map");
    unsigned group_ids = user_namespace_last_id("gid_map");
    bool program = access("/usr/bin/newuidmap", X_OK) == 0;
    AUTO(freep)
    char *what = str_printf("%u user ids of your own for workloads", MIN(ids, group_ids));
    if (what == NULL) {
        return 0;
    }
    (void)say(GOOD, "running as an ordinary user (rootless)", NULL);
    if (ids == 0 || group_ids == 0) {
        (void)say(POOR,
                  "no ids but your own: images with files of several owners do not unpack "
                  "wholly, and --user must be 0",
                  program ? "as root: usermod --add-subuids 100000-165535 --add-subgids "
                            "100000-165535 NAME (a range that nobody has); end your workloads"
                          : "apt-get install uidmap; end your workloads");
    } else {
        (void)say(GOOD, what, NULL);
    }
    return check_delegation() + say(access("/usr/bin/pasta", X_OK) == 0 ? GOOD : POOR,
                                    "pasta, for networks other than none and host",
                                    "apt-get install passt");
}

static int check_apparmor(void)
{
    switch (apparmor_state()) {
    case APPARMOR_READY:
        return say(GOOD, "AppArmor: workloads run under the profile " APPARMOR_PROFILE, NULL);
    case APPARMOR_NO_PARSER:
        return say(POOR, "AppArmor is on, but no profile can be loaded for workloads",
                   "apt-get install apparmor");
    case APPARMOR_CONFINED:
        return say(GOOD, "AppArmor: workloads run under the profile of isola itself", NULL);
    case APPARMOR_NONE:
        break;
    }
    return 0; /* another host's way, or none: nothing that could be mended here */
}

static int check_rights(void)
{
    return user_is_host_root() ? say(GOOD, "running as root", NULL) : check_user();
}

static int check_network(struct engine *engine, struct err *err)
{
    struct network_host *host;
    AUTO(strv_donep) struct strv findings = {0};
    int r = engine_network(engine, &host, err);
    if (r == 0) {
        r = network_doctor(host, &findings, err);
    }
    for (size_t i = 0; r == 0 && i < findings.count; i++) {
        (void)say(POOR, findings.items[i], NULL);
    }
    if (r == 0 && findings.count == 0) {
        (void)say(GOOD,
                  !user_owns_network() ? "/dev/net/tun for pasta" : "bridges, NAT and forwarding",
                  NULL);
    }
    return r;
}

static int check_programs(void)
{
    static const char *const programs[] = {"isola-shim", "isola-init", "isola-image"};
    int bad = 0;
    for (size_t i = 0; i < COUNT(programs); i++) {
        AUTO(freep) char *path = dirs_helper(programs[i]);
        bad += say(path != NULL && access(path, X_OK) == 0 ? GOOD : BAD, programs[i],
                   "install Isola again: make install");
    }
    return bad;
}

static int check_kvm(void)
{
    struct err err = ERR_NONE;
    const struct wall *wall;
    int r = wall_find("vm", &wall, &err);
    r = r < 0 ? r : wall->check(&err);
    return r < 0 ? say(BAD, err_text(&err), NULL)
                 : say(GOOD, "KVM executes a guest's kernel by hardware", NULL);
}

static int check_vm(const struct engine *engine)
{
    static const char *const programs[] = {"isola-vmm", "isola-fs", "isola-guest", "isola-files",
                                           "isola-kernel"};
    struct err err = ERR_NONE;
    int bad = check_kvm();
    AUTO(closep) int kernel = kernel_open(engine->dirs.root, NULL, &err);
    bad += say(kernel >= 0 ? GOOD : BAD, "a guest kernel", "isola kernel install");
    bad += say(access("/dev/net/tun", F_OK) == 0 ? GOOD : POOR, "/dev/net/tun, for networks",
               "modprobe tun");
    bad += say(access("/usr/bin/mkfs.erofs", X_OK) == 0 ? GOOD : BAD, "mkfs.erofs, for images",
               "apt-get install erofs-utils");
    for (size_t i = 0; i < COUNT(programs); i++) {
        AUTO(freep) char *path = dirs_helper(programs[i]);
        bad += say(path != NULL && access(path, X_OK) == 0 ? GOOD : BAD, programs[i],
                   "install Isola again: make install");
    }
    return bad;
}

/* What is missing here takes nothing from the walls. */
static void check_emulator(void)
{
    AUTO(freep) char *path = dirs_helper(EMULATOR_PROGRAM);
    bool there = path != NULL && access(path, X_OK) == 0;
    bool suits = emulator_has("arm64");
    (void)printf("\nemulated CPU: programs of linux/arm64 images\n");
    (void)say(there ? GOOD : POOR, EMULATOR_PROGRAM, "install Isola again: make install");
    if (suits) {
        (void)say(emulator_is_fast() ? GOOD : POOR, "AVX2, FMA and BMI2, for translated code",
                  "another CPU: this one interprets, at a hundredth of the speed");
    }
    (void)printf("%s\n", !suits  ? "no other CPU is emulated here"
                         : there ? "linux/arm64 images can run here"
                                 : "linux/arm64 images cannot run here");
}

static int run_doctor(struct command_context *context, void *data, int argc, char **argv,
                      struct err *err)
{
    (void)data;
    (void)argc;
    (void)argv;
    AUTO(engine_closep) struct engine *engine = NULL;
    int r = command_engine(context, &engine, err);
    if (r < 0) {
        return r;
    }
    (void)printf("container: namespaces, cgroups and seccomp on this kernel\n");
    int bad = check_kernel() + check_root(engine) + check_rights() + check_programs();
    bad += user_is_host_root() ? check_cgroups() + check_apparmor() : 0;
    r = check_network(engine, err);
    if (r < 0) {
        return r;
    }
    (void)printf("%s\n", bad == 0 ? "the container wall can run here"
                                  : "the container wall cannot run here: see MISSING above");
    (void)printf("\nvm: a kernel of its own in a virtual machine\n");
    int bad_vm = check_vm(engine);
    (void)printf("%s\n", bad_vm == 0 ? "the vm wall can run here"
                                     : "the vm wall cannot run here: see MISSING above");
    check_emulator();
    return bad == 0 ? 0 : 1;
}

const struct command doctor_commands[] = {
    {
        .name = "doctor",
        .operands = "",
        .summary = "Say what this host can do, what is missing and what mends it",
        .run = run_doctor,
    },
    {0},
};
