/*
 * What a workload had written when it ended, for clients that are slow. It must not be held back in
 * the pipes, for its end would wait for its readers, nor be in the worker's memory alone: it is a
 * file in memory that the waiter holds, too, of records that say where in the output they belong.
 */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/io.h"
#include "engine/shim.h"

struct record {
    uint64_t offset; /* of the data in all output of the stream */
    uint32_t stream;
    uint32_t len;
};

bool shim_tail_is_used(const struct shim *shim)
{
    return atomic_load(&shim->shared->tail) > 0;
}

/* A record counts by the store behind it: one that a killed worker wrote in part is overwritten. */
int shim_tail_add(struct shim *shim)
{
    struct shim_shared *shared = shim->shared;
    struct record record = {
        .offset = atomic_load(&shared->offset),
        .stream = atomic_load(&shared->stream),
        .len = atomic_load(&shared->len),
    };
    uint64_t at = atomic_load(&shared->tail);
    size_t sum = sizeof(record) + record.len;
    const struct iovec parts[] = {
        {.iov_base = &record, .iov_len = sizeof(record)},
        {.iov_base = shared->data, .iov_len = record.len},
    };
    ssize_t n = pwritev(shim->tail_fd, parts, COUNT(parts), (off_t)at);
    if (n != (ssize_t)sum) {
        return n < 0 ? -errno : -ENOSPC;
    }
    atomic_store(&shared->tail, at + sum);
    return 0;
}

int shim_tail_read(const struct shim *shim, uint64_t *at, struct shim_tail_part *ret)
{
    struct record record;
    if (*at >= atomic_load(&shim->shared->tail)) {
        return 0;
    }
    int r = read_full_at(shim->tail_fd, &record, sizeof(record), *at);
    if (r == 0 && (record.len > sizeof(ret->data) || record.stream > 1)) {
        r = -EBADMSG;
    }
    if (r == 0) {
        r = read_full_at(shim->tail_fd, ret->data, record.len, *at + sizeof(record));
    }
    if (r < 0) {
        return r;
    }
    ret->stream = record.stream;
    ret->offset = record.offset;
    ret->len = record.len;
    *at += sizeof(record) + record.len;
    return 1;
}
