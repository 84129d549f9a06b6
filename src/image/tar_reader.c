#include "image/tar_reader.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/str.h"
#include "image/tar_sparse.h"

#define BLOCK_SIZE ((size_t)512)
#define ENTRIES_MAX_DEFAULT ((uint64_t)10000000)
#define BYTES_MAX_DEFAULT ((uint64_t)1 << 40)
#define HEADER_BYTES_MAX_DEFAULT ((uint64_t)1 << 20)
/* pax, long name and long link records in a row before one entry. */
#define META_HEADERS_MAX 16
#define XATTRS_MAX 256
#define ZEROS_SIZE ((size_t)64 * 1024)

/* POSIX ustar, IEEE 1003.1-2017 "pax", table "ustar Header Block". */
struct ustar {
    char name[100];
    char mode[8];
    char uid[8];
    char gid[8];
    char size[12];
    char mtime[12];
    char checksum[8];
    char type;
    char link[100];
    char magic[6];
    char version[2];
    char user[32];
    char group[32];
    char major[8];
    char minor[8];
    char prefix[155];
    char unused[12];
};
_Static_assert(sizeof(struct ustar) == 512, "a ustar header fills one block");

/* What pax records and GNU headers say about the next entry. */
struct extra {
    struct buf path, link;
    bool has_size, has_uid, has_gid, has_mtime;
    uint64_t size;
    uint64_t uid, gid;
    int64_t mtime_sec;
    uint32_t mtime_nsec;
    struct buf records[META_HEADERS_MAX]; /* xattr names and values point in here */
    struct tar_xattr xattrs[XATTRS_MAX];
    size_t xattr_count;
    size_t headers;
    uint64_t bytes;
    struct tar_sparse sparse;
};

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

struct tar_reader {
    tar_input_fn *input;
    void *input_data;
    struct tar_limits limits;
    const char *piece;
    size_t piece_left;
    uint64_t offset; /* bytes taken from the stream */
    uint64_t entries;
    uint64_t data_left; /* of the current file */
    size_t padding;     /* after it */
    size_t segment;     /* of a sparse file: the one that data comes from */
    uint64_t taken;     /* bytes of it that were given */
    uint64_t position;  /* in the file, for who wants zeros */
    char *zeros;        /* ZEROS_SIZE bytes, made on first use */
    /* A piece that waits until the zeros before it are given. */
    const void *waiting;
    size_t waiting_size;
    uint64_t waiting_at;
    bool ended;
    struct extra extra;
    struct buf name, link;
    struct tar_entry entry;
};

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

static void extra_reset(struct extra *extra)
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

void tar_reader_free(struct tar_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    extra_reset(&reader->extra);
    buf_done(&reader->extra.path);
    buf_done(&reader->extra.link);
    tar_sparse_done(&reader->extra.sparse);
    free(reader->zeros);
    buf_done(&reader->name);
    buf_done(&reader->link);
    free(reader);
}

static int bad(const struct tar_reader *reader, struct err *err, const char *what)
{
    return err_say(err, EBADMSG, "archive, byte %llu: %s", (unsigned long long)reader->offset,
                   what);
}

/* Makes piece non-empty. 1, 0 at the end of the stream, or a negative errno. */
static int refill(struct tar_reader *reader, struct err *err)
{
    if (reader->piece_left > 0) {
        return 1;
    }
    const void *data = NULL;
    ssize_t n = reader->input(reader->input_data, &data, err);
    if (n <= 0) {
        return (int)n;
    }
    if ((uint64_t)n > reader->limits.bytes || reader->offset > reader->limits.bytes - (uint64_t)n) {
        return err_say(err, EFBIG, "archive: larger than the limit of %llu bytes",
                       (unsigned long long)reader->limits.bytes);
    }
    reader->piece = data;
    reader->piece_left = (size_t)n;
    return 1;
}

/* Copies len bytes. 1, 0 when the stream ends before the first, or a negative errno. */
static int take(struct tar_reader *reader, void *out, size_t len, struct err *err)
{
    size_t done = 0;
    while (done < len) {
        int r = refill(reader, err);
        if (r < 0) {
            return r;
        }
        if (r == 0) {
            return done == 0 ? 0 : bad(reader, err, "ends in the middle of an entry");
        }
        size_t n = MIN(len - done, reader->piece_left);
        if (out != NULL) {
            memcpy((char *)out + done, reader->piece, n);
        }
        reader->piece += n;
        reader->piece_left -= n;
        reader->offset += n;
        done += n;
    }
    return 1;
}

static int skip(struct tar_reader *reader, uint64_t len, struct err *err)
{
    while (len > 0) {
        size_t n = (size_t)MIN(len, (uint64_t)1 << 30);
        int r = take(reader, NULL, n, err);
        if (r <= 0) {
            return r < 0 ? r : bad(reader, err, "ends in the middle of an entry");
        }
        len -= n;
    }
    return 0;
}

/* Octal text, or base-256 when the top bit is set. 0 or -EINVAL. */
static int parse_number(const char *field, size_t size, int64_t *ret)
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

static bool checksum_is_right(const struct ustar *header)
{
    const unsigned char *bytes = (const unsigned char *)header;
    size_t at = offsetof(struct ustar, checksum);
    int64_t said;
    int64_t plain = 0;
    int64_t with_sign = 0; /* as very old programs computed it */
    if (parse_number(header->checksum, sizeof(header->checksum), &said) < 0) {
        return false;
    }
    for (size_t i = 0; i < sizeof(*header); i++) {
        unsigned char byte = i >= at && i < at + sizeof(header->checksum) ? ' ' : bytes[i];
        plain += byte;
        with_sign += (signed char)byte;
    }
    return said == plain || said == with_sign;
}

static bool is_zero_block(const struct ustar *header)
{
    static const struct ustar zero;
    return memcmp(header, &zero, sizeof(zero)) == 0;
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
    struct extra *extra = &reader->extra;
    if (*name == '\0' || extra->xattr_count == XATTRS_MAX) {
        return bad(reader, err, "too many or unnamed extended attributes");
    }
    extra->xattrs[extra->xattr_count++] =
        (struct tar_xattr){.name = name, .value = value, .size = size};
    return 0;
}

static int bad_sparse(const struct tar_reader *reader, int r, struct err *err)
{
    return r == -ENOMEM  ? err_set(err, ENOMEM, "read archive")
           : r == -E2BIG ? bad(reader, err, "a sparse file of too many pieces")
                         : bad(reader, err, "the map of a sparse file is not right");
}

/* One record; key and value are NUL-terminated in place. */
static int pax_record(struct tar_reader *reader, const char *key, const char *value, size_t size,
                      struct err *err)
{
    struct extra *extra = &reader->extra;
    if (str_starts(key, "SCHILY.xattr.")) {
        return add_xattr(reader, key + strlen("SCHILY.xattr."), value, size, err);
    }
    bool path = str_eq(key, "path") || str_eq(key, "GNU.sparse.name");
    if (str_starts(key, "GNU.sparse.") && !path) {
        int r = tar_sparse_record(&extra->sparse, key + strlen("GNU.sparse."), value);
        return r < 0 ? bad_sparse(reader, r, err) : 0;
    }
    if (str_eq(key, "path") && extra->sparse.given && extra->path.len > 0) {
        return 0; /* "GNUSparseFile.1/name", for those who do not know what it is */
    }
    if (path || str_eq(key, "linkpath")) {
        struct buf *target = path ? &extra->path : &extra->link;
        extra->sparse.given = extra->sparse.given || str_eq(key, "GNU.sparse.name");
        buf_clear(target);
        if (strlen(value) != size) {
            return bad(reader, err, "a name holds a NUL byte");
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
    return r < 0 ? bad(reader, err, "a pax record holds no number") : 0;
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
            return bad(reader, err, "a pax record has a wrong length");
        }
        char *key = p + digits + 1;
        char *equals = memchr(key, '=', length - digits - 2);
        if (equals == NULL || equals == key) {
            return bad(reader, err, "a pax record has no '='");
        }
        *equals = '\0';
        p[length - 1] = '\0';
        if (strlen(key) != (size_t)(equals - key)) {
            return bad(reader, err, "a pax key holds a NUL byte");
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

/* The data of a pax or long name header. The buffer stays until the entry is over. */
static int read_meta(struct tar_reader *reader, char type, uint64_t size, struct err *err)
{
    struct extra *extra = &reader->extra;
    if (extra->headers == META_HEADERS_MAX || size > reader->limits.header_bytes ||
        extra->bytes > reader->limits.header_bytes - size) {
        return bad(reader, err, "an entry has too many or too large extended headers");
    }
    struct buf *record = &extra->records[extra->headers++];
    extra->bytes += size;
    if (buf_reserve(record, (size_t)size) < 0) {
        return err_set(err, ENOMEM, "read archive");
    }
    int r = size > 0 ? take(reader, record->data, (size_t)size, err) : 1;
    if (r <= 0) {
        return r < 0 ? r : bad(reader, err, "ends in the middle of an entry");
    }
    record->len = (size_t)size;
    record->data[record->len] = '\0';
    r = skip(reader, -size % BLOCK_SIZE, err);
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

/* A field that is NUL-terminated unless full. */
static int add_field(struct buf *out, const char *field, size_t size)
{
    return buf_add(out, field, strnlen(field, size));
}

static int set_names(struct tar_reader *reader, const struct ustar *header, struct err *err)
{
    const struct extra *extra = &reader->extra;
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
    return reader->name.len == 0 ? bad(reader, err, "an entry without a name") : 0;
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

static int set_numbers(struct tar_reader *reader, const struct ustar *h, int64_t size,
                       struct err *err)
{
    const struct extra *extra = &reader->extra;
    struct tar_entry *entry = &reader->entry;
    int64_t mode, uid, gid, mtime, major = 0, minor = 0;
    bool device = entry->type == TAR_CHARDEV || entry->type == TAR_BLOCKDEV;
    if (parse_number(h->mode, sizeof(h->mode), &mode) < 0 ||
        parse_number(h->uid, sizeof(h->uid), &uid) < 0 ||
        parse_number(h->gid, sizeof(h->gid), &gid) < 0 ||
        parse_number(h->mtime, sizeof(h->mtime), &mtime) < 0 ||
        (device && (parse_number(h->major, sizeof(h->major), &major) < 0 ||
                    parse_number(h->minor, sizeof(h->minor), &minor) < 0))) {
        return bad(reader, err, "a header field holds no number");
    }
    uint64_t real_uid = extra->has_uid ? extra->uid : (uint64_t)uid;
    uint64_t real_gid = extra->has_gid ? extra->gid : (uint64_t)gid;
    /* (uid_t)-1 means "leave it" to chown(). */
    if (real_uid >= UINT32_MAX || real_gid >= UINT32_MAX) {
        return bad(reader, err, "an owner that does not fit 32 bits");
    }
    if (major < 0 || major > 0xfff || minor < 0 || minor > 0xfffff) {
        return bad(reader, err, "a device number out of range");
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
    reader->padding = (size_t)(-entry->size % BLOCK_SIZE);
    return 0;
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
        if (parse_number(piece.offset, sizeof(piece.offset), &offset) < 0 ||
            parse_number(piece.size, sizeof(piece.size), &size) < 0 || offset < 0 || size < 0) {
            return -EINVAL;
        }
        int r = tar_sparse_add(&reader->extra.sparse, (uint64_t)offset, (uint64_t)size);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int read_gnu_sparse(struct tar_reader *reader, const struct ustar *header, struct err *err)
{
    struct tar_sparse *sparse = &reader->extra.sparse;
    const char *bytes = (const char *)header;
    char block[512];
    int64_t size;
    tar_sparse_reset(sparse);
    sparse->given = true;
    int r = parse_number(bytes + GNU_SIZE_AT, 12, &size);
    if (r < 0 || size < 0) {
        return bad_sparse(reader, -EINVAL, err);
    }
    sparse->size = (uint64_t)size;
    sparse->has_size = true;
    r = add_pieces(reader, bytes + GNU_SPARSE_AT, GNU_SPARSE_PIECES);
    bool more = bytes[GNU_EXTENDED_AT] != '\0';
    while (r == 0 && more) {
        int taken = take(reader, block, sizeof(block), err);
        if (taken <= 0) {
            return taken < 0 ? taken : bad(reader, err, "ends in the middle of an entry");
        }
        size_t before = sparse->count;
        r = add_pieces(reader, block, GNU_BLOCK_PIECES);
        more = block[GNU_BLOCK_EXTENDED_AT] != '\0';
        /* Blocks without anything in them could follow for ever. */
        r = r == 0 && more && sparse->count == before ? -EINVAL : r;
    }
    return r < 0 ? bad_sparse(reader, r, err) : 0;
}

/* Format 1.0: the map is what the data begins with, in whole blocks. */
static int read_map(struct tar_reader *reader, struct err *err)
{
    char block[512];
    int r = 0;
    while (r == 0) {
        if (reader->data_left < sizeof(block)) {
            return bad_sparse(reader, -EINVAL, err);
        }
        int taken = take(reader, block, sizeof(block), err);
        if (taken <= 0) {
            return taken < 0 ? taken : bad(reader, err, "ends in the middle of an entry");
        }
        reader->data_left -= sizeof(block);
        r = tar_sparse_feed(&reader->extra.sparse, block, sizeof(block));
    }
    return r < 0 ? bad_sparse(reader, r, err) : 0;
}

/* What a file's size says, and where its data belongs when it is sparse. */
static int set_content(struct tar_reader *reader, const struct ustar *header, struct err *err)
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
        r = sparse->count > 0 ? bad_sparse(reader, -EINVAL, err) : read_map(reader, err);
    }
    if (r < 0) {
        return r;
    }
    r = tar_sparse_check(sparse, reader->data_left);
    if (r < 0) {
        return bad_sparse(reader, r, err);
    }
    if (sparse->size > reader->limits.bytes) {
        return err_say(err, EFBIG, "archive: '%s' says it has %llu bytes, more than the limit",
                       reader->name.data, (unsigned long long)sparse->size);
    }
    entry->size = sparse->size;
    return 0;
}

/* A header that is not meta data. */
static int set_entry(struct tar_reader *reader, const struct ustar *header, int64_t size,
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
        r = set_content(reader, header, err);
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
    int r = skip(reader, reader->data_left, err);
    r = r < 0 ? r : skip(reader, reader->padding, err);
    if (r < 0) {
        return r;
    }
    reader->data_left = 0;
    reader->padding = 0;
    extra_reset(&reader->extra);
    for (;;) {
        struct ustar header;
        int64_t size;
        r = take(reader, &header, sizeof(header), err);
        if (r < 0) {
            return r;
        }
        if (r == 0 || is_zero_block(&header)) {
            if (r == 0 && reader->offset == 0) {
                return bad(reader, err, "empty");
            }
            reader->ended = true;
            return 0;
        }
        if (!checksum_is_right(&header)) {
            return bad(reader, err, "no tar header (wrong checksum)");
        }
        if (parse_number(header.size, sizeof(header.size), &size) < 0 || size < 0) {
            return bad(reader, err, "a size that is no number");
        }
        if (header.type != '\0' && strchr("xgLK", header.type) != NULL) {
            r = read_meta(reader, header.type, (uint64_t)size, err);
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
    int r = refill(reader, err);
    if (r <= 0) {
        return r < 0 ? r : bad(reader, err, "ends in the middle of a file");
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

int tar_reader_drain(struct tar_reader *reader, struct err *err)
{
    for (;;) {
        int r = refill(reader, err);
        if (r <= 0) {
            return r;
        }
        reader->offset += reader->piece_left;
        reader->piece_left = 0;
    }
}

ssize_t tar_fd_input_read(void *data, const void **ret_data, struct err *err)
{
    struct tar_fd_input *input = data;
    if (input->buffer == NULL) {
        input->buffer = malloc(TAR_FD_BUFFER_SIZE);
        if (input->buffer == NULL) {
            return err_set(err, ENOMEM, "read archive");
        }
    }
    ssize_t n;
    do {
        n = read(input->fd, input->buffer, TAR_FD_BUFFER_SIZE);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return err_set(err, errno, "read archive");
    }
    *ret_data = input->buffer;
    return n;
}

void tar_fd_input_done(struct tar_fd_input *input)
{
    free(input->buffer);
    input->buffer = NULL;
}
