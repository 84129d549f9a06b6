/*
 * Which addresses a network may have: nothing that another network, an interface or a route of the
 * host has.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/err.h"
#include "engine/network_host.h"
#include "netlink/address.h"
#include "netlink/route.h"

#define TAKEN_MAX ((size_t)1 << 20)

struct taken {
    struct ip_prefix prefix;
    char *network; /* NULL: of the host */
};

struct taken_list {
    struct taken *items;
    size_t count;
    size_t size;
};

static void taken_list_done(struct taken_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].network);
    }
    free(list->items);
}
DEFINE_DONEP(struct taken_list, taken_list_done)

static int add_taken(struct taken_list *list, const struct ip_prefix *prefix, const char *network)
{
    if (list->count == list->size) {
        size_t size = list->size == 0 ? 64 : 2 * list->size;
        struct taken *items =
            size <= TAKEN_MAX ? realloc(list->items, size * sizeof(*items)) : NULL;
        if (items == NULL) {
            return -ENOMEM;
        }
        list->items = items;
        list->size = size;
    }
    struct taken taken = {.prefix = *prefix};
    if (network != NULL && (taken.network = strdup(network)) == NULL) {
        return -ENOMEM;
    }
    list->items[list->count++] = taken;
    return 0;
}

static int on_address(int index, const struct ip_prefix *prefix, void *data)
{
    (void)index;
    return add_taken(data, prefix, NULL);
}

static int on_route(const struct ip_prefix *destination, int index, void *data)
{
    (void)index;
    /* Default routes, and halves of the world as some tunnels set them, leave room for others. */
    return destination->length < 8 ? 0 : add_taken(data, destination, NULL);
}

static int list_taken(struct network_host *host, struct taken_list *list, struct err *err)
{
    AUTO(network_list_donep) struct network_list networks = {0};
    int r = network_list(host, &networks, err);
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < networks.count; i++) {
        for (size_t f = 0; f < 2; f++) {
            const struct ip_prefix *subnet = &networks.items[i].subnet[f];
            if (subnet->address.family != 0 &&
                add_taken(list, subnet, networks.items[i].name) < 0) {
                return err_set(err, ENOMEM, "list networks");
            }
        }
    }
    int fd = network_host_route(host, err);
    if (fd < 0) {
        return fd;
    }
    r = address_list(fd, on_address, list, err);
    return r < 0 ? r : route_list(fd, on_route, list, err);
}

static const struct taken *find_overlap(const struct taken_list *list,
                                        const struct ip_prefix *subnet)
{
    for (size_t i = 0; i < list->count; i++) {
        if (ip_prefix_overlaps(&list->items[i].prefix, subnet)) {
            return &list->items[i];
        }
    }
    return NULL;
}

int network_check_subnet(struct network_host *host, const struct ip_prefix *subnet, struct err *err)
{
    AUTO(taken_list_donep) struct taken_list list = {0};
    int r = list_taken(host, &list, err);
    if (r < 0) {
        return r;
    }
    const struct taken *taken = find_overlap(&list, subnet);
    if (taken == NULL) {
        return 0;
    }
    char ours[IP_TEXT_SIZE];
    char theirs[IP_TEXT_SIZE];
    (void)ip_prefix_format(subnet, ours);
    (void)ip_prefix_format(&taken->prefix, theirs);
    return taken->network != NULL
               ? err_say(err, EADDRINUSE, "subnet %s overlaps %s of network '%s'", ours, theirs,
                         taken->network)
               : err_say(err, EADDRINUSE, "subnet %s overlaps %s, which this host uses", ours,
                         theirs);
}

/* Candidate number n, or false after the last. */
static bool candidate4(bool is_default, unsigned n, struct ip_prefix *ret)
{
    struct ip_prefix p = {.address.family = AF_INET};
    uint8_t *b = p.address.bytes;
    if (is_default) {
        if (n < 168) { /* 10.88/16, 10.89/16... */
            b[0] = 10;
            b[1] = (uint8_t)(88 + n);
        } else if (n < 168 + 15) {
            b[0] = 172;
            b[1] = (uint8_t)(17 + n - 168);
        } else {
            return false;
        }
        p.length = 16;
    } else {
        if (n < 166 * 256) { /* 10.90.0/24 ... 10.255.255/24 */
            b[0] = 10;
            b[1] = (uint8_t)(90 + n / 256);
            b[2] = (uint8_t)n;
        } else if (n < 167 * 256) {
            b[0] = 192;
            b[1] = 168;
            b[2] = (uint8_t)n;
        } else {
            return false;
        }
        p.length = 24;
    }
    *ret = p;
    return true;
}

int network_choose_subnet(struct network_host *host, int family, bool is_default,
                          struct ip_prefix *ret, struct err *err)
{
    AUTO(taken_list_donep) struct taken_list list = {0};
    int r = list_taken(host, &list, err);
    if (r < 0) {
        return r;
    }
    struct ip_prefix subnet = {0};
    if (family == AF_INET6) {
        /* RFC 4193: fd00::/8 and 40 random bits; here also the 16 bits of the subnet. */
        do {
            subnet = (struct ip_prefix){.address.family = AF_INET6, .length = 64};
            subnet.address.bytes[0] = 0xfd;
            if (getrandom(&subnet.address.bytes[1], 7, 0) != 7) {
                return err_set(err, EIO, "read random bytes");
            }
        } while (find_overlap(&list, &subnet) != NULL);
        *ret = subnet;
        return 0;
    }
    for (unsigned n = 0; candidate4(is_default, n, &subnet); n++) {
        if (find_overlap(&list, &subnet) == NULL) {
            *ret = subnet;
            return 0;
        }
    }
    (void)err_say(err, EADDRNOTAVAIL, "every private IPv4 subnet overlaps a route of this host");
    err_hint(err, "give one with --subnet");
    return -EADDRNOTAVAIL;
}
