#include "vmm/disk/iov.h"

#include <string.h>

#include "base/macros.h"

uint64_t iov_length(const struct iovec *iov, unsigned count)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < count; i++) {
        total += iov[i].iov_len;
    }
    return total;
}

unsigned iov_slice(const struct iov_cursor *cursor, uint64_t len, struct iovec *pieces,
                   unsigned max, uint64_t *ret_len)
{
    unsigned used = 0;
    uint64_t left = len;
    size_t skip = cursor->offset;
    for (unsigned i = 0; i < cursor->count && used < max && left > 0; i++) {
        size_t piece = (size_t)MIN((uint64_t)(cursor->iov[i].iov_len - skip), left);
        if (piece > 0) {
            pieces[used].iov_base = (char *)cursor->iov[i].iov_base + skip;
            pieces[used].iov_len = piece;
            used++;
            left -= piece;
        }
        skip = 0;
    }
    *ret_len = len - left;
    return used;
}

/* used bytes of the first buffer, at most what is left of it. */
static void next_piece(struct iov_cursor *cursor, size_t used)
{
    cursor->offset += used;
    if (cursor->offset == cursor->iov->iov_len) {
        cursor->iov++;
        cursor->count--;
        cursor->offset = 0;
    }
}

void iov_advance(struct iov_cursor *cursor, uint64_t len)
{
    while (len > 0 && cursor->count > 0) {
        size_t piece = (size_t)MIN((uint64_t)(cursor->iov->iov_len - cursor->offset), len);
        len -= piece;
        next_piece(cursor, piece);
    }
}

void iov_get(struct iov_cursor *cursor, void *data, size_t len)
{
    char *to = data;
    while (len > 0 && cursor->count > 0) {
        size_t piece = MIN(cursor->iov->iov_len - cursor->offset, len);
        memcpy(to, (const char *)cursor->iov->iov_base + cursor->offset, piece);
        to += piece;
        len -= piece;
        next_piece(cursor, piece);
    }
}

void iov_put(struct iov_cursor *cursor, const void *data, size_t len)
{
    const char *from = data;
    while (len > 0 && cursor->count > 0) {
        size_t piece = MIN(cursor->iov->iov_len - cursor->offset, len);
        memcpy((char *)cursor->iov->iov_base + cursor->offset, from, piece);
        from += piece;
        len -= piece;
        next_piece(cursor, piece);
    }
}

void iov_put_zeros(struct iov_cursor *cursor, uint64_t len)
{
    while (len > 0 && cursor->count > 0) {
        size_t here = cursor->iov->iov_len - cursor->offset;
        size_t piece = (size_t)MIN((uint64_t)here, len);
        memset((char *)cursor->iov->iov_base + cursor->offset, 0, piece);
        len -= piece;
        next_piece(cursor, piece);
    }
}
