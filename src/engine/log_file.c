#include "engine/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/macros.h"
#include "base/str.h"

/* "2026-01-02T03:04:05.000000006Z stdout F " */
#define PREFIX_SIZE ((size_t)40)
#define CHUNK_MAX ((size_t)4096)

int log_writer_open(struct log_writer *writer, int dir_fd, uint64_t max_size, int max_files)
{
    *writer =
        (struct log_writer){.dir_fd = dir_fd, .max_size = max_size, .max_files = MAX(max_files, 1)};
    writer->fd = openat(dir_fd, LOG_FILE, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (writer->fd < 0) {
        return -errno;
    }
    struct stat st;
    writer->size = fstat(writer->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
    return 0;
}

void log_writer_close(struct log_writer *writer)
{
    writer->fd = close_fd(writer->fd);
}

/* log -> log.1 -> log.2 ...; the oldest goes. On failure the old file simply grows on. */
static void rotate(struct log_writer *writer)
{
    char from[32];
    char to[32];
    if (writer->max_files == 1) {
        if (ftruncate(writer->fd, 0) == 0) {
            writer->size = 0;
        }
        return;
    }
    for (int i = writer->max_files - 1; i >= 1; i--) {
        (void)snprintf(from, sizeof(from), i == 1 ? LOG_FILE : LOG_FILE ".%d", i - 1);
        (void)snprintf(to, sizeof(to), LOG_FILE ".%d", i);
        (void)renameat(writer->dir_fd, from, writer->dir_fd, to);
    }
    int fd = openat(writer->dir_fd, LOG_FILE, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fd >= 0) {
        (void)close_fd(writer->fd);
        writer->fd = fd;
        writer->size = 0;
    }
}

/* Whole lines or nothing: what a full disk took of a line is taken back. */
static int append(struct log_writer *writer, const char *data, size_t len)
{
    if (writer->max_size > 0 && writer->size > 0 && writer->size + len > writer->max_size) {
        rotate(writer);
    }
    int r = write_full(writer->fd, data, len);
    if (r < 0) {
        (void)!ftruncate(writer->fd, (off_t)writer->size);
        return r;
    }
    writer->size += len;
    return 0;
}

static size_t put_prefix(char *out, enum log_stream stream, bool full)
{
    char now[TIME_TEXT_SIZE];
    format_time(clock_realtime_ns(), now);
    return (size_t)snprintf(out, PREFIX_SIZE + 1, "%s %s %c ", now,
                            stream == LOG_STDOUT ? "stdout" : "stderr", full ? 'F' : 'P');
}

static void note_loss(struct log_writer *writer)
{
    char line[160];
    size_t n = put_prefix(line, LOG_STDERR, true);
    n += (size_t)snprintf(line + n, sizeof(line) - n,
                          "isola: %lld bytes of output were lost: the disk was full\n",
                          (long long)writer->lost);
    if (append(writer, line, n) == 0) {
        writer->failing = false;
    }
}

void log_write(struct log_writer *writer, enum log_stream stream, const char *data, size_t len)
{
    if (writer->fd < 0) {
        return;
    }
    while (len > 0) {
        char out[PREFIX_SIZE + CHUNK_MAX + 2];
        const char *newline = memchr(data, '\n', MIN(len, CHUNK_MAX));
        size_t text = newline != NULL ? (size_t)(newline - data) : MIN(len, CHUNK_MAX);
        size_t n = put_prefix(out, stream, newline != NULL);
        memcpy(out + n, data, text);
        n += text;
        out[n++] = '\n';
        if (writer->failing) {
            note_loss(writer);
        }
        if (writer->failing || append(writer, out, n) < 0) {
            writer->failing = true;
            writer->lost += (int64_t)text;
        }
        text += newline != NULL ? 1 : 0;
        data += text;
        len -= text;
    }
}

int log_line_parse(const char *line, size_t len, struct log_line *ret)
{
    char time[TIME_TEXT_SIZE];
    const char *space = memchr(line, ' ', MIN(len, sizeof(time) - 1));
    if (space == NULL || len - (size_t)(space - line) < strlen(" stdout F")) {
        return -EBADMSG;
    }
    (void)snprintf(time, sizeof(time), "%.*s", (int)(space - line), line);
    const char *stream = space + 1;
    if (parse_time(time, 0, &ret->time_ns) < 0 || stream[6] != ' ' ||
        (stream[7] != 'F' && stream[7] != 'P')) {
        return -EBADMSG;
    }
    if (str_starts(stream, "stdout")) {
        ret->stream = LOG_STDOUT;
    } else if (str_starts(stream, "stderr")) {
        ret->stream = LOG_STDERR;
    } else {
        return -EBADMSG;
    }
    ret->full = stream[7] == 'F';
    const char *text = stream + 8;
    const char *end = line + len;
    if (text < end && *text == ' ') {
        text++;
    }
    ret->text = text;
    ret->len = (size_t)(end - text);
    return 0;
}
