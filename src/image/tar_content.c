/* A file's data: its size, where the pieces of a sparse one belong, and the bytes themselves. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "image/tar_internal.h"

#define ZEROS_SIZE ((size_t)64 * 1024)

/* Old GNU sparse members: in the place of ustar's prefix, then in blocks of their own. */
struct gnu_piece {
    char offset[12];
    char size[12];
};
#define GNU_SPARSE_AT 386
#define GNU_SPARSE_PIECES 4
#define GNU_EXTENDED_AT 482
#define GNU_SIZE_AT 483
#define GNU_BLOCK_PIECES 21
#define GNU_BLOCK_EXTENDED_AT 504

int tar_bad_sparse(const struct tar_reader *reader, int r, struct err *err)
{
    return r == -ENOMEM  ? err_set(err, ENOMEM, "read archive")
           : r == -E2BIG ? tar_bad(reader, err, "a sparse file of too many pieces")
                         : tar_bad(reader, err, "the map of a sparse file is not right");
}

/* Pieces of an old GNU header or of a block after it; unused ones are empty. */
static int add_pieces(struct tar_reader *reader, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct gnu_piece piece;
        int64_t offset;
        int64_t size;
        memcpy(&piece, bytes + i * sizeof(piece), sizeof(piece));
        if (piece.offset[0] == '\0' && piece.size[0] == '\0') {
            break;
        }
        if (tar_parse_number(piece.offset, sizeof(piece.offset), &offset) < 0 ||
            tar_parse_number(piece.size, sizeof(piece.size), &size) < 0 || offset < 0 || size < 0) {
            return -EINVAL;
        }
        int r = tar_sparse_add(&reader->extra.sparse, (uint64_t)offset, (uint64_t)size);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int read_gnu_sparse(struct tar_reader *reader, const struct tar_ustar *header,
                           struct err *err)
{
    struct tar_sparse *sparse = &reader->extra.sparse;
    const char *bytes = (const char *)header;
    char block[512];
    int64_t size;
    tar_sparse_reset(sparse);
    sparse->given = true;
    int r = tar_parse_number(bytes + GNU_SIZE_AT, 12, &size);
    if (r < 0 || size < 0) {
        return tar_bad_sparse(reader, -EINVAL, err);
    }
    sparse->size = (uint64_t)size;
    sparse->has_size = true;
    r = add_pieces(reader, bytes + GNU_SPARSE_AT, GNU_SPARSE_PIECES);
    bool more = bytes[GNU_EXTENDED_AT] != '\0';
    while (r == 0 && more) {
        int taken = tar_take(reader, block, sizeof(block), err);
        if (taken <= 0) {
            return taken < 0 ? taken : tar_bad(reader, err, "ends in the middle of an entry");
        }
        size_t before = sparse->count;
        r = add_pieces(reader, block, GNU_BLOCK_PIECES);
        more = block[GNU_BLOCK_EXTENDED_AT] != '\0';
        /* Blocks without anything in them could follow for ever. */
        r = r == 0 && more && sparse->count == before ? -EINVAL : r;
    }
    return r < 0 ? tar_bad_sparse(reader, r, err) : 0;
}

/* Format 1.0: the map is what the data begins with, in whole blocks. */
static int read_map(struct tar_reader *reader, struct err *err)
{
    char block[512];
    int r = 0;
    while (r == 0) {
        if (reader->data_left < sizeof(block)) {
            return tar_bad_sparse(reader, -EINVAL, err);
        }
        int taken = tar_take(reader, block, sizeof(block), err);
        if (taken <= 0) {
            return taken < 0 ? taken : tar_bad(reader, err, "ends in the middle of an entry");
        }
        reader->data_left -= sizeof(block);
        r = tar_sparse_feed(&reader->extra.sparse, block, sizeof(block));
    }
    return r < 0 ? tar_bad_sparse(reader, r, err) : 0;
}

int tar_set_content(struct tar_reader *reader, const struct tar_ustar *header, struct err *err)
{
    struct tar_entry *entry = &reader->entry;
    struct tar_sparse *sparse = &reader->extra.sparse;
    int r = 0;
    entry->sparse = entry->type == TAR_FILE && (sparse->given || header->type == 'S');
    reader->segment = 0;
    reader->taken = 0;
    reader->position = 0;
    reader->waiting = NULL;
    if (entry->type == TAR_FILE && entry->size > reader->limits.bytes) {
        return err_say(err, EFBIG, "archive: '%s' says it has %llu bytes, more than the limit",
                       reader->name.data, (unsigned long long)entry->size);
    }
    if (!entry->sparse) {
        return 0;
    }
    if (header->type == 'S') {
        r = read_gnu_sparse(reader, header, err);
    } else if (sparse->in_data) {
        r = sparse->count > 0 ? tar_bad_sparse(reader, -EINVAL, err) : read_map(reader, err);
    }
    if (r < 0) {
        return r;
    }
    r = tar_sparse_check(sparse, reader->data_left);
    if (r < 0) {
        return tar_bad_sparse(reader, r, err);
    }
    if (sparse->size > reader->limits.bytes) {
        return err_say(err, EFBIG, "archive: '%s' says it has %llu bytes, more than the limit",
                       reader->name.data, (unsigned long long)sparse->size);
    }
    entry->size = sparse->size;
    return 0;
}

ssize_t tar_reader_data_at(struct tar_reader *reader, const void **ret_data, uint64_t *ret_offset,
                           struct err *err)
{
    const struct tar_sparse *sparse = &reader->extra.sparse;
    uint64_t room = reader->data_left;
    if (reader->data_left == 0) {
        return 0;
    }
    if (reader->entry.sparse) {
        /* The pieces add up to data_left, so there is one more. */
        while (reader->taken == sparse->segments[reader->segment].size) {
            reader->segment++;
            reader->taken = 0;
        }
        room = sparse->segments[reader->segment].size - reader->taken;
    }
    int r = tar_refill(reader, err);
    if (r <= 0) {
        return r < 0 ? r : tar_bad(reader, err, "ends in the middle of a file");
    }
    size_t n = (size_t)MIN((uint64_t)reader->piece_left, room);
    *ret_data = reader->piece;
    *ret_offset = reader->entry.sparse ? sparse->segments[reader->segment].offset + reader->taken
                                       : reader->entry.size - reader->data_left;
    reader->taken += n;
    reader->piece += n;
    reader->piece_left -= n;
    reader->offset += n;
    reader->data_left -= n;
    return (ssize_t)n;
}

/* Zeros up to the place in the file; the position is before it. */
static ssize_t give_zeros(struct tar_reader *reader, uint64_t up_to, const void **ret_data,
                          struct err *err)
{
    if (reader->zeros == NULL) {
        reader->zeros = calloc(1, ZEROS_SIZE);
        if (reader->zeros == NULL) {
            return err_set(err, ENOMEM, "read archive");
        }
    }
    size_t n = (size_t)MIN(up_to - reader->position, (uint64_t)ZEROS_SIZE);
    *ret_data = reader->zeros;
    reader->position += n;
    return (ssize_t)n;
}

ssize_t tar_reader_data(struct tar_reader *reader, const void **ret_data, struct err *err)
{
    uint64_t offset;
    if (!reader->entry.sparse) {
        return tar_reader_data_at(reader, ret_data, &offset, err);
    }
    if (reader->waiting == NULL) {
        ssize_t n = tar_reader_data_at(reader, &reader->waiting, &reader->waiting_at, err);
        if (n < 0) {
            return n;
        }
        if (n == 0) {
            reader->waiting = NULL;
            return give_zeros(reader, reader->entry.size, ret_data, err);
        }
        reader->waiting_size = (size_t)n;
    }
    if (reader->position < reader->waiting_at) {
        return give_zeros(reader, reader->waiting_at, ret_data, err);
    }
    *ret_data = reader->waiting;
    reader->waiting = NULL;
    reader->position += reader->waiting_size;
    return (ssize_t)reader->waiting_size;
}
