/*
 * network_host.h - what the files of engine/network share; not for others.
 */
#ifndef ENGINE_NETWORK_HOST_H
#define ENGINE_NETWORK_HOST_H

#include <stdbool.h>

#include "engine/db.h"
#include "engine/network.h"

struct nl_batch;

#define NETWORK_TAG_SIZE ((size_t)24)

struct network_host {
    struct db *db;
    /*
     * "isola" for the default ROOT, else with a number of the ROOT directory: names the nftables
     * table and begins the alias of each link, so that several engines share a host in peace.
     */
    char tag[NETWORK_TAG_SIZE];
    char *run;           /* RUN/networks */
    bool rootless;       /* an ordinary user: pasta instead of bridges */
    int run_fd;          /* -1 until needed */
    int route_fd;        /* NETLINK_ROUTE, -1 until needed */
    int nft_fd;          /* NETLINK_NETFILTER, -1 until needed */
    bool nft_slow_close; /* elements were removed by it: see network_host_close() */
};

/* Open on first use; return the descriptor (the host's) or a negative errno with err set. */
int network_host_run(struct network_host *host, struct err *err);
int network_host_route(struct network_host *host, struct err *err);
int network_host_nft(struct network_host *host, struct err *err);

/* Bytes from the kernel's generator as hexadecimal digits; out has 2 * count + 1 bytes. */
int random_hex(char *out, size_t count, struct err *err);

/* Reads a row of "SELECT id, name, bridge, created, config FROM network". */
int network_read_row(sqlite3_stmt *stmt, struct network *ret, struct err *err);

/* Chooses a subnet that collides with nothing here. family AF_INET or AF_INET6. */
int network_choose_subnet(struct network_host *host, int family, bool is_default,
                          struct ip_prefix *ret, struct err *err);
/* -EADDRINUSE with the text naming what it overlaps. */
int network_check_subnet(struct network_host *host, const struct ip_prefix *subnet,
                         struct err *err);

/* The alias of a network's finished bridge. */
#define NETWORK_ALIAS_SIZE (NETWORK_TAG_SIZE + NETWORK_ID_SIZE + 1)
void network_alias(const struct network_host *host, const char *network_id,
                   char out[NETWORK_ALIAS_SIZE]);

/* RUN/networks/lock, held while bridges and the table are made or removed. An fd to close. */
int network_host_lock(struct network_host *host, struct err *err);
/*
 * The same lock, shared: while one workload's links and ports come or go, so that whoever has it
 * alone sees both or neither. No transaction begins inside; network_host_ensure() takes it alone.
 */
int network_host_share(struct network_host *host, struct err *err);

/* Writes a file below /proc/sys/net unless it has the value already. */
int network_sysctl(const char *value, struct err *err, const char *fmt, ...) PRINTF_LIKE(3, 4);

/*
 * Makes what is missing of the lease's bridges and of the nftables table. Idempotent; two netlink
 * questions when nothing is missing.
 */
int network_host_ensure(struct network_host *host, const struct network_lease *lease,
                        struct err *err);

/* network_attach() of one endpoint more; with a default route already there none is made. */
int network_attach_more(struct network_host *host, const struct network_lease *lease,
                        bool has_route, int netns_fd, struct err *err);

/* Gives the namespace a default route by the first network that leads out, unless it has one. */
int network_route(const struct network_lease *lease, int netns_fd, struct err *err);

/* The nftables elements of the lease's ports. */
int network_publish(struct network_host *host, const struct network_lease *lease, struct err *err);

struct firewall_elements;

/* Elements of every network whose bridge exists and of every workload whose links do. */
int network_collect_elements(struct network_host *host, struct firewall_elements *elements,
                             struct err *err);

/* True for an interface alias that this engine wrote. */
bool network_is_ours(const struct network_host *host, const char *alias);

/* One endpoint more for a workload, at the next free position. Inside a transaction. */
int network_lease_add(struct network_host *host, const char *workload_id,
                      const struct network_endpoint_request *request, struct err *err);

/*
 * Writes RUN/networks/ID/names from the leases in the database. Only networks with names by DNS
 * have one. In a transaction, so that the newest list is the last one written.
 */
int network_write_names(struct network_host *host, const char *network_id, struct err *err);

#endif
