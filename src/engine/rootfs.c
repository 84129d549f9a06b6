#include "engine/rootfs.h"

#include <errno.h>
#include <fcntl.h>
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

/*
 * The new API with one "lowerdir+" a layer, since Linux 6.8. -EINVAL: this kernel does not know it.
 */
static int mount_new(const struct strv *layers, const char *upper, const char *work,
                     bool throw_away)
{
    AUTO(closep) int fs = fsopen("overlay", FSOPEN_CLOEXEC);
    if (fs < 0) {
        return -errno;
    }
    for (size_t i = 0; i < layers->count; i++) {
        if (fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir+", layers->items[i], 0) < 0) {
            return -errno;
        }
    }
    if (upper != NULL && (fsconfig(fs, FSCONFIG_SET_STRING, "upperdir", upper, 0) < 0 ||
                          fsconfig(fs, FSCONFIG_SET_STRING, "workdir", work, 0) < 0)) {
        return -errno;
    }
    if (throw_away && fsconfig(fs, FSCONFIG_SET_FLAG, "volatile", NULL, 0) < 0) {
        return -errno;
    }
    if (!user_is_host_root() && fsconfig(fs, FSCONFIG_SET_FLAG, "userxattr", NULL, 0) < 0) {
        return -errno;
    }
    if (fsconfig(fs, FSCONFIG_SET_STRING, "source", "isola", 0) < 0 ||
        fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) {
        return -errno;
    }
    int fd = fsmount(fs, FSMOUNT_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
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

static int build_options(const struct strv *layers, const char *upper, const char *work,
                         bool throw_away, struct buf *out)
{
    int r = buf_add_str(out, "lowerdir=");
    for (size_t i = 0; i < layers->count && r == 0; i++) {
        r = i > 0 ? buf_add_char(out, ':') : 0;
        r = r == 0 ? add_escaped(out, layers->items[i]) : r;
    }
    if (upper != NULL && r == 0) {
        r = buf_add_str(out, ",upperdir=");
        r = r == 0 ? add_escaped(out, upper) : r;
        r = r == 0 ? buf_add_str(out, ",workdir=") : r;
        r = r == 0 ? add_escaped(out, work) : r;
    }
    /* Marks of trusted.* are for the host's root only. */
    if (r == 0 && !user_is_host_root()) {
        r = buf_add_str(out, ",userxattr");
    }
    return r == 0 && throw_away ? buf_add_str(out, ",volatile") : r;
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

/* The way of older kernels: options of mount(2), one page at most. */
static int mount_old(const struct strv *layers, const char *upper, const char *work,
                     bool throw_away)
{
    AUTO(buf_donep) struct buf options = {0};
    int r = build_options(layers, upper, work, throw_away, &options);
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
    if (pid == 0) {
        mount_and_send(theirs, options.data, work != NULL ? work : layers->items[0]);
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
    if (path != NULL && mkdir(path, mode) < 0 && errno != EEXIST) {
        return err_set(err, errno, "make directory '%s'", path);
    }
    return 0;
}

int rootfs_mount(const struct strv *layers, const char *upper, const char *work, bool throw_away,
                 struct err *err)
{
    if (layers->count == 0) {
        return err_say(err, EINVAL, "the image has no layers");
    }
    int r = make_dir(upper, 0755, err);
    if (r == 0) {
        r = make_dir(work, 0700, err);
    }
    if (r < 0) {
        return r;
    }
    int fd = mount_new(layers, upper, work, throw_away);
    if (fd == -EINVAL || fd == -ENOSYS) {
        fd = mount_old(layers, upper, work, throw_away);
    }
    if (fd == -E2BIG) {
        return err_say(err, E2BIG,
                       "the image has %zu layers, more than this kernel's overlayfs takes",
                       layers->count);
    }
    if (fd == -EINVAL || fd == -ENOTSUP) {
        (void)err_set(err, -fd, "mount overlay of %zu layers", layers->count);
        err_hint(err, "the file system below ROOT must be one that overlayfs can write to "
                      "(ext4, xfs, btrfs; not another overlay)");
        return fd;
    }
    return fd < 0 ? err_set(err, -fd, "mount overlay of %zu layers", layers->count) : fd;
}
