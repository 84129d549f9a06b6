#include "engine/network_probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "engine/port.h"

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static socklen_t fill(union address *a, int family, const struct ip_address *ip, uint16_t port)
{
    *a = (union address){0};
    if (family == AF_INET) {
        a->v4.sin_family = AF_INET;
        a->v4.sin_port = htons(port);
        memcpy(&a->v4.sin_addr, ip->bytes, 4);
        return sizeof(a->v4);
    }
    a->v6.sin6_family = AF_INET6;
    a->v6.sin6_port = htons(port);
    memcpy(&a->v6.sin6_addr, ip->bytes, 16);
    return sizeof(a->v6);
}

static int bind_once(const struct port *port, int family, bool v6_only, uint16_t *number)
{
    static const int on = 1;
    int type = port->protocol == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM;
    AUTO(closep) int fd = socket(family, type | SOCK_CLOEXEC, port->protocol);
    if (fd < 0) {
        return -errno;
    }
    if (family == AF_INET6) {
        int only = v6_only;
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
    }
    /* Connections that a former listener left in TIME_WAIT do not matter; listeners still do. */
    if (type == SOCK_STREAM && *number != 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    }
    union address a;
    socklen_t len = fill(&a, family, &port->host, *number);
    if (bind(fd, &a.any, len) < 0) {
        return -errno;
    }
    if (*number == 0) {
        if (getsockname(fd, &a.any, &len) < 0) {
            return -errno;
        }
        *number = ntohs(family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
    }
    return 0;
}

int network_probe_port(const struct port *port, uint16_t *port_number)
{
    uint16_t number = *port_number;
    int r = 0;
    if (port->host.family != 0) {
        r = bind_once(port, port->host.family, true, &number);
    } else {
        /* One socket for both families, if the host has both. */
        r = bind_once(port, AF_INET6, false, &number);
        if (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL) {
            r = bind_once(port, AF_INET, false, &number);
        }
    }
    if (r == 0) {
        *port_number = number;
    }
    return r;
}
