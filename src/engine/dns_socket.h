/*
 * dns_socket.h - sockets of the name server.
 */
#ifndef ENGINE_DNS_SOCKET_H
#define ENGINE_DNS_SOCKET_H

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

#include "netlink/ip.h"

union dns_socket_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/*
 * A non-blocking socket bound to ip and port that shares them (SO_REUSEPORT), for packets of the
 * interface only ("": any). SOCK_STREAM: it listens. Returns the descriptor or a negative errno.
 */
int dns_socket_listen(const struct ip_address *ip, uint16_t port, const char *interface, int type);

/* A non-blocking socket on its way to ip and port, from a port that the kernel chooses. */
int dns_socket_connect(const struct ip_address *ip, uint16_t port, int type);

struct ip_address dns_socket_ip(const union dns_socket_address *address);

#endif
