#include "vmm/boot/payload.h"

#include <errno.h>
#include <inttypes.h>
#include <lz4.h>
#include <lzma.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"
#include "base/macros.h"
#include "freestanding/byteorder.h"

#define IN_SIZE ((size_t)1 << 16)
#define OUT_SIZE ((size_t)1 << 18)
#define MAGIC_MAX ((size_t)9)
/* The last bytes hold the unpacked size; gzip has them anyway, the others have them appended. */
#define SIZE_BYTES 4u

/* The largest dictionary that Linux' build asks of xz is 128 MiB. */
#define XZ_MEMORY_MAX ((uint64_t)256 << 20)
#define ZSTD_WINDOW_LOG_MAX 27

/* "lz4 legacy": blocks that unpack to 8 MiB each, after a magic number of four bytes. */
#define LZ4_BLOCK ((size_t)8 << 20)
#define LZ4_MAGIC_BYTES 4u

/* Input and output of one run. */
struct stream {
    const struct payload *payload;
    const char *method;
    int out_fd;
    uint64_t at;   /* next byte of the payload */
    uint64_t end;  /* of what the method may read, in the payload */
    uint64_t done; /* bytes written */
    uint8_t in[IN_SIZE];
    uint8_t out[OUT_SIZE];
};

static int damaged(const struct stream *s, struct err *err, const char *what)
{
    return err_say(err, ENOEXEC, "%s '%s': its %s payload %s", s->payload->what, s->payload->name,
                   s->method, what);
}

static int no_memory(const struct stream *s, struct err *err)
{
    return err_set(err, ENOMEM, "unpack %s '%s'", s->payload->what, s->payload->name);
}

/* Takes up to max bytes. Returns how many; 0 at the end; or a negative errno. */
static ssize_t take(struct stream *s, void *data, size_t max, struct err *err)
{
    size_t n = (size_t)MIN((uint64_t)max, s->end - s->at);
    int r = read_full_at(s->payload->fd, data, n, s->payload->offset + s->at);
    if (r < 0) {
        return err_set(err, -r, "read %s '%s'", s->payload->what, s->payload->name);
    }
    s->at += n;
    return (ssize_t)n;
}

static int give(struct stream *s, const void *data, size_t len, struct err *err)
{
    if (len > s->payload->most - s->done) {
        return damaged(s, err, s->payload->exact ? "unpacks to more than it says" : "is too large");
    }
    int r = write_full(s->out_fd, data, len);
    if (r < 0) {
        return err_set(err, -r, "unpack %s '%s'", s->payload->what, s->payload->name);
    }
    s->done += len;
    return 0;
}

static int unpack_plain(struct stream *s, struct err *err)
{
    ssize_t n;
    while ((n = take(s, s->in, sizeof(s->in), err)) > 0) {
        int r = give(s, s->in, (size_t)n, err);
        if (r < 0) {
            return r;
        }
    }
    return (int)n;
}

static void inflate_donep(z_stream *z)
{
    (void)inflateEnd(z);
}

static int unpack_gzip(struct stream *s, struct err *err)
{
    AUTO(inflate_donep) z_stream z = {0};
    s->end = s->payload->bytes; /* the size is part of the stream */
    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) {
        return no_memory(s, err);
    }
    int status = Z_OK;
    while (status != Z_STREAM_END) {
        if (z.avail_in == 0) {
            ssize_t n = take(s, s->in, sizeof(s->in), err);
            if (n <= 0) {
                return n < 0 ? (int)n : damaged(s, err, "is cut short");
            }
            z.next_in = s->in;
            z.avail_in = (uInt)n;
        }
        z.next_out = s->out;
        z.avail_out = sizeof(s->out);
        status = inflate(&z, Z_NO_FLUSH);
        if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR) {
            return status == Z_MEM_ERROR ? no_memory(s, err) : damaged(s, err, "is damaged");
        }
        int r = give(s, s->out, sizeof(s->out) - z.avail_out, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int unpack_xz(struct stream *s, struct err *err)
{
    AUTO(lzma_end) lzma_stream z = LZMA_STREAM_INIT;
    if (lzma_stream_decoder(&z, XZ_MEMORY_MAX, 0) != LZMA_OK) {
        return no_memory(s, err);
    }
    lzma_ret status = LZMA_OK;
    while (status != LZMA_STREAM_END) {
        if (z.avail_in == 0) {
            ssize_t n = take(s, s->in, sizeof(s->in), err);
            if (n <= 0) {
                return n < 0 ? (int)n : damaged(s, err, "is cut short");
            }
            z.next_in = s->in;
            z.avail_in = (size_t)n;
        }
        z.next_out = s->out;
        z.avail_out = sizeof(s->out);
        status = lzma_code(&z, LZMA_RUN);
        if (status != LZMA_OK && status != LZMA_STREAM_END && status != LZMA_BUF_ERROR) {
            return status == LZMA_MEM_ERROR ? no_memory(s, err) : damaged(s, err, "is damaged");
        }
        int r = give(s, s->out, sizeof(s->out) - z.avail_out, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static void dctx_freep(ZSTD_DCtx **z)
{
    (void)ZSTD_freeDCtx(*z);
}

static int unpack_zstd(struct stream *s, struct err *err)
{
    AUTO(dctx_freep) ZSTD_DCtx *z = ZSTD_createDCtx();
    if (z == NULL ||
        ZSTD_isError(ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX))) {
        return no_memory(s, err);
    }
    ZSTD_inBuffer in = {.src = s->in};
    size_t status = 1;
    while (status != 0) {
        if (in.pos == in.size) {
            ssize_t n = take(s, s->in, sizeof(s->in), err);
            if (n <= 0) {
                return n < 0 ? (int)n : damaged(s, err, "is cut short");
            }
            in.size = (size_t)n;
            in.pos = 0;
        }
        ZSTD_outBuffer out = {.dst = s->out, .size = sizeof(s->out)};
        do {
            out.pos = 0;
            status = ZSTD_decompressStream(z, &out, &in);
            if (ZSTD_isError(status)) {
                return damaged(s, err, "is damaged");
            }
            int r = give(s, s->out, out.pos, err);
            if (r < 0) {
                return r;
            }
        } while (status != 0 && out.pos == out.size);
    }
    return 0;
}

/* One block, whose packed size stands before it. 1, 0 at the end, or a negative errno. */
static int unpack_lz4_block(struct stream *s, char *in, char *out, struct err *err)
{
    uint8_t raw[4];
    ssize_t n = take(s, raw, sizeof(raw), err);
    if (n <= 0) {
        return (int)n;
    }
    size_t packed = n == sizeof(raw) ? load_le32(raw) : 0;
    if (packed == 0 || packed > (size_t)LZ4_compressBound((int)LZ4_BLOCK)) {
        return damaged(s, err, "is damaged");
    }
    n = take(s, in, packed, err);
    if (n < 0) {
        return (int)n;
    }
    if ((size_t)n != packed) {
        return damaged(s, err, "is cut short");
    }
    int unpacked = LZ4_decompress_safe(in, out, (int)packed, (int)LZ4_BLOCK);
    if (unpacked < 0) {
        return damaged(s, err, "is damaged");
    }
    int r = give(s, out, (size_t)unpacked, err);
    return r < 0 ? r : 1;
}

static int unpack_lz4(struct stream *s, struct err *err)
{
    AUTO(freep) char *in = malloc((size_t)LZ4_compressBound((int)LZ4_BLOCK));
    AUTO(freep) char *out = malloc(LZ4_BLOCK);
    if (in == NULL || out == NULL) {
        return no_memory(s, err);
    }
    s->at = LZ4_MAGIC_BYTES;
    int r = 1;
    while (r == 1) {
        r = unpack_lz4_block(s, in, out, err);
    }
    return r;
}

/* unpack NULL: known by name only. */
static const struct method {
    const char *name;
    size_t magic_len;
    uint8_t magic[MAGIC_MAX];
    int (*unpack)(struct stream *s, struct err *err);
} METHODS[] = {
    {"gzip", 2, {0x1f, 0x8b}, unpack_gzip},
    {"xz", 6, {0xfd, '7', 'z', 'X', 'Z', 0}, unpack_xz},
    {"lz4", 4, {0x02, 0x21, 0x4c, 0x18}, unpack_lz4},
    {"zstd", 4, {0x28, 0xb5, 0x2f, 0xfd}, unpack_zstd},
    {"plain", 4, {0x7f, 'E', 'L', 'F'}, unpack_plain},
    {"bzip2", 3, {'B', 'Z', 'h'}, NULL},
    {"lzma", 3, {0x5d, 0, 0}, NULL},
    {"lzo", 9, {0x89, 'L', 'Z', 'O', 0, 0x0d, 0x0a, 0x1a, 0x0a}, NULL},
};

int payload_size(struct payload *payload, struct err *err)
{
    uint8_t raw[SIZE_BYTES];
    if (payload->bytes <= MAGIC_MAX + SIZE_BYTES) {
        return err_say(err, ENOEXEC,
                       "kernel '%s': setup header field payload_length %" PRIu64
                       " leaves no kernel",
                       payload->name, payload->bytes);
    }
    int r =
        read_full_at(payload->fd, raw, sizeof(raw), payload->offset + payload->bytes - SIZE_BYTES);
    if (r < 0) {
        return err_set(err, -r, "read %s '%s'", payload->what, payload->name);
    }
    payload->most = load_le32(raw);
    payload->exact = true;
    payload->trailer = SIZE_BYTES;
    if (payload->most == 0 || payload->most > PAYLOAD_OUTPUT_MAX) {
        return err_say(err, ENOEXEC,
                       "kernel '%s': its payload says that it unpacks to %" PRIu64
                       " bytes; at most %" PRIu64 " are taken",
                       payload->name, payload->most, PAYLOAD_OUTPUT_MAX);
    }
    return 0;
}

static const struct method *find_method(const uint8_t *magic)
{
    for (size_t i = 0; i < COUNT(METHODS); i++) {
        if (memcmp(magic, METHODS[i].magic, METHODS[i].magic_len) == 0) {
            return &METHODS[i];
        }
    }
    return NULL;
}

int payload_unpack(const struct payload *payload, int out_fd, struct err *err)
{
    uint8_t magic[MAGIC_MAX] = {0};
    int r = payload->bytes > MAGIC_MAX + payload->trailer
                ? read_full_at(payload->fd, magic, sizeof(magic), payload->offset)
                : 0;
    if (r < 0) {
        return err_set(err, -r, "read %s '%s'", payload->what, payload->name);
    }
    const struct method *method = find_method(magic);
    if (method == NULL || method->unpack == NULL) {
        (void)err_say(err, ENOEXEC, "%s '%s': its payload is packed by %s", payload->what,
                      payload->name, method != NULL ? method->name : "an unknown method");
        err_hint(err, "gzip, xz, lz4 and zstd can be unpacked");
        return -ENOEXEC;
    }
    AUTO(freep) struct stream *s = malloc(sizeof(*s));
    if (s == NULL) {
        return err_set(err, ENOMEM, "unpack %s '%s'", payload->what, payload->name);
    }
    s->payload = payload;
    s->method = method->name;
    s->out_fd = out_fd;
    s->at = 0;
    s->end = payload->bytes - payload->trailer;
    s->done = 0;
    r = method->unpack(s, err);
    if (r == 0 && payload->exact && s->done != payload->most) {
        r = damaged(s, err, "unpacks to less than it says");
    }
    return r;
}
