/*
 * What a shim answers DNS questions with: RUN/workloads/ID/dns, written by isola when the workload
 * starts, joins a network or leaves one. A file and not arguments, for it changes while the shim
 * lives, and each new worker reads it. Shared with the shim, which links nothing else of networks.
 *
 *   names DIR                        DIR/NETWORK/names has the names of a network
 *   listen ADDRESS BRIDGE NETWORK
 *   server ADDRESS                   who knows other names
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "engine/network.h"

#define DNS_FILE "dns"
#define DNS_FILE_MAX ((size_t)64 * 1024)

void network_dns_done(struct network_dns *dns)
{
    free(dns->names_dir);
    strv_done(&dns->servers);
    *dns = (struct network_dns){0};
}

int network_dns_write(int run_fd, const struct network_dns *dns)
{
    AUTO(buf_donep) struct buf text = {0};
    if (dns->count == 0) {
        return unlinkat(run_fd, DNS_FILE, 0) < 0 && errno != ENOENT ? -errno : 0;
    }
    int r = buf_printf(&text, "names %s\n", dns->names_dir);
    for (size_t i = 0; i < dns->count && r >= 0; i++) {
        char address[IP_TEXT_SIZE];
        r = buf_printf(&text, "listen %s %s %s\n", ip_format(&dns->listen[i], address),
                       dns->bridges[i][0] != '\0' ? dns->bridges[i] : "-", dns->networks[i]);
    }
    for (size_t i = 0; i < dns->servers.count && r >= 0; i++) {
        r = buf_printf(&text, "server %s\n", dns->servers.items[i]);
    }
    return r < 0 ? -ENOMEM : replace_file_at(run_fd, DNS_FILE, text.data, text.len, 0600, false);
}

static int read_listen(char *words, struct network_dns *dns)
{
    size_t i = dns->count;
    char *save = NULL;
    const char *address = strtok_r(words, " ", &save);
    const char *bridge = strtok_r(NULL, " ", &save);
    const char *network = strtok_r(NULL, " ", &save);
    if (network == NULL || i == COUNT(dns->listen) || strlen(bridge) >= IFNAMSIZ ||
        strlen(network) >= NETWORK_ID_SIZE || ip_parse(address, &dns->listen[i]) < 0) {
        return -EBADMSG;
    }
    (void)snprintf(dns->bridges[i], IFNAMSIZ, "%s", strcmp(bridge, "-") == 0 ? "" : bridge);
    (void)snprintf(dns->networks[i], NETWORK_ID_SIZE, "%s", network);
    dns->count++;
    return 0;
}

int network_dns_read(int run_fd, struct network_dns *ret)
{
    AUTO(buf_donep) struct buf text = {0};
    AUTO(network_dns_donep) struct network_dns dns = {0};
    int r = read_file_at(run_fd, DNS_FILE, DNS_FILE_MAX, &text);
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
        if (strcmp(line, "listen") == 0) {
            r = read_listen(value, &dns);
        } else if (strcmp(line, "server") == 0) {
            r = strv_add(&dns.servers, value);
        } else if (strcmp(line, "names") == 0 && dns.names_dir == NULL) {
            dns.names_dir = strdup(value);
            r = dns.names_dir == NULL ? -ENOMEM : 0;
        } else {
            r = -EBADMSG;
        }
    }
    if (r == 0 && dns.names_dir == NULL) {
        r = -EBADMSG;
    }
    if (r == 0) {
        *ret = dns;
        dns = (struct network_dns){0};
    }
    return r;
}
