#include "guest/network.h"

#include <errno.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/str.h"
#include "netlink/address.h"
#include "netlink/link.h"
#include "netlink/message.h"
#include "netlink/route.h"
#include "netlink/socket.h"

int network_start_loopback(struct err *err)
{
    AUTO(nl_batch_donep) struct nl_batch batch = {0};
    AUTO(closep) int fd = nl_socket_open(NETLINK_ROUTE);
    struct link lo;
    if (fd < 0) {
        return err_set(err, -fd, "network: open a netlink socket");
    }
    int r = link_get(fd, "lo", &lo, err);
    if (r < 0) {
        return r == -ENODEV ? err_say(err, ENODEV, "network: there is no loopback interface") : r;
    }
    link_put_up(&batch, lo.index);
    r = nl_send(fd, &batch, NULL, err);
    return r < 0 ? err_wrap(err, -r, "network: start the loopback interface") : 0;
}

struct search {
    const uint8_t *mac;
    struct link found;
};

static int match(const struct link *link, void *data)
{
    struct search *search = data;
    /* A bridge or VLAN above may have the same one; hardware has no kind. Tests use dummies. */
    if (memcmp(link->mac, search->mac, sizeof(link->mac)) == 0 &&
        (search->found.index == 0 || link->kind[0] == '\0')) {
        search->found = *link;
    }
    return 0;
}

static int find(int fd, const struct guest_interface *interface, struct link *ret, struct err *err)
{
    struct search search = {.mac = interface->mac};
    char mac[MAC_TEXT_SIZE];
    int r = link_list(fd, 0, match, &search, err);
    if (r < 0) {
        return r;
    }
    if (search.found.index == 0) {
        return err_say(err, ENODEV, "network: no interface has the MAC address %s (for '%s')",
                       mac_format(interface->mac, mac), interface->name);
    }
    *ret = search.found;
    return 0;
}

/*
 * The kernel numbers interfaces as it finds them, so one may have the name that another gets: all
 * names that change are given up first.
 */
static void put_names(struct nl_batch *batch, const struct guest_config *config,
                      const struct link *links)
{
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < config->interface_count; i++) {
            char name[IFNAMSIZ];
            (void)snprintf(name, sizeof(name), "isola-%zu", i % 100000);
            if (!str_eq(links[i].name, config->interfaces[i].name)) {
                link_put_name(batch, links[i].index,
                              round == 0 ? name : config->interfaces[i].name);
            }
        }
    }
}

static int send_step(int fd, struct nl_batch *batch, const char *what, const char *name,
                     struct err *err)
{
    int r = batch->count == 0 ? 0 : nl_send(fd, batch, NULL, err);
    nl_batch_clear(batch);
    return r < 0 ? err_wrap(err, -r, "network: %s%s%s%s", what, name[0] != '\0' ? " '" : "", name,
                            name[0] != '\0' ? "'" : "")
                 : 0;
}

static int configure(int fd, const struct guest_config *config, const struct link *links,
                     struct err *err)
{
    AUTO(nl_batch_donep) struct nl_batch batch = {0};
    put_names(&batch, config, links);
    int r = send_step(fd, &batch, "name interfaces", "", err);
    for (size_t i = 0; r == 0 && i < config->interface_count; i++) {
        const struct guest_interface *interface = &config->interfaces[i];
        link_put_mtu(&batch, links[i].index, interface->mtu);
        for (size_t j = 0; j < interface->address_count; j++) {
            address_put(&batch, links[i].index, &interface->addresses[j]);
        }
        link_put_up(&batch, links[i].index);
        r = send_step(fd, &batch, "set up interface", interface->name, err);
    }
    for (size_t i = 0; r == 0 && i < config->route_count; i++) {
        const struct guest_route *route = &config->routes[i];
        char to[IP_TEXT_SIZE];
        route_put(&batch, links[route->interface].index, &route->to, &route->via);
        r = send_step(fd, &batch, "set the route to", ip_prefix_format(&route->to, to), err);
    }
    return r;
}

int network_configure(const struct guest_config *config, struct err *err)
{
    AUTO(closep) int fd = nl_socket_open(NETLINK_ROUTE);
    AUTO(freep) struct link *links = calloc(config->interface_count + 1, sizeof(*links));
    if (fd < 0 || links == NULL) {
        return err_set(err, fd < 0 ? -fd : ENOMEM, "network: open a netlink socket");
    }
    int r = 0;
    for (size_t i = 0; r == 0 && i < config->interface_count; i++) {
        r = find(fd, &config->interfaces[i], &links[i], err);
    }
    return r < 0 ? r : configure(fd, config, links, err);
}
