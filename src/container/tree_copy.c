/* tmpcopyup: what the image has at a directory, copied into the tmpfs that will cover it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/err.h"
#include "base/path.h"
#include "container/mounts.h"

#define DEPTH_MAX 64

static int copy_children(int from, int to, int depth);

static int copy_xattrs(int from, int to)
{
    char names[4096];
    char value[4096];
    ssize_t len = flistxattr(from, names, sizeof(names));
    for (ssize_t at = 0; at < len; at += (ssize_t)strlen(names + at) + 1) {
        ssize_t n = fgetxattr(from, names + at, value, sizeof(value));
        /* tmpfs takes only some kinds; the others mean nothing there. */
        if (n >= 0 && fsetxattr(to, names + at, value, (size_t)n, 0) < 0 && errno != EOPNOTSUPP &&
            errno != EPERM) {
            return -errno;
        }
    }
    return 0;
}

static int dress(int from, int to, const struct stat *st)
{
    if (fchown(to, st->st_uid, st->st_gid) < 0 || fchmod(to, st->st_mode & 07777) < 0) {
        return -errno;
    }
    int r = copy_xattrs(from, to);
    const struct timespec times[2] = {st->st_atim, st->st_mtim};
    return r < 0 ? r : (futimens(to, times) < 0 ? -errno : 0);
}

static int copy_file(int from_dir, int to_dir, const char *name, const struct stat *st)
{
    AUTO(closep) int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    AUTO(closep)
    int to = from < 0
                 ? -1
                 : openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0) {
        return -errno;
    }
    for (;;) {
        ssize_t n = sendfile(to, from, NULL, (size_t)1 << 20);
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            return dress(from, to, st);
        }
    }
}

static int copy_directory(int from_dir, int to_dir, const char *name, const struct stat *st,
                          int depth)
{
    AUTO(closep)
    int from = openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0 || mkdirat(to_dir, name, 0700) < 0) {
        return -errno;
    }
    AUTO(closep) int to = openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (to < 0) {
        return -errno;
    }
    int r = copy_children(from, to, depth + 1);
    return r < 0 ? r : dress(from, to, st);
}

static int copy_entry(int from, int to, const char *name, int depth)
{
    struct stat st;
    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return -errno;
    }
    if (S_ISDIR(st.st_mode)) {
        return copy_directory(from, to, name, &st, depth);
    }
    if (S_ISREG(st.st_mode)) {
        return copy_file(from, to, name, &st);
    }
    if (S_ISLNK(st.st_mode)) {
        char *target = NULL;
        int r = read_link_at(from, name, &target);
        if (r == 0 && symlinkat(target, to, name) < 0) {
            r = -errno;
        }
        free(target);
        return r < 0 ? r
                     : (fchownat(to, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno
                                                                                          : 0);
    }
    if (S_ISFIFO(st.st_mode)) {
        return mknodat(to, name, st.st_mode, 0) < 0 ||
                       fchownat(to, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0
                   ? -errno
                   : 0;
    }
    return 0; /* devices and sockets are not copied: they have no content */
}

static int copy_children(int from, int to, int depth)
{
    if (depth > DEPTH_MAX) {
        return -ELOOP;
    }
    int copy = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closedirp) DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (dir == NULL) {
        (void)close_fd(copy);
        return -errno;
    }
    int r = 0;
    struct dirent *entry;
    while (r == 0 && (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            r = copy_entry(from, to, entry->d_name, depth);
        }
    }
    return r;
}

int tree_copy(int from_fd, int to_fd, struct err *err)
{
    AUTO(closep) int to = openat(to_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closep) int from = openat(from_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    int r = to < 0 || from < 0 || fstat(from, &st) < 0 ? -errno : copy_children(from, to, 0);
    if (r == 0 && (fchown(to, st.st_uid, st.st_gid) < 0 || fchmod(to, st.st_mode & 07777) < 0)) {
        r = -errno;
    }
    return r < 0 ? err_set(err, -r, "copy the directory") : 0;
}
