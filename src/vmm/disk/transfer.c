#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "vmm/disk/disk_internal.h"

#define PIECES_MAX 256
#define BOUNCE_MAX ((uint64_t)256 * 1024)

struct transfer {
    struct uring_op op;
    struct disk *disk;
    struct disk_request *request;
    const struct disk_file *file;
    disk_transfer_fn *done;
    bool write;
    uint64_t offset, left;
    uint64_t asked; /* of the step under way */
    struct iov_cursor cursor;
    void *bounce; /* direct I/O from or to buffers that are not aligned */
    unsigned size;
    struct iovec pieces[];
};

static bool is_aligned(const struct transfer *t, unsigned count)
{
    uintptr_t mask = (uintptr_t)MAX(t->file->mem_align, 1U) - 1;
    for (unsigned i = 0; i < count; i++) {
        if ((((uintptr_t)t->pieces[i].iov_base) & mask) != 0 ||
            t->pieces[i].iov_len % DISK_SECTOR != 0) {
            return false;
        }
    }
    return true;
}

static void step(struct transfer *t);

static void finish(struct transfer *t, int error)
{
    struct disk *disk = t->disk;
    struct disk_request *request = t->request;
    disk_transfer_fn *done = t->done;
    free(t->bounce);
    free(t);
    done(disk, request, error);
}

static void on_done(struct uring_op *op, int64_t result)
{
    struct transfer *t = CONTAINER_OF(op, struct transfer, op);
    if (result == -EINTR || result == -EAGAIN) {
        result = 0;
        t->asked = 0;
    } else if (result < 0) {
        finish(t, (int)result);
        return;
    } else if (result == 0 && t->write) {
        finish(t, -EIO);
        return;
    }
    uint64_t moved = MIN((uint64_t)result, t->asked);
    if (t->bounce != NULL && !t->write) {
        iov_put(&t->cursor, t->bounce, (size_t)moved);
    } else {
        iov_advance(&t->cursor, moved);
    }
    t->offset += moved;
    t->left -= moved;
    /* The end of the file. A short direct read ends there, too, and cannot be continued. */
    if (t->asked > 0 && !t->write && (result == 0 || (t->file->direct && moved < t->asked))) {
        iov_put_zeros(&t->cursor, t->left);
        t->left = 0;
    }
    if (t->left == 0) {
        finish(t, 0);
        return;
    }
    step(t);
}

static int take_bounce(struct transfer *t)
{
    t->asked = MIN(t->left, BOUNCE_MAX);
    if (t->bounce == NULL) {
        int r = posix_memalign(&t->bounce, MAX(t->file->mem_align, 512U), (size_t)t->asked);
        if (r != 0) {
            t->bounce = NULL;
            return -r;
        }
    }
    if (t->write) {
        struct iov_cursor from = t->cursor;
        iov_get(&from, t->bounce, (size_t)t->asked);
    }
    t->pieces[0].iov_base = t->bounce;
    t->pieces[0].iov_len = (size_t)t->asked;
    return 0;
}

static void step(struct transfer *t)
{
    unsigned count = iov_slice(&t->cursor, t->left, t->pieces, t->size, &t->asked);
    if (t->file->direct && (t->bounce != NULL || !is_aligned(t, count))) {
        int r = take_bounce(t);
        if (r < 0) {
            finish(t, r);
            return;
        }
        count = 1;
    }
    t->op = (struct uring_op){
        .kind = t->write ? URING_WRITE : URING_READ,
        .fd = t->file->fd,
        .offset = t->offset,
        .iov = t->pieces,
        .iov_count = count,
        .done = on_done,
    };
    uring_submit(t->disk->uring, &t->op);
}

int disk_transfer(struct disk *disk, struct disk_request *request, const struct disk_file *file,
                  uint64_t file_offset, uint64_t request_offset, uint64_t len,
                  disk_transfer_fn *done)
{
    unsigned size = MIN(request->iov_count, (unsigned)PIECES_MAX);
    struct transfer *t = malloc(sizeof(*t) + size * sizeof(struct iovec));
    if (t == NULL) {
        return -ENOMEM;
    }
    *t = (struct transfer){
        .disk = disk,
        .request = request,
        .file = file,
        .done = done,
        .write = request->op == DISK_WRITE,
        .offset = file_offset,
        .left = len,
        .cursor = {.iov = request->iov, .count = request->iov_count},
        .size = size,
    };
    iov_advance(&t->cursor, request_offset);
    step(t);
    return 0;
}
