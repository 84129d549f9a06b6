#include "image/tar_extract.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/str.h"
#include "base/user_namespace.h"
#include "image/extract_dir.h"

#define WHITEOUT_PREFIX ".wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"
#define WHITEOUT_META ".wh..wh."
#define NAME_SHOWN_MAX 200

/* Times of a directory are set when nothing is put into it any more. */
struct directory_time {
    char *real;
    struct timespec mtime;
};

/* A file that a hard link has brought here from the layers below. */
struct copied_file {
    ino_t inode;
    char real[];
};

struct extractor {
    const struct extract_rules *rules;
    struct tar_reader *reader;
    struct extract_result result;
    struct extract_dirs dirs;
    struct directory_time *times;
    size_t time_count, time_size;
    struct buf name; /* of the current entry, cleaned */
    struct buf link;
    mode_t umask;
    uid_t euid;
    gid_t egid;
    bool root_opaque;
    void *copied; /* tsearch() tree of struct copied_file */
};

/* Prints hostile names without their control characters. */
static int fail(struct err *err, int code, const char *what, const char *name)
{
    char shown[NAME_SHOWN_MAX + 4];
    size_t n = 0;
    for (; name[n] != '\0' && n < NAME_SHOWN_MAX; n++) {
        unsigned char c = (unsigned char)name[n];
        shown[n] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    (void)snprintf(shown + n, sizeof(shown) - n, "%s", name[n] != '\0' ? "..." : "");
    if (err != NULL && err->code != 0) {
        return err_wrap(err, code, "%s '%s'", what, shown);
    }
    return err_set(err, code, "%s '%s'", what, shown);
}

/* umask(2) can only be read by changing it, for all threads. */
static mode_t read_umask(void)
{
    AUTO(buf_donep) struct buf text = {0};
    const char *line = NULL;
    if (read_file("/proc/self/status", 65536, &text) == 0) {
        line = strstr(text.data, "\nUmask:");
    }
    return line != NULL ? (mode_t)strtoul(line + 7, NULL, 8) : 0777;
}

/*
 * Without leading slashes, ".", "..", empty parts and trailing slashes; the root is "".
 * -EINVAL when it leads out of the root.
 */
static int clean_name(const char *name, struct buf *out)
{
    buf_clear(out);
    while (*name != '\0') {
        size_t n = strcspn(name, "/");
        const char *part = name;
        name += n + strspn(name + n, "/");
        if (n == 0 || (n == 1 && part[0] == '.')) {
            continue;
        }
        if (n == 2 && part[0] == '.' && part[1] == '.') {
            if (out->len == 0) {
                return -EINVAL;
            }
            char *slash = strrchr(out->data, '/');
            out->len = slash != NULL ? (size_t)(slash - out->data) : 0;
            out->data[out->len] = '\0';
            continue;
        }
        if ((out->len > 0 && buf_add_char(out, '/') < 0) || buf_add(out, part, n) < 0) {
            return -ENOMEM;
        }
    }
    return buf_add(out, "", 0) < 0 || buf_reserve(out, 1) < 0 ? -ENOMEM : 0;
}

static int rename_top(const struct extractor *x, struct buf *name)
{
    if (x->rules->rename_top == NULL || name->len == 0) {
        return 0;
    }
    AUTO(freep) char *rest = strdup(name->data + strcspn(name->data, "/"));
    buf_clear(name);
    return rest == NULL || buf_printf(name, "%s%s", x->rules->rename_top, rest) < 0 ? -ENOMEM : 0;
}

static int remember_time(struct extractor *x, const char *real, struct timespec mtime)
{
    if (x->time_count == x->time_size) {
        size_t size = MAX(x->time_size * 2, (size_t)64);
        struct directory_time *times = reallocarray(x->times, size, sizeof(*times));
        if (times == NULL) {
            return -ENOMEM;
        }
        x->times = times;
        x->time_size = size;
    }
    char *copy = strdup(real);
    if (copy == NULL) {
        return -ENOMEM;
    }
    x->times[x->time_count++] = (struct directory_time){.real = copy, .mtime = mtime};
    return 0;
}

static int made_implied(void *data, const char *real, const struct stat *like)
{
    return remember_time(data, real, like->st_mtim);
}

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

/*
 * Takes away what has the name, so that a new file can be made. In a layer a later entry wins; in
 * `cp` a directory stays.
 */
static int make_room(struct extractor *x, int dir_fd, const char *name, bool *ret_was_whiteout)
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

static int extract_file(struct extractor *x, int dir_fd, const char *name,
                        const struct tar_entry *entry, struct err *err)
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
        int r = make_room(x, dir_fd, name, NULL);
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

static int set_opaque(const struct extractor *x, int fd)
{
    return fsetxattr(fd, x->dirs.opaque, "y", 1, 0) < 0 ? -errno : 0;
}

static int extract_directory(struct extractor *x, const struct extract_level *level,
                             const char *name, const struct tar_entry *entry)
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
            int r = make_room(x, level->fd, name, &hides);
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
        r = set_opaque(x, owned);
    }
    if (r < 0) {
        return r;
    }
    AUTO(freep)
    char *real = str_printf("%s%s%s", level->real, level->real[0] != '\0' ? "/" : "", name);
    return real != NULL ? remember_time(x, real, mtime_of(entry)) : -ENOMEM;
}

static int extract_root(struct extractor *x, const struct tar_entry *entry)
{
    if (entry->type != TAR_DIRECTORY) {
        return -EINVAL;
    }
    int r = set_metadata(x, x->dirs.root_fd, entry, false);
    return r < 0 ? r : remember_time(x, "", mtime_of(entry));
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

static int extract_special(struct extractor *x, int dir_fd, const char *name,
                           const struct tar_entry *entry, struct err *err)
{
    bool device = entry->type == TAR_CHARDEV || entry->type == TAR_BLOCKDEV;
    if (device && x->rules->refuse_devices) {
        return err_say(err, EPERM, "device nodes are not allowed here");
    }
    if (entry->type == TAR_CHARDEV && entry->major == 0 && entry->minor == 0) {
        return err_say(err, EBADMSG, "device 0:0 would hide a file of the layers below");
    }
    int r = make_room(x, dir_fd, name, NULL);
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

/* Parent directory and last part of a cleaned path. */
static int open_parent(struct extractor *x, const struct buf *path, bool make,
                       const struct extract_level **ret_level, const char **ret_name,
                       struct err *err)
{
    const char *slash = strrchr(path->data, '/');
    *ret_name = slash != NULL ? slash + 1 : path->data;
    if (strlen(*ret_name) > 255) {
        return -ENAMETOOLONG;
    }
    return extract_dirs_get(&x->dirs, path->data, slash != NULL ? (size_t)(slash - path->data) : 0,
                            make, ret_level, err);
}

static int compare_copied(const void *a, const void *b)
{
    return strcmp(((const struct copied_file *)a)->real, ((const struct copied_file *)b)->real);
}

static int remember_copied(struct extractor *x, const struct extract_level *level, const char *name,
                           ino_t inode)
{
    size_t size = strlen(level->real) + strlen(name) + 2;
    struct copied_file *file = malloc(sizeof(*file) + size);
    if (file == NULL) {
        return -ENOMEM;
    }
    file->inode = inode;
    (void)snprintf(file->real, size, "%s/%s", level->real, name);
    struct copied_file **node = tsearch(file, &x->copied, compare_copied);
    if (node == NULL || *node != file) {
        if (node != NULL) {
            (*node)->inode = inode;
        }
        free(file);
    }
    return node != NULL ? 0 : -ENOMEM;
}

/* A file that only a link has brought here is one of the layers below: a whiteout hides it. */
static int drop_copied(struct extractor *x, const struct extract_level *level, const char *name)
{
    struct stat st;
    if (x->copied == NULL || fstatat(level->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return 0;
    }
    size_t size = strlen(level->real) + strlen(name) + 2;
    AUTO(freep) struct copied_file *key = malloc(sizeof(*key) + size);
    if (key == NULL) {
        return -ENOMEM;
    }
    (void)snprintf(key->real, size, "%s/%s", level->real, name);
    struct copied_file *const *node = tfind(key, &x->copied, compare_copied);
    return node != NULL && (*node)->inode == st.st_ino && unlinkat(level->fd, name, 0) < 0 ? -errno
                                                                                           : 0;
}

/* The same for directories that this layer has made opaque, before or after the link. */
static void drop_hidden(const void *node, VISIT visit, void *data)
{
    const struct extractor *x = data;
    const struct copied_file *file = *(const struct copied_file *const *)node;
    if (visit != leaf && visit != postorder) {
        return;
    }
    const char *name = strrchr(file->real, '/') + 1;
    AUTO(freep) char *parent = strndup(file->real, (size_t)(name - 1 - file->real));
    if (parent == NULL || (!x->root_opaque && !layer_hides_below(x->dirs.root_fd, parent))) {
        return;
    }
    struct stat st;
    AUTO(closep)
    int dir = open_resolved(x->dirs.root_fd, parent[0] != '\0' ? parent : ".",
                            O_RDONLY | O_DIRECTORY, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
    if (dir >= 0 && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == file->inode) {
        (void)unlinkat(dir, name, 0);
    }
}

/*
 * The file that a hard link names: of this archive, or of the layers below, then copied up to its
 * place as overlayfs does (the OCI image-spec allows it, "Hardlinks"). *ret_dir is the caller's.
 */
static int find_link_target(struct extractor *x, int *ret_dir, const char **ret_name,
                            struct stat *ret_st, struct err *err)
{
    const struct extract_level *level;
    int r = open_parent(x, &x->link, false, &level, ret_name, err);
    bool here = r == 0 && fstatat(level->fd, *ret_name, ret_st, AT_SYMLINK_NOFOLLOW) == 0;
    if (r < 0 && r != -ENOENT) {
        return r;
    }
    if (!here && x->dirs.parent_given && !x->root_opaque) {
        r = open_parent(x, &x->link, true, &level, ret_name, err);
        here = r == 0 && fstatat(level->fd, *ret_name, ret_st, AT_SYMLINK_NOFOLLOW) == 0;
    }
    if (r == 0 && !here && x->dirs.parent_given && !x->root_opaque) {
        uint64_t bytes = 0;
        r = extract_copy_up(&x->dirs, level, *ret_name, &bytes, err);
        here = r == 0 && fstatat(level->fd, *ret_name, ret_st, AT_SYMLINK_NOFOLLOW) == 0;
        x->result.bytes += bytes;
        r = here ? remember_copied(x, level, *ret_name, ret_st->st_ino) : r;
    }
    if (r < 0 && r != -ENOENT && r != -EPERM) {
        return r;
    }
    if (r == -EPERM || (here && S_ISDIR(ret_st->st_mode))) {
        return err_say(err, EPERM, "hard link to a directory");
    }
    if (!here || stat_is_whiteout(ret_st)) {
        return err_say(err, ENOENT, "hard link to a file that is not in this archive%s",
                       x->dirs.parent_given ? ", nor in the layers below" : "");
    }
    /* The next lookup may close it. */
    *ret_dir = fcntl(level->fd, F_DUPFD_CLOEXEC, 3);
    return *ret_dir < 0 ? -errno : 0;
}

static int extract_hardlink(struct extractor *x, const struct tar_entry *entry, struct err *err)
{
    const char *name;
    AUTO(closep) int from = -1;
    struct stat st;
    int r = clean_name(entry->link, &x->link);
    r = r < 0 ? r : rename_top(x, &x->link);
    if (r < 0 || x->link.len == 0) {
        return err_say(err, r == -ENOMEM ? ENOMEM : EINVAL, "hard link out of the root");
    }
    r = find_link_target(x, &from, &name, &st, err);
    if (r < 0) {
        return r;
    }
    const struct extract_level *to;
    const char *new_name;
    r = open_parent(x, &x->name, true, &to, &new_name, err);
    if (r < 0) {
        return r;
    }
    struct stat now;
    if (fstatat(to->fd, new_name, &now, AT_SYMLINK_NOFOLLOW) == 0 && now.st_ino == st.st_ino &&
        now.st_dev == st.st_dev) {
        return 0;
    }
    r = make_room(x, to->fd, new_name, NULL);
    extract_dirs_forget(&x->dirs);
    r = r < 0 ? r : open_parent(x, &x->name, true, &to, &new_name, err);
    if (r < 0) {
        return r;
    }
    return linkat(from, name, to->fd, new_name, 0) < 0 ? -errno : 0;
}

static int extract_whiteout(struct extractor *x, const struct extract_level *level,
                            const char *name)
{
    int dir_fd = level->fd;
    x->result.whiteouts++;
    if (strcmp(name, WHITEOUT_OPAQUE) == 0) {
        if (dir_fd == x->dirs.root_fd) {
            x->root_opaque = true;
            return 0;
        }
        return set_opaque(x, dir_fd);
    }
    if (str_starts(name, WHITEOUT_META)) {
        return 0; /* aufs' own notes */
    }
    const char *hidden = name + strlen(WHITEOUT_PREFIX);
    if (!path_is_plain_name(hidden)) {
        return -EINVAL;
    }
    int r = drop_copied(x, level, hidden);
    if (r < 0) {
        return r;
    }
    if (mknodat(dir_fd, hidden, S_IFCHR | 0600, makedev(0, 0)) == 0) {
        return 0;
    }
    if (errno != EEXIST) {
        return -errno;
    }
    /* This layer has the name itself: it stays, and hides what a directory below holds. */
    AUTO(closep)
    int fd = openat(dir_fd, hidden, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 ? set_opaque(x, fd) : 0;
}

static int extract_entry(struct extractor *x, const struct tar_entry *entry, struct err *err)
{
    int r = clean_name(entry->name, &x->name);
    if (r < 0) {
        return r == -EINVAL ? err_say(err, EINVAL, "the name leads out of the root") : r;
    }
    r = rename_top(x, &x->name);
    if (r < 0) {
        return r;
    }
    if (x->name.len == 0) {
        return extract_root(x, entry);
    }
    if (entry->type == TAR_HARDLINK) {
        return extract_hardlink(x, entry, err);
    }
    const struct extract_level *level;
    const char *name;
    r = open_parent(x, &x->name, true, &level, &name, err);
    if (r < 0) {
        return r;
    }
    if (x->rules->whiteouts == TAR_WHITEOUTS_OVERLAY && str_starts(name, WHITEOUT_PREFIX)) {
        return extract_whiteout(x, level, name);
    }
    if (entry->type == TAR_DIRECTORY) {
        return extract_directory(x, level, name, entry);
    }
    if (entry->type == TAR_FILE) {
        return extract_file(x, level->fd, name, entry, err);
    }
    return extract_special(x, level->fd, name, entry, err);
}

/* overlayfs takes no notice of an opaque root: hide each name of the layers below. */
static int hide_root(struct extractor *x, struct err *err)
{
    x->dirs.used_parent = true;
    int r = extract_dirs_parent(&x->dirs, err);
    if (r <= 0) {
        return r;
    }
    AUTO(strv_donep) struct strv names = {0};
    r = layer_stack_list(x->rules->parent, ".", &names);
    for (size_t i = 0; r == 0 && i < names.count; i++) {
        AUTO(freep) char *whiteout = str_printf(WHITEOUT_PREFIX "%s", names.items[i]);
        r = whiteout != NULL ? extract_whiteout(x, &x->dirs.levels[0], whiteout) : -ENOMEM;
    }
    return r;
}

static int set_directory_times(struct extractor *x)
{
    extract_dirs_forget(&x->dirs);
    for (size_t i = 0; i < x->time_count; i++) {
        const struct directory_time *time = &x->times[i];
        AUTO(closep)
        int fd = open_resolved(x->dirs.root_fd, time->real[0] != '\0' ? time->real : ".",
                               O_RDONLY | O_DIRECTORY, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
        if (fd < 0) {
            continue; /* replaced later in the archive */
        }
        const struct timespec times[2] = {time->mtime, time->mtime};
        if (futimens(fd, times) < 0) {
            return -errno;
        }
    }
    return 0;
}

static int extract_all(struct extractor *x, struct err *err)
{
    for (;;) {
        const struct tar_entry *entry;
        int r = tar_reader_next(x->reader, &entry, err);
        if (r < 0) {
            return r;
        }
        if (r == 0) {
            break;
        }
        x->result.entries++;
        r = extract_entry(x, entry, err);
        if (r == -EINVAL && (err == NULL || err->code == 0) && !user_is_host_root()) {
            (void)err_say(err, EINVAL,
                          "owner %u:%u is outside your ranges of user ids; see "
                          "subuid(5)",
                          entry->uid, entry->gid);
        }
        if (r < 0) {
            return fail(err, -r, "extract", entry->name);
        }
    }
    twalk_r(x->copied, drop_hidden, x);
    int r = x->root_opaque ? hide_root(x, err) : 0;
    r = r < 0 ? r : set_directory_times(x);
    if (r < 0) {
        return err != NULL && err->code != 0 ? r : err_set(err, -r, "finish the archive");
    }
    return tar_reader_drain(x->reader, err);
}

int tar_extract_reader(struct tar_reader *reader, int root_fd, const struct extract_rules *rules,
                       struct extract_result *ret, struct err *err)
{
    AUTO(freep) struct extractor *x = calloc(1, sizeof(*x));
    if (x == NULL || extract_dirs_init(&x->dirs, root_fd) < 0) {
        return err_set(err, ENOMEM, "extract archive");
    }
    x->rules = rules;
    x->reader = reader;
    x->umask = read_umask();
    x->euid = geteuid();
    x->egid = getegid();
    x->dirs.opaque = rules->user_xattrs ? "user.overlay.opaque" : "trusted.overlay.opaque";
    x->dirs.parent = rules->parent;
    x->dirs.parent_given = rules->parent != NULL;
    x->dirs.parent_wait = rules->parent_wait;
    x->dirs.parent_wait_data = rules->parent_wait_data;
    x->dirs.made = made_implied;
    x->dirs.made_data = x;
    /* err tells an entry's own error from one that this function set. */
    struct err own = ERR_NONE;
    int r = extract_all(x, &own);
    if (r < 0 && err != NULL) {
        *err = own;
    }
    x->result.used_parent = x->dirs.used_parent;
    if (r == 0 && ret != NULL) {
        *ret = x->result;
    }
    extract_dirs_done(&x->dirs);
    for (size_t i = 0; i < x->time_count; i++) {
        free(x->times[i].real);
    }
    free(x->times);
    tdestroy(x->copied, free);
    buf_done(&x->name);
    buf_done(&x->link);
    return r;
}

int tar_extract(int fd, int root_fd, const char *path, const struct extract_rules *rules,
                struct extract_result *ret, struct err *err)
{
    AUTO(tar_fd_input_donep) struct tar_fd_input input = {.fd = fd};
    AUTO(tar_reader_freep) struct tar_reader *reader = NULL;
    int r = tar_reader_new(tar_fd_input_read, &input, &rules->limits, &reader);
    if (r < 0) {
        return err_set(err, -r, "extract archive");
    }
    AUTO(closep)
    int dir = open_in_root(root_fd, path[0] != '\0' ? path : ".", O_RDONLY | O_DIRECTORY, 0);
    if (dir < 0) {
        return err_set(err, -dir, "open '%s'", path);
    }
    return tar_extract_reader(reader, dir, rules, ret, err);
}
