/* The control queue (5.1.6.5): commands as a table. */
#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/virtio/net_internal.h"

#define OK 0
#define ERR 1

#define MULTICAST 1u /* in the first byte of an address */

/* Data of a command: [offset, offset + len) of the chain. */
struct arguments {
    const struct virtq_chain *chain;
    uint64_t offset, len;
};

static bool read_le16(const struct arguments *a, uint16_t *ret)
{
    uint8_t raw[2];
    bool whole =
        a->len == sizeof(raw) && virtq_read(a->chain, a->offset, raw, sizeof(raw)) == sizeof(raw);
    *ret = whole ? load_le16(raw) : 0;
    return whole;
}

/* Promiscuous and its relatives: on or off. Everything passes anyway. */
static uint8_t rx_mode(struct net *net, const struct arguments *a)
{
    (void)net;
    uint8_t on = 2;
    return a->len == 1 && virtq_read(a->chain, a->offset, &on, 1) == 1 && on <= 1 ? OK : ERR;
}

/* Two tables: how many, then the addresses. */
static uint8_t mac_table(struct net *net, const struct arguments *a)
{
    (void)net;
    uint64_t offset = a->offset;
    uint64_t left = a->len;
    for (int i = 0; i < 2; i++) {
        uint8_t raw[4];
        if (left < sizeof(raw) || virtq_read(a->chain, offset, raw, sizeof(raw)) != sizeof(raw)) {
            return ERR;
        }
        left -= sizeof(raw);
        uint64_t bytes = 6 * (uint64_t)load_le32(raw);
        if (bytes > left) {
            return ERR;
        }
        left -= bytes;
        offset += sizeof(raw) + bytes;
    }
    return left == 0 ? OK : ERR;
}

static uint8_t set_mac(struct net *net, const struct arguments *a)
{
    uint8_t mac[6];
    if (a->len != sizeof(mac) || virtq_read(a->chain, a->offset, mac, sizeof(mac)) != sizeof(mac) ||
        (mac[0] & MULTICAST) != 0) {
        return ERR;
    }
    for (size_t i = 0; i < sizeof(mac); i++) {
        net->mac[i] = mac[i];
    }
    return OK;
}

static uint8_t vlan(struct net *net, const struct arguments *a)
{
    (void)net;
    uint16_t id = 0;
    return read_le16(a, &id) && id < 4096 ? OK : ERR;
}

static uint8_t announced(struct net *net, const struct arguments *a)
{
    if (a->len != 0) {
        return ERR;
    }
    net->announce = false;
    return OK;
}

static uint8_t set_pairs(struct net *net, const struct arguments *a)
{
    uint16_t pairs = 0;
    if (!read_le16(a, &pairs) || pairs == 0 || pairs > net->backend->pairs) {
        return ERR;
    }
    return net_configure(net, net->offloads, pairs) < 0 ? ERR : OK;
}

static uint8_t set_offloads(struct net *net, const struct arguments *a)
{
    uint8_t raw[8];
    if (a->len != sizeof(raw) || virtq_read(a->chain, a->offset, raw, sizeof(raw)) != sizeof(raw)) {
        return ERR;
    }
    uint64_t offloads = load_le64(raw);
    if ((offloads & ~(net->virtio.acked & NET_GUEST_OFFLOADS)) != 0) {
        return ERR;
    }
    return net_configure(net, offloads, net->pairs) < 0 ? ERR : OK;
}

static const struct {
    uint8_t class, first, last;
    uint64_t feature;
    uint8_t (*run)(struct net *net, const struct arguments *a);
} commands[] = {
    {0, 0, 1, VIRTIO_NET_F_CTRL_RX, rx_mode},
    {1, 0, 0, VIRTIO_NET_F_CTRL_RX, mac_table},
    {1, 1, 1, VIRTIO_NET_F_CTRL_MAC_ADDR, set_mac},
    {2, 0, 1, VIRTIO_NET_F_CTRL_VLAN, vlan},
    {3, 0, 0, VIRTIO_NET_F_GUEST_ANNOUNCE, announced},
    {4, 0, 0, VIRTIO_NET_F_MQ, set_pairs},
    {5, 0, 0, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, set_offloads},
};

uint8_t net_command(struct net *net, const struct virtq_chain *chain)
{
    uint8_t head[2];
    if (virtq_read(chain, 0, head, sizeof(head)) != sizeof(head)) {
        device_guest_error(&net->virtio.device, "command of %llu bytes",
                           (unsigned long long)chain->readable_len);
        return ERR;
    }
    struct arguments a = {
        .chain = chain,
        .offset = sizeof(head),
        .len = chain->readable_len - sizeof(head),
    };
    for (size_t i = 0; i < COUNT(commands); i++) {
        if (commands[i].class == head[0] && head[1] >= commands[i].first &&
            head[1] <= commands[i].last && virtio_has(&net->virtio, commands[i].feature)) {
            return commands[i].run(net, &a);
        }
    }
    return ERR; /* the guest asks for what it did not negotiate, or we do not have */
}

static bool serve_command(struct virtio *v, unsigned queue, const struct virtq_chain *chain)
{
    uint8_t answer = net_command(CONTAINER_OF(v, struct net, virtio), chain);
    uint32_t written = (uint32_t)virtq_write(chain, 0, &answer, sizeof(answer));
    if (written == 0) {
        device_guest_error(&v->device, "command without room for its answer");
    }
    (void)virtq_push(&v->queue[queue], v->memory, chain, written);
    return true;
}

void net_control(struct net *net, unsigned queue)
{
    virtio_serve(&net->virtio, queue, serve_command);
}
