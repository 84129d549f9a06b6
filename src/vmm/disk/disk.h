/*
 * disk.h - a disk image of any format as bytes that can be read, written and discarded.
 *
 * Requests are asynchronous: they are submitted on the thread of the loop that the disk was opened
 * with, and their callback runs on that thread, maybe before submit returns. Requests may overlap
 * and complete in any order, except that a flush covers all writes that completed before it was
 * submitted.
 */
#ifndef VMM_DISK_DISK_H
#define VMM_DISK_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/cleanup.h"

struct disk;
struct err;
struct loop;

enum disk_op {
    DISK_READ,
    DISK_WRITE,
    DISK_FLUSH,
    DISK_DISCARD,      /* content becomes undefined, space may go */
    DISK_WRITE_ZEROES, /* content becomes zeros; space goes when may_unmap */
};

struct disk_request;
/* error: 0 or a negative errno. */
typedef void disk_done_fn(struct disk_request *request, int error);

/* The caller's, untouched by him from submit until the callback. iov may point into guest memory.
 */
struct disk_request {
    enum disk_op op;
    bool may_unmap;
    uint64_t offset; /* bytes; multiple of 512, like len */
    uint64_t len;    /* of data: the sum of iov's lengths */
    const struct iovec *iov;
    unsigned iov_count;
    disk_done_fn *done;
    void *data; /* the caller's */
    /* The disk's own while the request is under way. */
    struct disk_request *next;
    void *inner;
    uint32_t pending;
    int result;
};

struct disk_options {
    const char *format; /* "raw", "qcow2"; NULL: by the magic number, read-only base images only */
    bool read_only;
    bool direct;    /* O_DIRECT */
    int dir_fd;     /* backing files are opened below it (openat2, no links out); -1: refused */
    unsigned depth; /* of backing files so far; 0 at the top */
};

/* The image at path (or fd >= 0 instead, which the disk then owns). */
int disk_open(const char *path, int fd, const struct disk_options *options, struct loop *loop,
              struct disk **ret, struct err *err);
/* Accepts NULL. No request may be under way. */
void disk_free(struct disk *disk);
DEFINE_FREEP(struct disk *, disk_free)

uint64_t disk_size(const struct disk *disk); /* bytes, multiple of 512 */
bool disk_read_only(const struct disk *disk);
bool disk_can_discard(const struct disk *disk);

/* -ERANGE, -EINVAL, -EROFS come by the callback, too. */
void disk_submit(struct disk *disk, struct disk_request *request);
/* Requests submitted by several disk_submit() calls may wait until this; call it after a batch. */
void disk_kick(struct disk *disk);
/* Runs until nothing is under way: before a pause. */
int disk_drain(struct disk *disk);

#endif
