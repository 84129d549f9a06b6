/*
 * tar_writer.h - directory trees as tar archives (pax where ustar is too small).
 *
 * Entries of a directory are sorted, so that one tree gives one archive.
 */
#ifndef IMAGE_TAR_WRITER_H
#define IMAGE_TAR_WRITER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "image/tar_reader.h"

struct err;
struct tar_writer;

/* Takes all bytes, or returns a negative errno. */
typedef int tar_output_fn(void *data, const void *bytes, size_t len);

int tar_writer_new(tar_output_fn *output, void *output_data, struct tar_writer **ret_writer);
void tar_writer_free(struct tar_writer *writer);
DEFINE_FREEP(struct tar_writer *, tar_writer_free)

/* A header; entry->size bytes of data and tar_writer_pad() must follow for files. */
int tar_writer_entry(struct tar_writer *writer, const struct tar_entry *entry);
int tar_writer_data(struct tar_writer *writer, const void *bytes, size_t len);
int tar_writer_pad(struct tar_writer *writer, uint64_t size);
/* A whole regular file from memory. */
int tar_writer_file(struct tar_writer *writer, const char *name, mode_t mode, int64_t mtime_sec,
                    const void *bytes, size_t len);
/* size bytes of fd as a regular file; -ENODATA when fd holds fewer. */
int tar_writer_fd(struct tar_writer *writer, const char *name, mode_t mode, int64_t mtime_sec,
                  int fd, uint64_t size);
/* The two empty blocks and what is still buffered. */
int tar_writer_finish(struct tar_writer *writer);

struct tar_tree_rules {
    const char *name_as;  /* name of the top entry; NULL: the last part of path, and for the root
                             itself no prefix at all */
    bool whiteouts;       /* an overlay's upper directory: device 0:0 becomes ".wh.NAME", an opaque
                             directory gets ".wh..wh..opq", overlay's own attributes are left out */
    bool one_file_system; /* directories that are mount points are written empty */
    bool follow_top;      /* path itself may be a symbolic link (cp -L) */
    int64_t mtime_max;    /* 0, or newer times become this (reproducible images) */
};

/* Adds the tree at path below root_fd ("" or ".": all of it; a file: that file). */
int tar_writer_tree(struct tar_writer *writer, int root_fd, const char *path,
                    const struct tar_tree_rules *rules, struct err *err);

/* A whole archive of that tree on fd. rules may be NULL. */
int tar_write_tree(int fd, int root_fd, const char *path, const struct tar_tree_rules *rules,
                   struct err *err);

/*
 * One archive from another, which may come from anybody: read with its checks and written anew, so
 * that what leaves here is well-formed. Names and contents are as the other says.
 */
int tar_copy(int from_fd, int to_fd, struct err *err);

#endif
