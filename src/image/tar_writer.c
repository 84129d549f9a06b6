#include "image/tar_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/str.h"
#include "image/layer_stack.h"

#define BLOCK_SIZE ((size_t)512)
#define BUFFER_SIZE ((size_t)256 * 1024)
#define DEPTH_MAX 1024
#define XATTRS_SIZE_MAX ((size_t)65536)

struct tar_writer {
    tar_output_fn *output;
    void *output_data;
    char *buffer;
    size_t len;
};

int tar_writer_new(tar_output_fn *output, void *output_data, struct tar_writer **ret_writer)
{
    struct tar_writer *w = calloc(1, sizeof(*w));
    char *buffer = malloc(BUFFER_SIZE);
    if (w == NULL || buffer == NULL) {
        free(w);
        free(buffer);
        return -ENOMEM;
    }
    *w = (struct tar_writer){.output = output, .output_data = output_data, .buffer = buffer};
    *ret_writer = w;
    return 0;
}

void tar_writer_free(struct tar_writer *w)
{
    if (w != NULL) {
        free(w->buffer);
        free(w);
    }
}

static int flush(struct tar_writer *w)
{
    int r = w->len > 0 ? w->output(w->output_data, w->buffer, w->len) : 0;
    w->len = 0;
    return r;
}

int tar_writer_data(struct tar_writer *w, const void *bytes, size_t len)
{
    const char *p = bytes;
    while (len > 0) {
        size_t n = MIN(len, BUFFER_SIZE - w->len);
        memcpy(w->buffer + w->len, p, n);
        w->len += n;
        p += n;
        len -= n;
        int r = w->len == BUFFER_SIZE ? flush(w) : 0;
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int tar_writer_pad(struct tar_writer *w, uint64_t size)
{
    static const char zeros[512];
    return tar_writer_data(w, zeros, (size_t)(-size % BLOCK_SIZE));
}

int tar_writer_finish(struct tar_writer *w)
{
    static const char zeros[1024];
    int r = tar_writer_data(w, zeros, sizeof(zeros));
    return r < 0 ? r : flush(w);
}

/* True when it fits; the field is digits and a NUL. */
static bool put_octal(char *field, size_t size, uint64_t value)
{
    if (value >> (3 * (size - 1)) != 0) {
        memset(field, '0', size - 1);
        return false;
    }
    for (size_t i = size - 1; i > 0; i--) {
        field[i - 1] = (char)('0' + (value & 7));
        value >>= 3;
    }
    return true;
}

/* "LENGTH key=value\n", where LENGTH counts its own digits. */
static int add_record(struct buf *pax, const char *key, const void *value, size_t size)
{
    size_t rest = strlen(key) + size + 3;
    size_t length = rest + 1;
    char digits[24];
    int n = snprintf(digits, sizeof(digits), "%zu", length);
    while (rest + (size_t)n != length) {
        length = rest + (size_t)n;
        n = snprintf(digits, sizeof(digits), "%zu", length);
    }
    int r = buf_printf(pax, "%zu %s=", length, key);
    r = r < 0 ? r : buf_add(pax, value, size);
    return r < 0 ? r : buf_add_char(pax, '\n');
}

static int add_number(struct buf *pax, const char *key, uint64_t value)
{
    char text[24];
    int n = snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    return add_record(pax, key, text, (size_t)n);
}

static int add_mtime(struct buf *pax, const struct tar_entry *entry)
{
    char text[48];
    int64_t sec = entry->mtime_sec;
    uint32_t nsec = entry->mtime_nsec;
    int n;
    if (sec < 0 && nsec > 0) {
        n = snprintf(text, sizeof(text), "-%lld.%09u", -(long long)(sec + 1), 1000000000 - nsec);
    } else if (nsec > 0) {
        n = snprintf(text, sizeof(text), "%lld.%09u", (long long)sec, nsec);
    } else {
        n = snprintf(text, sizeof(text), "%lld", (long long)sec);
    }
    return add_record(pax, "mtime", text, (size_t)n);
}

static bool is_ascii(const char *s)
{
    for (; *s != '\0'; s++) {
        if ((unsigned char)*s >= 0x80) {
            return false;
        }
    }
    return true;
}

static void put_checksum(char block[512])
{
    unsigned sum = 0;
    memset(block + 148, ' ', 8);
    for (size_t i = 0; i < BLOCK_SIZE; i++) {
        sum += (unsigned char)block[i];
    }
    (void)snprintf(block + 148, 8, "%06o", sum);
}

/* Offsets of the ustar header block (POSIX.1-2017, pax). Returns what did not fit as pax records.
 */
static int make_block(const struct tar_entry *e, char block[512], struct buf *pax)
{
    static const char letters[] = {
        [TAR_FILE] = '0',     [TAR_HARDLINK] = '1',  [TAR_SYMLINK] = '2', [TAR_CHARDEV] = '3',
        [TAR_BLOCKDEV] = '4', [TAR_DIRECTORY] = '5', [TAR_FIFO] = '6',
    };
    int r = 0;
    memset(block, 0, BLOCK_SIZE);
    memcpy(block, e->name, strnlen(e->name, 100));
    if (strlen(e->name) > 100 || !is_ascii(e->name)) {
        r = add_record(pax, "path", e->name, strlen(e->name));
    }
    memcpy(block + 157, e->link, strnlen(e->link, 100));
    if (r == 0 && (strlen(e->link) > 100 || !is_ascii(e->link))) {
        r = add_record(pax, "linkpath", e->link, strlen(e->link));
    }
    (void)put_octal(block + 100, 8, e->mode);
    if (r == 0 && !put_octal(block + 108, 8, e->uid)) {
        r = add_number(pax, "uid", e->uid);
    }
    if (r == 0 && !put_octal(block + 116, 8, e->gid)) {
        r = add_number(pax, "gid", e->gid);
    }
    if (r == 0 && !put_octal(block + 124, 12, e->size)) {
        r = add_number(pax, "size", e->size);
    }
    bool mtime_fits = e->mtime_sec >= 0 && put_octal(block + 136, 12, (uint64_t)e->mtime_sec);
    if (r == 0 && (!mtime_fits || e->mtime_nsec != 0)) {
        r = add_mtime(pax, e);
    }
    if (!mtime_fits) {
        (void)put_octal(block + 136, 12, 0);
    }
    block[156] = letters[e->type];
    memcpy(block + 257, "ustar\00000", 8);
    (void)put_octal(block + 329, 8, e->major);
    (void)put_octal(block + 337, 8, e->minor);
    for (size_t i = 0; r == 0 && i < e->xattr_count; i++) {
        AUTO(freep) char *key = str_printf("SCHILY.xattr.%s", e->xattrs[i].name);
        r = key != NULL ? add_record(pax, key, e->xattrs[i].value, e->xattrs[i].size) : -ENOMEM;
    }
    put_checksum(block);
    return r;
}

int tar_writer_entry(struct tar_writer *w, const struct tar_entry *entry)
{
    char block[512];
    AUTO(buf_donep) struct buf pax = {0};
    int r = make_block(entry, block, &pax);
    if (r == 0 && pax.len > 0) {
        char head[512] = "PaxHeaders/entry";
        (void)put_octal(head + 100, 8, 0644);
        (void)put_octal(head + 108, 8, 0);
        (void)put_octal(head + 116, 8, 0);
        (void)put_octal(head + 124, 12, pax.len);
        (void)put_octal(head + 136, 12, 0);
        head[156] = 'x';
        memcpy(head + 257, "ustar\00000", 8);
        put_checksum(head);
        r = tar_writer_data(w, head, sizeof(head));
        r = r < 0 ? r : tar_writer_data(w, pax.data, pax.len);
        r = r < 0 ? r : tar_writer_pad(w, pax.len);
    }
    return r < 0 ? r : tar_writer_data(w, block, sizeof(block));
}

int tar_writer_file(struct tar_writer *w, const char *name, mode_t mode, int64_t mtime_sec,
                    const void *bytes, size_t len)
{
    const struct tar_entry entry = {.type = TAR_FILE,
                                    .name = name,
                                    .link = "",
                                    .mode = mode,
                                    .size = len,
                                    .mtime_sec = mtime_sec};
    int r = tar_writer_entry(w, &entry);
    r = r < 0 ? r : tar_writer_data(w, bytes, len);
    return r < 0 ? r : tar_writer_pad(w, len);
}

static int copy_data(struct tar_writer *w, int fd, uint64_t size)
{
    uint64_t left = size;
    while (left > 0) {
        if (w->len == BUFFER_SIZE) {
            int r = flush(w);
            if (r < 0) {
                return r;
            }
        }
        ssize_t n = read(fd, w->buffer + w->len, (size_t)MIN(left, (uint64_t)BUFFER_SIZE - w->len));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : -ENODATA;
        }
        w->len += (size_t)n;
        left -= (uint64_t)n;
    }
    return tar_writer_pad(w, size);
}

int tar_writer_fd(struct tar_writer *w, const char *name, mode_t mode, int64_t mtime_sec, int fd,
                  uint64_t size)
{
    const struct tar_entry entry = {.type = TAR_FILE,
                                    .name = name,
                                    .link = "",
                                    .mode = mode,
                                    .size = size,
                                    .mtime_sec = mtime_sec};
    int r = tar_writer_entry(w, &entry);
    return r < 0 ? r : copy_data(w, fd, size);
}

/* First name of an inode with several links. */
struct inode {
    dev_t dev;
    ino_t ino;
    char *name;
};

struct tree {
    struct tar_writer *writer;
    const struct tar_tree_rules *rules;
    dev_t dev;
    struct inode *inodes; /* open hash table; size is a power of two */
    size_t inode_count, inode_size;
    char *xattr_names, *xattr_values;
    struct buf name; /* of the current entry in the archive */
};

static struct inode *inode_slot(struct inode *inodes, size_t size, dev_t dev, ino_t ino)
{
    size_t at = (size_t)((ino * 0x9e3779b97f4a7c15ULL) ^ dev) & (size - 1);
    while (inodes[at].name != NULL && (inodes[at].ino != ino || inodes[at].dev != dev)) {
        at = (at + 1) & (size - 1);
    }
    return &inodes[at];
}

/* The earlier name of this inode, or NULL after noting the present one. */
static int earlier_name(struct tree *t, const struct stat *st, const char **ret)
{
    if (2 * (t->inode_count + 1) > t->inode_size) {
        size_t size = MAX(t->inode_size * 2, (size_t)256);
        struct inode *inodes = calloc(size, sizeof(*inodes));
        if (inodes == NULL) {
            return -ENOMEM;
        }
        for (size_t i = 0; i < t->inode_size; i++) {
            if (t->inodes[i].name != NULL) {
                *inode_slot(inodes, size, t->inodes[i].dev, t->inodes[i].ino) = t->inodes[i];
            }
        }
        free(t->inodes);
        t->inodes = inodes;
        t->inode_size = size;
    }
    struct inode *slot = inode_slot(t->inodes, t->inode_size, st->st_dev, st->st_ino);
    *ret = slot->name;
    if (slot->name == NULL) {
        *slot = (struct inode){.dev = st->st_dev, .ino = st->st_ino, .name = strdup(t->name.data)};
        t->inode_count++;
        return slot->name != NULL ? 0 : -ENOMEM;
    }
    return 0;
}

/* Attributes that mean the same elsewhere. */
static bool xattr_is_wanted(const char *name)
{
    return str_eq(name, "security.capability") || str_starts(name, "system.posix_acl_") ||
           (str_starts(name, "user.") && !str_starts(name, "user.overlay."));
}

/* path: of /proc/self/fd, whose last part is not followed. */
static void read_xattrs(struct tree *t, const char *path, struct tar_xattr *out, size_t max,
                        size_t *ret_count)
{
    size_t used = 0;
    *ret_count = 0;
    ssize_t n = llistxattr(path, t->xattr_names, XATTRS_SIZE_MAX);
    for (ssize_t at = 0; at < n && *ret_count < max;
         at += (ssize_t)strlen(t->xattr_names + at) + 1) {
        const char *name = t->xattr_names + at;
        if (!xattr_is_wanted(name)) {
            continue;
        }
        ssize_t size = lgetxattr(path, name, t->xattr_values + used, XATTRS_SIZE_MAX - used);
        if (size >= 0) {
            out[(*ret_count)++] = (struct tar_xattr){
                .name = name, .value = t->xattr_values + used, .size = (size_t)size};
            used += (size_t)size;
        }
    }
}

static int write_whiteout(struct tree *t, const char *name)
{
    const char *slash = strrchr(t->name.data, '/');
    int dir = slash != NULL ? (int)(slash - t->name.data) + 1 : 0;
    AUTO(freep) char *whiteout = str_printf("%.*s.wh.%s", dir, t->name.data, name);
    return whiteout != NULL ? tar_writer_file(t->writer, whiteout, 0600, 0, "", 0) : -ENOMEM;
}

static int set_type(struct tree *t, const struct stat *st, int dir_fd, const char *name,
                    struct tar_entry *entry, char **ret_link)
{
    const char *earlier = NULL;
    int r = 0;
    if (!S_ISDIR(st->st_mode) && st->st_nlink > 1) {
        r = earlier_name(t, st, &earlier);
        if (r == 0 && earlier != NULL) {
            entry->type = TAR_HARDLINK;
            entry->link = earlier;
            return 0;
        }
    }
    switch (st->st_mode & S_IFMT) {
    case S_IFREG:
        entry->type = TAR_FILE;
        entry->size = (uint64_t)st->st_size;
        break;
    case S_IFDIR:
        entry->type = TAR_DIRECTORY;
        break;
    case S_IFLNK:
        entry->type = TAR_SYMLINK;
        r = r < 0 ? r : read_link_at(dir_fd, name, ret_link);
        entry->link = r == 0 ? *ret_link : "";
        break;
    case S_IFCHR:
    case S_IFBLK:
        entry->type = S_ISCHR(st->st_mode) ? TAR_CHARDEV : TAR_BLOCKDEV;
        entry->major = major(st->st_rdev);
        entry->minor = minor(st->st_rdev);
        break;
    default:
        entry->type = TAR_FIFO;
        break;
    }
    return r;
}

static int write_tree(struct tree *t, int dir_fd, const char *name, int depth, struct err *err);

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Takes fd over. */
static int write_children(struct tree *t, int fd, int depth, struct err *err)
{
    AUTO(strv_donep) struct strv names = {0};
    AUTO(closedirp) DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        int r = -errno;
        (void)close_fd(fd);
        return r;
    }
    struct dirent *item;
    errno = 0;
    while ((item = readdir(dir)) != NULL) {
        if (strcmp(item->d_name, ".") != 0 && strcmp(item->d_name, "..") != 0 &&
            strv_add(&names, item->d_name) < 0) {
            return -ENOMEM;
        }
    }
    if (errno != 0) {
        return -errno;
    }
    if (names.count > 0) {
        qsort(names.items, names.count, sizeof(*names.items), compare_names);
    }
    size_t len = t->name.len;
    for (size_t i = 0; i < names.count; i++) {
        int r = buf_printf(&t->name, "%s%s", len > 0 && t->name.data[len - 1] != '/' ? "/" : "",
                           names.items[i]);
        r = r < 0 ? r : write_tree(t, dirfd(dir), names.items[i], depth + 1, err);
        if (r < 0) {
            return r;
        }
        t->name.len = len;
        t->name.data[len] = '\0';
    }
    return 0;
}

static int write_contents(struct tree *t, int dir_fd, const char *name, const struct stat *st,
                          const struct tar_entry *entry, int depth, struct err *err)
{
    if (entry->type == TAR_FILE) {
        AUTO(closep)
        int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        struct stat now;
        if (fd < 0 || fstat(fd, &now) < 0) {
            return -errno;
        }
        if (!S_ISREG(now.st_mode)) {
            return -ESTALE;
        }
        return copy_data(t->writer, fd, entry->size);
    }
    if (entry->type != TAR_DIRECTORY || (t->rules->one_file_system && st->st_dev != t->dev)) {
        return 0;
    }
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int r = 0;
    if (t->rules->whiteouts && directory_is_opaque(fd)) {
        AUTO(freep) char *opaque = str_printf("%s/.wh..wh..opq", t->name.data);
        r = opaque != NULL ? tar_writer_file(t->writer, opaque, 0600, 0, "", 0) : -ENOMEM;
    }
    if (r < 0) {
        (void)close_fd(fd);
        return r;
    }
    return write_children(t, fd, depth, err);
}

/* The entry t->name, found as name in dir_fd, and all below it. */
static int write_tree(struct tree *t, int dir_fd, const char *name, int depth, struct err *err)
{
    struct stat st;
    if (depth > DEPTH_MAX) {
        return err_set(err, ELOOP, "archive '%.200s'", t->name.data);
    }
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        /* Live trees change while they are read. */
        return errno == ENOENT && depth > 0 ? 0 : err_set(err, errno, "archive '%s'", t->name.data);
    }
    if (S_ISSOCK(st.st_mode)) {
        return 0;
    }
    if (t->rules->whiteouts && stat_is_whiteout(&st)) {
        return write_whiteout(t, name);
    }
    struct tar_xattr xattrs[64];
    char xattr_path[64 + 256];
    AUTO(freep) char *link = NULL;
    AUTO(freep) char *shown = NULL;
    struct tar_entry entry = {.link = "",
                              .mode = st.st_mode & 07777,
                              .uid = st.st_uid,
                              .gid = st.st_gid,
                              .mtime_sec = st.st_mtim.tv_sec,
                              .mtime_nsec = (uint32_t)st.st_mtim.tv_nsec,
                              .xattrs = xattrs};
    if (t->rules->mtime_max != 0 && entry.mtime_sec >= t->rules->mtime_max) {
        entry.mtime_sec = t->rules->mtime_max;
        entry.mtime_nsec = 0;
    }
    int r = set_type(t, &st, dir_fd, name, &entry, &link);
    (void)snprintf(xattr_path, sizeof(xattr_path), "/proc/self/fd/%d/%s", dir_fd, name);
    if (entry.type != TAR_HARDLINK) {
        read_xattrs(t, xattr_path, xattrs, COUNT(xattrs), &entry.xattr_count);
    }
    shown = str_printf("%s%s", t->name.len > 0 ? t->name.data : ".",
                       entry.type == TAR_DIRECTORY ? "/" : "");
    entry.name = shown;
    r = r < 0 ? r : shown == NULL ? -ENOMEM : tar_writer_entry(t->writer, &entry);
    r = r < 0 ? r : write_contents(t, dir_fd, name, &st, &entry, depth, err);
    return r < 0 && (err == NULL || err->code == 0)
               ? err_set(err, -r, "archive '%.200s'", t->name.data)
               : r;
}

/*
 * 1 and where the link path leads, from the root; 0 when it is none. Links that lead in circles
 * have been refused by the kernel.
 */
static int follow_link(int root_fd, const char *path, const char *slash, char **ret_next)
{
    AUTO(freep) char *target = NULL;
    AUTO(closep) int fd = open_in_root(root_fd, path, O_PATH | O_NOFOLLOW, 0);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        return fd < 0 ? fd : -errno;
    }
    if (!S_ISLNK(st.st_mode)) {
        return 0;
    }
    int r = read_link_at(fd, "", &target);
    if (r < 0) {
        return r;
    }
    *ret_next = target[0] == '/' || slash == NULL
                    ? strdup(target)
                    : str_printf("%.*s/%s", (int)(slash - path), path, target);
    return *ret_next == NULL ? -ENOMEM : 1;
}

/* The directory that holds the top entry, and its name there ("." for a whole root). */
static int find_top(int root_fd, const char *path, bool follow, int *ret_dir, char **ret_name)
{
    AUTO(freep) char *copy = strdup(path);
    if (copy == NULL) {
        return -ENOMEM;
    }
    size_t len = strlen(copy);
    while (len > 0 && copy[len - 1] == '/') {
        copy[--len] = '\0';
    }
    char *slash = strrchr(copy, '/');
    const char *name = slash != NULL ? slash + 1 : copy;
    bool whole = follow || name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
    if (whole) {
        AUTO(closep) int fd = open_in_root(root_fd, copy[0] != '\0' ? copy : ".", O_PATH, 0);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) < 0) {
            return fd < 0 ? fd : -errno;
        }
        if (S_ISDIR(st.st_mode)) {
            *ret_dir = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            *ret_name = strdup(".");
            return *ret_dir < 0 ? -errno : *ret_name == NULL ? -ENOMEM : 0;
        }
        AUTO(freep) char *next = NULL;
        int r = follow_link(root_fd, copy, slash, &next);
        if (r != 0) {
            return r < 0 ? r : find_top(root_fd, next, true, ret_dir, ret_name);
        }
    }
    AUTO(freep) char *parent = strndup(copy, slash != NULL ? (size_t)(slash - copy) + 1 : 0);
    *ret_name = strdup(name);
    if (parent == NULL || *ret_name == NULL) {
        return -ENOMEM;
    }
    *ret_dir = open_in_root(root_fd, parent[0] != '\0' ? parent : ".", O_RDONLY | O_DIRECTORY, 0);
    return *ret_dir < 0 ? *ret_dir : 0;
}

int tar_writer_tree(struct tar_writer *writer, int root_fd, const char *path,
                    const struct tar_tree_rules *rules, struct err *err)
{
    static const struct tar_tree_rules defaults;
    struct tree t = {.writer = writer, .rules = rules != NULL ? rules : &defaults};
    AUTO(closep) int dir = -1;
    AUTO(freep) char *name = NULL;
    struct stat st;
    int r = find_top(root_fd, path, t.rules->follow_top, &dir, &name);
    if (r == 0 && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        r = -errno;
    }
    if (r < 0) {
        return err_set(err, -r, "open '%s'", path);
    }
    t.dev = st.st_dev;
    t.xattr_names = malloc(XATTRS_SIZE_MAX);
    t.xattr_values = malloc(XATTRS_SIZE_MAX);
    const char *top = t.rules->name_as != NULL ? t.rules->name_as
                      : strcmp(name, ".") == 0 ? ""
                                               : name;
    if (t.xattr_names == NULL || t.xattr_values == NULL || buf_add_str(&t.name, top) < 0) {
        r = err_set(err, ENOMEM, "archive '%s'", path);
    }
    r = r < 0 ? r : write_tree(&t, dir, name, 0, err);
    for (size_t i = 0; i < t.inode_size; i++) {
        free(t.inodes[i].name);
    }
    free(t.inodes);
    free(t.xattr_names);
    free(t.xattr_values);
    buf_done(&t.name);
    return r;
}

static int write_to_fd(void *data, const void *bytes, size_t len)
{
    return write_full(*(int *)data, bytes, len);
}

int tar_write_tree(int fd, int root_fd, const char *path, const struct tar_tree_rules *rules,
                   struct err *err)
{
    AUTO(tar_writer_freep) struct tar_writer *writer = NULL;
    int r = tar_writer_new(write_to_fd, &fd, &writer);
    if (r < 0) {
        return err_set(err, -r, "archive '%s'", path);
    }
    r = tar_writer_tree(writer, root_fd, path, rules, err);
    if (r < 0) {
        return r;
    }
    r = tar_writer_finish(writer);
    return r < 0 ? err_set(err, -r, "write archive of '%s'", path) : 0;
}
