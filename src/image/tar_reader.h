/*
 * tar_reader.h - tar archives from strangers, entry by entry.
 *
 * Reads ustar, pax (path, linkpath, size, times, ids, SCHILY.xattr.*, LIBARCHIVE.xattr.*), GNU long
 * names and base-256 numbers, GNU and pax sparse files are refused by name. Every size is checked
 * against limits before memory is taken.
 */
#ifndef IMAGE_TAR_READER_H
#define IMAGE_TAR_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct err;
struct tar_reader;

/*
 * Gives the next piece of the stream: sets *ret_data and returns its length, 0 at the end, or a
 * negative errno (with err set). The piece stays valid until the next call.
 */
typedef ssize_t tar_input_fn(void *data, const void **ret_data, struct err *err);

enum tar_type {
    TAR_FILE,
    TAR_HARDLINK,
    TAR_SYMLINK,
    TAR_CHARDEV,
    TAR_BLOCKDEV,
    TAR_DIRECTORY,
    TAR_FIFO,
};

struct tar_xattr {
    const char *name;
    const void *value;
    size_t size;
};

/* Valid until the next tar_reader_next(). */
struct tar_entry {
    enum tar_type type;
    const char *name; /* as in the archive, never empty, no NUL bytes */
    const char *link; /* hard and symbolic links, else "" */
    mode_t mode;      /* permission bits with setuid, setgid, sticky */
    uint32_t uid, gid;
    uint32_t major, minor;
    uint64_t size; /* of the file; 0 unless TAR_FILE */
    bool sparse;   /* less than that may be in the archive */
    int64_t mtime_sec;
    uint32_t mtime_nsec;
    const struct tar_xattr *xattrs;
    size_t xattr_count;
};

/* 0 in a field: the default in brackets. */
struct tar_limits {
    uint64_t entries;      /* [10 million] */
    uint64_t bytes;        /* of the whole stream [1 TiB] */
    uint64_t header_bytes; /* of one entry's pax and long name records [1 MiB] */
};

/* input_data stays the caller's. */
int tar_reader_new(tar_input_fn *input, void *input_data, const struct tar_limits *limits,
                   struct tar_reader **ret_reader);
void tar_reader_free(struct tar_reader *reader);
DEFINE_FREEP(struct tar_reader *, tar_reader_free)

/*
 * Skips what is left of the current entry. Returns 1 and the entry, 0 at the end of the archive, or
 * a negative errno with err naming the entry and the byte offset.
 */
int tar_reader_next(struct tar_reader *reader, const struct tar_entry **ret_entry, struct err *err);

/*
 * The next piece of the current file's data: its length, 0 at its end, or a negative errno. Holes
 * of a sparse file are zeros.
 */
ssize_t tar_reader_data(struct tar_reader *reader, const void **ret_data, struct err *err);

/* The same without the holes: *ret_offset is where in the file the piece belongs. */
ssize_t tar_reader_data_at(struct tar_reader *reader, const void **ret_data, uint64_t *ret_offset,
                           struct err *err);

/* After the end: reads the rest of the stream, so that its digest covers all bytes. */
int tar_reader_drain(struct tar_reader *reader, struct err *err);

/* An input over a descriptor; the struct is the input_data. */
#define TAR_FD_BUFFER_SIZE ((size_t)256 * 1024)
struct tar_fd_input {
    int fd;
    char *buffer; /* TAR_FD_BUFFER_SIZE bytes, made on first use, freed by tar_fd_input_done() */
};
ssize_t tar_fd_input_read(void *data, const void **ret_data, struct err *err);
void tar_fd_input_done(struct tar_fd_input *input);
DEFINE_DONEP(struct tar_fd_input, tar_fd_input_done)

#endif
