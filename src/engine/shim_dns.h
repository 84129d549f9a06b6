/*
 * shim_dns.h - name service of user-defined networks, answered by their workloads' shims.
 */
#ifndef ENGINE_SHIM_DNS_H
#define ENGINE_SHIM_DNS_H

struct err;
struct shim;

/* Opens the responders that RUN/workloads/ID/dns asks for, in the place of those that are open. */
int shim_dns_start(struct shim *shim, struct err *err);

#endif
