#include "vmm/disk/limit.h"

#include <errno.h>

#include "base/clock.h"
#include "base/loop.h"
#include "base/macros.h"

#define SIZE_MAX_TOKENS (1ULL << 62)
#define REFILL_MAX_MS (1ULL << 40)

int limit_bucket_init(struct limit_bucket *bucket, const struct limit_bucket_options *options,
                      int64_t now_ns)
{
    if (options->size > SIZE_MAX_TOKENS || options->one_time_burst > SIZE_MAX_TOKENS ||
        options->refill_ms > REFILL_MAX_MS) {
        return -EINVAL;
    }
    *bucket = (struct limit_bucket){.last_ns = now_ns};
    if (options->size > 0 && options->refill_ms > 0) {
        bucket->size = options->size;
        bucket->burst = options->one_time_burst;
        bucket->refill_ns = (int64_t)options->refill_ms * NS_PER_MS;
        bucket->budget = (int64_t)options->size;
    }
    return 0;
}

/* Whole tokens only; the time of a broken one stays for the next call. */
static void refill(struct limit_bucket *bucket, int64_t now_ns)
{
    int64_t elapsed = now_ns - bucket->last_ns;
    if (elapsed <= 0) {
        return;
    }
    int64_t missing = (int64_t)bucket->size - bucket->budget;
    __int128 tokens = (__int128)elapsed * (__int128)bucket->size / bucket->refill_ns;
    if (tokens >= missing) {
        bucket->budget = (int64_t)bucket->size;
        bucket->last_ns = now_ns;
        return;
    }
    bucket->budget += (int64_t)tokens;
    bucket->last_ns += (int64_t)(tokens * bucket->refill_ns / (__int128)bucket->size);
}

int64_t limit_bucket_take(struct limit_bucket *bucket, uint64_t tokens, int64_t now_ns)
{
    if (bucket->size == 0 || tokens == 0) {
        return 0;
    }
    refill(bucket, now_ns);
    tokens = MIN(tokens, SIZE_MAX_TOKENS);
    uint64_t rest = tokens - MIN(tokens, bucket->burst);
    int64_t need = (int64_t)MIN(rest, bucket->size);
    if (rest == 0 || bucket->budget >= need) {
        bucket->burst -= tokens - rest;
        bucket->budget -= (int64_t)rest;
        return 0;
    }
    __int128 missing = (__int128)need - bucket->budget;
    __int128 wait =
        (missing * bucket->refill_ns + (__int128)bucket->size - 1) / (__int128)bucket->size;
    wait -= now_ns - bucket->last_ns;
    return (int64_t)MAX(MIN(wait, (__int128)INT64_MAX), (__int128)1);
}

void limit_bucket_give(struct limit_bucket *bucket, uint64_t tokens)
{
    if (bucket->size > 0) {
        tokens = MIN(tokens, SIZE_MAX_TOKENS);
        bucket->budget = MIN(bucket->budget + (int64_t)tokens, (int64_t)bucket->size);
    }
}

static void on_timer(struct loop_source *source, void *data)
{
    struct limit *limit = data;
    (void)source;
    limit->waiting = false;
    limit->ready(limit->data);
}

static int set_buckets(struct limit *limit, const struct limit_options *options)
{
    struct limit_bucket bytes;
    struct limit_bucket operations;
    int64_t now = clock_monotonic_ns();
    int r = limit_bucket_init(&bytes, &options->bytes, now);
    if (r == 0) {
        r = limit_bucket_init(&operations, &options->operations, now);
    }
    if (r == 0) {
        limit->bytes = bytes;
        limit->operations = operations;
    }
    return r;
}

int limit_init(struct limit *limit, const struct limit_options *options, struct loop *loop,
               limit_ready_fn *ready, void *data)
{
    *limit = (struct limit){.ready = ready, .data = data};
    int r = set_buckets(limit, options);
    return r < 0 ? r : loop_add_timer(loop, -1, on_timer, limit, &limit->timer);
}

void limit_done(struct limit *limit)
{
    loop_remove(limit->timer);
    limit->timer = NULL;
}

int limit_set(struct limit *limit, const struct limit_options *options)
{
    int r = set_buckets(limit, options);
    if (r == 0 && limit->waiting) {
        r = loop_timer_set(limit->timer, 0);
    }
    return r;
}

bool limit_take(struct limit *limit, uint64_t bytes)
{
    if (limit->waiting) {
        return false;
    }
    if (limit->bytes.size == 0 && limit->operations.size == 0) {
        return true;
    }
    int64_t now = clock_monotonic_ns();
    int64_t wait = limit_bucket_take(&limit->operations, 1, now);
    if (wait == 0) {
        wait = limit_bucket_take(&limit->bytes, bytes, now);
        if (wait > 0) {
            limit_bucket_give(&limit->operations, 1);
        }
    }
    if (wait == 0) {
        return true;
    }
    limit->waiting = true;
    (void)loop_timer_set(limit->timer, wait);
    return false;
}
