#include "image/decompress.h"

#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/err.h"
#include "base/macros.h"

#define MAGIC_SIZE ((size_t)4)
/* A frame that needs more memory for its window than this is refused: 128 MiB, as zstd's default.
 */
#define ZSTD_WINDOW_LOG_MAX 27

enum format {
    FORMAT_UNKNOWN,
    FORMAT_PLAIN,
    FORMAT_GZIP,
    FORMAT_ZSTD,
};

struct decompress {
    struct decompress_sink sink;
    uint64_t limit;
    uint64_t written;
    enum format format;
    unsigned char magic[MAGIC_SIZE];
    size_t magic_len;
    struct inflate_state gzip;
    bool gzip_open; /* inside a member */
    ZSTD_DStream *zstd;
    bool zstd_open; /* inside a frame */
};

int decompress_new(const struct decompress_sink *sink, uint64_t limit, struct decompress **ret)
{
    struct decompress *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return -ENOMEM;
    }
    d->sink = *sink;
    d->limit = limit;
    *ret = d;
    return 0;
}

void decompress_free(struct decompress *d)
{
    if (d != NULL) {
        (void)ZSTD_freeDStream(d->zstd);
        free(d);
    }
}

bool decompress_is_plain(const struct decompress *d)
{
    return d->format == FORMAT_PLAIN;
}

const char *decompress_format(const struct decompress *d)
{
    return d->format == FORMAT_GZIP ? "gzip" : d->format == FORMAT_ZSTD ? "zstd" : "";
}

static int wrote(struct decompress *d, size_t n, struct err *err)
{
    if (n > d->limit || d->written > d->limit - n) {
        return err_say(err, EFBIG, "decompresses to more than the limit of %llu bytes",
                       (unsigned long long)d->limit);
    }
    d->written += n;
    return n > 0 ? d->sink.wrote(d->sink.data, n) : 0;
}

static int push_plain(struct decompress *d, const unsigned char *data, size_t len, struct err *err)
{
    while (len > 0) {
        void *room;
        size_t size;
        int r = d->sink.room(d->sink.data, &room, &size);
        if (r < 0) {
            return r;
        }
        size_t n = MIN(size, len);
        memcpy(room, data, n);
        r = wrote(d, n, err);
        if (r < 0) {
            return r;
        }
        data += n;
        len -= n;
    }
    return 0;
}

static int push_gzip(struct decompress *d, const unsigned char *data, size_t len, struct err *err)
{
    struct inflate_state *z = &d->gzip;
    z->next_in = (uint8_t *)(uintptr_t)data;
    z->avail_in = (uint32_t)len;
    for (;;) {
        if (!d->gzip_open) {
            /* Zero bytes after a member are padding of tapes and of some tools. */
            while (z->avail_in > 0 && *z->next_in == 0) {
                z->next_in++;
                z->avail_in--;
            }
            if (z->avail_in == 0) {
                return 0;
            }
            uint8_t *next_in = z->next_in;
            uint32_t avail_in = z->avail_in;
            isal_inflate_init(z);
            z->crc_flag = ISAL_GZIP;
            z->next_in = next_in;
            z->avail_in = avail_in;
            d->gzip_open = true;
        }
        void *room;
        size_t size;
        int r = d->sink.room(d->sink.data, &room, &size);
        if (r < 0) {
            return r;
        }
        z->next_out = room;
        z->avail_out = (uint32_t)MIN(size, (size_t)1 << 30);
        uint32_t before = z->avail_out;
        int result = isal_inflate(z);
        size_t n = before - z->avail_out;
        bool full = z->avail_out == 0;
        if (result != ISAL_DECOMP_OK && result != ISAL_END_INPUT) {
            return err_say(err, EBADMSG, "damaged gzip data (%d)", result);
        }
        r = wrote(d, n, err);
        if (r < 0) {
            return r;
        }
        if (z->block_state == ISAL_BLOCK_FINISH) {
            d->gzip_open = false;
        } else if (z->avail_in == 0 && !full) {
            return 0;
        }
    }
}

static int push_zstd(struct decompress *d, const unsigned char *data, size_t len, struct err *err)
{
    ZSTD_inBuffer in = {.src = data, .size = len};
    bool full = false;
    while (in.pos < in.size || full) {
        void *room;
        size_t size;
        int r = d->sink.room(d->sink.data, &room, &size);
        if (r < 0) {
            return r;
        }
        ZSTD_outBuffer out = {.dst = room, .size = size};
        size_t result = ZSTD_decompressStream(d->zstd, &out, &in);
        if (ZSTD_isError(result)) {
            return err_say(err, EBADMSG, "damaged zstd data: %s", ZSTD_getErrorName(result));
        }
        d->zstd_open = result != 0;
        full = out.pos == out.size && result != 0;
        r = wrote(d, out.pos, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int choose(struct decompress *d, struct err *err)
{
    static const unsigned char zstd_magic[] = {0x28, 0xb5, 0x2f, 0xfd};
    const unsigned char *m = d->magic;
    if (d->magic_len >= 2 && m[0] == 0x1f && m[1] == 0x8b) {
        d->format = FORMAT_GZIP;
    } else if (d->magic_len == MAGIC_SIZE &&
               (memcmp(m, zstd_magic, MAGIC_SIZE) == 0 ||
                ((m[0] & 0xf0) == 0x50 && m[1] == 0x2a && m[2] == 0x4d && m[3] == 0x18))) {
        d->format = FORMAT_ZSTD;
        d->zstd = ZSTD_createDStream();
        if (d->zstd == NULL) {
            return err_set(err, ENOMEM, "decompress");
        }
        (void)ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
    } else {
        d->format = FORMAT_PLAIN;
    }
    return 0;
}

static int push(struct decompress *d, const void *data, size_t len, struct err *err)
{
    if (d->format == FORMAT_GZIP) {
        return push_gzip(d, data, len, err);
    }
    return d->format == FORMAT_ZSTD ? push_zstd(d, data, len, err) : push_plain(d, data, len, err);
}

int decompress_push(struct decompress *d, const void *data, size_t len, struct err *err)
{
    const unsigned char *bytes = data;
    if (d->format == FORMAT_UNKNOWN) {
        size_t n = MIN(MAGIC_SIZE - d->magic_len, len);
        memcpy(d->magic + d->magic_len, bytes, n);
        d->magic_len += n;
        bytes += n;
        len -= n;
        if (d->magic_len < MAGIC_SIZE) {
            return 0;
        }
        int r = choose(d, err);
        r = r < 0 ? r : push(d, d->magic, MAGIC_SIZE, err);
        if (r < 0) {
            return r;
        }
    }
    while (len > 0) {
        size_t n = MIN(len, (size_t)1 << 30);
        int r = push(d, bytes, n, err);
        if (r < 0) {
            return r;
        }
        bytes += n;
        len -= n;
    }
    return 0;
}

int decompress_finish(struct decompress *d, struct err *err)
{
    if (d->format == FORMAT_UNKNOWN) {
        int r = choose(d, err);
        r = r < 0 ? r : push(d, d->magic, d->magic_len, err);
        if (r < 0) {
            return r;
        }
    }
    return d->gzip_open || d->zstd_open ? err_say(err, EBADMSG, "compressed data was cut") : 0;
}
