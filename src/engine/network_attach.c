/*
 * Wiring one workload: links, addresses, routes, published ports.
 */
#include <errno.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "engine/firewall.h"
#include "engine/network_host.h"
#include "engine/network_probe.h"
#include "engine/network_rootless.h"
#include "netlink/address.h"
#include "netlink/link.h"
#include "netlink/message.h"
#include "netlink/route.h"
#include "netlink/socket.h"

/* The kernel's fixed index of lo in every namespace. */
#define LO_INDEX 1

static int probe_ports(const struct port_list *ports, struct err *err)
{
    for (size_t i = 0; i < ports->count; i++) {
        const struct port *port = &ports->items[i];
        uint16_t number = port->host_first;
        int r = network_probe_port(port, &number);
        if (r == 0) {
            continue;
        }
        char text[IP_TEXT_SIZE];
        const char *at = port->host.family != 0 ? ip_format(&port->host, text) : "0.0.0.0";
        if (r == -EADDRNOTAVAIL) {
            return err_say(err, EADDRNOTAVAIL, "publish port %u/%s: this host has no address %s",
                           number, port_protocol_name(port->protocol), at);
        }
        (void)err_set(err, -r, "publish port %u/%s on %s", number,
                      port_protocol_name(port->protocol), at);
        if (r == -EACCES) {
            err_hint(err, "users may bind ports from net.ipv4.ip_unprivileged_port_start on");
        }
        if (r == -EADDRINUSE) {
            err_hint(err, "another program listens there; see: ss -lnp 'sport = :%u'", number);
        }
        return r;
    }
    return 0;
}

static int make_links(struct network_host *host, const struct network_lease *lease, int netns_fd,
                      struct err *err)
{
    AUTO(nl_batch_donep) struct nl_batch batch = {0};
    for (size_t i = 0; i < lease->endpoint_count; i++) {
        const struct network_endpoint *e = &lease->endpoints[i];
        struct link bridge;
        int r = link_get(host->route_fd, e->bridge, &bridge, err);
        if (r < 0) {
            return r == -ENODEV ? err_set(err, ENODEV, "bridge '%s'", e->bridge) : r;
        }
        struct link_veth veth = {
            .name = e->veth,
            .master = bridge.index,
            .peer_name = e->interface,
            .peer_mac = e->mac,
            .peer_netns_fd = netns_fd,
            .mtu = e->mtu,
        };
        link_put_veth(&batch, &veth);
    }
    uint32_t failed = 0;
    int r = nl_send(host->route_fd, &batch, &failed, err);
    if (r < 0 && failed < lease->endpoint_count) {
        return err_wrap(err, -r, "join network '%s'", lease->endpoints[failed].network_name);
    }
    return r;
}

/* The monitor's taps, by the names of the lease, become ports of the bridges. */
static int join_taps(struct network_host *host, const struct network_lease *lease, struct err *err)
{
    AUTO(nl_batch_donep) struct nl_batch batch = {0};
    for (size_t i = 0; i < lease->endpoint_count; i++) {
        const struct network_endpoint *e = &lease->endpoints[i];
        struct link bridge;
        struct link tap;
        int r = link_get(host->route_fd, e->bridge, &bridge, err);
        r = r < 0 ? r : link_get(host->route_fd, e->veth, &tap, err);
        if (r < 0) {
            return r == -ENODEV ? err_set(err, ENODEV, "interface '%s'", e->veth) : r;
        }
        link_put_mtu(&batch, tap.index, e->mtu);
        link_put_port(&batch, e->veth, bridge.index);
    }
    int r = nl_send(host->route_fd, &batch, NULL, err);
    return r < 0 ? err_wrap(err, -r, "join the machine's networks") : 0;
}

/* Inside the workload's namespace: lo, addresses, default routes, in one message batch. */
static int configure_inside(const struct network_lease *lease, bool routed, int netns_fd,
                            struct err *err)
{
    AUTO(closep) int fd = nl_socket_open_in(netns_fd, NETLINK_ROUTE);
    if (fd < 0) {
        return err_set(err, -fd, "open netlink in the workload's network namespace");
    }
    AUTO(nl_batch_donep) struct nl_batch batch = {0};
    bool has_route[2] = {routed, routed};
    link_put_up(&batch, LO_INDEX);
    for (size_t i = 0; i < lease->endpoint_count; i++) {
        const struct network_endpoint *e = &lease->endpoints[i];
        struct link link;
        int r = link_get(fd, e->interface, &link, err);
        if (r < 0) {
            return r == -ENODEV ? err_set(err, ENODEV, "interface '%s'", e->interface) : r;
        }
        link_put_up(&batch, link.index);
        for (size_t f = 0; f < 2; f++) {
            if (e->ip[f].address.family == 0) {
                continue;
            }
            address_put(&batch, link.index, &e->ip[f]);
            if (!e->internal && !has_route[f]) {
                has_route[f] = true;
                route_put_default(&batch, link.index, &e->gateway[f]);
            }
        }
    }
    int r = nl_send(fd, &batch, NULL, err);
    return r < 0 ? err_wrap(err, -r, "set up the workload's interfaces") : 0;
}

int network_route(const struct network_lease *lease, int netns_fd, struct err *err)
{
    AUTO(closep) int fd = nl_socket_open_in(netns_fd, NETLINK_ROUTE);
    if (fd < 0) {
        return err_set(err, -fd, "open netlink in the workload's network namespace");
    }
    bool done[2] = {false, false};
    for (size_t i = 0; i < lease->endpoint_count; i++) {
        const struct network_endpoint *e = &lease->endpoints[i];
        struct link link;
        if (e->internal || link_get(fd, e->interface, &link, NULL) < 0) {
            continue;
        }
        for (size_t f = 0; f < 2; f++) {
            AUTO(nl_batch_donep) struct nl_batch batch = {0};
            if (e->ip[f].address.family == 0 || done[f]) {
                continue;
            }
            route_put_default(&batch, link.index, &e->gateway[f]);
            int r = nl_send(fd, &batch, NULL, NULL);
            if (r < 0 && r != -EEXIST) {
                return err_set(err, -r, "set the default route to network '%s'", e->network_name);
            }
            done[f] = true;
        }
    }
    return 0;
}

/* Answers to the host's 127.0.0.1 leave by the bridge: the kernel must allow that there. */
static int allow_localhost(const struct network_lease *lease, struct err *err)
{
    bool wanted = false;
    for (size_t i = 0; i < lease->ports.count; i++) {
        const struct ip_address *at = &lease->ports.items[i].host;
        wanted = wanted || at->family == 0 ||
                 (at->family == AF_INET && (ip_is_any(at) || ip_is_loopback(at)));
    }
    for (size_t i = 0; wanted && i < lease->endpoint_count; i++) {
        if (lease->endpoints[i].ip[0].address.family != 0) {
            return network_sysctl("1", err, "ipv4/conf/%s/route_localnet",
                                  lease->endpoints[i].bridge);
        }
    }
    return 0;
}

static int allow_hairpin(struct network_host *host, const struct network_lease *lease,
                         struct err *err)
{
    AUTO(nl_batch_donep) struct nl_batch batch = {0};
    for (size_t i = 0; i < lease->endpoint_count; i++) {
        link_put_hairpin(&batch, lease->endpoints[i].veth);
    }
    int r = nl_send(host->route_fd, &batch, NULL, err);
    return r < 0 ? err_wrap(err, -r, "set up the workload's bridge port") : 0;
}

int network_publish(struct network_host *host, const struct network_lease *lease, struct err *err)
{
    if (lease->ports.count == 0) {
        return 0;
    }
    AUTO(firewall_elements_donep) struct firewall_elements elements = {0};
    if (firewall_add_ports(&elements, lease) < 0) {
        return err_set(err, ENOMEM, "publish ports");
    }
    int r = allow_localhost(lease, err);
    if (r >= 0) {
        r = allow_hairpin(host, lease, err);
    }
    return r < 0 ? r : firewall_add(host->nft_fd, host->tag, &elements, err);
}

static int write_names(struct network_host *host, const struct network_lease *lease,
                       struct err *err)
{
    int r = 0;
    for (size_t i = 0; i < lease->endpoint_count && r >= 0; i++) {
        if (lease->endpoints[i].user_defined) {
            r = network_write_names(host, lease->endpoints[i].network, err);
        }
    }
    return r;
}

/* Links and ports: who checks the host sees both or neither. */
static int connect_links(struct network_host *host, const struct network_lease *lease,
                         bool has_route, int netns_fd, struct err *err)
{
    AUTO(closep) int lock = lease->endpoint_count > 0 ? network_host_share(host, err) : -1;
    int r = 0;
    if (lease->endpoint_count > 0) {
        r = lock < 0 ? lock : make_links(host, lease, netns_fd, err);
    }
    r = r < 0 ? r : configure_inside(lease, has_route, netns_fd, err);
    return r < 0 ? r : network_publish(host, lease, err);
}

int network_attach_more(struct network_host *host, const struct network_lease *lease,
                        bool has_route, int netns_fd, struct err *err)
{
    int r = network_host_ensure(host, lease, err);
    if (r < 0 || (r = connect_links(host, lease, has_route, netns_fd, err)) < 0 ||
        (r = write_names(host, lease, err)) < 0) {
        (void)network_detach(host, lease, NETWORK_LINKS_REMOVE, NULL);
    }
    return r;
}

int network_attach(struct network_host *host, const struct network_lease *lease, int netns_fd,
                   struct err *err)
{
    int r = probe_ports(&lease->ports, err);
    if (r >= 0 && lease->rootless && lease->endpoint_count > 0) {
        return network_rootless_attach(host, lease, netns_fd, err);
    }
    return r < 0 ? r : network_attach_more(host, lease, false, netns_fd, err);
}

static int publish_taps(struct network_host *host, const struct network_lease *lease,
                        struct err *err)
{
    AUTO(closep) int lock = network_host_share(host, err);
    int r = lock < 0 ? lock : join_taps(host, lease, err);
    return r < 0 ? r : network_publish(host, lease, err);
}

int network_attach_taps(struct network_host *host, const struct network_lease *lease,
                        struct err *err)
{
    int r = probe_ports(&lease->ports, err);
    if (r < 0 || lease->endpoint_count == 0) {
        return r;
    }
    r = network_host_ensure(host, lease, err);
    if (r < 0 || (r = publish_taps(host, lease, err)) < 0 ||
        (r = write_names(host, lease, err)) < 0) {
        (void)network_detach(host, lease, NETWORK_LINKS_REMOVE, NULL);
    }
    return r;
}

static int remove_links(struct network_host *host, const struct network_lease *lease,
                        struct err *err)
{
    int first = 0;
    for (size_t i = 0; i < lease->endpoint_count; i++) {
        AUTO(nl_batch_donep) struct nl_batch batch = {0};
        link_put_delete(&batch, lease->endpoints[i].veth);
        int r = nl_send(host->route_fd, &batch, NULL, NULL);
        if (r < 0 && r != -ENODEV && first == 0) {
            first = err_set(err, -r, "remove interface '%s'", lease->endpoints[i].veth);
        }
    }
    return first;
}

int network_detach(struct network_host *host, const struct network_lease *lease,
                   enum network_links links, struct err *err)
{
    int first = 0;
    if (lease->rootless) {
        return lease->endpoint_count > 0 ? network_rootless_detach(host, lease->workload, err) : 0;
    }
    /* Not having it is no reason to leave them. */
    AUTO(closep) int lock = lease->endpoint_count > 0 ? network_host_share(host, NULL) : -1;
    if (lease->endpoint_count > 0 && lease->ports.count > 0) {
        AUTO(firewall_elements_donep) struct firewall_elements elements = {0};
        first = network_host_nft(host, err);
        if (first >= 0 && firewall_add_ports(&elements, lease) < 0) {
            first = err_set(err, ENOMEM, "withdraw ports");
        }
        if (first >= 0) {
            first = firewall_remove(host->nft_fd, host->tag, &elements, err);
            host->nft_slow_close = true;
        }
    }
    if (lease->endpoint_count > 0 && links == NETWORK_LINKS_REMOVE) {
        int r = network_host_route(host, first < 0 ? NULL : err);
        if (r >= 0) {
            r = remove_links(host, lease, first < 0 ? NULL : err);
        }
        first = first < 0 ? first : r;
    }
    return first < 0 ? first : 0;
}
