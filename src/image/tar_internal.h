/*
 * tar_internal.h - the inside of a tar reader, for src/image/tar_*.c only.
 */
#ifndef IMAGE_TAR_INTERNAL_H
#define IMAGE_TAR_INTERNAL_H

#include "base/buf.h"
#include "image/tar_reader.h"
#include "image/tar_sparse.h"

#define TAR_BLOCK_SIZE ((size_t)512)
/* pax, long name and long link records in a row before one entry. */
#define TAR_META_HEADERS_MAX 16
#define TAR_XATTRS_MAX 256

/* POSIX ustar, IEEE 1003.1-2017 "pax", table "ustar Header Block". */
struct tar_ustar {
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
_Static_assert(sizeof(struct tar_ustar) == 512, "a ustar header fills one block");

/* What pax records and GNU headers say about the next entry. */
struct tar_extra {
    struct buf path, link;
    bool has_size, has_uid, has_gid, has_mtime;
    uint64_t size;
    uint64_t uid, gid;
    int64_t mtime_sec;
    uint32_t mtime_nsec;
    struct buf records[TAR_META_HEADERS_MAX]; /* xattr names and values point in here */
    struct tar_xattr xattrs[TAR_XATTRS_MAX];
    size_t xattr_count;
    size_t headers;
    uint64_t bytes;
    struct tar_sparse sparse;
};

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
    struct tar_extra extra;
    struct buf name, link;
    struct tar_entry entry;
};

/* tar_stream.c: an error that names the place in the archive. */
int tar_bad(const struct tar_reader *reader, struct err *err, const char *what);
/* Makes piece non-empty. 1, 0 at the end of the stream, or a negative errno. */
int tar_refill(struct tar_reader *reader, struct err *err);
/* Copies len bytes. 1, 0 when the stream ends before the first, or a negative errno. */
int tar_take(struct tar_reader *reader, void *out, size_t len, struct err *err);
int tar_skip(struct tar_reader *reader, uint64_t len, struct err *err);

/* tar_reader.c */
/* Octal text, or base-256 when the top bit is set. 0 or -EINVAL. */
int tar_parse_number(const char *field, size_t size, int64_t *ret);

/* tar_pax.c: forgets what was said about an entry. */
void tar_extra_reset(struct tar_extra *extra);
/* The data of a pax or long name header. The buffer stays until the entry is over. */
int tar_read_meta(struct tar_reader *reader, char type, uint64_t size, struct err *err);

/* tar_content.c: an error of tar_sparse.h in words. */
int tar_bad_sparse(const struct tar_reader *reader, int r, struct err *err);
/* What a file's size says, and where its data belongs when it is sparse. */
int tar_set_content(struct tar_reader *reader, const struct tar_ustar *header, struct err *err);

#endif
