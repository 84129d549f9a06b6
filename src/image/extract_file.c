/* Files, directories and devices of an archive, with their owners, modes, attributes and times. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/str.h"
#include "image/extract_internal.h"

/*
 * Attributes that belong to the overlay's inner workings or to this host's security modules are
 * never taken from an archive.
 */
static bool xattr_is_wanted(const char *name)
{
    if (str_starts(name, "user.")) {
        return !str_starts(name, "user.overlay.");
    }
    return str_eq(name, "security.capability") || str_eq(name, "system.posix_acl_access") ||
           str_eq(name, "system.posix_acl_default");
}

static int set_xattrs(int dir_fd, const char *name, int fd, const struct tar_entry *entry)
{
    char path[64 + 256];
    for (size_t i = 0; i < entry->xattr_count; i++) {
        const struct tar_xattr *x = &entry->xattrs[i];
        if (!xattr_is_wanted(x->name)) {
            continue;
        }
        int r;
        if (fd >= 0) {
            r = fsetxattr(fd, x->name, x->value, x->size, 0);
        } else {
            (void)snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir_fd, name);
            r = lsetxattr(path, x->name, x->value, x->size, 0);
        }
        /* User attributes are not for links and devices, nor for every file system. */
        if (r < 0 &&
            (str_eq(x->name, "security.capability") || (errno != ENOTSUP && errno != EPERM))) {
            return -errno;
        }
    }
    return 0;
}

static void owner_of(const struct extractor *x, const struct tar_entry *entry, uid_t *ret_uid,
                     gid_t *ret_gid)
{
    *ret_uid = x->rules->ignore_owner ? x->rules->owner_uid : entry->uid;
    *ret_gid = x->rules->ignore_owner ? x->rules->owner_gid : entry->gid;
}

/* Owner, then mode (chown clears setuid), then attributes (chown clears capabilities too). */
static int set_metadata(const struct extractor *x, int fd, const struct tar_entry *entry,
                        bool mode_is_set)
{
    uid_t uid;
    gid_t gid;
    owner_of(x, entry, &uid, &gid);
    if ((uid != x->euid || gid != x->egid) && fchown(fd, uid, gid) < 0) {
        return -errno;
    }
    if (!mode_is_set && fchmod(fd, entry->mode) < 0) {
        return -errno;
    }
    return set_xattrs(-1, NULL, fd, entry);
}

static struct timespec mtime_of(const struct tar_entry *entry)
{
    return (struct timespec){.tv_sec = entry->mtime_sec, .tv_nsec = entry->mtime_nsec};
}

static int set_times(int fd, const struct tar_entry *entry)
{
    const struct timespec times[2] = {mtime_of(entry), mtime_of(entry)};
    return futimens(fd, times) < 0 ? -errno : 0;
}

int extract_make_room(struct extractor *x, int dir_fd, const char *name, bool *ret_was_whiteout)
{
    struct stat st;
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    if (ret_was_whiteout != NULL) {
        *ret_was_whiteout = stat_is_whiteout(&st);
    }
    if (!S_ISDIR(st.st_mode)) {
        return unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
    }
    if (x->rules->whiteouts == TAR_WHITEOUTS_PLAIN) {
        return -EISDIR;
    }
    return remove_tree_at(dir_fd, name);
}

/* Holes stay holes. */
static int write_sparse(struct extractor *x, int fd, const struct tar_entry *entry, struct err *err)
{
    for (;;) {
        const void *data;
        uint64_t offset;
        ssize_t n = tar_reader_data_at(x->reader, &data, &offset, err);
        if (n < 0) {
            return (int)n;
        }
        if (n == 0) {
            return ftruncate(fd, (off_t)entry->size) < 0 ? -errno : 0;
        }
        int r = lseek(fd, (off_t)offset, SEEK_SET) < 0 ? -errno : write_full(fd, data, (size_t)n);
        if (r < 0) {
            return r;
        }
        x->result.bytes += (uint64_t)n;
    }
}

static int write_data(struct extractor *x, int fd, const struct tar_entry *entry, struct err *err)
{
    if (entry->sparse) {
        return write_sparse(x, fd, entry, err);
    }
    for (;;) {
        const void *data;
        ssize_t n = tar_reader_data(x->reader, &data, err);
        if (n <= 0) {
            return (int)n;
        }
        int r = write_full(fd, data, (size_t)n);
        if (r < 0) {
            return r;
        }
        x->result.bytes += (uint64_t)n;
    }
}

int extract_file(struct extractor *x, int dir_fd, const char *name, const struct tar_entry *entry,
                 struct err *err)
{
    uid_t uid;
    gid_t gid;
    owner_of(x, entry, &uid, &gid);
    /* Nobody may run or read what is not yet his: special bits only after chown. */
    bool exact = (entry->mode & (07000 | x->umask)) == 0;
    mode_t mode = exact ? entry->mode : 0600;
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    AUTO(closep) int fd = openat(dir_fd, name, flags, mode);
    if (fd < 0 && errno == EEXIST) {
        int r = extract_make_room(x, dir_fd, name, NULL);
        if (r < 0) {
            return r;
        }
        fd = openat(dir_fd, name, flags, mode);
    }
    if (fd < 0) {
        return -errno;
    }
    int r = write_data(x, fd, entry, err);
    r = r < 0 ? r : set_metadata(x, fd, entry, exact);
    return r < 0 ? r : set_times(fd, entry);
}

int extract_set_opaque(const struct extractor *x, int fd)
{
    return fsetxattr(fd, x->dirs.opaque, "y", 1, 0) < 0 ? -errno : 0;
}

int extract_directory(struct extractor *x, const struct extract_level *level, const char *name,
                      const struct tar_entry *entry)
{
    bool hides = false;
    struct stat st;
    int fd = -1;
    if (mkdirat(level->fd, name, 0700) < 0) {
        if (errno != EEXIST) {
            return -errno;
        }
        if (fstatat(level->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            return -errno;
        }
        if (!S_ISDIR(st.st_mode)) {
            int r = extract_make_room(x, level->fd, name, &hides);
            if (r < 0) {
                return r;
            }
            if (mkdirat(level->fd, name, 0700) < 0) {
                return -errno;
            }
        }
    }
    fd = openat(level->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    AUTO(closep) int owned = fd;
    if (owned < 0) {
        return -errno;
    }
    int r = set_metadata(x, owned, entry, false);
    if (r == 0 && hides && x->rules->whiteouts == TAR_WHITEOUTS_OVERLAY) {
        r = extract_set_opaque(x, owned);
    }
    if (r < 0) {
        return r;
    }
    AUTO(freep)
    char *real = str_printf("%s%s%s", level->real, level->real[0] != '\0' ? "/" : "", name);
    return real != NULL ? extract_remember_time(x, real, mtime_of(entry)) : -ENOMEM;
}

int extract_root(struct extractor *x, const struct tar_entry *entry)
{
    if (entry->type != TAR_DIRECTORY) {
        return -EINVAL;
    }
    int r = set_metadata(x, x->dirs.root_fd, entry, false);
    return r < 0 ? r : extract_remember_time(x, "", mtime_of(entry));
}

/* Owner, mode, attributes and times of what cannot be opened. */
static int set_special(const struct extractor *x, int dir_fd, const char *name,
                       const struct tar_entry *entry)
{
    uid_t uid;
    gid_t gid;
    owner_of(x, entry, &uid, &gid);
    if (fchownat(dir_fd, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0) {
        return -errno;
    }
    if (entry->type != TAR_SYMLINK) {
        /* The tree may be a running workload's, who may put a link in place: change what we see. */
        char path[64];
        struct stat st;
        AUTO(closep) int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0) {
            return -errno;
        }
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (S_ISLNK(st.st_mode) || chmod(path, entry->mode) < 0) {
            return S_ISLNK(st.st_mode) ? -ELOOP : -errno;
        }
    }
    int r = set_xattrs(dir_fd, name, -1, entry);
    const struct timespec times[2] = {mtime_of(entry), mtime_of(entry)};
    if (r == 0 && utimensat(dir_fd, name, times, AT_SYMLINK_NOFOLLOW) < 0) {
        r = -errno;
    }
    return r;
}

int extract_special(struct extractor *x, int dir_fd, const char *name,
                    const struct tar_entry *entry, struct err *err)
{
    bool device = entry->type == TAR_CHARDEV || entry->type == TAR_BLOCKDEV;
    if (device && x->rules->refuse_devices) {
        return err_say(err, EPERM, "device nodes are not allowed here");
    }
    if (entry->type == TAR_CHARDEV && entry->major == 0 && entry->minor == 0) {
        return err_say(err, EBADMSG, "device 0:0 would hide a file of the layers below");
    }
    int r = extract_make_room(x, dir_fd, name, NULL);
    if (r < 0) {
        return r;
    }
    if (entry->type == TAR_SYMLINK) {
        r = symlinkat(entry->link, dir_fd, name);
    } else {
        mode_t type = entry->type == TAR_FIFO      ? S_IFIFO
                      : entry->type == TAR_CHARDEV ? S_IFCHR
                                                   : S_IFBLK;
        r = mknodat(dir_fd, name, type | 0600, makedev(entry->major, entry->minor));
        if (r < 0 && device && errno == EPERM && x->rules->skip_devices) {
            return 0;
        }
    }
    return r < 0 ? -errno : set_special(x, dir_fd, name, entry);
}
