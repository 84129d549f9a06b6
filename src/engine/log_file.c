#include "engine/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/macros.h"
#include "base/str.h"

/* "2026-01-02T03:04:05.000000006Z stdout F " */
#define PREFIX_SIZE ((size_t)40)
#define CHUNK_MAX ((size_t)4096)
#define BATCH_SIZE ((size_t)16384)

/* After each step that a successor must not repeat. */
static void put_note(struct log_writer *writer, uint64_t done)
{
    struct log_note *note = writer->note;
    if (note == NULL) {
        return;
    }
    uint32_t next = atomic_load(&note->at) ^ 1U;
    note->slot[next].size = writer->size;
    note->slot[next].done = done;
    note->slot[next].lost = writer->lost;
    atomic_store(&note->at, next);
    note->set = true;
}

static uint64_t done_of(const struct log_writer *writer)
{
    const struct log_note *note = writer->note;
    return note != NULL && note->set ? note->slot[atomic_load(&note->at) & 1U].done : 0;
}

static int open_log(int dir_fd)
{
    int fd = openat(dir_fd, LOG_FILE, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    return fd < 0 ? -errno : fd;
}

int log_writer_open(struct log_writer *writer, int dir_fd, uint64_t max_size, int max_files,
                    struct log_note *note)
{
    *writer = (struct log_writer){.dir_fd = dir_fd,
                                  .max_size = max_size,
                                  .max_files = MAX(max_files, 1),
                                  .files = -1,
                                  .note = note};
    writer->fd = open_log(dir_fd);
    if (writer->fd < 0) {
        return writer->fd;
    }
    struct stat st;
    writer->size = fstat(writer->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
    if (note != NULL && note->set) {
        uint32_t at = atomic_load(&note->at) & 1U;
        writer->lost = note->slot[at].lost;
        /* Smaller than noted: it was rotated, and nothing was written since. */
        if (writer->size > note->slot[at].size &&
            ftruncate(writer->fd, (off_t)note->slot[at].size) == 0) {
            writer->size = note->slot[at].size;
        }
    }
    put_note(writer, done_of(writer));
    return 0;
}

void log_writer_close(struct log_writer *writer)
{
    writer->fd = close_fd(writer->fd);
}

/* How many there are in a row. */
static int count_files(const struct log_writer *writer)
{
    int count = 0;
    while (count < writer->max_files - 1) {
        char name[32];
        (void)snprintf(name, sizeof(name), LOG_FILE ".%d", count + 1);
        if (faccessat(writer->dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
            break;
        }
        count++;
    }
    return count;
}

/*
 * log -> log.1 -> log.2 ...; the oldest goes, unless a number is free: a rotation that was cut
 * short is finished so. On failure the old file simply grows on.
 */
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
    if (writer->files < 0) {
        writer->files = count_files(writer);
    }
    writer->files = MIN(writer->files + 1, writer->max_files - 1);
    for (int i = writer->files; i >= 1; i--) {
        (void)snprintf(from, sizeof(from), i == 1 ? LOG_FILE : LOG_FILE ".%d", i - 1);
        (void)snprintf(to, sizeof(to), LOG_FILE ".%d", i);
        (void)renameat(writer->dir_fd, from, writer->dir_fd, to);
    }
    int fd = open_log(writer->dir_fd);
    if (fd >= 0) {
        (void)close_fd(writer->fd);
        writer->fd = fd;
        writer->size = 0;
    }
}

/* Whole lines or nothing: what a full disk took of a line is taken back. */
static int append(struct log_writer *writer, const char *data, size_t len, uint64_t done)
{
    if (writer->max_size > 0 && writer->size > 0 && writer->size + len > writer->max_size) {
        rotate(writer);
        put_note(writer, done);
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

static void note_loss(struct log_writer *writer, uint64_t done)
{
    char line[160];
    size_t n = put_prefix(line, LOG_STDERR, true);
    n += (size_t)snprintf(line + n, sizeof(line) - n,
                          "isola: %lld bytes of output were lost: the disk was full\n",
                          (long long)writer->lost);
    if (append(writer, line, n, done) == 0) {
        writer->failing = false;
        put_note(writer, done);
    }
}

/* Lines that go to the file with one write. */
struct batch {
    size_t len;
    size_t text;   /* bytes of output in it, without newlines */
    uint64_t done; /* how much of the data is in it and before it */
    char data[BATCH_SIZE];
};

static void flush(struct log_writer *writer, struct batch *batch)
{
    if (batch->len == 0) {
        return;
    }
    uint64_t before = done_of(writer);
    if (writer->failing) {
        note_loss(writer, before);
    }
    if (writer->failing || append(writer, batch->data, batch->len, before) < 0) {
        writer->failing = true;
        writer->lost += (int64_t)batch->text;
    }
    put_note(writer, batch->done);
    batch->len = 0;
    batch->text = 0;
}

/* True when n more bytes are to go to the file after what the batch has. */
static bool is_full(const struct log_writer *writer, const struct batch *batch, size_t n)
{
    return batch->len + n > sizeof(batch->data) ||
           (writer->max_size > 0 && writer->size + batch->len + n > writer->max_size);
}

void log_write(struct log_writer *writer, enum log_stream stream, const char *data, size_t len)
{
    if (writer->fd < 0) {
        return;
    }
    /* What was read together has one time. */
    struct batch batch;
    char prefix[PREFIX_SIZE + 1];
    size_t prefix_len = put_prefix(prefix, stream, true);
    uint64_t at = MIN(done_of(writer), (uint64_t)len);
    batch.len = 0;
    batch.text = 0;
    while (at < len) {
        const char *start = data + at;
        const char *newline = memchr(start, '\n', MIN(len - at, CHUNK_MAX));
        size_t text = newline != NULL ? (size_t)(newline - start) : MIN(len - at, CHUNK_MAX);
        prefix[prefix_len - 2] = newline != NULL ? 'F' : 'P';
        if (is_full(writer, &batch, prefix_len + text + 1)) {
            flush(writer, &batch);
        }
        memcpy(batch.data + batch.len, prefix, prefix_len);
        memcpy(batch.data + batch.len + prefix_len, start, text);
        batch.data[batch.len + prefix_len + text] = '\n';
        batch.len += prefix_len + text + 1;
        batch.text += text;
        at += text + (newline != NULL ? 1 : 0);
        batch.done = at;
    }
    flush(writer, &batch);
}

void log_done(struct log_writer *writer)
{
    put_note(writer, 0);
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
