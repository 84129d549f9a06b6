#include "image/tar_reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "image/tar_internal.h"

#define ENTRIES_MAX_DEFAULT ((uint64_t)10000000)
#define BYTES_MAX_DEFAULT ((uint64_t)1 << 40)
#define HEADER_BYTES_MAX_DEFAULT ((uint64_t)1 << 20)

int tar_reader_new(tar_input_fn *input, void *input_data, const struct tar_limits *limits,
                   struct tar_reader **ret_reader)
{
    struct tar_reader *reader = calloc(1, sizeof(*reader));
    if (reader == NULL) {
        return -ENOMEM;
    }
    reader->input = input;
    reader->input_data = input_data;
    if (limits != NULL) {
        reader->limits = *limits;
    }
    if (reader->limits.entries == 0) {
        reader->limits.entries = ENTRIES_MAX_DEFAULT;
    }
    if (reader->limits.bytes == 0) {
        reader->limits.bytes = BYTES_MAX_DEFAULT;
    }
    if (reader->limits.header_bytes == 0) {
        reader->limits.header_bytes = HEADER_BYTES_MAX_DEFAULT;
    }
    *ret_reader = reader;
    return 0;
}

void tar_reader_free(struct tar_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    tar_extra_reset(&reader->extra);
    buf_done(&reader->extra.path);
    buf_done(&reader->extra.link);
    tar_sparse_done(&reader->extra.sparse);
    free(reader->zeros);
    buf_done(&reader->name);
    buf_done(&reader->link);
    free(reader);
}

int tar_parse_number(const char *field, size_t size, int64_t *ret)
{
    const unsigned char *p = (const unsigned char *)field;
    if ((p[0] & 0x80) != 0) {
        bool negative = (p[0] & 0x40) != 0;
        uint64_t value = negative ? UINT64_MAX : 0;
        for (size_t i = 0; i < size; i++) {
            unsigned char byte = i == 0 && !negative ? p[i] & 0x7f : p[i];
            /* What falls out at the top must be sign only. */
            if (value >> 56 != (negative ? 0xff : 0)) {
                return -EINVAL;
            }
            value = value << 8 | byte;
        }
        if ((value >> 63 != 0) != negative) {
            return -EINVAL;
        }
        *ret = (int64_t)value;
        return 0;
    }
    size_t i = 0;
    while (i < size && (p[i] == ' ' || p[i] == '\0')) {
        i++;
    }
    uint64_t value = 0;
    for (; i < size && p[i] >= '0' && p[i] <= '7'; i++) {
        value = value << 3 | (uint64_t)(p[i] - '0');
    }
    for (; i < size; i++) {
        if (p[i] != ' ' && p[i] != '\0') {
            return -EINVAL;
        }
    }
    *ret = (int64_t)value; /* at most 12 octal digits: 36 bits */
    return 0;
}

static bool checksum_is_right(const struct tar_ustar *header)
{
    const unsigned char *bytes = (const unsigned char *)header;
    size_t at = offsetof(struct tar_ustar, checksum);
    int64_t said;
    int64_t plain = 0;
    int64_t with_sign = 0; /* as very old programs computed it */
    if (tar_parse_number(header->checksum, sizeof(header->checksum), &said) < 0) {
        return false;
    }
    for (size_t i = 0; i < sizeof(*header); i++) {
        unsigned char byte = i >= at && i < at + sizeof(header->checksum) ? ' ' : bytes[i];
        plain += byte;
        with_sign += (signed char)byte;
    }
    return said == plain || said == with_sign;
}

static bool is_zero_block(const struct tar_ustar *header)
{
    static const struct tar_ustar zero;
    return memcmp(header, &zero, sizeof(zero)) == 0;
}

/* A field that is NUL-terminated unless full. */
static int add_field(struct buf *out, const char *field, size_t size)
{
    return buf_add(out, field, strnlen(field, size));
}

static int set_names(struct tar_reader *reader, const struct tar_ustar *header, struct err *err)
{
    const struct tar_extra *extra = &reader->extra;
    buf_clear(&reader->name);
    buf_clear(&reader->link);
    int r = 0;
    if (extra->path.len > 0) {
        r = buf_add(&reader->name, extra->path.data, extra->path.len);
    } else {
        if (memcmp(header->magic, "ustar", 6) == 0 && header->type != 'S' &&
            header->prefix[0] != '\0') {
            r = add_field(&reader->name, header->prefix, sizeof(header->prefix));
            r = r < 0 ? r : buf_add_char(&reader->name, '/');
        }
        r = r < 0 ? r : add_field(&reader->name, header->name, sizeof(header->name));
    }
    if (r == 0) {
        r = extra->link.len > 0 ? buf_add(&reader->link, extra->link.data, extra->link.len)
                                : add_field(&reader->link, header->link, sizeof(header->link));
    }
    if (r < 0) {
        return err_set(err, -r, "read archive");
    }
    return reader->name.len == 0 ? tar_bad(reader, err, "an entry without a name") : 0;
}

static int set_type(struct tar_reader *reader, char type, struct err *err)
{
    static const struct {
        char letter;
        enum tar_type type;
    } types[] = {
        {'0', TAR_FILE},    {'\0', TAR_FILE},   {'7', TAR_FILE},     {'1', TAR_HARDLINK},
        {'2', TAR_SYMLINK}, {'3', TAR_CHARDEV}, {'4', TAR_BLOCKDEV}, {'5', TAR_DIRECTORY},
        {'6', TAR_FIFO},    {'S', TAR_FILE},
    };
    for (size_t i = 0; i < COUNT(types); i++) {
        if (types[i].letter == type) {
            reader->entry.type = types[i].type;
            /* Before POSIX a directory was a file with a slash at its end. */
            if (type != '5' && reader->entry.type == TAR_FILE &&
                reader->name.data[reader->name.len - 1] == '/') {
                reader->entry.type = TAR_DIRECTORY;
            }
            return 0;
        }
    }
    return err_say(err, EBADMSG, "archive, byte %llu: unknown entry type 0x%02x",
                   (unsigned long long)reader->offset, (unsigned char)type);
}

static int set_numbers(struct tar_reader *reader, const struct tar_ustar *h, int64_t size,
                       struct err *err)
{
    const struct tar_extra *extra = &reader->extra;
    struct tar_entry *entry = &reader->entry;
    int64_t mode, uid, gid, mtime, major = 0, minor = 0;
    bool device = entry->type == TAR_CHARDEV || entry->type == TAR_BLOCKDEV;
    if (tar_parse_number(h->mode, sizeof(h->mode), &mode) < 0 ||
        tar_parse_number(h->uid, sizeof(h->uid), &uid) < 0 ||
        tar_parse_number(h->gid, sizeof(h->gid), &gid) < 0 ||
        tar_parse_number(h->mtime, sizeof(h->mtime), &mtime) < 0 ||
        (device && (tar_parse_number(h->major, sizeof(h->major), &major) < 0 ||
                    tar_parse_number(h->minor, sizeof(h->minor), &minor) < 0))) {
        return tar_bad(reader, err, "a header field holds no number");
    }
    uint64_t real_uid = extra->has_uid ? extra->uid : (uint64_t)uid;
    uint64_t real_gid = extra->has_gid ? extra->gid : (uint64_t)gid;
    /* (uid_t)-1 means "leave it" to chown(). */
    if (real_uid >= UINT32_MAX || real_gid >= UINT32_MAX) {
        return tar_bad(reader, err, "an owner that does not fit 32 bits");
    }
    if (major < 0 || major > 0xfff || minor < 0 || minor > 0xfffff) {
        return tar_bad(reader, err, "a device number out of range");
    }
    entry->mode = (mode_t)(mode & 07777);
    entry->uid = (uint32_t)real_uid;
    entry->gid = (uint32_t)real_gid;
    entry->major = (uint32_t)major;
    entry->minor = (uint32_t)minor;
    entry->mtime_sec = extra->has_mtime ? extra->mtime_sec : mtime;
    entry->mtime_nsec = extra->has_mtime ? extra->mtime_nsec : 0;
    entry->size = 0;
    if (entry->type == TAR_FILE) {
        entry->size = extra->has_size ? extra->size : (uint64_t)size;
    }
    reader->data_left = entry->size;
    reader->padding = (size_t)(-entry->size % TAR_BLOCK_SIZE);
    return 0;
}

/* A header that is not meta data. */
static int set_entry(struct tar_reader *reader, const struct tar_ustar *header, int64_t size,
                     struct err *err)
{
    if (++reader->entries > reader->limits.entries) {
        return err_say(err, EFBIG, "archive: more than the limit of %llu entries",
                       (unsigned long long)reader->limits.entries);
    }
    int r = set_names(reader, header, err);
    if (r == 0) {
        r = set_type(reader, header->type, err);
    }
    if (r == 0) {
        r = set_numbers(reader, header, size, err);
    }
    if (r == 0) {
        r = tar_set_content(reader, header, err);
    }
    if (r < 0) {
        return r;
    }
    reader->entry.name = reader->name.data;
    reader->entry.link = reader->link.len > 0 ? reader->link.data : "";
    reader->entry.xattrs = reader->extra.xattrs;
    reader->entry.xattr_count = reader->extra.xattr_count;
    return 1;
}

int tar_reader_next(struct tar_reader *reader, const struct tar_entry **ret_entry, struct err *err)
{
    if (reader->ended) {
        return 0;
    }
    int r = tar_skip(reader, reader->data_left, err);
    r = r < 0 ? r : tar_skip(reader, reader->padding, err);
    if (r < 0) {
        return r;
    }
    reader->data_left = 0;
    reader->padding = 0;
    tar_extra_reset(&reader->extra);
    for (;;) {
        struct tar_ustar header;
        int64_t size;
        r = tar_take(reader, &header, sizeof(header), err);
        if (r < 0) {
            return r;
        }
        if (r == 0 || is_zero_block(&header)) {
            if (r == 0 && reader->offset == 0) {
                return tar_bad(reader, err, "empty");
            }
            reader->ended = true;
            return 0;
        }
        if (!checksum_is_right(&header)) {
            return tar_bad(reader, err, "no tar header (wrong checksum)");
        }
        if (tar_parse_number(header.size, sizeof(header.size), &size) < 0 || size < 0) {
            return tar_bad(reader, err, "a size that is no number");
        }
        if (header.type != '\0' && strchr("xgLK", header.type) != NULL) {
            r = tar_read_meta(reader, header.type, (uint64_t)size, err);
            if (r < 0) {
                return r;
            }
            continue;
        }
        r = set_entry(reader, &header, size, err);
        if (r == 1) {
            *ret_entry = &reader->entry;
        }
        return r;
    }
}
