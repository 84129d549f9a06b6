/*
 * Frames for the guest. Its buffers are taken ahead, enough for the longest frame that may come,
 * and what is left at the end of a batch is put back.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/memory.h"
#include "vmm/virtio/net_internal.h"

#define BUFFERS_MAX 64
#define PIECES_MAX 256
#define ETHERNET_MAX 18 /* header with a VLAN tag */
#define NUM_BUFFERS 10  /* offset in the header */

struct buffer {
    struct virtq_token token;
    uint32_t pieces;
    uint64_t bytes; /* 0: of no use; it has kept its place in the order, for put_back() */
};

/* Taken and not used yet: buffers [first, count), their pieces [first_piece, piece_count). */
struct gather {
    unsigned first, count, first_piece, piece_count;
    uint64_t bytes;
    struct buffer buffer[BUFFERS_MAX];
    struct iovec iov[PIECES_MAX];
    uint64_t gpa[PIECES_MAX];
};

static void to_front(struct gather *g)
{
    memmove(g->buffer, g->buffer + g->first, (g->count - g->first) * sizeof(g->buffer[0]));
    memmove(g->iov, g->iov + g->first_piece, (g->piece_count - g->first_piece) * sizeof(g->iov[0]));
    memmove(g->gpa, g->gpa + g->first_piece, (g->piece_count - g->first_piece) * sizeof(g->gpa[0]));
    g->count -= g->first;
    g->piece_count -= g->first_piece;
    g->first = 0;
    g->first_piece = 0;
}

static void append(struct gather *g, const struct virtq_chain *chain)
{
    g->buffer[g->count++] = (struct buffer){
        .token = {.id = chain->id, .count = chain->count},
        .pieces = chain->writable_count,
        .bytes = chain->writable_len,
    };
    memcpy(g->iov + g->piece_count, chain->writable,
           chain->writable_count * sizeof(chain->writable[0]));
    memcpy(g->gpa + g->piece_count, chain->gpa + chain->readable_count,
           chain->writable_count * sizeof(chain->gpa[0]));
    g->piece_count += chain->writable_count;
    g->bytes += chain->writable_len;
}

/* Takes buffers until there are need bytes. -EAGAIN: no more are there. -ENOBUFS: too many. */
static int gather(struct net *net, struct virtq *q, struct gather *g, uint64_t need)
{
    struct virtio *v = &net->virtio;
    struct virtq_chain chain;
    bool merge = virtio_has(v, VIRTIO_NET_F_MRG_RXBUF);
    size_t least = merge ? 1 : NET_HEADER_SIZE + ETHERNET_MAX; /* alone it must hold a frame */
    for (unsigned tries = 0; g->bytes < need; tries++) {
        if (g->first > 0 && (g->count == BUFFERS_MAX || g->piece_count > PIECES_MAX / 2)) {
            to_front(g);
        }
        if (g->count == BUFFERS_MAX) {
            return -ENOBUFS;
        }
        int r = tries < q->size ? virtq_pop(q, v->memory, &chain) : -EAGAIN;
        if (r < 0) {
            return r;
        }
        if (chain.writable_len < least || chain.writable_count > PIECES_MAX / 2) {
            device_guest_error(&v->device, "buffer of %llu bytes in %u pieces",
                               (unsigned long long)chain.writable_len, chain.writable_count);
            if (g->count == g->first) {
                (void)virtq_push(q, v->memory, &chain, 0);
                continue;
            }
            chain.writable_count = 0;
            chain.writable_len = 0;
        }
        if (chain.writable_count > PIECES_MAX - g->piece_count) {
            virtq_unpop(q, &chain);
            return -ENOBUFS;
        }
        append(g, &chain);
    }
    return 0;
}

/* The last ones first, so that they come again in their order. */
static void put_back(struct virtq *q, struct gather *g)
{
    while (g->count > g->first) {
        struct virtq_chain chain;
        chain.count = g->buffer[--g->count].token.count;
        virtq_unpop(q, &chain);
    }
}

static void copy_in(const struct gather *g, size_t offset, const uint8_t *data, size_t len)
{
    for (unsigned i = g->first_piece; i < g->piece_count && len > 0; i++) {
        if (offset >= g->iov[i].iov_len) {
            offset -= g->iov[i].iov_len;
            continue;
        }
        size_t n = MIN(g->iov[i].iov_len - offset, len);
        memcpy((char *)g->iov[i].iov_base + offset, data, n);
        data += n;
        len -= n;
        offset = 0;
    }
}

/* Gives back those of no use that are first now. */
static void skip_useless(struct net *net, struct virtq *q, struct gather *g)
{
    while (g->first < g->count && g->buffer[g->first].bytes == 0) {
        (void)virtq_push_token(q, net->virtio.memory, g->buffer[g->first++].token, 0);
    }
}

/* Gives the guest the frame of len bytes that lies in the first buffers. */
static void deliver(struct net *net, struct virtq *q, struct gather *g, size_t len)
{
    struct virtq_token token[BUFFERS_MAX];
    struct virtq_token useless[BUFFERS_MAX];
    uint32_t written[BUFFERS_MAX];
    uint32_t none[BUFFERS_MAX] = {0};
    unsigned used = 0;
    unsigned useless_count = 0;
    size_t left = len;
    unsigned piece = g->first_piece;
    while (left > 0 && g->first < g->count) {
        const struct buffer *b = &g->buffer[g->first++];
        if (b->bytes == 0) {
            useless[useless_count++] = b->token;
            continue;
        }
        size_t here = MIN(left, (size_t)b->bytes);
        token[used] = b->token;
        written[used++] = (uint32_t)here;
        g->bytes -= b->bytes;
        left -= here;
        for (unsigned i = 0; i < b->pieces; i++, piece++) {
            size_t n = MIN(here, g->iov[piece].iov_len);
            memory_mark(net->virtio.memory, g->gpa[piece], n);
            here -= n;
        }
    }
    uint8_t count[2];
    store_le16(count, (uint16_t)used);
    copy_in(g, NUM_BUFFERS, count, sizeof(count));
    g->first_piece = piece;
    (void)virtq_push_tokens(q, net->virtio.memory, token, written, used);
    (void)virtq_push_tokens(q, net->virtio.memory, useless, none, useless_count);
    skip_useless(net, q, g);
}

static uint64_t frame_max(const struct net *net)
{
    bool big = (net->offloads & ~(VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_GUEST_ECN)) != 0;
    return big ? NET_FRAME_MAX : NET_HEADER_SIZE + ETHERNET_MAX + net->options.mtu;
}

/*
 * Reads a frame of at most so many bytes. -EBUSY: the limit does not let it yet; it was asked for
 * the longest frame that may come, because a tap does not tell before.
 */
static ssize_t read_frame(struct net *net, unsigned index, const struct iovec *iov, unsigned count,
                          uint64_t most)
{
    most -= NET_HEADER_SIZE;
    if (!limit_take(&net->rx_limit, most)) {
        return -EBUSY;
    }
    ssize_t n = net->backend->ops->receive(net->backend, index, iov, (int)count);
    if (n <= (ssize_t)NET_HEADER_SIZE) {
        net_limit_return(&net->rx_limit, most, 1);
        return n < 0 ? n : -EIO;
    }
    uint64_t len = (uint64_t)n - NET_HEADER_SIZE;
    net_limit_return(&net->rx_limit, most - MIN(most, len), 0);
    return n;
}

/* Reads the next frame of unknown size to where it can wait. */
static int hold(struct net *net, unsigned index)
{
    struct net_pair *pair = &net->pair[index];
    if (pair->held == NULL) {
        pair->held = malloc(NET_FRAME_MAX);
    }
    if (pair->held == NULL) {
        return -ENOBUFS;
    }
    struct iovec iov = {.iov_base = pair->held, .iov_len = NET_FRAME_MAX};
    ssize_t n = read_frame(net, index, &iov, 1, frame_max(net));
    if (n < 0) {
        return (int)n;
    }
    pair->held_len = (size_t)n;
    return 0;
}

static void let_go(struct net_pair *pair)
{
    free(pair->held);
    pair->held = NULL;
    pair->held_len = 0;
}

/* A frame that no buffers of this guest can take. */
static int drop(struct net *net, unsigned index, ssize_t size)
{
    struct net_pair *pair = &net->pair[index];
    device_guest_error(&net->virtio.device, "no buffers for a frame of %zd bytes", size);
    if (pair->held_len > 0) {
        let_go(pair);
        return 0;
    }
    uint8_t none[1];
    struct iovec iov = {.iov_base = none, .iov_len = 0};
    ssize_t n = net->backend->ops->receive(net->backend, index, &iov, 1);
    return n < 0 ? (int)n : 0;
}

/* Into the buffers that are there, which are enough. */
static int fill(struct net *net, unsigned index, struct virtq *q, struct gather *g, uint64_t most)
{
    struct net_pair *pair = &net->pair[index];
    if (pair->held_len > 0) {
        copy_in(g, 0, pair->held, pair->held_len);
        deliver(net, q, g, pair->held_len);
        let_go(pair);
        return 0;
    }
    bool merge = virtio_has(&net->virtio, VIRTIO_NET_F_MRG_RXBUF);
    unsigned pieces = merge ? g->piece_count - g->first_piece : g->buffer[g->first].pieces;
    ssize_t n = read_frame(net, index, g->iov + g->first_piece, pieces, most);
    if (n < 0) {
        return (int)n;
    }
    deliver(net, q, g, (size_t)n);
    return 0;
}

/*
 * 0: one frame less. -EAGAIN: none is there. -ENOBUFS: no buffers. -EBUSY: the limit. Else the
 * backend's end, or that of the device, whose ring was broken.
 */
static int receive_one(struct net *net, unsigned index, struct virtq *q, struct gather *g)
{
    struct net_pair *pair = &net->pair[index];
    bool merge = virtio_has(&net->virtio, VIRTIO_NET_F_MRG_RXBUF);
    ssize_t size =
        pair->held_len > 0 ? (ssize_t)pair->held_len : net->backend->ops->next(net->backend, index);
    if (size < 0) {
        return (int)size;
    }
    uint64_t need = size > 0 ? (uint64_t)size : frame_max(net);
    int r = gather(net, q, g, merge ? need : 1);
    if (r == -EPROTO) {
        virtio_break(&net->virtio, "a ring that breaks the rules");
        return r;
    }
    if (!merge && r == 0 && size > 0 && g->buffer[g->first].bytes < need) {
        return drop(net, index, size);
    }
    if (r == 0) {
        return fill(net, index, q, g, need);
    }
    if (size > 0) {
        return r == -EAGAIN ? -ENOBUFS : drop(net, index, size);
    }
    if (g->count == g->first) {
        return -ENOBUFS;
    }
    /* Some buffers, and a frame of unknown size that may or may not fit. */
    return hold(net, index);
}

void net_receive(struct net *net, unsigned index)
{
    struct virtio *v = &net->virtio;
    struct virtq *q = &v->queue[2 * index];
    struct net_pair *pair = &net->pair[index];
    struct gather g;
    g.first = g.count = g.first_piece = g.piece_count = 0;
    g.bytes = 0;
    if (!v->active || !q->ready || !(pair->readable || pair->held_len > 0) || net->link_down) {
        return;
    }
    virtq_doorbell_off(q, v->memory);
    int r = 0;
    for (unsigned left = q->size; r == 0 && v->active; left--) {
        if (left == 0) {
            virtio_kick(v, 2 * index); /* the loop's other sources first */
            break;
        }
        r = receive_one(net, index, q, &g);
        /* With all buffers in hand, so that the next new one rings. */
        if (r == -ENOBUFS && virtq_doorbell_on(q, v->memory)) {
            virtq_doorbell_off(q, v->memory);
            r = 0;
        }
    }
    put_back(q, &g);
    if (r == -EAGAIN) {
        pair->readable = false;
    } else if (r < 0 && r != -ENOBUFS && r != -EBUSY && v->active) {
        net_link_down(net, r);
    }
    virtio_interrupt_if_wanted(v, 2 * index);
}
