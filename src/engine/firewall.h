/*
 * firewall.h - our nftables table: NAT, published ports, walls between networks.
 *
 * One table of the family inet, named by the engine's tag. Its chains and rules never change while
 * it lives; networks and workloads are elements of its sets and maps. docs/network.md shows it and
 * says how it lives beside the host's own firewall.
 */
#ifndef ENGINE_FIREWALL_H
#define ENGINE_FIREWALL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "netlink/nft.h"

struct err;
struct network;
struct network_lease;
struct nl_batch;

/* Elements in the order of their sets. A zeroed struct is empty. */
enum firewall_set {
    FIREWALL_BRIDGES,    /* ifname: every bridge of ours */
    FIREWALL_LOCAL,      /* ifname . ifname: a bridge and itself */
    FIREWALL_INTERNAL,   /* ifname: bridges of internal networks */
    FIREWALL_MASQUERADE, /* ifname: bridges whose traffic leaves with the host's address */
    FIREWALL_PUBLISH4,   /* proto . port -> address . port, any host address */
    FIREWALL_PUBLISH4_AT,
    FIREWALL_PUBLISH6,
    FIREWALL_PUBLISH6_AT, /* host address . proto . port -> address . port */
    FIREWALL_HAIRPIN4,    /* address . address: workloads that may ask their own published ports */
    FIREWALL_HAIRPIN6,
    FIREWALL_SETS,
};

struct firewall_elements {
    struct {
        struct nft_element *items;
        size_t count;
        size_t size;
    } sets[FIREWALL_SETS];
};

void firewall_elements_done(struct firewall_elements *elements);
DEFINE_DONEP(struct firewall_elements, firewall_elements_done)

extern const struct nft_set firewall_sets[FIREWALL_SETS];

/* Append what a network or a workload's published ports need. 0 or -ENOMEM. */
int firewall_add_network(struct firewall_elements *elements, const struct network *network);
int firewall_add_ports(struct firewall_elements *elements, const struct network_lease *lease);
bool firewall_is_empty(const struct firewall_elements *elements);

/* 0 when the table is there in this version; -ENOENT when it must be made. */
int firewall_probe(int fd, const char *table, struct err *err);

/* How many rules of ours the chains lack; 0 is good. A negative errno with err set. */
int firewall_rules_missing(int fd, const char *table, struct err *err);

/* Replaces the whole table in one step by one with these elements. */
int firewall_build(int fd, const char *table, const struct firewall_elements *elements,
                   struct err *err);

/* One transaction. -ENOENT without the table; adding what is there is success. */
int firewall_add(int fd, const char *table, const struct firewall_elements *elements,
                 struct err *err);

/* Removes what is there of these; a missing element or table is success. */
int firewall_remove(int fd, const char *table, const struct firewall_elements *elements,
                    struct err *err);

/* Removes the table; none is success. */
int firewall_drop(int fd, const char *table, struct err *err);

#endif
