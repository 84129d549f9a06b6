/*
 * iov.h - a place in a list of buffers, and what is done from there.
 *
 * A cursor never runs past the end of its list: what does not fit is cut.
 */
#ifndef VMM_DISK_IOV_H
#define VMM_DISK_IOV_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct iov_cursor {
    const struct iovec *iov;
    unsigned count;
    size_t offset; /* in iov[0] */
};

uint64_t iov_length(const struct iovec *iov, unsigned count);

/*
 * Fills at most max pieces that hold together at most len bytes from the place of the cursor, which
 * stays. Returns the pieces; *ret_len gets their bytes.
 */
unsigned iov_slice(const struct iov_cursor *cursor, uint64_t len, struct iovec *pieces,
                   unsigned max, uint64_t *ret_len);

void iov_advance(struct iov_cursor *cursor, uint64_t len);
/* These advance. */
void iov_get(struct iov_cursor *cursor, void *data, size_t len);
void iov_put(struct iov_cursor *cursor, const void *data, size_t len);
void iov_put_zeros(struct iov_cursor *cursor, uint64_t len);

#endif
