#include "vmm/virtio/fs.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/disk/iov.h"
#include "vmm/fs/fs_process.h"
#include "vmm/memory.h"
#include "vmm/virtio/virtio.h"

#define QUEUES 2 /* forgetting has one of its own (5.11.2) */
#define QUEUE_SIZE 128
#define POOL_SIZE 16 /* requests that the server has, or is being given */
/* A chain is no longer than its queue; a piece may be cut where regions of memory meet. */
#define PIECES_MAX (QUEUE_SIZE + 8)
/* Calls of one round, so that one share does not keep all else waiting. */
#define ROUND_MAX 64
#define QUIESCE_MS 5000
#define CONFIG_SIZE (VIRTIO_FS_TAG_MAX + 4)

/* A request that the server has. */
struct request {
    bool busy;
    bool dropped; /* a reset came: the answer goes nowhere */
    unsigned queue;
    struct virtq_token token;
    uint32_t room;
    unsigned count; /* pieces for the answer */
    struct iovec iov[PIECES_MAX];
    uint64_t gpa[PIECES_MAX];
};

struct fs {
    struct virtio virtio;
    char tag[VIRTIO_FS_TAG_MAX];
    int fd;
    struct loop_source *source;
    void (*lost)(void *data);
    void *data;
    bool is_lost;
    struct request *pool;
    uint32_t in_flight;
    uint32_t waiting; /* queues with chains that found no room, one bit each */
    /* What is being sent: at most one request at a time. */
    bool sending;
    struct iovec out[PIECES_MAX + 1];
    unsigned out_count;
    struct iov_cursor out_at;
    uint64_t out_left;
    struct fs_request out_header;
    /* What is being received. */
    struct fs_answer in_header;
    uint32_t in_have; /* bytes of the header */
    struct iov_cursor in_at;
    uint32_t in_left; /* bytes of the answer */
};

static const struct state_field fs_fields[] = {
    STATE_OBJECTS(struct fs, virtio, 1, &virtio_state_table),
    STATE_DONE,
};

/* What the guest holds are numbers and open files of a process that will not be there. */
static int refuse_state(void *object, struct err *err)
{
    const struct fs *fs = object;
    return err_say(err, EOPNOTSUPP, "'%s': a machine with shared directories cannot be saved",
                   fs->virtio.device.instance);
}

static const struct state_table fs_state_table = {
    .name = "virtio-fs",
    .version = 1,
    .oldest = 1,
    .fields = fs_fields,
    .check = refuse_state,
    .prepare = refuse_state,
};

static struct fs *fs_of(struct virtio *v)
{
    return CONTAINER_OF(v, struct fs, virtio);
}

static void lose(struct fs *fs)
{
    if (fs->is_lost) {
        return;
    }
    fs->is_lost = true;
    loop_remove(fs->source);
    fs->source = NULL;
    virtio_break(&fs->virtio, "the server of this share is gone");
    if (fs->lost != NULL) {
        fs->lost(fs->data);
    }
}

static void watch(struct fs *fs)
{
    if (fs->source != NULL) {
        (void)loop_source_set_events(fs->source, EPOLLIN | (fs->sending ? EPOLLOUT : 0u));
    }
}

/* Sends on; false: the socket takes no more now. */
static bool send_more(struct fs *fs)
{
    while (fs->sending) {
        struct iovec pieces[PIECES_MAX + 1];
        uint64_t len;
        unsigned count = iov_slice(&fs->out_at, fs->out_left, pieces, COUNT(pieces), &len);
        ssize_t n = writev(fs->fd, pieces, (int)count);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            if (errno != EAGAIN) {
                lose(fs);
            }
            return false;
        }
        iov_advance(&fs->out_at, (uint64_t)n);
        fs->out_left -= (uint64_t)n;
        fs->sending = fs->out_left > 0;
    }
    return true;
}

static struct request *unused_request(struct fs *fs)
{
    for (unsigned i = 0; i < POOL_SIZE; i++) {
        if (!fs->pool[i].busy) {
            return &fs->pool[i];
        }
    }
    return NULL;
}

static bool fits(const struct virtq_chain *chain)
{
    return chain->readable_len > 0 && chain->readable_len <= FS_MESSAGE_MAX &&
           chain->writable_len <= FS_MESSAGE_MAX && chain->readable_count <= PIECES_MAX &&
           chain->writable_count <= PIECES_MAX;
}

static bool serve(struct virtio *v, unsigned queue, const struct virtq_chain *chain)
{
    struct fs *fs = fs_of(v);
    if (!fits(chain)) {
        device_guest_error(&v->device, "a request of %u and %u pieces", chain->readable_count,
                           chain->writable_count);
        (void)virtq_push(&v->queue[queue], v->memory, chain, 0);
        return true;
    }
    struct request *r = fs->sending ? NULL : unused_request(fs);
    if (r == NULL) {
        fs->waiting |= 1u << queue;
        return false;
    }
    r->busy = true;
    r->dropped = false;
    r->queue = queue;
    r->token = (struct virtq_token){.id = chain->id, .count = chain->count};
    r->room = (uint32_t)chain->writable_len;
    r->count = chain->writable_count;
    memcpy(r->iov, chain->writable, r->count * sizeof(r->iov[0]));
    memcpy(r->gpa, chain->gpa + chain->readable_count, r->count * sizeof(r->gpa[0]));
    fs->in_flight++;
    fs->out_header = (struct fs_request){
        .id = (uint32_t)(r - fs->pool),
        .length = (uint32_t)chain->readable_len,
        .room = r->room,
    };
    fs->out[0] = (struct iovec){.iov_base = &fs->out_header, .iov_len = sizeof(fs->out_header)};
    memcpy(fs->out + 1, chain->readable, chain->readable_count * sizeof(fs->out[0]));
    fs->out_at = (struct iov_cursor){.iov = fs->out, .count = chain->readable_count + 1};
    fs->out_left = sizeof(fs->out_header) + chain->readable_len;
    fs->sending = true;
    (void)send_more(fs);
    return true;
}

static void fs_queue(struct virtio *v, unsigned index)
{
    virtio_serve(v, index, serve);
    watch(fs_of(v));
}

static void serve_waiting(struct fs *fs)
{
    struct virtio *v = &fs->virtio;
    uint32_t waiting = fs->waiting;
    if (v->paused || fs->sending || waiting == 0) {
        return;
    }
    fs->waiting = 0;
    for (unsigned i = 0; i < v->queue_count; i++) {
        if ((waiting & 1u << i) != 0 && v->active) {
            virtio_serve(v, i, serve);
        }
    }
}

static void finish(struct fs *fs, struct request *r)
{
    struct virtio *v = &fs->virtio;
    uint64_t left = fs->in_header.length;
    for (unsigned i = 0; !r->dropped && i < r->count && left > 0; i++) {
        uint64_t n = MIN(left, (uint64_t)r->iov[i].iov_len);
        memory_mark(v->memory, r->gpa[i], n);
        left -= n;
    }
    if (!r->dropped) {
        (void)virtq_push_token(&v->queue[r->queue], v->memory, r->token, fs->in_header.length);
        virtio_interrupt_if_wanted(v, r->queue);
    }
    r->busy = false;
    fs->in_flight--;
    fs->in_have = 0;
}

static ssize_t receive_header(struct fs *fs)
{
    uint8_t *header = (uint8_t *)&fs->in_header;
    ssize_t n = read(fs->fd, header + fs->in_have, sizeof(fs->in_header) - fs->in_have);
    if (n <= 0) {
        return n;
    }
    fs->in_have += (uint32_t)n;
    if (fs->in_have < sizeof(fs->in_header)) {
        return n;
    }
    const struct fs_answer *answer = &fs->in_header;
    if (answer->id >= POOL_SIZE || !fs->pool[answer->id].busy ||
        answer->length > fs->pool[answer->id].room) {
        return 0; /* as good as gone */
    }
    const struct request *r = &fs->pool[answer->id];
    fs->in_at = (struct iov_cursor){.iov = r->iov, .count = r->count};
    fs->in_left = answer->length;
    return n;
}

static ssize_t receive_body(struct fs *fs)
{
    uint8_t nowhere[4096];
    struct iovec pieces[PIECES_MAX];
    uint64_t len = MIN((uint64_t)fs->in_left, (uint64_t)sizeof(nowhere));
    unsigned count = 1;
    if (fs->pool[fs->in_header.id].dropped) {
        pieces[0] = (struct iovec){.iov_base = nowhere, .iov_len = (size_t)len};
    } else {
        count = iov_slice(&fs->in_at, fs->in_left, pieces, COUNT(pieces), &len);
    }
    ssize_t n = readv(fs->fd, pieces, (int)count);
    if (n > 0) {
        iov_advance(&fs->in_at, (uint64_t)n);
        fs->in_left -= (uint32_t)n;
    }
    return n;
}

/* false: nothing is there now. */
static bool receive_more(struct fs *fs)
{
    bool header = fs->in_have < sizeof(fs->in_header);
    ssize_t n = header ? receive_header(fs) : receive_body(fs);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return errno == EINTR;
    }
    if (n <= 0) {
        lose(fs);
        return false;
    }
    if (fs->in_have == sizeof(fs->in_header) && fs->in_left == 0) {
        finish(fs, &fs->pool[fs->in_header.id]);
    }
    return true;
}

/* The lock is held. */
static void transfer(struct fs *fs)
{
    (void)send_more(fs);
    for (unsigned i = 0; i < ROUND_MAX && !fs->is_lost && receive_more(fs); i++) {
    }
    if (!fs->is_lost) {
        serve_waiting(fs);
        watch(fs);
    }
}

static void on_socket(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)fd;
    (void)events;
    struct fs *fs = data;
    (void)pthread_mutex_lock(&fs->virtio.device.lock);
    transfer(fs);
    (void)pthread_mutex_unlock(&fs->virtio.device.lock);
}

/*
 * The server goes on with what it has; its answers are then read and forgotten. A request that is
 * half sent is sent to its end, whatever the guest does with its buffers: they stay memory.
 */
static void fs_reset(struct virtio *v)
{
    struct fs *fs = fs_of(v);
    for (unsigned i = 0; i < POOL_SIZE; i++) {
        fs->pool[i].dropped = true;
    }
    fs->waiting = 0;
}

static int fs_quiesce(struct virtio *v, struct err *err)
{
    struct fs *fs = fs_of(v);
    while (fs->in_flight > 0 && !fs->is_lost) {
        short events = fs->sending ? POLLIN | POLLOUT : POLLIN;
        struct pollfd poller = {.fd = fs->fd, .events = events};
        int n = poll(&poller, 1, QUIESCE_MS);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            return err_say(err, EIO, "'%s' does not come to rest", v->device.instance);
        }
        transfer(fs);
    }
    return 0;
}

static void config_read(struct virtio *v, uint32_t offset, void *data, uint32_t len)
{
    uint8_t config[CONFIG_SIZE];
    memcpy(config, fs_of(v)->tag, VIRTIO_FS_TAG_MAX);
    store_le32(config + VIRTIO_FS_TAG_MAX, QUEUES - 1);
    memcpy(data, config + offset, len);
}

static void fs_free(struct virtio *v)
{
    struct fs *fs = fs_of(v);
    loop_remove(fs->source);
    (void)close_fd(fs->fd);
    virtio_done(v);
    free(fs->pool);
    free(fs);
}

static const struct virtio_ops fs_ops = {
    .type = VIRTIO_FS,
    .name = "fs",
    .config_size = CONFIG_SIZE,
    .config_read = config_read,
    .queue = fs_queue,
    .reset = fs_reset,
    .quiesce = fs_quiesce,
    .free = fs_free,
};

int virtio_fs_new(const char *instance, const struct virtio_fs_config *config,
                  struct memory *memory, struct loop *loop, struct virtio **ret, struct err *err)
{
    size_t tag_len = strlen(config->tag);
    if (tag_len == 0 || tag_len > VIRTIO_FS_TAG_MAX) {
        return err_say(err, EINVAL, "share '%s': a tag has 1 to %d bytes", config->tag,
                       VIRTIO_FS_TAG_MAX);
    }
    struct fs *fs = calloc(1, sizeof(*fs));
    if (fs == NULL) {
        return err_set(err, ENOMEM, "add '%s'", instance);
    }
    fs->fd = -1;
    fs->lost = config->lost;
    fs->data = config->data;
    memcpy(fs->tag, config->tag, tag_len);
    fs->pool = calloc(POOL_SIZE, sizeof(*fs->pool));
    int r = virtio_init(&fs->virtio, &fs_ops, &fs_state_table, instance, QUEUES, QUEUE_SIZE, memory,
                        loop);
    r = r == 0 && fs->pool == NULL ? -ENOMEM : r;
    r = r < 0 ? r : loop_add_fd(loop, config->fd, EPOLLIN, on_socket, fs, &fs->source);
    if (r < 0) {
        fs_free(&fs->virtio);
        return err_set(err, -r, "add '%s'", instance);
    }
    fs->fd = config->fd;
    *ret = &fs->virtio;
    return 0;
}
