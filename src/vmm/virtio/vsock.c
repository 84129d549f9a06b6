#include "vmm/virtio/vsock.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/loop.h"
#include "freestanding/byteorder.h"
#include "vmm/virtio/vsock_internal.h"

#define QUEUE_SIZE 256
#define FIRST_PORT (1U << 30)

enum { QUEUE_RX, QUEUE_TX, QUEUE_EVENT, QUEUES };

static int check_vsock(void *object, struct err *err)
{
    (void)err;
    struct vsock *vs = object;
    vs->reset_event = true; /* 5.10.6.7: no connection outlives what was saved */
    return 0;
}

static const struct state_field vsock_fields[] = {
    STATE_OBJECTS(struct vsock, virtio, 1, &virtio_state_table),
    STATE_DONE,
};

/* The guest's address is not kept: it reads it anew after TRANSPORT_RESET, so clones differ. */
static const struct state_table vsock_state_table = {
    .name = "vsock",
    .version = 1,
    .oldest = 1,
    .fields = vsock_fields,
    .check = check_vsock,
};

static struct vsock *of(struct virtio *v)
{
    return CONTAINER_OF(v, struct vsock, virtio);
}

/* 5.10.6 */
static struct vsock_header decode(const uint8_t *raw)
{
    return (struct vsock_header){
        .src_cid = load_le64(raw),
        .dst_cid = load_le64(raw + 8),
        .src_port = load_le32(raw + 16),
        .dst_port = load_le32(raw + 20),
        .len = load_le32(raw + 24),
        .type = load_le16(raw + 28),
        .op = load_le16(raw + 30),
        .flags = load_le32(raw + 32),
        .buf_alloc = load_le32(raw + 36),
        .fwd_cnt = load_le32(raw + 40),
    };
}

void vsock_put_header(const struct vsock *vs, const struct virtq_chain *chain,
                      const struct vsock_header *h)
{
    uint8_t raw[VSOCK_HEADER_SIZE];
    store_le64(raw, VSOCK_HOST_CID);
    store_le64(raw + 8, vs->guest_cid);
    store_le32(raw + 16, h->src_port);
    store_le32(raw + 20, h->dst_port);
    store_le32(raw + 24, h->len);
    store_le16(raw + 28, VSOCK_TYPE_STREAM);
    store_le16(raw + 30, h->op);
    store_le32(raw + 32, h->flags);
    store_le32(raw + 36, h->buf_alloc);
    store_le32(raw + 40, h->fwd_cnt);
    (void)virtq_write(chain, 0, raw, sizeof(raw));
}

void vsock_reply_reset(struct vsock *vs, uint32_t host_port, uint32_t guest_port)
{
    if (vs->reset_count < VSOCK_RESETS_MAX) {
        unsigned at = (vs->reset_at + vs->reset_count++) % VSOCK_RESETS_MAX;
        vs->reset[at] = (struct vsock_reset){host_port, guest_port};
    }
}

static void guest_connects(struct vsock *vs, const struct vsock_header *h)
{
    struct vsock_connection *c = vsock_connection_new(vs);
    if (c == NULL) {
        vsock_reply_reset(vs, h->dst_port, h->src_port);
        return;
    }
    vsock_connection_name(c, h->dst_port, h->src_port);
    c->state = VSOCK_OPEN;
    c->peer_alloc = h->buf_alloc;
    c->peer_forwarded = h->fwd_cnt;
    if (vsock_host_connect(c) < 0) {
        vsock_connection_abort(c);
        return;
    }
    c->pending = 1U << VSOCK_RESPONSE;
    vsock_connection_advance(c);
}

void vsock_receive(struct vsock *vs, const struct virtq_chain *chain)
{
    uint8_t raw[VSOCK_HEADER_SIZE];
    struct device *device = &vs->virtio.device;
    vs->packets++;
    if (virtq_read(chain, 0, raw, sizeof(raw)) < sizeof(raw)) {
        device_guest_error(device, "packet of %llu bytes", (unsigned long long)chain->readable_len);
        return;
    }
    struct vsock_header h = decode(raw);
    if (h.src_cid != vs->guest_cid || h.dst_cid != VSOCK_HOST_CID) {
        device_guest_error(device, "packet from %llu to %llu", (unsigned long long)h.src_cid,
                           (unsigned long long)h.dst_cid);
        return;
    }
    struct vsock_connection *c = vsock_find(vs, h.dst_port, h.src_port);
    bool wrong = h.type != VSOCK_TYPE_STREAM ||
                 (h.op == VSOCK_RW && h.len > chain->readable_len - VSOCK_HEADER_SIZE);
    if (wrong) {
        device_guest_error(device, "packet of type %u with %u bytes", h.type, h.len);
    }
    if (wrong && c != NULL) {
        vsock_connection_abort(c);
    } else if (c != NULL) {
        vsock_connection_packet(c, &h, chain);
    } else if (h.op == VSOCK_REQUEST && !wrong) {
        guest_connects(vs, &h);
    } else if (h.op != VSOCK_RST) {
        vsock_reply_reset(vs, h.dst_port, h.src_port);
    }
}

/* The next packet for the guest; 0: there is none. */
static uint32_t next_packet(struct vsock *vs, const struct virtq_chain *chain)
{
    if (vs->reset_count > 0) {
        const struct vsock_reset *r = &vs->reset[vs->reset_at];
        struct vsock_header h = {
            .src_port = r->host_port,
            .dst_port = r->guest_port,
            .op = VSOCK_RST,
        };
        vs->reset_at = (vs->reset_at + 1) % VSOCK_RESETS_MAX;
        vs->reset_count--;
        vsock_put_header(vs, chain, &h);
        return VSOCK_HEADER_SIZE;
    }
    struct vsock_connection *c = NULL;
    while ((c = TAILQ_FIRST(&vs->news)) != NULL) {
        /* In turns: who has more to say comes again after all others. */
        TAILQ_REMOVE(&vs->news, c, in_news);
        c->has_news = false;
        uint32_t written = vsock_connection_next(c, chain);
        if (written > 0) {
            return written;
        }
    }
    return 0;
}

static void deliver(struct vsock *vs)
{
    struct virtio *v = &vs->virtio;
    struct virtq *q = &v->queue[QUEUE_RX];
    struct virtq_chain chain;
    unsigned left = q->size;
    bool quiet = false; /* no doorbell while buffers are there */
    while (v->active && (vs->reset_count > 0 || !TAILQ_EMPTY(&vs->news))) {
        if (left-- == 0) {
            virtio_kick(v, QUEUE_RX); /* the loop's other sources first */
            break;
        }
        if (!quiet) {
            virtq_doorbell_off(q, v->memory);
            quiet = true;
        }
        int r = virtq_pop(q, v->memory, &chain);
        if (r == -EAGAIN) {
            quiet = false;
            if (!virtq_doorbell_on(q, v->memory)) {
                break;
            }
            continue;
        }
        if (r < 0) {
            virtio_break(v, "a ring that breaks the rules");
            return;
        }
        if (chain.writable_len <= VSOCK_HEADER_SIZE) {
            device_guest_error(&v->device, "buffer of %llu bytes",
                               (unsigned long long)chain.writable_len);
            (void)virtq_push(q, v->memory, &chain, 0);
            continue;
        }
        uint32_t written = next_packet(vs, &chain);
        if (written == 0) {
            virtq_unpop(q, &chain);
        } else {
            (void)virtq_push(q, v->memory, &chain, written);
        }
    }
    virtio_interrupt_if_wanted(v, QUEUE_RX);
}

static void reap(struct vsock *vs)
{
    while (!LIST_EMPTY(&vs->closed)) {
        vsock_connection_free(LIST_FIRST(&vs->closed));
    }
}

/* Runs at the first of all deadlines; each is as far from its beginning as the others. */
static void arm(struct vsock *vs)
{
    int64_t first = 0;
    struct vsock_connection *c = NULL;
    LIST_FOREACH(c, &vs->all, all)
    {
        if (c->deadline_ns != 0 && (first == 0 || c->deadline_ns < first)) {
            first = c->deadline_ns;
        }
    }
    vs->timer_wanted = false;
    if (first != 0) {
        int64_t left = first - clock_monotonic_ns();
        (void)loop_timer_set(vs->timer, left > 0 ? left : 0);
        vs->timer_armed = true;
    }
}

void vsock_settle(struct vsock *vs)
{
    vsock_unix_accept(vs);
    deliver(vs);
    reap(vs);
    if (vs->timer_wanted && !vs->timer_armed) {
        arm(vs);
    }
}

static void on_timer(struct loop_source *source, void *data)
{
    (void)source;
    struct vsock *vs = data;
    (void)pthread_mutex_lock(&vs->virtio.device.lock);
    int64_t now = clock_monotonic_ns();
    struct vsock_connection *next = LIST_FIRST(&vs->all);
    while (next != NULL) {
        struct vsock_connection *c = next;
        next = LIST_NEXT(c, all);
        if (c->deadline_ns == 0 || c->deadline_ns > now) {
            continue;
        }
        if (c->state == VSOCK_HELLO) {
            vsock_connection_close(c);
        } else {
            vsock_connection_abort(c);
        }
    }
    vs->timer_armed = false;
    vs->timer_wanted = true;
    if (!vs->virtio.paused) {
        vsock_settle(vs);
    }
    (void)pthread_mutex_unlock(&vs->virtio.device.lock);
}

static void wake(struct vsock *vs)
{
    uint64_t one = 1;
    ssize_t n = write(vs->wake_fd, &one, sizeof(one));
    (void)n; /* EAGAIN: awake already */
}

/* After a reset or a resume: what only the loop's thread may do. */
static void on_wake(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)events;
    struct vsock *vs = data;
    uint64_t count = 0;
    ssize_t n = read(fd, &count, sizeof(count));
    (void)n;
    (void)pthread_mutex_lock(&vs->virtio.device.lock);
    if (!vs->virtio.paused) {
        struct vsock_connection *next = LIST_FIRST(&vs->all);
        while (next != NULL) {
            struct vsock_connection *c = next;
            next = LIST_NEXT(c, all);
            vsock_connection_advance(c);
        }
        vsock_settle(vs);
    }
    (void)pthread_mutex_unlock(&vs->virtio.device.lock);
}

static bool serve_packet(struct virtio *v, unsigned queue, const struct virtq_chain *chain)
{
    vsock_receive(of(v), chain);
    (void)virtq_push(&v->queue[queue], v->memory, chain, 0);
    return true;
}

static bool serve_event(struct virtio *v, unsigned queue, const struct virtq_chain *chain)
{
    struct vsock *vs = of(v);
    static const uint8_t transport_reset[4] = {0};
    if (!vs->reset_event) {
        return false; /* the buffer stays for when there is one */
    }
    uint32_t written = 0;
    if (chain->writable_len >= sizeof(transport_reset)) {
        written = (uint32_t)virtq_write(chain, 0, transport_reset, sizeof(transport_reset));
        vs->reset_event = false;
    } else {
        device_guest_error(&v->device, "event buffer of %llu bytes",
                           (unsigned long long)chain->writable_len);
    }
    (void)virtq_push(&v->queue[queue], v->memory, chain, written);
    return true;
}

static void on_queue(struct virtio *v, unsigned index)
{
    struct vsock *vs = of(v);
    reap(vs); /* what a reset ended gives its descriptors back before the new driver asks */
    if (index == QUEUE_TX) {
        virtio_serve(v, QUEUE_TX, serve_packet);
    } else if (index == QUEUE_EVENT && vs->reset_event) {
        virtio_serve(v, QUEUE_EVENT, serve_event);
    }
    vsock_settle(vs);
}

/* Any thread: the descriptors are let go by the loop's. */
static void on_reset(struct virtio *v)
{
    struct vsock *vs = of(v);
    struct vsock_connection *next = LIST_FIRST(&vs->all);
    while (next != NULL) {
        struct vsock_connection *c = next;
        next = LIST_NEXT(c, all);
        if (c->state == VSOCK_REQUESTED || c->state == VSOCK_OPEN) {
            c->give_back = c->port != NULL;
            vsock_connection_orphan(c);
        }
    }
    vs->reset_count = 0;
    vs->reset_event = false;
    wake(vs);
}

static void on_resume(struct virtio *v)
{
    struct vsock *vs = of(v);
    wake(vs);
}

static void config_read(struct virtio *v, uint32_t offset, void *data, uint32_t len)
{
    uint8_t config[8];
    store_le64(config, of(v)->guest_cid);
    memcpy(data, config + offset, len);
}

static void on_free(struct virtio *v)
{
    struct vsock *vs = of(v);
    while (!LIST_EMPTY(&vs->all)) {
        struct vsock_connection *c = LIST_FIRST(&vs->all);
        vsock_connection_close(c);
    }
    reap(vs);
    for (unsigned i = 0; i < vs->port_count; i++) {
        bool same = vs->port[i].read_fd == vs->port[i].write_fd;
        (void)close_fd(vs->port[i].read_fd);
        (void)(same ? -1 : close_fd(vs->port[i].write_fd));
    }
    vsock_unix_close(vs);
    loop_remove(vs->timer);
    loop_remove(vs->wake_source);
    (void)close_fd(vs->wake_fd);
    virtio_done(v);
    free(vs);
}

static const struct virtio_ops vsock_ops = {
    .type = VIRTIO_VSOCK,
    .name = "vsock",
    .config_size = 8,
    .config_read = config_read,
    .queue = on_queue,
    .reset = on_reset,
    .resume = on_resume,
    .free = on_free,
};

static int setup(struct vsock *vs, const char *instance, struct memory *memory, struct loop *loop)
{
    int r = virtio_init(&vs->virtio, &vsock_ops, &vsock_state_table, instance, QUEUES, QUEUE_SIZE,
                        memory, loop);
    if (r < 0) {
        return r;
    }
    vs->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (vs->wake_fd < 0) {
        return -errno;
    }
    r = loop_add_fd(loop, vs->wake_fd, EPOLLIN, on_wake, vs, &vs->wake_source);
    return r < 0 ? r : loop_add_timer(loop, -1, on_timer, vs, &vs->timer);
}

int vsock_new(const char *instance, uint64_t guest_cid, const char *uds, struct memory *memory,
              struct loop *loop, struct virtio **ret, struct err *err)
{
    if (guest_cid <= VSOCK_HOST_CID || guest_cid >= UINT32_MAX) {
        return err_say(err, EINVAL, "vsock's guest address %llu: not between 3 and 4294967294",
                       (unsigned long long)guest_cid);
    }
    struct vsock *vs = calloc(1, sizeof(*vs));
    if (vs == NULL) {
        return err_set(err, ENOMEM, "make vsock");
    }
    vs->guest_cid = guest_cid;
    vs->next_port = FIRST_PORT;
    vs->listen_fd = -1;
    vs->dir_fd = -1;
    vs->wake_fd = -1;
    LIST_INIT(&vs->all);
    LIST_INIT(&vs->closed);
    TAILQ_INIT(&vs->news);
    int r = setup(vs, instance, memory, loop);
    AUTO(virtio_freep) struct virtio *v = &vs->virtio;
    if (r < 0) {
        return err_set(err, -r, "make vsock");
    }
    if (uds != NULL) {
        r = vsock_unix_open(vs, uds, err);
    }
    if (r == 0) {
        *ret = TAKE_PTR(v);
    }
    return r;
}

void vsock_hold(struct virtio *v, bool hold)
{
    struct vsock *vs = of(v);
    (void)pthread_mutex_lock(&v->device.lock);
    bool freed = vs->held && !hold;
    vs->held = hold;
    if (freed && !v->paused) {
        vsock_settle(vs);
    }
    (void)pthread_mutex_unlock(&v->device.lock);
}

void vsock_set_connector(struct virtio *v, vsock_connect_fn *fn, void *data)
{
    struct vsock *vs = of(v);
    vs->connector = fn;
    vs->connector_data = data;
}

int vsock_connect_own(struct virtio *v)
{
    return vsock_unix_connect_own(of(v));
}

int vsock_bind_port(struct virtio *v, uint32_t port, int read_fd, int write_fd, struct err *err)
{
    struct vsock *vs = of(v);
    bool taken = vs->port_count == VSOCK_PORTS_MAX || (read_fd < 0 && write_fd < 0);
    for (unsigned i = 0; i < vs->port_count; i++) {
        taken = taken || vs->port[i].port == port;
    }
    if (taken) {
        bool same = read_fd == write_fd;
        (void)close_fd(read_fd);
        (void)(same ? -1 : close_fd(write_fd));
        return err_say(err, EINVAL, "vsock port %u: bound already, or too many", port);
    }
    vs->port[vs->port_count++] = (struct vsock_port){port, read_fd, write_fd};
    return 0;
}

/* Takes all packets that the guest has put out. */
static void take_rest(struct vsock *vs, int64_t until_ns)
{
    uint64_t before = 0;
    do {
        before = vs->packets;
        if (vs->virtio.active && vs->virtio.queue[QUEUE_TX].ready) {
            virtio_serve(&vs->virtio, QUEUE_TX, serve_packet);
        }
    } while (vs->packets != before && clock_monotonic_ns() < until_ns);
}

/* Writes on; fills fds with those that wait for a reader. */
static nfds_t write_rest(struct vsock *vs, struct pollfd *fds)
{
    nfds_t count = 0;
    struct vsock_connection *next = LIST_FIRST(&vs->all);
    while (next != NULL) {
        struct vsock_connection *c = next;
        next = LIST_NEXT(c, all);
        if (c->out_len > 0) {
            c->writable = true;
            vsock_connection_advance(c);
        }
        if (c->state != VSOCK_CLOSED && c->out_len > 0) {
            fds[count++] = (struct pollfd){.fd = c->write_fd, .events = POLLOUT};
        }
    }
    reap(vs);
    return count;
}

int vsock_drain(struct virtio *v, int64_t timeout_ns)
{
    struct vsock *vs = of(v);
    struct pollfd fds[VSOCK_CONNECTIONS_MAX];
    int64_t until = clock_monotonic_ns() + timeout_ns;
    (void)pthread_mutex_lock(&v->device.lock);
    take_rest(vs, until);
    int r = 0;
    for (;;) {
        nfds_t count = write_rest(vs, fds);
        int64_t left = until - clock_monotonic_ns();
        if (count == 0 || left <= 0) {
            r = count == 0 ? 0 : -ETIMEDOUT;
            break;
        }
        (void)poll(fds, count, (int)MIN(left / NS_PER_MS + 1, (int64_t)INT_MAX));
    }
    (void)pthread_mutex_unlock(&v->device.lock);
    return r;
}
