/*
 * link.h - network interfaces: bridges, veth pairs, their state. rtnetlink(7), RTM_*LINK.
 *
 * The put functions append one message to a batch for a NETLINK_ROUTE socket.
 */
#ifndef NETLINK_LINK_H
#define NETLINK_LINK_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINK_ALIAS_SIZE ((size_t)256)

struct err;
struct nl_batch;

struct link {
    int index;
    char name[IFNAMSIZ];
    char kind[16];               /* "bridge", "veth", "" for hardware */
    char alias[LINK_ALIAS_SIZE]; /* ifalias, "" for none */
    int master;                  /* index of the bridge, 0: none */
    bool up;
    uint32_t mtu;
    uint8_t mac[6];
};

/*
 * A bridge without STP, not yet up. mtu 0: the kernel's choice. The MAC address is fixed, or it
 * would change with the ports that come and go. Two messages, since the kernel takes no alias with
 * a new link. -EEXIST when the name is taken.
 */
void link_put_bridge(struct nl_batch *batch, const char *name, const char *alias,
                     const uint8_t mac[6], unsigned mtu);

struct link_veth {
    const char *name; /* the end here */
    int master;       /* bridge that the end here joins; 0: none */
    const char *peer_name;
    const uint8_t *peer_mac; /* six bytes; NULL: random */
    int peer_netns_fd;       /* where the other end is made */
    unsigned mtu;            /* 0: the kernel's choice */
};

/* The end here comes up; the other one is the caller's to bring up over there. */
void link_put_veth(struct nl_batch *batch, const struct link_veth *veth);

void link_put_up(struct nl_batch *batch, int index);
/* A new name, while the interface is down; a new MTU (0: as it is). */
void link_put_name(struct nl_batch *batch, int index, const char *name);
void link_put_mtu(struct nl_batch *batch, int index, uint32_t mtu);
void link_put_alias(struct nl_batch *batch, const char *name, const char *alias);
/* An interface that exists joins a bridge and comes up. */
void link_put_port(struct nl_batch *batch, const char *name, int master);
/*
 * A port of a bridge may get its own packets back: how a workload reaches its own published port
 * where bridged packets pass netfilter (br_netfilter).
 */
void link_put_hairpin(struct nl_batch *batch, const char *name);
void link_put_delete(struct nl_batch *batch, const char *name);

/* 0, or -ENODEV with err untouched. */
int link_get(int fd, const char *name, struct link *ret, struct err *err);

typedef int link_fn(const struct link *link, void *data);
/*
 * All, or those below a bridge (master > 0). A negative result of fn ends the walk. A link may be
 * reported twice, when links come and go meanwhile.
 */
int link_list(int fd, int master, link_fn *fn, void *data, struct err *err);

#endif
