#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/macros.h"
#include "vmm/fs/fs_internal.h"

#define INODES 65536U
#define HANDLES 16384U

int fs_inodes_init(struct fs_inodes *inodes)
{
    inodes->size = 64;
    inodes->by_id = calloc(inodes->size, sizeof(inodes->by_id[0]));
    inodes->free_ids = calloc(inodes->size, sizeof(inodes->free_ids[0]));
    return inodes->by_id == NULL || inodes->free_ids == NULL ? -ENOMEM : 0;
}

void fs_inodes_done(struct fs_inodes *inodes)
{
    for (size_t i = 0; i < inodes->count; i++) {
        if (inodes->by_id[i] != NULL) {
            (void)close_fd(inodes->by_id[i]->fd);
            free(inodes->by_id[i]);
        }
    }
    free(inodes->by_id);
    free(inodes->free_ids);
}

struct fs_inode *fs_inode_get(struct fs_server *server, uint64_t nodeid)
{
    return nodeid >= 1 && nodeid <= server->inodes.count ? server->inodes.by_id[nodeid - 1] : NULL;
}

static struct fs_inode **bucket_of(struct fs_inodes *inodes, dev_t device, ino_t number)
{
    uint64_t mix = ((uint64_t)number ^ (uint64_t)device << 32) * 0x9e3779b97f4a7c15ULL;
    return &inodes->buckets[mix >> 54];
}

static int grow(struct fs_inodes *inodes)
{
    if (inodes->count < inodes->size) {
        return 0;
    }
    size_t size = inodes->size * 2;
    struct fs_inode **by_id = realloc(inodes->by_id, size * sizeof(*by_id));
    if (by_id == NULL) {
        return -ENOMEM;
    }
    inodes->by_id = by_id;
    uint64_t *ids = realloc(inodes->free_ids, size * sizeof(*ids));
    if (ids == NULL) {
        return -ENOMEM;
    }
    inodes->free_ids = ids;
    inodes->size = size;
    return 0;
}

int fs_inode_add(struct fs_server *server, int given, struct fs_inode **ret, struct stat *ret_stat)
{
    AUTO(closep) int fd = given;
    struct fs_inodes *inodes = &server->inodes;
    if (fstat(fd, ret_stat) < 0) {
        return -errno;
    }
    struct fs_inode **bucket = bucket_of(inodes, ret_stat->st_dev, ret_stat->st_ino);
    for (struct fs_inode *inode = *bucket; inode != NULL; inode = inode->next_hash) {
        /* Its descriptor holds the inode: the number means the same file. */
        if (inode->device == ret_stat->st_dev && inode->number == ret_stat->st_ino) {
            inode->lookups++;
            *ret = inode;
            return 0;
        }
    }
    uint32_t max = server->options.max_inodes != 0 ? server->options.max_inodes : INODES;
    if (inodes->used >= max) {
        return -ENFILE;
    }
    AUTO(freep) struct fs_inode *inode = calloc(1, sizeof(*inode));
    if (inode == NULL || (inodes->free_count == 0 && grow(inodes) < 0)) {
        return -ENOMEM;
    }
    uint64_t place =
        inodes->free_count > 0 ? inodes->free_ids[--inodes->free_count] : inodes->count++;
    *inode = (struct fs_inode){
        .nodeid = place + 1,
        .device = ret_stat->st_dev,
        .number = ret_stat->st_ino,
        .type = ret_stat->st_mode & S_IFMT,
        .lookups = 1,
        .fd = TAKE_FD(fd),
        .next_hash = *bucket,
    };
    inodes->used++;
    *bucket = inode;
    inodes->by_id[place] = inode;
    *ret = TAKE_PTR(inode);
    return 0;
}

void fs_inode_forget(struct fs_server *server, uint64_t nodeid, uint64_t lookups)
{
    struct fs_inodes *inodes = &server->inodes;
    struct fs_inode *inode = fs_inode_get(server, nodeid);
    if (inode == NULL || nodeid == FUSE_ROOT_ID) {
        return;
    }
    if (lookups < inode->lookups) {
        inode->lookups -= lookups;
        return;
    }
    /* More than it ever looked up is as good as all. */
    struct fs_inode **link = bucket_of(inodes, inode->device, inode->number);
    while (*link != inode) {
        link = &(*link)->next_hash;
    }
    *link = inode->next_hash;
    inodes->by_id[nodeid - 1] = NULL;
    inodes->free_ids[inodes->free_count++] = nodeid - 1;
    inodes->used--;
    (void)close_fd(inode->fd);
    free(inode);
}

void fs_inode_proc_name(const struct fs_inode *inode, char name[16])
{
    (void)snprintf(name, 16, "%d", inode->fd);
}

int fs_inode_open(struct fs_server *server, const struct fs_inode *inode, int flags)
{
    if (inode->type != S_IFREG && inode->type != S_IFDIR) {
        /* The guest's kernel opens FIFOs and devices itself; here one would block, or do harm. */
        return inode->type == S_IFLNK ? -ELOOP : -ENXIO;
    }
    char name[16];
    fs_inode_proc_name(inode, name);
    int fd = openat(server->proc_fd, name, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int fs_handle_add(struct fs_server *server, int given, uint64_t nodeid, bool directory,
                  uint64_t *ret)
{
    AUTO(closep) int fd = given;
    size_t place = 0;
    while (place < server->handle_size && server->handles[place].fd >= 0) {
        place++;
    }
    if (place == server->handle_size) {
        uint32_t max = server->options.max_handles != 0 ? server->options.max_handles : HANDLES;
        if (place >= max) {
            return -ENFILE;
        }
        size_t size = MIN(place * 2 + 32, (size_t)max);
        struct fs_handle *bigger = realloc(server->handles, size * sizeof(*bigger));
        if (bigger == NULL) {
            return -ENOMEM;
        }
        for (size_t i = place; i < size; i++) {
            bigger[i] = (struct fs_handle){.fd = -1};
        }
        server->handles = bigger;
        server->handle_size = size;
    }
    server->handles[place] =
        (struct fs_handle){.fd = TAKE_FD(fd), .nodeid = nodeid, .directory = directory};
    *ret = place + 1;
    return 0;
}

struct fs_handle *fs_handle_get(struct fs_server *server, uint64_t fh, uint64_t nodeid,
                                bool directory)
{
    if (fh == 0 || fh > server->handle_size) {
        return NULL;
    }
    struct fs_handle *handle = &server->handles[fh - 1];
    return handle->fd >= 0 && handle->nodeid == nodeid && handle->directory == directory ? handle
                                                                                         : NULL;
}

void fs_handle_close(struct fs_server *server, struct fs_handle *handle)
{
    (void)server;
    handle->fd = close_fd(handle->fd);
}
