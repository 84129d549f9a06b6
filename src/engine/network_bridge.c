/*
 * The host's side of a network: its bridge and its place in the firewall.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/io.h"
#include "engine/firewall.h"
#include "engine/network_host.h"
#include "netlink/address.h"
#include "netlink/link.h"
#include "netlink/message.h"
#include "netlink/socket.h"

/*
 * A host that takes its own default route from router advertisements would stop doing so once it
 * forwards, unless accept_ra is 2.
 */
static void keep_router_advertisements(void)
{
    AUTO(closedirp) DIR *dir = opendir("/proc/sys/net/ipv6/conf");
    struct dirent *entry = NULL;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char path[300];
        AUTO(buf_donep) struct buf now = {0};
        (void)snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/accept_ra", entry->d_name);
        if (entry->d_name[0] != '.' && read_file(path, 16, &now) == 0 && now.len > 0 &&
            now.data[0] == '1') {
            (void)write_file(path, "2");
        }
    }
}

static int enable_forwarding(const struct network *n, struct err *err)
{
    if (n->internal) {
        return 0;
    }
    int r = 0;
    if (n->subnet[0].address.family != 0) {
        r = network_sysctl("1", err, "ipv4/ip_forward");
    }
    if (r < 0 || n->subnet[1].address.family == 0) {
        return r;
    }
    AUTO(buf_donep) struct buf now = {0};
    r = read_file("/proc/sys/net/ipv6/conf/all/forwarding", 16, &now);
    if (r == 0 && now.len > 0 && now.data[0] == '1') {
        return 0;
    }
    keep_router_advertisements();
    return network_sysctl("1", err, "ipv6/conf/all/forwarding");
}

/* No workload may hand the host a route: RFC 4861 advertisements are not heard on bridges. */
static int set_ipv6(const struct network *n, struct err *err)
{
    bool wanted = n->subnet[1].address.family != 0;
    int r = network_sysctl("0", err, "ipv6/conf/%s/accept_ra", n->bridge);
    if (r == 0) {
        /* Else the bridge could not ask for neighbours in its first two seconds. */
        r = network_sysctl("0", err, "ipv6/conf/%s/accept_dad", n->bridge);
    }
    if (r == 0) {
        r = network_sysctl(wanted ? "0" : "1", err, "ipv6/conf/%s/disable_ipv6", n->bridge);
    }
    if (r == -ENOENT) {
        return wanted ? err_say(err, EAFNOSUPPORT, "this host has no IPv6") : 0;
    }
    return r;
}

static int set_addresses(struct network_host *host, const struct network *n, struct err *err)
{
    struct link link;
    int r = link_get(host->route_fd, n->bridge, &link, err);
    if (r < 0) {
        return r == -ENODEV ? err_set(err, ENODEV, "interface '%s'", n->bridge) : r;
    }
    char alias[NETWORK_ALIAS_SIZE];
    network_alias(host, n->id, alias);
    AUTO(nl_batch_donep) struct nl_batch batch = {0};
    for (size_t f = 0; f < 2; f++) {
        if (n->subnet[f].address.family != 0) {
            struct ip_prefix prefix = {n->gateway[f], n->subnet[f].length};
            address_put(&batch, link.index, &prefix);
        }
    }
    link_put_up(&batch, link.index);
    /* Last: it says that all is there. */
    link_put_alias(&batch, n->bridge, alias);
    r = nl_send(host->route_fd, &batch, NULL, err);
    return r < 0 ? err_wrap(err, -r, "set up bridge '%s'", n->bridge) : 0;
}

/* 0: finished and ours; -ENODEV: to be made; -EAGAIN: to be finished. */
static int probe_bridge(struct network_host *host, const char *bridge, const char *network_id,
                        struct err *err)
{
    struct link link;
    int r = link_get(host->route_fd, bridge, &link, err);
    if (r < 0) {
        return r;
    }
    char alias[NETWORK_ALIAS_SIZE];
    network_alias(host, network_id, alias);
    if (!network_is_ours(host, link.alias) || !str_eq(link.kind, "bridge")) {
        (void)err_say(err, EEXIST, "interface '%s' exists and was not made by this isola", bridge);
        err_hint(err, "remove it: ip link del %s", bridge);
        return -EEXIST;
    }
    return str_eq(link.alias, alias) && link.up ? 0 : -EAGAIN;
}

static int make_bridge(struct network_host *host, const struct network *n, struct err *err)
{
    int r = probe_bridge(host, n->bridge, n->id, err);
    if (r != -ENODEV && r != -EAGAIN) {
        return r;
    }
    if (r == -ENODEV) {
        AUTO(nl_batch_donep) struct nl_batch batch = {0};
        char alias[NETWORK_ALIAS_SIZE];
        (void)snprintf(alias, sizeof(alias), "%s:new", host->tag);
        /* 02:42 and digits of the id: stable for as long as the network lives. */
        uint8_t mac[6] = {0x02, 0x42};
        unsigned part[4] = {0};
        (void)sscanf(n->id, "%2x%2x%2x%2x", &part[0], &part[1], &part[2], &part[3]);
        for (size_t i = 0; i < 4; i++) {
            mac[2 + i] = (uint8_t)part[i];
        }
        link_put_bridge(&batch, n->bridge, alias, mac, n->mtu);
        r = nl_send(host->route_fd, &batch, NULL, err);
        if (r < 0) {
            return err_wrap(err, -r, "make bridge '%s'", n->bridge);
        }
    }
    if ((r = set_ipv6(n, err)) < 0 || (r = enable_forwarding(n, err)) < 0) {
        return r;
    }
    return set_addresses(host, n, err);
}

static int on_link(const struct link *link, void *data)
{
    return str_eq(link->kind, "veth") ? strv_add(data, link->name) : 0;
}

/* Everything that the kernel has links for: the table is made from what is, not from a memory. */
int network_collect_elements(struct network_host *host, struct firewall_elements *elements,
                             struct err *err)
{
    AUTO(network_list_donep) struct network_list networks = {0};
    int r = network_list(host, &networks, err);
    for (size_t i = 0; i < networks.count && r >= 0; i++) {
        const struct network *n = &networks.items[i];
        if (n->driver == NETWORK_BRIDGE && probe_bridge(host, n->bridge, n->id, NULL) == 0 &&
            firewall_add_network(elements, n) < 0) {
            return err_set(err, ENOMEM, "collect nftables elements");
        }
    }
    AUTO(strv_donep) struct strv veths = {0};
    if (r < 0 || (r = link_list(host->route_fd, 0, on_link, &veths, err)) < 0) {
        return r;
    }
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    r = db_prepare(host->db, &stmt, err,
                   "SELECT DISTINCT p.workload, e.veth FROM port p"
                   " JOIN endpoint e ON e.workload = p.workload ORDER BY p.workload, e.position",
                   "");
    AUTO(freep) char *done = NULL;
    while (r >= 0 && (r = db_step(host->db, stmt, err)) > 0) {
        if (!strv_has(&veths, db_text(stmt, 1)) || str_eq(done, db_text(stmt, 0))) {
            continue;
        }
        free(done);
        done = strdup(db_text(stmt, 0));
        AUTO(network_lease_donep) struct network_lease lease = {0};
        r = done != NULL ? network_load(host, done, &lease, err) : -ENOMEM;
        if (r >= 0 && firewall_add_ports(elements, &lease) < 0) {
            return err_set(err, ENOMEM, "collect nftables elements");
        }
    }
    return r;
}

static int ensure_slowly(struct network_host *host, const struct network_lease *lease,
                         struct err *err)
{
    AUTO(closep) int lock = network_host_lock(host, err);
    if (lock < 0) {
        return lock;
    }
    AUTO(firewall_elements_donep) struct firewall_elements elements = {0};
    int r = 0;
    for (size_t i = 0; i < lease->endpoint_count && r >= 0; i++) {
        AUTO(network_donep) struct network n = {0};
        r = network_find(host, lease->endpoints[i].network, &n, err);
        if (r >= 0) {
            r = make_bridge(host, &n, err);
        }
        if (r >= 0 && firewall_add_network(&elements, &n) < 0) {
            return err_set(err, ENOMEM, "set up network '%s'", n.name);
        }
    }
    if (r < 0) {
        return r;
    }
    r = firewall_probe(host->nft_fd, host->tag, err);
    if (r == 0) {
        return firewall_add(host->nft_fd, host->tag, &elements, err);
    }
    if (r != -ENOENT) {
        return r;
    }
    firewall_elements_done(&elements);
    r = network_collect_elements(host, &elements, err);
    return r < 0 ? r : firewall_build(host->nft_fd, host->tag, &elements, err);
}

int network_host_ensure(struct network_host *host, const struct network_lease *lease,
                        struct err *err)
{
    if (lease->endpoint_count == 0) {
        return 0;
    }
    int r = network_host_route(host, err);
    if (r < 0 || (r = network_host_nft(host, err)) < 0) {
        return r;
    }
    r = firewall_probe(host->nft_fd, host->tag, err);
    for (size_t i = 0; i < lease->endpoint_count && r == 0; i++) {
        r = probe_bridge(host, lease->endpoints[i].bridge, lease->endpoints[i].network, err);
    }
    return r == -ENODEV || r == -EAGAIN || r == -ENOENT ? ensure_slowly(host, lease, err) : r;
}
