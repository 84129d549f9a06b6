/*
 * dns_names.h - looking a name up in the file of a network's names.
 *
 * The file (engine/network_names.c writes it) is read at each question and nothing is kept: it is
 * small, always fresh, and a responder costs no memory.
 */
#ifndef ENGINE_DNS_NAMES_H
#define ENGINE_DNS_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/dns_message.h"

#define DNS_FOUND_MAX ((size_t)32)
#define DNS_OTHERS_MAX ((size_t)8)

struct dns_found {
    struct ip_address addresses[DNS_FOUND_MAX]; /* of both families */
    size_t count;
    bool known;               /* the name exists, also when count is 0 */
    char name[DNS_NAME_SIZE]; /* of an address: NAME.NETWORK; "" for none */
    /* The other networks of the workload that asks: where to look next. */
    char others[DNS_OTHERS_MAX][65];
    size_t other_count;
};

/* What is looked for: a name (lower case), or an address (name NULL). */
struct dns_wanted {
    const char *name;
    const struct ip_address *address;
    const struct ip_address *asker; /* family 0: unknown */
};

/* Adds what DIR/NETWORK/names knows to *found. A missing or damaged file knows nothing. */
void dns_names_find(const char *dir, const char *network, const struct dns_wanted *wanted,
                    struct dns_found *found);

/* The same for the text itself. */
void dns_names_scan(const char *text, size_t len, const struct dns_wanted *wanted,
                    struct dns_found *found);

#endif
