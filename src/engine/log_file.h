/*
 * log_file.h - a workload's log: one line a line of output.
 *
 *   2026-01-02T03:04:05.000000006Z stdout F text
 *
 * The form that Kubernetes' CRI defines: time, stream, F for a full line or P for a part whose rest
 * follows, text. Files rotate: log, log.1 (older), log.2...
 */
#ifndef ENGINE_LOG_FILE_H
#define ENGINE_LOG_FILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"

#define LOG_FILE "log"

enum log_stream {
    LOG_STDOUT,
    LOG_STDERR,
};

/* ---- Writing: the shim ---- */

/*
 * How far a writer has come, in memory that outlives it: one that was killed in the middle is gone
 * on from. Two slots, so that a kill between two stores leaves the old or the new.
 */
struct log_note {
    struct {
        uint64_t size; /* of the file */
        uint64_t done; /* bytes of the data given to log_write() that are in it */
        int64_t lost;  /* bytes that could not be written, of all */
    } slot[2];
    _Atomic uint32_t at; /* the valid slot */
    bool set;
};

struct log_writer {
    int dir_fd; /* borrowed */
    int fd;     /* -1: discards */
    uint64_t size;
    uint64_t max_size; /* 0: no rotation */
    int max_files;
    int files;    /* log.1 to log.N that are there; -1: not counted yet */
    int64_t lost; /* bytes that could not be written */
    bool failing;
    struct log_note *note; /* borrowed; NULL: none */
};

/*
 * Opens (appends to) dir_fd's log. The writer borrows dir_fd and note, which may be NULL. A note
 * that is set is of a writer that died: what it wrote without noting it is cut off the file.
 */
int log_writer_open(struct log_writer *writer, int dir_fd, uint64_t max_size, int max_files,
                    struct log_note *note);
void log_writer_close(struct log_writer *writer);

/*
 * Never fails: what cannot be written is counted, and noted in the log when it can again. With a
 * note, data begins with note's done bytes that are in the log already; log_done() ends the data.
 */
void log_write(struct log_writer *writer, enum log_stream stream, const char *data, size_t len);
void log_done(struct log_writer *writer);

/* ---- Reading: `isola logs` ---- */

struct log_line {
    int64_t time_ns;
    enum log_stream stream;
    bool full;        /* false: the next line of the stream goes on */
    const char *text; /* not NUL-terminated, without newline */
    size_t len;
};

/* Reads one line of the file; -EBADMSG when it is none. line is without its newline. */
int log_line_parse(const char *line, size_t len, struct log_line *ret);

#endif
