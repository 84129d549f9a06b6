#include "image/tar_sparse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "base/str.h"

/* 16 MiB of memory; a file of this many pieces has 4 GiB of data in pages. */
#define SEGMENTS_MAX ((size_t)1 << 20)

void tar_sparse_done(struct tar_sparse *sparse)
{
    free(sparse->segments);
    *sparse = (struct tar_sparse){0};
}

void tar_sparse_reset(struct tar_sparse *sparse)
{
    *sparse = (struct tar_sparse){
        .segments = sparse->segments, .room = sparse->room, .numbers_left = UINT64_MAX};
}

int tar_sparse_add(struct tar_sparse *sparse, uint64_t offset, uint64_t size)
{
    sparse->given = true;
    if (sparse->count == SEGMENTS_MAX) {
        return -E2BIG;
    }
    if (sparse->count == sparse->room) {
        size_t room = MAX(sparse->room * 2, (size_t)32);
        struct tar_segment *segments = reallocarray(sparse->segments, room, sizeof(*segments));
        if (segments == NULL) {
            return -ENOMEM;
        }
        sparse->segments = segments;
        sparse->room = room;
    }
    sparse->segments[sparse->count++] = (struct tar_segment){.offset = offset, .size = size};
    return 0;
}

/* Format 0.1: "OFFSET,SIZE,OFFSET,SIZE". */
static int parse_map(struct tar_sparse *sparse, const char *text)
{
    AUTO(freep) char *copy = strdup(text);
    if (copy == NULL) {
        return -ENOMEM;
    }
    bool has_offset = false;
    uint64_t offset = 0;
    char *save = NULL;
    for (char *part = strtok_r(copy, ",", &save); part != NULL; part = strtok_r(NULL, ",", &save)) {
        uint64_t number;
        if (parse_u64(part, 10, &number) < 0) {
            return -EINVAL;
        }
        if (has_offset) {
            int r = tar_sparse_add(sparse, offset, number);
            if (r < 0) {
                return r;
            }
        }
        offset = number;
        has_offset = !has_offset;
    }
    return has_offset ? -EINVAL : 0;
}

int tar_sparse_record(struct tar_sparse *sparse, const char *key, const char *value)
{
    uint64_t number = 0;
    sparse->given = true;
    if (str_eq(key, "map")) {
        return parse_map(sparse, value);
    }
    if (parse_u64(value, 10, &number) < 0) {
        return -EINVAL;
    }
    if (str_eq(key, "size") || str_eq(key, "realsize")) {
        sparse->size = number;
        sparse->has_size = true;
        return 0;
    }
    if (str_eq(key, "offset")) {
        bool twice = sparse->has_offset;
        sparse->offset = number;
        sparse->has_offset = true;
        return twice ? -EINVAL : 0;
    }
    if (str_eq(key, "numbytes")) {
        bool alone = !sparse->has_offset;
        sparse->has_offset = false;
        return alone ? -EINVAL : tar_sparse_add(sparse, sparse->offset, number);
    }
    if (str_eq(key, "major")) {
        sparse->in_data = number == 1;
        return number > 1 ? -EINVAL : 0;
    }
    /* "minor" is 0 or 1 of what is above; "numblocks" says again how many pieces there are. */
    return str_eq(key, "minor") || str_eq(key, "numblocks") ? 0 : -EINVAL;
}

/* A whole number of the map: the count, then offsets and sizes in turn. 1 at the end. */
static int take_number(struct tar_sparse *sparse)
{
    if (sparse->numbers_left == UINT64_MAX) {
        if (sparse->number > SEGMENTS_MAX) {
            return -E2BIG;
        }
        sparse->numbers_left = sparse->number * 2;
        return sparse->numbers_left == 0;
    }
    sparse->numbers_left--;
    if (sparse->numbers_left % 2 != 0) {
        sparse->offset = sparse->number;
        return 0;
    }
    int r = tar_sparse_add(sparse, sparse->offset, sparse->number);
    return r < 0 ? r : sparse->numbers_left == 0;
}

int tar_sparse_feed(struct tar_sparse *sparse, const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] >= '0' && bytes[i] <= '9') {
            sparse->has_digit = true;
            if (__builtin_mul_overflow(sparse->number, (uint64_t)10, &sparse->number) ||
                __builtin_add_overflow(sparse->number, (uint64_t)(bytes[i] - '0'),
                                       &sparse->number)) {
                return -EINVAL;
            }
            continue;
        }
        if (bytes[i] != '\n' || !sparse->has_digit) {
            return -EINVAL;
        }
        int r = take_number(sparse);
        sparse->number = 0;
        sparse->has_digit = false;
        if (r != 0) {
            return r; /* what follows in the block is padding */
        }
    }
    return 0;
}

int tar_sparse_check(const struct tar_sparse *sparse, uint64_t stored)
{
    uint64_t at = 0;
    uint64_t sum = 0;
    if (!sparse->has_size || sparse->has_offset) {
        return -EINVAL;
    }
    for (size_t i = 0; i < sparse->count; i++) {
        const struct tar_segment *s = &sparse->segments[i];
        if (s->offset < at || s->offset > sparse->size || s->size > sparse->size - s->offset) {
            return -EINVAL;
        }
        at = s->offset + s->size; /* at most the size */
        sum += s->size;           /* pieces do not overlap: at most the size, too */
    }
    return sum == stored ? 0 : -EINVAL;
}
