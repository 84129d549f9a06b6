/*
 * fs_server.h - a directory of the host served as a virtio-fs file system (virtio 1.2, 5.11).
 *
 * Requests are those of FUSE (linux/fuse.h, 7.31 or later). The server knows no transport: it gets
 * a request as buffers and fills the buffers of the answer. All bytes of requests are the guest's.
 *
 * Nothing outside the shared directory is reached: names are single components, looked up with
 * openat2() without following any link; what was looked up is held by O_PATH descriptors. The
 * guest's kernel checks permissions; the server acts with the rights of its process, which should
 * be few beside those on files (docs/fs.md).
 *
 * One thread.
 */
#ifndef VMM_FS_FS_SERVER_H
#define VMM_FS_FS_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/cleanup.h"

struct err;
struct fs_server;

/* Guest ids from guest on are the host's from host on. */
struct fs_id_range {
    uint32_t guest, host, count;
};

#define FS_ID_RANGES_MAX 16

struct fs_id_map {
    unsigned count; /* 0: ids are the same on both sides */
    struct fs_id_range ranges[FS_ID_RANGES_MAX];
};

struct fs_options {
    bool read_only;
    int proc_fd;      /* /proc/self/fd, borrowed for the call; 0: it is opened */
    const char *only; /* NULL, or the one name of the directory that there is for the guest */
    uint32_t entry_timeout_ms, attr_timeout_ms; /* how long the guest believes what it was told */
    bool writeback;                             /* the guest may hold writes back */
    struct fs_id_map users, groups;
    uint32_t max_inodes;  /* that the guest may hold at once, a descriptor each; 0: 65536 */
    uint32_t max_handles; /* open files; 0: 16384 */
};

/*
 * root_fd: a directory, borrowed for the call. /proc is not needed afterwards; serve()
 * must run in the process that made the server.
 */
int fs_server_new(int root_fd, const struct fs_options *options, struct fs_server **ret,
                  struct err *err);
/* Accepts NULL. */
void fs_server_free(struct fs_server *server);
DEFINE_FREEP(struct fs_server *, fs_server_free)

/*
 * Serves one request. Returns the bytes of the answer that were put into out; 0: the request has no
 * answer, or there is no room for one.
 */
size_t fs_server_serve(struct fs_server *server, const struct iovec *in, unsigned in_count,
                       const struct iovec *out, unsigned out_count);

#endif
