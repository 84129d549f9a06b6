#include "container/guest_filter.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "freestanding/byteorder.h"

#define FLAGS_DIGITS ((size_t)8)
#define CODE_DIGITS (2 * sizeof(struct sock_filter))

static const char digits[] = "0123456789abcdef";

static void encode(const void *data, size_t len, char *out)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
}

static int digit(char c)
{
    const char *at = c == '\0' ? NULL : strchr(digits, c);
    return at == NULL ? -EINVAL : (int)(at - digits);
}

static int decode(const char *text, size_t len, void *out)
{
    uint8_t *bytes = out;
    for (size_t i = 0; i < len; i++) {
        int high = digit(text[2 * i]);
        int low = digit(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            return -EINVAL;
        }
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    return 0;
}

char *guest_filter_encode(const struct seccomp_filter *filter)
{
    char *text = calloc(1, FLAGS_DIGITS + filter->count * CODE_DIGITS + 1);
    uint8_t flags[4];
    if (text != NULL) {
        store_le32(flags, filter->flags);
        encode(flags, sizeof(flags), text);
        encode(filter->code, filter->count * sizeof(*filter->code), text + FLAGS_DIGITS);
    }
    return text;
}

int guest_filter_decode(const char *text, struct seccomp_filter *ret)
{
    size_t len = strlen(text);
    uint8_t flags[4];
    if (len <= FLAGS_DIGITS || (len - FLAGS_DIGITS) % CODE_DIGITS != 0 ||
        (len - FLAGS_DIGITS) / CODE_DIGITS > BPF_MAXINSNS ||
        decode(text, sizeof(flags), flags) < 0) {
        return -EINVAL;
    }
    size_t count = (len - FLAGS_DIGITS) / CODE_DIGITS;
    struct seccomp_filter filter = {.code = calloc(count, sizeof(*filter.code)),
                                    .count = (unsigned short)count,
                                    .flags = load_le32(flags)};
    if (filter.code == NULL) {
        return -ENOMEM;
    }
    if (decode(text + FLAGS_DIGITS, count * sizeof(*filter.code), filter.code) < 0) {
        seccomp_filter_done(&filter);
        return -EINVAL;
    }
    *ret = filter;
    return 0;
}
