/*
 * network_rootless.h - the network of an ordinary user: one pasta process a workload.
 *
 * An ordinary user can make no bridge on the host. pasta (package passt) takes part in the
 * workload's namespace with a tap device and speaks to the outside by ordinary sockets of the user.
 * For network_attach() and network_detach() of a host whose rootless is set; not for others.
 */
#ifndef ENGINE_NETWORK_ROOTLESS_H
#define ENGINE_NETWORK_ROOTLESS_H

#include <stdbool.h>

struct err;
struct network_host;
struct network_lease;
struct strv;

/* The address by which workloads ask the first of the host's name servers. */
#define ROOTLESS_DNS "169.254.1.1"

/* Starts pasta and returns when the namespace is set up and the ports are bound. */
int network_rootless_attach(struct network_host *host, const struct network_lease *lease,
                            int netns_fd, struct err *err);

/* Ends pasta; none is success. */
int network_rootless_detach(struct network_host *host, const char *workload_id, struct err *err);

/* Appends the ids of workloads that pasta processes, dead ones included, were started for. */
int network_rootless_list(struct network_host *host, struct strv *ids, struct err *err);

#endif
