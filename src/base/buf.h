/*
 * buf.h - a growing byte buffer that is always followed by a NUL byte.
 *
 * A zeroed struct is an empty buffer. After a failed append the buffer keeps its old content.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>

#include "base/cleanup.h"
#include "base/macros.h"

struct buf {
    char *data; /* NULL while empty, else NUL-terminated */
    size_t len; /* bytes, without the NUL */
    size_t size;
};

void buf_done(struct buf *buf);
DEFINE_DONEP(struct buf, buf_done)

/* Makes room for extra bytes behind len. Returns 0 or -ENOMEM. */
int buf_reserve(struct buf *buf, size_t extra);

/* All return 0 or -ENOMEM. */
int buf_add(struct buf *buf, const void *data, size_t len);
int buf_add_str(struct buf *buf, const char *s);
int buf_add_char(struct buf *buf, char c);
int buf_printf(struct buf *buf, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Forgets the content, keeps the memory. */
void buf_clear(struct buf *buf);

/* The content as a string that the caller frees; "" for an empty buffer; NULL without memory. */
char *buf_take(struct buf *buf);

#endif
