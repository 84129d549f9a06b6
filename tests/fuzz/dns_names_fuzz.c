#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "engine/dns_names.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const struct ip_address ip = {.family = AF_INET, .bytes = {10, 0, 0, 2}};
    struct dns_found found = {0};
    struct dns_wanted wanted = {.name = "web.one", .asker = &ip};
    dns_names_scan((const char *)data, len, &wanted, &found);
    wanted = (struct dns_wanted){.address = &ip, .asker = &ip};
    dns_names_scan((const char *)data, len, &wanted, &found);
    return 0;
}
