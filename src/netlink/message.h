/*
 * message.h - building netlink messages and walking the attributes of answers.
 *
 * A struct nl_batch is a run of messages that goes to the kernel in one send. It remembers the
 * first failure (no memory, too long), so that callers check once, when it is sent. RFC 3549;
 * linux/netlink.h.
 */
#ifndef NETLINK_MESSAGE_H
#define NETLINK_MESSAGE_H

#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "netlink/ip.h"

/* A zeroed struct is an empty batch. */
struct nl_batch {
    struct buf buf;
    size_t message; /* offset of the message being built */
    uint32_t count; /* messages so far; message i has sequence number i + 1 until it is sent */
    uint32_t acked; /* the message whose answer ends the wait, counted from 1; 0: the last one */
    int error;      /* first negative errno */
};

void nl_batch_done(struct nl_batch *batch);
DEFINE_DONEP(struct nl_batch, nl_batch_done)
void nl_batch_clear(struct nl_batch *batch);

/* Starts a message (NLM_F_REQUEST is added) whose fixed part is header; ends the one before. */
void nl_message_begin(struct nl_batch *batch, uint16_t type, uint16_t flags, const void *header,
                      size_t len);

/* Asks for an answer to the open message; nl_send() waits for that one. */
void nl_ask_answer(struct nl_batch *batch);

void nl_put(struct nl_batch *batch, uint16_t type, const void *data, size_t len);
void nl_put_u8(struct nl_batch *batch, uint16_t type, uint8_t value);
void nl_put_u16(struct nl_batch *batch, uint16_t type, uint16_t value);
void nl_put_u32(struct nl_batch *batch, uint16_t type, uint32_t value);
/* Big-endian, as nfnetlink has its numbers. */
void nl_put_be32(struct nl_batch *batch, uint16_t type, uint32_t value);
void nl_put_str(struct nl_batch *batch, uint16_t type, const char *text);
void nl_put_ip(struct nl_batch *batch, uint16_t type, const struct ip_address *ip);

/* Returns the place that nl_nest_end() needs. */
size_t nl_nest_begin(struct nl_batch *batch, uint16_t type);
void nl_nest_end(struct nl_batch *batch, size_t nest);
/* Appends bytes inside the open message (a struct ifinfomsg in VETH_INFO_PEER), padded to four. */
void nl_put_raw(struct nl_batch *batch, const void *data, size_t len);

/* ---- Reading: every length is checked against what is left ---- */

struct nl_attributes {
    const uint8_t *data;
    size_t len;
};

struct nl_attribute {
    uint16_t type; /* without the nested and byte order bits */
    const uint8_t *data;
    size_t len;
};

/* The attributes behind a fixed part of header_len bytes in a message's payload. */
struct nl_attributes nl_attributes_after(const void *payload, size_t len, size_t header_len);
struct nl_attributes nl_attributes_of(const struct nl_attribute *attribute);

/* Takes the next one; false at the end or at a malformed rest. */
bool nl_attribute_next(struct nl_attributes *list, struct nl_attribute *ret);
/* The first of that type. */
bool nl_attribute_find(struct nl_attributes list, uint16_t type, struct nl_attribute *ret);

/* False (and *ret untouched) when the length is wrong or the string does not fit or end. */
bool nl_get_u32(const struct nl_attribute *attribute, uint32_t *ret);
bool nl_get_be32(const struct nl_attribute *attribute, uint32_t *ret);
bool nl_get_str(const struct nl_attribute *attribute, char *out, size_t size);
bool nl_get_ip(const struct nl_attribute *attribute, int family, struct ip_address *ret);

#endif
