#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>

#include "base/macros.h"
#include "base/str.h"
#include "vmm/fs/fs_internal.h"

/*
 * Only attributes of the name space "user.": the others mean something to the host's kernel
 * (capabilities, overlays, labels), and a guest must not say what.
 */
static int open_file(struct fs_call *call, const char *name)
{
    const struct fs_inode *inode = fs_call_inode(call);
    if (inode == NULL) {
        return -ESTALE;
    }
    if (name != NULL && !str_starts(name, "user.")) {
        return -EOPNOTSUPP;
    }
    if ((inode->type != S_IFREG && inode->type != S_IFDIR) || fs_is_frame(call->server, inode)) {
        return -EPERM;
    }
    return fs_inode_open(call->server, inode, O_RDONLY);
}

int fs_op_setxattr(struct fs_call *call)
{
    struct fuse_setxattr_in in = {0};
    memcpy(&in, call->arguments, FUSE_COMPAT_SETXATTR_IN_SIZE);
    const char *name;
    int r = fs_take_text(call, &name);
    if (r < 0) {
        return r;
    }
    if (in.size != call->length - call->at ||
        (in.flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE)) != 0) {
        return -EINVAL;
    }
    AUTO(closep) int fd = open_file(call, name);
    if (fd < 0) {
        return fd;
    }
    r = fsetxattr(fd, name, call->arguments + call->at, in.size, (int)in.flags);
    return r < 0 ? -errno : 0;
}

/* A value or a list: its length when none was asked for, else the bytes. */
static int reply_value(struct fs_call *call, uint32_t asked, size_t len)
{
    const struct fuse_getxattr_out out = {.size = (uint32_t)len};
    if (asked == 0) {
        return fs_reply(call, &out, sizeof(out));
    }
    return len > asked ? -ERANGE : fs_reply(call, call->server->buffer, len);
}

int fs_op_getxattr(struct fs_call *call)
{
    struct fuse_getxattr_in in;
    memcpy(&in, call->arguments, sizeof(in));
    const char *name;
    int r = fs_take_text(call, &name);
    if (r < 0) {
        return r;
    }
    AUTO(closep) int fd = open_file(call, name);
    if (fd < 0) {
        return fd == -EPERM ? -ENODATA : fd;
    }
    ssize_t n = fgetxattr(fd, name, call->server->buffer, FS_BUFFER);
    return n < 0 ? -errno : reply_value(call, in.size, (size_t)n);
}

int fs_op_listxattr(struct fs_call *call)
{
    struct fuse_getxattr_in in;
    memcpy(&in, call->arguments, sizeof(in));
    AUTO(closep) int fd = open_file(call, NULL);
    if (fd == -EPERM) {
        return reply_value(call, in.size, 0);
    }
    if (fd < 0) {
        return fd;
    }
    char *list = (char *)call->server->buffer;
    ssize_t n = flistxattr(fd, list, FS_BUFFER);
    if (n < 0) {
        return -errno;
    }
    size_t kept = 0;
    for (size_t at = 0; at < (size_t)n;) {
        size_t len = strnlen(list + at, (size_t)n - at) + 1;
        if (str_starts(list + at, "user.")) {
            memmove(list + kept, list + at, len);
            kept += len;
        }
        at += len;
    }
    return reply_value(call, in.size, kept);
}

int fs_op_removexattr(struct fs_call *call)
{
    const char *name;
    int r = fs_take_text(call, &name);
    if (r < 0) {
        return r;
    }
    AUTO(closep) int fd = open_file(call, name);
    if (fd < 0) {
        return fd;
    }
    return fremovexattr(fd, name) < 0 ? -errno : 0;
}
