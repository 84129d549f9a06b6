/* Shared with the shim, which links nothing else of the networks. */
#include <stdlib.h>

#include "engine/network.h"

void network_dns_done(struct network_dns *dns)
{
    free(dns->names_dir);
    strv_done(&dns->servers);
    *dns = (struct network_dns){0};
}
