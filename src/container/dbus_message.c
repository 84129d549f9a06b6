#include "container/dbus_message.h"

#include <errno.h>
#include <string.h>

enum header_field {
    FIELD_PATH = 1,
    FIELD_INTERFACE = 2,
    FIELD_MEMBER = 3,
    FIELD_ERROR = 4,
    FIELD_REPLY_SERIAL = 5,
    FIELD_DESTINATION = 6,
    FIELD_SIGNATURE = 8,
};

void dbus_writer_done(struct dbus_writer *w)
{
    buf_done(&w->buf);
}

static void put(struct dbus_writer *w, const void *data, size_t len)
{
    w->failed = w->failed || buf_add(&w->buf, data, len) < 0;
}

static void align(struct dbus_writer *w, size_t to)
{
    static const char zeros[8] = {0};
    put(w, zeros, (to - w->buf.len % to) % to);
}

void dbus_put_byte(struct dbus_writer *w, uint8_t value)
{
    put(w, &value, sizeof(value));
}

void dbus_put_bool(struct dbus_writer *w, bool value)
{
    dbus_put_u32(w, value);
}

void dbus_put_u16(struct dbus_writer *w, uint16_t value)
{
    align(w, sizeof(value));
    put(w, &value, sizeof(value));
}

void dbus_put_u32(struct dbus_writer *w, uint32_t value)
{
    align(w, sizeof(value));
    put(w, &value, sizeof(value));
}

void dbus_put_u64(struct dbus_writer *w, uint64_t value)
{
    align(w, sizeof(value));
    put(w, &value, sizeof(value));
}

void dbus_put_double(struct dbus_writer *w, double value)
{
    align(w, sizeof(value));
    put(w, &value, sizeof(value));
}

void dbus_put_string(struct dbus_writer *w, const char *text)
{
    size_t len = strlen(text);
    dbus_put_u32(w, (uint32_t)len);
    put(w, text, len + 1);
}

void dbus_put_signature(struct dbus_writer *w, const char *signature)
{
    size_t len = strlen(signature);
    dbus_put_byte(w, (uint8_t)len);
    put(w, signature, len + 1);
}

void dbus_put_struct(struct dbus_writer *w)
{
    align(w, 8);
}

size_t dbus_begin_array(struct dbus_writer *w, size_t element)
{
    dbus_put_u32(w, 0);
    size_t mark = w->buf.len - sizeof(uint32_t);
    align(w, element);
    return mark;
}

void dbus_end_array(struct dbus_writer *w, size_t mark, size_t element)
{
    if (w->failed) {
        return;
    }
    /* The length counts neither itself nor the padding before the first element. */
    size_t start = mark + sizeof(uint32_t);
    start += (element - start % element) % element;
    uint32_t len = (uint32_t)(w->buf.len - start);
    memcpy(w->buf.data + mark, &len, sizeof(len));
}

static void put_field(struct dbus_writer *w, enum header_field field, const char *type,
                      const char *text)
{
    if (text == NULL || text[0] == '\0') {
        return;
    }
    dbus_put_struct(w);
    dbus_put_byte(w, (uint8_t)field);
    dbus_put_signature(w, type);
    if (type[0] == 'g') {
        dbus_put_signature(w, text);
    } else {
        dbus_put_string(w, text);
    }
}

int dbus_call_write(const struct dbus_call *call, uint32_t serial, const struct dbus_writer *body,
                    struct buf *ret)
{
    AUTO(dbus_writer_donep) struct dbus_writer w = {0};
    size_t body_len = body != NULL ? body->buf.len : 0;
    if ((body != NULL && body->failed) || body_len > DBUS_MESSAGE_MAX) {
        return -ENOMEM;
    }
    const uint8_t start[] = {'l', DBUS_CALL, 0, 1};
    put(&w, start, sizeof(start));
    dbus_put_u32(&w, (uint32_t)body_len);
    dbus_put_u32(&w, serial);
    size_t fields = dbus_begin_array(&w, 8);
    put_field(&w, FIELD_PATH, "o", call->path);
    put_field(&w, FIELD_INTERFACE, "s", call->interface);
    put_field(&w, FIELD_MEMBER, "s", call->member);
    put_field(&w, FIELD_DESTINATION, "s", call->destination);
    put_field(&w, FIELD_SIGNATURE, "g", call->signature);
    dbus_end_array(&w, fields, 8);
    align(&w, 8);
    put(&w, body_len > 0 ? body->buf.data : "", body_len);
    return w.failed ? -ENOMEM : buf_add(ret, w.buf.data, w.buf.len);
}

static int skip(struct dbus_reader *r, size_t len)
{
    if (len > r->len - r->at) {
        return -EBADMSG;
    }
    r->at += len;
    return 0;
}

static int read_align(struct dbus_reader *r, size_t to)
{
    return skip(r, (to - r->at % to) % to);
}

int dbus_get_u32(struct dbus_reader *r, uint32_t *ret)
{
    if (read_align(r, sizeof(*ret)) < 0 || r->len - r->at < sizeof(*ret)) {
        return -EBADMSG;
    }
    memcpy(ret, r->data + r->at, sizeof(*ret));
    r->at += sizeof(*ret);
    return 0;
}

/* len bytes and a NUL, and no NUL among them. */
static int get_text(struct dbus_reader *r, size_t len, const char **ret)
{
    const uint8_t *text = r->data + r->at;
    if (len >= r->len - r->at || text[len] != '\0' || memchr(text, '\0', len) != NULL) {
        return -EBADMSG;
    }
    r->at += len + 1;
    *ret = (const char *)text;
    return 0;
}

int dbus_get_string(struct dbus_reader *r, const char **ret)
{
    uint32_t len;
    int result = dbus_get_u32(r, &len);
    return result < 0 ? result : get_text(r, len, ret);
}

int dbus_get_signature(struct dbus_reader *r, const char **ret)
{
    if (r->len - r->at < 1) {
        return -EBADMSG;
    }
    size_t len = r->data[r->at++];
    return get_text(r, len, ret);
}

/* The value of a header field that says nothing to us; all that the protocol defines are basic. */
static int skip_value(struct dbus_reader *r, const char *signature)
{
    const char *text;
    uint32_t number;
    if (strlen(signature) != 1) {
        return -EBADMSG;
    }
    switch (signature[0]) {
    case 'y':
        return skip(r, 1);
    case 'n':
    case 'q':
        return read_align(r, 2) < 0 ? -EBADMSG : skip(r, 2);
    case 'b':
    case 'i':
    case 'u':
    case 'h':
        return dbus_get_u32(r, &number);
    case 'x':
    case 't':
    case 'd':
        return read_align(r, 8) < 0 ? -EBADMSG : skip(r, 8);
    case 's':
    case 'o':
        return dbus_get_string(r, &text);
    case 'g':
        return dbus_get_signature(r, &text);
    default:
        return -EBADMSG;
    }
}

static int read_field(struct dbus_reader *r, struct dbus_message *message)
{
    const char *signature;
    if (read_align(r, 8) < 0 || r->at == r->len) {
        return -EBADMSG;
    }
    uint8_t field = r->data[r->at++];
    if (dbus_get_signature(r, &signature) < 0) {
        return -EBADMSG;
    }
    const struct {
        enum header_field field;
        char type;
        const char **text;
    } texts[] = {
        {FIELD_INTERFACE, 's', &message->interface},
        {FIELD_MEMBER, 's', &message->member},
        {FIELD_ERROR, 's', &message->error},
        {FIELD_SIGNATURE, 'g', &message->signature},
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        if (field == texts[i].field) {
            if (signature[0] != texts[i].type || signature[1] != '\0') {
                return -EBADMSG;
            }
            return texts[i].type == 'g' ? dbus_get_signature(r, texts[i].text)
                                        : dbus_get_string(r, texts[i].text);
        }
    }
    if (field == FIELD_REPLY_SERIAL) {
        return strcmp(signature, "u") == 0 ? dbus_get_u32(r, &message->reply_serial) : -EBADMSG;
    }
    return skip_value(r, signature);
}

/* Both lengths are checked apart, so that their sum cannot wrap. */
static int read_lengths(const uint8_t head[DBUS_HEAD_SIZE], size_t *ret_fields, size_t *ret_body)
{
    uint32_t body;
    uint32_t fields;
    memcpy(&body, head + 4, sizeof(body));
    memcpy(&fields, head + 12, sizeof(fields));
    if (head[0] != 'l' || head[3] != 1) {
        return -EBADMSG;
    }
    if (body > DBUS_MESSAGE_MAX || fields > DBUS_MESSAGE_MAX) {
        return -EMSGSIZE;
    }
    *ret_fields = fields;
    *ret_body = body;
    return 0;
}

int dbus_message_length(const uint8_t head[DBUS_HEAD_SIZE], size_t *ret)
{
    size_t fields;
    size_t body;
    int r = read_lengths(head, &fields, &body);
    if (r == 0) {
        *ret = DBUS_HEAD_SIZE + (fields + 7) / 8 * 8 + body;
    }
    return r;
}

int dbus_message_parse(const uint8_t *data, size_t len, struct dbus_message *ret)
{
    size_t fields;
    size_t body;
    if (len < DBUS_HEAD_SIZE || read_lengths(data, &fields, &body) < 0 ||
        len != DBUS_HEAD_SIZE + (fields + 7) / 8 * 8 + body) {
        return -EBADMSG;
    }
    struct dbus_message message = {.type = data[1], .signature = ""};
    struct dbus_reader r = {.data = data, .len = DBUS_HEAD_SIZE + fields, .at = DBUS_HEAD_SIZE};
    while (r.at < r.len) {
        if (read_field(&r, &message) < 0) {
            return -EBADMSG;
        }
    }
    message.body = data + (len - body);
    message.body_len = body;
    *ret = message;
    return 0;
}
