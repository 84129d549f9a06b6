/*
 * tar_sparse.h - where the data of a sparse member lies: old GNU headers and GNU.sparse.* pax
 * records of the formats 0.0, 0.1 and 1.0 (GNU tar manual, "Storing Sparse Files").
 *
 * For src/image/tar_pax.c and tar_content.c. All functions but the last return 0 or 1, -EINVAL for
 * a hostile map, -E2BIG for one with too many pieces, -ENOMEM.
 */
#ifndef IMAGE_TAR_SPARSE_H
#define IMAGE_TAR_SPARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A piece of data; between pieces are holes. */
struct tar_segment {
    uint64_t offset;
    uint64_t size;
};

struct tar_sparse {
    bool given;      /* the member is sparse */
    bool in_data;    /* format 1.0: the map comes before the data */
    bool has_offset; /* format 0.0: an offset waits for its size */
    bool has_size;
    uint64_t offset;
    uint64_t size; /* of the whole file */
    struct tar_segment *segments;
    size_t count, room;
    /* Reading the map of format 1.0. */
    uint64_t number;
    uint64_t numbers_left; /* UINT64_MAX: their count comes first */
    bool has_digit;
};

void tar_sparse_done(struct tar_sparse *sparse);
/* Empty again, keeps the memory. */
void tar_sparse_reset(struct tar_sparse *sparse);

int tar_sparse_add(struct tar_sparse *sparse, uint64_t offset, uint64_t size);

/* One pax record, key without "GNU.sparse.". */
int tar_sparse_record(struct tar_sparse *sparse, const char *key, const char *value);

/* The next bytes of the map that format 1.0 has before the data. 1 when it is complete. */
int tar_sparse_feed(struct tar_sparse *sparse, const char *bytes, size_t len);

/* The pieces must be in order, inside the file, and together as long as what is stored. */
int tar_sparse_check(const struct tar_sparse *sparse, uint64_t stored);

#endif
