/*
 * net_internal.h - what the files of the network card share. The device's lock is held.
 */
#ifndef VMM_VIRTIO_NET_INTERNAL_H
#define VMM_VIRTIO_NET_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/virtio/net.h"
#include "vmm/virtio/virtio.h"

struct net_pair {
    struct net *net;
    struct loop_source *source;
    bool readable, writable; /* until the backend says EAGAIN */
    /* A frame that was read before there were buffers enough; NULL, 0 else. */
    uint8_t *held;
    size_t held_len;
};

struct net {
    struct virtio virtio;
    struct net_backend *backend;
    struct net_options options; /* as it was made: back to this by a reset */
    uint8_t mac[6];
    uint32_t pairs;    /* that the guest uses */
    uint64_t offloads; /* NET_GUEST_OFFLOADS that it wants now */
    bool announce;     /* the guest is to tell the network where it is now */
    bool restored;
    bool link_down;
    struct limit rx_limit, tx_limit;
    struct net_pair pair[NET_PAIRS_MAX];
};

/* net.c */
/* Hands offloads and pairs to the backend. */
int net_configure(struct net *net, uint64_t offloads, uint32_t pairs);
/* The backend is gone. */
void net_link_down(struct net *net, int error);

/* Gives back what a frame of so many bytes took, or a part of it. */
void net_limit_return(struct limit *limit, uint64_t bytes, uint64_t frames);

/* net_rx.c */
void net_receive(struct net *net, unsigned pair);

/* net_tx.c */
/* Is header one that goes with a frame of len bytes? Clears what says nothing. */
bool net_header_check(const struct net *net, uint8_t header[NET_HEADER_SIZE], uint64_t len);
void net_send(struct net *net, unsigned pair);

/* net_ctrl.c */
/* One command of the control queue (5.1.6.5): 0 or 1 for the guest. */
uint8_t net_command(struct net *net, const struct virtq_chain *chain);
void net_control(struct net *net, unsigned queue);

#endif
