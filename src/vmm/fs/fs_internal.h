/*
 * fs_internal.h - what the parts of the virtio-fs server share.
 */
#ifndef VMM_FS_FS_INTERNAL_H
#define VMM_FS_FS_INTERNAL_H

#include <linux/fuse.h>
#include <sys/stat.h>

#include "vmm/disk/iov.h"
#include "vmm/fs/fs_server.h"

/* A file that the guest knows, by its number and by the host's. */
struct fs_inode {
    uint64_t nodeid;
    dev_t device;
    ino_t number;
    mode_t type;      /* S_IFMT */
    uint64_t lookups; /* that the guest did and did not forget */
    int fd;           /* O_PATH */
    struct fs_inode *next_hash;
};

struct fs_handle {
    int fd; /* -1: free */
    uint64_t nodeid;
    bool directory;
};

#define FS_BUCKETS 1024

struct fs_inodes {
    struct fs_inode **by_id; /* place nodeid - 1 */
    size_t count, size;
    uint64_t *free_ids; /* given back; room for size of them */
    size_t free_count;
    size_t used;
    struct fs_inode *buckets[FS_BUCKETS];
};

/* For xattr values of 64 KiB with their names, and what is read of directories. */
#define FS_BUFFER ((size_t)68 * 1024)

struct fs_server {
    struct fs_options options;
    char *only;
    struct fs_inodes inodes;
    struct fs_handle *handles;
    size_t handle_size;
    int proc_fd; /* /proc/self/fd */
    int root_fd; /* readable */
    bool initialised;
    uint8_t *arguments; /* FS_BUFFER bytes, of the request that is served */
    uint8_t *buffer;    /* FS_BUFFER bytes */
};

struct fs_call {
    struct fs_server *server;
    struct fuse_in_header header;
    const uint8_t *arguments; /* those that were copied; fixed part first */
    size_t length;
    size_t at;              /* of the next name */
    struct iov_cursor data; /* FUSE_WRITE: in the guest's buffers */
    uint64_t data_len;
    struct iov_cursor out; /* behind the header of the answer */
    uint64_t out_len;      /* bytes there */
    uint64_t written;      /* by the operation */
};

/* 0 or a negative errno, which becomes the answer's. */
typedef int fs_operation_fn(struct fs_call *call);

/* The answer's payload, cut never: -EIO when the guest left no room. */
int fs_reply(struct fs_call *call, const void *data, size_t len);
/* The next name of the arguments: one plain component. */
int fs_take_name(struct fs_call *call, const char **ret);
/* Any text that ends with a NUL. */
int fs_take_text(struct fs_call *call, const char **ret);

int fs_inodes_init(struct fs_inodes *inodes);
void fs_inodes_done(struct fs_inodes *inodes);
/* NULL: never given to the guest. */
struct fs_inode *fs_inode_get(struct fs_server *server, uint64_t nodeid);
/* Takes fd over, also on failure. One lookup more. */
int fs_inode_add(struct fs_server *server, int fd, struct fs_inode **ret, struct stat *ret_stat);
void fs_inode_forget(struct fs_server *server, uint64_t nodeid, uint64_t lookups);
/* Opens what the O_PATH descriptor stands for: regular files and directories only. */
int fs_inode_open(struct fs_server *server, const struct fs_inode *inode, int flags);
/* Its name in server->proc_fd. */
void fs_inode_proc_name(const struct fs_inode *inode, char name[16]);

int fs_handle_add(struct fs_server *server, int fd, uint64_t nodeid, bool directory, uint64_t *ret);
/* NULL: never given, of another file, or of the other kind. */
struct fs_handle *fs_handle_get(struct fs_server *server, uint64_t fh, uint64_t nodeid,
                                bool directory);
void fs_handle_close(struct fs_server *server, struct fs_handle *handle);

/* The inode of the request; NULL: no such. */
struct fs_inode *fs_call_inode(struct fs_call *call);
/* The directory around the one file of a share: nothing about it is the guest's to change. */
static inline bool fs_is_frame(const struct fs_server *server, const struct fs_inode *inode)
{
    return server->only != NULL && inode->nodeid == FUSE_ROOT_ID;
}
/* The inode as a directory in which names may be made and removed. */
int fs_call_parent(struct fs_call *call, uint64_t nodeid, struct fs_inode **ret);
int fs_map_to_host(const struct fs_id_map *map, uint32_t guest, uint32_t *ret);
uint32_t fs_map_to_guest(const struct fs_id_map *map, uint32_t host);
void fs_fill_attr(const struct fs_server *server, const struct stat *st, struct fuse_attr *ret);
/* Looks name up and fills an entry: one lookup more, to be forgotten when it is not sent. */
int fs_lookup(struct fs_server *server, const struct fs_inode *parent, const char *name,
              struct fuse_entry_out *ret);
int fs_open_flags(const struct fs_server *server, uint32_t flags, int *ret);
/* Gives a new file the ids of its maker and the mode that he wanted. */
int fs_adopt(struct fs_call *call, const struct fs_inode *parent, int fd, uint32_t mode);

fs_operation_fn fs_op_lookup, fs_op_getattr, fs_op_setattr, fs_op_readlink, fs_op_symlink,
    fs_op_mknod, fs_op_mkdir, fs_op_unlink, fs_op_rmdir, fs_op_rename, fs_op_rename2, fs_op_link;
fs_operation_fn fs_op_open, fs_op_create, fs_op_read, fs_op_write, fs_op_release, fs_op_flush,
    fs_op_fsync, fs_op_lseek, fs_op_fallocate, fs_op_copy_range, fs_op_statfs, fs_op_syncfs;
fs_operation_fn fs_op_opendir, fs_op_readdir, fs_op_readdirplus, fs_op_releasedir, fs_op_fsyncdir;
fs_operation_fn fs_op_setxattr, fs_op_getxattr, fs_op_listxattr, fs_op_removexattr;

#endif
