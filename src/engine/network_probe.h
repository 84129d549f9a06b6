/*
 * network_probe.h - whether a port of the host is free for publishing.
 */
#ifndef ENGINE_NETWORK_PROBE_H
#define ENGINE_NETWORK_PROBE_H

#include <stdint.h>

struct port;

/*
 * Binds port->host and *port_number for a moment (0: the kernel chooses) in the network namespace
 * of this thread and stores what was bound. -EADDRINUSE when a program has it, -EADDRNOTAVAIL for
 * an address that the host does not have.
 */
int network_probe_port(const struct port *port, uint16_t *port_number);

#endif
