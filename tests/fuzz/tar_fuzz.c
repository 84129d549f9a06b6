#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/macros.h"
#include "image/tar_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct input {
    const uint8_t *data;
    size_t left;
};

static ssize_t next(void *data, const void **ret_data, struct err *err)
{
    struct input *in = data;
    (void)err;
    size_t n = MIN(in->left, (size_t)700);
    *ret_data = in->data;
    in->data += n;
    in->left -= n;
    return (ssize_t)n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct tar_limits limits = {.entries = 1000, .bytes = 1 << 24};
    struct input in = {.data = data, .left = len};
    AUTO(tar_reader_freep) struct tar_reader *reader = NULL;
    const struct tar_entry *entry;
    struct err err = ERR_NONE;
    if (tar_reader_new(next, &in, &limits, &reader) < 0) {
        return 0;
    }
    bool by_offset = len % 2 != 0; /* both ways to read a sparse file */
    while (tar_reader_next(reader, &entry, &err) == 1) {
        const void *piece;
        if (entry->name[0] == '\0') {
            abort();
        }
        for (size_t i = 0; i < entry->xattr_count; i++) {
            volatile uint8_t last = 0;
            const uint8_t *value = entry->xattrs[i].value;
            if (entry->xattrs[i].size > 0) {
                last = value[entry->xattrs[i].size - 1];
            }
            (void)last;
        }
        uint64_t total = 0;
        uint64_t end = 0;
        uint64_t at = 0;
        ssize_t n;
        while ((n = by_offset ? tar_reader_data_at(reader, &piece, &at, &err)
                              : tar_reader_data(reader, &piece, &err)) > 0) {
            volatile uint8_t last = ((const uint8_t *)piece)[n - 1];
            (void)last;
            total += (uint64_t)n;
            if (by_offset && (at < end || at > entry->size || (uint64_t)n > entry->size - at)) {
                abort();
            }
            end = at + (uint64_t)n;
        }
        if (n == 0 && total != entry->size && !(by_offset && entry->sparse)) {
            abort();
        }
    }
    return 0;
}
