/*
 * archive.h - tar archives in memory and temporary directories, for tests of src/image.
 */
#ifndef UNIT_ARCHIVE_H
#define UNIT_ARCHIVE_H

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/path.h"
#include "image/tar_extract.h"
#include "image/tar_writer.h"
#include "unit.h"

struct archive {
    struct buf bytes;
    struct tar_writer *writer;
    size_t at;
};

static inline int archive_output(void *data, const void *bytes, size_t len)
{
    return buf_add(&((struct archive *)data)->bytes, bytes, len);
}

/* Small pieces of an odd length, so that every structure is cut somewhere. */
static inline ssize_t archive_input(void *data, const void **ret_data, struct err *err)
{
    struct archive *a = data;
    (void)err;
    size_t n = MIN((size_t)333, a->bytes.len - a->at);
    *ret_data = a->bytes.data + a->at;
    a->at += n;
    return (ssize_t)n;
}

static inline void archive_init(struct archive *a)
{
    *a = (struct archive){0};
    ck_assert_int_eq(tar_writer_new(archive_output, a, &a->writer), 0);
}

static inline void archive_done(struct archive *a)
{
    tar_writer_free(a->writer);
    buf_done(&a->bytes);
}

static inline void archive_add(struct archive *a, enum tar_type type, const char *name,
                               const char *link, mode_t mode)
{
    const struct tar_entry entry = {
        .type = type, .name = name, .link = link, .mode = mode, .mtime_sec = 1000};
    ck_assert_int_eq(tar_writer_entry(a->writer, &entry), 0);
}

static inline void archive_add_file(struct archive *a, const char *name, const char *text)
{
    ck_assert_int_eq(tar_writer_file(a->writer, name, 0644, 1000, text, strlen(text)), 0);
}

/* Ends the archive and extracts it below root_fd. */
static inline int archive_extract(struct archive *a, int root_fd, const struct extract_rules *rules,
                                  struct extract_result *result, struct err *err)
{
    AUTO(tar_reader_freep) struct tar_reader *reader = NULL;
    ck_assert_int_eq(tar_writer_finish(a->writer), 0);
    ck_assert_int_eq(tar_reader_new(archive_input, a, &rules->limits, &reader), 0);
    return tar_extract_reader(reader, root_fd, rules, result, err);
}

struct temporary {
    char path[64];
    int fd;
};

static inline void temporary_init(struct temporary *t)
{
    (void)snprintf(t->path, sizeof(t->path), "/tmp/isola-t-unit.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(t->path));
    t->fd = open(t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(t->fd, 0);
}

static inline void temporary_done(struct temporary *t)
{
    (void)close(t->fd);
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, t->path), 0);
}

static inline struct stat stat_of(int root_fd, const char *path)
{
    struct stat st = {0};
    ck_assert_msg(fstatat(root_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0, "%s is missing", path);
    return st;
}

static inline bool is_missing(int root_fd, const char *path)
{
    struct stat st;
    return fstatat(root_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0;
}

#endif
