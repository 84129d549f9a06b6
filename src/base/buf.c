#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_done(struct buf *buf)
{
    free(buf->data);
    *buf = (struct buf){0};
}

int buf_reserve(struct buf *buf, size_t extra)
{
    if (extra > SIZE_MAX / 4 || buf->len > SIZE_MAX / 4) {
        return -ENOMEM;
    }
    size_t need = buf->len + extra + 1;
    if (need <= buf->size) {
        return 0;
    }
    size_t size = MAX(buf->size * 2, (size_t)64);
    size = MAX(size, need);
    char *data = realloc(buf->data, size);
    if (data == NULL) {
        return -ENOMEM;
    }
    buf->data = data;
    buf->size = size;
    buf->data[buf->len] = '\0';
    return 0;
}

int buf_add(struct buf *buf, const void *data, size_t len)
{
    int r = buf_reserve(buf, len);
    if (r < 0) {
        return r;
    }
    if (len > 0) {
        memcpy(buf->data + buf->len, data, len);
    }
    buf->len += len;
    buf->data[buf->len] = '\0';
    return 0;
}

int buf_add_str(struct buf *buf, const char *s)
{
    return buf_add(buf, s, strlen(s));
}

int buf_add_char(struct buf *buf, char c)
{
    return buf_add(buf, &c, 1);
}

int buf_printf(struct buf *buf, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        return -ENOMEM;
    }
    int r = buf_reserve(buf, (size_t)n);
    if (r < 0) {
        return r;
    }
    va_start(ap, fmt);
    (void)vsnprintf(buf->data + buf->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    buf->len += (size_t)n;
    return 0;
}

void buf_clear(struct buf *buf)
{
    buf->len = 0;
    if (buf->data != NULL) {
        buf->data[0] = '\0';
    }
}

char *buf_take(struct buf *buf)
{
    char *data = buf->data != NULL ? buf->data : strdup("");
    *buf = (struct buf){0};
    return data;
}
