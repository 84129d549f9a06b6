/*
 * Leases: what workloads have in networks. Database work only, but for the search of a free port.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/json.h"
#include "engine/network_host.h"
#include "engine/network_probe.h"

/* How often the kernel is asked for a free port before we give up. */
#define PORT_TRIES 256

static void endpoint_done(struct network_endpoint *e)
{
    free(e->network_name);
    strv_done(&e->aliases);
}

void network_lease_done(struct network_lease *lease)
{
    for (size_t i = 0; i < lease->endpoint_count; i++) {
        endpoint_done(&lease->endpoints[i]);
    }
    free(lease->endpoints);
    free(lease->workload);
    port_list_done(&lease->ports);
    *lease = (struct network_lease){0};
}

/* ---- Addresses ---- */

/* The name of the workload that has the address, for the error text. */
static int find_holder(struct network_host *host, const struct network *n,
                       const struct ip_address *ip, char *ret_name, size_t size, struct err *err)
{
    char text[IP_TEXT_SIZE];
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    int r = db_prepare(host->db, &stmt, err,
                       ip->family == AF_INET
                           ? "SELECT w.name FROM endpoint e JOIN workload w ON w.id = e.workload"
                             " WHERE e.network = ? AND e.ip4 = ?"
                           : "SELECT w.name FROM endpoint e JOIN workload w ON w.id = e.workload"
                             " WHERE e.network = ? AND e.ip6 = ?",
                       "ss", n->id, ip_format(ip, text));
    if (r < 0 || (r = db_step(host->db, stmt, err)) < 0) {
        return r;
    }
    (void)snprintf(ret_name, size, "%s", r > 0 ? db_text(stmt, 0) : "");
    return r;
}

/* An address that no workload may have: the network's own, the gateway's, IPv4's broadcast. */
static bool address_is_reserved(const struct network *n, size_t f, const struct ip_address *ip)
{
    struct ip_address last = ip_prefix_last(&n->subnet[f]);
    return ip_eq(ip, &n->subnet[f].address) || ip_eq(ip, &n->gateway[f]) ||
           (f == 0 && ip_eq(ip, &last));
}

static int take_given_address(struct network_host *host, const struct network *n, size_t f,
                              const struct ip_address *ip, struct err *err)
{
    char text[IP_TEXT_SIZE];
    char holder[256];
    (void)ip_format(ip, text);
    if (n->subnet[f].address.family == 0) {
        (void)err_say(err, EINVAL, "address %s: network '%s' has no IPv%d", text, n->name,
                      f == 0 ? 4 : 6);
        err_hint(err, "create the network with --ipv6 or a --subnet");
        return -EINVAL;
    }
    if (!ip_prefix_has(&n->subnet[f], ip) || address_is_reserved(n, f, ip)) {
        char subnet[IP_TEXT_SIZE];
        return err_say(err, EINVAL, "address %s is not one for workloads in %s of network '%s'",
                       text, ip_prefix_format(&n->subnet[f], subnet), n->name);
    }
    int r = find_holder(host, n, ip, holder, sizeof(holder), err);
    if (r > 0) {
        return err_say(err, EADDRINUSE, "address %s of network '%s' is taken by '%s'", text,
                       n->name, holder);
    }
    return r;
}

/* Round and round the range, so that an address rests before it is given again. */
static int choose_address(struct network_host *host, const struct network *n, size_t f,
                          struct ip_address *ret, struct err *err)
{
    const struct ip_prefix *range = n->range[f].address.family != 0 ? &n->range[f] : &n->subnet[f];
    unsigned bits = (f == 0 ? 32 : 128) - range->length;
    uint64_t size = (uint64_t)1 << (bits < 32 ? bits : 32);
    uint64_t next = 0;
    {
        AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(host->db, &stmt, err, "SELECT next4, next6 FROM network WHERE id = ?",
                           "s", n->id);
        if (r < 0 || (r = db_step(host->db, stmt, err)) < 0) {
            return r;
        }
        next = (uint64_t)sqlite3_column_int64(stmt, (int)f);
    }
    for (uint64_t i = 0; i < size; i++) {
        uint64_t offset = (next + i) % size;
        struct ip_address ip = ip_add(&range->address, offset);
        char holder[256];
        if (address_is_reserved(n, f, &ip)) {
            continue;
        }
        int r = find_holder(host, n, &ip, holder, sizeof(holder), err);
        if (r < 0) {
            return r;
        }
        if (r == 0) {
            r = db_run(host->db, err,
                       f == 0 ? "UPDATE network SET next4 = ? WHERE id = ?"
                              : "UPDATE network SET next6 = ? WHERE id = ?",
                       "is", (int64_t)((offset + 1) % size), n->id);
            *ret = ip;
            return r < 0 ? r : 0;
        }
    }
    char text[IP_TEXT_SIZE];
    (void)err_say(err, EADDRNOTAVAIL, "network '%s': no address of %s is free", n->name,
                  ip_prefix_format(range, text));
    err_hint(err, "remove workloads or create a network with a larger --subnet");
    return -EADDRNOTAVAIL;
}

static int take_address(struct network_host *host, const struct network *n, size_t f,
                        const struct network_endpoint_request *request, struct ip_address *ret,
                        struct err *err)
{
    if (host->rootless) {
        return 0; /* pasta gives it the host's */
    }
    if (request->ip[f].family != 0) {
        int r = take_given_address(host, n, f, &request->ip[f], err);
        if (r == 0) {
            *ret = request->ip[f];
        }
        return r;
    }
    if (n->subnet[f].address.family == 0) {
        return 0;
    }
    return choose_address(host, n, f, ret, err);
}

/* 02:42 and the IPv4 address, so that neighbours' caches stay right when it is given again. */
static int choose_mac(const struct ip_address *ip4, uint8_t mac[6], struct err *err)
{
    mac[0] = 0x02;
    mac[1] = 0x42;
    if (ip4->family != 0) {
        memcpy(&mac[2], ip4->bytes, 4);
        return 0;
    }
    char hex[9];
    int r = random_hex(hex, 4, err);
    uint64_t value = 0;
    if (r == 0 && (r = parse_u64(hex, 16, &value)) == 0) {
        for (size_t i = 0; i < 4; i++) {
            mac[2 + i] = (uint8_t)(value >> (8 * i));
        }
    }
    return r;
}

/* What an ordinary user's workload cannot have is refused by name. */
static int check_rootless(const struct network *n, const struct network_endpoint_request *request,
                          int64_t position, struct err *err)
{
    static const uint8_t no_mac[6];
    const char *what = NULL;
    if (!n->is_default || position > 0) {
        what = "user-defined networks";
    } else if (request->ip[0].family != 0 || request->ip[1].family != 0) {
        what = "--ip and --ip6";
    } else if (request->aliases.count > 0) {
        what = "--network-alias";
    } else if (memcmp(request->mac, no_mac, sizeof(no_mac)) != 0) {
        what = "--mac-address";
    }
    if (what == NULL) {
        return 0;
    }
    (void)err_say(err, EPERM,
                  "%s: needs root; an ordinary user's workload has one network, by pasta", what);
    err_hint(err, "use --network bridge, host, none or container:NAME");
    return -EPERM;
}

static int reserve_endpoint(struct network_host *host, const char *workload, int64_t position,
                            const struct network_endpoint_request *request, struct err *err)
{
    static const uint8_t no_mac[6];
    AUTO(network_donep) struct network n = {0};
    int r = network_find(host, request->network, &n, err);
    if (r < 0) {
        return r;
    }
    if (n.driver != NETWORK_BRIDGE) {
        return err_say(err, EINVAL, "network '%s' cannot be one of several", n.name);
    }
    if (host->rootless && (r = check_rootless(&n, request, position, err)) < 0) {
        return r;
    }
    struct ip_address ip[2] = {0};
    for (size_t f = 0; f < 2; f++) {
        r = take_address(host, &n, f, request, &ip[f], err);
        if (r < 0) {
            return r;
        }
    }
    uint8_t mac[6];
    memcpy(mac, request->mac, sizeof(mac));
    if (memcmp(mac, no_mac, sizeof(mac)) == 0) {
        r = choose_mac(&ip[0], mac, err);
    }
    char veth[IFNAMSIZ] = "iv";
    if (r < 0 || (r = random_hex(veth + 2, 6, err)) < 0) {
        return r;
    }
    AUTO(json_unrefp) json_t *json = json_from_strv(&request->aliases);
    AUTO(freep) char *aliases = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    if (aliases == NULL) {
        return err_set(err, ENOMEM, "join network '%s'", n.name);
    }
    char text[2][IP_TEXT_SIZE];
    char mac_text[MAC_TEXT_SIZE];
    struct err ours = ERR_NONE;
    r = db_run(host->db, &ours,
               "INSERT INTO endpoint (workload, network, position, veth, ip4, ip6, mac, aliases)"
               " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
               "ssisssss", workload, n.id, position, veth,
               ip[0].family != 0 ? ip_format(&ip[0], text[0]) : NULL,
               ip[1].family != 0 ? ip_format(&ip[1], text[1]) : NULL, mac_format(mac, mac_text),
               aliases);
    if (r == -EEXIST) {
        return err_say(err, EEXIST, "the workload is in network '%s' already, or is unknown",
                       n.name);
    }
    if (r < 0 && err != NULL) {
        *err = ours;
    }
    return r < 0 ? r : 0;
}

/* ---- Ports ---- */

/* Whether two host addresses of one port exclude each other. "" is every address. */
static bool hosts_collide(const struct ip_address *a, const struct ip_address *b)
{
    if (a->family == 0 || b->family == 0) {
        return true;
    }
    return a->family == b->family && (ip_is_any(a) || ip_is_any(b) || ip_eq(a, b));
}

/* 1 and the holder's name when another workload has the port. */
static int find_port_holder(struct network_host *host, const struct port *port,
                            const char *workload, char *ret_name, size_t size, struct err *err)
{
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    int r = db_prepare(host->db, &stmt, err,
                       "SELECT p.host, w.name, w.id FROM port p JOIN workload w"
                       " ON w.id = p.workload WHERE p.protocol = ? AND p.host_port = ?",
                       "ii", (int64_t)port->protocol, (int64_t)port->host_first);
    while (r >= 0 && (r = db_step(host->db, stmt, err)) > 0) {
        struct ip_address other = {0};
        const char *text = db_text(stmt, 0);
        if (text[0] != '\0' && ip_parse(text, &other) < 0) {
            continue;
        }
        if (hosts_collide(&port->host, &other)) {
            (void)snprintf(ret_name, size, "%s",
                           str_eq(db_text(stmt, 2), workload) ? "this workload itself"
                                                              : db_text(stmt, 1));
            return 1;
        }
    }
    return r;
}

static int insert_port(struct network_host *host, const char *workload, const struct port *port,
                       struct err *err)
{
    char text[IP_TEXT_SIZE];
    int r = db_run(host->db, err,
                   "INSERT INTO port (protocol, host_port, host, workload, port)"
                   " VALUES (?, ?, ?, ?, ?)",
                   "iissi", (int64_t)port->protocol, (int64_t)port->host_first,
                   ip_format(&port->host, text), workload, (int64_t)port->port);
    return r < 0 ? r : 0;
}

static const char *where(const struct port *port, char out[IP_TEXT_SIZE])
{
    return port->host.family == 0 ? "0.0.0.0" : ip_format(&port->host, out);
}

static int reserve_free_port(struct network_host *host, const char *workload, struct port port,
                             struct err *err)
{
    for (int i = 0; i < PORT_TRIES; i++) {
        char holder[256];
        port.host_first = 0;
        int r = network_probe_port(&port, &port.host_first);
        if (r < 0) {
            return err_set(err, -r, "find a free port for %u/%s", port.port,
                           port_protocol_name(port.protocol));
        }
        r = find_port_holder(host, &port, workload, holder, sizeof(holder), err);
        if (r <= 0) {
            return r < 0 ? r : insert_port(host, workload, &port, err);
        }
    }
    return err_say(err, EADDRNOTAVAIL, "no free port on the host for %u/%s", port.port,
                   port_protocol_name(port.protocol));
}

static int reserve_port(struct network_host *host, const char *workload, const struct port *wish,
                        struct err *err)
{
    struct port port = *wish;
    char holder[256] = "";
    char text[IP_TEXT_SIZE];
    if (port.host_first == 0) {
        return reserve_free_port(host, workload, port, err);
    }
    for (uint32_t p = wish->host_first; p <= wish->host_last; p++) {
        port.host_first = port.host_last = (uint16_t)p;
        int r = find_port_holder(host, &port, workload, holder, sizeof(holder), err);
        if (r < 0) {
            return r;
        }
        /* In a range the next one will do, also when a program of the host listens. */
        uint16_t bound = port.host_first;
        bool free = r == 0 &&
                    (wish->host_first == wish->host_last || network_probe_port(&port, &bound) == 0);
        if (free) {
            return insert_port(host, workload, &port, err);
        }
    }
    if (wish->host_first != wish->host_last) {
        return err_say(err, EADDRINUSE, "no port of %u-%u/%s on %s is free", wish->host_first,
                       wish->host_last, port_protocol_name(wish->protocol), where(wish, text));
    }
    return err_say(err, EADDRINUSE, "port %u/%s on %s is already published by '%s'",
                   wish->host_first, port_protocol_name(wish->protocol), where(wish, text), holder);
}

static bool is_published(const struct port_list *ports, const struct port *exposed)
{
    for (size_t i = 0; i < ports->count; i++) {
        if (ports->items[i].port == exposed->port &&
            ports->items[i].protocol == exposed->protocol) {
            return true;
        }
    }
    return false;
}

/* A port that could lead nowhere is refused, not ignored. */
static int check_ports(const struct network_lease *lease, struct err *err)
{
    bool has[2] = {lease->rootless, lease->rootless};
    size_t loopback = 0;
    for (size_t i = 0; i < lease->endpoint_count; i++) {
        has[0] = has[0] || lease->endpoints[i].ip[0].address.family != 0;
        has[1] = has[1] || lease->endpoints[i].ip[1].address.family != 0;
    }
    for (size_t i = 0; i < lease->ports.count; i++) {
        const struct port *port = &lease->ports.items[i];
        char text[IP_TEXT_SIZE];
        size_t f = port->host.family == AF_INET6;
        if (f == 1 && ip_is_loopback(&port->host) && (has[0] || has[1])) {
            /* By the shim, which reaches the workload by either. */
            if (++loopback > NETWORK_PROXY_PORTS_MAX && !lease->rootless) {
                return err_say(err, E2BIG, "more than %zu ports on [::1]", NETWORK_PROXY_PORTS_MAX);
            }
            continue;
        }
        if (port->host.family != 0 && !has[f]) {
            (void)err_say(err, EINVAL,
                          "port %u/%s cannot be published on %s: the workload's "
                          "networks have no IPv%d",
                          port->host_first, port_protocol_name(port->protocol),
                          ip_format(&port->host, text), f == 0 ? 4 : 6);
            err_hint(err, "create one with: isola network create --ipv6 NAME");
            return -EINVAL;
        }
    }
    return 0;
}

static int reserve_ports(struct network_host *host, const char *workload,
                         const struct network_request *request, struct err *err)
{
    int r = 0;
    for (size_t i = 0; i < request->ports.count && r >= 0; i++) {
        r = reserve_port(host, workload, &request->ports.items[i], err);
    }
    for (size_t i = 0; request->publish_all && i < request->exposed.count && r >= 0; i++) {
        if (!is_published(&request->ports, &request->exposed.items[i])) {
            r = reserve_free_port(host, workload, request->exposed.items[i], err);
        }
    }
    return r;
}

/* ---- All of it ---- */

static int release_rows(struct network_host *host, const char *workload_id, struct err *err)
{
    int r = db_run(host->db, err, "DELETE FROM endpoint WHERE workload = ?", "s", workload_id);
    if (r >= 0) {
        r = db_run(host->db, err, "DELETE FROM port WHERE workload = ?", "s", workload_id);
    }
    return r < 0 ? r : 0;
}

int network_release(struct network_host *host, const char *workload_id, struct err *err)
{
    AUTO(network_lease_donep) struct network_lease lease = {0};
    AUTO(db_tx_donep) struct db_tx tx = {0};
    int r = db_begin(host->db, &tx, err);
    if (r < 0 || (r = network_load(host, workload_id, &lease, err)) < 0 ||
        (r = release_rows(host, workload_id, err)) < 0) {
        return r;
    }
    /* Inside the transaction, which is what keeps two writers of a list apart. */
    for (size_t i = 0; i < lease.endpoint_count && r >= 0; i++) {
        if (lease.endpoints[i].user_defined) {
            r = network_write_names(host, lease.endpoints[i].network, err);
        }
    }
    return r < 0 ? r : db_commit(&tx, err);
}

int network_reserve(struct network_host *host, const char *workload_id,
                    const struct network_request *request, struct network_lease *ret,
                    struct err *err)
{
    char standard[] = "bridge";
    struct network_endpoint_request fallback = {.network = standard};
    int r = network_request_check(request, err);
    if (r < 0) {
        return r;
    }
    AUTO(db_tx_donep) struct db_tx tx = {0};
    if ((r = db_begin(host->db, &tx, err)) < 0 || (r = release_rows(host, workload_id, err)) < 0) {
        return r;
    }
    if (request->mode == NETWORK_MODE_BRIDGED) {
        const struct network_endpoint_request *list =
            request->endpoint_count > 0 ? request->endpoints : &fallback;
        size_t count = request->endpoint_count > 0 ? request->endpoint_count : 1;
        for (size_t i = 0; i < count && r >= 0; i++) {
            r = reserve_endpoint(host, workload_id, (int64_t)i, &list[i], err);
        }
        if (r >= 0) {
            r = reserve_ports(host, workload_id, request, err);
        }
    }
    if (r < 0) {
        return r;
    }
    AUTO(network_lease_donep) struct network_lease lease = {0};
    if ((r = network_load(host, workload_id, &lease, err)) < 0 ||
        (r = check_ports(&lease, err)) < 0 || (r = db_commit(&tx, err)) < 0) {
        return r;
    }
    *ret = lease;
    lease = (struct network_lease){0};
    return 0;
}

int network_lease_add(struct network_host *host, const char *workload_id,
                      const struct network_endpoint_request *request, struct err *err)
{
    int64_t position = 0;
    {
        AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
        int r = db_prepare(host->db, &stmt, err,
                           "SELECT coalesce(max(position) + 1, 0) FROM endpoint WHERE workload = ?",
                           "s", workload_id);
        if (r < 0 || (r = db_step(host->db, stmt, err)) < 0) {
            return r;
        }
        position = sqlite3_column_int64(stmt, 0);
    }
    return reserve_endpoint(host, workload_id, position, request, err);
}

/* ---- Reading ---- */

static int read_aliases(const char *text, const char *workload, struct strv *aliases,
                        struct err *err)
{
    AUTO(json_unrefp) json_t *json = NULL;
    int r = json_parse(text, strlen(text), "aliases", &json, err);
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < json_array_size(json) && r >= 0; i++) {
        const char *alias = json_string_value(json_array_get(json, i));
        r = alias != NULL ? strv_add(aliases, alias) : 0;
    }
    return r < 0 || strv_addf(aliases, "%.12s", workload) < 0 ? err_set(err, ENOMEM, "read aliases")
                                                              : 0;
}

/* Columns: network's five, then endpoint's id, position, veth, ip4, ip6, mac, aliases. */
static int read_endpoint(sqlite3_stmt *stmt, const char *workload, struct network_endpoint *ret,
                         struct err *err)
{
    AUTO(network_donep) struct network n = {0};
    int r = network_read_row(stmt, &n, err);
    if (r < 0) {
        return r;
    }
    struct network_endpoint e = {
        .id = sqlite3_column_int64(stmt, 5),
        .mtu = n.mtu,
        .internal = n.internal,
        .user_defined = !n.is_default,
    };
    memcpy(e.network, n.id, sizeof(e.network));
    memcpy(e.bridge, n.bridge, sizeof(e.bridge));
    (void)snprintf(e.interface, sizeof(e.interface), "eth%d", sqlite3_column_int(stmt, 6));
    (void)snprintf(e.veth, sizeof(e.veth), "%s", db_text(stmt, 7));
    for (size_t f = 0; f < 2; f++) {
        const char *text = db_text(stmt, (int)(8 + f));
        if (text[0] != '\0' && ip_parse(text, &e.ip[f].address) == 0) {
            e.ip[f].length = n.subnet[f].length;
            e.gateway[f] = n.gateway[f];
        }
    }
    if (mac_parse(db_text(stmt, 10), e.mac) < 0) {
        return err_say(err, EBADMSG, "endpoint of network '%s': bad MAC address", n.name);
    }
    r = read_aliases(db_text(stmt, 11), workload, &e.aliases, err);
    if (r < 0) {
        endpoint_done(&e);
        return r;
    }
    e.network_name = TAKE_PTR(n.name);
    *ret = e;
    return 0;
}

static int load_endpoints(struct network_host *host, struct network_lease *lease, struct err *err)
{
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    int r = db_prepare(host->db, &stmt, err,
                       "SELECT n.id, n.name, n.bridge, n.created, n.config,"
                       " e.id, e.position, e.veth, e.ip4, e.ip6, e.mac, e.aliases"
                       " FROM endpoint e JOIN network n ON n.id = e.network"
                       " WHERE e.workload = ? ORDER BY e.position",
                       "s", lease->workload);
    while (r >= 0 && (r = db_step(host->db, stmt, err)) > 0) {
        struct network_endpoint *items =
            realloc(lease->endpoints, (lease->endpoint_count + 1) * sizeof(*items));
        if (items == NULL) {
            return err_set(err, ENOMEM, "read leases");
        }
        lease->endpoints = items;
        r = read_endpoint(stmt, lease->workload, &items[lease->endpoint_count], err);
        lease->endpoint_count += r >= 0;
    }
    return r;
}

static int load_ports(struct network_host *host, struct network_lease *lease, struct err *err)
{
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    int r = db_prepare(host->db, &stmt, err,
                       "SELECT protocol, host_port, host, port FROM port WHERE workload = ?"
                       " ORDER BY port, protocol, host, host_port",
                       "s", lease->workload);
    while (r >= 0 && (r = db_step(host->db, stmt, err)) > 0) {
        struct port port = {
            .protocol = (uint8_t)sqlite3_column_int(stmt, 0),
            .host_first = (uint16_t)sqlite3_column_int(stmt, 1),
            .port = (uint16_t)sqlite3_column_int(stmt, 3),
        };
        port.host_last = port.host_first;
        const char *text = db_text(stmt, 2);
        if (text[0] != '\0' && ip_parse(text, &port.host) < 0) {
            return err_say(err, EBADMSG, "published port: '%s' is not an address", text);
        }
        if (port_list_add(&lease->ports, &port) < 0) {
            return err_set(err, ENOMEM, "read ports");
        }
    }
    return r;
}

int network_load(struct network_host *host, const char *workload_id, struct network_lease *ret,
                 struct err *err)
{
    AUTO(network_lease_donep)
    struct network_lease lease = {.workload = strdup(workload_id), .rootless = host->rootless};
    if (lease.workload == NULL) {
        return err_set(err, ENOMEM, "read leases");
    }
    int r = load_endpoints(host, &lease, err);
    if (r < 0 || (r = load_ports(host, &lease, err)) < 0) {
        return r;
    }
    *ret = lease;
    lease = (struct network_lease){0};
    return 0;
}

json_t *network_lease_to_inspect(const struct network_lease *lease)
{
    json_t *networks = json_object();
    json_t *object =
        json_pack("{s:o, s:o}", "Ports", port_list_to_inspect(&lease->ports), "Networks", networks);
    for (size_t i = 0; object != NULL && i < lease->endpoint_count; i++) {
        const struct network_endpoint *e = &lease->endpoints[i];
        char ip[2][IP_TEXT_SIZE];
        char gateway[2][IP_TEXT_SIZE];
        char mac[MAC_TEXT_SIZE];
        json_t *item =
            json_pack("{s:o, s:s, s:s, s:s, s:s, s:i, s:s, s:s, s:i, s:s}", "Aliases",
                      json_from_strv(&e->aliases), "NetworkID", e->network, "EndpointID", e->veth,
                      "Gateway", ip_format(&e->gateway[0], gateway[0]), "IPAddress",
                      ip_format(&e->ip[0].address, ip[0]), "IPPrefixLen", (int)e->ip[0].length,
                      "IPv6Gateway", ip_format(&e->gateway[1], gateway[1]), "GlobalIPv6Address",
                      ip_format(&e->ip[1].address, ip[1]), "GlobalIPv6PrefixLen",
                      (int)e->ip[1].length, "MacAddress", mac_format(e->mac, mac));
        if (json_object_set_new(networks, e->network_name, item) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}
