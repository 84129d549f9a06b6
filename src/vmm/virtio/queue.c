#include "vmm/virtio/queue.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/macros.h"
#include "vmm/memory.h"

/* Descriptor flags (2.7.5, 2.8.1) */
#define DESC_NEXT 1u
#define DESC_WRITE 2u
#define DESC_INDIRECT 4u
#define DESC_AVAIL (1u << 7)
#define DESC_USED (1u << 15)

/* Split rings (2.7.6, 2.7.8): flags, index, entries, then the other side's event index. */
#define RING_FLAGS 0
#define RING_INDEX 2
#define RING_ENTRIES 4
#define AVAIL_NO_INTERRUPT 1u
#define USED_NO_NOTIFY 1u

/* Packed event suppression (2.8.14) */
#define EVENT_OFFSET 0
#define EVENT_FLAGS 2
#define EVENT_SIZE 4
#define EVENT_ENABLE 0u
#define EVENT_DISABLE 1u
#define EVENT_DESC 2u

#define DESC_SIZE 16
#define CHAIN_BYTES_MAX (1ULL << 32) /* 2.7.5: a chain is not longer in total */

/* As in a ring; both layouts hold four fields, the last two in different order. */
struct descriptor {
    uint64_t address;
    uint32_t len;
    uint16_t flags;
    uint16_t other; /* split: next; packed: buffer id */
};

static const struct state_field virtq_fields[] = {
    STATE(U16, struct virtq, size),        STATE(BOOL, struct virtq, ready),
    STATE(U64, struct virtq, desc),        STATE(U64, struct virtq, driver),
    STATE(U64, struct virtq, device),      STATE(BOOL, struct virtq, packed),
    STATE(BOOL, struct virtq, event_idx),  STATE(BOOL, struct virtq, indirect),
    STATE(U16, struct virtq, next_avail),  STATE(U16, struct virtq, next_used),
    STATE(BOOL, struct virtq, avail_wrap), STATE(BOOL, struct virtq, used_wrap),
    STATE(BOOL, struct virtq, broken),     STATE(U32, struct virtq, unsignalled),
    STATE(U32, struct virtq, in_flight),   STATE_DONE,
};

static int check_virtq(void *object, struct err *err)
{
    const struct virtq *q = object;
    if (q->size > VIRTQ_SIZE_MAX || q->in_flight > q->size ||
        (q->packed && q->ready && (q->next_avail >= q->size || q->next_used >= q->size))) {
        return err_say(err, EINVAL, "a queue of %u with position %u, %u and %u requests under way",
                       q->size, q->next_avail, q->next_used, q->in_flight);
    }
    return 0;
}

const struct state_table virtq_state_table = {
    .name = "virtq",
    .version = 1,
    .oldest = 1,
    .fields = virtq_fields,
    .check = check_virtq,
};

/* The rings are shared with CPUs that run: every access to a field is one load or store. */
static uint16_t ring_load(const uint8_t *p)
{
    return le16toh(__atomic_load_n((const uint16_t *)(const void *)p, __ATOMIC_RELAXED));
}

static uint16_t ring_load_acquire(const uint8_t *p)
{
    return le16toh(__atomic_load_n((const uint16_t *)(const void *)p, __ATOMIC_ACQUIRE));
}

static void ring_store_release(uint8_t *p, uint16_t value)
{
    __atomic_store_n((uint16_t *)(void *)p, htole16(value), __ATOMIC_RELEASE);
}

/* What we wrote must be seen before we look at what the other side wrote, and the other way round.
 */
static void fence(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* The clobber keeps the compiler from reading the guest's bytes a second time. */
static void copy_bytes(void *to, const void *from, size_t len)
{
    memcpy(to, from, len);
    __asm__ volatile("" ::: "memory");
}

static struct descriptor copy_descriptor(const uint8_t *at, bool packed)
{
    struct {
        uint64_t address;
        uint32_t len;
        uint16_t third, fourth;
    } raw;
    copy_bytes(&raw, at, DESC_SIZE);
    return (struct descriptor){
        .address = le64toh(raw.address),
        .len = le32toh(raw.len),
        .flags = le16toh(packed ? raw.fourth : raw.third),
        .other = le16toh(packed ? raw.third : raw.fourth),
    };
}

static const struct memory_region *find_region(const struct memory *memory, uint64_t gpa)
{
    size_t count = 0;
    const struct memory_region *regions = memory_regions(memory, &count);
    for (size_t i = 0; i < count; i++) {
        if (gpa >= regions[i].gpa && gpa - regions[i].gpa < regions[i].size) {
            return &regions[i];
        }
    }
    return NULL;
}

/* A ring: aligned, in one region, and in memory that may be written when the device writes there.
 */
static uint8_t *find_ring(const struct memory *memory, uint64_t gpa, uint64_t len, uint64_t align,
                          bool write)
{
    const struct memory_region *region = find_region(memory, gpa);
    if (region == NULL || gpa % align != 0 || (write && region->read_only) ||
        len > region->size - (gpa - region->gpa)) {
        return NULL;
    }
    return region->host + (gpa - region->gpa);
}

void virtq_reset(struct virtq *q)
{
    *q = (struct virtq){
        .size = q->size_max,
        .size_max = q->size_max,
        .avail_wrap = true,
        .used_wrap = true,
    };
}

int virtq_enable(struct virtq *q, const struct memory *memory)
{
    uint64_t n = q->size;
    if (n == 0 || n > q->size_max || n > VIRTQ_SIZE_MAX || (!q->packed && (n & (n - 1)) != 0)) {
        return -EINVAL;
    }
    uint8_t *desc = NULL;
    uint8_t *driver = NULL;
    uint8_t *device = NULL;
    if (q->packed) {
        desc = find_ring(memory, q->desc, n * DESC_SIZE, DESC_SIZE, true);
        driver = find_ring(memory, q->driver, EVENT_SIZE, 4, false);
        device = find_ring(memory, q->device, EVENT_SIZE, 4, true);
    } else {
        desc = find_ring(memory, q->desc, n * DESC_SIZE, DESC_SIZE, false);
        driver = find_ring(memory, q->driver, RING_ENTRIES + 2 * n + 2, 2, false);
        device = find_ring(memory, q->device, RING_ENTRIES + 8 * n + 2, 4, true);
    }
    if (desc == NULL || driver == NULL || device == NULL) {
        return -EINVAL;
    }
    q->desc_host = desc;
    q->driver_host = driver;
    q->device_host = device;
    q->ready = true;
    return 0;
}

static int break_queue(struct virtq *q)
{
    q->broken = true;
    return -EPROTO;
}

static bool packed_available(const struct virtq *q)
{
    const uint8_t *at = q->desc_host + (size_t)q->next_avail * DESC_SIZE;
    unsigned flags = ring_load_acquire(at + 14);
    bool avail = (flags & DESC_AVAIL) != 0;
    bool used = (flags & DESC_USED) != 0;
    return avail == q->avail_wrap && used != q->avail_wrap;
}

/* Adds one descriptor's buffer, in pieces when it reaches over several regions. */
static int add_buffer(const struct memory *memory, struct virtq_chain *chain,
                      const struct descriptor *d)
{
    bool write = (d->flags & DESC_WRITE) != 0;
    uint64_t gpa = d->address;
    uint64_t left = d->len;
    if (!write && chain->writable_count > 0) {
        return -EPROTO; /* 2.7.4.2: what is read comes first */
    }
    if (left > CHAIN_BYTES_MAX - chain->readable_len - chain->writable_len) {
        return -EPROTO;
    }
    while (left > 0) {
        const struct memory_region *region = find_region(memory, gpa);
        uint32_t at = chain->readable_count + chain->writable_count;
        if (region == NULL || (write && region->read_only) || at == VIRTQ_CHAIN_MAX) {
            return -EPROTO;
        }
        uint64_t len = MIN(left, region->size - (gpa - region->gpa));
        chain->iov[at] = (struct iovec){
            .iov_base = region->host + (gpa - region->gpa),
            .iov_len = (size_t)len,
        };
        chain->gpa[at] = gpa;
        if (write) {
            chain->writable_count++;
            chain->writable_len += len;
        } else {
            chain->readable_count++;
            chain->readable_len += len;
        }
        left -= len;
        gpa += len;
    }
    return 0;
}

/* The table that an indirect descriptor names. Split: linked by next; packed: in order. */
static int add_table(const struct virtq *q, const struct memory *memory, struct virtq_chain *chain,
                     const struct descriptor *d)
{
    uint32_t entries = d->len / DESC_SIZE;
    if (!q->indirect || (d->flags & DESC_NEXT) != 0 || d->len % DESC_SIZE != 0 || entries == 0 ||
        entries > VIRTQ_CHAIN_MAX) {
        return -EPROTO;
    }
    const uint8_t *table = find_ring(memory, d->address, d->len, 1, false);
    if (table == NULL) {
        return -EPROTO;
    }
    uint32_t at = 0;
    for (uint32_t seen = 0; seen < entries; seen++) {
        struct descriptor entry = copy_descriptor(table + (size_t)at * DESC_SIZE, q->packed);
        if ((entry.flags & DESC_INDIRECT) != 0) {
            return -EPROTO;
        }
        int r = add_buffer(memory, chain, &entry);
        if (r < 0) {
            return r;
        }
        if (q->packed) {
            at++;
            continue;
        }
        if ((entry.flags & DESC_NEXT) == 0) {
            return 0;
        }
        at = entry.other;
        if (at >= entries) {
            return -EPROTO;
        }
    }
    return q->packed ? 0 : -EPROTO; /* more links than entries: a loop */
}

static int pop_split(struct virtq *q, const struct memory *memory, struct virtq_chain *chain)
{
    uint16_t ahead = (uint16_t)(ring_load_acquire(q->driver_host + RING_INDEX) - q->next_avail);
    if (ahead == 0) {
        return -EAGAIN;
    }
    if (ahead > q->size) {
        return -EPROTO;
    }
    unsigned slot = q->next_avail & (q->size - 1u);
    uint16_t at = ring_load(q->driver_host + RING_ENTRIES + 2 * (size_t)slot);
    chain->id = at;
    for (unsigned seen = 0; seen < q->size; seen++) {
        if (at >= q->size) {
            return -EPROTO;
        }
        struct descriptor d = copy_descriptor(q->desc_host + (size_t)at * DESC_SIZE, false);
        bool table = (d.flags & DESC_INDIRECT) != 0;
        int r = table ? add_table(q, memory, chain, &d) : add_buffer(memory, chain, &d);
        if (r < 0) {
            return r;
        }
        if ((d.flags & DESC_NEXT) == 0) {
            q->next_avail++;
            return 0;
        }
        at = d.other;
    }
    return -EPROTO;
}

static void packed_advance(const struct virtq *q, uint16_t *at, bool *wrap, uint16_t count)
{
    unsigned next = (unsigned)*at + count;
    if (next >= q->size) {
        next -= q->size;
        *wrap = !*wrap;
    }
    *at = (uint16_t)next;
}

static int pop_packed(struct virtq *q, const struct memory *memory, struct virtq_chain *chain)
{
    if (!packed_available(q)) {
        return -EAGAIN;
    }
    unsigned at = q->next_avail;
    for (uint16_t count = 1; count <= q->size; count++) {
        struct descriptor d = copy_descriptor(q->desc_host + (size_t)at * DESC_SIZE, true);
        bool table = (d.flags & DESC_INDIRECT) != 0;
        int r = table ? add_table(q, memory, chain, &d) : add_buffer(memory, chain, &d);
        if (r < 0) {
            return r;
        }
        if ((d.flags & DESC_NEXT) == 0) {
            chain->id = d.other; /* 2.8.5: that of the last one counts */
            chain->count = count;
            packed_advance(q, &q->next_avail, &q->avail_wrap, count);
            return 0;
        }
        at = at + 1 == q->size ? 0 : at + 1;
    }
    return -EPROTO;
}

int virtq_pop(struct virtq *q, const struct memory *memory, struct virtq_chain *chain)
{
    if (q->broken) {
        return -EPROTO;
    }
    if (!q->ready) {
        return -EAGAIN;
    }
    chain->count = 1;
    chain->readable_count = 0;
    chain->writable_count = 0;
    chain->readable_len = 0;
    chain->writable_len = 0;
    int r = q->packed ? pop_packed(q, memory, chain) : pop_split(q, memory, chain);
    if (r == -EAGAIN) {
        return r;
    }
    /* More requests under way than descriptors: some of them are the same. */
    if (r < 0 || q->in_flight >= q->size) {
        return break_queue(q);
    }
    q->in_flight++;
    chain->readable = chain->iov;
    chain->writable = chain->iov + chain->readable_count;
    return 0;
}

void virtq_unpop(struct virtq *q, const struct virtq_chain *chain)
{
    assert(q->in_flight > 0);
    q->in_flight--;
    if (!q->packed) {
        q->next_avail--;
        return;
    }
    if (q->next_avail < chain->count) {
        q->next_avail = (uint16_t)(q->next_avail + q->size);
        q->avail_wrap = !q->avail_wrap;
    }
    q->next_avail = (uint16_t)(q->next_avail - chain->count);
}

/* The driver sees nothing before the index moves: all entries first. */
static void push_split(struct virtq *q, struct memory *memory, const struct virtq_token *token,
                       const uint32_t *written, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        size_t slot = (q->next_used + i) & (q->size - 1u);
        size_t offset = RING_ENTRIES + 8 * slot;
        uint32_t entry[2] = {htole32(token[i].id), htole32(written[i])};
        copy_bytes(q->device_host + offset, entry, sizeof(entry));
        memory_mark(memory, q->device + offset, sizeof(entry));
    }
    q->next_used = (uint16_t)(q->next_used + count);
    ring_store_release(q->device_host + RING_INDEX, q->next_used);
    memory_mark(memory, q->device + RING_INDEX, 2);
    q->unsignalled += count;
}

/* The driver sees nothing before the first one's flags turn: these last. */
static void push_packed(struct virtq *q, struct memory *memory, const struct virtq_token *token,
                        const uint32_t *written, unsigned count)
{
    uint8_t *first = NULL;
    uint16_t first_flags = 0;
    for (unsigned i = 0; i < count; i++) {
        size_t offset = (size_t)q->next_used * DESC_SIZE;
        uint8_t *at = q->desc_host + offset;
        uint32_t len = htole32(written[i]);
        uint16_t id = htole16(token[i].id);
        unsigned flags = q->used_wrap ? DESC_AVAIL | DESC_USED : 0;
        flags |= written[i] > 0 ? DESC_WRITE : 0;
        copy_bytes(at + 8, &len, sizeof(len));
        copy_bytes(at + 12, &id, sizeof(id));
        if (i == 0) {
            first = at + 14;
            first_flags = (uint16_t)flags;
        } else {
            ring_store_release(at + 14, (uint16_t)flags);
        }
        memory_mark(memory, q->desc + offset, DESC_SIZE);
        packed_advance(q, &q->next_used, &q->used_wrap, token[i].count);
        q->unsignalled += token[i].count;
    }
    ring_store_release(first, first_flags);
}

int virtq_push_tokens(struct virtq *q, struct memory *memory, const struct virtq_token *token,
                      const uint32_t *written, unsigned count)
{
    /* Nothing is under way after a reset: what a device then still holds is of before. */
    if (q->broken || !q->ready || count == 0 || q->in_flight < count) {
        return -EPROTO;
    }
    for (unsigned i = 0; i < count; i++) {
        if (token[i].count == 0 || token[i].count > q->size) {
            return -EPROTO;
        }
    }
    q->in_flight -= count;
    if (q->packed) {
        push_packed(q, memory, token, written, count);
    } else {
        push_split(q, memory, token, written, count);
    }
    return 0;
}

int virtq_push_token(struct virtq *q, struct memory *memory, struct virtq_token token,
                     uint32_t written)
{
    return virtq_push_tokens(q, memory, &token, &written, 1);
}

int virtq_push(struct virtq *q, struct memory *memory, const struct virtq_chain *chain,
               uint32_t written)
{
    assert(written <= chain->writable_len);
    uint64_t left = written;
    for (uint32_t i = 0; i < chain->writable_count && left > 0; i++) {
        uint64_t len = MIN(left, (uint64_t)chain->writable[i].iov_len);
        memory_mark(memory, chain->gpa[chain->readable_count + i], len);
        left -= len;
    }
    struct virtq_token token = {.id = chain->id, .count = chain->count};
    return virtq_push_token(q, memory, token, written);
}

/* 2.7.10: did the index pass the event in the last count steps? */
static bool passed(uint16_t event, uint16_t now, uint32_t count)
{
    return (uint16_t)(now - event - 1) < count;
}

bool virtq_wants_interrupt(struct virtq *q, const struct memory *memory)
{
    (void)memory;
    uint32_t count = q->unsignalled;
    q->unsignalled = 0;
    if (!q->ready || q->broken || count == 0) {
        return false;
    }
    fence();
    if (!q->packed) {
        if (!q->event_idx) {
            return (ring_load(q->driver_host + RING_FLAGS) & AVAIL_NO_INTERRUPT) == 0;
        }
        uint16_t event = ring_load(q->driver_host + RING_ENTRIES + 2 * (size_t)q->size);
        return passed(event, q->next_used, count);
    }
    unsigned flags = ring_load_acquire(q->driver_host + EVENT_FLAGS) & 3u;
    if (flags != EVENT_DESC || !q->event_idx) {
        return flags != EVENT_DISABLE;
    }
    unsigned event = ring_load(q->driver_host + EVENT_OFFSET);
    unsigned offset = event & 0x7fff;
    if ((event >> 15 != 0) != q->used_wrap) {
        offset -= q->size; /* of the round before */
    }
    return passed((uint16_t)offset, q->next_used, count);
}

static void store_device(struct virtq *q, struct memory *memory, size_t offset, uint16_t value)
{
    ring_store_release(q->device_host + offset, value);
    memory_mark(memory, q->device + offset, 2);
}

void virtq_doorbell_off(struct virtq *q, struct memory *memory)
{
    if (!q->ready || q->broken) {
        return;
    }
    if (q->packed) {
        store_device(q, memory, EVENT_FLAGS, EVENT_DISABLE);
    } else if (!q->event_idx) {
        store_device(q, memory, RING_FLAGS, USED_NO_NOTIFY);
    }
    /* Split with event index: the old index stays behind, which asks for nothing. */
}

bool virtq_doorbell_on(struct virtq *q, struct memory *memory)
{
    if (!q->ready || q->broken) {
        return false;
    }
    if (q->packed && q->event_idx) {
        unsigned wrap = q->avail_wrap ? 0x8000u : 0;
        store_device(q, memory, EVENT_OFFSET, (uint16_t)(q->next_avail | wrap));
        store_device(q, memory, EVENT_FLAGS, EVENT_DESC);
    } else if (q->packed) {
        store_device(q, memory, EVENT_FLAGS, EVENT_ENABLE);
    } else if (q->event_idx) {
        store_device(q, memory, RING_ENTRIES + 8 * (size_t)q->size, q->next_avail);
    } else {
        store_device(q, memory, RING_FLAGS, 0);
    }
    fence();
    if (q->packed) {
        return packed_available(q);
    }
    return ring_load_acquire(q->driver_host + RING_INDEX) != q->next_avail;
}

size_t virtq_read(const struct virtq_chain *chain, uint64_t offset, void *data, size_t len)
{
    size_t done = 0;
    for (uint32_t i = 0; i < chain->readable_count && done < len; i++) {
        size_t size = chain->readable[i].iov_len;
        if (offset >= size) {
            offset -= size;
            continue;
        }
        size_t n = MIN(size - (size_t)offset, len - done);
        copy_bytes((uint8_t *)data + done, (uint8_t *)chain->readable[i].iov_base + offset, n);
        done += n;
        offset = 0;
    }
    return done;
}

size_t virtq_write(const struct virtq_chain *chain, uint64_t offset, const void *data, size_t len)
{
    size_t done = 0;
    for (uint32_t i = 0; i < chain->writable_count && done < len; i++) {
        size_t size = chain->writable[i].iov_len;
        if (offset >= size) {
            offset -= size;
            continue;
        }
        size_t n = MIN(size - (size_t)offset, len - done);
        copy_bytes((uint8_t *)chain->writable[i].iov_base + offset, (const uint8_t *)data + done,
                   n);
        done += n;
        offset = 0;
    }
    return done;
}
