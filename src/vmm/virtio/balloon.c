#include "vmm/virtio/balloon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/memory.h"
#include "vmm/virtio/virtio.h"

#define QUEUES 5
#define QUEUE_SIZE 128
#define PAGE 4096ULL /* of the balloon, whatever the guest's is (5.5.6) */
/* Page numbers that are worked on at once, and those of one request: a guest's chain could name
 * thousands of millions. Linux sends 256. */
#define NUMBERS 256
#define NUMBERS_MAX 4096u
#define STAT_SIZE 10
#define STATS_BYTES_MAX ((size_t)32 * STAT_SIZE)

#define F_STATS (1ULL << 1)
#define F_DEFLATE_ON_OOM (1ULL << 2)
#define F_REPORTING (1ULL << 5)

enum {
    CONFIG_PAGES = 0,
    CONFIG_ACTUAL = 4,
    CONFIG_SIZE = 8,
};

enum role {
    ROLE_INFLATE,
    ROLE_DEFLATE,
    ROLE_STATS,
    ROLE_REPORT,
    ROLE_NONE,
};

struct balloon {
    struct virtio virtio;
    uint32_t target, actual; /* pages */
    uint64_t discarded;
    uint32_t known;
    uint64_t stat[VIRTIO_BALLOON_STATS];
    /* The guest's buffer for figures, kept until we want new ones. */
    bool stats_held;
    uint16_t stats_id, stats_count;
    uint32_t stats_queue;
};

static const struct state_field balloon_fields[] = {
    STATE_OBJECTS(struct balloon, virtio, 1, &virtio_state_table),
    STATE(U32, struct balloon, target),
    STATE(U32, struct balloon, actual),
    STATE(U64, struct balloon, discarded),
    STATE(U32, struct balloon, known),
    STATE_ARRAY(U64, struct balloon, stat),
    STATE(BOOL, struct balloon, stats_held),
    STATE(U16, struct balloon, stats_id),
    STATE(U16, struct balloon, stats_count),
    STATE(U32, struct balloon, stats_queue),
    STATE_DONE,
};

static int check_balloon(void *object, struct err *err)
{
    const struct balloon *b = object;
    if (b->stats_held && (b->stats_queue >= b->virtio.queue_count || b->stats_count == 0)) {
        return err_say(err, EINVAL, "figures of queue %u", b->stats_queue);
    }
    return 0;
}

static const struct state_table balloon_state_table = {
    .name = "virtio-balloon",
    .version = 1,
    .oldest = 1,
    .fields = balloon_fields,
    .check = check_balloon,
};

static struct balloon *balloon_of(struct virtio *v)
{
    return CONTAINER_OF(v, struct balloon, virtio);
}

/*
 * 5.5.2 numbers the queues 0 to 4; Linux counts only those whose feature was agreed on. We take
 * both, as no number has two meanings for one driver here: 3, free page hints, is not offered.
 */
static enum role role_of(const struct virtio *v, unsigned index)
{
    bool stats = virtio_has(v, F_STATS);
    if (index < 2) {
        return index == 0 ? ROLE_INFLATE : ROLE_DEFLATE;
    }
    if (index == 2 && stats) {
        return ROLE_STATS;
    }
    return virtio_has(v, F_REPORTING) ? ROLE_REPORT : ROLE_NONE;
}

static void discard(struct balloon *b, uint64_t gpa, uint64_t len)
{
    if (memory_discard(b->virtio.memory, gpa, len) == 0) {
        b->discarded += len;
        return;
    }
    device_guest_error(&b->virtio.device, "0x%llx bytes at 0x%llx given up",
                       (unsigned long long)len, (unsigned long long)gpa);
}

static int compare_numbers(const void *a, const void *b)
{
    const uint32_t *x = a;
    const uint32_t *y = b;
    return (*x > *y) - (*x < *y);
}

/* Neighbours in one step: a page at a time costs a system call each. */
static void discard_pages(struct balloon *b, uint32_t *number, size_t count)
{
    qsort(number, count, sizeof(*number), compare_numbers);
    size_t i = 0;
    while (i < count) {
        uint64_t first = number[i];
        uint64_t end = first + 1;
        for (i++; i < count && number[i] <= end; i++) {
            end = number[i] == end ? end + 1 : end; /* or the same once more */
        }
        /* One that is no memory must not spoil its neighbours. */
        if (memory_at(b->virtio.memory, first * PAGE, (end - first) * PAGE) != NULL) {
            discard(b, first * PAGE, (end - first) * PAGE);
            continue;
        }
        for (; first < end; first++) {
            discard(b, first * PAGE, PAGE);
        }
    }
}

static void inflate(struct balloon *b, const struct virtq_chain *chain)
{
    uint8_t raw[NUMBERS * 4];
    uint32_t number[NUMBERS];
    uint64_t at = 0;
    while (at < NUMBERS_MAX * 4ULL) {
        size_t count = virtq_read(chain, at, raw, sizeof(raw)) / 4;
        if (count == 0) {
            return;
        }
        for (size_t i = 0; i < count; i++) {
            number[i] = load_le32(raw + 4 * i);
        }
        discard_pages(b, number, count);
        at += count * 4;
    }
    if (at < chain->readable_len) {
        device_guest_error(&b->virtio.device, "more than %u pages in a request", NUMBERS_MAX);
    }
}

/* Buffers that are nothing but free pages (5.5.6.7). */
static void report(struct balloon *b, const struct virtq_chain *chain)
{
    for (uint32_t i = 0; i < chain->writable_count; i++) {
        discard(b, chain->gpa[chain->readable_count + i], chain->writable[i].iov_len);
    }
}

static void take_stats(struct balloon *b, const struct virtq_chain *chain)
{
    uint8_t raw[STATS_BYTES_MAX];
    size_t len = virtq_read(chain, 0, raw, sizeof(raw));
    for (size_t at = 0; len - at >= STAT_SIZE; at += STAT_SIZE) {
        uint16_t tag = load_le16(raw + at);
        if (tag < VIRTIO_BALLOON_STATS) { /* later ones may come: not an error */
            b->stat[tag] = load_le64(raw + at + 2);
            b->known |= 1u << tag;
        }
    }
}

/* Gives the buffer back: the guest fills it anew. */
static void ask_for_stats(struct balloon *b)
{
    struct virtio *v = &b->virtio;
    if (!b->stats_held) {
        return;
    }
    struct virtq_token token = {.id = b->stats_id, .count = b->stats_count};
    b->stats_held = false;
    if (virtq_push_token(&v->queue[b->stats_queue], v->memory, token, 0) == 0) {
        virtio_interrupt_if_wanted(v, b->stats_queue);
    }
}

static bool serve_stats(struct balloon *b, unsigned queue, const struct virtq_chain *chain)
{
    take_stats(b, chain);
    ask_for_stats(b); /* a driver has one buffer; should another be held, it goes back */
    b->stats_held = true;
    b->stats_id = chain->id;
    b->stats_count = chain->count;
    b->stats_queue = queue;
    return true;
}

static bool serve(struct virtio *v, unsigned queue, const struct virtq_chain *chain)
{
    struct balloon *b = balloon_of(v);
    switch (role_of(v, queue)) {
    case ROLE_INFLATE:
        inflate(b, chain);
        break;
    case ROLE_REPORT:
        report(b, chain);
        break;
    case ROLE_STATS:
        return serve_stats(b, queue, chain);
    case ROLE_DEFLATE: /* pages come back when they are touched */
        break;
    case ROLE_NONE:
        device_guest_error(&v->device, "a request in queue %u", queue);
        break;
    }
    (void)virtq_push(&v->queue[queue], v->memory, chain, 0);
    return true;
}

static void balloon_queue(struct virtio *v, unsigned index)
{
    virtio_serve(v, index, serve);
}

static void config_read(struct virtio *v, uint32_t offset, void *data, uint32_t len)
{
    const struct balloon *b = balloon_of(v);
    uint8_t config[CONFIG_SIZE];
    store_le32(config + CONFIG_PAGES, b->target);
    store_le32(config + CONFIG_ACTUAL, b->actual);
    memcpy(data, config + offset, len);
}

static void config_write(struct virtio *v, uint32_t offset, const void *data, uint32_t len)
{
    struct balloon *b = balloon_of(v);
    if (offset != CONFIG_ACTUAL || len != 4) {
        device_guest_error(&v->device, "configuration written at 0x%x", offset);
        return;
    }
    b->actual = load_le32(data);
}

static void balloon_reset(struct virtio *v)
{
    struct balloon *b = balloon_of(v);
    b->actual = 0;
    b->known = 0;
    b->stats_held = false;
}

static void balloon_free(struct virtio *v)
{
    virtio_done(v);
    free(balloon_of(v));
}

static const struct virtio_ops balloon_ops = {
    .type = VIRTIO_BALLOON,
    .name = "balloon",
    .features = F_STATS | F_DEFLATE_ON_OOM | F_REPORTING,
    .config_size = CONFIG_SIZE,
    .config_read = config_read,
    .config_write = config_write,
    .queue = balloon_queue,
    .reset = balloon_reset,
    .free = balloon_free,
};

int virtio_balloon_new(const char *instance, const struct virtio_balloon_config *config,
                       struct memory *memory, struct loop *loop, struct virtio **ret,
                       struct err *err)
{
    struct balloon *b = calloc(1, sizeof(*b));
    int r = b == NULL ? -ENOMEM
                      : virtio_init(&b->virtio, &balloon_ops, &balloon_state_table, instance,
                                    QUEUES, QUEUE_SIZE, memory, loop);
    if (r < 0) {
        if (b != NULL) {
            balloon_free(&b->virtio);
        }
        return err_set(err, -r, "add '%s'", instance);
    }
    b->virtio.offered &= ~((config->deflate_on_oom ? 0 : F_DEFLATE_ON_OOM) |
                           (config->report_free ? 0 : F_REPORTING));
    *ret = &b->virtio;
    return 0;
}

void virtio_balloon_set_target(struct virtio *v, uint64_t bytes)
{
    struct balloon *b = balloon_of(v);
    uint32_t pages = (uint32_t)MIN(bytes / PAGE, (uint64_t)UINT32_MAX);
    (void)pthread_mutex_lock(&v->device.lock);
    if (b->target != pages) {
        b->target = pages;
        virtio_config_changed(v);
    }
    (void)pthread_mutex_unlock(&v->device.lock);
}

void virtio_balloon_get(struct virtio *v, struct virtio_balloon_info *ret)
{
    struct balloon *b = balloon_of(v);
    (void)pthread_mutex_lock(&v->device.lock);
    ret->target = b->target * PAGE;
    ret->actual = b->actual * PAGE;
    ret->discarded = b->discarded;
    ret->known = b->known;
    memcpy(ret->stat, b->stat, sizeof(ret->stat));
    if (v->active && !v->paused) {
        ask_for_stats(b);
    }
    (void)pthread_mutex_unlock(&v->device.lock);
}
