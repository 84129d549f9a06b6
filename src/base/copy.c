#include "base/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/path.h"

#define COPY_DEPTH_MAX 256
#define XATTR_LIST_MAX 65536

static int copy_xattrs(int from_fd, int to_fd)
{
    AUTO(freep) char *names = malloc(XATTR_LIST_MAX);
    AUTO(freep) char *value = malloc(XATTR_SIZE_MAX);
    if (names == NULL || value == NULL) {
        return -ENOMEM;
    }
    ssize_t len = flistxattr(from_fd, names, XATTR_LIST_MAX);
    for (ssize_t at = 0; at < len; at += (ssize_t)strlen(names + at) + 1) {
        /* Overlayfs' own marks describe its layers, not the file. */
        if (strncmp(names + at, "trusted.overlay.", 16) == 0) {
            continue;
        }
        ssize_t n = fgetxattr(from_fd, names + at, value, XATTR_SIZE_MAX);
        /* A file system takes only some kinds; the others mean nothing there. */
        if (n >= 0 && fsetxattr(to_fd, names + at, value, (size_t)n, 0) < 0 && errno != ENOTSUP &&
            errno != EPERM) {
            return -errno;
        }
    }
    return 0;
}

int copy_attributes(int from_fd, int to_fd)
{
    struct stat st;
    if (fstat(from_fd, &st) < 0 || fchown(to_fd, st.st_uid, st.st_gid) < 0 ||
        fchmod(to_fd, st.st_mode & 07777) < 0) {
        return -errno;
    }
    int r = copy_xattrs(from_fd, to_fd);
    struct timespec times[2] = {st.st_atim, st.st_mtim};
    return r < 0 ? r : futimens(to_fd, times) < 0 ? -errno : 0;
}

/* len bytes from where both descriptors stand. */
static int copy_range(int from_fd, int to_fd, uint64_t len)
{
    while (len > 0) {
        size_t want = len > (size_t)1 << 30 ? (size_t)1 << 30 : (size_t)len;
        ssize_t n = copy_file_range(from_fd, NULL, to_fd, NULL, want, 0);
        if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP)) {
            n = sendfile(to_fd, from_fd, NULL, want > (size_t)1 << 20 ? (size_t)1 << 20 : want);
        }
        if (n <= 0) {
            return n < 0 ? -errno : 0; /* it became shorter meanwhile */
        }
        len -= (uint64_t)n;
    }
    return 0;
}

/* Holes stay holes: a small file may say that it is huge. */
static int copy_data(int from_fd, int to_fd, uint64_t *bytes)
{
    struct stat st;
    if (fstat(from_fd, &st) < 0) {
        return -errno;
    }
    for (off_t at = 0; at < st.st_size;) {
        off_t data = lseek(from_fd, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) {
            break;
        }
        off_t end = data < 0 ? -1 : lseek(from_fd, data, SEEK_HOLE);
        if (data < 0 || end < 0 || lseek(from_fd, data, SEEK_SET) < 0 ||
            lseek(to_fd, data, SEEK_SET) < 0) {
            return -errno;
        }
        int r = copy_range(from_fd, to_fd, (uint64_t)(end - data));
        if (r < 0) {
            return r;
        }
        *bytes += (uint64_t)(end - data);
        at = end;
    }
    return ftruncate(to_fd, st.st_size) < 0 ? -errno : 0;
}

static int copy_file(int from_dir, int to_dir, const char *name, uint64_t *bytes)
{
    AUTO(closep) int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (from < 0) {
        return -errno;
    }
    AUTO(closep)
    int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0) {
        return -errno;
    }
    int r = copy_data(from, to, bytes);
    return r < 0 ? r : copy_attributes(from, to);
}

static int copy_link(int from_dir, int to_dir, const char *name, const struct stat *st)
{
    AUTO(freep) char *text = NULL;
    int r = read_link_at(from_dir, name, &text);
    if (r < 0) {
        return r;
    }
    if (symlinkat(text, to_dir, name) < 0 ||
        fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0) {
        return -errno;
    }
    return 0;
}

static int copy_special(int to_dir, const char *name, const struct stat *st)
{
    if (mknodat(to_dir, name, st->st_mode, st->st_rdev) < 0) {
        /* In a user namespace there are no devices to be made. */
        return errno == EPERM ? 0 : -errno;
    }
    if (fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
        fchmodat(to_dir, name, st->st_mode & 07777, 0) < 0) {
        return -errno;
    }
    return 0;
}

static int copy_level(int from_fd, int to_fd, int depth);

static int copy_dir(int from_dir, int to_dir, const char *name, int depth)
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
    int r = copy_level(from, to, depth + 1);
    return r < 0 ? r : copy_attributes(from, to);
}

/* No directory. */
static int copy_leaf(int from_fd, int to_fd, const char *name, const struct stat *st,
                     uint64_t *bytes)
{
    if (S_ISREG(st->st_mode)) {
        return copy_file(from_fd, to_fd, name, bytes);
    }
    int r =
        S_ISLNK(st->st_mode) ? copy_link(from_fd, to_fd, name, st) : copy_special(to_fd, name, st);
    const struct timespec times[2] = {st->st_atim, st->st_mtim};
    if (r == 0 && utimensat(to_fd, name, times, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT) {
        r = -errno;
    }
    return r;
}

int copy_name(int from_fd, int to_fd, const char *name, uint64_t *ret_bytes)
{
    struct stat st;
    uint64_t bytes = 0;
    if (fstatat(from_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return -errno;
    }
    int r = S_ISDIR(st.st_mode) ? -EISDIR : copy_leaf(from_fd, to_fd, name, &st, &bytes);
    if (r == 0 && ret_bytes != NULL) {
        *ret_bytes = bytes;
    }
    return r;
}

static int copy_entry(int from_fd, int to_fd, const char *name, int depth)
{
    struct stat st;
    struct stat there;
    uint64_t bytes = 0;
    if (fstatat(from_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return -errno;
    }
    if (fstatat(to_fd, name, &there, AT_SYMLINK_NOFOLLOW) == 0) {
        return 0;
    }
    return S_ISDIR(st.st_mode) ? copy_dir(from_fd, to_fd, name, depth)
                               : copy_leaf(from_fd, to_fd, name, &st, &bytes);
}

static int copy_level(int from_fd, int to_fd, int depth)
{
    if (depth > COPY_DEPTH_MAX) {
        return -ELOOP;
    }
    int fd = openat(from_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closedirp) DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        int r = -errno;
        (void)close_fd(fd);
        return r;
    }
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            return -errno;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        int r = copy_entry(from_fd, to_fd, entry->d_name, depth);
        if (r < 0) {
            return r;
        }
    }
}

int copy_children(int from_fd, int to_fd)
{
    return copy_level(from_fd, to_fd, 0);
}
