/*
 * network.h - interfaces of the virtual machine, found by their MAC addresses.
 */
#ifndef GUEST_NETWORK_H
#define GUEST_NETWORK_H

#include "guest/config.h"

struct err;

/* The loopback interface comes up. */
int network_start_loopback(struct err *err);

/* Names, MTUs, addresses, routes. All interfaces are up afterwards. */
int network_configure(const struct guest_config *config, struct err *err);

#endif
