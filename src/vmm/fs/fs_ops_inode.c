#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "base/macros.h"
#include "base/path.h"
#include "vmm/fs/fs_internal.h"

#define BENEATH (RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS)

static void fill_timeout(uint32_t ms, uint64_t *seconds, uint32_t *ns)
{
    *seconds = ms / 1000;
    *ns = ms % 1000 * 1000000;
}

void fs_fill_attr(const struct fs_server *server, const struct stat *st, struct fuse_attr *ret)
{
    *ret = (struct fuse_attr){
        .ino = st->st_ino,
        .size = (uint64_t)st->st_size,
        .blocks = (uint64_t)st->st_blocks,
        .atime = (uint64_t)st->st_atim.tv_sec,
        .mtime = (uint64_t)st->st_mtim.tv_sec,
        .ctime = (uint64_t)st->st_ctim.tv_sec,
        .atimensec = (uint32_t)st->st_atim.tv_nsec,
        .mtimensec = (uint32_t)st->st_mtim.tv_nsec,
        .ctimensec = (uint32_t)st->st_ctim.tv_nsec,
        .mode = st->st_mode,
        .nlink = (uint32_t)st->st_nlink,
        .uid = fs_map_to_guest(&server->options.users, st->st_uid),
        .gid = fs_map_to_guest(&server->options.groups, st->st_gid),
        .rdev = (uint32_t)(minor(st->st_rdev) & 0xff) | (uint32_t)major(st->st_rdev) << 8 |
                (uint32_t)(minor(st->st_rdev) & ~0xffU) << 12,
        .blksize = (uint32_t)st->st_blksize,
    };
}

int fs_lookup(struct fs_server *server, const struct fs_inode *parent, const char *name,
              struct fuse_entry_out *ret)
{
    if (parent->type != S_IFDIR) {
        return -ENOTDIR;
    }
    if (fs_is_frame(server, parent) && strcmp(name, server->only) != 0) {
        return -ENOENT;
    }
    int fd = open_resolved(parent->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0, BENEATH);
    if (fd < 0) {
        return fd;
    }
    struct fs_inode *inode;
    struct stat st;
    int r = fs_inode_add(server, fd, &inode, &st);
    if (r < 0) {
        return r;
    }
    *ret = (struct fuse_entry_out){.nodeid = inode->nodeid};
    fill_timeout(server->options.entry_timeout_ms, &ret->entry_valid, &ret->entry_valid_nsec);
    fill_timeout(server->options.attr_timeout_ms, &ret->attr_valid, &ret->attr_valid_nsec);
    fs_fill_attr(server, &st, &ret->attr);
    return 0;
}

/* The entry of a name as the answer. */
static int reply_entry(struct fs_call *call, const struct fs_inode *parent, const char *name)
{
    struct fuse_entry_out entry;
    int r = fs_lookup(call->server, parent, name, &entry);
    if (r < 0) {
        return r;
    }
    r = fs_reply(call, &entry, sizeof(entry));
    if (r < 0) {
        fs_inode_forget(call->server, entry.nodeid, 1);
    }
    return r;
}

int fs_op_lookup(struct fs_call *call)
{
    const char *name;
    struct fs_inode *parent = fs_call_inode(call);
    int r = fs_take_name(call, &name);
    if (r == 0 && parent == NULL) {
        r = -ESTALE;
    }
    return r < 0 ? r : reply_entry(call, parent, name);
}

static int reply_attr(struct fs_call *call, const struct fs_inode *inode)
{
    struct stat st;
    if (fstat(inode->fd, &st) < 0) {
        return -errno;
    }
    struct fuse_attr_out out = {0};
    fill_timeout(call->server->options.attr_timeout_ms, &out.attr_valid, &out.attr_valid_nsec);
    fs_fill_attr(call->server, &st, &out.attr);
    return fs_reply(call, &out, sizeof(out));
}

int fs_op_getattr(struct fs_call *call)
{
    const struct fs_inode *inode = fs_call_inode(call);
    return inode == NULL ? -ESTALE : reply_attr(call, inode);
}

static int set_owner(struct fs_call *call, const struct fs_inode *inode,
                     const struct fuse_setattr_in *in)
{
    const struct fs_options *options = &call->server->options;
    uint32_t uid = UINT32_MAX;
    uint32_t gid = UINT32_MAX;
    if ((in->valid & FATTR_UID) != 0 && fs_map_to_host(&options->users, in->uid, &uid) < 0) {
        return -EINVAL;
    }
    if ((in->valid & FATTR_GID) != 0 && fs_map_to_host(&options->groups, in->gid, &gid) < 0) {
        return -EINVAL;
    }
    return fchownat(inode->fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int set_size(struct fs_call *call, const struct fs_inode *inode,
                    const struct fuse_setattr_in *in)
{
    if (inode->type != S_IFREG) {
        return inode->type == S_IFDIR ? -EISDIR : -EINVAL;
    }
    if (in->size > INT64_MAX) {
        return -EFBIG;
    }
    if ((in->valid & FATTR_FH) != 0) {
        const struct fs_handle *handle = fs_handle_get(call->server, in->fh, inode->nodeid, false);
        if (handle == NULL) {
            return -EBADF;
        }
        return ftruncate(handle->fd, (off_t)in->size) < 0 ? -errno : 0;
    }
    AUTO(closep) int fd = fs_inode_open(call->server, inode, O_WRONLY);
    if (fd < 0) {
        return fd;
    }
    return ftruncate(fd, (off_t)in->size) < 0 ? -errno : 0;
}

static struct timespec time_of(uint32_t valid, uint32_t set, uint32_t now, uint64_t seconds,
                               uint32_t ns)
{
    struct timespec t = {.tv_nsec = UTIME_OMIT};
    if ((valid & set) != 0) {
        t.tv_sec = (time_t)seconds;
        t.tv_nsec = (valid & now) != 0 ? UTIME_NOW : (long)MIN(ns, 999999999U);
    }
    return t;
}

int fs_op_setattr(struct fs_call *call)
{
    struct fuse_setattr_in in;
    memcpy(&in, call->arguments, sizeof(in));
    const struct fs_inode *inode = fs_call_inode(call);
    if (inode == NULL) {
        return -ESTALE;
    }
    if (fs_is_frame(call->server, inode)) {
        return -EPERM;
    }
    int r = 0;
    if ((in.valid & (FATTR_UID | FATTR_GID)) != 0) {
        r = set_owner(call, inode, &in);
    }
    if (r == 0 && (in.valid & FATTR_MODE) != 0) {
        char name[16];
        fs_inode_proc_name(inode, name);
        if (inode->type == S_IFLNK) {
            r = -EOPNOTSUPP;
        } else if (fchmodat(call->server->proc_fd, name, in.mode & 07777, 0) < 0) {
            r = -errno;
        }
    }
    if (r == 0 && (in.valid & FATTR_SIZE) != 0) {
        r = set_size(call, inode, &in);
    }
    if (r == 0 && (in.valid & (FATTR_ATIME | FATTR_MTIME)) != 0) {
        const struct timespec times[2] = {
            time_of(in.valid, FATTR_ATIME, FATTR_ATIME_NOW, in.atime, in.atimensec),
            time_of(in.valid, FATTR_MTIME, FATTR_MTIME_NOW, in.mtime, in.mtimensec),
        };
        if (utimensat(inode->fd, "", times, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0) {
            r = -errno;
        }
    }
    return r < 0 ? r : reply_attr(call, inode);
}

int fs_op_readlink(struct fs_call *call)
{
    const struct fs_inode *inode = fs_call_inode(call);
    if (inode == NULL) {
        return -ESTALE;
    }
    if (inode->type != S_IFLNK) {
        return -EINVAL;
    }
    ssize_t n = readlinkat(inode->fd, "", (char *)call->server->buffer, PATH_MAX);
    return n < 0 ? -errno : fs_reply(call, call->server->buffer, (size_t)n);
}

int fs_adopt(struct fs_call *call, const struct fs_inode *parent, int fd, uint32_t mode)
{
    const struct fs_options *options = &call->server->options;
    uint32_t uid;
    uint32_t gid;
    struct stat above;
    struct stat st;
    if (fs_map_to_host(&options->users, call->header.uid, &uid) < 0 ||
        fs_map_to_host(&options->groups, call->header.gid, &gid) < 0) {
        return -EOVERFLOW;
    }
    if (fstat(parent->fd, &above) < 0 || fstat(fd, &st) < 0) {
        return -errno;
    }
    /* In a directory with the set-group bit the group comes from there, and the bit goes on. */
    if ((above.st_mode & S_ISGID) != 0) {
        gid = above.st_gid;
        mode |= S_ISDIR(st.st_mode) ? (uint32_t)S_ISGID : 0U;
    }
    if ((st.st_uid != uid || st.st_gid != gid) &&
        fchownat(fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0) {
        return -errno;
    }
    if (S_ISLNK(st.st_mode)) {
        return 0;
    }
    char name[16];
    (void)snprintf(name, sizeof(name), "%d", fd);
    return fchmodat(call->server->proc_fd, name, mode & 07777, 0) < 0 ? -errno : 0;
}

/* Of something that was just made: what cannot be given to its maker is removed again. */
static int finish_new(struct fs_call *call, const struct fs_inode *parent, const char *name,
                      uint32_t mode, int remove_flags)
{
    AUTO(closep)
    int fd = open_resolved(parent->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0, BENEATH);
    if (fd < 0) {
        return fd;
    }
    int r = fs_adopt(call, parent, fd, mode);
    if (r < 0) {
        (void)unlinkat(parent->fd, name, remove_flags);
        return r;
    }
    return reply_entry(call, parent, name);
}

int fs_op_symlink(struct fs_call *call)
{
    const char *name;
    const char *target;
    struct fs_inode *parent;
    int r = fs_take_name(call, &name);
    if (r == 0) {
        r = fs_take_text(call, &target);
    }
    if (r == 0) {
        r = fs_call_parent(call, call->header.nodeid, &parent);
    }
    if (r < 0) {
        return r;
    }
    return symlinkat(target, parent->fd, name) < 0 ? -errno
                                                   : finish_new(call, parent, name, 0777, 0);
}

int fs_op_mknod(struct fs_call *call)
{
    struct fuse_mknod_in in;
    memcpy(&in, call->arguments, sizeof(in));
    const char *name;
    struct fs_inode *parent;
    int r = fs_take_name(call, &name);
    if (r == 0) {
        r = fs_call_parent(call, call->header.nodeid, &parent);
    }
    if (r < 0) {
        return r;
    }
    mode_t type = in.mode & S_IFMT;
    /* A node of a device would be the host's device. 0:0 is an overlay's mark and nobody's. */
    bool mark = type == S_IFCHR && in.rdev == 0;
    if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK && !mark) {
        return type == S_IFCHR || type == S_IFBLK ? -EPERM : -EINVAL;
    }
    if (mknodat(parent->fd, name, type | 0600, 0) < 0) {
        return -errno;
    }
    return finish_new(call, parent, name, in.mode, 0);
}

int fs_op_mkdir(struct fs_call *call)
{
    struct fuse_mkdir_in in;
    memcpy(&in, call->arguments, sizeof(in));
    const char *name;
    struct fs_inode *parent;
    int r = fs_take_name(call, &name);
    if (r == 0) {
        r = fs_call_parent(call, call->header.nodeid, &parent);
    }
    if (r < 0) {
        return r;
    }
    return mkdirat(parent->fd, name, 0700) < 0
               ? -errno
               : finish_new(call, parent, name, in.mode, AT_REMOVEDIR);
}

static int remove_name(struct fs_call *call, int flags)
{
    const char *name;
    struct fs_inode *parent;
    int r = fs_take_name(call, &name);
    if (r == 0) {
        r = fs_call_parent(call, call->header.nodeid, &parent);
    }
    if (r < 0) {
        return r;
    }
    return unlinkat(parent->fd, name, flags) < 0 ? -errno : 0;
}

int fs_op_unlink(struct fs_call *call)
{
    return remove_name(call, 0);
}

int fs_op_rmdir(struct fs_call *call)
{
    return remove_name(call, AT_REMOVEDIR);
}

static int rename_to(struct fs_call *call, uint64_t new_parent, uint32_t flags)
{
    const char *name;
    const char *new_name;
    struct fs_inode *from;
    struct fs_inode *to;
    int r = fs_take_name(call, &name);
    if (r == 0) {
        r = fs_take_name(call, &new_name);
    }
    if (r == 0) {
        r = fs_call_parent(call, call->header.nodeid, &from);
    }
    if (r == 0) {
        r = fs_call_parent(call, new_parent, &to);
    }
    if (r == 0 && (flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) {
        r = -EINVAL;
    }
    if (r < 0) {
        return r;
    }
    return renameat2(from->fd, name, to->fd, new_name, flags) < 0 ? -errno : 0;
}

int fs_op_rename(struct fs_call *call)
{
    struct fuse_rename_in in;
    memcpy(&in, call->arguments, sizeof(in));
    return rename_to(call, in.newdir, 0);
}

int fs_op_rename2(struct fs_call *call)
{
    struct fuse_rename2_in in;
    memcpy(&in, call->arguments, sizeof(in));
    return rename_to(call, in.newdir, in.flags);
}

int fs_op_link(struct fs_call *call)
{
    struct fuse_link_in in;
    memcpy(&in, call->arguments, sizeof(in));
    const char *name;
    struct fs_inode *parent;
    const struct fs_inode *inode = fs_inode_get(call->server, in.oldnodeid);
    int r = fs_take_name(call, &name);
    if (r == 0) {
        r = fs_call_parent(call, call->header.nodeid, &parent);
    }
    if (r == 0 && inode == NULL) {
        r = -ESTALE;
    }
    if (r < 0) {
        return r;
    }
    char old[16];
    fs_inode_proc_name(inode, old);
    if (linkat(call->server->proc_fd, old, parent->fd, name, AT_SYMLINK_FOLLOW) < 0) {
        return -errno;
    }
    return reply_entry(call, parent, name);
}
