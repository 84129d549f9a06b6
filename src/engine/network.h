/*
 * network.h - networks, and the leases that workloads take in them.
 *
 * Two halves. The database half (create, reserve, release...) runs inside the caller's transaction
 * and touches no kernel object. The kernel half (attach, detach) makes links, addresses, routes and
 * nftables elements from what was reserved; everything that it makes carries the tag of this engine
 * (one a ROOT directory), so that network_check() can tell what is ours and what belongs to nobody.
 *
 * docs/network.md has the picture.
 *
 *   network_host_open()                          once a command
 *   db_begin(); network_reserve(); db_commit()   before the workload is made
 *   network_attach(netns_fd)                     between create and start
 *   network_detach()                             at its end (the links died with the namespace)
 *   db_begin(); network_release(); db_commit()
 */
#ifndef ENGINE_NETWORK_H
#define ENGINE_NETWORK_H

#include <jansson.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "engine/port.h"
#include "netlink/ip.h"

struct buf;
struct db;
struct dirs;
struct err;

/* ---- The engine's networks in the network namespace of this process ---- */

struct network_host;

/* db and dirs are borrowed and outlive the host. Opens nothing else yet. */
int network_host_open(struct db *db, const struct dirs *dirs, struct network_host **ret,
                      struct err *err);
void network_host_close(struct network_host *host);
DEFINE_FREEP(struct network_host *, network_host_close)

/* ---- Networks ---- */

#define NETWORK_ID_SIZE ((size_t)65) /* 64 hex digits and NUL */

enum network_driver {
    NETWORK_BRIDGE,
    NETWORK_HOST, /* the one network named 'host' */
    NETWORK_NONE, /* the one network named 'none' */
};

struct network {
    char id[NETWORK_ID_SIZE];
    char *name;
    enum network_driver driver;
    int64_t created;       /* ns since 1970 */
    char bridge[IFNAMSIZ]; /* "" unless driver is NETWORK_BRIDGE */
    /* Index 0: IPv4, 1: IPv6; family 0 where the network has none. */
    struct ip_prefix subnet[2];
    struct ip_prefix range[2]; /* where leases are chosen; family 0: the whole subnet */
    struct ip_address gateway[2];
    unsigned mtu; /* 0: the kernel's default */
    bool internal;
    bool masquerade;
    bool is_default;     /* 'bridge', 'host', 'none': cannot be removed */
    struct strv labels;  /* KEY=VALUE */
    struct strv options; /* KEY=VALUE as given with -o */
};

void network_done(struct network *network);
DEFINE_DONEP(struct network, network_done)

/* A zeroed struct is an empty list. */
struct network_list {
    struct network *items;
    size_t count;
};
void network_list_done(struct network_list *list);
DEFINE_DONEP(struct network_list, network_list_done)

/* What `network create` was asked for; all may be empty but the name. Borrowed strings. */
struct network_create {
    const char *name;
    const char *driver;   /* NULL or "bridge"; others are refused */
    struct strv subnets;  /* at most one a family */
    struct strv gateways; /* each inside a subnet */
    struct strv ranges;
    bool ipv6; /* without an IPv6 subnet one is chosen below fd00::/8 */
    bool internal;
    struct strv labels;
    struct strv options;
};

/*
 * -EEXIST for a taken name, -EINVAL for anything that makes no sense, -EADDRINUSE for a subnet that
 * overlaps another network or a route of the host. On success *ret is the caller's.
 */
int network_create(struct network_host *host, const struct network_create *create,
                   struct network *ret, struct err *err);

/*
 * Finds by name, id or unique beginning of an id. "bridge" and "default" make the default network
 * on first use. -ENOENT with err set.
 */
int network_find(struct network_host *host, const char *name, struct network *ret, struct err *err);

/* All, by name; the three default ones are always among them. */
int network_list(struct network_host *host, struct network_list *ret, struct err *err);

/* -EBUSY while a workload has a lease in it, -EPERM for the default ones. */
int network_remove(struct network_host *host, const char *name, struct err *err);

/*
 * Removes every network without leases, and with the last bridge the nftables table; appends the
 * names of user-defined ones to removed. The default network comes back with its next use.
 */
int network_prune(struct network_host *host, struct strv *removed, struct err *err);

/* `network inspect`: one object. A new reference. */
int network_inspect(struct network_host *host, const struct network *network, json_t **ret,
                    struct err *err);

/* ---- What a workload asks for ---- */

enum network_mode {
    NETWORK_MODE_BRIDGED,   /* the endpoints; none given means the default network */
    NETWORK_MODE_HOST,      /* the host's own namespace */
    NETWORK_MODE_NONE,      /* an own namespace with lo only */
    NETWORK_MODE_CONTAINER, /* the namespace of another workload */
};

struct network_endpoint_request {
    char *network;           /* name or id, as the user gave it */
    struct ip_address ip[2]; /* family 0: chosen */
    uint8_t mac[6];          /* all zero: chosen */
    struct strv aliases;
};

/* A zeroed struct is the default network without ports. Kept as JSON in the workload's config. */
struct network_request {
    enum network_mode mode;
    char *container; /* NETWORK_MODE_CONTAINER: name or id */
    struct network_endpoint_request *endpoints;
    size_t endpoint_count;
    struct port_list ports;   /* -p */
    bool publish_all;         /* -P */
    struct port_list exposed; /* what -P publishes */
};

void network_request_done(struct network_request *request);
DEFINE_DONEP(struct network_request, network_request_done)

/*
 * One --network: NAME, host, none, container:NAME, or Docker's long form
 * "name=NET,alias=a,ip=...,ip6=...,mac-address=...". May be repeated for bridges. -EINVAL with err.
 */
int network_request_add(struct network_request *request, const char *text, struct err *err);

/* --ip, --ip6, --mac-address and --network-alias: they belong to the first endpoint. */
int network_request_set(struct network_request *request, const char *ip4, const char *ip6,
                        const char *mac, const struct strv *aliases, struct err *err);

/* Host, none and container modes take neither ports (docker ignores them; we say so) nor ip. */
int network_request_check(const struct network_request *request, struct err *err);

json_t *network_request_to_json(const struct network_request *request);
int network_request_from_json(const json_t *json, struct network_request *ret, struct err *err);

/* ---- What it got ---- */

struct network_endpoint {
    int64_t id;
    char network[NETWORK_ID_SIZE];
    char *network_name;
    char bridge[IFNAMSIZ];
    char veth[IFNAMSIZ];      /* the host's end */
    char interface[IFNAMSIZ]; /* inside: eth0, eth1... */
    struct ip_prefix ip[2];   /* family 0: none */
    struct ip_address gateway[2];
    uint8_t mac[6];
    struct strv aliases; /* given ones, then the short id */
    unsigned mtu;
    bool internal;
    bool user_defined; /* has names by DNS */
};

struct network_lease {
    char *workload; /* its id */
    struct network_endpoint *endpoints;
    size_t endpoint_count;
    struct port_list ports; /* host_first == host_last, never 0 */
    bool rootless;          /* the endpoint has no addresses here: it has the host's, by pasta */
};

void network_lease_done(struct network_lease *lease);
DEFINE_DONEP(struct network_lease, network_lease_done)

/*
 * Takes addresses and ports for a workload whose row is in the database (foreign key; rows vanish
 * with it). Inside the caller's transaction or its own. Other modes than bridged get an empty
 * lease. -EADDRINUSE: an address or port is taken, the text names by whom. What it had before is
 * replaced.
 */
int network_reserve(struct network_host *host, const char *workload_id,
                    const struct network_request *request, struct network_lease *ret,
                    struct err *err);

/* What network_reserve() gave; empty when there is nothing. */
int network_load(struct network_host *host, const char *workload_id, struct network_lease *ret,
                 struct err *err);

/*
 * Gives all back and withdraws the names; nothing to give is success. Call network_detach() before.
 */
int network_release(struct network_host *host, const char *workload_id, struct err *err);

/*
 * Wires the network namespace netns_fd: lo up, links, addresses, routes, published ports, names. An
 * empty lease only brings lo up. Makes the bridges and rules of the engine that are missing. On
 * failure nothing of this workload is left. -EADDRINUSE when another program listens on a host
 * port.
 */
int network_attach(struct network_host *host, const struct network_lease *lease, int netns_fd,
                   struct err *err);

/* The same for a machine, whose cards are taps with the names of the lease's host ends. */
int network_attach_taps(struct network_host *host, const struct network_lease *lease,
                        struct err *err);

enum network_links {
    NETWORK_LINKS_DIE,    /* the kernel removes them: the namespace has no process left */
    NETWORK_LINKS_REMOVE, /* now; the kernel takes some 20 ms for it */
};

/*
 * Withdraws ports, names and (see links) interfaces of a workload, whatever of it exists.
 * Idempotent. The lease stays in the database; names are withdrawn by network_release().
 */
int network_detach(struct network_host *host, const struct network_lease *lease,
                   enum network_links links, struct err *err);

/*
 * `network connect` and `disconnect`: one endpoint more or less, reserved and, when netns_fd is not
 * negative (a running workload), attached at once. -EEXIST, -ENOENT.
 */
int network_connect(struct network_host *host, const char *workload_id,
                    const struct network_endpoint_request *request, int netns_fd, struct err *err);
int network_disconnect(struct network_host *host, const char *workload_id, const char *network,
                       int netns_fd, struct err *err);

/* Docker's NetworkSettings of `inspect`. A new reference or NULL without memory. */
json_t *network_lease_to_inspect(const struct network_lease *lease);

/* ---- Files of a workload ---- */

struct network_names {
    const char *hostname;
    const char *domainname;  /* NULL: none */
    struct strv dns;         /* --dns */
    struct strv dns_search;  /* --dns-search; one "." means none */
    struct strv dns_options; /* --dns-option */
    struct strv add_hosts;   /* --add-host: NAME:ADDRESS, NAME=ADDRESS, address host-gateway */
};

/*
 * Texts of /etc/resolv.conf, /etc/hosts and /etc/hostname. In host mode the first two are copies of
 * the host's. resolv_path is normally "/etc/resolv.conf". Any ret may be NULL.
 */
int network_make_files(const struct network_request *request, const struct network_lease *lease,
                       const struct network_names *names, const char *resolv_path,
                       struct buf *ret_resolv, struct buf *ret_hosts, struct buf *ret_hostname,
                       struct err *err);

/*
 * What the shim must serve for this workload, as dns_new() (engine/dns.h) takes it: the
 * addresses to bind, the names behind each, and where other questions go. count is 0 when nothing
 * needs a responder.
 */
struct network_dns {
    struct ip_address listen[8];
    size_t count;
    char networks[8][NETWORK_ID_SIZE]; /* networks[i] is served at listen[i]... */
    char bridges[8][IFNAMSIZ];         /* ...to askers on bridges[i]; "": to all */
    char *names_dir;                   /* RUN/networks; DIR/ID/names holds the names */
    struct strv servers;               /* --dns, else the host's */
};
void network_dns_done(struct network_dns *dns);
DEFINE_DONEP(struct network_dns, network_dns_done)
int network_dns_of(struct network_host *host, const struct network_lease *lease,
                   const struct network_names *names, const char *resolv_path,
                   struct network_dns *ret, struct err *err);
/* RUN/workloads/ID/dns; run_fd is that directory. No file: nothing to serve. 0 or -errno. */
int network_dns_write(int run_fd, const struct network_dns *dns);
int network_dns_read(int run_fd, struct network_dns *ret);

/* ---- Published ports on [::1] ---- */

/* One port that the shim serves there (engine/shim_proxy.h). */
struct network_proxy_port {
    uint8_t protocol; /* IPPROTO_TCP or IPPROTO_UDP */
    bool must;        /* published at [::1] by name; else the host may have it */
    uint16_t host_port;
    uint16_t port; /* of the workload */
};

#define NETWORK_PROXY_PORTS_MAX ((size_t)256)

struct network_proxy {
    struct ip_address to[2]; /* of the workload, the one to try first */
    size_t to_count;
    struct network_proxy_port ports[NETWORK_PROXY_PORTS_MAX];
    size_t count;
};

/* What of a lease is served: of ports on all addresses the first ones that there is room for. */
void network_proxy_of(const struct network_lease *lease, struct network_proxy *ret);
/* RUN/workloads/ID/proxy; run_fd is that directory. No file: nothing to serve. 0 or -errno. */
int network_proxy_write(int run_fd, const struct network_proxy *proxy);
int network_proxy_read(int run_fd, struct network_proxy *ret);

/* ---- Order in the house ---- */

/*
 * Compares links, nftables elements, names files and leases with the workloads that live (their
 * ids; those that are being started count). Appends one line a finding. With repair the finding is
 * mended: what belongs to nobody is removed, what a living workload misses in nftables is made
 * again.
 */
int network_check(struct network_host *host, const struct strv *live_ids, bool repair,
                  struct strv *findings, struct err *err);

/*
 * For `isola doctor`: appends what on this host keeps networks from working and the command that
 * mends it (forward policy that drops, IPv4 forwarding, missing kernel parts). Nothing added: good.
 */
int network_doctor(struct network_host *host, struct strv *findings, struct err *err);

#endif
