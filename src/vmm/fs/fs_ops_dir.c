#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/macros.h"
#include "base/path.h"
#include "vmm/fs/fs_internal.h"

/* As the kernel writes it. */
struct raw_entry {
    uint64_t ino;
    int64_t next;
    uint16_t length;
    uint8_t type;
    char name[];
};

int fs_op_opendir(struct fs_call *call)
{
    const struct fs_inode *inode = fs_call_inode(call);
    if (inode == NULL) {
        return -ESTALE;
    }
    if (inode->type != S_IFDIR) {
        return -ENOTDIR;
    }
    int fd = fs_inode_open(call->server, inode, O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        return fd;
    }
    uint64_t fh;
    int r = fs_handle_add(call->server, fd, inode->nodeid, true, &fh);
    if (r < 0) {
        return r;
    }
    const struct fuse_open_out out = {.fh = fh};
    r = fs_reply(call, &out, sizeof(out));
    if (r < 0) {
        fs_handle_close(call->server, &call->server->handles[fh - 1]);
    }
    return r;
}

static bool is_hidden(const struct fs_server *server, uint64_t nodeid, const char *name)
{
    return server->only != NULL && nodeid == FUSE_ROOT_ID && path_is_plain_name(name) &&
           strcmp(name, server->only) != 0;
}

/* One entry, when it fits: 0, -ENOSPC, or what a lookup says. */
static int put_entry(struct fs_call *call, const struct fs_inode *parent,
                     const struct raw_entry *raw, uint64_t limit, bool plus)
{
    static const uint8_t padding[8];
    size_t len = strlen(raw->name);
    struct fuse_dirent entry = {
        .ino = raw->ino, .off = (uint64_t)raw->next, .namelen = (uint32_t)len, .type = raw->type};
    size_t size = FUSE_NAME_OFFSET + len;
    size_t padded = FUSE_DIRENT_ALIGN(size);
    struct fuse_entry_out looked_up = {0};
    if (padded + (plus ? sizeof(looked_up) : 0) > limit - call->written) {
        return -ENOSPC;
    }
    if (plus && path_is_plain_name(raw->name)) {
        int r = fs_lookup(call->server, parent, raw->name, &looked_up);
        if (r < 0) {
            /* It went meanwhile, or there is no room for one more: the guest looks it up itself. */
            looked_up = (struct fuse_entry_out){0};
        }
    }
    if (plus) {
        (void)fs_reply(call, &looked_up, sizeof(looked_up));
    }
    (void)fs_reply(call, &entry, FUSE_NAME_OFFSET);
    (void)fs_reply(call, raw->name, len);
    return fs_reply(call, padding, padded - size);
}

static int read_directory(struct fs_call *call, bool plus)
{
    struct fuse_read_in in;
    memcpy(&in, call->arguments, sizeof(in));
    const struct fs_inode *parent = fs_call_inode(call);
    const struct fs_handle *handle = fs_handle_get(call->server, in.fh, call->header.nodeid, true);
    if (handle == NULL || parent == NULL) {
        return -EBADF;
    }
    uint64_t limit = MIN((uint64_t)in.size, call->out_len);
    if (lseek(handle->fd, (off_t)in.offset, SEEK_SET) < 0) {
        return -errno;
    }
    /* Hidden names may fill a whole read; then the next one is looked at. */
    while (call->written == 0) {
        long n = syscall(SYS_getdents64, handle->fd, call->server->buffer,
                         MAX(MIN((uint64_t)FS_BUFFER, limit), (uint64_t)512));
        if (n <= 0) {
            return n < 0 ? -errno : 0;
        }
        for (long at = 0; at < n;) {
            const struct raw_entry *raw =
                (const struct raw_entry *)(const void *)(call->server->buffer + at);
            at += raw->length;
            if (is_hidden(call->server, call->header.nodeid, raw->name)) {
                continue;
            }
            int r = put_entry(call, parent, raw, limit, plus);
            if (r == -ENOSPC) {
                return call->written == 0 ? -EINVAL : 0;
            }
            if (r < 0) {
                return r;
            }
        }
    }
    return 0;
}

int fs_op_readdir(struct fs_call *call)
{
    return read_directory(call, false);
}

int fs_op_readdirplus(struct fs_call *call)
{
    return read_directory(call, true);
}

int fs_op_releasedir(struct fs_call *call)
{
    struct fuse_release_in in;
    memcpy(&in, call->arguments, sizeof(in));
    struct fs_handle *handle = fs_handle_get(call->server, in.fh, call->header.nodeid, true);
    if (handle == NULL) {
        return -EBADF;
    }
    fs_handle_close(call->server, handle);
    return 0;
}

int fs_op_fsyncdir(struct fs_call *call)
{
    struct fuse_fsync_in in;
    memcpy(&in, call->arguments, sizeof(in));
    const struct fs_handle *handle = fs_handle_get(call->server, in.fh, call->header.nodeid, true);
    if (handle == NULL) {
        return -EBADF;
    }
    return fsync(handle->fd) < 0 ? -errno : 0;
}
