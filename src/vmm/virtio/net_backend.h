/*
 * net_backend.h - where the frames of a virtio-net device go to and come from.
 *
 * A frame is handed over with the 12 bytes of struct virtio_net_hdr_v1 before it (virtio 1.2,
 * 5.1.6), little endian. Functions run with the device's lock held, on the loop's thread where not
 * said otherwise, and never wait.
 */
#ifndef VMM_VIRTIO_NET_BACKEND_H
#define VMM_VIRTIO_NET_BACKEND_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/cleanup.h"

struct err;
struct net_backend;

#define NET_HEADER_SIZE ((size_t)12)
#define NET_PAIRS_MAX 8
/* The longest frame, header included: 64 KiB of IP behind an Ethernet header with a VLAN tag. */
#define NET_FRAME_MAX (NET_HEADER_SIZE + 18 + 65535)

/* Feature bits (5.1.3) */
#define VIRTIO_NET_F_CSUM (1ULL << 0)
#define VIRTIO_NET_F_GUEST_CSUM (1ULL << 1)
#define VIRTIO_NET_F_CTRL_GUEST_OFFLOADS (1ULL << 2)
#define VIRTIO_NET_F_MTU (1ULL << 3)
#define VIRTIO_NET_F_MAC (1ULL << 5)
#define VIRTIO_NET_F_GUEST_TSO4 (1ULL << 7)
#define VIRTIO_NET_F_GUEST_TSO6 (1ULL << 8)
#define VIRTIO_NET_F_GUEST_ECN (1ULL << 9)
#define VIRTIO_NET_F_GUEST_UFO (1ULL << 10)
#define VIRTIO_NET_F_HOST_TSO4 (1ULL << 11)
#define VIRTIO_NET_F_HOST_TSO6 (1ULL << 12)
#define VIRTIO_NET_F_HOST_ECN (1ULL << 13)
#define VIRTIO_NET_F_HOST_UFO (1ULL << 14)
#define VIRTIO_NET_F_MRG_RXBUF (1ULL << 15)
#define VIRTIO_NET_F_STATUS (1ULL << 16)
#define VIRTIO_NET_F_CTRL_VQ (1ULL << 17)
#define VIRTIO_NET_F_CTRL_RX (1ULL << 18)
#define VIRTIO_NET_F_CTRL_VLAN (1ULL << 19)
#define VIRTIO_NET_F_GUEST_ANNOUNCE (1ULL << 21)
#define VIRTIO_NET_F_MQ (1ULL << 22)
#define VIRTIO_NET_F_CTRL_MAC_ADDR (1ULL << 23)

/* What a guest may be given, as it can be switched while running (5.1.6.5.6). */
#define NET_GUEST_OFFLOADS                                                                         \
    (VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6 |                 \
     VIRTIO_NET_F_GUEST_ECN | VIRTIO_NET_F_GUEST_UFO)
#define NET_HOST_OFFLOADS                                                                          \
    (VIRTIO_NET_F_CSUM | VIRTIO_NET_F_HOST_TSO4 | VIRTIO_NET_F_HOST_TSO6 | VIRTIO_NET_F_HOST_ECN | \
     VIRTIO_NET_F_HOST_UFO)

struct net_backend_ops {
    /* The guest takes frames with these offloads, and uses that many queue pairs. Any thread. */
    int (*configure)(struct net_backend *b, uint64_t guest_offloads, unsigned pairs);
    /*
     * The size of the next frame of a pair with its header, 0 when that is not known before it is
     * read, -EAGAIN: none is there, else the connection's end.
     */
    ssize_t (*next)(struct net_backend *b, unsigned pair);
    /* One frame; the rest of a longer one is lost. Its size with header, -EAGAIN or the end. */
    ssize_t (*receive)(struct net_backend *b, unsigned pair, const struct iovec *iov, int count);
    /*
     * One frame, taken whole or not at all: 0, -EAGAIN (comes back when the descriptor is writable
     * again), or an error: the frame is lost.
     */
    int (*send)(struct net_backend *b, unsigned pair, const struct iovec *iov, int count);
    /* The descriptor became writable. May be NULL. */
    void (*writable)(struct net_backend *b);
    void (*free)(struct net_backend *b);
};

/* First member of each kind. */
struct net_backend {
    const struct net_backend_ops *ops;
    unsigned pairs;
    uint64_t features;     /* offloads that it can do: NET_GUEST_OFFLOADS, NET_HOST_OFFLOADS */
    int fd[NET_PAIRS_MAX]; /* non-blocking, of each pair; the backend's */
};

/* Accepts NULL. */
static inline void net_backend_free(struct net_backend *b)
{
    if (b != NULL) {
        b->ops->free(b);
    }
}
DEFINE_FREEP(struct net_backend *, net_backend_free)

/*
 * A tap of the current network namespace, made when it is missing ("vm%d": the kernel counts). It
 * lives as long as its descriptors. pairs: 1 to NET_PAIRS_MAX.
 */
int net_tap_open(const char *name, unsigned pairs, struct net_backend **ret, struct err *err);
/* One that was opened elsewhere: as many descriptors as pairs, which are the backend's on success.
 */
int net_tap_adopt(const int *fd, unsigned pairs, struct net_backend **ret, struct err *err);
/* Its name, "" when it has lost it; room for 16 bytes. */
void net_tap_name(const struct net_backend *b, char name[16]);

/* passt(1) behind its Unix socket: a stream of frames, each after its length (4 bytes, big endian).
 */
int net_passt_connect(const char *path, struct net_backend **ret, struct err *err);
/* One that is connected; the backend's on success. */
int net_passt_adopt(int fd, struct net_backend **ret, struct err *err);

#endif
