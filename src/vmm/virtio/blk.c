#include "vmm/virtio/blk.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/disk/disk.h"
#include "vmm/memory.h"
#include "vmm/virtio/virtio.h"

#define QUEUE_SIZE 256
#define SECTOR 512ULL
#define POOL_SIZE 64 /* requests under way, of all queues together */
#define SEGMENTS_MAX 126
/* A segment may be cut in two where regions of memory meet. */
#define PIECES_MAX (SEGMENTS_MAX + 2)
#define SEGMENT_BYTES_MAX (4u << 20)
#define DISCARD_SECTORS_MAX ((uint32_t)(UINT32_MAX / SECTOR))
#define RESET_WAIT_SECONDS 5

/* Feature bits (5.2.3) */
#define F_SIZE_MAX (1ULL << 1)
#define F_SEG_MAX (1ULL << 2)
#define F_RO (1ULL << 5)
#define F_BLK_SIZE (1ULL << 6)
#define F_FLUSH (1ULL << 9)
#define F_TOPOLOGY (1ULL << 10)
#define F_CONFIG_WCE (1ULL << 11)
#define F_MQ (1ULL << 12)
#define F_DISCARD (1ULL << 13)
#define F_WRITE_ZEROES (1ULL << 14)

/* Configuration space (5.2.4) */
enum {
    CONFIG_CAPACITY = 0,
    CONFIG_SIZE_MAX = 8,
    CONFIG_SEG_MAX = 12,
    CONFIG_BLK_SIZE = 20,
    CONFIG_PHYSICAL_EXPONENT = 24,
    CONFIG_MIN_IO = 26,
    CONFIG_WRITEBACK = 32,
    CONFIG_QUEUES = 34,
    CONFIG_DISCARD_SECTORS = 36,
    CONFIG_DISCARD_SEGMENTS = 40,
    CONFIG_DISCARD_ALIGNMENT = 44,
    CONFIG_ZEROES_SECTORS = 48,
    CONFIG_ZEROES_SEGMENTS = 52,
    CONFIG_ZEROES_MAY_UNMAP = 56,
    CONFIG_SIZE = 60,
};

/* Requests (5.2.6) */
enum {
    TYPE_IN = 0,
    TYPE_OUT = 1,
    TYPE_FLUSH = 4,
    TYPE_GET_ID = 8,
    TYPE_DISCARD = 11,
    TYPE_WRITE_ZEROES = 13,
};
#define HEADER_SIZE 16
#define RANGE_SIZE 16 /* what discard and write zeroes carry */
#define RANGE_UNMAP 1u

enum {
    STATUS_OK = 0,
    STATUS_IOERR = 1,
    STATUS_UNSUPP = 2,
};

struct blk;

struct request {
    struct disk_request disk;
    struct blk *blk;
    struct request *next; /* free list */
    unsigned queue;
    uint32_t life; /* of the device when it came: resets end one */
    struct virtq_token token;
    uint8_t *status; /* in guest memory */
    uint64_t status_gpa;
    uint32_t written;
    bool to_guest; /* pieces are marked when they were filled */
    unsigned count;
    struct iovec iov[PIECES_MAX];
    uint64_t gpa[PIECES_MAX];
};

struct blk {
    struct virtio virtio;
    struct disk *disk;
    char serial[VIRTIO_BLK_SERIAL_MAX];
    bool default_writeback;
    uint8_t writeback;
    struct request *pool;
    struct request *unused;
    uint32_t in_flight;
    uint32_t life;       /* not saved: nothing is under way then */
    pthread_cond_t idle; /* in_flight became 0 */
    /* Only the loop's thread changes these; it is known since it took the first request. */
    pthread_t loop_thread;
    bool holds_lock;  /* callbacks that come now find the lock taken by their own thread */
    uint32_t waiting; /* queues with chains that found the pool empty, one bit each */
    uint32_t held;    /* queues with chains that the limit holds back */
    struct limit limit;
    uint32_t to_signal;
    struct loop_source *batch; /* timer: after all completions of one round of the loop */
};

static const struct state_field blk_fields[] = {
    STATE_OBJECTS(struct blk, virtio, 1, &virtio_state_table),
    STATE(U8, struct blk, writeback),
    STATE_DONE,
};

static int check_blk(void *object, struct err *err)
{
    const struct blk *b = object;
    if (b->writeback > 1) {
        return err_say(err, EINVAL, "write cache %u", b->writeback);
    }
    for (uint32_t i = 0; i < b->virtio.queue_count; i++) {
        if (b->virtio.queue[i].in_flight != 0) {
            return err_say(err, EINVAL, "requests under way");
        }
    }
    return 0;
}

static const struct state_table blk_state_table = {
    .name = "virtio-blk",
    .version = 1,
    .oldest = 1,
    .fields = blk_fields,
    .check = check_blk,
};

static struct blk *blk_of(struct virtio *v)
{
    return CONTAINER_OF(v, struct blk, virtio);
}

static uint8_t status_of(int error)
{
    if (error == 0) {
        return STATUS_OK;
    }
    return error == -ENOTSUP ? STATUS_UNSUPP : STATUS_IOERR;
}

/* Without a way to flush the driver takes each completed write for safe (5.2.5.2, 5.2.6.2). */
static bool writes_through(const struct blk *b)
{
    return b->writeback == 0 || !virtio_has(&b->virtio, F_FLUSH | F_CONFIG_WCE);
}

static void give_back(struct blk *b, struct request *r)
{
    r->next = b->unused;
    b->unused = r;
    if (--b->in_flight == 0) {
        (void)pthread_cond_broadcast(&b->idle);
    }
}

/* A reset, a broken ring: nobody waits for the answer any more. */
static bool is_wanted(const struct request *r)
{
    return r->life == r->blk->life && !r->blk->virtio.queue[r->queue].broken;
}

static void finish(struct request *r, int error)
{
    struct blk *b = r->blk;
    struct virtio *v = &b->virtio;
    if (is_wanted(r)) {
        *r->status = status_of(error);
        memory_mark(v->memory, r->status_gpa, 1);
        for (unsigned i = 0; r->to_guest && i < r->count; i++) {
            memory_mark(v->memory, r->gpa[i], r->iov[i].iov_len);
        }
        (void)virtq_push_token(&v->queue[r->queue], v->memory, r->token, r->written);
        b->to_signal |= 1u << r->queue;
    }
    give_back(b, r);
}

/* On the loop's thread, from inside disk_submit() or from the loop. */
static void on_done(struct disk_request *disk, int error)
{
    struct request *r = disk->data;
    struct blk *b = r->blk;
    bool lock = !b->holds_lock;
    if (lock) {
        (void)pthread_mutex_lock(&b->virtio.device.lock);
        b->holds_lock = true;
    }
    bool write = disk->op == DISK_WRITE || disk->op == DISK_WRITE_ZEROES;
    if (error == 0 && write && writes_through(b) && is_wanted(r)) {
        r->disk = (struct disk_request){.op = DISK_FLUSH, .done = on_done, .data = r};
        disk_submit(b->disk, &r->disk);
    } else {
        finish(r, error);
    }
    if (lock) {
        b->holds_lock = false;
        (void)pthread_mutex_unlock(&b->virtio.device.lock);
        (void)loop_timer_set(b->batch, 0);
    }
}

static void signal_all(struct blk *b)
{
    for (uint32_t i = 0; b->to_signal != 0; i++) {
        if ((b->to_signal & 1u << i) != 0) {
            b->to_signal &= ~(1u << i);
            virtio_interrupt_if_wanted(&b->virtio, i);
        }
    }
}

static void serve_queue(struct blk *b, unsigned index);

static void serve_queues(struct blk *b, uint32_t queues)
{
    for (unsigned i = 0; i < b->virtio.queue_count; i++) {
        if ((queues & 1u << i) != 0 && b->virtio.active && !b->virtio.paused) {
            serve_queue(b, i);
        }
    }
}

/* What the limit held back goes on. Resume looks at all queues anyway. */
static void on_limit(void *data)
{
    struct blk *b = data;
    (void)pthread_mutex_lock(&b->virtio.device.lock);
    uint32_t held = b->held;
    b->held = 0;
    serve_queues(b, held);
    (void)pthread_mutex_unlock(&b->virtio.device.lock);
}

/* One interrupt for all completions of a round, and room for chains that waited. */
static void on_batch(struct loop_source *source, void *data)
{
    (void)source;
    struct blk *b = data;
    (void)pthread_mutex_lock(&b->virtio.device.lock);
    signal_all(b);
    uint32_t waiting = b->waiting;
    b->waiting = 0;
    serve_queues(b, waiting);
    b->holds_lock = true;
    disk_kick(b->disk); /* flushes of on_done() */
    b->holds_lock = false;
    (void)pthread_mutex_unlock(&b->virtio.device.lock);
}

/* Cuts [skip, skip + len) out of pieces. -E2BIG: more than the driver was told. */
static int take_pieces(struct request *r, const struct iovec *iov, const uint64_t *gpa,
                       uint32_t count, uint64_t skip, uint64_t len)
{
    r->count = 0;
    for (uint32_t i = 0; i < count && len > 0; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        if (r->count == PIECES_MAX) {
            return -E2BIG;
        }
        size_t n = (size_t)MIN(len, iov[i].iov_len - skip);
        r->iov[r->count] = (struct iovec){
            .iov_base = (uint8_t *)iov[i].iov_base + skip,
            .iov_len = n,
        };
        r->gpa[r->count++] = gpa[i] + skip;
        len -= n;
        skip = 0;
    }
    return 0;
}

static bool in_range(const struct blk *b, uint64_t sector, uint64_t sectors)
{
    uint64_t capacity = disk_size(b->disk) / SECTOR;
    return sector <= capacity && sectors <= capacity - sector;
}

/* The status that a request gets at once, or -1: r->disk is to be submitted. */
static int prepare_data(struct blk *b, struct request *r, const struct virtq_chain *chain,
                        bool write, uint64_t sector)
{
    uint64_t len = write ? chain->readable_len - HEADER_SIZE : chain->writable_len - 1;
    if (len == 0 || len % SECTOR != 0 || !in_range(b, sector, len / SECTOR)) {
        return STATUS_IOERR;
    }
    int bad =
        write ? take_pieces(r, chain->readable, chain->gpa, chain->readable_count, HEADER_SIZE, len)
              : take_pieces(r, chain->writable, chain->gpa + chain->readable_count,
                            chain->writable_count, 0, len);
    if (bad < 0 || (write && disk_read_only(b->disk))) {
        return STATUS_IOERR;
    }
    r->to_guest = !write;
    r->disk.op = write ? DISK_WRITE : DISK_READ;
    r->disk.offset = sector * SECTOR;
    r->disk.len = len;
    r->disk.iov = r->iov;
    r->disk.iov_count = r->count;
    return -1;
}

static int prepare_range(struct blk *b, struct request *r, const struct virtq_chain *chain,
                         bool zeroes)
{
    uint8_t raw[RANGE_SIZE];
    if (!virtio_has(&b->virtio, zeroes ? F_WRITE_ZEROES : F_DISCARD)) {
        return STATUS_UNSUPP;
    }
    if (chain->readable_len != HEADER_SIZE + RANGE_SIZE ||
        virtq_read(chain, HEADER_SIZE, raw, sizeof(raw)) != sizeof(raw)) {
        return STATUS_IOERR; /* one range, as the configuration says */
    }
    uint64_t sector = load_le64(raw);
    uint32_t sectors = load_le32(raw + 8);
    uint32_t flags = load_le32(raw + 12);
    if ((flags & ~(zeroes ? RANGE_UNMAP : 0)) != 0) {
        return STATUS_UNSUPP; /* 5.2.6.2 */
    }
    if (sectors > DISCARD_SECTORS_MAX || !in_range(b, sector, sectors)) {
        return STATUS_IOERR;
    }
    if (sectors == 0) {
        return STATUS_OK;
    }
    r->disk.op = zeroes ? DISK_WRITE_ZEROES : DISK_DISCARD;
    r->disk.may_unmap = (flags & RANGE_UNMAP) != 0;
    r->disk.offset = sector * SECTOR;
    r->disk.len = sectors * SECTOR;
    return -1;
}

static int prepare(struct blk *b, struct request *r, const struct virtq_chain *chain)
{
    uint8_t header[HEADER_SIZE];
    if (virtq_read(chain, 0, header, sizeof(header)) != sizeof(header)) {
        return STATUS_IOERR;
    }
    uint64_t sector = load_le64(header + 8);
    switch (load_le32(header)) {
    case TYPE_IN:
        return prepare_data(b, r, chain, false, sector);
    case TYPE_OUT:
        return prepare_data(b, r, chain, true, sector);
    case TYPE_FLUSH:
        r->disk.op = DISK_FLUSH;
        return -1;
    case TYPE_GET_ID:
        if (chain->writable_len - 1 < sizeof(b->serial)) {
            return STATUS_IOERR;
        }
        (void)virtq_write(chain, 0, b->serial, sizeof(b->serial));
        return STATUS_OK;
    case TYPE_DISCARD:
        return prepare_range(b, r, chain, false);
    case TYPE_WRITE_ZEROES:
        return prepare_range(b, r, chain, true);
    default:
        return STATUS_UNSUPP;
    }
}

static bool serve(struct virtio *v, unsigned queue, const struct virtq_chain *chain)
{
    struct blk *b = blk_of(v);
    if (chain->writable_len == 0 || chain->writable_len > UINT32_MAX) {
        device_guest_error(&v->device, "no room for the status");
        (void)virtq_push(&v->queue[queue], v->memory, chain, 0);
        return true;
    }
    struct request *r = b->unused;
    if (r == NULL) {
        b->waiting |= 1u << queue;
        return false;
    }
    r->disk = (struct disk_request){.done = on_done, .data = r};
    r->to_guest = false;
    int status = prepare(b, r, chain);
    if (status >= 0) {
        uint8_t byte = (uint8_t)status;
        if (status != STATUS_OK) {
            device_guest_error(&v->device, "a request that ends with status %d", status);
        }
        (void)virtq_write(chain, chain->writable_len - 1, &byte, 1);
        (void)virtq_push(&v->queue[queue], v->memory, chain, (uint32_t)chain->writable_len);
        return true;
    }
    /* What moves no data of the guest's counts as one operation. */
    bool moves = r->disk.op == DISK_READ || r->disk.op == DISK_WRITE;
    if (!limit_take(&b->limit, moves ? r->disk.len : 0)) {
        b->held |= 1u << queue;
        return false;
    }
    uint32_t last = chain->writable_count - 1;
    r->status = (uint8_t *)chain->writable[last].iov_base + chain->writable[last].iov_len - 1;
    r->status_gpa = chain->gpa[chain->readable_count + last] + chain->writable[last].iov_len - 1;
    r->written = (uint32_t)chain->writable_len;
    r->queue = queue;
    r->life = b->life;
    r->token = (struct virtq_token){.id = chain->id, .count = chain->count};
    b->unused = r->next;
    b->in_flight++;
    disk_submit(b->disk, &r->disk);
    return true;
}

static void serve_queue(struct blk *b, unsigned index)
{
    b->loop_thread = pthread_self();
    b->holds_lock = true;
    virtio_serve(&b->virtio, index, serve);
    disk_kick(b->disk);
    b->holds_lock = false;
    signal_all(b);
    /* Requests may have ended inside, and nothing else would look at the chains that waited. */
    if (b->waiting != 0 && b->unused != NULL) {
        (void)loop_timer_set(b->batch, 0);
    }
}

static void blk_flush(struct virtio *v, unsigned index)
{
    struct blk *b = blk_of(v);
    (void)index;
    disk_kick(b->disk);
    signal_all(b);
}

static void blk_queue(struct virtio *v, unsigned index)
{
    serve_queue(blk_of(v), index);
}

static void drain(struct blk *b)
{
    b->holds_lock = true;
    (void)disk_drain(b->disk);
    b->holds_lock = false;
}

static void blk_reset(struct virtio *v)
{
    struct blk *b = blk_of(v);
    if (b->in_flight > 0 && pthread_equal(b->loop_thread, pthread_self())) {
        drain(b);
    }
    struct timespec end;
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += RESET_WAIT_SECONDS;
    int r = 0;
    while (b->in_flight > 0 && r == 0) {
        r = pthread_cond_clockwait(&b->idle, &v->device.lock, CLOCK_MONOTONIC, &end);
    }
    b->life++;
    b->waiting = 0;
    b->held = 0;
    b->writeback = b->default_writeback;
}

static int blk_quiesce(struct virtio *v, struct err *err)
{
    struct blk *b = blk_of(v);
    drain(b);
    if (b->in_flight > 0) {
        return err_say(err, EIO, "'%s' does not come to rest", v->device.instance);
    }
    signal_all(b);
    return 0;
}

static void config_read(struct virtio *v, uint32_t offset, void *data, uint32_t len)
{
    const struct blk *b = blk_of(v);
    uint8_t config[CONFIG_SIZE] = {0};
    store_le64(config + CONFIG_CAPACITY, disk_size(b->disk) / SECTOR);
    store_le32(config + CONFIG_SIZE_MAX, SEGMENT_BYTES_MAX);
    store_le32(config + CONFIG_SEG_MAX, SEGMENTS_MAX);
    store_le32(config + CONFIG_BLK_SIZE, SECTOR);
    config[CONFIG_PHYSICAL_EXPONENT] = 3; /* 4 KiB: what hosts' file systems like */
    store_le16(config + CONFIG_MIN_IO, 8);
    config[CONFIG_WRITEBACK] = b->writeback;
    store_le16(config + CONFIG_QUEUES, (uint16_t)v->queue_count);
    store_le32(config + CONFIG_DISCARD_SECTORS, DISCARD_SECTORS_MAX);
    store_le32(config + CONFIG_DISCARD_SEGMENTS, 1);
    store_le32(config + CONFIG_DISCARD_ALIGNMENT, 8);
    store_le32(config + CONFIG_ZEROES_SECTORS, DISCARD_SECTORS_MAX);
    store_le32(config + CONFIG_ZEROES_SEGMENTS, 1);
    config[CONFIG_ZEROES_MAY_UNMAP] = 1;
    memcpy(data, config + offset, len);
}

static void config_write(struct virtio *v, uint32_t offset, const void *data, uint32_t len)
{
    struct blk *b = blk_of(v);
    const uint8_t *byte = data;
    if (offset != CONFIG_WRITEBACK || len != 1 || *byte > 1 || !virtio_has(v, F_CONFIG_WCE)) {
        device_guest_error(&v->device, "configuration written at 0x%x", offset);
        return;
    }
    b->writeback = *byte;
}

static void blk_free(struct virtio *v)
{
    struct blk *b = blk_of(v);
    if (b->in_flight > 0) {
        drain(b);
    }
    loop_remove(b->batch);
    limit_done(&b->limit);
    disk_free(b->disk);
    (void)pthread_cond_destroy(&b->idle);
    virtio_done(v);
    free(b->pool);
    free(b);
}

static const struct virtio_ops blk_ops = {
    .type = VIRTIO_BLOCK,
    .name = "blk",
    .features = F_SIZE_MAX | F_SEG_MAX | F_RO | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY | F_CONFIG_WCE |
                F_MQ | F_DISCARD | F_WRITE_ZEROES,
    .config_size = CONFIG_SIZE,
    .config_read = config_read,
    .config_write = config_write,
    .queue = blk_queue,
    .flush = blk_flush,
    .reset = blk_reset,
    .quiesce = blk_quiesce,
    .free = blk_free,
};

static uint64_t features_to_hide(const struct virtio_blk_config *config)
{
    bool read_only = disk_read_only(config->disk);
    return (read_only ? F_DISCARD | F_WRITE_ZEROES : F_RO) |
           (disk_can_discard(config->disk) ? 0 : F_DISCARD) | (config->queues > 1 ? 0 : F_MQ);
}

static int init(struct blk *b, const char *instance, const struct virtio_blk_config *config,
                struct memory *memory, struct loop *loop)
{
    (void)pthread_cond_init(&b->idle, NULL);
    int r = virtio_init(&b->virtio, &blk_ops, &blk_state_table, instance, config->queues,
                        QUEUE_SIZE, memory, loop);
    b->pool = calloc(POOL_SIZE, sizeof(*b->pool));
    if (r == 0 && b->pool == NULL) {
        return -ENOMEM;
    }
    r = r < 0 ? r : loop_add_timer(loop, -1, on_batch, b, &b->batch);
    r = r < 0 ? r : limit_init(&b->limit, &config->limit, loop, on_limit, b);
    if (r < 0) {
        return r;
    }
    b->virtio.offered &= ~features_to_hide(config);
    b->default_writeback = !config->write_through;
    b->writeback = b->default_writeback;
    if (config->serial != NULL) {
        memcpy(b->serial, config->serial, strnlen(config->serial, sizeof(b->serial)));
    }
    for (unsigned i = 0; i < POOL_SIZE; i++) {
        b->pool[i].blk = b;
        b->pool[i].next = b->unused;
        b->unused = &b->pool[i];
    }
    return 0;
}

int virtio_blk_new(const char *instance, const struct virtio_blk_config *config,
                   struct memory *memory, struct loop *loop, struct virtio **ret, struct err *err)
{
    if (config->queues == 0 || config->queues > VIRTIO_BLK_QUEUES_MAX) {
        return err_say(err, EINVAL, "'%s' with %u queues: 1 to %d are possible", instance,
                       config->queues, VIRTIO_BLK_QUEUES_MAX);
    }
    struct blk *b = calloc(1, sizeof(*b));
    int r = b == NULL ? -ENOMEM : init(b, instance, config, memory, loop);
    if (r < 0) {
        if (b != NULL) {
            blk_free(&b->virtio);
        }
        return err_set(err, -r, "add '%s'", instance);
    }
    b->disk = config->disk;
    *ret = &b->virtio;
    return 0;
}

int virtio_blk_set_limit(struct virtio *v, const struct limit_options *limit)
{
    struct blk *b = blk_of(v);
    (void)pthread_mutex_lock(&v->device.lock);
    int r = limit_set(&b->limit, limit);
    (void)pthread_mutex_unlock(&v->device.lock);
    return r;
}
