#include "engine/shim_dns.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "engine/dns.h"
#include "engine/network.h"
#include "engine/shim.h"

/* "ADDRESS=BRIDGE=DIR/NETWORK" */
static int parse_listen(const char *text, struct network_dns *ret)
{
    size_t i = ret->count;
    const char *first = strchr(text, '=');
    const char *second = first != NULL ? strchr(first + 1, '=') : NULL;
    const char *slash = strrchr(text, '/');
    char address[IP_TEXT_SIZE];
    if (second == NULL || slash == NULL || slash < second || i == COUNT(ret->listen) ||
        strlen(slash + 1) >= NETWORK_ID_SIZE || second - first > IFNAMSIZ) {
        return -EINVAL;
    }
    (void)snprintf(address, sizeof(address), "%.*s", (int)(first - text), text);
    int r = ip_parse(address, &ret->listen[i]);
    if (r < 0) {
        return r;
    }
    (void)snprintf(ret->bridges[i], IFNAMSIZ, "%.*s", (int)(second - first) - 1, first + 1);
    (void)snprintf(ret->networks[i], NETWORK_ID_SIZE, "%s", slash + 1);
    ret->count++;
    if (ret->names_dir == NULL) {
        ret->names_dir = strndup(second + 1, (size_t)(slash - second) - 1);
    }
    return ret->names_dir == NULL ? -ENOMEM : 0;
}

int shim_dns_start(struct shim *shim, struct err *err)
{
    AUTO(network_dns_donep) struct network_dns config = {0};
    if (shim->options->dns_listen.count == 0) {
        return 0;
    }
    for (size_t i = 0; i < shim->options->dns_listen.count; i++) {
        int r = parse_listen(shim->options->dns_listen.items[i], &config);
        if (r < 0) {
            return err_set(err, -r, "--dns-listen '%s'", shim->options->dns_listen.items[i]);
        }
    }
    if (strv_copy(&shim->options->dns_servers, &config.servers) < 0) {
        return err_set(err, ENOMEM, "name service");
    }
    int r = dns_new(shim->loop, &config, -1, &shim->dns, err);
    return r < 0 ? err_wrap(err, -r, "name service of the network") : 0;
}
