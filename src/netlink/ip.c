#include "netlink/ip.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/str.h"

size_t ip_size(const struct ip_address *ip)
{
    return ip->family == AF_INET6 ? 16 : 4;
}

int ip_parse(const char *text, struct ip_address *ret)
{
    struct ip_address ip = {.family = AF_INET};
    char copy[IP_TEXT_SIZE];
    size_t len = strlen(text);
    if (len == 0 || len >= sizeof(copy)) {
        return -EINVAL;
    }
    memcpy(copy, text, len + 1);
    const char *start = copy;
    if (copy[0] == '[') {
        if (copy[len - 1] != ']') {
            return -EINVAL;
        }
        copy[len - 1] = '\0';
        start++;
        ip.family = AF_INET6;
    }
    if (strchr(start, ':') != NULL) {
        ip.family = AF_INET6;
    }
    if (inet_pton(ip.family, start, ip.bytes) != 1) {
        return -EINVAL;
    }
    *ret = ip;
    return 0;
}

int ip_prefix_parse(const char *text, struct ip_prefix *ret)
{
    char copy[IP_TEXT_SIZE];
    if (strlen(text) >= sizeof(copy)) {
        return -EINVAL;
    }
    memcpy(copy, text, strlen(text) + 1);
    char *slash = strchr(copy, '/');
    if (slash == NULL) {
        return -EINVAL;
    }
    *slash = '\0';
    struct ip_prefix prefix = {0};
    uint64_t length = 0;
    int r = ip_parse(copy, &prefix.address);
    if (r < 0 || copy[0] == '[' || parse_u64(slash + 1, 10, &length) < 0 ||
        length > 8 * ip_size(&prefix.address)) {
        return -EINVAL;
    }
    prefix.length = (unsigned)length;
    *ret = prefix;
    return 0;
}

const char *ip_format(const struct ip_address *ip, char out[IP_TEXT_SIZE])
{
    out[0] = '\0';
    if (ip->family != 0) {
        (void)inet_ntop(ip->family, ip->bytes, out, (socklen_t)IP_TEXT_SIZE);
    }
    return out;
}

const char *ip_prefix_format(const struct ip_prefix *prefix, char out[IP_TEXT_SIZE])
{
    (void)ip_format(&prefix->address, out);
    if (out[0] != '\0') {
        size_t used = strlen(out);
        (void)snprintf(out + used, IP_TEXT_SIZE - used, "/%u", prefix->length);
    }
    return out;
}

bool ip_eq(const struct ip_address *a, const struct ip_address *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

bool ip_is_any(const struct ip_address *ip)
{
    static const uint8_t zeros[16];
    return memcmp(ip->bytes, zeros, sizeof(zeros)) == 0;
}

bool ip_is_loopback(const struct ip_address *ip)
{
    static const uint8_t one[16] = {[15] = 1};
    return ip->family == AF_INET ? ip->bytes[0] == 127
                                 : ip->family == AF_INET6 && memcmp(ip->bytes, one, 16) == 0;
}

/* Sets the bits from length on to value. */
static struct ip_address fill_host(const struct ip_prefix *prefix, bool value)
{
    struct ip_address ip = prefix->address;
    for (unsigned bit = prefix->length; bit < 8 * ip_size(&ip); bit++) {
        uint8_t mask = (uint8_t)(0x80u >> (bit % 8));
        ip.bytes[bit / 8] =
            (uint8_t)(value ? ip.bytes[bit / 8] | mask : ip.bytes[bit / 8] & (uint8_t)~mask);
    }
    return ip;
}

struct ip_prefix ip_prefix_network(const struct ip_prefix *prefix)
{
    return (struct ip_prefix){fill_host(prefix, false), prefix->length};
}

struct ip_address ip_prefix_last(const struct ip_prefix *prefix)
{
    return fill_host(prefix, true);
}

bool ip_prefix_has(const struct ip_prefix *prefix, const struct ip_address *ip)
{
    if (prefix->address.family != ip->family || ip->family == 0) {
        return false;
    }
    struct ip_prefix other = {*ip, prefix->length};
    struct ip_address a = fill_host(prefix, false);
    struct ip_address b = fill_host(&other, false);
    return ip_eq(&a, &b);
}

bool ip_prefix_overlaps(const struct ip_prefix *a, const struct ip_prefix *b)
{
    return a->length <= b->length ? ip_prefix_has(a, &b->address) : ip_prefix_has(b, &a->address);
}

struct ip_address ip_add(const struct ip_address *ip, uint64_t n)
{
    struct ip_address sum = *ip;
    for (size_t i = ip_size(ip); i-- > 0 && n != 0;) {
        uint64_t part = sum.bytes[i] + (n & 0xff);
        sum.bytes[i] = (uint8_t)part;
        n = (n >> 8) + (part >> 8);
    }
    return sum;
}

int ip_compare(const struct ip_address *a, const struct ip_address *b)
{
    int r = memcmp(a->bytes, b->bytes, ip_size(a));
    return r < 0 ? -1 : r > 0;
}

int mac_parse(const char *text, uint8_t ret[6])
{
    unsigned part[6];
    char end = '\0';
    if (strlen(text) != MAC_TEXT_SIZE - 1 ||
        sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &part[0], &part[1], &part[2], &part[3], &part[4],
               &part[5], &end) != 6 ||
        (part[0] & 1) != 0) {
        return -EINVAL;
    }
    for (size_t i = 0; i < 6; i++) {
        ret[i] = (uint8_t)part[i];
    }
    return 0;
}

const char *mac_format(const uint8_t mac[6], char out[MAC_TEXT_SIZE])
{
    (void)snprintf(out, MAC_TEXT_SIZE, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
                   mac[3], mac[4], mac[5]);
    return out;
}
