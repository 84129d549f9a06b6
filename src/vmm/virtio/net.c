#include "vmm/virtio/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/err.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/virtio/net_internal.h"

#define QUEUE_SIZE 256
#define MTU_MIN 68

/* Configuration (5.1.4) */
enum { CONFIG_STATUS = 6, CONFIG_PAIRS = 8, CONFIG_MTU = 10, CONFIG_SIZE = 12 };

#define STATUS_LINK_UP 1u
#define STATUS_ANNOUNCE 2u

static const uint64_t features_always =
    VIRTIO_NET_F_MTU | VIRTIO_NET_F_MAC | VIRTIO_NET_F_MRG_RXBUF | VIRTIO_NET_F_STATUS |
    VIRTIO_NET_F_CTRL_VQ | VIRTIO_NET_F_CTRL_RX | VIRTIO_NET_F_CTRL_VLAN |
    VIRTIO_NET_F_GUEST_ANNOUNCE | VIRTIO_NET_F_CTRL_MAC_ADDR;

static int check_net(void *object, struct err *err)
{
    struct net *net = object;
    uint64_t allowed = net->virtio.acked & NET_GUEST_OFFLOADS;
    if (net->pairs == 0 || net->pairs > net->backend->pairs ||
        (net->pairs > 1 && !virtio_has(&net->virtio, VIRTIO_NET_F_MQ)) ||
        (net->offloads & ~allowed) != 0) {
        return err_say(err, EINVAL, "%u queue pairs with offloads 0x%llx of 0x%llx", net->pairs,
                       (unsigned long long)net->offloads, (unsigned long long)allowed);
    }
    net->restored = true;
    return 0;
}

static const struct state_field net_fields[] = {
    STATE_OBJECTS(struct net, virtio, 1, &virtio_state_table),
    STATE_ARRAY(U8, struct net, mac),
    STATE(U32, struct net, pairs),
    STATE(U64, struct net, offloads),
    STATE(BOOL, struct net, announce),
    STATE_DONE,
};

/* Nothing is under way between two calls: frames are handed over whole in one. */
static const struct state_table net_state_table = {
    .name = "net",
    .version = 1,
    .oldest = 1,
    .fields = net_fields,
    .check = check_net,
};

static struct net *of(struct virtio *v)
{
    return CONTAINER_OF(v, struct net, virtio);
}

int net_configure(struct net *net, uint64_t offloads, uint32_t pairs)
{
    int r = net->backend->ops->configure(net->backend, offloads, pairs);
    if (r < 0) {
        return r;
    }
    /* What rang in queues that were not in use was not heard. */
    for (uint32_t i = 2 * net->pairs; i < 2 * pairs; i++) {
        virtio_kick(&net->virtio, i);
    }
    net->offloads = offloads;
    net->pairs = pairs;
    return 0;
}

void net_link_down(struct net *net, int error)
{
    if (!net->link_down) {
        log_debug("%s: the network is gone: %s", net->virtio.device.instance, strerror(-error));
        net->link_down = true;
        virtio_config_changed(&net->virtio);
    }
}

void net_limit_return(struct limit *limit, uint64_t bytes, uint64_t frames)
{
    limit_bucket_give(&limit->bytes, bytes);
    limit_bucket_give(&limit->operations, frames);
}

/* Without MQ the queues are those of one pair, and the control queue follows (5.1.2). */
static unsigned usable_pairs(const struct net *net)
{
    return virtio_has(&net->virtio, VIRTIO_NET_F_MQ) ? net->backend->pairs : 1;
}

static void on_queue(struct virtio *v, unsigned index)
{
    struct net *net = of(v);
    if (index == 2 * usable_pairs(net)) {
        if (virtio_has(v, VIRTIO_NET_F_CTRL_VQ)) {
            net_control(net, index);
        }
    } else if (index / 2 < net->pairs) {
        if (index % 2 == 0) {
            net_receive(net, index / 2);
        } else {
            net_send(net, index / 2);
        }
    }
}

/* Edges only: who has no buffers, or cannot write, is not asked again. */
static void on_event(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)fd;
    struct net_pair *pair = data;
    struct net *net = pair->net;
    struct virtio *v = &net->virtio;
    unsigned index = (unsigned)(pair - net->pair);
    (void)pthread_mutex_lock(&v->device.lock);
    bool was_writable = pair->writable;
    pair->readable = pair->readable || (events & ~(uint32_t)EPOLLOUT) != 0;
    pair->writable = pair->writable || (events & EPOLLOUT) != 0;
    if (!v->paused && (events & EPOLLOUT) != 0 && net->backend->ops->writable != NULL) {
        net->backend->ops->writable(net->backend);
    }
    if (!v->paused && v->active && index < net->pairs) {
        if (!was_writable && pair->writable) {
            net_send(net, index);
        }
        net_receive(net, index);
    }
    (void)pthread_mutex_unlock(&v->device.lock);
}

/* What a limit held back goes on. */
static void for_all_pairs(struct net *net, void (*fn)(struct net *net, unsigned pair))
{
    (void)pthread_mutex_lock(&net->virtio.device.lock);
    for (unsigned i = 0; i < net->pairs && net->virtio.active && !net->virtio.paused; i++) {
        fn(net, i);
    }
    (void)pthread_mutex_unlock(&net->virtio.device.lock);
}

static void on_rx_ready(void *data)
{
    for_all_pairs(data, net_receive);
}

static void on_tx_ready(void *data)
{
    for_all_pairs(data, net_send);
}

static void on_activate(struct virtio *v)
{
    struct net *net = of(v);
    int r = net_configure(net, v->acked & NET_GUEST_OFFLOADS, 1);
    if (r < 0) {
        net_link_down(net, r);
    }
}

static void on_reset(struct virtio *v)
{
    struct net *net = of(v);
    memcpy(net->mac, net->options.mac, sizeof(net->mac));
    net->announce = false;
    for (unsigned i = 0; i < net->backend->pairs; i++) {
        free(net->pair[i].held);
        net->pair[i].held = NULL;
        net->pair[i].held_len = 0;
    }
    (void)net_configure(net, 0, 1);
}

/* A restored guest is somewhere else: the backend learns what it agreed on, switches where it is.
 */
static void on_resume(struct virtio *v)
{
    struct net *net = of(v);
    if (!net->restored) {
        return;
    }
    net->restored = false;
    int r = net_configure(net, net->offloads, net->pairs);
    if (r < 0) {
        net_link_down(net, r);
    }
    if (v->active && virtio_has(v, VIRTIO_NET_F_GUEST_ANNOUNCE)) {
        net->announce = true;
        virtio_config_changed(v);
    }
}

static void config_read(struct virtio *v, uint32_t offset, void *data, uint32_t len)
{
    const struct net *net = of(v);
    uint8_t config[CONFIG_SIZE];
    unsigned status = (net->link_down ? 0 : STATUS_LINK_UP) | (net->announce ? STATUS_ANNOUNCE : 0);
    memcpy(config, net->mac, sizeof(net->mac));
    store_le16(config + CONFIG_STATUS, (uint16_t)status);
    store_le16(config + CONFIG_PAIRS, (uint16_t)net->backend->pairs);
    store_le16(config + CONFIG_MTU, net->options.mtu);
    memcpy(data, config + offset, len);
}

static void on_free(struct virtio *v)
{
    struct net *net = of(v);
    for (unsigned i = 0; i < NET_PAIRS_MAX; i++) {
        loop_remove(net->pair[i].source);
        free(net->pair[i].held);
    }
    limit_done(&net->rx_limit);
    limit_done(&net->tx_limit);
    net_backend_free(net->backend);
    virtio_done(v);
    free(net);
}

static const struct virtio_ops net_ops = {
    .type = VIRTIO_NET,
    .name = "net",
    .features = features_always | VIRTIO_NET_F_CTRL_GUEST_OFFLOADS | VIRTIO_NET_F_MQ |
                NET_GUEST_OFFLOADS | NET_HOST_OFFLOADS,
    .config_size = CONFIG_SIZE,
    .config_read = config_read,
    .activate = on_activate,
    .queue = on_queue,
    .reset = on_reset,
    .resume = on_resume,
    .free = on_free,
};

static uint64_t features_of(const struct net_backend *b)
{
    uint64_t features = features_always | b->features;
    features |= (b->features & NET_GUEST_OFFLOADS) != 0 ? VIRTIO_NET_F_CTRL_GUEST_OFFLOADS : 0;
    return features | (b->pairs > 1 ? VIRTIO_NET_F_MQ : 0);
}

static int setup(struct net *net, const char *instance, struct memory *memory, struct loop *loop)
{
    unsigned pairs = net->backend->pairs;
    int r = virtio_init(&net->virtio, &net_ops, &net_state_table, instance, 2 * pairs + 1,
                        QUEUE_SIZE, memory, loop);
    net->virtio.offered &= ~net_ops.features | features_of(net->backend);
    if (r == 0) {
        r = limit_init(&net->rx_limit, &net->options.receive_limit, loop, on_rx_ready, net);
    }
    if (r == 0) {
        r = limit_init(&net->tx_limit, &net->options.send_limit, loop, on_tx_ready, net);
    }
    for (unsigned i = 0; i < pairs && r == 0; i++) {
        net->pair[i].writable = true;
        r = loop_add_fd(loop, net->backend->fd[i], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                        on_event, &net->pair[i], &net->pair[i].source);
    }
    return r;
}

int net_new(const char *instance, const struct net_options *options, struct net_backend *backend,
            struct memory *memory, struct loop *loop, struct virtio **ret, struct err *err)
{
    AUTO(net_backend_freep) struct net_backend *b = backend;
    if (options->mtu < MTU_MIN || (options->mac[0] & 1) != 0) {
        return err_say(err, EINVAL,
                       "network card '%s' with MTU %u: at least %d, and no multicast address",
                       instance, options->mtu, MTU_MIN);
    }
    struct net *net = calloc(1, sizeof(*net));
    if (net == NULL) {
        return err_set(err, ENOMEM, "make network card '%s'", instance);
    }
    net->backend = TAKE_PTR(b);
    net->options = *options;
    net->pairs = 1;
    memcpy(net->mac, options->mac, sizeof(net->mac));
    for (unsigned i = 0; i < NET_PAIRS_MAX; i++) {
        net->pair[i].net = net;
    }
    int r = setup(net, instance, memory, loop);
    AUTO(virtio_freep) struct virtio *v = &net->virtio;
    if (r < 0) {
        return err_set(err, -r, "make network card '%s'", instance);
    }
    *ret = TAKE_PTR(v);
    return 0;
}

int net_set_limits(struct virtio *v, const struct limit_options *receive,
                   const struct limit_options *send)
{
    struct net *net = of(v);
    (void)pthread_mutex_lock(&v->device.lock);
    int r = limit_set(&net->rx_limit, receive);
    r = r < 0 ? r : limit_set(&net->tx_limit, send);
    (void)pthread_mutex_unlock(&v->device.lock);
    return r;
}
