/*
 * address.h - addresses of interfaces. rtnetlink(7), RTM_*ADDR.
 */
#ifndef NETLINK_ADDRESS_H
#define NETLINK_ADDRESS_H

#include <stdbool.h>

#include "netlink/ip.h"

struct err;
struct nl_batch;

/*
 * Appends "give the interface this address". An address that is there already is success. IPv6
 * addresses are usable at once (no duplicate detection: the leases are ours to give).
 */
void address_put(struct nl_batch *batch, int index, const struct ip_prefix *prefix);
void address_put_delete(struct nl_batch *batch, int index, const struct ip_prefix *prefix);

/* An address may be reported twice, when the list changes meanwhile. */
typedef int address_fn(int index, const struct ip_prefix *prefix, void *data);
int address_list(int fd, address_fn *fn, void *data, struct err *err);

#endif
