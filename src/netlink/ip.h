/*
 * ip.h - addresses and prefixes of IPv4 and IPv6 as plain values.
 */
#ifndef NETLINK_IP_H
#define NETLINK_IP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room for any text that ip_format() or ip_prefix_format() writes. */
#define IP_TEXT_SIZE ((size_t)56)

/* An address; family 0 means "none". IPv4 uses bytes[0..3], the others are zero. */
struct ip_address {
    int family; /* AF_INET, AF_INET6 or 0 */
    uint8_t bytes[16];
};

/* An address with a prefix length; the host bits may be set (an interface's address). */
struct ip_prefix {
    struct ip_address address;
    unsigned length; /* bits */
};

/* 4 or 16. */
size_t ip_size(const struct ip_address *ip);

/* "10.0.0.1", "fd00::1", "[fd00::1]". 0 or -EINVAL. */
int ip_parse(const char *text, struct ip_address *ret);
/* "10.0.0.0/24"; 0 or -EINVAL. */
int ip_prefix_parse(const char *text, struct ip_prefix *ret);

/* Return out; "" for no address. */
const char *ip_format(const struct ip_address *ip, char out[IP_TEXT_SIZE]);
const char *ip_prefix_format(const struct ip_prefix *prefix, char out[IP_TEXT_SIZE]);

bool ip_eq(const struct ip_address *a, const struct ip_address *b);
/* All bits zero: 0.0.0.0 or ::. */
bool ip_is_any(const struct ip_address *ip);
bool ip_is_loopback(const struct ip_address *ip);

/* The prefix with its host bits cleared. */
struct ip_prefix ip_prefix_network(const struct ip_prefix *prefix);
/* The last address of the prefix (IPv4: the broadcast address). */
struct ip_address ip_prefix_last(const struct ip_prefix *prefix);
bool ip_prefix_has(const struct ip_prefix *prefix, const struct ip_address *ip);
/* True when the two share any address. False for different families. */
bool ip_prefix_overlaps(const struct ip_prefix *a, const struct ip_prefix *b);

/* ip + n, wrapping inside its family. */
struct ip_address ip_add(const struct ip_address *ip, uint64_t n);
/* -1, 0, 1 as memcmp; both of one family. */
int ip_compare(const struct ip_address *a, const struct ip_address *b);

/* "02:42:ac:11:00:02": six bytes of a unicast address. 0 or -EINVAL. */
int mac_parse(const char *text, uint8_t ret[6]);
#define MAC_TEXT_SIZE ((size_t)18)
const char *mac_format(const uint8_t mac[6], char out[MAC_TEXT_SIZE]);

#endif
