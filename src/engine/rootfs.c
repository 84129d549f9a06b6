#include "engine/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/process.h"
#include "base/str.h"
#include "base/unix_socket.h"
#include "base/user_namespace.h"

/* The path below base when it is there, else the whole path. */
static const char *relative(const char *base, const char *path)
{
    size_t len = strlen(base);
    return strncmp(path, base, len) == 0 && path[len] == '/' ? path + len + 1 : path;
}

/*
 * Where a workload's files and file systems of ours are mounted, in a layer below all others: else
 * each start would make these names in a new upper directory, and `diff` and `commit` find them.
 * ROOT is the working directory.
 */
#define MOUNT_POINTS "mountpoints"

static int make_mount_points(void)
{
    static const char *const dirs[] = {
        MOUNT_POINTS,         MOUNT_POINTS "/dev", MOUNT_POINTS "/etc",
        MOUNT_POINTS "/proc", MOUNT_POINTS "/sys",
    };
    static const char *const files[] = {"hosts", "hostname", "resolv.conf"};
    for (size_t i = 0; i < COUNT(dirs); i++) {
        if (mkdir(dirs[i], 0755) < 0 && errno != EEXIST) {
            return -errno;
        }
        /* Whatever our umask. */
        if (chmod(dirs[i], 0755) < 0) {
            return -errno;
        }
    }
    AUTO(closep) int etc = open(MOUNT_POINTS "/etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < COUNT(files); i++) {
        AUTO(closep)
        int fd = etc < 0 ? -1 : openat(etc, files[i], O_WRONLY | O_CREAT | O_CLOEXEC, 0);
        if (fd < 0 || fchmod(fd, 0644) < 0) {
            return -errno;
        }
    }
    return 0;
}

static int set_string(int fs, const char *key, const char *value)
{
    return fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0) < 0 ? -errno : 0;
}

/*
 * The new API with one "lowerdir+" a layer, since Linux 6.8. -EINVAL: this kernel does not know it.
 */
static int mount_new(const struct rootfs_options *o)
{
    AUTO(closep) int fs = fsopen("overlay", FSOPEN_CLOEXEC);
    if (fs < 0) {
        return -errno;
    }
    int r = set_string(fs, "source", "isola");
    if (r == 0 && o->view) {
        r = set_string(fs, "lowerdir+", relative(o->base, o->upper));
    }
    for (size_t i = 0; r == 0 && i < o->layers->count; i++) {
        r = set_string(fs, "lowerdir+", relative(o->base, o->layers->items[i]));
    }
    if (r == 0 && !o->view) {
        r = set_string(fs, "upperdir", relative(o->base, o->upper));
    }
    if (r == 0 && !o->view) {
        r = set_string(fs, "workdir", relative(o->base, o->work));
    }
    /*
     * Layers are strangers': they must not redirect to other directories of ours. Marks of
     * trusted.* are for the host's root only; with those of user.* the kernel allows no redirects
     * anyway.
     */
    if (r == 0 && user_is_host_root()) {
        r = set_string(fs, "redirect_dir", "off");
        r = r == 0 ? set_string(fs, "metacopy", "off") : r;
    } else if (r == 0 && fsconfig(fs, FSCONFIG_SET_FLAG, "userxattr", NULL, 0) < 0) {
        r = -errno;
    }
    if (r == 0 && o->throw_away && !o->view &&
        fsconfig(fs, FSCONFIG_SET_FLAG, "volatile", NULL, 0) < 0) {
        r = -errno;
    }
    if (r == 0 && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) {
        r = -errno;
    }
    int fd = r < 0 ? r : fsmount(fs, FSMOUNT_CLOEXEC, 0);
    return fd == -1 ? -errno : fd;
}

/* ':' separates and '\' escapes in the options of mount(2). */
static int add_escaped(struct buf *out, const char *path)
{
    int r = 0;
    for (; *path != '\0' && r == 0; path++) {
        if (*path == ':' || *path == '\\' || *path == ',') {
            r = buf_add_char(out, '\\');
        }
        if (r == 0) {
            r = buf_add_char(out, *path);
        }
    }
    return r;
}

static int build_options(const struct rootfs_options *o, struct buf *out)
{
    int r = buf_add_str(out, "lowerdir=");
    if (r == 0 && o->view) {
        r = add_escaped(out, relative(o->base, o->upper));
        r = r == 0 ? buf_add_char(out, ':') : r;
    }
    for (size_t i = 0; i < o->layers->count && r == 0; i++) {
        r = i > 0 ? buf_add_char(out, ':') : 0;
        r = r == 0 ? add_escaped(out, relative(o->base, o->layers->items[i])) : r;
    }
    if (r == 0 && !o->view) {
        r = buf_add_str(out, ",upperdir=");
        r = r == 0 ? add_escaped(out, relative(o->base, o->upper)) : r;
        r = r == 0 ? buf_add_str(out, ",workdir=") : r;
        r = r == 0 ? add_escaped(out, relative(o->base, o->work)) : r;
    }
    r = r == 0 ? buf_add_str(out,
                             user_is_host_root() ? ",redirect_dir=off,metacopy=off" : ",userxattr")
               : r;
    return r == 0 && o->throw_away && !o->view ? buf_add_str(out, ",volatile") : r;
}

/* In a child with a mount namespace of its own: mounts, sends a detached copy, leaves. */
static _Noreturn void mount_and_send(int socket_fd, const char *options, const char *at)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("isola", at, "overlay", 0, options) < 0) {
        _exit(errno < 255 ? errno : 255);
    }
    int fd = open_tree(AT_FDCWD, at, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (fd < 0 || unix_send_fds(socket_fd, "", 1, &fd, 1) < 0) {
        _exit(errno < 255 ? errno : 255);
    }
    _exit(0);
}

/* A mount of the directory at path with the workload's ids, at name in the working directory. */
static int attach_mapped(const char *path, const char *name, int id_map_fd)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)id_map_fd};
    AUTO(closep) int fd = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (fd < 0 || mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0 ||
        mkdir(name, 0700) < 0 || move_mount(fd, "", AT_FDCWD, name, MOVE_MOUNT_F_EMPTY_PATH) < 0) {
        return -errno;
    }
    return 0;
}

/*
 * In a child with a mount namespace of its own: the overlay of id-mapped mounts. They must be
 * attached somewhere to become layers, which is a tmpfs that only this child sees.
 */
static int mount_mapped(const struct rootfs_options *o)
{
    AUTO(strv_donep) struct strv layers = {0};
    AUTO(buf_donep) struct buf options = {0};
    AUTO(freep) char *dir = strndup(o->upper, (size_t)(strrchr(o->upper, '/') - o->upper));
    AUTO(freep) char *upper = str_printf("top%s", strrchr(o->upper, '/'));
    AUTO(freep) char *work = str_printf("top%s", strrchr(o->work, '/'));
    if (dir == NULL || upper == NULL || work == NULL) {
        return -ENOMEM;
    }
    AUTO(closep) int base = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("isola", o->work, "tmpfs", 0, "mode=700") < 0 || chdir(o->work) < 0) {
        return -errno;
    }
    int r = attach_mapped(dir, "top", o->id_map_fd);
    for (size_t i = 0; r == 0 && i < o->layers->count; i++) {
        r = strv_addf(&layers, "%zu", i);
        r = r < 0 ? r : attach_mapped(o->layers->items[i], layers.items[i], o->id_map_fd);
    }
    const struct rootfs_options here = {.base = o->work,
                                        .layers = &layers,
                                        .upper = upper,
                                        .work = work,
                                        .throw_away = o->throw_away,
                                        .id_map_fd = -1};
    int fd = r < 0 ? r : mount_new(&here);
    if (fd != -EINVAL && fd != -ENOSYS) {
        return fd;
    }
    r = build_options(&here, &options);
    if (r < 0 || mkdir("all", 0700) < 0 || mount("isola", "all", "overlay", 0, options.data) < 0) {
        return r < 0 ? r : -errno;
    }
    fd = open_tree(AT_FDCWD, "all", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static _Noreturn void mount_mapped_and_send(int socket_fd, const struct rootfs_options *o)
{
    int fd = mount_mapped(o);
    int r = fd < 0 ? fd : unix_send_fds(socket_fd, "", 1, &fd, 1);
    _exit(r < 0 ? MIN(-r, 255) : 0);
}

/* The way of older kernels: options of mount(2), one page at most; and of id-mapped layers. */
static int mount_in_child(const struct rootfs_options *o)
{
    AUTO(buf_donep) struct buf options = {0};
    int r = o->id_map_fd >= 0 ? 0 : build_options(o, &options);
    if (r < 0) {
        return r;
    }
    if (options.len >= (size_t)sysconf(_SC_PAGESIZE)) {
        return -E2BIG;
    }
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return -errno;
    }
    AUTO(closep) int ours = pair[0];
    AUTO(closep) int theirs = pair[1];
    pid_t pid = fork();
    if (pid < 0) {
        return -errno;
    }
    if (pid == 0 && o->id_map_fd >= 0) {
        mount_mapped_and_send(theirs, o);
    }
    if (pid == 0) {
        mount_and_send(theirs, options.data, o->work);
    }
    theirs = close_fd(theirs);
    int status;
    r = process_wait(pid, &status);
    if (r < 0 || status != 0) {
        return r < 0 ? r : WIFEXITED(status) ? -WEXITSTATUS(status) : -ECHILD;
    }
    int fd = -1;
    size_t count = 1;
    char byte;
    ssize_t n = unix_recv_fds(ours, &byte, 1, &fd, &count);
    return n < 0 ? (int)n : count == 1 ? fd : -EPROTO;
}

static int make_dir(const char *path, mode_t mode, struct err *err)
{
    if (mkdir(path, mode) < 0 && errno != EEXIST) {
        return err_set(err, errno, "make directory '%s'", path);
    }
    return 0;
}

/* The root of the merged tree shows owner and mode of upper: they must be those of the image. */
static int make_upper(const struct rootfs_options *o, struct err *err)
{
    struct stat st;
    if (mkdir(o->upper, 0755) < 0) {
        return errno == EEXIST ? 0 : err_set(err, errno, "make directory '%s'", o->upper);
    }
    if (stat(o->layers->items[0], &st) < 0) {
        return err_set(err, errno, "open layer '%s'", o->layers->items[0]);
    }
    if (chown(o->upper, st.st_uid, st.st_gid) < 0 || chmod(o->upper, st.st_mode & 07777) < 0) {
        return err_set(err, errno, "dress '%s'", o->upper);
    }
    return 0;
}

static int mount_any(const struct rootfs_options *o)
{
    int fd = o->id_map_fd >= 0 ? -EINVAL : mount_new(o);
    return fd == -EINVAL || fd == -ENOSYS ? mount_in_child(o) : fd;
}

/* With ROOT as the working directory, so that relative names mean what they say. */
static int mount_from_base(const struct rootfs_options *o)
{
    AUTO(closep) int before = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (before < 0 || chdir(o->base) < 0) {
        return -errno;
    }
    /*
     * Not by trying: a mount that fails may leave the mark of a volatile one in the work directory,
     * which keeps the next one from it.
     */
    int fd = access(MOUNT_POINTS, F_OK) < 0 ? make_mount_points() : 0;
    fd = fd < 0 ? fd : mount_any(o);
    if (fchdir(before) < 0) {
        int r = -errno;
        (void)close_fd(fd);
        return r;
    }
    return fd;
}

int rootfs_mount(const struct rootfs_options *o, struct err *err)
{
    size_t count = o->layers->count;
    if (count == 0) {
        return err_say(err, EINVAL, "the image has no layers");
    }
    int r = make_upper(o, err);
    if (r == 0) {
        r = make_dir(o->work, 0700, err);
    }
    AUTO(strv_donep) struct strv layers = {0};
    if (r == 0 && (strv_copy(o->layers, &layers) < 0 ||
                   strv_addf(&layers, "%s/" MOUNT_POINTS, o->base) < 0)) {
        r = err_set(err, ENOMEM, "mount overlay");
    }
    if (r < 0) {
        return r;
    }
    struct rootfs_options all = *o;
    all.layers = &layers;
    int fd = mount_from_base(&all);
    if (fd == -E2BIG) {
        return err_say(err, E2BIG,
                       "the image has %zu layers, more than this kernel's overlayfs takes", count);
    }
    if (o->id_map_fd >= 0 && (fd == -EINVAL || fd == -ENOSYS || fd == -EPERM)) {
        (void)err_set(err, -fd, "mount overlay of %zu id-mapped layers", count);
        err_hint(err, "--userns needs Linux 5.19, and ROOT on a file system that can be id-mapped "
                      "(ext4, xfs, btrfs; tmpfs since 6.3)");
        return fd;
    }
    if (fd == -EINVAL || fd == -ENOTSUP) {
        (void)err_set(err, -fd, "mount overlay of %zu layers", count);
        err_hint(err, "the file system below ROOT must be one that overlayfs can write to "
                      "(ext4, xfs, btrfs; not another overlay)");
        return fd;
    }
    return fd < 0 ? err_set(err, -fd, "mount overlay of %zu layers", count) : fd;
}
