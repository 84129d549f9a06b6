#include "netlink/link.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "netlink/message.h"
#include "netlink/socket.h"

static const struct ifinfomsg up_info = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP};

void link_put_alias(struct nl_batch *batch, const char *name, const char *alias)
{
    struct ifinfomsg info = {0};
    nl_message_begin(batch, RTM_NEWLINK, 0, &info, sizeof(info));
    nl_put_str(batch, IFLA_IFNAME, name);
    nl_put_str(batch, IFLA_IFALIAS, alias);
}

void link_put_bridge(struct nl_batch *batch, const char *name, const char *alias,
                     const uint8_t mac[6], unsigned mtu)
{
    struct ifinfomsg header = {0};
    nl_message_begin(batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header));
    nl_put_str(batch, IFLA_IFNAME, name);
    nl_put(batch, IFLA_ADDRESS, mac, 6);
    if (mtu != 0) {
        nl_put_u32(batch, IFLA_MTU, mtu);
    }
    size_t info = nl_nest_begin(batch, IFLA_LINKINFO);
    nl_put_str(batch, IFLA_INFO_KIND, "bridge");
    nl_nest_end(batch, info);
    link_put_alias(batch, name, alias);
}

void link_put_veth(struct nl_batch *batch, const struct link_veth *veth)
{
    nl_message_begin(batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &up_info, sizeof(up_info));
    nl_put_str(batch, IFLA_IFNAME, veth->name);
    if (veth->master != 0) {
        nl_put_u32(batch, IFLA_MASTER, (uint32_t)veth->master);
    }
    if (veth->mtu != 0) {
        nl_put_u32(batch, IFLA_MTU, veth->mtu);
    }
    size_t info = nl_nest_begin(batch, IFLA_LINKINFO);
    nl_put_str(batch, IFLA_INFO_KIND, "veth");
    size_t data = nl_nest_begin(batch, IFLA_INFO_DATA);
    size_t peer = nl_nest_begin(batch, VETH_INFO_PEER);
    /* The peer cannot be brought up here: it is not yet connected when its flags are set. */
    struct ifinfomsg peer_info = {0};
    nl_put_raw(batch, &peer_info, sizeof(peer_info));
    nl_put_str(batch, IFLA_IFNAME, veth->peer_name);
    if (veth->peer_mac != NULL) {
        nl_put(batch, IFLA_ADDRESS, veth->peer_mac, 6);
    }
    if (veth->mtu != 0) {
        nl_put_u32(batch, IFLA_MTU, veth->mtu);
    }
    nl_put_u32(batch, IFLA_NET_NS_FD, (uint32_t)veth->peer_netns_fd);
    nl_nest_end(batch, peer);
    nl_nest_end(batch, data);
    nl_nest_end(batch, info);
}

void link_put_up(struct nl_batch *batch, int index)
{
    struct ifinfomsg info = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    nl_message_begin(batch, RTM_NEWLINK, 0, &info, sizeof(info));
}

void link_put_name(struct nl_batch *batch, int index, const char *name)
{
    struct ifinfomsg info = {.ifi_index = index};
    nl_message_begin(batch, RTM_NEWLINK, 0, &info, sizeof(info));
    nl_put_str(batch, IFLA_IFNAME, name);
}

void link_put_mtu(struct nl_batch *batch, int index, uint32_t mtu)
{
    struct ifinfomsg info = {.ifi_index = index};
    if (mtu != 0) {
        nl_message_begin(batch, RTM_NEWLINK, 0, &info, sizeof(info));
        nl_put_u32(batch, IFLA_MTU, mtu);
    }
}

void link_put_port(struct nl_batch *batch, const char *name, int master)
{
    struct ifinfomsg info = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    nl_message_begin(batch, RTM_NEWLINK, 0, &info, sizeof(info));
    nl_put_str(batch, IFLA_IFNAME, name);
    nl_put_u32(batch, IFLA_MASTER, (uint32_t)master);
}

void link_put_hairpin(struct nl_batch *batch, const char *name)
{
    struct ifinfomsg header = {0};
    nl_message_begin(batch, RTM_NEWLINK, 0, &header, sizeof(header));
    nl_put_str(batch, IFLA_IFNAME, name);
    size_t info = nl_nest_begin(batch, IFLA_LINKINFO);
    nl_put_str(batch, IFLA_INFO_SLAVE_KIND, "bridge");
    size_t data = nl_nest_begin(batch, IFLA_INFO_SLAVE_DATA);
    nl_put_u8(batch, IFLA_BRPORT_MODE, 1);
    nl_nest_end(batch, data);
    nl_nest_end(batch, info);
}

void link_put_delete(struct nl_batch *batch, const char *name)
{
    struct ifinfomsg info = {0};
    nl_message_begin(batch, RTM_DELLINK, 0, &info, sizeof(info));
    nl_put_str(batch, IFLA_IFNAME, name);
}

static int read_link(const void *payload, size_t len, struct link *ret)
{
    struct ifinfomsg info;
    if (len < sizeof(info)) {
        return -EPROTO;
    }
    memcpy(&info, payload, sizeof(info));
    struct link link = {.index = info.ifi_index, .up = (info.ifi_flags & IFF_UP) != 0};
    struct nl_attributes list = nl_attributes_after(payload, len, sizeof(info));
    struct nl_attribute a;
    uint32_t value = 0;
    while (nl_attribute_next(&list, &a)) {
        if (a.type == IFLA_IFNAME) {
            (void)nl_get_str(&a, link.name, sizeof(link.name));
        } else if (a.type == IFLA_IFALIAS) {
            (void)nl_get_str(&a, link.alias, sizeof(link.alias));
        } else if (a.type == IFLA_MTU) {
            (void)nl_get_u32(&a, &link.mtu);
        } else if (a.type == IFLA_MASTER && nl_get_u32(&a, &value)) {
            link.master = (int)value;
        } else if (a.type == IFLA_ADDRESS && a.len == sizeof(link.mac)) {
            memcpy(link.mac, a.data, sizeof(link.mac));
        } else if (a.type == IFLA_LINKINFO) {
            struct nl_attribute kind;
            if (nl_attribute_find(nl_attributes_of(&a), IFLA_INFO_KIND, &kind)) {
                (void)nl_get_str(&kind, link.kind, sizeof(link.kind));
            }
        }
    }
    *ret = link;
    return 0;
}

struct walk {
    link_fn *fn;
    void *data;
};

static int on_link(uint16_t type, const void *payload, size_t len, void *data)
{
    const struct walk *walk = data;
    struct link link;
    if (type != RTM_NEWLINK) {
        return 0;
    }
    int r = read_link(payload, len, &link);
    return r < 0 ? r : walk->fn(&link, walk->data);
}

static int keep_link(const struct link *link, void *data)
{
    *(struct link *)data = *link;
    return 0;
}

int link_get(int fd, const char *name, struct link *ret, struct err *err)
{
    AUTO(nl_batch_donep) struct nl_batch batch = {0};
    struct ifinfomsg info = {0};
    nl_message_begin(&batch, RTM_GETLINK, 0, &info, sizeof(info));
    nl_put_str(&batch, IFLA_IFNAME, name);
    nl_put_u32(&batch, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    struct link link = {0};
    struct walk walk = {keep_link, &link};
    struct err ours = ERR_NONE;
    int r = nl_query(fd, &batch, on_link, &walk, &ours);
    if (r == 0 && link.index == 0) {
        r = -ENODEV;
    }
    if (r == -ENODEV) {
        return r;
    }
    if (r < 0) {
        return err_set(err, -r, "look up interface '%s'", name);
    }
    *ret = link;
    return 0;
}

int link_list(int fd, int master, link_fn *fn, void *data, struct err *err)
{
    AUTO(nl_batch_donep) struct nl_batch batch = {0};
    struct ifinfomsg info = {0};
    nl_message_begin(&batch, RTM_GETLINK, NLM_F_DUMP, &info, sizeof(info));
    nl_put_u32(&batch, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    if (master > 0) {
        nl_put_u32(&batch, IFLA_MASTER, (uint32_t)master);
    }
    struct walk walk = {fn, data};
    int r = -EINTR;
    for (int i = 0; r == -EINTR && i < NL_DUMP_TRIES; i++) {
        r = nl_query(fd, &batch, on_link, &walk, err);
    }
    return r < 0 ? err_wrap(err, -r, "list interfaces") : 0;
}
