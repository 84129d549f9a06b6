/*
 * dns_forward.h - questions handed on to other name servers, and answers handed back.
 */
#ifndef ENGINE_DNS_FORWARD_H
#define ENGINE_DNS_FORWARD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "engine/dns_socket.h"

struct dns_forwarder;
struct dns_query;
struct loop;
struct strv;

/* Texts that are no addresses are left out; at most three servers count, as in resolv.conf(5). */
int dns_forwarder_new(struct loop *loop, const struct strv *servers, struct dns_forwarder **ret);
void dns_forwarder_free(struct dns_forwarder *f);
DEFINE_FREEP(struct dns_forwarder *, dns_forwarder_free)

bool dns_forwarder_has_servers(const struct dns_forwarder *f);

/*
 * Asks one server after the other, two seconds each, and sends the answer by reply_fd (borrowed,
 * outlives f) to the asker. Too many under way: the oldest gets an error.
 */
void dns_forward_udp(struct dns_forwarder *f, int reply_fd, const union dns_socket_address *asker,
                     socklen_t asker_len, const uint8_t *data, size_t len,
                     const struct dns_query *query);

/*
 * Answers a whole message at once: the length of what it put to out (4096 bytes), 0 to have it
 * forwarded, -1 to close.
 */
typedef ssize_t dns_message_fn(void *data, const uint8_t *message, size_t len,
                               const struct ip_address *asker, uint8_t *out);

/*
 * Serves a TCP connection (taken over): messages with a length before each. Idle ones are closed
 * after ten seconds.
 */
void dns_forward_tcp(struct dns_forwarder *f, int client_fd, const struct ip_address *asker,
                     dns_message_fn *fn, void *data);

#endif
