#include "engine/firewall.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/str.h"
#include "engine/network.h"
#include "netlink/message.h"
#include "netlink/socket.h"

/* In the table's user data: a table of another version is replaced. */
#define SCHEMA "isola schema 1"

/* linux/netfilter_ipv4.h does not go with netinet/in.h. */
enum {
    PRIORITY_RAW = -300,
    PRIORITY_DSTNAT = -100,
    PRIORITY_FILTER = 0,
    PRIORITY_SRCNAT = 100,
};

/* What "ct state" compares, as the kernel's nf_conntrack numbers its bits. */
#define STATE_ESTABLISHED_RELATED 0x6U

#define PROTO_PORT NFT_TYPE_CONCAT(NFT_TYPE_PROTOCOL, NFT_TYPE_SERVICE)

const struct nft_set firewall_sets[FIREWALL_SETS] = {
    [FIREWALL_BRIDGES] = {"bridges", NFT_TYPE_IFNAME, 16, 0, 0, true},
    [FIREWALL_LOCAL] = {"local", NFT_TYPE_CONCAT(NFT_TYPE_IFNAME, NFT_TYPE_IFNAME), 32, 0, 0, true},
    [FIREWALL_INTERNAL] = {"internal", NFT_TYPE_IFNAME, 16, 0, 0, true},
    [FIREWALL_MASQUERADE] = {"masquerade", NFT_TYPE_IFNAME, 16, 0, 0, true},
    [FIREWALL_PUBLISH4] = {"publish4", PROTO_PORT, 8,
                           NFT_TYPE_CONCAT(NFT_TYPE_IPV4, NFT_TYPE_SERVICE), 8, false},
    [FIREWALL_PUBLISH4_AT] = {"publish4_at", NFT_TYPE_IPV4 << 12 | PROTO_PORT, 12,
                              NFT_TYPE_CONCAT(NFT_TYPE_IPV4, NFT_TYPE_SERVICE), 8, false},
    [FIREWALL_PUBLISH6] = {"publish6", PROTO_PORT, 8,
                           NFT_TYPE_CONCAT(NFT_TYPE_IPV6, NFT_TYPE_SERVICE), 20, false},
    [FIREWALL_PUBLISH6_AT] = {"publish6_at", NFT_TYPE_IPV6 << 12 | PROTO_PORT, 24,
                              NFT_TYPE_CONCAT(NFT_TYPE_IPV6, NFT_TYPE_SERVICE), 20, false},
    [FIREWALL_HAIRPIN4] = {"hairpin4", NFT_TYPE_CONCAT(NFT_TYPE_IPV4, NFT_TYPE_IPV4), 8, 0, 0,
                           false},
    [FIREWALL_HAIRPIN6] = {"hairpin6", NFT_TYPE_CONCAT(NFT_TYPE_IPV6, NFT_TYPE_IPV6), 32, 0, 0,
                           false},
};

void firewall_elements_done(struct firewall_elements *elements)
{
    for (size_t i = 0; i < FIREWALL_SETS; i++) {
        free(elements->sets[i].items);
    }
    *elements = (struct firewall_elements){0};
}

bool firewall_is_empty(const struct firewall_elements *elements)
{
    for (size_t i = 0; i < FIREWALL_SETS; i++) {
        if (elements->sets[i].count > 0) {
            return false;
        }
    }
    return true;
}

static int add(struct firewall_elements *elements, enum firewall_set set,
               const struct nft_element *element)
{
    size_t count = elements->sets[set].count;
    if (count == elements->sets[set].size) {
        size_t size = count == 0 ? 8 : 2 * count;
        struct nft_element *items = realloc(elements->sets[set].items, size * sizeof(*items));
        if (items == NULL) {
            return -ENOMEM;
        }
        elements->sets[set].items = items;
        elements->sets[set].size = size;
    }
    elements->sets[set].items[count] = *element;
    elements->sets[set].count++;
    return 0;
}

int firewall_add_network(struct firewall_elements *elements, const struct network *network)
{
    struct nft_element name = {0};
    struct nft_element pair = {0};
    size_t len = strlen(network->bridge);
    memcpy(name.key, network->bridge, len);
    memcpy(pair.key, network->bridge, len);
    memcpy(pair.key + 16, network->bridge, len);
    int r = add(elements, FIREWALL_BRIDGES, &name);
    if (r == 0) {
        r = add(elements, FIREWALL_LOCAL, &pair);
    }
    if (r == 0 && network->internal) {
        r = add(elements, FIREWALL_INTERNAL, &name);
    }
    if (r == 0 && network->masquerade) {
        r = add(elements, FIREWALL_MASQUERADE, &name);
    }
    return r;
}

/* The first address of that family that the workload has; published ports lead there. */
static const struct ip_address *target(const struct network_lease *lease, size_t f)
{
    for (size_t i = 0; i < lease->endpoint_count; i++) {
        if (lease->endpoints[i].ip[f].address.family != 0) {
            return &lease->endpoints[i].ip[f].address;
        }
    }
    return NULL;
}

static int add_port(struct firewall_elements *elements, const struct port *port, size_t f,
                    const struct ip_address *to)
{
    struct nft_element e = {0};
    size_t size = ip_size(to);
    bool at_address = port->host.family != 0 && !ip_is_any(&port->host);
    size_t at = 0;
    if (at_address) {
        memcpy(e.key, port->host.bytes, size);
        at = size;
    }
    uint16_t host_port = htons(port->host_first);
    uint16_t inner_port = htons(port->port);
    e.key[at] = port->protocol;
    memcpy(&e.key[at + 4], &host_port, sizeof(host_port));
    memcpy(e.data, to->bytes, size);
    memcpy(&e.data[size], &inner_port, sizeof(inner_port));
    enum firewall_set any = f == 0 ? FIREWALL_PUBLISH4 : FIREWALL_PUBLISH6;
    enum firewall_set one = f == 0 ? FIREWALL_PUBLISH4_AT : FIREWALL_PUBLISH6_AT;
    return add(elements, at_address ? one : any, &e);
}

static int add_hairpin(struct firewall_elements *elements, size_t f, const struct ip_address *ip)
{
    struct nft_element e = {0};
    memcpy(e.key, ip->bytes, ip_size(ip));
    memcpy(e.key + ip_size(ip), ip->bytes, ip_size(ip));
    return add(elements, f == 0 ? FIREWALL_HAIRPIN4 : FIREWALL_HAIRPIN6, &e);
}

int firewall_add_ports(struct firewall_elements *elements, const struct network_lease *lease)
{
    for (size_t f = 0; f < 2 && lease->ports.count > 0; f++) {
        const struct ip_address *to = target(lease, f);
        int r = to != NULL ? add_hairpin(elements, f, to) : 0;
        if (r < 0) {
            return r;
        }
    }
    for (size_t i = 0; i < lease->ports.count; i++) {
        const struct port *port = &lease->ports.items[i];
        for (size_t f = 0; f < 2; f++) {
            const struct ip_address *to = target(lease, f);
            if (to == NULL || (port->host.family != 0 && port->host.family != to->family) ||
                (port->host.family == AF_INET6 && ip_is_loopback(&port->host))) {
                continue; /* the last: by the shim */
            }
            int r = add_port(elements, port, f, to);
            if (r < 0) {
                return r;
            }
        }
    }
    return 0;
}

/* ---- The rules ---- */

static void match_family(struct nft_rule *rule, uint8_t family)
{
    nft_meta(rule, NFT_META_NFPROTO, NFT_R(0));
    nft_cmp(rule, NFT_R(0), true, &family, sizeof(family));
}

/* ip saddr or daddr is in 127.0.0.0/8. */
static void match_loopback4(struct nft_rule *rule, uint32_t offset)
{
    static const uint8_t net = 127;
    match_family(rule, NFPROTO_IPV4);
    nft_payload(rule, NFT_PAYLOAD_NETWORK_HEADER, offset, 1, NFT_R(0));
    nft_cmp(rule, NFT_R(0), true, &net, sizeof(net));
}

enum {
    IPV4_SOURCE = 12,
    IPV4_DESTINATION = 16,
    IPV6_SOURCE = 8,
    IPV6_DESTINATION = 24,
    PORT_DESTINATION = 2,
};

/*
 * iifname @bridges ip saddr|daddr 127.0.0.0/8 drop: route_localnet, which publishing on localhost
 * needs, must not open the host's own localhost to workloads.
 */
static void put_guard(struct nl_batch *batch, const char *table)
{
    static const uint32_t offsets[] = {IPV4_SOURCE, IPV4_DESTINATION};
    for (size_t i = 0; i < COUNT(offsets); i++) {
        struct nft_rule rule;
        nft_rule_begin(&rule, batch, table, "guard");
        nft_meta(&rule, NFT_META_IIFNAME, NFT_R(0));
        nft_in(&rule, NFT_R(0), "bridges", false);
        match_loopback4(&rule, offsets[i]);
        nft_verdict(&rule, NF_DROP, NULL);
        nft_rule_end(&rule);
    }
}

static void put_dnat(struct nl_batch *batch, const char *table, const char *map, uint8_t family,
                     bool at_address)
{
    uint32_t size = family == NFPROTO_IPV4 ? 4 : 16;
    uint32_t offset = family == NFPROTO_IPV4 ? IPV4_DESTINATION : IPV6_DESTINATION;
    uint32_t at = 0;
    struct nft_rule rule;
    nft_rule_begin(&rule, batch, table, "publish");
    match_family(&rule, family);
    if (at_address) {
        nft_payload(&rule, NFT_PAYLOAD_NETWORK_HEADER, offset, size, NFT_R(0));
        at = size / 4;
    }
    nft_meta(&rule, NFT_META_L4PROTO, NFT_R(at));
    nft_payload(&rule, NFT_PAYLOAD_TRANSPORT_HEADER, PORT_DESTINATION, 2, NFT_R(at + 1));
    nft_map(&rule, NFT_R(0), map, NFT_R(0));
    nft_dnat(&rule, family, NFT_R(0), NFT_R(size / 4));
    nft_rule_end(&rule);
}

/* Destination ports: who asks one of the host's addresses, from outside or from the host itself. */
static void put_publish(struct nl_batch *batch, const char *table)
{
    static const char lo[16] = "lo";
    static const uint32_t local = 2; /* RTN_LOCAL */
    struct nft_rule rule;
    /* A neighbour on the wire may not reach what is published on 127.0.0.1 only. */
    nft_rule_begin(&rule, batch, table, "prerouting");
    nft_meta(&rule, NFT_META_IIFNAME, NFT_R(0));
    nft_cmp(&rule, NFT_R(0), false, lo, sizeof(lo));
    match_loopback4(&rule, IPV4_DESTINATION);
    nft_verdict(&rule, NFT_RETURN, NULL);
    nft_rule_end(&rule);
    /* ::1 cannot leave the host: the workload's shim listens there. */
    static const uint8_t loopback6[16] = {[15] = 1};
    nft_rule_begin(&rule, batch, table, "output");
    match_family(&rule, NFPROTO_IPV6);
    nft_payload(&rule, NFT_PAYLOAD_NETWORK_HEADER, IPV6_DESTINATION, 16, NFT_R(0));
    nft_cmp(&rule, NFT_R(0), true, loopback6, sizeof(loopback6));
    nft_verdict(&rule, NFT_RETURN, NULL);
    nft_rule_end(&rule);
    static const char *const from[] = {"prerouting", "output"};
    for (size_t i = 0; i < COUNT(from); i++) {
        nft_rule_begin(&rule, batch, table, from[i]);
        nft_fib_type(&rule, NFT_R(0));
        nft_cmp_u32(&rule, NFT_R(0), true, local);
        nft_verdict(&rule, NFT_JUMP, "publish");
        nft_rule_end(&rule);
    }
    put_dnat(batch, table, "publish4_at", NFPROTO_IPV4, true);
    put_dnat(batch, table, "publish4", NFPROTO_IPV4, false);
    put_dnat(batch, table, "publish6_at", NFPROTO_IPV6, true);
    put_dnat(batch, table, "publish6", NFPROTO_IPV6, false);
}

static void match_dnat(struct nft_rule *rule)
{
    nft_ct(rule, NFT_CT_STATUS, NFT_R(0));
    nft_mask(rule, NFT_R(0), IPS_DST_NAT);
    nft_cmp_u32(rule, NFT_R(0), false, 0);
}

static void match_interface(struct nft_rule *rule, uint32_t key, const char *set, bool invert)
{
    nft_meta(rule, key, NFT_R(0));
    nft_in(rule, NFT_R(0), set, invert);
}

static void put_masquerade(struct nl_batch *batch, const char *table)
{
    struct nft_rule rule;
    /* The host's localhost asks a published port: 127.0.0.1 means something else over there. */
    nft_rule_begin(&rule, batch, table, "postrouting");
    match_interface(&rule, NFT_META_OIFNAME, "bridges", false);
    match_loopback4(&rule, IPV4_SOURCE);
    nft_masquerade(&rule);
    nft_rule_end(&rule);
    /* Out of the house. */
    nft_rule_begin(&rule, batch, table, "postrouting");
    match_interface(&rule, NFT_META_IIFNAME, "masquerade", false);
    match_interface(&rule, NFT_META_OIFNAME, "bridges", true);
    nft_masquerade(&rule);
    nft_rule_end(&rule);
    /* A workload asks a published port of its own network: the answer must come back by us. */
    nft_rule_begin(&rule, batch, table, "postrouting");
    match_interface(&rule, NFT_META_IIFNAME, "bridges", false);
    match_interface(&rule, NFT_META_OIFNAME, "bridges", false);
    match_dnat(&rule);
    nft_masquerade(&rule);
    nft_rule_end(&rule);
    /* The same for itself, also where the bridge passes the packet and there is no iifname. */
    nft_rule_begin(&rule, batch, table, "postrouting");
    match_family(&rule, NFPROTO_IPV4);
    nft_payload(&rule, NFT_PAYLOAD_NETWORK_HEADER, IPV4_SOURCE, 8, NFT_R(0));
    nft_in(&rule, NFT_R(0), "hairpin4", false);
    nft_masquerade(&rule);
    nft_rule_end(&rule);
    nft_rule_begin(&rule, batch, table, "postrouting");
    match_family(&rule, NFPROTO_IPV6);
    nft_payload(&rule, NFT_PAYLOAD_NETWORK_HEADER, IPV6_SOURCE, 16, NFT_R(0));
    nft_payload(&rule, NFT_PAYLOAD_NETWORK_HEADER, IPV6_DESTINATION, 16, NFT_R(4));
    nft_in(&rule, NFT_R(0), "hairpin6", false);
    nft_masquerade(&rule);
    nft_rule_end(&rule);
}

/* accept ends only our own chain: another table's drop still counts (docs/network.md). */
static void put_forward(struct nl_batch *batch, const char *table)
{
    struct nft_rule rule;
    nft_rule_begin(&rule, batch, table, "forward");
    nft_meta(&rule, NFT_META_IIFNAME, NFT_R(0));
    nft_meta(&rule, NFT_META_OIFNAME, NFT_R(4));
    nft_in(&rule, NFT_R(0), "local", false);
    nft_verdict(&rule, NF_ACCEPT, NULL);
    nft_rule_end(&rule);
    static const uint32_t sides[] = {NFT_META_IIFNAME, NFT_META_OIFNAME};
    for (size_t i = 0; i < COUNT(sides); i++) {
        nft_rule_begin(&rule, batch, table, "forward");
        match_interface(&rule, sides[i], "internal", false);
        nft_verdict(&rule, NF_DROP, NULL);
        nft_rule_end(&rule);
    }
    nft_rule_begin(&rule, batch, table, "forward");
    nft_ct(&rule, NFT_CT_STATE, NFT_R(0));
    nft_mask(&rule, NFT_R(0), STATE_ESTABLISHED_RELATED);
    nft_cmp_u32(&rule, NFT_R(0), false, 0);
    nft_verdict(&rule, NF_ACCEPT, NULL);
    nft_rule_end(&rule);
    nft_rule_begin(&rule, batch, table, "forward");
    match_dnat(&rule);
    nft_verdict(&rule, NF_ACCEPT, NULL);
    nft_rule_end(&rule);
    /* Neither another network nor a neighbour with a route reaches what is not published. */
    nft_rule_begin(&rule, batch, table, "forward");
    match_interface(&rule, NFT_META_OIFNAME, "bridges", false);
    nft_verdict(&rule, NF_DROP, NULL);
    nft_rule_end(&rule);
}

static const struct nft_chain chains[] = {
    {"publish", NULL, 0, 0},
    {"guard", "filter", NF_INET_PRE_ROUTING, PRIORITY_RAW},
    {"prerouting", "nat", NF_INET_PRE_ROUTING, PRIORITY_DSTNAT},
    {"output", "nat", NF_INET_LOCAL_OUT, PRIORITY_DSTNAT},
    {"postrouting", "nat", NF_INET_POST_ROUTING, PRIORITY_SRCNAT},
    {"forward", "filter", NF_INET_FORWARD, PRIORITY_FILTER},
};

static void put_all_elements(struct nl_batch *batch, const char *table,
                             const struct firewall_elements *elements)
{
    for (size_t i = 0; i < FIREWALL_SETS; i++) {
        nft_put_elements(batch, table, &firewall_sets[i], elements->sets[i].items,
                         elements->sets[i].count);
    }
}

/* Of put_guard() to put_forward(); a unit test counts again. */
#define RULES 21

int firewall_rules_missing(int fd, const char *table, struct err *err)
{
    size_t count = 0;
    int r = nft_rule_count(fd, table, &count, err);
    return r < 0 ? r : count >= RULES ? 0 : (int)(RULES - count);
}

static int send_batch(int fd, struct nl_batch *batch, const char *table, const char *what,
                      struct err *err)
{
    struct err ours = ERR_NONE;
    int r = nl_send(fd, batch, NULL, &ours);
    if (r < 0 && err != NULL) {
        *err = ours;
    }
    return r < 0 ? err_wrap(err, -r, "%s nftables table 'inet %s'", what, table) : 0;
}

int firewall_build(int fd, const char *table, const struct firewall_elements *elements,
                   struct err *err)
{
    AUTO(nl_batch_donep) struct nl_batch batch = {0};
    nft_begin(&batch);
    nft_put_table(&batch, table, SCHEMA); /* so that there is one to delete */
    nft_put_table_delete(&batch, table);
    nft_put_table(&batch, table, SCHEMA);
    for (size_t i = 0; i < FIREWALL_SETS; i++) {
        nft_put_set(&batch, table, &firewall_sets[i]);
    }
    for (size_t i = 0; i < COUNT(chains); i++) {
        nft_put_chain(&batch, table, &chains[i]);
    }
    put_guard(&batch, table);
    put_publish(&batch, table);
    put_masquerade(&batch, table);
    put_forward(&batch, table);
    put_all_elements(&batch, table, elements);
    nft_end(&batch);
    return send_batch(fd, &batch, table, "make", err);
}

int firewall_probe(int fd, const char *table, struct err *err)
{
    char note[sizeof(SCHEMA) + 8];
    int r = nft_table_get(fd, table, note, sizeof(note), err);
    return r == 0 && !str_eq(note, SCHEMA) ? -ENOENT : r;
}

int firewall_add(int fd, const char *table, const struct firewall_elements *elements,
                 struct err *err)
{
    AUTO(nl_batch_donep) struct nl_batch batch = {0};
    if (firewall_is_empty(elements)) {
        return 0;
    }
    nft_begin(&batch);
    put_all_elements(&batch, table, elements);
    nft_end(&batch);
    return send_batch(fd, &batch, table, "add to", err);
}

static void put_remove(struct nl_batch *batch, const char *table,
                       const struct firewall_elements *elements, bool add_first)
{
    nft_begin(batch);
    if (add_first) {
        put_all_elements(batch, table, elements);
    }
    for (size_t i = 0; i < FIREWALL_SETS; i++) {
        nft_put_elements_delete(batch, table, &firewall_sets[i], elements->sets[i].items,
                                elements->sets[i].count);
    }
    nft_end(batch);
}

int firewall_remove(int fd, const char *table, const struct firewall_elements *elements,
                    struct err *err)
{
    if (firewall_is_empty(elements)) {
        return 0;
    }
    AUTO(nl_batch_donep) struct nl_batch batch = {0};
    put_remove(&batch, table, elements, false);
    struct err ours = ERR_NONE;
    int r = nl_send(fd, &batch, NULL, &ours);
    if (r != -ENOENT) {
        return r < 0 ? err_set(err, -r, "remove from nftables table 'inet %s'", table) : 0;
    }
    if (firewall_probe(fd, table, &ours) == -ENOENT) {
        return 0;
    }
    /* Some are missing: a delete of all succeeds once all are put. */
    nl_batch_clear(&batch);
    put_remove(&batch, table, elements, true);
    return send_batch(fd, &batch, table, "remove from", err);
}

int firewall_drop(int fd, const char *table, struct err *err)
{
    AUTO(nl_batch_donep) struct nl_batch batch = {0};
    nft_begin(&batch);
    nft_put_table(&batch, table, SCHEMA);
    nft_put_table_delete(&batch, table);
    nft_end(&batch);
    return send_batch(fd, &batch, table, "remove", err);
}
