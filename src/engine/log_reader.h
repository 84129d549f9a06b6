/*
 * log_reader.h - a workload's log in order, rotated files first, with following.
 */
#ifndef ENGINE_LOG_READER_H
#define ENGINE_LOG_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "engine/log_file.h"

struct err;
struct log_reader;

/* dir: ROOT/workloads/ID. A workload without a log (yet) reads as empty. */
int log_reader_open(const char *dir, struct log_reader **ret, struct err *err);
void log_reader_close(struct log_reader *reader);
DEFINE_FREEP(struct log_reader *, log_reader_close)

/* Positions before the last count lines (full ones) of all files. */
int log_reader_tail(struct log_reader *reader, uint64_t count);

/*
 * 1: *ret is the next line, valid until the next call; 0: nothing more now (the writer may add);
 * negative errno. Notices that the file was rotated and goes on in the new one.
 */
int log_reader_next(struct log_reader *reader, struct log_line *ret);

/* A descriptor of inotify that becomes readable when the log changed; -1 when there is none. */
int log_reader_watch(struct log_reader *reader);

#endif
