#include "vmm/gdb_packet.h"

#include <errno.h>
#include <string.h>

#define ESCAPE '}'
#define ESCAPE_XOR 0x20

static int digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

bool gdb_hex_get(const char *text, void *data, size_t len)
{
    uint8_t *to = data;
    for (size_t i = 0; i < len; i++) {
        int high = digit(text[2 * i]);
        int low = high < 0 ? -1 : digit(text[2 * i + 1]);
        if (low < 0) {
            return false;
        }
        to[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

int gdb_hex_put(struct buf *out, const void *data, size_t len)
{
    const uint8_t *from = data;
    int r = 0;
    for (size_t i = 0; r == 0 && i < len; i++) {
        r = buf_printf(out, "%02x", from[i]);
    }
    return r;
}

bool gdb_number(const char **text, uint64_t *ret)
{
    uint64_t value = 0;
    unsigned digits = 0;
    for (; digit(**text) >= 0; (*text)++) {
        if (++digits > 16) {
            return false;
        }
        value = value << 4 | (unsigned)digit(**text);
    }
    *ret = value;
    return digits > 0;
}

bool gdb_number_then(const char **text, char then, uint64_t *ret)
{
    if (!gdb_number(text, ret) || **text != then) {
        return false;
    }
    *text += then == '\0' ? 0 : 1;
    return true;
}

static uint8_t sum_of(const char *data, size_t len)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < len; i++) {
        sum = (uint8_t)(sum + (uint8_t)data[i]);
    }
    return sum;
}

static void unescape(const char *data, size_t len, struct gdb_packet *ret)
{
    for (size_t i = 0; i < len; i++) {
        bool escaped = data[i] == ESCAPE && i + 1 < len;
        ret->data[ret->len++] = escaped ? (char)(data[++i] ^ ESCAPE_XOR) : data[i];
    }
    ret->data[ret->len] = '\0';
}

int gdb_packet_next(const char *data, size_t len, struct gdb_packet *ret, size_t *ret_used)
{
    if (len == 0) {
        return -EAGAIN;
    }
    ret->len = 0;
    ret->data[0] = '\0';
    *ret_used = 1;
    if (data[0] != '$') {
        /* What lies between packets is an acknowledgement, or noise that is one too much. */
        ret->kind = data[0] == '-' ? GDB_NAK : data[0] == 3 ? GDB_INTERRUPT : GDB_ACK;
        return 0;
    }
    const char *end = memchr(data, '#', len);
    size_t body = (end == NULL ? len : (size_t)(end - data)) - 1;
    if (body >= sizeof(ret->data)) {
        return -EMSGSIZE;
    }
    if (end == NULL || len - body < 4) {
        return -EAGAIN;
    }
    uint8_t sum = 0;
    bool whole = gdb_hex_get(end + 1, &sum, 1) && sum == sum_of(data + 1, body);
    ret->kind = whole ? GDB_COMMAND : GDB_DAMAGED;
    *ret_used = body + 4;
    unescape(data + 1, body, ret);
    return 0;
}

int gdb_packet_put(struct buf *out, const char *data, size_t len)
{
    struct buf escaped = {0};
    int r = 0;
    for (size_t i = 0; r == 0 && i < len; i++) {
        bool special = strchr("#$}*", data[i]) != NULL;
        r = special ? buf_add_char(&escaped, ESCAPE) : 0;
        r = r < 0 ? r : buf_add_char(&escaped, special ? (char)(data[i] ^ ESCAPE_XOR) : data[i]);
    }
    r = r < 0 ? r : buf_add_char(out, '$');
    r = r < 0 || escaped.len == 0 ? r : buf_add(out, escaped.data, escaped.len);
    r = r < 0 ? r
              : buf_printf(out, "#%02x", escaped.len == 0 ? 0 : sum_of(escaped.data, escaped.len));
    buf_done(&escaped);
    return r;
}
