/*
 * workload_network.h - what a workload knows of its networks: its files, its name service, and both
 * when it joins or leaves a network while it runs.
 */
#ifndef ENGINE_WORKLOAD_NETWORK_H
#define ENGINE_WORKLOAD_NETWORK_H

#include "engine/network.h"
#include "engine/workload.h"

#define WORKLOAD_HOSTNAME_SIZE 65

struct engine;
struct err;

/* Its host name: its own, in host mode the host's, else the beginning of its id. */
void workload_hostname(const struct workload *workload, const struct network_request *request,
                       char ret[WORKLOAD_HOSTNAME_SIZE]);

/* What network_make_files() and network_dns_of() ask for; all of it is borrowed. */
struct network_names workload_network_names(const struct workload *workload, const char *hostname);

/* Writes RUN/workloads/ID/dns for the lease. */
int workload_write_dns(struct network_host *host, const struct network_lease *lease,
                       const struct network_names *names, const char *run_dir, struct err *err);

/*
 * A running workload gets, or loses, an endpoint. Its resolv.conf and hosts follow unless it has
 * changed them itself; its shim answers, or no longer answers, for the network. The caller holds
 * the workload's lock and saves its configuration.
 */
int workload_network_join(struct engine *engine, const struct workload *workload,
                          const struct network_endpoint_request *endpoint, struct err *err);
int workload_network_leave(struct engine *engine, const struct workload *workload,
                           const char *network_id, struct err *err);

#endif
