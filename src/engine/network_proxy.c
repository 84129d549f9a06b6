/*
 * Ports that the shim of a workload serves on the host's [::1]: RUN/workloads/ID/proxy, written by
 * isola when the workload starts, joins a network or leaves one, as the file dns is. Shared with
 * the shim, which links nothing else of networks.
 *
 *   to ADDRESS                       of the workload; one of IPv6 comes first
 *   tcp|udp HOSTPORT PORT may|must   must: published there by name
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/str.h"
#include "engine/network.h"

#define PROXY_FILE "proxy"
#define PROXY_FILE_MAX ((size_t)64 * 1024)

static bool serves_loopback6(const struct ip_address *host)
{
    return host->family == 0 ||
           (host->family == AF_INET6 && (ip_is_any(host) || ip_is_loopback(host)));
}

void network_proxy_of(const struct network_lease *lease, struct network_proxy *ret)
{
    *ret = (struct network_proxy){0};
    if (lease->rootless) {
        return; /* pasta listens there */
    }
    for (size_t f = 2; f-- > 0;) {
        for (size_t i = 0; i < lease->endpoint_count; i++) {
            if (lease->endpoints[i].ip[f].address.family != 0) {
                ret->to[ret->to_count++] = lease->endpoints[i].ip[f].address;
                break;
            }
        }
    }
    for (size_t i = 0; i < 2 * lease->ports.count && ret->to_count > 0; i++) {
        /* Twice over them: those that must be there go first. */
        const struct port *port = &lease->ports.items[i % lease->ports.count];
        bool must = port->host.family == AF_INET6 && ip_is_loopback(&port->host);
        if (serves_loopback6(&port->host) && must == (i < lease->ports.count) &&
            ret->count < COUNT(ret->ports)) {
            ret->ports[ret->count++] = (struct network_proxy_port){
                .protocol = port->protocol,
                .host_port = port->host_first,
                .port = port->port,
                .must = must,
            };
        }
    }
}

int network_proxy_write(int run_fd, const struct network_proxy *proxy)
{
    AUTO(buf_donep) struct buf text = {0};
    int r = 0;
    if (proxy->count == 0) {
        return unlinkat(run_fd, PROXY_FILE, 0) < 0 && errno != ENOENT ? -errno : 0;
    }
    for (size_t i = 0; i < proxy->to_count && r >= 0; i++) {
        char address[IP_TEXT_SIZE];
        r = buf_printf(&text, "to %s\n", ip_format(&proxy->to[i], address));
    }
    for (size_t i = 0; i < proxy->count && r >= 0; i++) {
        const struct network_proxy_port *port = &proxy->ports[i];
        r = buf_printf(&text, "%s %u %u %s\n", port->protocol == IPPROTO_UDP ? "udp" : "tcp",
                       port->host_port, port->port, port->must ? "must" : "may");
    }
    return r < 0 ? -ENOMEM : replace_file_at(run_fd, PROXY_FILE, text.data, text.len, 0600, false);
}

static int read_port(const char *protocol, const char *text, struct network_proxy *proxy)
{
    unsigned host_port = 0;
    unsigned port = 0;
    char word[8] = "";
    if (proxy->count == COUNT(proxy->ports) ||
        sscanf(text, "%5u %5u %7s", &host_port, &port, word) != 3 || host_port - 1 >= UINT16_MAX ||
        port - 1 >= UINT16_MAX) {
        return -EBADMSG;
    }
    proxy->ports[proxy->count++] = (struct network_proxy_port){
        .protocol = str_eq(protocol, "udp") ? IPPROTO_UDP : IPPROTO_TCP,
        .host_port = (uint16_t)host_port,
        .port = (uint16_t)port,
        .must = str_eq(word, "must"),
    };
    return 0;
}

int network_proxy_read(int run_fd, struct network_proxy *ret)
{
    AUTO(buf_donep) struct buf text = {0};
    int r = read_file_at(run_fd, PROXY_FILE, PROXY_FILE_MAX, &text);
    *ret = (struct network_proxy){0};
    if (r < 0) {
        return r == -ENOENT ? 0 : r;
    }
    char *save = NULL;
    for (char *line = strtok_r(text.data, "\n", &save); line != NULL && r == 0;
         line = strtok_r(NULL, "\n", &save)) {
        char *value = strchr(line, ' ');
        if (value == NULL) {
            return -EBADMSG;
        }
        *value++ = '\0';
        if (!str_eq(line, "to")) {
            r = read_port(line, value, ret);
        } else if (ret->to_count == COUNT(ret->to) ||
                   ip_parse(value, &ret->to[ret->to_count++]) < 0) {
            r = -EBADMSG;
        }
    }
    return r == 0 && ret->count > 0 && ret->to_count == 0 ? -EBADMSG : r;
}
