#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/err.h"
#include "base/path.h"
#include "base/str.h"
#include "container/kernel.h"
#include "container/mounts.h"

/* The devices that every container has, whatever its spec says. */
static const struct spec_device default_devices[] = {
    {"/dev/null", S_IFCHR, 1, 3, 0666, 0, 0},    {"/dev/zero", S_IFCHR, 1, 5, 0666, 0, 0},
    {"/dev/full", S_IFCHR, 1, 7, 0666, 0, 0},    {"/dev/random", S_IFCHR, 1, 8, 0666, 0, 0},
    {"/dev/urandom", S_IFCHR, 1, 9, 0666, 0, 0}, {"/dev/tty", S_IFCHR, 5, 0, 0666, 0, 0},
};

static const struct {
    const char *name;
    const char *target;
} default_links[] = {
    {"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
    {"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"},
};

/* Where mknod() is forbidden the host's node is bound instead, once it is known to be the same. */
static int bind_device(int dir_fd, const char *name, const struct spec_device *device,
                       struct err *err)
{
    AUTO(leave_openp)
    int tree = open_tree(AT_FDCWD, device->path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    struct stat st;
    if (tree < 0 || fstat(tree, &st) < 0) {
        return err_set(err, errno, "bind device '%s'", device->path);
    }
    if ((st.st_mode & S_IFMT) != device->type ||
        (device->type != S_IFIFO && st.st_rdev != makedev(device->major, device->minor))) {
        return err_say(err, ENODEV, "bind device '%s': the host's is not %u:%u", device->path,
                       device->major, device->minor);
    }
    AUTO(leave_openp)
    int target = openat(dir_fd, name, O_RDONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, 0666);
    if (target < 0 ||
        move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0) {
        return err_set(err, errno, "bind device '%s'", device->path);
    }
    return 0;
}

static int make_device(int dir_fd, const char *name, const struct spec_device *device,
                       struct err *err)
{
    dev_t number = makedev(device->major, device->minor);
    if (mknodat(dir_fd, name, device->type | device->mode, number) < 0) {
        struct stat st;
        if (errno == EPERM) {
            return bind_device(dir_fd, name, device, err);
        }
        if (errno != EEXIST) {
            return err_set(err, errno, "make device '%s'", device->path);
        }
        if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            (st.st_mode & S_IFMT) != device->type ||
            (device->type != S_IFIFO && st.st_rdev != number)) {
            return err_say(err, EEXIST, "make device '%s': something else is there", device->path);
        }
        return 0;
    }
    if ((device->uid != 0 || device->gid != 0) &&
        fchownat(dir_fd, name, device->uid, device->gid, AT_SYMLINK_NOFOLLOW) < 0) {
        return err_set(err, errno, "give device '%s' to %u:%u", device->path, device->uid,
                       device->gid);
    }
    return 0;
}

/* Opens the directory that path lies in and tells the last part of it. */
static int open_parent(int root_fd, const char *path, const char **ret_name, struct err *err)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL || !path_is_plain_name(slash + 1)) {
        return err_say(err, EINVAL, "'%s' does not name a file", path);
    }
    AUTO(freep) char *dir = strndup(path, (size_t)(slash - path));
    if (dir == NULL) {
        return err_set(err, ENOMEM, "open '%s'", path);
    }
    int fd = mkdir_in_root(root_fd, dir[0] != '\0' ? dir : "/", 0755);
    if (fd < 0) {
        return err_set(err, -fd, "open the directory of '%s' in the container", path);
    }
    *ret_name = slash + 1;
    return fd;
}

static int make_defaults(int root_fd, struct err *err)
{
    AUTO(leave_openp) int dev = open_in_root(root_fd, "dev", O_PATH | O_DIRECTORY, 0);
    if (dev < 0) {
        return err_set(err, -dev, "open '/dev' in the container");
    }
    for (size_t i = 0; i < COUNT(default_devices); i++) {
        int r =
            make_device(dev, default_devices[i].path + strlen("/dev/"), &default_devices[i], err);
        if (r < 0) {
            return r;
        }
    }
    for (size_t i = 0; i < COUNT(default_links); i++) {
        if (symlinkat(default_links[i].target, dev, default_links[i].name) < 0 && errno != EEXIST) {
            return err_set(err, errno, "link '/dev/%s'", default_links[i].name);
        }
    }
    return 0;
}

/* Engines list every device of the host for a privileged container; these are its own already. */
static bool is_terminal_device(const struct spec *spec, const char *path)
{
    return str_eq(path, "/dev/ptmx") ||
           (str_eq(path, "/dev/console") && spec->has_process && spec->process.terminal);
}

int devices_create(const struct mount_plan *plan, struct err *err)
{
    const struct spec *spec = plan->spec;
    (void)umask(0); /* until process_become() sets that of the workload */
    int r = plan->has_dev ? make_defaults(plan->rootfs_fd, err) : 0;
    for (size_t i = 0; r >= 0 && i < spec->device_count; i++) {
        if (is_terminal_device(spec, spec->devices[i].path)) {
            continue;
        }
        const char *name = NULL;
        AUTO(leave_openp) int dir = open_parent(plan->rootfs_fd, spec->devices[i].path, &name, err);
        r = dir < 0 ? dir : make_device(dir, name, &spec->devices[i], err);
        if (r < 0) {
            r = err_wrap(err, -r, "linux.devices[%zu]", i);
        }
    }
    return r;
}

int console_attach(int root_fd, int slave_fd, struct err *err)
{
    const uint64_t resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS;
    AUTO(leave_openp)
    int made = open_resolved(root_fd, "dev/console", O_RDONLY | O_CREAT | O_EXCL | O_NOCTTY, 0600,
                             resolve);
    if (made < 0 && made != -EEXIST) {
        return err_set(err, -made, "make '/dev/console' in the container");
    }
    AUTO(leave_openp) int target = open_resolved(root_fd, "dev/console", O_PATH, 0, resolve);
    if (target < 0) {
        return err_set(err, -target, "open '/dev/console' in the container");
    }
    AUTO(leave_openp)
    int tree = open_tree(slave_fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    if (tree < 0 ||
        move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0) {
        return err_set(err, errno, "mount the terminal at '/dev/console'");
    }
    return 0;
}
