/*
 * net.h - a network card (virtio 1.2, 5.1) over a backend: a tap or passt.
 *
 * The kernel reads and writes the guest's buffers of a tap itself. Frames wait in the backend while
 * the guest has no buffers, and in the guest while the backend takes none. What a guest puts before
 * its frames is checked and a copy of it used: a wrong header loses that frame and nothing else.
 * Filters by address and VLAN are accepted and let everything through, which 5.1.6.5 allows.
 */
#ifndef VMM_VIRTIO_NET_H
#define VMM_VIRTIO_NET_H

#include <stdint.h>

#include "vmm/disk/limit.h"
#include "vmm/virtio/net_backend.h"

struct err;
struct loop;
struct memory;
struct virtio;

struct net_options {
    uint8_t mac[6];
    uint16_t mtu; /* 68 to 65535: bytes of IP in a frame, in both directions */
    /* Bytes and frames a second, to and from the guest. Zeros: no limit. */
    struct limit_options receive_limit, send_limit;
};

/*
 * The backend is the device's from then on, also on failure. As many queue pairs as it has; the
 * guest begins with one. To be called on the loop's thread or before it runs; so is virtio_free().
 */
int net_new(const char *instance, const struct net_options *options, struct net_backend *backend,
            struct memory *memory, struct loop *loop, struct virtio **ret, struct err *err);

/*
 * New limits from now on, with full buckets. On the loop's thread, lock not held. -EINVAL: a value
 * is too large, and limits that were not reached yet stay.
 */
int net_set_limits(struct virtio *v, const struct limit_options *receive,
                   const struct limit_options *send);

#endif
