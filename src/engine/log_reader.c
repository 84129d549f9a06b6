#include "engine/log_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"

#define FILES_MAX 1000
#define READ_SIZE ((size_t)65536)
/* No line of ours is longer; more is a file that somebody else wrote. */
#define LINE_MAX_SIZE ((size_t)65536)

struct log_reader {
    int dir_fd;
    int fd;      /* the file being read; -1: none yet */
    bool closed; /* the open file was rotated away before its last read */
    int watch_fd;
    struct buf buf; /* bytes read; [at, len) not handed out yet */
    size_t at;
};

static int open_generation(const struct log_reader *reader, int generation)
{
    char name[32];
    (void)snprintf(name, sizeof(name), generation == 0 ? LOG_FILE : LOG_FILE ".%d", generation);
    int fd = openat(reader->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

/*
 * A rotation renames from the oldest file to the newest, so that while it runs one number has no
 * file: two without one in a row are the end.
 */
static int oldest_generation(const struct log_reader *reader)
{
    int generation = 0;
    for (int i = 1; i < FILES_MAX && i <= generation + 2; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), LOG_FILE ".%d", i);
        if (faccessat(reader->dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
            generation = i;
        }
    }
    return generation;
}

/*
 * The oldest file. Its number is read before and after: a rotation between the two would make the
 * name that of a younger one.
 */
static int open_oldest(const struct log_reader *reader)
{
    for (;;) {
        int generation = oldest_generation(reader);
        AUTO(closep) int fd = open_generation(reader, generation);
        if (fd < 0 && fd != -ENOENT) {
            return fd;
        }
        if (oldest_generation(reader) == generation) {
            return fd < 0 ? fd : TAKE_FD(fd);
        }
    }
}

/* Which name the open file has now: rotation renames it while we read. */
static int current_generation(const struct log_reader *reader)
{
    struct stat ours;
    if (fstat(reader->fd, &ours) < 0) {
        return -errno;
    }
    int last = 0;
    for (int i = 0; i < FILES_MAX && i <= last + 2; i++) {
        struct stat st;
        char name[32];
        (void)snprintf(name, sizeof(name), i == 0 ? LOG_FILE : LOG_FILE ".%d", i);
        if (fstatat(reader->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            continue;
        }
        last = i;
        if (st.st_ino == ours.st_ino && st.st_dev == ours.st_dev) {
            return i;
        }
    }
    return -ENOENT;
}

int log_reader_open(const char *dir, struct log_reader **ret, struct err *err)
{
    AUTO(log_reader_closep) struct log_reader *reader = calloc(1, sizeof(*reader));
    if (reader == NULL) {
        return err_set(err, ENOMEM, "read the log");
    }
    reader->fd = -1;
    reader->watch_fd = -1;
    reader->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (reader->dir_fd < 0) {
        return err_set(err, errno, "open '%s'", dir);
    }
    int fd = open_oldest(reader);
    if (fd < 0 && fd != -ENOENT) {
        return err_set(err, -fd, "open the log in '%s'", dir);
    }
    reader->fd = fd == -ENOENT ? -1 : fd;
    *ret = TAKE_PTR(reader);
    return 0;
}

void log_reader_close(struct log_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    (void)close_fd(reader->fd);
    (void)close_fd(reader->watch_fd);
    (void)close_fd(reader->dir_fd);
    buf_done(&reader->buf);
    free(reader);
}

/* The next bytes of the files; 0 at the end of the newest. */
static ssize_t fill(struct log_reader *reader)
{
    for (;;) {
        if (reader->fd < 0) {
            int fd = open_oldest(reader);
            if (fd < 0) {
                return fd == -ENOENT ? 0 : fd;
            }
            reader->fd = fd;
        }
        if (reader->at > 0) {
            memmove(reader->buf.data, reader->buf.data + reader->at, reader->buf.len - reader->at);
            reader->buf.len -= reader->at;
            reader->at = 0;
        }
        int r = buf_reserve(&reader->buf, READ_SIZE);
        if (r < 0) {
            return r;
        }
        ssize_t n = read(reader->fd, reader->buf.data + reader->buf.len, READ_SIZE);
        if (n < 0) {
            return -errno;
        }
        if (n > 0) {
            reader->buf.len += (size_t)n;
            return n;
        }
        int generation = current_generation(reader);
        if (generation != 0 && !reader->closed) {
            /* Rotated away after our read, perhaps with more in it: now nobody adds to it. */
            reader->closed = true;
            continue;
        }
        if (generation == 0) {
            /* max-file=1 empties the file in place. */
            struct stat st;
            if (fstat(reader->fd, &st) == 0 && lseek(reader->fd, 0, SEEK_CUR) > st.st_size) {
                (void)lseek(reader->fd, 0, SEEK_SET);
                continue;
            }
            return 0;
        }
        /* Rotated away while we read: what follows is in the next newer file. */
        int next = generation > 0 ? generation - 1 : oldest_generation(reader);
        int fd = open_generation(reader, next);
        if (fd < 0) {
            return fd == -ENOENT ? 0 : fd;
        }
        if (generation > 0 && current_generation(reader) != generation) {
            /* Rotated once more between the two: what we opened is not the next one. */
            (void)close_fd(fd);
            continue;
        }
        (void)close_fd(reader->fd);
        reader->fd = fd;
        reader->closed = false;
    }
}

int log_reader_next(struct log_reader *reader, struct log_line *ret)
{
    for (;;) {
        size_t have = reader->buf.len - reader->at;
        const char *start = have > 0 ? reader->buf.data + reader->at : NULL;
        const char *newline = have > 0 ? memchr(start, '\n', have) : NULL;
        if (newline != NULL) {
            reader->at += (size_t)(newline - start) + 1;
            if (log_line_parse(start, (size_t)(newline - start), ret) == 0) {
                return 1;
            }
            continue; /* not ours: a line that a crash of the machine cut */
        }
        if (have > LINE_MAX_SIZE) {
            reader->at = reader->buf.len;
            continue;
        }
        ssize_t n = fill(reader);
        if (n <= 0) {
            return (int)n;
        }
    }
}

int log_reader_tail(struct log_reader *reader, uint64_t count)
{
    /* Two passes over the files: count, then skip. Logs are bounded by rotation. */
    uint64_t total = 0;
    bool open_line = false; /* text without its newline at the very end is a line, too */
    struct log_line line;
    int r;
    while ((r = log_reader_next(reader, &line)) == 1) {
        total += line.full ? 1 : 0;
        open_line = !line.full;
    }
    total += open_line ? 1 : 0;
    if (r < 0 || reader->fd < 0) {
        return r;
    }
    int fd = open_oldest(reader);
    if (fd < 0) {
        return fd;
    }
    (void)close_fd(reader->fd);
    reader->fd = fd;
    reader->closed = false;
    buf_clear(&reader->buf);
    reader->at = 0;
    for (uint64_t skip = total > count ? total - count : 0; skip > 0;) {
        r = log_reader_next(reader, &line);
        if (r <= 0) {
            return r;
        }
        skip -= line.full ? 1 : 0;
    }
    return 0;
}

int log_reader_watch(struct log_reader *reader)
{
    if (reader->watch_fd < 0) {
        char path[64];
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", reader->dir_fd);
        reader->watch_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (reader->watch_fd >= 0 &&
            inotify_add_watch(reader->watch_fd, path, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0) {
            reader->watch_fd = close_fd(reader->watch_fd);
        }
    }
    return reader->watch_fd;
}
