/* One connection: credit in both directions, its two halves, its end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/macros.h"
#include "vmm/virtio/vsock_internal.h"

/* What guests may send ahead of slow readers: one of few gets much, one of many gets little. */
#define PROMISED_ALL (2U << 20)
#define PROMISED_MAX (256U << 10)
#define PROMISED_MIN (4U << 10)

#define PACKET_MAX (64U << 10)
#define PIECES_MAX 64
#define PATIENCE_NS (10 * NS_PER_SEC)

#define OP(op) (1U << (op))

static struct vsock_list *hash_of(struct vsock *vs, uint32_t host_port, uint32_t guest_port)
{
    uint32_t mixed = (host_port * 31U + guest_port) * 2654435761U;
    return &vs->hash[(mixed >> 16) % VSOCK_HASH_SIZE];
}

struct vsock_connection *vsock_find(struct vsock *vs, uint32_t host_port, uint32_t guest_port)
{
    struct vsock_connection *c = NULL;
    LIST_FOREACH(c, hash_of(vs, host_port, guest_port), same_hash)
    {
        if (c->host_port == host_port && c->guest_port == guest_port) {
            return c;
        }
    }
    return NULL;
}

struct vsock_connection *vsock_connection_new(struct vsock *vs)
{
    if (vs->count >= VSOCK_CONNECTIONS_MAX) {
        return NULL;
    }
    struct vsock_connection *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return NULL;
    }
    uint32_t left = PROMISED_ALL - MIN(vs->promised, PROMISED_ALL);
    *c = (struct vsock_connection){
        .owner = vs,
        .read_fd = -1,
        .write_fd = -1,
        .promised = MAX(MIN(left / 8, PROMISED_MAX), PROMISED_MIN),
    };
    vs->promised += c->promised;
    vs->count++;
    LIST_INSERT_HEAD(&vs->all, c, all);
    return c;
}

void vsock_connection_free(struct vsock_connection *c)
{
    LIST_REMOVE(c, all);
    vsock_host_drop(c);
    c->owner->promised -= c->promised;
    c->owner->count--;
    free(c->out);
    free(c);
}

void vsock_connection_name(struct vsock_connection *c, uint32_t host_port, uint32_t guest_port)
{
    c->host_port = host_port;
    c->guest_port = guest_port;
    c->hashed = true;
    LIST_INSERT_HEAD(hash_of(c->owner, host_port, guest_port), c, same_hash);
}

/* Takes it from where the guest's packets find it. */
static void forget(struct vsock_connection *c)
{
    if (c->hashed) {
        LIST_REMOVE(c, same_hash);
        c->hashed = false;
    }
    if (c->has_news) {
        TAILQ_REMOVE(&c->owner->news, c, in_news);
        c->has_news = false;
    }
    c->pending = 0;
    c->deadline_ns = 0;
}

void vsock_connection_close(struct vsock_connection *c)
{
    if (c->state != VSOCK_CLOSED) {
        forget(c);
        c->state = VSOCK_CLOSED;
        LIST_REMOVE(c, all);
        LIST_INSERT_HEAD(&c->owner->closed, c, all);
    }
}

void vsock_connection_orphan(struct vsock_connection *c)
{
    bool waits = c->out_len > 0 && !c->write_ended;
    if (!waits) {
        vsock_connection_close(c);
    } else if (c->state != VSOCK_CLOSED) {
        forget(c);
        c->guest_done = VSOCK_NEITHER;
        c->state = VSOCK_ORPHAN;
    }
}

void vsock_connection_abort(struct vsock_connection *c)
{
    vsock_reply_reset(c->owner, c->host_port, c->guest_port);
    vsock_connection_close(c);
}

/* Bytes that the guest has room for. What it says may be nonsense: then there is none. */
static uint32_t credit(const struct vsock_connection *c)
{
    uint32_t under_way = c->sent - c->peer_forwarded;
    return under_way >= c->peer_alloc ? 0 : c->peer_alloc - under_way;
}

static bool wants_data(const struct vsock_connection *c)
{
    return c->state == VSOCK_OPEN && c->readable && c->read_fd >= 0 &&
           (c->guest_done & VSOCK_NO_RECEIVE) == 0 && (c->host_done & VSOCK_NO_SEND) == 0;
}

bool vsock_connection_has_news(const struct vsock_connection *c)
{
    return c->pending != 0 || (c->state == VSOCK_OPEN && (c->host_done & ~c->told) != 0) ||
           (wants_data(c) && credit(c) > 0);
}

static void update_news(struct vsock_connection *c)
{
    if (credit(c) > 0) {
        c->credit_asked = false;
    } else if (wants_data(c) && !c->credit_asked) {
        c->credit_asked = true; /* once: the guest also tells by itself when it has read */
        c->pending |= OP(VSOCK_CREDIT_REQUEST);
    }
    /* Tell what was written on before the guest runs dry. */
    uint32_t thinks_used = c->received - c->forwarded_told;
    if (c->state == VSOCK_OPEN && c->forwarded != c->forwarded_told &&
        thinks_used > c->promised / 2 && (c->guest_done & VSOCK_NO_SEND) == 0) {
        c->pending |= OP(VSOCK_CREDIT_UPDATE);
    }
    if (!c->has_news && vsock_connection_has_news(c)) {
        c->has_news = true;
        TAILQ_INSERT_TAIL(&c->owner->news, c, in_news);
    }
}

static void free_out(struct vsock_connection *c)
{
    free(c->out);
    c->out = NULL;
    c->out_at = 0;
    c->out_len = 0;
}

/* Nobody reads on the host's side any more: what waits for him is worth nothing. */
static void write_failed(struct vsock_connection *c)
{
    c->forwarded += c->out_len;
    free_out(c);
    if (!c->write_ended) {
        c->write_ended = true;
        vsock_host_end_write(c);
    }
    c->host_done |= VSOCK_NO_RECEIVE;
}

static void flush(struct vsock_connection *c)
{
    while (c->out_len > 0 && c->writable && !c->write_ended) {
        uint32_t first = MIN(c->out_len, c->promised - c->out_at);
        struct iovec iov[2] = {
            {.iov_base = c->out + c->out_at, .iov_len = first},
            {.iov_base = c->out, .iov_len = c->out_len - first},
        };
        ssize_t n = vsock_host_write(c, iov, first < c->out_len ? 2 : 1);
        if (n == -EAGAIN) {
            return;
        }
        if (n < 0) {
            write_failed(c);
            return;
        }
        c->out_at = (uint32_t)((c->out_at + (size_t)n) % c->promised);
        c->out_len -= (uint32_t)n;
        c->forwarded += (uint32_t)n;
    }
    if (c->out_len == 0) {
        free_out(c);
    }
}

/* The host's side has said all and heard all. */
static void finish_host(struct vsock_connection *c)
{
    if (c->write_ended && c->read_fd < 0) {
        c->host_done |= VSOCK_NO_SEND;
    }
    if (c->write_ended && (c->host_done & VSOCK_NO_SEND) != 0) {
        c->host_done |= VSOCK_NO_RECEIVE;
        vsock_host_drop(c);
    }
}

static void finish_halves(struct vsock_connection *c)
{
    if ((c->guest_done & VSOCK_NO_SEND) != 0 && c->out_len == 0 && !c->write_ended) {
        c->write_ended = true;
        vsock_host_end_write(c);
    }
    if ((c->guest_done & VSOCK_NO_RECEIVE) != 0 && !c->read_ended) {
        c->read_ended = true;
        vsock_host_end_read(c);
    }
    if (c->guest_done == VSOCK_NEITHER && c->out_len == 0) {
        vsock_connection_abort(c); /* RST is also the answer to a clean end (5.10.6.6.1) */
        return;
    }
    finish_host(c);
}

void vsock_connection_advance(struct vsock_connection *c)
{
    if (c->state == VSOCK_HELLO) {
        vsock_host_hello(c);
        return;
    }
    flush(c);
    if (c->state == VSOCK_REQUESTED && c->gone) {
        vsock_connection_abort(c);
    } else if (c->state == VSOCK_ORPHAN && c->out_len == 0) {
        vsock_connection_close(c);
    } else if (c->state == VSOCK_OPEN) {
        if (c->gone) {
            write_failed(c);
        }
        finish_halves(c);
    }
    if (c->state == VSOCK_REQUESTED || c->state == VSOCK_OPEN) {
        update_news(c);
    }
}

void vsock_connection_request(struct vsock_connection *c, uint32_t guest_port)
{
    struct vsock *vs = c->owner;
    while (vsock_find(vs, vs->next_port, guest_port) != NULL) {
        vs->next_port++;
    }
    vsock_connection_name(c, vs->next_port++, guest_port);
    c->state = VSOCK_REQUESTED;
    c->pending = OP(VSOCK_REQUEST);
    c->deadline_ns = clock_monotonic_ns() + PATIENCE_NS;
    vs->timer_wanted = true;
    update_news(c);
}

/* Bytes [offset, offset + len) of pieces as iovecs, as far as max of them reach. */
static int slice(const struct iovec *piece, uint32_t count, uint64_t offset, uint64_t len,
                 struct iovec *iov, int max)
{
    int n = 0;
    for (uint32_t i = 0; i < count && n < max && len > 0; i++) {
        if (offset >= piece[i].iov_len) {
            offset -= piece[i].iov_len;
            continue;
        }
        size_t size = MIN(piece[i].iov_len - (size_t)offset, (size_t)len);
        iov[n++] = (struct iovec){
            .iov_base = (char *)piece[i].iov_base + offset,
            .iov_len = size,
        };
        len -= size;
        offset = 0;
    }
    return n;
}

static bool keep(struct vsock_connection *c, const struct virtq_chain *chain, uint64_t offset,
                 uint32_t len)
{
    if (c->out == NULL) {
        c->out = malloc(c->promised);
        c->out_at = 0;
    }
    if (c->out == NULL) {
        return false;
    }
    while (len > 0) {
        uint32_t end = (uint32_t)(((size_t)c->out_at + c->out_len) % c->promised);
        uint32_t n = MIN(len, c->promised - end);
        (void)virtq_read(chain, offset, c->out + end, n);
        c->out_len += n;
        offset += n;
        len -= n;
    }
    return true;
}

/* The guest's bytes: straight to the host's side, and only what does not go there is kept. */
static void take_data(struct vsock_connection *c, uint32_t len, const struct virtq_chain *chain)
{
    uint64_t offset = VSOCK_HEADER_SIZE;
    c->received += len;
    while (len > 0 && c->out_len == 0 && c->writable && !c->write_ended) {
        struct iovec iov[PIECES_MAX];
        int count = slice(chain->readable, chain->readable_count, offset, len, iov, PIECES_MAX);
        ssize_t n = vsock_host_write(c, iov, count);
        if (n == -EAGAIN) {
            break;
        }
        if (n < 0) {
            write_failed(c);
            break;
        }
        offset += (uint64_t)n;
        len -= (uint32_t)n;
        c->forwarded += (uint32_t)n;
    }
    if (c->write_ended) {
        c->forwarded += len;
    } else if (len > 0 && !keep(c, chain, offset, len)) {
        vsock_connection_abort(c);
    }
}

static void guest_broke(struct vsock_connection *c, const char *how, unsigned value)
{
    device_guest_error(&c->owner->virtio.device, "connection %u:%u: %s %u", c->guest_port,
                       c->host_port, how, value);
    vsock_connection_abort(c);
}

static void on_answer(struct vsock_connection *c, const struct vsock_header *h)
{
    if (h->op == VSOCK_RST) {
        vsock_connection_close(c);
        return;
    }
    if (h->op != VSOCK_RESPONSE || (c->pending & OP(VSOCK_REQUEST)) != 0) {
        guest_broke(c, "before its answer operation", h->op);
        return;
    }
    c->state = VSOCK_OPEN;
    c->deadline_ns = 0;
    if (vsock_host_accepted(c) < 0) {
        vsock_connection_abort(c);
        return;
    }
    vsock_connection_advance(c);
}

void vsock_connection_packet(struct vsock_connection *c, const struct vsock_header *h,
                             const struct virtq_chain *chain)
{
    c->peer_alloc = h->buf_alloc;
    c->peer_forwarded = h->fwd_cnt;
    if (c->state == VSOCK_REQUESTED) {
        on_answer(c, h);
        return;
    }
    switch (h->op) {
    case VSOCK_RST:
        vsock_connection_orphan(c);
        return;
    case VSOCK_RW:
        if ((c->guest_done & VSOCK_NO_SEND) != 0 || h->len > c->promised - c->out_len) {
            guest_broke(c, "no room for bytes", h->len);
            return;
        }
        take_data(c, h->len, chain);
        break;
    case VSOCK_SHUTDOWN:
        c->guest_done |= h->flags & VSOCK_NEITHER;
        break;
    case VSOCK_CREDIT_UPDATE:
        break;
    case VSOCK_CREDIT_REQUEST:
        c->pending |= OP(VSOCK_CREDIT_UPDATE);
        break;
    default:
        guest_broke(c, "operation", h->op);
        return;
    }
    vsock_connection_advance(c);
}

/* Reads from the host's side into the chain behind the header. Bytes; 0: none now. */
static uint32_t fill(struct vsock_connection *c, const struct virtq_chain *chain)
{
    struct iovec iov[PIECES_MAX];
    uint32_t most = MIN(credit(c), PACKET_MAX);
    int count =
        slice(chain->writable, chain->writable_count, VSOCK_HEADER_SIZE, most, iov, PIECES_MAX);
    ssize_t n = vsock_host_read(c, iov, count);
    if (n > 0) {
        c->sent += (uint32_t)n;
        return (uint32_t)n;
    }
    if (n != -EAGAIN) { /* the end, or an error that is one too */
        c->host_done |= VSOCK_NO_SEND;
        finish_host(c);
    }
    return 0;
}

/* Takes one operation from what is pending. */
static bool take(struct vsock_connection *c, unsigned op)
{
    bool there = (c->pending & OP(op)) != 0;
    c->pending &= ~OP(op);
    return there;
}

uint32_t vsock_connection_next(struct vsock_connection *c, const struct virtq_chain *chain)
{
    struct vsock_header h = {.src_port = c->host_port, .dst_port = c->guest_port};
    if (take(c, VSOCK_REQUEST)) {
        h.op = VSOCK_REQUEST;
    } else if (take(c, VSOCK_RESPONSE)) {
        h.op = VSOCK_RESPONSE;
    } else if (wants_data(c) && credit(c) > 0) {
        h.len = fill(c, chain);
        h.op = h.len > 0 ? VSOCK_RW : 0;
    }
    if (h.op == 0 && (c->host_done & ~c->told) != 0) {
        h.op = VSOCK_SHUTDOWN;
        h.flags = c->host_done;
        c->told = c->host_done;
    } else if (h.op == 0 && take(c, VSOCK_CREDIT_REQUEST)) {
        h.op = VSOCK_CREDIT_REQUEST;
    } else if (h.op == 0 && take(c, VSOCK_CREDIT_UPDATE)) {
        h.op = VSOCK_CREDIT_UPDATE;
    }
    if (h.op == 0) {
        return 0;
    }
    h.buf_alloc = c->promised;
    h.fwd_cnt = c->forwarded;
    c->forwarded_told = c->forwarded;
    (void)take(c, VSOCK_CREDIT_UPDATE); /* each packet says that too */
    vsock_put_header(c->owner, chain, &h);
    update_news(c);
    return (uint32_t)VSOCK_HEADER_SIZE + h.len;
}
