#include "netlink/message.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define BATCH_FIRST_SIZE ((size_t)4096)

void nl_batch_done(struct nl_batch *batch)
{
    buf_done(&batch->buf);
    *batch = (struct nl_batch){0};
}

void nl_batch_clear(struct nl_batch *batch)
{
    buf_clear(&batch->buf);
    batch->message = 0;
    batch->count = 0;
    batch->acked = 0;
    batch->error = 0;
}

static void fail(struct nl_batch *batch, int error)
{
    if (batch->error == 0) {
        batch->error = error;
    }
}

/* Appends data and zeroes up to a multiple of four. */
static void append(struct nl_batch *batch, const void *data, size_t len)
{
    static const char zeros[NLMSG_ALIGNTO];
    if (batch->buf.data == NULL && buf_reserve(&batch->buf, BATCH_FIRST_SIZE) < 0) {
        fail(batch, -ENOMEM);
        return;
    }
    if (buf_add(&batch->buf, data, len) < 0 ||
        buf_add(&batch->buf, zeros, NLMSG_ALIGN(len) - len) < 0) {
        fail(batch, -ENOMEM);
    }
}

/* The message's length is kept right at any time, so that nothing is needed to end it. */
static void update_length(struct nl_batch *batch)
{
    if (batch->error == 0) {
        uint32_t len = (uint32_t)(batch->buf.len - batch->message);
        memcpy(batch->buf.data + batch->message, &len, sizeof(len));
    }
}

void nl_message_begin(struct nl_batch *batch, uint16_t type, uint16_t flags, const void *header,
                      size_t len)
{
    batch->message = batch->buf.len;
    batch->count++;
    struct nlmsghdr h = {
        .nlmsg_type = type,
        .nlmsg_flags = (uint16_t)(flags | NLM_F_REQUEST),
        .nlmsg_seq = batch->count,
    };
    append(batch, &h, sizeof(h));
    append(batch, header, len);
    update_length(batch);
}

void nl_put_raw(struct nl_batch *batch, const void *data, size_t len)
{
    append(batch, data, len);
    update_length(batch);
}

void nl_ask_answer(struct nl_batch *batch)
{
    if (batch->error == 0 && batch->count > 0) {
        struct nlmsghdr *message = (void *)(batch->buf.data + batch->message);
        message->nlmsg_flags |= NLM_F_ACK;
        batch->acked = batch->count;
    }
}

void nl_put(struct nl_batch *batch, uint16_t type, const void *data, size_t len)
{
    if (len > UINT16_MAX - NLA_HDRLEN) {
        fail(batch, -EMSGSIZE);
        return;
    }
    struct nlattr attribute = {.nla_type = type, .nla_len = (uint16_t)(NLA_HDRLEN + len)};
    append(batch, &attribute, sizeof(attribute));
    append(batch, data, len);
    update_length(batch);
}

void nl_put_u8(struct nl_batch *batch, uint16_t type, uint8_t value)
{
    nl_put(batch, type, &value, sizeof(value));
}

void nl_put_u16(struct nl_batch *batch, uint16_t type, uint16_t value)
{
    nl_put(batch, type, &value, sizeof(value));
}

void nl_put_u32(struct nl_batch *batch, uint16_t type, uint32_t value)
{
    nl_put(batch, type, &value, sizeof(value));
}

void nl_put_be32(struct nl_batch *batch, uint16_t type, uint32_t value)
{
    nl_put_u32(batch, type, htonl(value));
}

void nl_put_str(struct nl_batch *batch, uint16_t type, const char *text)
{
    nl_put(batch, type, text, strlen(text) + 1);
}

void nl_put_ip(struct nl_batch *batch, uint16_t type, const struct ip_address *ip)
{
    nl_put(batch, type, ip->bytes, ip_size(ip));
}

size_t nl_nest_begin(struct nl_batch *batch, uint16_t type)
{
    size_t nest = batch->buf.len;
    nl_put(batch, type | NLA_F_NESTED, "", 0);
    return nest;
}

void nl_nest_end(struct nl_batch *batch, size_t nest)
{
    if (batch->error < 0) {
        return;
    }
    size_t len = batch->buf.len - nest;
    if (len > UINT16_MAX) {
        fail(batch, -EMSGSIZE);
        return;
    }
    uint16_t nla_len = (uint16_t)len;
    memcpy(batch->buf.data + nest, &nla_len, sizeof(nla_len));
}

struct nl_attributes nl_attributes_after(const void *payload, size_t len, size_t header_len)
{
    size_t skip = NLMSG_ALIGN(header_len);
    if (len < skip) {
        return (struct nl_attributes){0};
    }
    return (struct nl_attributes){(const uint8_t *)payload + skip, len - skip};
}

struct nl_attributes nl_attributes_of(const struct nl_attribute *attribute)
{
    return (struct nl_attributes){attribute->data, attribute->len};
}

bool nl_attribute_next(struct nl_attributes *list, struct nl_attribute *ret)
{
    struct nlattr head;
    if (list->len < sizeof(head)) {
        return false;
    }
    memcpy(&head, list->data, sizeof(head));
    if (head.nla_len < sizeof(head) || head.nla_len > list->len) {
        return false;
    }
    ret->type = head.nla_type & NLA_TYPE_MASK;
    ret->data = list->data + sizeof(head);
    ret->len = head.nla_len - sizeof(head);
    size_t step = NLA_ALIGN(head.nla_len);
    step = step < list->len ? step : list->len;
    list->data += step;
    list->len -= step;
    return true;
}

bool nl_attribute_find(struct nl_attributes list, uint16_t type, struct nl_attribute *ret)
{
    struct nl_attribute attribute;
    while (nl_attribute_next(&list, &attribute)) {
        if (attribute.type == type) {
            *ret = attribute;
            return true;
        }
    }
    return false;
}

bool nl_get_u32(const struct nl_attribute *attribute, uint32_t *ret)
{
    if (attribute->len != sizeof(*ret)) {
        return false;
    }
    memcpy(ret, attribute->data, sizeof(*ret));
    return true;
}

bool nl_get_be32(const struct nl_attribute *attribute, uint32_t *ret)
{
    uint32_t value = 0;
    if (!nl_get_u32(attribute, &value)) {
        return false;
    }
    *ret = ntohl(value);
    return true;
}

bool nl_get_str(const struct nl_attribute *attribute, char *out, size_t size)
{
    size_t len = strnlen((const char *)attribute->data, attribute->len);
    if (len >= size) {
        return false;
    }
    memcpy(out, attribute->data, len);
    out[len] = '\0';
    return true;
}

bool nl_get_ip(const struct nl_attribute *attribute, int family, struct ip_address *ret)
{
    struct ip_address ip = {.family = family};
    if ((family != AF_INET && family != AF_INET6) || attribute->len != ip_size(&ip)) {
        return false;
    }
    memcpy(ip.bytes, attribute->data, attribute->len);
    *ret = ip;
    return true;
}
