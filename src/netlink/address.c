#include "netlink/address.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "netlink/message.h"
#include "netlink/socket.h"

static void put(struct nl_batch *batch, uint16_t type, uint16_t flags, int index,
                const struct ip_prefix *prefix)
{
    struct ifaddrmsg header = {
        .ifa_family = (uint8_t)prefix->address.family,
        .ifa_prefixlen = (uint8_t)prefix->length,
        .ifa_index = (uint32_t)index,
        .ifa_flags = prefix->address.family == AF_INET6 ? IFA_F_NODAD : 0,
    };
    nl_message_begin(batch, type, flags, &header, sizeof(header));
    nl_put_ip(batch, IFA_LOCAL, &prefix->address);
    if (prefix->address.family == AF_INET) {
        nl_put_ip(batch, IFA_ADDRESS, &prefix->address);
        if (type == RTM_NEWADDR && prefix->length < 31) {
            struct ip_address broadcast = ip_prefix_last(prefix);
            nl_put_ip(batch, IFA_BROADCAST, &broadcast);
        }
    }
}

void address_put(struct nl_batch *batch, int index, const struct ip_prefix *prefix)
{
    put(batch, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, index, prefix);
}

void address_put_delete(struct nl_batch *batch, int index, const struct ip_prefix *prefix)
{
    put(batch, RTM_DELADDR, 0, index, prefix);
}

struct walk {
    address_fn *fn;
    void *data;
};

static int on_address(uint16_t type, const void *payload, size_t len, void *data)
{
    const struct walk *walk = data;
    struct ifaddrmsg header;
    if (type != RTM_NEWADDR || len < sizeof(header)) {
        return 0;
    }
    memcpy(&header, payload, sizeof(header));
    struct ip_prefix prefix = {.length = header.ifa_prefixlen};
    struct nl_attributes list = nl_attributes_after(payload, len, sizeof(header));
    struct nl_attribute a;
    /* IFA_ADDRESS is the peer's on point-to-point links; IFA_LOCAL is absent for plain IPv6. */
    bool found =
        (nl_attribute_find(list, IFA_LOCAL, &a) || nl_attribute_find(list, IFA_ADDRESS, &a)) &&
        nl_get_ip(&a, header.ifa_family, &prefix.address);
    if (!found || prefix.length > 8 * ip_size(&prefix.address)) {
        return 0;
    }
    return walk->fn((int)header.ifa_index, &prefix, walk->data);
}

int address_list(int fd, address_fn *fn, void *data, struct err *err)
{
    AUTO(nl_batch_donep) struct nl_batch batch = {0};
    struct ifaddrmsg header = {0};
    nl_message_begin(&batch, RTM_GETADDR, NLM_F_DUMP, &header, sizeof(header));
    struct walk walk = {fn, data};
    int r = -EINTR;
    for (int i = 0; r == -EINTR && i < NL_DUMP_TRIES; i++) {
        r = nl_query(fd, &batch, on_address, &walk, err);
    }
    return r < 0 ? err_wrap(err, -r, "list addresses") : 0;
}
