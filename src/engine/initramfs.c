#include "engine/initramfs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/io.h"
#include "base/str.h"

#define CHUNK ((size_t)1 << 16)
#define TRAILER "TRAILER!!!"
/* The sizes in a header have eight hexadecimal digits. */
#define FILE_MAX UINT32_MAX

struct writer {
    int fd;
    struct buf out;    /* what is not written yet */
    uint64_t offset;   /* in the archive, for the padding */
    uint32_t inode;    /* of the last one; numbers tell files apart, not more */
    struct strv paths; /* all that is in the archive */
};

static void writer_done(struct writer *w)
{
    buf_done(&w->out);
    strv_done(&w->paths);
}
DEFINE_DONEP(struct writer, writer_done)

static int flush(struct writer *w)
{
    int r = write_full(w->fd, w->out.data, w->out.len);
    buf_clear(&w->out);
    return r;
}

static int put(struct writer *w, const void *data, size_t len)
{
    w->offset += len;
    int r = buf_add(&w->out, data, len);
    return r == 0 && w->out.len >= CHUNK ? flush(w) : r;
}

/* Headers and contents start at multiples of four. */
static int pad(struct writer *w)
{
    static const char zeros[4] = "";
    return put(w, zeros, (4 - w->offset % 4) % 4);
}

static int put_header(struct writer *w, const struct initramfs_entry *e, uint32_t inode,
                      uint64_t size)
{
    char head[112];
    size_t name_len = strlen(e->path) + 1;
    /* magic, inode, mode, uid, gid, links, time, size, device, device that it is, name, check */
    int n =
        snprintf(head, sizeof(head), "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
                 inode, (unsigned)e->mode, 0U, 0U, S_ISDIR(e->mode) ? 2U : 1U, 0U, (unsigned)size,
                 0U, 0U, e->major, e->minor, (unsigned)name_len, 0U);
    int r = put(w, head, (size_t)n);
    r = r < 0 ? r : put(w, e->path, name_len);
    return r < 0 ? r : pad(w);
}

static int put_file(struct writer *w, const struct initramfs_entry *e, struct err *err)
{
    struct stat st;
    char piece[CHUNK / 4];
    if (fstat(e->fd, &st) < 0) {
        return err_set(err, errno, "read '%s' for the initial file system", e->path);
    }
    if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX) {
        return err_say(err, EINVAL, "'%s' for the initial file system is no file below 4 GiB",
                       e->path);
    }
    int r = put_header(w, e, ++w->inode, (uint64_t)st.st_size);
    for (uint64_t at = 0; r == 0 && at < (uint64_t)st.st_size;) {
        size_t n = (size_t)MIN((uint64_t)sizeof(piece), (uint64_t)st.st_size - at);
        r = read_full_at(e->fd, piece, n, at);
        r = r < 0 ? r : put(w, piece, n);
        at += n;
    }
    r = r < 0 ? r : pad(w);
    return r < 0 ? err_set(err, -r, "write '%s' into the initial file system", e->path) : 0;
}

static int put_bytes(struct writer *w, const struct initramfs_entry *e, struct err *err)
{
    size_t size = S_ISREG(e->mode) || S_ISLNK(e->mode) ? e->size : 0;
    if (size > FILE_MAX) {
        return err_say(err, EINVAL, "'%s' for the initial file system is too large", e->path);
    }
    int r = put_header(w, e, ++w->inode, size);
    r = r < 0 || size == 0 ? r : put(w, e->data, size);
    r = r < 0 ? r : pad(w);
    return r < 0 ? err_set(err, -r, "write '%s' into the initial file system", e->path) : 0;
}

static bool is_good_path(const char *path)
{
    if (path[0] == '\0' || path[0] == '/') {
        return false;
    }
    while (*path != '\0') {
        size_t n = strcspn(path, "/");
        if (n == 0 || (n == 1 && path[0] == '.') || (n == 2 && path[0] == '.' && path[1] == '.')) {
            return false;
        }
        path += n;
        path += *path == '/' && path[1] != '\0';
        if (*path == '/') {
            return false;
        }
    }
    return true;
}

/* The directories above path that are not there yet. */
static int put_parents(struct writer *w, const char *path, struct err *err)
{
    for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        AUTO(freep) char *parent = strndup(path, (size_t)(slash - path));
        if (parent == NULL) {
            return err_set(err, ENOMEM, "make the initial file system");
        }
        if (strv_has(&w->paths, parent)) {
            continue;
        }
        const struct initramfs_entry dir = {.path = parent, .mode = S_IFDIR | 0755, .fd = -1};
        int r = put_bytes(w, &dir, err);
        r = r < 0 ? r : strv_add(&w->paths, parent);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int put_entry(struct writer *w, const struct initramfs_entry *e, struct err *err)
{
    if (!is_good_path(e->path) || strv_has(&w->paths, e->path)) {
        return err_say(err, EINVAL, "'%s' in the initial file system %s", e->path,
                       is_good_path(e->path) ? "comes twice" : "is no path");
    }
    if (!S_ISREG(e->mode) && !S_ISDIR(e->mode) && !S_ISLNK(e->mode) && !S_ISCHR(e->mode)) {
        return err_say(err, EINVAL, "'%s' in the initial file system has no known type", e->path);
    }
    int r = put_parents(w, e->path, err);
    if (r == 0) {
        r = S_ISREG(e->mode) && e->fd >= 0 ? put_file(w, e, err) : put_bytes(w, e, err);
    }
    if (r == 0 && strv_add(&w->paths, e->path) < 0) {
        r = err_set(err, ENOMEM, "make the initial file system");
    }
    return r;
}

int initramfs_write(const struct initramfs_entry *entries, size_t count, int out_fd,
                    struct err *err)
{
    AUTO(writer_donep) struct writer w = {.fd = out_fd};
    for (size_t i = 0; i < count; i++) {
        int r = put_entry(&w, &entries[i], err);
        if (r < 0) {
            return r;
        }
    }
    const struct initramfs_entry trailer = {.path = TRAILER, .fd = -1};
    int r = put_header(&w, &trailer, 0, 0);
    r = r < 0 ? r : flush(&w);
    return r < 0 ? err_set(err, -r, "write the initial file system") : 0;
}
