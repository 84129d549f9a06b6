#include "engine/dns_socket.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"

static socklen_t fill(union dns_socket_address *a, const struct ip_address *ip, uint16_t port)
{
    *a = (union dns_socket_address){0};
    if (ip->family == AF_INET) {
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

int dns_socket_listen(const struct ip_address *ip, uint16_t port, const char *interface, int type)
{
    static const int on = 1;
    AUTO(closep) int fd = socket(ip->family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0) {
        return -errno;
    }
    if (ip->family == AF_INET6) {
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    }
    /* Nobody who has a route to the bridge's address from elsewhere gets answers. */
    if (interface[0] != '\0' &&
        setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, interface, (socklen_t)strlen(interface)) < 0) {
        return -errno;
    }
    union dns_socket_address a;
    socklen_t len = fill(&a, ip, port);
    if (bind(fd, &a.any, len) < 0 || (type == SOCK_STREAM && listen(fd, 16) < 0)) {
        return -errno;
    }
    return TAKE_FD(fd);
}

int dns_socket_connect(const struct ip_address *ip, uint16_t port, int type)
{
    AUTO(closep) int fd = socket(ip->family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    union dns_socket_address a;
    socklen_t len = fill(&a, ip, port);
    if (connect(fd, &a.any, len) < 0 && errno != EINPROGRESS) {
        return -errno;
    }
    return TAKE_FD(fd);
}

struct ip_address dns_socket_ip(const union dns_socket_address *a)
{
    struct ip_address ip = {.family = a->any.sa_family};
    if (ip.family == AF_INET) {
        memcpy(ip.bytes, &a->v4.sin_addr, 4);
    } else if (ip.family == AF_INET6) {
        memcpy(ip.bytes, &a->v6.sin6_addr, 16);
    } else {
        ip.family = 0;
    }
    return ip;
}
