/*
 * dns.h - the name server of a network, on the event loop of a shim.
 *
 * Each shim of a network binds the same addresses with SO_REUSEPORT; whichever the kernel picks
 * answers. Names of the network are answered from its file (engine/dns_names.h); all else goes to
 * the given servers, with an id and a port of its own for each question, and comes back as it is.
 * Memory is held only while questions are under way, and their number is bounded.
 */
#ifndef ENGINE_DNS_H
#define ENGINE_DNS_H

#include <stddef.h>

#include "base/cleanup.h"
#include "netlink/ip.h"

struct dns;
struct err;
struct loop;
struct network_dns;

/*
 * Binds UDP and TCP port 53 of each address in config->listen, in the network namespace netns_fd
 * (negative: that of this thread), and answers from the loop. Questions to other servers leave
 * from the namespace of the thread that runs the loop. config is copied. -EADDRINUSE when a program
 * without SO_REUSEPORT has the port.
 */
int dns_new(struct loop *loop, const struct network_dns *config, int netns_fd, struct dns **ret,
            struct err *err);

/* Accepts NULL. Before loop_free(). */
void dns_free(struct dns *dns);
DEFINE_FREEP(struct dns *, dns_free)

#endif
