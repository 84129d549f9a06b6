/*
 * decompress.h - gzip (many members), zstd (many frames) or plain bytes, told by their first bytes.
 */
#ifndef IMAGE_DECOMPRESS_H
#define IMAGE_DECOMPRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct err;
struct decompress;

/* Where output goes: room to write into, and how much was written. */
struct decompress_sink {
    /* Gives at least one byte of room. 0 or a negative errno. */
    int (*room)(void *data, void **ret_room, size_t *ret_size);
    int (*wrote)(void *data, size_t len);
    void *data;
};

/* limit: bytes of output at most (a bomb is -EFBIG). The sink is copied. */
int decompress_new(const struct decompress_sink *sink, uint64_t limit, struct decompress **ret);
void decompress_free(struct decompress *decompress);
DEFINE_FREEP(struct decompress *, decompress_free)

int decompress_push(struct decompress *decompress, const void *data, size_t len, struct err *err);
/* The input is over: -EBADMSG when it was cut. */
int decompress_finish(struct decompress *decompress, struct err *err);

/* Whether output equals input; known after the first 4 bytes. */
bool decompress_is_plain(const struct decompress *decompress);
/* "gzip", "zstd" or "" */
const char *decompress_format(const struct decompress *decompress);

#endif
