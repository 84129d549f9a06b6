/*
 * uring.h - file I/O that completes on a loop: io_uring, or a few threads where it is refused.
 *
 * Operations wait in user space until uring_kick(), or until the kernel's queue has room. Callbacks
 * run on the loop's thread: from the loop, from uring_kick() or from uring_wait(). A callback may
 * submit; what it submits is on its way when the function that called it returns.
 */
#ifndef VMM_DISK_URING_H
#define VMM_DISK_URING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/cleanup.h"
#include "vmm/disk/work.h"

struct loop;
struct uring;
struct uring_op;

enum uring_kind {
    URING_READ,     /* preadv */
    URING_WRITE,    /* pwritev */
    URING_SYNC,     /* fdatasync */
    URING_ALLOCATE, /* fallocate */
};

/* The caller's, untouched by him until done. */
struct uring_op {
    enum uring_kind kind;
    int fd;
    int mode;        /* URING_ALLOCATE: FALLOC_FL_* */
    uint64_t offset; /* bytes */
    uint64_t len;    /* URING_ALLOCATE: bytes */
    const struct iovec *iov;
    unsigned iov_count; /* at most IOV_MAX */
    /* result: bytes (maybe fewer than asked for), 0, or a negative errno. May free op. */
    void (*done)(struct uring_op *op, int64_t result);
    /* The ring's own. */
    struct uring_op *next;
    struct work work;
    struct uring *uring;
    int64_t result;
};

int uring_new(struct loop *loop, struct uring **ret);
/* Accepts NULL. Nothing may be under way. */
void uring_free(struct uring *uring);
DEFINE_FREEP(struct uring *, uring_free)

/* False: the host refused io_uring, threads do the work. */
bool uring_is_native(const struct uring *uring);

void uring_submit(struct uring *uring, struct uring_op *op);
void uring_kick(struct uring *uring);
/* Kicks, blocks until something is done and calls back. Nothing under way: returns. */
void uring_wait(struct uring *uring);

#endif
