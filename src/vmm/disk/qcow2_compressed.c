#include <errno.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "vmm/disk/qcow2_internal.h"

void qcow2_packed_range(const struct qcow2 *q, uint64_t entry, uint64_t *ret_offset,
                        uint64_t *ret_len)
{
    unsigned offset_bits = 62 - (q->header.cluster_bits - 8);
    uint64_t sectors = (entry & (QCOW2_COMPRESSED - 1)) >> offset_bits;
    *ret_offset = entry & ((1ULL << offset_bits) - 1);
    *ret_len = (sectors + 1) * 512 - (*ret_offset & 511);
}

static int unpack_deflate(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
    z_stream stream = {0};
    stream.next_in = (Bytef *)(uintptr_t)in;
    stream.avail_in = (uInt)in_len;
    stream.next_out = out;
    stream.avail_out = (uInt)out_len;
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) {
        return -ENOMEM;
    }
    int r = inflate(&stream, Z_FINISH);
    size_t left = stream.avail_out;
    (void)inflateEnd(&stream);
    /* The stream may have an end that lies behind a full cluster. */
    return left == 0 && (r == Z_STREAM_END || r == Z_BUF_ERROR || r == Z_OK) ? 0 : -EIO;
}

/* In one step, so that a window of the stream's choice takes no memory. */
static int unpack_zstd(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
    size_t frame = ZSTD_findFrameCompressedSize(in, in_len);
    if (ZSTD_isError(frame)) {
        return -EIO;
    }
    return ZSTD_decompress(out, out_len, in, frame) == out_len ? 0 : -EIO;
}

int qcow2_unpack(struct qcow2 *q, uint64_t entry)
{
    if (q->unpacked_entry == entry) {
        return 0;
    }
    uint64_t offset;
    uint64_t len;
    qcow2_packed_range(q, entry, &offset, &len);
    if (offset >= q->file_end) {
        return -EIO;
    }
    if (q->unpacked == NULL) {
        q->unpacked = malloc((size_t)q->cluster_size);
    }
    AUTO(freep) uint8_t *packed = malloc((size_t)len);
    if (q->unpacked == NULL || packed == NULL) {
        return -ENOMEM;
    }
    int r = disk_file_read(&q->file, offset, packed, (size_t)len);
    if (r < 0) {
        return r;
    }
    q->unpacked_entry = 0;
    r = q->header.zstd ? unpack_zstd(packed, (size_t)len, q->unpacked, (size_t)q->cluster_size)
                       : unpack_deflate(packed, (size_t)len, q->unpacked, (size_t)q->cluster_size);
    if (r == 0) {
        q->unpacked_entry = entry;
    }
    return r;
}
