#include "vmm/virtio/queue.h"

#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/macros.h"
#include "unit.h"
#include "vmm_driver.h"

/* Two regions one behind the other: buffers may lie across. */
#define REGION 0x100000ULL
#define RINGS 0x10000ULL
#define BUFFERS 0x20000ULL
#define SLOT 0x1000ULL /* of buffers for each chain */

static struct memory *new_memory(void)
{
    struct memory *memory = NULL;
    struct memory_options options = {.kind = MEMORY_PRIVATE, .fd = -1};
    ck_assert_int_eq(memory_new(&options, &memory), 0);
    ck_assert_int_eq(memory_add(memory, 0, REGION, NULL), 0);
    ck_assert_int_eq(memory_add(memory, REGION, REGION, NULL), 0);
    return memory;
}

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(*state >> 33);
}

struct request {
    bool used;
    unsigned out, in;
    struct driver_piece piece[8];
    uint32_t in_len, out_len;
    uint8_t seed;
    struct virtq_token token;
    uint32_t written;
};

struct round {
    struct driver d;
    struct virtq q;
    struct virtq_chain chain;
    uint64_t random;
    struct request request[DRIVER_SIZE_MAX];
    unsigned popped[DRIVER_SIZE_MAX]; /* ids */
    unsigned popped_count;
    unsigned interrupts, done;
};

/* Buffers of a request with id: in a slot of its own, sometimes across the regions' border. */
static uint64_t slot_of(unsigned id)
{
    return REGION - 2 * SLOT - SLOT / 2 + id * SLOT;
}

/* memory_write() and memory_read() stay inside one region. */
static void put(struct memory *memory, uint64_t gpa, const uint8_t *data, uint32_t len)
{
    uint32_t first = gpa < REGION ? (uint32_t)MIN(len, REGION - gpa) : 0;
    MUST(memory_write(memory, gpa, data, first) == 0);
    MUST(memory_write(memory, gpa + first, data + first, len - first) == 0);
}

static void get(struct memory *memory, uint64_t gpa, uint8_t *data, uint32_t len)
{
    uint32_t first = gpa < REGION ? (uint32_t)MIN(len, REGION - gpa) : 0;
    MUST(memory_read(memory, gpa, data, first) == 0);
    MUST(memory_read(memory, gpa + first, data + first, len - first) == 0);
}

static void fill(struct round *r, struct request *q, uint64_t base)
{
    q->out = next_random(&r->random) % 4;
    q->in = next_random(&r->random) % 4;
    q->out += q->out + q->in == 0;
    q->seed = (uint8_t)next_random(&r->random);
    q->in_len = 0;
    q->out_len = 0;
    uint64_t at = base + 0x100;
    for (unsigned i = 0; i < q->out + q->in; i++) {
        q->piece[i].gpa = at;
        q->piece[i].len = next_random(&r->random) % 400;
        at += q->piece[i].len + 1;
        *(i < q->out ? &q->out_len : &q->in_len) += q->piece[i].len;
    }
    uint32_t n = 0;
    for (unsigned i = 0; i < q->out + q->in; i++) {
        uint8_t data[512];
        for (uint32_t k = 0; k < q->piece[i].len; k++) {
            data[k] = i < q->out ? (uint8_t)(q->seed + n++) : 0xee;
        }
        put(r->d.memory, q->piece[i].gpa, data, q->piece[i].len);
    }
}

/* Each chain gets the slot of the smallest number that no other has. */
static void add_some(struct round *r, bool indirect)
{
    for (unsigned n = next_random(&r->random) % 6; n > 0; n--) {
        unsigned slot = 0;
        while (r->request[slot].used) {
            slot++;
        }
        if (slot >= r->d.size) {
            return;
        }
        struct request q = {.used = true};
        fill(r, &q, slot_of(slot));
        bool table = indirect && next_random(&r->random) % 2 == 0;
        int id = driver_add(&r->d, q.piece, q.out, q.in, table ? slot_of(slot) : 0);
        if (id < 0) {
            return;
        }
        q.token.id = (uint16_t)id;
        r->request[slot] = q;
    }
}

static struct request *find_request(struct round *r, unsigned id)
{
    for (unsigned i = 0; i < DRIVER_SIZE_MAX; i++) {
        if (r->request[i].used && r->request[i].token.id == id) {
            return &r->request[i];
        }
    }
    ck_abort_msg("no such request");
    return NULL;
}

static void pop_some(struct round *r)
{
    for (unsigned n = next_random(&r->random) % 6; n > 0; n--) {
        int got = virtq_pop(&r->q, r->d.memory, &r->chain);
        if (got == -EAGAIN) {
            return;
        }
        ck_assert_int_eq(got, 0);
        if (next_random(&r->random) % 5 == 0) {
            virtq_unpop(&r->q, &r->chain);
            continue;
        }
        struct request *q = find_request(r, r->chain.id);
        uint8_t data[2048];
        ck_assert_uint_eq(r->chain.readable_len, q->out_len);
        ck_assert_uint_eq(r->chain.writable_len, q->in_len);
        uint32_t skip = q->out_len == 0 ? 0 : next_random(&r->random) % q->out_len;
        ck_assert_uint_eq(virtq_read(&r->chain, skip, data, sizeof(data)), q->out_len - skip);
        for (uint32_t i = skip; i < q->out_len; i++) {
            MUST(data[i - skip] == (uint8_t)(q->seed + i));
        }
        q->written = q->in_len == 0 ? 0 : next_random(&r->random) % (q->in_len + 1);
        for (uint32_t i = 0; i < q->written; i++) {
            data[i] = (uint8_t)(q->seed ^ i);
        }
        ck_assert_uint_eq(virtq_write(&r->chain, 0, data, q->written), q->written);
        q->token.count = r->chain.count;
        r->popped[r->popped_count++] = r->chain.id;
    }
}

static void push_some(struct round *r)
{
    for (unsigned n = next_random(&r->random) % 6; n > 0 && r->popped_count > 0; n--) {
        unsigned i = next_random(&r->random) % r->popped_count;
        struct request *q = find_request(r, r->popped[i]);
        r->popped[i] = r->popped[--r->popped_count];
        ck_assert_int_eq(virtq_push_token(&r->q, r->d.memory, q->token, q->written), 0);
    }
    r->interrupts += virtq_wants_interrupt(&r->q, r->d.memory);
}

static void take_used(struct round *r)
{
    unsigned id = 0;
    uint32_t len = 0;
    while (driver_get(&r->d, &id, &len)) {
        struct request *q = find_request(r, id);
        ck_assert_uint_eq(len, q->written);
        uint32_t n = 0;
        for (unsigned i = q->out; i < q->out + q->in; i++) {
            uint8_t data[512];
            get(r->d.memory, q->piece[i].gpa, data, q->piece[i].len);
            for (uint32_t k = 0; k < q->piece[i].len; k++, n++) {
                MUST(data[k] == (n < len ? (uint8_t)(q->seed ^ n) : 0xee));
            }
        }
        q->used = false;
        r->done++;
    }
}

/* Written, read into another queue, and gone on with there. */
static void save_and_restore(struct round *r)
{
    AUTO(buf_donep) struct buf out = {0};
    struct err err = ERR_NONE;
    ck_assert_int_eq(state_write(&out, &virtq_state_table, "q", &r->q, &err), 0);
    struct virtq fresh = {.size_max = DRIVER_SIZE_MAX};
    virtq_reset(&fresh);
    struct state_reader reader = {.data = (const uint8_t *)out.data, .len = out.len};
    ck_assert_int_eq(state_read(&reader, &virtq_state_table, "q", &fresh, &err), 0);
    ck_assert_int_eq(virtq_enable(&fresh, r->d.memory), 0);
    r->q = fresh;
}

static void run_rounds(uint16_t size, bool packed, bool event_idx, bool indirect)
{
    AUTO(memory_freep) struct memory *memory = new_memory();
    AUTO(freep) struct round *r = calloc(1, sizeof(*r));
    r->random = 1u + size + packed * 7u + event_idx * 77u + indirect * 777u;
    driver_init(&r->d, memory, RINGS, size, packed, event_idx);
    driver_give(&r->d, &r->q, indirect);
    for (unsigned i = 0; i < 2000; i++) {
        bool wait = next_random(&r->random) % 3 == 0;
        bool pending = false;
        if (wait) {
            take_used(r);
            pending = driver_want_interrupt(&r->d);
            ck_assert(!pending);
            r->interrupts = 0;
        }
        unsigned before = r->q.in_flight;
        add_some(r, indirect);
        pop_some(r);
        unsigned popped = r->q.in_flight;
        push_some(r);
        ck_assert_uint_ge(popped, before);
        if (wait && r->q.in_flight < popped) {
            /* The driver sleeps: the first used chain wakes it. */
            ck_assert_uint_eq(r->interrupts, 1);
        }
        if (next_random(&r->random) % 50 == 0) {
            save_and_restore(r);
        }
        take_used(r);
    }
    ck_assert_uint_gt(r->done, 1000);
}

START_TEST(every_byte_of_random_work_arrives_in_both_layouts)
{
    static const uint16_t sizes[] = {8, 32, 256};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        for (unsigned kind = 0; kind < 8; kind++) {
            run_rounds(sizes[i], (kind & 1) != 0, (kind & 2) != 0, (kind & 4) != 0);
        }
    }
    run_rounds(19, true, true, true); /* packed rings need no power of two */
    run_rounds(7, true, false, false);
}
END_TEST

START_TEST(a_driver_that_wants_no_interrupt_gets_none_and_the_other_is_told_once)
{
    for (unsigned kind = 0; kind < 4; kind++) {
        AUTO(memory_freep) struct memory *memory = new_memory();
        AUTO(freep) struct virtq_chain *chain = malloc(sizeof(*chain));
        struct driver d;
        struct virtq q = {0};
        struct driver_piece piece = {.gpa = BUFFERS, .len = 8};
        unsigned id = 0;
        uint32_t len = 0;
        driver_init(&d, memory, RINGS, 8, (kind & 1) != 0, (kind & 2) != 0);
        driver_give(&d, &q, false);
        for (unsigned i = 0; i < 100; i++) {
            driver_no_interrupt(&d);
            ck_assert_int_ge(driver_add(&d, &piece, 1, 0, 0), 0);
            ck_assert_int_eq(virtq_pop(&q, memory, chain), 0);
            ck_assert_int_eq(virtq_push(&q, memory, chain, 0), 0);
            ck_assert(!virtq_wants_interrupt(&q, memory));
            ck_assert(driver_want_interrupt(&d)); /* it is there: no sleep */
            ck_assert(driver_get(&d, &id, &len));
            ck_assert(!driver_want_interrupt(&d));
            ck_assert_int_ge(driver_add(&d, &piece, 1, 0, 0), 0);
            ck_assert_int_eq(virtq_pop(&q, memory, chain), 0);
            ck_assert_int_eq(virtq_push(&q, memory, chain, 0), 0);
            ck_assert(virtq_wants_interrupt(&q, memory));
            ck_assert(!virtq_wants_interrupt(&q, memory));
            ck_assert(driver_get(&d, &id, &len));
        }
    }
}
END_TEST

START_TEST(doorbells_are_silent_while_off_and_nothing_is_lost_when_on)
{
    for (unsigned kind = 0; kind < 4; kind++) {
        AUTO(memory_freep) struct memory *memory = new_memory();
        AUTO(freep) struct virtq_chain *chain = malloc(sizeof(*chain));
        struct driver d;
        struct virtq q = {0};
        struct driver_piece piece = {.gpa = BUFFERS, .len = 8};
        unsigned id = 0;
        uint32_t len = 0;
        driver_init(&d, memory, RINGS, 8, (kind & 1) != 0, (kind & 2) != 0);
        driver_give(&d, &q, false);
        for (unsigned i = 0; i < 100; i++) {
            ck_assert(!virtq_doorbell_on(&q, memory));
            ck_assert_int_ge(driver_add(&d, &piece, 1, 0, 0), 0);
            ck_assert(driver_must_notify(&d));
            virtq_doorbell_off(&q, memory);
            ck_assert_int_ge(driver_add(&d, &piece, 1, 0, 0), 0);
            ck_assert(!driver_must_notify(&d));
            ck_assert(virtq_doorbell_on(&q, memory));
            for (unsigned n = 0; n < 2; n++) {
                ck_assert_int_eq(virtq_pop(&q, memory, chain), 0);
                ck_assert_int_eq(virtq_push(&q, memory, chain, 0), 0);
                ck_assert(driver_get(&d, &id, &len));
            }
            ck_assert_int_eq(virtq_pop(&q, memory, chain), -EAGAIN);
        }
    }
}
END_TEST

/* One descriptor as the driver would write it. */
struct hostile {
    const char *name;
    bool packed;
    uint16_t avail; /* split: available index */
    uint16_t head;  /* split: first entry of the available ring */
    struct {
        uint64_t gpa;
        uint32_t len;
        uint16_t flags, other; /* other: next or id */
    } desc[4], table[3];       /* table at BUFFERS */
    int want;
};

#define NEXT 1
#define WRITE 2
#define TABLE 4
#define AVAIL 0x80
static const struct hostile hostile[] = {
    {.name = "good", .avail = 1, .desc = {{BUFFERS, 16, 0, 0}}, .want = 0},
    {.name = "good packed", .packed = true, .desc = {{BUFFERS, 16, AVAIL, 9}}, .want = 0},
    {.name = "nothing", .avail = 0, .want = -EAGAIN},
    {.name = "too far ahead", .avail = 5, .want = -EPROTO},
    {.name = "index behind", .avail = 0xffff, .want = -EPROTO},
    {.name = "head outside", .avail = 1, .head = 4, .want = -EPROTO},
    {.name = "next outside", .avail = 1, .desc = {{BUFFERS, 16, NEXT, 4}}, .want = -EPROTO},
    {.name = "loop of one", .avail = 1, .desc = {{BUFFERS, 16, NEXT, 0}}, .want = -EPROTO},
    {.name = "loop of two",
     .avail = 1,
     .desc = {{BUFFERS, 16, NEXT, 1}, {BUFFERS, 0, NEXT, 0}},
     .want = -EPROTO},
    {.name = "no memory", .avail = 1, .desc = {{2 * REGION, 1, 0, 0}}, .want = -EPROTO},
    {.name = "reaches out", .avail = 1, .desc = {{2 * REGION - 8, 9, 0, 0}}, .want = -EPROTO},
    {.name = "to the end", .avail = 1, .desc = {{2 * REGION - 8, 8, 0, 0}}, .want = 0},
    {.name = "across regions", .avail = 1, .desc = {{REGION - 8, 16, WRITE, 0}}, .want = 0},
    {.name = "wraps", .avail = 1, .desc = {{UINT64_MAX - 3, 8, 0, 0}}, .want = -EPROTO},
    {.name = "all of 4 GiB", .avail = 1, .desc = {{0, UINT32_MAX, 0, 0}}, .want = -EPROTO},
    {.name = "read after write",
     .avail = 1,
     .desc = {{BUFFERS, 8, WRITE | NEXT, 1}, {BUFFERS, 8, 0, 0}},
     .want = -EPROTO},
    {.name = "empty piece", .avail = 1, .desc = {{2 * REGION, 0, 0, 0}}, .want = 0},
    {.name = "table", .avail = 1, .desc = {{BUFFERS, 16, TABLE, 0}}, .want = 0},
    {.name = "table behind a piece",
     .avail = 1,
     .desc = {{BUFFERS, 8, NEXT, 1}, {BUFFERS, 16, TABLE, 0}},
     .want = 0},
    {.name = "table with next",
     .avail = 1,
     .desc = {{BUFFERS, 16, TABLE | NEXT, 1}},
     .want = -EPROTO},
    {.name = "empty table", .avail = 1, .desc = {{BUFFERS, 0, TABLE, 0}}, .want = -EPROTO},
    {.name = "odd table", .avail = 1, .desc = {{BUFFERS, 24, TABLE, 0}}, .want = -EPROTO},
    {.name = "long table", .avail = 1, .desc = {{BUFFERS, 16 * 1025, TABLE, 0}}, .want = -EPROTO},
    {.name = "huge table", .avail = 1, .desc = {{BUFFERS, 0xfffffff0, TABLE, 0}}, .want = -EPROTO},
    {.name = "table outside", .avail = 1, .desc = {{2 * REGION, 16, TABLE, 0}}, .want = -EPROTO},
    {.name = "table across",
     .avail = 1,
     .desc = {{2 * REGION - 16, 32, TABLE, 0}},
     .want = -EPROTO},
    {.name = "table in a table",
     .avail = 1,
     .desc = {{BUFFERS, 32, TABLE, 0}},
     .table = {{BUFFERS, 16, TABLE, 0}},
     .want = -EPROTO},
    {.name = "loop in a table",
     .avail = 1,
     .desc = {{BUFFERS, 32, TABLE, 0}},
     .table = {{BUFFERS, 16, NEXT, 1}, {BUFFERS, 16, NEXT, 0}},
     .want = -EPROTO},
    {.name = "next out of a table",
     .avail = 1,
     .desc = {{BUFFERS, 32, TABLE, 0}},
     .table = {{BUFFERS, 16, NEXT, 2}},
     .want = -EPROTO},
    {.name = "packed not yet", .packed = true, .desc = {{BUFFERS, 16, 0x8080, 9}}, .want = -EAGAIN},
    {.name = "packed without end",
     .packed = true,
     .desc = {{BUFFERS, 16, AVAIL | NEXT, 0},
              {BUFFERS, 16, AVAIL | NEXT, 0},
              {BUFFERS, 16, AVAIL | NEXT, 0},
              {BUFFERS, 16, AVAIL | NEXT, 0}},
     .want = -EPROTO},
    {.name = "packed outside",
     .packed = true,
     .desc = {{2 * REGION, 16, AVAIL, 0}},
     .want = -EPROTO},
    {.name = "packed table in a table",
     .packed = true,
     .desc = {{BUFFERS, 16, AVAIL | TABLE, 0}},
     .table = {{BUFFERS, 16, TABLE, 0}},
     .want = -EPROTO},
    {.name = "packed odd table",
     .packed = true,
     .desc = {{BUFFERS, 17, AVAIL | TABLE, 0}},
     .want = -EPROTO},
};

static void write_hostile(const struct driver *d, const struct hostile *h)
{
    for (unsigned i = 0; i < 4; i++) {
        uint16_t third = h->packed ? h->desc[i].other : h->desc[i].flags;
        uint16_t fourth = h->packed ? h->desc[i].flags : h->desc[i].other;
        driver_desc(d, d->desc + 16ULL * i, h->desc[i].gpa, h->desc[i].len, third, fourth);
    }
    for (unsigned i = 0; i < 3; i++) {
        uint16_t third = h->packed ? h->table[i].other : h->table[i].flags;
        uint16_t fourth = h->packed ? h->table[i].flags : h->table[i].other;
        driver_desc(d, BUFFERS + 16ULL * i, h->table[i].gpa, h->table[i].len, third, fourth);
    }
    if (!h->packed) {
        driver_put16(d, d->driver + 4, h->head);
        driver_put16(d, d->driver + 2, h->avail);
    }
}

START_TEST(hostile_rings_break_the_queue_and_nothing_else)
{
    AUTO(freep) struct virtq_chain *chain = malloc(sizeof(*chain));
    for (size_t i = 0; i < COUNT(hostile); i++) {
        AUTO(memory_freep) struct memory *memory = new_memory();
        struct driver d;
        struct virtq q = {0};
        driver_init(&d, memory, RINGS, 4, hostile[i].packed, false);
        driver_give(&d, &q, true);
        write_hostile(&d, &hostile[i]);
        int r = virtq_pop(&q, memory, chain);
        ck_assert_msg(r == hostile[i].want, "%s: %d", hostile[i].name, r);
        ck_assert(q.broken == (r == -EPROTO));
        if (r == -EPROTO) {
            struct virtq_token token = {.id = 0, .count = 1};
            ck_assert_int_eq(virtq_pop(&q, memory, chain), -EPROTO);
            ck_assert_int_eq(virtq_push_token(&q, memory, token, 0), -EPROTO);
            ck_assert(!virtq_doorbell_on(&q, memory));
        }
    }
}
END_TEST

START_TEST(tables_are_refused_when_they_were_not_agreed_on)
{
    AUTO(freep) struct virtq_chain *chain = malloc(sizeof(*chain));
    AUTO(memory_freep) struct memory *memory = new_memory();
    struct driver d;
    struct virtq q = {0};
    struct driver_piece piece = {.gpa = BUFFERS + 64, .len = 8};
    driver_init(&d, memory, RINGS, 4, false, false);
    driver_give(&d, &q, false);
    ck_assert_int_eq(driver_add(&d, &piece, 1, 0, BUFFERS), 0);
    ck_assert_int_eq(virtq_pop(&q, memory, chain), -EPROTO);
}
END_TEST

START_TEST(more_requests_under_way_than_descriptors_break_the_queue)
{
    for (unsigned packed = 0; packed < 2; packed++) {
        AUTO(freep) struct virtq_chain *chain = malloc(sizeof(*chain));
        AUTO(memory_freep) struct memory *memory = new_memory();
        struct driver d;
        struct virtq q = {0};
        driver_init(&d, memory, RINGS, 4, packed != 0, false);
        driver_give(&d, &q, false);
        int r = 0;
        unsigned popped = 0;
        for (unsigned i = 0; i < 100 && r == 0; i++) {
            /* The same descriptor again and again, as if it had been given back. */
            driver_desc(&d, d.desc + 16ULL * (packed ? i % 4 : 0), BUFFERS, 8, 0,
                        packed ? (i / 4 % 2 == 0 ? 0x80 : 0x8000) : 0);
            driver_put16(&d, d.driver + 2, packed ? 0 : (uint16_t)(i + 1));
            r = virtq_pop(&q, memory, chain);
            popped += r == 0;
        }
        ck_assert_int_eq(r, -EPROTO);
        ck_assert_uint_eq(popped, 4);
    }
}
END_TEST

START_TEST(rings_outside_memory_or_crooked_are_not_enabled)
{
    static const struct {
        uint64_t desc, driver, device;
        uint16_t size;
        bool packed;
        int want;
    } cases[] = {
        {0x1000, 0x2000, 0x3000, 8, false, 0},
        {0x1000, 0x2000, 0x3000, 0, false, -EINVAL},
        {0x1000, 0x2000, 0x3000, 7, false, -EINVAL},
        {0x1000, 0x2000, 0x3000, 7, true, 0},
        {0x1000, 0x2000, 0x3000, 257, true, -EINVAL},
        {0x1008, 0x2000, 0x3000, 8, false, -EINVAL},
        {0x1000, 0x2001, 0x3000, 8, false, -EINVAL},
        {0x1000, 0x2002, 0x3000, 8, false, 0},
        {0x1000, 0x2002, 0x3000, 8, true, -EINVAL},
        {0x1000, 0x2000, 0x3002, 8, false, -EINVAL},
        {2 * REGION, 0x2000, 0x3000, 8, false, -EINVAL},
        {2 * REGION - 128, 0x2000, 0x3000, 8, false, 0},
        {2 * REGION - 112, 0x2000, 0x3000, 8, false, -EINVAL},
        {REGION - 64, 0x2000, 0x3000, 8, false, -EINVAL},
        {0x1000, 2 * REGION - 20, 0x3000, 8, false, -EINVAL},
        {0x1000, 0x2000, 2 * REGION - 68, 8, false, -EINVAL},
        {UINT64_MAX - 15, 0x2000, 0x3000, 8, false, -EINVAL},
        {0x1000, 0x2000, UINT64_MAX - 3, 8, true, -EINVAL},
    };
    AUTO(memory_freep) struct memory *memory = new_memory();
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct virtq q = {.size_max = 256};
        virtq_reset(&q);
        q.size = cases[i].size;
        q.packed = cases[i].packed;
        q.desc = cases[i].desc;
        q.driver = cases[i].driver;
        q.device = cases[i].device;
        int r = virtq_enable(&q, memory);
        ck_assert_msg(r == cases[i].want && q.ready == (r == 0), "case %zu: %d", i, r);
    }
}
END_TEST

START_TEST(what_the_device_writes_is_marked)
{
    for (unsigned packed = 0; packed < 2; packed++) {
        AUTO(freep) struct virtq_chain *chain = malloc(sizeof(*chain));
        AUTO(memory_freep) struct memory *memory = new_memory();
        struct driver d;
        struct virtq q = {0};
        struct driver_piece pieces[] = {{BUFFERS, 8}, {REGION - 8, 4096}, {BUFFERS, 100}};
        uint64_t low[4] = {0};
        uint64_t high[4] = {0};
        driver_init(&d, memory, RINGS, 4, packed != 0, false);
        driver_give(&d, &q, false);
        ck_assert_int_eq(memory_track(memory, true, NULL), 0);
        ck_assert_int_ge(driver_add(&d, pieces, 1, 2, 0), 0);
        ck_assert_int_eq(virtq_pop(&q, memory, chain), 0);
        ck_assert_int_eq(virtq_push(&q, memory, chain, 16), 0);
        ck_assert_int_eq(memory_dirty(memory, 0, low, sizeof(low), NULL), 0);
        ck_assert_int_eq(memory_dirty(memory, 1, high, sizeof(high), NULL), 0);
        uint64_t ring = packed != 0 ? RINGS : RINGS + 0x3000;
        ck_assert_uint_eq(low[0], 1ULL << (ring / 4096));
        ck_assert_uint_eq(low[3], 1ULL << 63);
        ck_assert_uint_eq(high[0], 1);
    }
}
END_TEST

int main(void)
{
    return unit_run("vmm_queue",
                    (const TTest *const[]){
                        every_byte_of_random_work_arrives_in_both_layouts,
                        a_driver_that_wants_no_interrupt_gets_none_and_the_other_is_told_once,
                        doorbells_are_silent_while_off_and_nothing_is_lost_when_on,
                        hostile_rings_break_the_queue_and_nothing_else,
                        tables_are_refused_when_they_were_not_agreed_on,
                        more_requests_under_way_than_descriptors_break_the_queue,
                        rings_outside_memory_or_crooked_are_not_enabled,
                        what_the_device_writes_is_marked,
                        NULL,
                    });
}
