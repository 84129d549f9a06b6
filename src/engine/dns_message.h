/*
 * dns_message.h - reading questions and writing answers of the Domain Name System.
 *
 * RFC 1035 (messages), RFC 6891 (EDNS). Every byte read comes from a workload or from the network
 * and is taken as hostile: one question, no compression in it, all lengths checked.
 */
#ifndef ENGINE_DNS_MESSAGE_H
#define ENGINE_DNS_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "netlink/ip.h"

#define DNS_HEADER_SIZE ((size_t)12)
#define DNS_NAME_SIZE ((size_t)256) /* any name as text, with NUL */
#define DNS_MESSAGE_MAX ((size_t)65535)

enum {
    DNS_TYPE_A = 1,
    DNS_TYPE_PTR = 12,
    DNS_TYPE_AAAA = 28,
    DNS_TYPE_OPT = 41,
    DNS_TYPE_ANY = 255,
    DNS_CLASS_IN = 1,
    DNS_CLASS_ANY = 255,
};

enum dns_code {
    DNS_OK = 0,
    DNS_FORMAT_ERROR = 1,
    DNS_SERVER_FAILURE = 2,
    DNS_NO_SUCH_NAME = 3,
    DNS_NOT_IMPLEMENTED = 4,
    DNS_REFUSED = 5,
};

struct dns_query {
    uint16_t id;
    uint16_t flags; /* as sent, host order */
    uint16_t type;
    uint16_t class;
    size_t question_len;      /* bytes behind the header */
    char name[DNS_NAME_SIZE]; /* lower case, without the last dot; "" when it is not plain text */
    bool has_edns;
    size_t udp_max; /* what fits an answer by UDP: 512, or what EDNS offers (at most 4096) */
};

/*
 * Reads a question. Returns DNS_OK, or the code that the answer must carry, or -EBADMSG when the
 * message deserves none (too short, an answer itself). With a code other than DNS_OK only id, flags
 * and (not for DNS_FORMAT_ERROR) the question are set.
 */
int dns_query_parse(const uint8_t *data, size_t len, struct dns_query *ret);

/* "4.3.2.1.in-addr.arpa" or the ip6.arpa form: the address. False for other names. */
bool dns_name_to_address(const char *name, struct ip_address *ret);

/* An answer being written; out is the caller's. */
struct dns_answer {
    uint8_t *out;
    size_t size; /* answers that do not fit are left out and the message is marked truncated */
    size_t len;
    uint16_t count;
    bool truncated;
};

/*
 * Starts with the header and the question of the query's bytes. size must be at least
 * DNS_HEADER_SIZE + question_len + 11, which holds for 512 and every valid question.
 */
void dns_answer_begin(struct dns_answer *answer, uint8_t *out, size_t size,
                      const uint8_t *query_bytes, const struct dns_query *query);
void dns_answer_add_address(struct dns_answer *answer, const struct ip_address *ip, uint32_t ttl);
/* name: plain text labels. */
void dns_answer_add_ptr(struct dns_answer *answer, const char *name, uint32_t ttl);
/* Fills the header in and returns the length. */
size_t dns_answer_end(struct dns_answer *answer, const struct dns_query *query, enum dns_code code);

/*
 * True when data is an answer with that id to that question (query_bytes, DNS_HEADER_SIZE +
 * question_len). Letters may differ in case.
 */
bool dns_answer_matches(const uint8_t *data, size_t len, uint16_t id, const uint8_t *query_bytes,
                        const struct dns_query *query);
enum dns_code dns_answer_code(const uint8_t *data);

void dns_set_id(uint8_t *data, uint16_t id);

#endif
