/*
 * route.h - routes. rtnetlink(7), RTM_*ROUTE.
 */
#ifndef NETLINK_ROUTE_H
#define NETLINK_ROUTE_H

#include "netlink/ip.h"

struct err;
struct nl_batch;

/* Appends "the default route of the gateway's family goes by it". -EEXIST when there is one. */
void route_put_default(struct nl_batch *batch, int index, const struct ip_address *gateway);

/* The same for any destination; a gateway of family 0 is "on the link itself". */
void route_put(struct nl_batch *batch, int index, const struct ip_prefix *to,
               const struct ip_address *gateway);

/* destination.length 0: a default route. index: of the outgoing interface, 0 for several. */
typedef int route_fn(const struct ip_prefix *destination, int index, void *data);

/* Unicast routes of all tables and both families; twice, when the list changes meanwhile. */
int route_list(int fd, route_fn *fn, void *data, struct err *err);

#endif
