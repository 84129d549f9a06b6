#include "engine/dns_message.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/str.h"

enum {
    FLAG_ANSWER = 0x8000,
    FLAG_OPCODE = 0x7800,
    FLAG_TRUNCATED = 0x0200,
    FLAG_RECURSION_DESIRED = 0x0100,
    FLAG_RECURSION_AVAILABLE = 0x0080,
};

#define LABEL_MAX 63
#define UDP_PLAIN_MAX ((size_t)512)
#define UDP_EDNS_MAX ((size_t)4096)
/* Root name, type, class, ttl, length: an OPT record without options. */
#define OPT_SIZE ((size_t)11)
/* A pointer to the question's name, type, class, ttl, length. */
#define RECORD_HEAD_SIZE ((size_t)12)

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static void put32(uint8_t *p, uint32_t value)
{
    put16(p, (uint16_t)(value >> 16));
    put16(p + 2, (uint16_t)value);
}

/*
 * The question's name from data[*at] on, without compression. Leaves *at behind it. text becomes ""
 * when a label has bytes that no host name of ours has.
 */
static int read_name(const uint8_t *data, size_t len, size_t *at, char text[DNS_NAME_SIZE])
{
    size_t pos = *at;
    size_t used = 0;
    bool plain = true;
    for (;;) {
        if (pos >= len) {
            return -EBADMSG;
        }
        size_t label = data[pos++];
        if (label == 0) {
            break;
        }
        /* 255 bytes on the wire, RFC 1035 2.3.4: that many characters fit the text as well. */
        if (label > LABEL_MAX || label > len - pos || pos - *at + label > 254) {
            return -EBADMSG;
        }
        if (used > 0) {
            text[used++] = '.';
        }
        for (size_t i = 0; i < label; i++) {
            unsigned char c = data[pos + i];
            plain = plain && c > ' ' && c < 0x7f && c != '.' && c != '\\';
            text[used++] = (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
        }
        pos += label;
    }
    text[plain ? used : 0] = '\0';
    *at = pos;
    return 0;
}

/* Passes over a name that may end in a pointer. */
static int skip_name(const uint8_t *data, size_t len, size_t *at)
{
    size_t pos = *at;
    while (pos < len) {
        size_t label = data[pos++];
        if (label == 0 || (label & 0xc0) == 0xc0) {
            pos += label != 0;
            *at = pos;
            return pos <= len ? 0 : -EBADMSG;
        }
        if (label > LABEL_MAX || label > len - pos) {
            return -EBADMSG;
        }
        pos += label;
    }
    return -EBADMSG;
}

/* Looks for OPT among the records behind the question. Garbage there is the next server's matter.
 */
static void read_edns(const uint8_t *data, size_t len, size_t at, struct dns_query *query)
{
    unsigned records = (unsigned)get16(&data[6]) + get16(&data[8]) + get16(&data[10]);
    for (unsigned i = 0; i < records && i < 16; i++) {
        if (skip_name(data, len, &at) < 0 || len - at < 10) {
            return;
        }
        size_t data_len = get16(&data[at + 8]);
        if (get16(&data[at]) == DNS_TYPE_OPT) {
            size_t offered = get16(&data[at + 2]);
            query->has_edns = true;
            query->udp_max = MAX(UDP_PLAIN_MAX, MIN(offered, UDP_EDNS_MAX));
            return;
        }
        at += 10;
        if (data_len > len - at) {
            return;
        }
        at += data_len;
    }
}

int dns_query_parse(const uint8_t *data, size_t len, struct dns_query *ret)
{
    if (len < DNS_HEADER_SIZE || len > DNS_MESSAGE_MAX) {
        return -EBADMSG;
    }
    struct dns_query query = {
        .id = get16(data), .flags = get16(&data[2]), .udp_max = UDP_PLAIN_MAX};
    if ((query.flags & FLAG_ANSWER) != 0) {
        return -EBADMSG;
    }
    size_t at = DNS_HEADER_SIZE;
    if (get16(&data[4]) != 1 || read_name(data, len, &at, query.name) < 0 || len - at < 4) {
        query.name[0] = '\0';
        *ret = query;
        return DNS_FORMAT_ERROR;
    }
    query.type = get16(&data[at]);
    query.class = get16(&data[at + 2]);
    query.question_len = at + 4 - DNS_HEADER_SIZE;
    if ((query.flags & FLAG_OPCODE) == 0) {
        read_edns(data, len, at + 4, &query);
    }
    *ret = query;
    return (query.flags & FLAG_OPCODE) != 0 ? DNS_NOT_IMPLEMENTED : DNS_OK;
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool dns_name_to_address(const char *name, struct ip_address *ret)
{
    size_t len = strlen(name);
    struct ip_address ip = {0};
    if (str_ends(name, ".in-addr.arpa")) {
        unsigned part[4];
        int used = 0;
        ip.family = AF_INET;
        if (sscanf(name, "%3u.%3u.%3u.%3u.in-addr.arpa%n", &part[0], &part[1], &part[2], &part[3],
                   &used) != 4 ||
            (size_t)used != len) {
            return false;
        }
        for (size_t i = 0; i < 4; i++) {
            if (part[i] > 255) {
                return false;
            }
            ip.bytes[3 - i] = (uint8_t)part[i];
        }
    } else if (str_ends(name, ".ip6.arpa") && len == 32 * 2 + strlen("ip6.arpa")) {
        ip.family = AF_INET6;
        for (size_t i = 0; i < 32; i++) {
            int digit = hex_value(name[2 * i]);
            if (digit < 0 || name[2 * i + 1] != '.') {
                return false;
            }
            /* The last half byte comes first. */
            ip.bytes[15 - i / 2] |= (uint8_t)(i % 2 == 0 ? digit : digit << 4);
        }
    } else {
        return false;
    }
    *ret = ip;
    return true;
}

void dns_answer_begin(struct dns_answer *answer, uint8_t *out, size_t size,
                      const uint8_t *query_bytes, const struct dns_query *query)
{
    *answer = (struct dns_answer){.out = out, .size = size};
    memset(out, 0, DNS_HEADER_SIZE);
    memcpy(out + DNS_HEADER_SIZE, query_bytes + DNS_HEADER_SIZE, query->question_len);
    answer->len = DNS_HEADER_SIZE + query->question_len;
    /* Kept free for OPT at the end. */
    answer->size -= query->has_edns ? OPT_SIZE : 0;
}

/* Room for one record about the question's name; NULL when it does not fit. */
static uint8_t *add_record(struct dns_answer *answer, uint16_t type, uint32_t ttl, size_t len)
{
    if (answer->truncated || RECORD_HEAD_SIZE + len > answer->size - answer->len) {
        answer->truncated = true;
        return NULL;
    }
    uint8_t *p = answer->out + answer->len;
    put16(p, (uint16_t)(0xc000 | DNS_HEADER_SIZE));
    put16(p + 2, type);
    put16(p + 4, DNS_CLASS_IN);
    put32(p + 6, ttl);
    put16(p + 10, (uint16_t)len);
    answer->len += RECORD_HEAD_SIZE + len;
    answer->count++;
    return p + RECORD_HEAD_SIZE;
}

void dns_answer_add_address(struct dns_answer *answer, const struct ip_address *ip, uint32_t ttl)
{
    uint8_t *p =
        add_record(answer, ip->family == AF_INET ? DNS_TYPE_A : DNS_TYPE_AAAA, ttl, ip_size(ip));
    if (p != NULL) {
        memcpy(p, ip->bytes, ip_size(ip));
    }
}

void dns_answer_add_ptr(struct dns_answer *answer, const char *name, uint32_t ttl)
{
    uint8_t wire[DNS_NAME_SIZE];
    size_t used = 0;
    while (*name != '\0') {
        size_t label = strcspn(name, ".");
        if (label == 0 || label > LABEL_MAX || used + label + 2 > sizeof(wire)) {
            return;
        }
        wire[used++] = (uint8_t)label;
        memcpy(wire + used, name, label);
        used += label;
        name += label + (name[label] == '.');
    }
    wire[used++] = 0;
    uint8_t *p = add_record(answer, DNS_TYPE_PTR, ttl, used);
    if (p != NULL) {
        memcpy(p, wire, used);
    }
}

size_t dns_answer_end(struct dns_answer *answer, const struct dns_query *query, enum dns_code code)
{
    uint8_t *out = answer->out;
    unsigned flags = FLAG_ANSWER | FLAG_RECURSION_AVAILABLE | (unsigned)code |
                     (query->flags & (FLAG_OPCODE | FLAG_RECURSION_DESIRED));
    flags |= answer->truncated ? FLAG_TRUNCATED : 0;
    put16(out, query->id);
    put16(out + 2, (uint16_t)flags);
    put16(out + 4, query->question_len > 0);
    put16(out + 6, answer->count);
    put16(out + 8, 0);
    put16(out + 10, query->has_edns);
    if (query->has_edns) {
        uint8_t *p = out + answer->len;
        memset(p, 0, OPT_SIZE);
        put16(p + 1, DNS_TYPE_OPT);
        put16(p + 3, (uint16_t)UDP_EDNS_MAX);
        answer->len += OPT_SIZE;
    }
    return answer->len;
}

bool dns_answer_matches(const uint8_t *data, size_t len, uint16_t id, const uint8_t *query_bytes,
                        const struct dns_query *query)
{
    if (len < DNS_HEADER_SIZE + query->question_len || get16(data) != id ||
        (get16(&data[2]) & FLAG_ANSWER) == 0 || get16(&data[4]) != 1) {
        return false;
    }
    for (size_t i = DNS_HEADER_SIZE; i < DNS_HEADER_SIZE + query->question_len; i++) {
        if (tolower(data[i]) != tolower(query_bytes[i])) {
            return false;
        }
    }
    return true;
}

enum dns_code dns_answer_code(const uint8_t *data)
{
    return (enum dns_code)(data[3] & 0x0f);
}

void dns_set_id(uint8_t *data, uint16_t id)
{
    put16(data, id);
}
