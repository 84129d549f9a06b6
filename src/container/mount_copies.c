#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/io.h"
#include "base/str.h"
#include "base/unix_socket.h"
#include "container/kernel.h"
#include "container/mounts.h"

/* What the copies may grow to. */
#define SIZE_LIMIT "size=16m"
#define COPY_MAX ((size_t)8 << 20)

struct copies {
    int dir_fd;
    bool attached;
};

static bool has_copies(const struct mount_plan *plan)
{
    for (size_t i = 0; i < plan->spec->mount_count; i++) {
        if (plan->options[i].copy) {
            return true;
        }
    }
    return false;
}

static int copy_file(int from, int to)
{
    AUTO(buf_donep) struct buf data = {0};
    struct stat st;
    if (fstat(from, &st) < 0) {
        return -errno;
    }
    if (!S_ISREG(st.st_mode)) {
        return -EINVAL;
    }
    int r = read_fd(from, COPY_MAX, &data);
    if (r < 0 || (data.len > 0 && (r = write_full(to, data.data, data.len)) < 0)) {
        return r;
    }
    return fchmod(to, st.st_mode & 0777) < 0 ? -errno : 0;
}

/* Called as its target is, unless another is already. */
static int make_copy(const struct copies *copies, int from, const char *target, size_t index,
                     char *name, size_t size)
{
    const char *slash = strrchr(target, '/');
    (void)snprintf(name, size, "%s", slash != NULL ? slash + 1 : target);
    AUTO(leave_openp) int to = -1;
    for (int try = 0; try < 2; try++) {
        to = openat(copies->dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (to >= 0 || errno != EEXIST) {
            break;
        }
        (void)snprintf(name, size, "%zu", index);
    }
    int r = to < 0 ? -errno : copy_file(from, to);
    /* Closed now: a program that is open for writing cannot be executed. */
    to = close_fd(to);
    return r;
}

/* Before Linux 6.15 only what is attached can be cloned: for that moment it covers the root. */
static int clone_copy(struct mount_plan *plan, struct copies *copies, const char *name)
{
    const unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW;
    int fd = open_tree(copies->dir_fd, name, flags);
    if (fd >= 0 || errno != EINVAL || copies->attached) {
        return fd < 0 ? -errno : fd;
    }
    if (move_mount(copies->dir_fd, "", plan->rootfs_fd, "",
                   MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0) {
        return -errno;
    }
    copies->attached = true;
    fd = open_tree(copies->dir_fd, name, flags);
    return fd < 0 ? -errno : fd;
}

static int detach(struct copies *copies)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", copies->dir_fd);
    return copies->attached && umount2(path, MNT_DETACH) < 0 ? -errno : 0;
}

int mount_copies_make(struct mount_plan *plan, struct err *err)
{
    static const char *const options[] = {"mode=755", SIZE_LIMIT};
    struct copies copies = {.dir_fd = -1};
    int r = 0;
    if (!has_copies(plan)) {
        return 0;
    }
    /* It stays open until the exec, which then is the last to leave it, or whom we send it to. */
    copies.dir_fd = mount_new("tmpfs", "files", options, COUNT(options),
                              MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
    if (copies.dir_fd < 0) {
        return err_wrap(err, -copies.dir_fd, "copies of files");
    }
    for (size_t i = 0; i < plan->spec->mount_count; i++) {
        char name[256];
        if (!plan->options[i].copy) {
            continue;
        }
        const char *target = plan->spec->mounts[i].destination;
        r = make_copy(&copies, plan->sources[i], target, i, name, sizeof(name));
        int clone = r < 0 ? r : clone_copy(plan, &copies, name);
        if (clone < 0) {
            return err_set(err, -clone, "mounts[%zu]: copy '%s'", i, plan->spec->mounts[i].source);
        }
        (void)close_fd(plan->sources[i]);
        plan->sources[i] = clone;
    }
    r = detach(&copies);
    if (r == 0 && plan->copies_socket >= 0) {
        r = unix_send_fds(plan->copies_socket, "f", 1, &copies.dir_fd, 1);
    }
    return r < 0 ? err_set(err, -r, "hand over the copies of files") : 0;
}
