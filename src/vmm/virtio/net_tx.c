/* Frames of the guest. */
#include <errno.h>
#include <limits.h>

#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/virtio/net_internal.h"

#define FRAME_MIN 14

/* struct virtio_net_hdr_v1 (5.1.6) */
enum { FLAGS = 0, GSO_TYPE = 1, HDR_LEN = 2, GSO_SIZE = 4, CSUM_START = 6, CSUM_OFFSET = 8 };

#define NEEDS_CSUM 1u
#define GSO_ECN 0x80u

static const struct {
    uint8_t type;
    uint64_t feature;
} gso_types[] = {
    {1, VIRTIO_NET_F_HOST_TSO4},
    {3, VIRTIO_NET_F_HOST_UFO},
    {4, VIRTIO_NET_F_HOST_TSO6},
    {1 | GSO_ECN, VIRTIO_NET_F_HOST_TSO4 | VIRTIO_NET_F_HOST_ECN},
    {4 | GSO_ECN, VIRTIO_NET_F_HOST_TSO6 | VIRTIO_NET_F_HOST_ECN},
};

static bool gso_allowed(const struct net *net, uint8_t type)
{
    for (size_t i = 0; i < COUNT(gso_types); i++) {
        if (gso_types[i].type == type) {
            return (net->virtio.acked & gso_types[i].feature) == gso_types[i].feature;
        }
    }
    return false;
}

bool net_header_check(const struct net *net, uint8_t header[NET_HEADER_SIZE], uint64_t len)
{
    bool csum = (header[FLAGS] & NEEDS_CSUM) != 0;
    uint16_t start = load_le16(header + CSUM_START);
    uint16_t offset = load_le16(header + CSUM_OFFSET);
    if (len < FRAME_MIN || len > NET_FRAME_MAX - NET_HEADER_SIZE) {
        return false;
    }
    header[FLAGS] &= NEEDS_CSUM; /* other flags are for the other direction, or of later times */
    if (csum && (!virtio_has(&net->virtio, VIRTIO_NET_F_CSUM) || start > len || len - start < 2 ||
                 offset > len - start - 2)) {
        return false;
    }
    if (!csum) {
        store_le32(header + CSUM_START, 0);
    }
    if (header[GSO_TYPE] == 0) {
        store_le32(header + HDR_LEN, 0);
        return true;
    }
    return csum && gso_allowed(net, header[GSO_TYPE]) && load_le16(header + GSO_SIZE) > 0 &&
           load_le16(header + HDR_LEN) <= len;
}

/* header, then what follows it in the chain. 0: too many pieces. */
static int pieces(const struct virtq_chain *chain, uint8_t *header, struct iovec *iov)
{
    size_t skip = NET_HEADER_SIZE;
    int count = 0;
    iov[count++] = (struct iovec){.iov_base = header, .iov_len = NET_HEADER_SIZE};
    for (uint32_t i = 0; i < chain->readable_count; i++) {
        struct iovec piece = chain->readable[i];
        if (skip >= piece.iov_len) {
            skip -= piece.iov_len;
            continue;
        }
        if (count == IOV_MAX) {
            return 0;
        }
        iov[count++] = (struct iovec){
            .iov_base = (char *)piece.iov_base + skip,
            .iov_len = piece.iov_len - skip,
        };
        skip = 0;
    }
    return count;
}

static bool serve_frame(struct virtio *v, unsigned queue, const struct virtq_chain *chain)
{
    struct net *net = CONTAINER_OF(v, struct net, virtio);
    struct net_pair *pair = &net->pair[queue / 2];
    uint8_t header[NET_HEADER_SIZE];
    struct iovec iov[IOV_MAX];
    if (!pair->writable) {
        return false;
    }
    int count = 0;
    if (virtq_read(chain, 0, header, sizeof(header)) == sizeof(header) &&
        net_header_check(net, header, chain->readable_len - NET_HEADER_SIZE)) {
        count = pieces(chain, header, iov);
    }
    if (count == 0) {
        device_guest_error(&v->device, "frame of %llu bytes in %u pieces with a wrong header",
                           (unsigned long long)chain->readable_len, chain->readable_count);
    } else if (!net->link_down) {
        uint64_t len = chain->readable_len - NET_HEADER_SIZE;
        if (!limit_take(&net->tx_limit, len)) {
            return false;
        }
        if (net->backend->ops->send(net->backend, queue / 2, iov, count) == -EAGAIN) {
            net_limit_return(&net->tx_limit, len, 1);
            pair->writable = false;
            return false;
        }
    }
    (void)virtq_push(&v->queue[queue], v->memory, chain, 0);
    return true;
}

void net_send(struct net *net, unsigned pair)
{
    virtio_serve(&net->virtio, 2 * pair + 1, serve_frame);
}
