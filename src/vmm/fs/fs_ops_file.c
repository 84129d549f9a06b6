#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/statfs.h>

#include "base/macros.h"
#include "base/path.h"
#include "vmm/fs/fs_internal.h"

#define PIECES 64
#define COPY_MAX ((uint64_t)1 << 30)

int fs_open_flags(const struct fs_server *server, uint32_t flags, int *ret)
{
    /* Offsets come with each write, so O_APPEND would be in the way; truncation comes by setattr.
     */
    int kept = (int)flags & (O_ACCMODE | O_SYNC | O_DSYNC);
    if ((kept & O_ACCMODE) == O_ACCMODE) {
        return -EINVAL;
    }
    if (server->options.read_only && (kept & O_ACCMODE) != O_RDONLY) {
        return -EROFS;
    }
    /* A guest that holds writes back reads the rest of a page that it writes to. */
    if (server->options.writeback && (kept & O_ACCMODE) == O_WRONLY) {
        kept = (kept & ~O_ACCMODE) | O_RDWR;
    }
    *ret = kept | O_NOFOLLOW;
    return 0;
}

static int reply_open(struct fs_call *call, uint64_t fh)
{
    const struct fuse_open_out out = {.fh = fh};
    int r = fs_reply(call, &out, sizeof(out));
    if (r < 0) {
        fs_handle_close(call->server, &call->server->handles[fh - 1]);
    }
    return r;
}

int fs_op_open(struct fs_call *call)
{
    struct fuse_open_in in;
    memcpy(&in, call->arguments, sizeof(in));
    const struct fs_inode *inode = fs_call_inode(call);
    if (inode == NULL) {
        return -ESTALE;
    }
    if (inode->type == S_IFDIR) {
        return -EISDIR;
    }
    int flags;
    int r = fs_open_flags(call->server, in.flags, &flags);
    if (r < 0) {
        return r;
    }
    /* The name in /proc is a link, the last one to be followed. */
    int fd = fs_inode_open(call->server, inode, flags & ~O_NOFOLLOW);
    if (fd < 0) {
        return fd;
    }
    uint64_t fh;
    r = fs_handle_add(call->server, fd, inode->nodeid, false, &fh);
    return r < 0 ? r : reply_open(call, fh);
}

int fs_op_create(struct fs_call *call)
{
    struct fuse_create_in in;
    memcpy(&in, call->arguments, sizeof(in));
    const char *name;
    struct fs_inode *parent;
    int flags;
    int r = fs_take_name(call, &name);
    if (r == 0) {
        r = fs_call_parent(call, call->header.nodeid, &parent);
    }
    if (r == 0) {
        r = fs_open_flags(call->server, in.flags, &flags);
    }
    if (r < 0) {
        return r;
    }
    AUTO(closep)
    int made = open_resolved(parent->fd, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600,
                             RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS);
    if (made < 0 && (made != -EEXIST || (in.flags & O_EXCL) != 0)) {
        return made;
    }
    if (made >= 0) {
        r = fs_adopt(call, parent, made, in.mode);
    }
    if (r < 0) {
        (void)unlinkat(parent->fd, name, 0);
        return r;
    }
    struct fuse_entry_out entry;
    r = fs_lookup(call->server, parent, name, &entry);
    if (r < 0) {
        return r;
    }
    int fd =
        fs_inode_open(call->server, fs_inode_get(call->server, entry.nodeid), flags & ~O_NOFOLLOW);
    uint64_t fh = 0;
    r = fd < 0 ? fd : fs_handle_add(call->server, fd, entry.nodeid, false, &fh);
    const struct fuse_open_out out = {.fh = fh};
    if (r == 0 && call->out_len < sizeof(entry) + sizeof(out)) {
        fs_handle_close(call->server, &call->server->handles[fh - 1]);
        r = -EIO;
    }
    if (r < 0) {
        fs_inode_forget(call->server, entry.nodeid, 1);
        return r;
    }
    (void)fs_reply(call, &entry, sizeof(entry));
    return fs_reply(call, &out, sizeof(out));
}

int fs_op_read(struct fs_call *call)
{
    struct fuse_read_in in;
    memcpy(&in, call->arguments, sizeof(in));
    const struct fs_handle *handle = fs_handle_get(call->server, in.fh, call->header.nodeid, false);
    if (handle == NULL) {
        return -EBADF;
    }
    if (in.size > call->out_len || in.offset > INT64_MAX - (uint64_t)in.size) {
        return -EINVAL;
    }
    uint64_t left = in.size;
    uint64_t offset = in.offset;
    while (left > 0) {
        struct iovec pieces[PIECES];
        uint64_t len;
        unsigned count = iov_slice(&call->out, left, pieces, PIECES, &len);
        ssize_t n = preadv(handle->fd, pieces, (int)count, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && call->written == 0) {
            return -errno;
        }
        if (n <= 0) {
            break;
        }
        iov_advance(&call->out, (uint64_t)n);
        call->written += (uint64_t)n;
        offset += (uint64_t)n;
        left -= (uint64_t)n;
    }
    return 0;
}

int fs_op_write(struct fs_call *call)
{
    struct fuse_write_in in;
    memcpy(&in, call->arguments, sizeof(in));
    const struct fs_handle *handle = fs_handle_get(call->server, in.fh, call->header.nodeid, false);
    if (handle == NULL) {
        return -EBADF;
    }
    if (in.size != call->data_len || in.offset > INT64_MAX - (uint64_t)in.size) {
        return -EINVAL;
    }
    struct fuse_write_out out = {0};
    while (out.size < in.size) {
        struct iovec pieces[PIECES];
        uint64_t len;
        unsigned count = iov_slice(&call->data, in.size - out.size, pieces, PIECES, &len);
        ssize_t n = pwritev(handle->fd, pieces, (int)count, (off_t)(in.offset + out.size));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && out.size == 0) {
            return -errno;
        }
        if (n <= 0) {
            break;
        }
        iov_advance(&call->data, (uint64_t)n);
        out.size += (uint32_t)n;
    }
    return fs_reply(call, &out, sizeof(out));
}

int fs_op_release(struct fs_call *call)
{
    struct fuse_release_in in;
    memcpy(&in, call->arguments, sizeof(in));
    struct fs_handle *handle = fs_handle_get(call->server, in.fh, call->header.nodeid, false);
    if (handle == NULL) {
        return -EBADF;
    }
    fs_handle_close(call->server, handle);
    return 0;
}

int fs_op_flush(struct fs_call *call)
{
    struct fuse_flush_in in;
    memcpy(&in, call->arguments, sizeof(in));
    const struct fs_handle *handle = fs_handle_get(call->server, in.fh, call->header.nodeid, false);
    if (handle == NULL) {
        return -EBADF;
    }
    /* What some file systems say only on close. */
    int fd = fcntl(handle->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    return close(fd) < 0 ? -errno : 0;
}

int fs_op_fsync(struct fs_call *call)
{
    struct fuse_fsync_in in;
    memcpy(&in, call->arguments, sizeof(in));
    const struct fs_handle *handle = fs_handle_get(call->server, in.fh, call->header.nodeid, false);
    if (handle == NULL) {
        return -EBADF;
    }
    bool data_only = (in.fsync_flags & FUSE_FSYNC_FDATASYNC) != 0;
    return (data_only ? fdatasync(handle->fd) : fsync(handle->fd)) < 0 ? -errno : 0;
}

int fs_op_lseek(struct fs_call *call)
{
    struct fuse_lseek_in in;
    memcpy(&in, call->arguments, sizeof(in));
    const struct fs_handle *handle = fs_handle_get(call->server, in.fh, call->header.nodeid, false);
    if (handle == NULL) {
        return -EBADF;
    }
    if ((in.whence != SEEK_DATA && in.whence != SEEK_HOLE) || in.offset > INT64_MAX) {
        return -EINVAL;
    }
    off_t found = lseek(handle->fd, (off_t)in.offset, (int)in.whence);
    if (found < 0) {
        return -errno;
    }
    const struct fuse_lseek_out out = {.offset = (uint64_t)found};
    return fs_reply(call, &out, sizeof(out));
}

int fs_op_fallocate(struct fs_call *call)
{
    struct fuse_fallocate_in in;
    memcpy(&in, call->arguments, sizeof(in));
    const struct fs_handle *handle = fs_handle_get(call->server, in.fh, call->header.nodeid, false);
    if (handle == NULL) {
        return -EBADF;
    }
    if ((in.mode &
         ~(uint32_t)(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0) {
        return -EOPNOTSUPP;
    }
    if (in.offset > INT64_MAX || in.length > INT64_MAX - in.offset) {
        return -EFBIG;
    }
    return fallocate(handle->fd, (int)in.mode, (off_t)in.offset, (off_t)in.length) < 0 ? -errno : 0;
}

int fs_op_copy_range(struct fs_call *call)
{
    struct fuse_copy_file_range_in in;
    memcpy(&in, call->arguments, sizeof(in));
    const struct fs_handle *from =
        fs_handle_get(call->server, in.fh_in, call->header.nodeid, false);
    const struct fs_handle *to = fs_handle_get(call->server, in.fh_out, in.nodeid_out, false);
    if (from == NULL || to == NULL) {
        return -EBADF;
    }
    if (in.flags != 0 || in.off_in > INT64_MAX || in.off_out > INT64_MAX) {
        return -EINVAL;
    }
    off_t off_in = (off_t)in.off_in;
    off_t off_out = (off_t)in.off_out;
    /* A part is an answer, too; one request must not hold the server for long. */
    ssize_t n =
        copy_file_range(from->fd, &off_in, to->fd, &off_out, (size_t)MIN(in.len, COPY_MAX), 0);
    if (n < 0) {
        return -errno;
    }
    const struct fuse_write_out out = {.size = (uint32_t)n};
    return fs_reply(call, &out, sizeof(out));
}

int fs_op_statfs(struct fs_call *call)
{
    const struct fs_inode *inode = fs_call_inode(call);
    struct statfs st;
    if (inode == NULL) {
        return -ESTALE;
    }
    if (fstatfs(inode->fd, &st) < 0) {
        return -errno;
    }
    const struct fuse_statfs_out out = {
        .st =
            {
                .blocks = st.f_blocks,
                .bfree = st.f_bfree,
                .bavail = st.f_bavail,
                .files = st.f_files,
                .ffree = st.f_ffree,
                .bsize = (uint32_t)st.f_bsize,
                .namelen = (uint32_t)st.f_namelen,
                .frsize = (uint32_t)st.f_frsize,
            },
    };
    return fs_reply(call, &out, sizeof(out));
}

int fs_op_syncfs(struct fs_call *call)
{
    if (fs_call_inode(call) == NULL) {
        return -ESTALE;
    }
    return syncfs(call->server->root_fd) < 0 ? -errno : 0;
}
