#include "guest/boot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/str.h"

#define LIST_SIZE_MAX ((size_t)64 << 10)

static int fill_standard_fds(const char *path, int flags)
{
    int fd;
    do {
        fd = open(path, flags);
    } while (fd >= 0 && fd < 3);
    if (fd >= 3) {
        (void)close(fd);
    }
    return fd < 0 ? -errno : 0;
}

int boot_console(struct err *err)
{
    /* The kernel opens /dev/console for us when the initramfs has it. */
    if (fcntl(STDERR_FILENO, F_GETFD) >= 0 && fcntl(STDIN_FILENO, F_GETFD) >= 0) {
        return 0;
    }
    int r = fill_standard_fds("/dev/console", O_RDWR | O_NOCTTY);
    r = r < 0 ? fill_standard_fds("/dev/null", O_RDWR) : 0;
    return r < 0 ? err_set(err, -r, "open a console") : 0;
}

int boot_mounts(struct err *err)
{
    static const struct {
        const char *type;
        const char *at;
        unsigned long flags;
        const char *options;
    } mounts[] = {
        {"proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
        {"sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
        {"devtmpfs", "/dev", MS_NOSUID, NULL},
        {"tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755"},
        {"cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
    };
    for (size_t i = 0; i < COUNT(mounts); i++) {
        (void)mkdir(mounts[i].at, 0755);
        /* EBUSY: the kernel (devtmpfs.mount=1) was before us. */
        if (mount(mounts[i].type, mounts[i].at, mounts[i].type, mounts[i].flags,
                  mounts[i].options) < 0 &&
            errno != EBUSY) {
            return err_set(err, errno, "boot: mount %s on '%s'", mounts[i].type, mounts[i].at);
        }
    }
    /* The kernel's own wishes for modules: there is no program that could load one. */
    (void)write_file("/proc/sys/kernel/modprobe", "\n");
    int r = mkdir_parents(GUEST_RUN, 0755);
    return r < 0 ? err_set(err, -r, "boot: make '%s'", GUEST_RUN) : 0;
}

/* Whether a device of the bus that condition begins with has a modalias that starts like it. */
static bool has_device(const char *condition, size_t len)
{
    char wanted[64];
    char path[96];
    size_t bus_len = strcspn(condition, ":");
    if (bus_len >= len || len >= sizeof(wanted)) {
        return false;
    }
    memcpy(wanted, condition, len);
    wanted[len] = '\0';
    (void)snprintf(path, sizeof(path), "/sys/bus/%.*s/devices", (int)bus_len, condition);
    AUTO(closedirp) DIR *devices = opendir(path);
    const struct dirent *entry;
    while (devices != NULL && (entry = readdir(devices)) != NULL) {
        AUTO(buf_donep) struct buf alias = {0};
        AUTO(freep) char *file = str_printf("%s/modalias", entry->d_name);
        if (file != NULL && read_file_at(dirfd(devices), file, LIST_SIZE_MAX, &alias) == 0 &&
            alias.data != NULL && str_starts(alias.data, wanted)) {
            return true;
        }
    }
    return false;
}

#define LATE "late "

static int load_module(int dir, const char *line, struct boot_late *late, struct err *err)
{
    bool later = str_starts(line, LATE) && late->count < BOOT_LATE_MAX;
    line += str_starts(line, LATE) ? strlen(LATE) : 0;
    size_t first = strcspn(line, " \t");
    if (memchr(line, ':', first) != NULL) {
        if (!has_device(line, first)) {
            return 0;
        }
        line += first + strspn(line + first, " \t");
    }
    size_t len = strcspn(line, " \t");
    AUTO(freep) char *name = strndup(line, len);
    const char *parameters = line + len + strspn(line + len, " \t");
    AUTO(closep) int fd = name == NULL ? -1 : openat(dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return err_set(err, name == NULL ? ENOMEM : errno, "boot: open module '%s'", line);
    }
    if (later) {
        late->fd[late->count++] = TAKE_FD(fd);
        return 0;
    }
    if (syscall(SYS_finit_module, fd, parameters, 0) < 0 && errno != EEXIST) {
        return err_set(err, errno, "boot: load module '%s'", line);
    }
    return 0;
}

void boot_late_modules(struct boot_late *late)
{
    for (int i = 0; i < late->count; i++) {
        if (syscall(SYS_finit_module, late->fd[i], "", 0) < 0 && errno != EEXIST) {
            (void)fprintf(stderr, "isola-guest: load late module %d: %s\n", i, strerror(errno));
        }
        (void)close(late->fd[i]);
    }
    late->count = 0;
}

int boot_modules(const char *list, struct boot_late *late, struct err *err)
{
    AUTO(buf_donep) struct buf text = {0};
    AUTO(strv_donep) struct strv lines = {0};
    AUTO(freep)
    char *path =
        strndup(list, strrchr(list, '/') != NULL ? (size_t)(strrchr(list, '/') - list) : 0);
    int r = read_file(list, LIST_SIZE_MAX, &text);
    if (r == -ENOENT) {
        return 0;
    }
    r = r < 0          ? r
        : path == NULL ? -ENOMEM
                       : strv_split(&lines, text.data != NULL ? text.data : "", "\n");
    AUTO(closep) int dir = r < 0 ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        return err_set(err, r < 0 ? -r : errno, "boot: read '%s'", list);
    }
    for (size_t i = 0; r == 0 && i < lines.count; i++) {
        r = load_module(dir, lines.items[i], late, err);
    }
    return r;
}

static bool on_initramfs(void)
{
    static const char first[] = "rootfs / rootfs";
    char text[sizeof(first)] = "";
    AUTO(closep) int fd = open("/proc/mounts", O_RDONLY | O_CLOEXEC);
    return fd >= 0 && read_upto(fd, text, sizeof(first) - 1) > 0 && str_starts(text, first);
}

/* The current directory is the new root. A bind holds the file when its old root is covered. */
static int keep_programs(void)
{
    static const char *const programs[] = {GUEST_INIT, GUEST_FILES};
    for (size_t i = 0; i < COUNT(programs); i++) {
        if (access(programs[i], F_OK) < 0) {
            continue;
        }
        AUTO(closep) int fd = open(programs[i] + 1, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
        if (fd < 0 || mount(programs[i], programs[i] + 1, NULL, MS_BIND, NULL) < 0) {
            return -errno;
        }
    }
    return 0;
}

static int move_to(const char *root)
{
    static const char *const kept[] = {"proc", "sys", "dev", "run"};
    if ((mkdir(root, 0755) < 0 && errno != EEXIST) ||
        mount("root", root, "tmpfs", 0, "mode=755") < 0 || chdir(root) < 0) {
        return -errno;
    }
    int r = keep_programs();
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < COUNT(kept); i++) {
        char from[16] = "/";
        (void)strcat(from, kept[i]);
        if (mkdir(kept[i], 0755) < 0 || mount(from, kept[i], NULL, MS_MOVE, NULL) < 0) {
            return -errno;
        }
    }
    return mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0 ? -errno
                                                                                         : 0;
}

int boot_leave_initramfs(struct err *err)
{
    if (!on_initramfs()) {
        return 0;
    }
    (void)remove_tree_at(AT_FDCWD, "/modules");
    int r = move_to("/newroot");
    return r < 0 ? err_set(err, -r, "boot: leave the initramfs") : 0;
}

void boot_power_off(void)
{
    sync();
    (void)reboot(RB_POWER_OFF);
    /* Nothing to switch off with: process 1 must not end, for that would be a crash. */
    for (;;) {
        (void)pause();
    }
}
