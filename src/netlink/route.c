#include "netlink/route.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "netlink/message.h"
#include "netlink/socket.h"

void route_put(struct nl_batch *batch, int index, const struct ip_prefix *to,
               const struct ip_address *gateway)
{
    struct rtmsg header = {
        .rtm_family = (uint8_t)to->address.family,
        .rtm_dst_len = (uint8_t)to->length,
        .rtm_table = RT_TABLE_MAIN,
        .rtm_protocol = RTPROT_STATIC,
        .rtm_scope = gateway->family != 0 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK,
        .rtm_type = RTN_UNICAST,
    };
    nl_message_begin(batch, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header));
    if (to->length > 0) {
        struct ip_prefix network = ip_prefix_network(to);
        nl_put_ip(batch, RTA_DST, &network.address);
    }
    if (gateway->family != 0) {
        nl_put_ip(batch, RTA_GATEWAY, gateway);
    }
    nl_put_u32(batch, RTA_OIF, (uint32_t)index);
}

void route_put_default(struct nl_batch *batch, int index, const struct ip_address *gateway)
{
    const struct ip_prefix all = {.address.family = gateway->family};
    route_put(batch, index, &all, gateway);
}

struct walk {
    route_fn *fn;
    void *data;
};

static int on_route(uint16_t type, const void *payload, size_t len, void *data)
{
    const struct walk *walk = data;
    struct rtmsg header;
    if (type != RTM_NEWROUTE || len < sizeof(header)) {
        return 0;
    }
    memcpy(&header, payload, sizeof(header));
    if (header.rtm_type != RTN_UNICAST ||
        (header.rtm_family != AF_INET && header.rtm_family != AF_INET6)) {
        return 0;
    }
    struct ip_prefix destination = {.address.family = header.rtm_family,
                                    .length = header.rtm_dst_len};
    struct nl_attributes list = nl_attributes_after(payload, len, sizeof(header));
    struct nl_attribute a;
    if (nl_attribute_find(list, RTA_DST, &a) &&
        !nl_get_ip(&a, header.rtm_family, &destination.address)) {
        return 0;
    }
    uint32_t index = 0;
    if (nl_attribute_find(list, RTA_OIF, &a)) {
        (void)nl_get_u32(&a, &index);
    }
    if (destination.length > 8 * ip_size(&destination.address)) {
        return 0;
    }
    return walk->fn(&destination, (int)index, walk->data);
}

int route_list(int fd, route_fn *fn, void *data, struct err *err)
{
    AUTO(nl_batch_donep) struct nl_batch batch = {0};
    struct rtmsg header = {0};
    nl_message_begin(&batch, RTM_GETROUTE, NLM_F_DUMP, &header, sizeof(header));
    struct walk walk = {fn, data};
    int r = -EINTR;
    for (int i = 0; r == -EINTR && i < NL_DUMP_TRIES; i++) {
        r = nl_query(fd, &batch, on_route, &walk, err);
    }
    return r < 0 ? err_wrap(err, -r, "list routes") : 0;
}
