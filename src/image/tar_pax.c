/* What pax records and GNU's long names say about the entry after them. */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/str.h"
#include "image/tar_internal.h"

void tar_extra_reset(struct tar_extra *extra)
{
    buf_clear(&extra->path);
    buf_clear(&extra->link);
    for (size_t i = 0; i < extra->headers; i++) {
        buf_done(&extra->records[i]);
    }
    extra->has_size = extra->has_uid = extra->has_gid = extra->has_mtime = false;
    tar_sparse_reset(&extra->sparse);
    extra->xattr_count = 0;
    extra->headers = 0;
    extra->bytes = 0;
}

/* Seconds with an optional fraction and sign. */
static int parse_pax_time(const char *text, int64_t *ret_sec, uint32_t *ret_nsec)
{
    bool negative = text[0] == '-';
    const char *p = text + (negative ? 1 : 0);
    int64_t sec = 0;
    uint32_t nsec = 0;
    if (*p < '0' || *p > '9') {
        return -EINVAL;
    }
    for (; *p >= '0' && *p <= '9'; p++) {
        if (__builtin_mul_overflow(sec, 10, &sec) || __builtin_add_overflow(sec, *p - '0', &sec)) {
            return -EINVAL;
        }
    }
    if (*p == '.') {
        uint32_t unit = 100000000;
        for (p++; *p >= '0' && *p <= '9'; p++) {
            nsec += unit * (uint32_t)(*p - '0');
            unit /= 10;
        }
    }
    if (*p != '\0') {
        return -EINVAL;
    }
    if (negative && nsec > 0) {
        sec = -sec - 1;
        nsec = 1000000000 - nsec;
    } else if (negative) {
        sec = -sec;
    }
    *ret_sec = sec;
    *ret_nsec = nsec;
    return 0;
}

static int add_xattr(struct tar_reader *reader, const char *name, const char *value, size_t size,
                     struct err *err)
{
    struct tar_extra *extra = &reader->extra;
    if (*name == '\0' || extra->xattr_count == TAR_XATTRS_MAX) {
        return tar_bad(reader, err, "too many or unnamed extended attributes");
    }
    extra->xattrs[extra->xattr_count++] =
        (struct tar_xattr){.name = name, .value = value, .size = size};
    return 0;
}

/* One record; key and value are NUL-terminated in place. */
static int pax_record(struct tar_reader *reader, const char *key, const char *value, size_t size,
                      struct err *err)
{
    struct tar_extra *extra = &reader->extra;
    if (str_starts(key, "SCHILY.xattr.")) {
        return add_xattr(reader, key + strlen("SCHILY.xattr."), value, size, err);
    }
    bool path = str_eq(key, "path") || str_eq(key, "GNU.sparse.name");
    if (str_starts(key, "GNU.sparse.") && !path) {
        int r = tar_sparse_record(&extra->sparse, key + strlen("GNU.sparse."), value);
        return r < 0 ? tar_bad_sparse(reader, r, err) : 0;
    }
    if (str_eq(key, "path") && extra->sparse.given && extra->path.len > 0) {
        return 0; /* "GNUSparseFile.1/name", for those who do not know what it is */
    }
    if (path || str_eq(key, "linkpath")) {
        struct buf *target = path ? &extra->path : &extra->link;
        extra->sparse.given = extra->sparse.given || str_eq(key, "GNU.sparse.name");
        buf_clear(target);
        if (strlen(value) != size) {
            return tar_bad(reader, err, "a name holds a NUL byte");
        }
        return buf_add(target, value, size) < 0 ? err_set(err, ENOMEM, "read archive") : 0;
    }
    int r = 0;
    if (str_eq(key, "size")) {
        extra->has_size = size > 0;
        r = size > 0 ? parse_u64(value, 10, &extra->size) : 0;
    } else if (str_eq(key, "uid")) {
        extra->has_uid = size > 0;
        r = size > 0 ? parse_u64(value, 10, &extra->uid) : 0;
    } else if (str_eq(key, "gid")) {
        extra->has_gid = size > 0;
        r = size > 0 ? parse_u64(value, 10, &extra->gid) : 0;
    } else if (str_eq(key, "mtime")) {
        extra->has_mtime = size > 0;
        r = size > 0 ? parse_pax_time(value, &extra->mtime_sec, &extra->mtime_nsec) : 0;
    }
    return r < 0 ? tar_bad(reader, err, "a pax record holds no number") : 0;
}

/* "LENGTH KEY=VALUE\n" again and again; the length counts itself. */
static int parse_pax(struct tar_reader *reader, struct buf *text, struct err *err)
{
    char *p = text->data;
    size_t left = text->len;
    while (left > 0) {
        size_t length = 0;
        size_t digits = 0;
        while (digits < left && digits < 8 && p[digits] >= '0' && p[digits] <= '9') {
            length = length * 10 + (size_t)(p[digits++] - '0');
        }
        if (digits == 0 || digits >= left || p[digits] != ' ' || length > left ||
            length < digits + 3 || p[length - 1] != '\n') {
            return tar_bad(reader, err, "a pax record has a wrong length");
        }
        char *key = p + digits + 1;
        char *equals = memchr(key, '=', length - digits - 2);
        if (equals == NULL || equals == key) {
            return tar_bad(reader, err, "a pax record has no '='");
        }
        *equals = '\0';
        p[length - 1] = '\0';
        if (strlen(key) != (size_t)(equals - key)) {
            return tar_bad(reader, err, "a pax key holds a NUL byte");
        }
        int r = pax_record(reader, key, equals + 1, (size_t)(p + length - 1 - (equals + 1)), err);
        if (r < 0) {
            return r;
        }
        p += length;
        left -= length;
    }
    return 0;
}

int tar_read_meta(struct tar_reader *reader, char type, uint64_t size, struct err *err)
{
    struct tar_extra *extra = &reader->extra;
    if (extra->headers == TAR_META_HEADERS_MAX || size > reader->limits.header_bytes ||
        extra->bytes > reader->limits.header_bytes - size) {
        return tar_bad(reader, err, "an entry has too many or too large extended headers");
    }
    struct buf *record = &extra->records[extra->headers++];
    extra->bytes += size;
    if (buf_reserve(record, (size_t)size) < 0) {
        return err_set(err, ENOMEM, "read archive");
    }
    int r = size > 0 ? tar_take(reader, record->data, (size_t)size, err) : 1;
    if (r <= 0) {
        return r < 0 ? r : tar_bad(reader, err, "ends in the middle of an entry");
    }
    record->len = (size_t)size;
    record->data[record->len] = '\0';
    r = tar_skip(reader, -size % TAR_BLOCK_SIZE, err);
    if (r < 0) {
        return r;
    }
    if (type == 'x') {
        return parse_pax(reader, record, err);
    }
    if (type == 'g') {
        /* Defaults for all that follows: tools put only comments there, and what else they could
         * say would let one header rename a million files. */
        return 0;
    }
    struct buf *target = type == 'L' ? &extra->path : &extra->link;
    buf_clear(target);
    return buf_add_str(target, record->data) < 0 ? err_set(err, ENOMEM, "read archive") : 0;
}
