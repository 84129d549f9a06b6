/*
 * io.h - whole reads and writes, small files, files replaced in one step.
 *
 * All functions restart after EINTR and return 0 (or a count) or a negative errno.
 */
#ifndef BASE_IO_H
#define BASE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

/* Reads exactly len bytes; -ENODATA when the input ends before. */
int read_full(int fd, void *data, size_t len);
int read_full_at(int fd, void *data, size_t len, uint64_t offset);

/* Reads up to len bytes until end of file. Returns the count. */
ssize_t read_upto(int fd, void *data, size_t len);

int write_full(int fd, const void *data, size_t len);

/* Appends the whole file to buf; -EFBIG when it holds more than max bytes. */
int read_fd(int fd, size_t max, struct buf *buf);
int read_file_at(int dir_fd, const char *path, size_t max, struct buf *buf);
int read_file(const char *path, size_t max, struct buf *buf);

/* One open(O_WRONLY) and one write: for /proc, /sys and cgroup files. */
int write_file_at(int dir_fd, const char *path, const char *text);
int write_file(const char *path, const char *text);

/*
 * Puts data under name in one step: readers see the old file or the new one, also after a crash of
 * this process. With sync also after a crash of the machine. name is a plain name inside dir_fd.
 */
int replace_file_at(int dir_fd, const char *name, const void *data, size_t len, mode_t mode,
                    bool sync);

int set_nonblock(int fd, bool on);
int set_cloexec(int fd, bool on);

#endif
