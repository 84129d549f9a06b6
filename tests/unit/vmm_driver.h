/*
 * vmm_driver.h - the driver's side of a virtqueue, split or packed, for tests: an own reading of
 * virtio 1.2, 2.7 and 2.8, which shares no code with the device's side.
 */
#ifndef UNIT_VMM_DRIVER_H
#define UNIT_VMM_DRIVER_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "vmm/memory.h"
#include "vmm/virtio/queue.h"

#define DRIVER_SIZE_MAX 256

/* As ck_assert(), which writes to a pipe each time: too slow for each byte. */
#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            ck_abort_msg("%s", #cond);                                                             \
        }                                                                                          \
    } while (0)

struct driver_piece {
    uint64_t gpa;
    uint32_t len;
};

struct driver {
    struct memory *memory;
    uint64_t desc, driver, device; /* guest physical */
    uint16_t size;
    bool packed, event_idx;
    uint16_t free_count;  /* descriptors */
    uint16_t avail, used; /* split: indices; packed: positions */
    bool avail_wrap, used_wrap;
    uint16_t added; /* descriptors since the last look at notifications */
    bool busy[DRIVER_SIZE_MAX];
    uint16_t taken[DRIVER_SIZE_MAX]; /* by the chain that begins there, or has that id */
};

static inline void *driver_at(const struct driver *d, uint64_t gpa, uint64_t len)
{
    void *p = memory_at(d->memory, gpa, len);
    MUST(p != NULL);
    return p;
}

static inline void driver_put16(const struct driver *d, uint64_t gpa, uint16_t value)
{
    __atomic_store_n((uint16_t *)driver_at(d, gpa, 2), value, __ATOMIC_SEQ_CST);
}

static inline uint16_t driver_get16(const struct driver *d, uint64_t gpa)
{
    return __atomic_load_n((uint16_t *)driver_at(d, gpa, 2), __ATOMIC_SEQ_CST);
}

/* The rings from base on: 16 KiB are enough for DRIVER_SIZE_MAX. */
static inline void driver_init(struct driver *d, struct memory *memory, uint64_t base,
                               uint16_t size, bool packed, bool event_idx)
{
    *d = (struct driver){
        .memory = memory,
        .desc = base,
        .driver = base + 0x2000,
        .device = base + 0x3000,
        .size = size,
        .packed = packed,
        .event_idx = event_idx,
        .free_count = size,
        .avail_wrap = true,
        .used_wrap = true,
    };
    memset(driver_at(d, base, 0x4000), 0, 0x4000);
}

static inline void driver_desc(const struct driver *d, uint64_t at, uint64_t gpa, uint32_t len,
                               uint16_t third, uint16_t fourth)
{
    uint8_t *p = driver_at(d, at, 16);
    memcpy(p, &gpa, 8);
    memcpy(p + 8, &len, 4);
    memcpy(p + 12, &third, 2);
    __atomic_store_n((uint16_t *)(void *)(p + 14), fourth, __ATOMIC_SEQ_CST);
}

/* A free id or descriptor; the caller knows that one is there. */
static inline uint16_t driver_take(struct driver *d)
{
    uint16_t i = 0;
    while (d->busy[i]) {
        i++;
        MUST(i < d->size);
    }
    d->busy[i] = true;
    return i;
}

/* Fills a table of plain descriptors for an indirect one. */
static inline void driver_table(const struct driver *d, uint64_t table,
                                const struct driver_piece *piece, unsigned out, unsigned in)
{
    for (unsigned i = 0; i < out + in; i++) {
        uint16_t flags = i >= out ? 2 : 0;
        uint16_t next = i + 1 < out + in ? 1 : 0;
        uint64_t at = table + 16ULL * i;
        if (d->packed) {
            driver_desc(d, at, piece[i].gpa, piece[i].len, 0, flags);
        } else {
            driver_desc(d, at, piece[i].gpa, piece[i].len, flags | next, (uint16_t)(i + 1));
        }
    }
}

static inline int driver_add_split(struct driver *d, const struct driver_piece *piece, unsigned out,
                                   unsigned n, bool indirect)
{
    uint16_t index[DRIVER_SIZE_MAX];
    for (unsigned i = 0; i < n; i++) {
        index[i] = driver_take(d);
    }
    for (unsigned i = 0; i < n; i++) {
        uint16_t flags = (uint16_t)((i + 1 < n ? 1 : 0) | (i >= out ? 2 : 0) | (indirect ? 4 : 0));
        driver_desc(d, d->desc + 16ULL * index[i], piece[i].gpa, piece[i].len, flags,
                    i + 1 < n ? index[i + 1] : 0);
    }
    d->taken[index[0]] = (uint16_t)n;
    driver_put16(d, d->driver + 4 + 2ULL * (d->avail % d->size), index[0]);
    d->avail++;
    driver_put16(d, d->driver + 2, d->avail);
    return index[0];
}

static inline int driver_add_packed(struct driver *d, const struct driver_piece *piece,
                                    unsigned out, unsigned n, bool indirect)
{
    uint16_t id = driver_take(d);
    uint16_t head = d->avail;
    uint16_t head_flags = 0;
    d->taken[id] = (uint16_t)n;
    for (unsigned i = 0; i < n; i++) {
        uint16_t flags = (uint16_t)((i + 1 < n ? 1 : 0) | (i >= out ? 2 : 0) | (indirect ? 4 : 0) |
                                    (d->avail_wrap ? 1u << 7 : 1u << 15));
        /* The first one's flags last: the device sees all or nothing. */
        if (i == 0) {
            head_flags = flags;
            flags = driver_get16(d, d->desc + 16ULL * head + 14);
        }
        driver_desc(d, d->desc + 16ULL * d->avail, piece[i].gpa, piece[i].len, id, flags);
        if (++d->avail == d->size) {
            d->avail = 0;
            d->avail_wrap = !d->avail_wrap;
        }
    }
    driver_put16(d, d->desc + 16ULL * head + 14, head_flags);
    return id;
}

/* table != 0: an indirect descriptor with its table there. The id, or -1: no room. */
static inline int driver_add(struct driver *d, const struct driver_piece *piece, unsigned out,
                             unsigned in, uint64_t table)
{
    unsigned n = table != 0 ? 1 : out + in;
    struct driver_piece one = {.gpa = table, .len = 16 * (out + in)};
    if (n > d->free_count) {
        return -1;
    }
    if (table != 0) {
        driver_table(d, table, piece, out, in);
        piece = &one;
        out = 1;
    }
    d->free_count = (uint16_t)(d->free_count - n);
    d->added = (uint16_t)(d->added + (d->packed ? n : 1));
    return d->packed ? driver_add_packed(d, piece, out, n, table != 0)
                     : driver_add_split(d, piece, out, n, table != 0);
}

/* Must the device be told of what was added since the last call? */
static inline bool driver_must_notify(struct driver *d)
{
    uint16_t added = d->added;
    d->added = 0;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (added == 0) {
        return false;
    }
    if (!d->packed && !d->event_idx) {
        return (driver_get16(d, d->device) & 1) == 0;
    }
    if (!d->packed) {
        uint16_t event = driver_get16(d, d->device + 4 + 8ULL * d->size);
        return (uint16_t)(d->avail - event - 1) < added;
    }
    uint16_t flags = driver_get16(d, d->device + 2) & 3;
    if (flags != 2) {
        return flags == 0;
    }
    uint16_t event = driver_get16(d, d->device);
    int offset = event & 0x7fff;
    offset -= (event >> 15) != d->avail_wrap ? d->size : 0;
    return (uint16_t)(d->avail - offset - 1) < added;
}

/* Asks for an interrupt at the next used chain; true: one is there already. */
static inline bool driver_want_interrupt(struct driver *d)
{
    if (d->packed) {
        driver_put16(d, d->driver, (uint16_t)(d->used | (d->used_wrap ? 0x8000u : 0)));
        driver_put16(d, d->driver + 2, d->event_idx ? 2 : 0);
        uint16_t flags = driver_get16(d, d->desc + 16ULL * d->used + 14);
        return (flags >> 15 & 1) == d->used_wrap && (flags >> 7 & 1) == d->used_wrap;
    }
    driver_put16(d, d->driver, 0);
    driver_put16(d, d->driver + 4 + 2ULL * d->size, d->used);
    return driver_get16(d, d->device + 2) != d->used;
}

/* No interrupts, as far as the layout can say so. */
static inline void driver_no_interrupt(struct driver *d)
{
    if (d->packed) {
        driver_put16(d, d->driver + 2, 1);
    } else if (d->event_idx) {
        driver_put16(d, d->driver + 4 + 2ULL * d->size, (uint16_t)(d->used - 1));
    } else {
        driver_put16(d, d->driver, 1);
    }
}

/* Takes one used chain. */
static inline bool driver_get(struct driver *d, unsigned *ret_id, uint32_t *ret_len)
{
    uint32_t id = 0;
    if (d->packed) {
        uint8_t *p = driver_at(d, d->desc + 16ULL * d->used, 16);
        uint16_t flags = driver_get16(d, d->desc + 16ULL * d->used + 14);
        if ((flags >> 15 & 1) != d->used_wrap || (flags >> 7 & 1) != d->used_wrap) {
            return false;
        }
        memcpy(ret_len, p + 8, 4);
        id = driver_get16(d, d->desc + 16ULL * d->used + 12);
        MUST(id < d->size);
        d->used = (uint16_t)(d->used + d->taken[id]);
        if (d->used >= d->size) {
            d->used = (uint16_t)(d->used - d->size);
            d->used_wrap = !d->used_wrap;
        }
        MUST(d->busy[id]);
        d->busy[id] = false;
    } else {
        if (driver_get16(d, d->device + 2) == d->used) {
            return false;
        }
        uint8_t *p = driver_at(d, d->device + 4 + 8ULL * (d->used % d->size), 8);
        memcpy(&id, p, 4);
        memcpy(ret_len, p + 4, 4);
        d->used++;
        MUST(id < d->size);
        uint16_t at = (uint16_t)id;
        for (unsigned i = 0; i < d->taken[id]; i++) {
            MUST(d->busy[at]);
            d->busy[at] = false;
            at = driver_get16(d, d->desc + 16ULL * at + 14);
        }
    }
    d->free_count = (uint16_t)(d->free_count + d->taken[id]);
    *ret_id = id;
    return true;
}

/* Hands the rings to a queue directly, without a transport. */
static inline void driver_give(const struct driver *d, struct virtq *q, bool indirect)
{
    q->size_max = DRIVER_SIZE_MAX;
    virtq_reset(q);
    q->size = d->size;
    q->desc = d->desc;
    q->driver = d->driver;
    q->device = d->device;
    q->packed = d->packed;
    q->event_idx = d->event_idx;
    q->indirect = indirect;
    ck_assert_int_eq(virtq_enable(q, d->memory), 0);
}

#endif
