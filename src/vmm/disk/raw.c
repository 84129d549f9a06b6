#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/macros.h"
#include "vmm/disk/disk_internal.h"

/* Of a range that the file system cannot zero: written in steps of so many pages of zeros. */
#define ZERO_PIECES 64

struct raw_disk {
    struct disk disk;
    struct disk_file file;
};

/* A flush, a discard, or zeros. */
struct raw_op {
    struct uring_op op;
    struct raw_disk *raw;
    struct disk_request *request;
    uint64_t written; /* zeros */
    struct iovec zeros[];
};

static void on_transfer(struct disk *disk, struct disk_request *request, int error)
{
    disk_complete(disk, request, error);
}

static void finish(struct raw_op *op, int error)
{
    struct disk *disk = &op->raw->disk;
    struct disk_request *request = op->request;
    free(op);
    disk_complete(disk, request, error);
}

static void write_zeros(struct raw_op *op);

static void on_zeros(struct uring_op *uring_op, int64_t result)
{
    struct raw_op *op = CONTAINER_OF(uring_op, struct raw_op, op);
    if (result <= 0 && result != -EINTR && result != -EAGAIN) {
        finish(op, result < 0 ? (int)result : -EIO);
        return;
    }
    op->written += result > 0 ? (uint64_t)result : 0;
    if (op->written >= op->request->len) {
        finish(op, 0);
        return;
    }
    write_zeros(op);
}

static void write_zeros(struct raw_op *op)
{
    uint64_t left = op->request->len - op->written;
    unsigned count = 0;
    while (count < ZERO_PIECES && left > 0) {
        size_t piece = (size_t)MIN(left, (uint64_t)DISK_ZEROS_PAGE);
        op->zeros[count].iov_base = (void *)(uintptr_t)disk_zeros;
        op->zeros[count++].iov_len = piece;
        left -= piece;
    }
    op->op = (struct uring_op){
        .kind = URING_WRITE,
        .fd = op->raw->file.fd,
        .offset = op->request->offset + op->written,
        .iov = op->zeros,
        .iov_count = count,
        .done = on_zeros,
    };
    uring_submit(op->raw->disk.uring, &op->op);
}

static void on_op(struct uring_op *uring_op, int64_t result)
{
    struct raw_op *op = CONTAINER_OF(uring_op, struct raw_op, op);
    if (result == -EINTR || result == -EAGAIN) {
        uring_submit(op->raw->disk.uring, &op->op);
        return;
    }
    if (result == -EOPNOTSUPP || result == -ENOSYS || result == -ENODEV) {
        /* Discarding is a hint; zeros are a promise. */
        if (op->request->op == DISK_DISCARD) {
            result = 0;
        } else if (op->request->op == DISK_WRITE_ZEROES) {
            write_zeros(op);
            return;
        }
    }
    finish(op, result < 0 ? (int)result : 0);
}

static void submit_op(struct raw_disk *raw, struct disk_request *request)
{
    size_t pieces = request->op == DISK_WRITE_ZEROES ? ZERO_PIECES : 0;
    struct raw_op *op = malloc(sizeof(*op) + pieces * sizeof(struct iovec));
    if (op == NULL) {
        disk_complete(&raw->disk, request, -ENOMEM);
        return;
    }
    *op = (struct raw_op){.raw = raw, .request = request};
    op->op = (struct uring_op){.fd = raw->file.fd, .done = on_op};
    if (request->op == DISK_FLUSH) {
        op->op.kind = URING_SYNC;
    } else {
        bool punch = request->op == DISK_DISCARD || request->may_unmap;
        op->op.kind = URING_ALLOCATE;
        op->op.mode = (punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | FALLOC_FL_KEEP_SIZE;
        op->op.offset = request->offset;
        op->op.len = request->len;
    }
    uring_submit(raw->disk.uring, &op->op);
}

static void raw_submit(struct disk *disk, struct disk_request *request)
{
    struct raw_disk *raw = CONTAINER_OF(disk, struct raw_disk, disk);
    if (request->op != DISK_READ && request->op != DISK_WRITE) {
        submit_op(raw, request);
        return;
    }
    int r = disk_transfer(disk, request, &raw->file, request->offset, 0, request->len, on_transfer);
    if (r < 0) {
        disk_complete(disk, request, r);
    }
}

static void raw_kick(struct disk *disk)
{
    uring_kick(disk->uring);
}

static void raw_wait(struct disk *disk)
{
    uring_wait(disk->uring);
}

static void raw_free(struct disk *disk)
{
    struct raw_disk *raw = CONTAINER_OF(disk, struct raw_disk, disk);
    uring_free(disk->uring);
    disk_file_close(&raw->file);
    free(raw);
}

static const struct disk_ops raw_ops = {
    .submit = raw_submit,
    .kick = raw_kick,
    .wait = raw_wait,
    .free = raw_free,
};

int raw_open(struct disk_file *file, struct loop *loop, struct disk **ret, struct err *err)
{
    struct raw_disk *raw = calloc(1, sizeof(*raw));
    if (raw == NULL) {
        disk_file_close(file);
        return err_set(err, ENOMEM, "open raw disk");
    }
    raw->file = *file;
    file->fd = -1;
    raw->disk = (struct disk){
        .ops = &raw_ops,
        .read_only = raw->file.read_only,
        .can_discard = !raw->file.read_only,
    };
    /* The last sector may be cut short in the file: it is read as if zeros followed. */
    if (raw->file.size > (uint64_t)INT64_MAX - DISK_SECTOR) {
        raw_free(&raw->disk);
        return err_set(err, EFBIG, "open raw disk");
    }
    raw->disk.size = (raw->file.size + DISK_SECTOR - 1) / DISK_SECTOR * DISK_SECTOR;
    int r = uring_new(loop, &raw->disk.uring);
    if (r < 0) {
        raw_free(&raw->disk);
        return err_set(err, -r, "start I/O of a disk");
    }
    *ret = &raw->disk;
    return 0;
}
