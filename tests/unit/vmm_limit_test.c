#include "vmm/disk/limit.h"

#include <errno.h>

#include "base/clock.h"
#include "base/loop.h"
#include "base/macros.h"
#include "unit.h"

#define MS NS_PER_MS

static struct limit_bucket bucket_of(uint64_t size, uint64_t burst, uint64_t refill_ms)
{
    struct limit_bucket bucket;
    const struct limit_bucket_options options = {
        .size = size, .one_time_burst = burst, .refill_ms = refill_ms};
    ck_assert_int_eq(limit_bucket_init(&bucket, &options, 0), 0);
    return bucket;
}

START_TEST(a_bucket_begins_full_and_refills_evenly)
{
    struct limit_bucket b = bucket_of(1000, 0, 100);
    ck_assert_int_eq(limit_bucket_take(&b, 1000, 0), 0);
    ck_assert_int_eq(limit_bucket_take(&b, 1, 0), MS / 10);
    ck_assert_int_eq(limit_bucket_take(&b, 500, 0), 50 * MS);
    /* A refused take took nothing. */
    ck_assert_int_eq(limit_bucket_take(&b, 500, 50 * MS), 0);
    ck_assert_int_eq(limit_bucket_take(&b, 10, 50 * MS), MS);
    /* Never more than full. */
    ck_assert_int_eq(limit_bucket_take(&b, 1000, 100000 * MS), 0);
    ck_assert_int_gt(limit_bucket_take(&b, 1, 100000 * MS), 0);
}
END_TEST

START_TEST(a_burst_is_spent_first_and_once)
{
    struct limit_bucket b = bucket_of(100, 50, 1000);
    ck_assert_int_eq(limit_bucket_take(&b, 40, 0), 0);
    ck_assert_uint_eq(b.burst, 10);
    ck_assert_int_eq(b.budget, 100);
    ck_assert_int_eq(limit_bucket_take(&b, 110, 0), 0);
    ck_assert_int_gt(limit_bucket_take(&b, 1, 0), 0);
    ck_assert_int_eq(limit_bucket_take(&b, 100, 5000 * MS), 0);
    ck_assert_int_gt(limit_bucket_take(&b, 1, 5000 * MS), 0);
}
END_TEST

START_TEST(what_is_larger_than_the_bucket_pays_afterwards)
{
    struct limit_bucket b = bucket_of(100, 0, 100);
    ck_assert_int_eq(limit_bucket_take(&b, 1, 0), 0);
    /* Not before the bucket is full. */
    ck_assert_int_eq(limit_bucket_take(&b, 1000, 0), MS);
    ck_assert_int_eq(limit_bucket_take(&b, 1000, MS), 0);
    ck_assert_int_eq(limit_bucket_take(&b, 1, MS), 901 * MS);
    ck_assert_int_eq(limit_bucket_take(&b, 1, 902 * MS), 0);
}
END_TEST

START_TEST(the_rate_holds_over_an_hour_of_odd_steps)
{
    static const struct {
        uint64_t size, refill_ms, tokens;
    } cases[] = {{7, 1000, 1}, {1000003, 77, 4096}, {3, 1000000, 1}, {1ULL << 40, 1000, 1 << 30}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct limit_bucket b = bucket_of(cases[i].size, 0, cases[i].refill_ms);
        int64_t now = 0;
        int64_t end = 3600 * NS_PER_SEC;
        double taken = 0;
        unsigned turns = 0;
        while (now < end && turns++ < 300000) {
            int64_t wait = limit_bucket_take(&b, cases[i].tokens, now);
            if (wait == 0) {
                taken += (double)cases[i].tokens;
            } else {
                /* Asking too early, too, must not lose time. */
                now += turns % 3 == 0 ? wait : wait / 2 + 1;
            }
        }
        double most = (double)cases[i].size +
                      (double)cases[i].size * ((double)now / 1e6 / (double)cases[i].refill_ms);
        ck_assert_msg(taken <= most + 1, "case %zu: %f of %f", i, taken, most);
        ck_assert_msg(taken >= (most - (double)cases[i].size) * 0.999 - (double)cases[i].tokens,
                      "case %zu: %f of %f", i, taken, most);
    }
}
END_TEST

START_TEST(extreme_values_neither_wrap_nor_stick)
{
    struct limit_bucket b = bucket_of(1ULL << 62, 1ULL << 62, 1ULL << 40);
    ck_assert_int_eq(limit_bucket_take(&b, UINT64_MAX, 0), 0);
    ck_assert_int_eq(limit_bucket_take(&b, UINT64_MAX, INT64_MAX), 0);
    ck_assert_int_gt(limit_bucket_take(&b, UINT64_MAX, INT64_MAX), 0);
    /* A clock that goes back gives nothing. */
    ck_assert_int_gt(limit_bucket_take(&b, 1ULL << 62, 0), 0);
    static const struct limit_bucket_options bad[] = {
        {.size = (1ULL << 62) + 1, .refill_ms = 1},
        {.size = 1, .one_time_burst = UINT64_MAX, .refill_ms = 1},
        {.size = 1, .refill_ms = UINT64_MAX},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        ck_assert_int_eq(limit_bucket_init(&b, &bad[i], 0), -EINVAL);
    }
    b = bucket_of(0, 10, 100);
    ck_assert_int_eq(limit_bucket_take(&b, UINT64_MAX, 0), 0);
    b = bucket_of(10, 10, 0);
    ck_assert_int_eq(limit_bucket_take(&b, UINT64_MAX, 0), 0);
}
END_TEST

struct mover {
    struct limit limit;
    struct loop *loop;
    unsigned left, calls;
};

static void move(void *data)
{
    struct mover *m = data;
    m->calls++;
    while (m->left > 0 && limit_take(&m->limit, 1000)) {
        m->left--;
    }
    if (m->left == 0) {
        loop_quit(m->loop, 0);
    }
}

START_TEST(who_waits_is_called_when_it_goes_on)
{
    static const struct limit_options by_bytes = {.bytes = {.size = 10000, .refill_ms = 100}};
    static const struct limit_options by_operations = {
        .operations = {.size = 10, .refill_ms = 100}};
    static const struct limit_options by_both = {.bytes = {.size = 10000, .refill_ms = 100},
                                                 .operations = {.size = 1000, .refill_ms = 1}};
    const struct limit_options *all[] = {&by_bytes, &by_operations, &by_both};
    for (size_t i = 0; i < COUNT(all); i++) {
        /* Ten go at once, twenty in 200 ms. */
        struct mover m = {.left = 30};
        ck_assert_int_eq(loop_new(&m.loop), 0);
        ck_assert_int_eq(limit_init(&m.limit, all[i], m.loop, move, &m), 0);
        int64_t start = clock_monotonic_ns();
        move(&m);
        ck_assert_uint_eq(m.left, 20);
        ck_assert(!limit_take(&m.limit, 1));
        ck_assert_int_eq(loop_run(m.loop), 0);
        int64_t took = clock_monotonic_ns() - start;
        ck_assert_int_ge(took, 195 * MS);
        ck_assert_uint_le(m.calls, 30);
        limit_done(&m.limit);
        loop_free(m.loop);
    }
}
END_TEST

START_TEST(new_limits_wake_who_waits)
{
    static const struct limit_options slow = {.operations = {.size = 1, .refill_ms = 100000000}};
    static const struct limit_options none = {.bytes = {.size = 0}};
    static const struct limit_options bad = {.bytes = {.size = UINT64_MAX, .refill_ms = 1}};
    struct mover m = {.left = 3};
    ck_assert_int_eq(loop_new(&m.loop), 0);
    ck_assert_int_eq(limit_init(&m.limit, &slow, m.loop, move, &m), 0);
    move(&m);
    ck_assert_uint_eq(m.left, 2);
    ck_assert_int_eq(limit_set(&m.limit, &bad), -EINVAL);
    ck_assert_uint_eq(m.limit.operations.size, 1);
    ck_assert_int_eq(limit_set(&m.limit, &none), 0);
    ck_assert_int_eq(loop_run(m.loop), 0);
    ck_assert_uint_eq(m.left, 0);
    limit_done(&m.limit);
    loop_free(m.loop);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_bucket_begins_full_and_refills_evenly,
        a_burst_is_spent_first_and_once,
        what_is_larger_than_the_bucket_pays_afterwards,
        the_rate_holds_over_an_hour_of_odd_steps,
        extreme_values_neither_wrap_nor_stick,
        who_waits_is_called_when_it_goes_on,
        new_limits_wake_who_waits,
        NULL,
    };
    return unit_run("vmm_limit", tests);
}
