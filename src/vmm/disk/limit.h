/*
 * limit.h - how much a device may move: buckets of bytes and of operations that refill with time.
 *
 * A bucket begins full and gets its size back, evenly, in its refill time. A burst comes on top,
 * once: it is spent first and never refilled. What is larger than a bucket waits until that is
 * full, and leaves a debt behind that is paid before anything else goes: the rate holds for any
 * request.
 *
 * Used on the loop's thread. Disks and networks share it.
 */
#ifndef VMM_DISK_LIMIT_H
#define VMM_DISK_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct loop;
struct loop_source;

/* size or refill_ms 0: no limit. */
struct limit_bucket_options {
    uint64_t size;           /* tokens: bytes or operations; at most 2^62 */
    uint64_t one_time_burst; /* tokens */
    uint64_t refill_ms;      /* from empty to full; at most 2^40 */
};

struct limit_bucket {
    uint64_t size;
    uint64_t burst; /* what is left of it */
    int64_t refill_ns;
    int64_t budget; /* below 0: a debt */
    int64_t last_ns;
};

/* -EINVAL: a value is too large. */
int limit_bucket_init(struct limit_bucket *bucket, const struct limit_bucket_options *options,
                      int64_t now_ns);
/*
 * Takes the tokens and returns 0, or takes nothing and returns the nanoseconds (at least 1) after
 * which they will be there if nobody else takes any.
 */
int64_t limit_bucket_take(struct limit_bucket *bucket, uint64_t tokens, int64_t now_ns);
/* Undoes a take, as if it had not been; a spent burst comes back as ordinary tokens. */
void limit_bucket_give(struct limit_bucket *bucket, uint64_t tokens);

struct limit_options {
    struct limit_bucket_options bytes, operations;
};

typedef void limit_ready_fn(void *data);

struct limit {
    struct limit_bucket bytes, operations;
    struct loop_source *timer;
    bool waiting;
    limit_ready_fn *ready;
    void *data;
};

/* ready: called from the loop some time after limit_take() said no. */
int limit_init(struct limit *limit, const struct limit_options *options, struct loop *loop,
               limit_ready_fn *ready, void *data);
void limit_done(struct limit *limit);
DEFINE_DONEP(struct limit, limit_done)

/* New values from now on, with full buckets. Who waits is told soon. -EINVAL: the old ones stay. */
int limit_set(struct limit *limit, const struct limit_options *options);

/*
 * May one operation of so many bytes go now? False: not before ready() was called; until then the
 * answer is known, and no bucket is looked at.
 */
bool limit_take(struct limit *limit, uint64_t bytes);

#endif
