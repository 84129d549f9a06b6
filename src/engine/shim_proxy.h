/*
 * shim_proxy.h - published ports on the host's [::1].
 *
 * The kernel takes no packet from ::1 to another host, so that DNAT cannot serve it as it serves
 * 127.0.0.1: the shim's worker listens there and copies. Bounded: connections, datagrams' senders
 * and bytes on their way; who is slow is waited for alone.
 */
#ifndef ENGINE_SHIM_PROXY_H
#define ENGINE_SHIM_PROXY_H

#include <stdbool.h>

#include "base/cleanup.h"

struct err;
struct loop;
struct network_proxy;
struct shim_proxy;

/*
 * Listens as config says; a port that a program of the host has is left to it, unless it must be
 * had. *ret_proxy is the caller's; on_idle is called when shim_proxy_is_busy() ends.
 */
int shim_proxy_new(struct loop *loop, const struct network_proxy *config, void (*on_idle)(void *),
                   void *data, struct shim_proxy **ret_proxy, struct err *err);

/* Other addresses of the workload, for connections to come. */
void shim_proxy_follow(struct shim_proxy *proxy, const struct network_proxy *config);

/* The workload is gone: nothing is accepted any more, what came from it goes on to its clients. */
void shim_proxy_stop(struct shim_proxy *proxy);

/* After shim_proxy_stop(): whether clients still take their bytes. Ends within seconds. */
bool shim_proxy_is_busy(const struct shim_proxy *proxy);

/* Accepts NULL. */
void shim_proxy_free(struct shim_proxy *proxy);
DEFINE_FREEP(struct shim_proxy *, shim_proxy_free)

#endif
