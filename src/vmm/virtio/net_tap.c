/* Frames through a tap: the kernel reads and writes the guest's memory itself. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/err.h"
#include "base/io.h"
#include "base/macros.h"
#include "vmm/virtio/net_backend.h"

struct net_tap {
    struct net_backend backend;
    bool attached[NET_PAIRS_MAX];
};

static const struct {
    uint64_t feature;
    unsigned offload;
} offload_bits[] = {
    {VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM}, {VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4},
    {VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6}, {VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN},
    {VIRTIO_NET_F_GUEST_UFO, TUN_F_UFO},
};

static int tap_configure(struct net_backend *b, uint64_t guest_offloads, unsigned pairs)
{
    struct net_tap *tap = CONTAINER_OF(b, struct net_tap, backend);
    unsigned offload = 0;
    for (size_t i = 0; i < COUNT(offload_bits); i++) {
        offload |= (guest_offloads & offload_bits[i].feature) != 0 ? offload_bits[i].offload : 0;
    }
    /* Frames go only to queues that the guest looks at. The first one stays. */
    for (unsigned i = 1; i < b->pairs; i++) {
        bool wanted = i < pairs;
        struct ifreq ifr = {.ifr_flags = wanted ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE};
        if (wanted != tap->attached[i] && ioctl(b->fd[i], TUNSETQUEUE, &ifr) < 0) {
            return -errno;
        }
        tap->attached[i] = wanted;
    }
    return ioctl(b->fd[0], TUNSETOFFLOAD, (unsigned long)offload) < 0 ? -errno : 0;
}

static ssize_t tap_next(struct net_backend *b, unsigned pair)
{
    (void)b;
    (void)pair;
    return 0;
}

static ssize_t tap_receive(struct net_backend *b, unsigned pair, const struct iovec *iov, int count)
{
    for (;;) {
        ssize_t n = readv(b->fd[pair], iov, count);
        if (n >= 0) {
            return n;
        }
        if (errno != EINTR) {
            return -errno;
        }
    }
}

static int tap_send(struct net_backend *b, unsigned pair, const struct iovec *iov, int count)
{
    for (;;) {
        if (writev(b->fd[pair], iov, count) >= 0) {
            return 0;
        }
        if (errno != EINTR) {
            return -errno;
        }
    }
}

static void tap_free(struct net_backend *b)
{
    for (unsigned i = 0; i < NET_PAIRS_MAX; i++) {
        (void)close_fd(b->fd[i]);
    }
    free(CONTAINER_OF(b, struct net_tap, backend));
}

static const struct net_backend_ops tap_ops = {
    .configure = tap_configure,
    .next = tap_next,
    .receive = tap_receive,
    .send = tap_send,
    .free = tap_free,
};

static struct net_backend *tap_new(unsigned pairs)
{
    struct net_tap *tap = calloc(1, sizeof(*tap));
    if (tap == NULL) {
        return NULL;
    }
    tap->backend.ops = &tap_ops;
    tap->backend.pairs = pairs;
    for (unsigned i = 0; i < NET_PAIRS_MAX; i++) {
        tap->backend.fd[i] = -1;
        tap->attached[i] = i < pairs;
    }
    return &tap->backend;
}

/* The header that virtio 1 has, and what this kernel can do. */
static int prepare(struct net_backend *b, struct err *err)
{
    static const uint64_t ufo = VIRTIO_NET_F_GUEST_UFO | VIRTIO_NET_F_HOST_UFO;
    int size = (int)NET_HEADER_SIZE;
    int little = 1;
    for (unsigned i = 0; i < b->pairs; i++) {
        if (ioctl(b->fd[i], TUNSETVNETHDRSZ, &size) < 0 ||
            ioctl(b->fd[i], TUNSETVNETLE, &little) < 0) {
            return err_set(err, errno, "set the header of a tap");
        }
    }
    b->features = NET_GUEST_OFFLOADS | NET_HOST_OFFLOADS;
    int r = tap_configure(b, NET_GUEST_OFFLOADS, b->pairs);
    if (r == -EINVAL) { /* a kernel without UFO */
        b->features &= ~ufo;
        r = tap_configure(b, b->features & NET_GUEST_OFFLOADS, b->pairs);
    }
    if (r == 0) {
        r = tap_configure(b, 0, 1);
    }
    return r < 0 ? err_set(err, -r, "set the offloads of a tap") : 0;
}

int net_tap_open(const char *name, unsigned pairs, struct net_backend **ret, struct err *err)
{
    if (pairs == 0 || pairs > NET_PAIRS_MAX || strlen(name) >= IFNAMSIZ) {
        return err_say(err, EINVAL, "tap '%s' with %u queue pairs: 1 to %d, names under %d bytes",
                       name, pairs, NET_PAIRS_MAX, IFNAMSIZ);
    }
    AUTO(net_backend_freep) struct net_backend *b = tap_new(pairs);
    if (b == NULL) {
        return err_set(err, ENOMEM, "open tap '%s'", name);
    }
    struct ifreq ifr = {.ifr_flags = 0};
    unsigned flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (pairs > 1 ? IFF_MULTI_QUEUE : 0U);
    (void)snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
    for (unsigned i = 0; i < pairs; i++) {
        b->fd[i] = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (b->fd[i] < 0) {
            return err_set(err, errno, "open '/dev/net/tun'");
        }
        ifr.ifr_flags = (short)flags;
        /* The first call fills in the name for the others. */
        if (ioctl(b->fd[i], TUNSETIFF, &ifr) < 0) {
            return err_set(err, errno, "open queue %u of tap '%s'", i, name);
        }
    }
    int r = prepare(b, err);
    if (r == 0) {
        *ret = TAKE_PTR(b);
    }
    return r;
}

int net_tap_adopt(const int *fd, unsigned pairs, struct net_backend **ret, struct err *err)
{
    if (pairs == 0 || pairs > NET_PAIRS_MAX) {
        return err_say(err, EINVAL, "tap with %u queue pairs: 1 to %d", pairs, NET_PAIRS_MAX);
    }
    for (unsigned i = 0; i < pairs; i++) {
        struct ifreq ifr = {.ifr_flags = 0};
        if (ioctl(fd[i], TUNGETIFF, &ifr) < 0) {
            return err_set(err, errno, "descriptor %d is not that of a tap", fd[i]);
        }
        unsigned flags = (unsigned short)ifr.ifr_flags;
        if ((flags & (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)) !=
                (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR) ||
            (pairs > 1 && (flags & IFF_MULTI_QUEUE) == 0)) {
            return err_say(err, EINVAL,
                           "tap '%s' was not opened with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR%s",
                           ifr.ifr_name, pairs > 1 ? " and IFF_MULTI_QUEUE" : "");
        }
    }
    AUTO(net_backend_freep) struct net_backend *b = tap_new(pairs);
    if (b == NULL) {
        return err_set(err, ENOMEM, "use a tap");
    }
    int r = 0;
    for (unsigned i = 0; i < pairs && r == 0; i++) {
        b->fd[i] = fd[i];
        r = set_nonblock(fd[i], true);
    }
    r = r < 0 ? err_set(err, -r, "use a tap") : prepare(b, err);
    if (r < 0) {
        for (unsigned i = 0; i < pairs; i++) {
            b->fd[i] = -1; /* still the caller's */
        }
        return r;
    }
    *ret = TAKE_PTR(b);
    return 0;
}

void net_tap_name(const struct net_backend *b, char name[16])
{
    struct ifreq ifr = {.ifr_flags = 0};
    bool there = ioctl(b->fd[0], TUNGETIFF, &ifr) == 0;
    (void)snprintf(name, 16, "%s", there ? ifr.ifr_name : "");
}
