#include "vmm/fs/fs_server.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/err.h"
#include "base/macros.h"
#include "base/path.h"
#include "vmm/fs/fs_internal.h"

#define MAX_WRITE (1U << 20)
#define MINOR_MIN 31

/* What a guest may send, how long its fixed part is, and what it does. */
struct operation {
    fs_operation_fn *run;
    uint16_t fixed;
    bool modifies; /* refused on a read-only share */
};

static const struct operation operations[] = {
    [FUSE_LOOKUP] = {fs_op_lookup, 0, false},
    [FUSE_GETATTR] = {fs_op_getattr, sizeof(struct fuse_getattr_in), false},
    [FUSE_SETATTR] = {fs_op_setattr, sizeof(struct fuse_setattr_in), true},
    [FUSE_READLINK] = {fs_op_readlink, 0, false},
    [FUSE_SYMLINK] = {fs_op_symlink, 0, true},
    [FUSE_MKNOD] = {fs_op_mknod, sizeof(struct fuse_mknod_in), true},
    [FUSE_MKDIR] = {fs_op_mkdir, sizeof(struct fuse_mkdir_in), true},
    [FUSE_UNLINK] = {fs_op_unlink, 0, true},
    [FUSE_RMDIR] = {fs_op_rmdir, 0, true},
    [FUSE_RENAME] = {fs_op_rename, sizeof(struct fuse_rename_in), true},
    [FUSE_LINK] = {fs_op_link, sizeof(struct fuse_link_in), true},
    [FUSE_OPEN] = {fs_op_open, sizeof(struct fuse_open_in), false},
    [FUSE_READ] = {fs_op_read, sizeof(struct fuse_read_in), false},
    [FUSE_WRITE] = {fs_op_write, sizeof(struct fuse_write_in), true},
    [FUSE_STATFS] = {fs_op_statfs, 0, false},
    [FUSE_RELEASE] = {fs_op_release, sizeof(struct fuse_release_in), false},
    [FUSE_FSYNC] = {fs_op_fsync, sizeof(struct fuse_fsync_in), false},
    [FUSE_SETXATTR] = {fs_op_setxattr, FUSE_COMPAT_SETXATTR_IN_SIZE, true},
    [FUSE_GETXATTR] = {fs_op_getxattr, sizeof(struct fuse_getxattr_in), false},
    [FUSE_LISTXATTR] = {fs_op_listxattr, sizeof(struct fuse_getxattr_in), false},
    [FUSE_REMOVEXATTR] = {fs_op_removexattr, 0, true},
    [FUSE_FLUSH] = {fs_op_flush, sizeof(struct fuse_flush_in), false},
    [FUSE_OPENDIR] = {fs_op_opendir, sizeof(struct fuse_open_in), false},
    [FUSE_READDIR] = {fs_op_readdir, sizeof(struct fuse_read_in), false},
    [FUSE_RELEASEDIR] = {fs_op_releasedir, sizeof(struct fuse_release_in), false},
    [FUSE_FSYNCDIR] = {fs_op_fsyncdir, sizeof(struct fuse_fsync_in), false},
    [FUSE_CREATE] = {fs_op_create, sizeof(struct fuse_create_in), true},
    [FUSE_FALLOCATE] = {fs_op_fallocate, sizeof(struct fuse_fallocate_in), true},
    [FUSE_READDIRPLUS] = {fs_op_readdirplus, sizeof(struct fuse_read_in), false},
    [FUSE_RENAME2] = {fs_op_rename2, sizeof(struct fuse_rename2_in), true},
    [FUSE_LSEEK] = {fs_op_lseek, sizeof(struct fuse_lseek_in), false},
    [FUSE_COPY_FILE_RANGE] = {fs_op_copy_range, sizeof(struct fuse_copy_file_range_in), true},
    [FUSE_SYNCFS] = {fs_op_syncfs, sizeof(struct fuse_syncfs_in), false},
};

int fs_reply(struct fs_call *call, const void *data, size_t len)
{
    if (len > call->out_len - call->written) {
        return -EIO;
    }
    iov_put(&call->out, data, len);
    call->written += len;
    return 0;
}

int fs_take_text(struct fs_call *call, const char **ret)
{
    const uint8_t *from = call->arguments + call->at;
    const uint8_t *end = memchr(from, 0, call->length - call->at);
    if (end == NULL) {
        return -EINVAL;
    }
    *ret = (const char *)from;
    call->at += (size_t)(end - from) + 1;
    return 0;
}

int fs_take_name(struct fs_call *call, const char **ret)
{
    const char *name;
    int r = fs_take_text(call, &name);
    if (r < 0) {
        return r;
    }
    if (strlen(name) > NAME_MAX) {
        return -ENAMETOOLONG;
    }
    if (!path_is_plain_name(name)) {
        return -EINVAL;
    }
    *ret = name;
    return 0;
}

struct fs_inode *fs_call_inode(struct fs_call *call)
{
    return fs_inode_get(call->server, call->header.nodeid);
}

int fs_call_parent(struct fs_call *call, uint64_t nodeid, struct fs_inode **ret)
{
    struct fs_inode *inode = fs_inode_get(call->server, nodeid);
    if (inode == NULL) {
        return -ESTALE;
    }
    if (inode->type != S_IFDIR) {
        return -ENOTDIR;
    }
    if (fs_is_frame(call->server, inode)) {
        return -EPERM;
    }
    *ret = inode;
    return 0;
}

int fs_map_to_host(const struct fs_id_map *map, uint32_t guest, uint32_t *ret)
{
    for (unsigned i = 0; i < map->count; i++) {
        const struct fs_id_range *range = &map->ranges[i];
        if (guest >= range->guest && guest - range->guest < range->count) {
            *ret = range->host + (guest - range->guest);
            return 0;
        }
    }
    *ret = guest;
    return map->count == 0 && guest != UINT32_MAX ? 0 : -EOVERFLOW;
}

uint32_t fs_map_to_guest(const struct fs_id_map *map, uint32_t host)
{
    for (unsigned i = 0; i < map->count; i++) {
        const struct fs_id_range *range = &map->ranges[i];
        if (host >= range->host && host - range->host < range->count) {
            return range->guest + (host - range->host);
        }
    }
    return map->count == 0 ? host : 65534;
}

static int init(struct fs_call *call)
{
    struct fs_server *server = call->server;
    struct fuse_init_in in = {0};
    /* Newer kernels send more; what is known is at its start. */
    if (call->length < FUSE_COMPAT_INIT_OUT_SIZE) {
        return -EINVAL;
    }
    memcpy(&in, call->arguments, MIN(call->length, sizeof(in)));
    struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION};
    if (in.major > FUSE_KERNEL_VERSION) {
        /* It asks again with ours. */
        return fs_reply(call, &out, sizeof(out));
    }
    if (in.major < FUSE_KERNEL_VERSION || in.minor < MINOR_MIN) {
        return -EPROTO;
    }
    uint32_t offer = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_MAX_PAGES | FUSE_PARALLEL_DIROPS |
                     FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO;
    offer |= server->options.writeback ? FUSE_WRITEBACK_CACHE : 0U;
    out.flags = in.flags & offer;
    out.max_readahead = in.max_readahead;
    out.max_write = MAX_WRITE;
    out.max_pages = MAX_WRITE / 4096;
    out.max_background = 64;
    out.congestion_threshold = 48;
    out.time_gran = 1;
    int r = fs_reply(call, &out, sizeof(out));
    server->initialised = r == 0;
    return r;
}

/* Everything that the guest held is gone: it ended the file system, or starts anew. */
static void forget_all(struct fs_server *server)
{
    for (size_t i = 0; i < server->handle_size; i++) {
        server->handles[i].fd = close_fd(server->handles[i].fd);
    }
    for (uint64_t id = 2; id <= server->inodes.count; id++) {
        fs_inode_forget(server, id, UINT64_MAX);
    }
    server->initialised = false;
}

static void forget(struct fs_call *call)
{
    struct fuse_forget_in one;
    if (call->header.opcode == FUSE_FORGET) {
        if (call->length >= sizeof(one)) {
            memcpy(&one, call->arguments, sizeof(one));
            fs_inode_forget(call->server, call->header.nodeid, one.nlookup);
        }
        return;
    }
    struct fuse_batch_forget_in batch;
    struct fuse_forget_one item;
    if (call->length < sizeof(batch)) {
        return;
    }
    memcpy(&batch, call->arguments, sizeof(batch));
    size_t at = sizeof(batch);
    for (uint32_t i = 0; i < batch.count && call->length - at >= sizeof(item); i++) {
        memcpy(&item, call->arguments + at, sizeof(item));
        fs_inode_forget(call->server, item.nodeid, item.nlookup);
        at += sizeof(item);
    }
}

static int dispatch(struct fs_call *call)
{
    uint32_t opcode = call->header.opcode;
    if (opcode == FUSE_INIT) {
        forget_all(call->server);
        return init(call);
    }
    if (!call->server->initialised) {
        return -EIO;
    }
    if (opcode == FUSE_DESTROY) {
        forget_all(call->server);
        return 0;
    }
    if (opcode >= COUNT(operations) || operations[opcode].run == NULL) {
        return -ENOSYS;
    }
    const struct operation *operation = &operations[opcode];
    if (call->length < operation->fixed) {
        return -EINVAL;
    }
    if (operation->modifies && call->server->options.read_only) {
        return -EROFS;
    }
    call->at = operation->fixed;
    return operation->run(call);
}

/* Copies what is looked at; data that is only moved stays where it is. */
static int take_arguments(struct fs_call *call, struct iov_cursor *in, uint64_t len)
{
    uint64_t copied = len;
    if (call->header.opcode == FUSE_WRITE) {
        copied = MIN(len, (uint64_t)sizeof(struct fuse_write_in));
    }
    if (copied > FS_BUFFER) {
        return -E2BIG;
    }
    iov_get(in, call->server->arguments, (size_t)copied);
    call->arguments = call->server->arguments;
    call->length = (size_t)copied;
    call->data = *in;
    call->data_len = len - copied;
    return 0;
}

size_t fs_server_serve(struct fs_server *server, const struct iovec *in, unsigned in_count,
                       const struct iovec *out, unsigned out_count)
{
    struct fs_call call = {.server = server, .out = {.iov = out, .count = out_count}};
    struct iov_cursor from = {.iov = in, .count = in_count};
    uint64_t in_len = iov_length(in, in_count);
    uint64_t out_len = iov_length(out, out_count);
    struct fuse_out_header answer = {0};
    if (in_len < sizeof(call.header)) {
        return 0;
    }
    iov_get(&from, &call.header, sizeof(call.header));
    bool no_answer = call.header.opcode == FUSE_FORGET || call.header.opcode == FUSE_BATCH_FORGET ||
                     call.header.opcode == FUSE_INTERRUPT;
    if (!no_answer && out_len < sizeof(answer)) {
        return 0;
    }
    int r = call.header.len == in_len ? 0 : -EINVAL;
    if (r == 0) {
        r = take_arguments(&call, &from, in_len - sizeof(call.header));
    }
    if (no_answer) {
        if (r == 0 && call.header.opcode != FUSE_INTERRUPT && server->initialised) {
            forget(&call);
        }
        return 0;
    }
    call.out_len = MIN(out_len - sizeof(answer), (uint64_t)UINT32_MAX / 2);
    iov_advance(&call.out, sizeof(answer));
    if (r == 0) {
        r = dispatch(&call);
    }
    answer.error = r;
    answer.unique = call.header.unique;
    answer.len = (uint32_t)(sizeof(answer) + (r == 0 ? call.written : 0));
    struct iov_cursor head = {.iov = out, .count = out_count};
    iov_put(&head, &answer, sizeof(answer));
    return answer.len;
}

int fs_server_new(int root_fd, const struct fs_options *options, struct fs_server **ret,
                  struct err *err)
{
    AUTO(fs_server_freep) struct fs_server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        return err_set(err, ENOMEM, "share a directory");
    }
    server->options = *options;
    server->proc_fd = -1;
    server->root_fd = -1;
    server->arguments = malloc(FS_BUFFER);
    server->buffer = malloc(FS_BUFFER);
    if (options->only != NULL) {
        if (!path_is_plain_name(options->only)) {
            return err_say(err, EINVAL, "share '%s': not the name of a file", options->only);
        }
        server->only = strdup(options->only);
    }
    if (server->arguments == NULL || server->buffer == NULL ||
        (options->only != NULL && server->only == NULL) || fs_inodes_init(&server->inodes) < 0) {
        return err_set(err, ENOMEM, "share a directory");
    }
    server->proc_fd = options->proc_fd > 0
                          ? fcntl(options->proc_fd, F_DUPFD_CLOEXEC, 3)
                          : open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (server->proc_fd < 0) {
        return err_set(err, errno, "open /proc/self/fd");
    }
    server->root_fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int path_fd = openat(root_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (server->root_fd < 0 || path_fd < 0) {
        (void)close_fd(path_fd);
        return err_set(err, errno, "open the shared directory");
    }
    struct fs_inode *root;
    struct stat st;
    int r = fs_inode_add(server, path_fd, &root, &st);
    if (r < 0) {
        return err_set(err, -r, "open the shared directory");
    }
    *ret = TAKE_PTR(server);
    return 0;
}

void fs_server_free(struct fs_server *server)
{
    if (server == NULL) {
        return;
    }
    for (size_t i = 0; i < server->handle_size; i++) {
        (void)close_fd(server->handles[i].fd);
    }
    free(server->handles);
    fs_inodes_done(&server->inodes);
    (void)close_fd(server->proc_fd);
    (void)close_fd(server->root_fd);
    free(server->arguments);
    free(server->buffer);
    free(server->only);
    free(server);
}
