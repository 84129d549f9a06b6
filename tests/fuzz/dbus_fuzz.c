#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "container/dbus.h"
#include "container/dbus_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* A text that a parsed message holds lies in it and ends in it. */
static void check(const char *text, const uint8_t *from, size_t len)
{
    const uint8_t *start = (const uint8_t *)text;
    if (text != NULL && text[0] != '\0' &&
        (start < from || start >= from + len ||
         memchr(start, 0, len - (size_t)(start - from)) == NULL)) {
        abort();
    }
}

/* A message of a bus, and the same bytes as a list of addresses. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct dbus_message message;
    uint8_t *copy = malloc(len + 1);
    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data, len);
    copy[len] = '\0';
    char path[64];
    const char *list = (const char *)copy;
    while (dbus_next_address(&list, path, sizeof(path))) {
        if (path[0] != '/' && path[0] != '@') {
            abort();
        }
    }
    size_t want;
    if (len >= DBUS_HEAD_SIZE && dbus_message_length(copy, &want) == 0 && want == len &&
        dbus_message_parse(copy, len, &message) == 0) {
        check(message.interface, copy, len);
        check(message.member, copy, len);
        check(message.error, copy, len);
        check(message.signature, copy, len);
        struct dbus_reader r = {.data = message.body, .len = message.body_len};
        const char *text;
        uint32_t number;
        for (const char *p = message.signature; *p != '\0'; p++) {
            int result = *p == 'u'   ? dbus_get_u32(&r, &number)
                         : *p == 'v' ? dbus_get_signature(&r, &text)
                                     : dbus_get_string(&r, &text);
            if (result < 0) {
                break;
            }
        }
        if (r.at > r.len) {
            abort();
        }
    }
    free(copy);
    return 0;
}
