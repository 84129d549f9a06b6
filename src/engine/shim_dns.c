#include "engine/shim_dns.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "engine/dns.h"
#include "engine/network.h"
#include "engine/shim.h"

int shim_dns_start(struct shim *shim, struct err *err)
{
    AUTO(network_dns_donep) struct network_dns config = {0};
    int r = network_dns_read(shim->run_fd, &config);
    if (r < 0) {
        return err_set(err, -r, "read what to serve names with");
    }
    dns_free(shim->dns);
    shim->dns = NULL;
    if (config.count == 0) {
        return 0;
    }
    r = dns_new(shim->loop, &config, -1, &shim->dns, err);
    return r < 0 ? err_wrap(err, -r, "name service of the network") : 0;
}
