/*
 * shim_dns.h - name service of user-defined networks, answered by their workloads' shims.
 */
#ifndef ENGINE_SHIM_DNS_H
#define ENGINE_SHIM_DNS_H

struct err;
struct shim;

/* Opens a responder for each entry of --dns-listen; none given: nothing to do. */
int shim_dns_start(struct shim *shim, struct err *err);

#endif
