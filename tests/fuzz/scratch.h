/*
 * scratch.h - a directory for a fuzz target whose input is files.
 */
#ifndef FUZZ_SCRATCH_H
#define FUZZ_SCRATCH_H

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"

struct scratch {
    char path[32];
    int fd;
};

static inline void scratch_open(struct scratch *scratch)
{
    *scratch = (struct scratch){.path = "/tmp/isola-fuzz-XXXXXX"};
    if (mkdtemp(scratch->path) == NULL) {
        abort();
    }
    scratch->fd = open(scratch->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (scratch->fd < 0) {
        abort();
    }
}

static inline void scratch_done(struct scratch *scratch)
{
    (void)close(scratch->fd);
    (void)remove_tree_at(AT_FDCWD, scratch->path);
}
DEFINE_DONEP(struct scratch, scratch_done)

static inline void scratch_write(const struct scratch *scratch, const char *name, const void *data,
                                 size_t len)
{
    AUTO(closep) int fd = openat(scratch->fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || write_full(fd, data, len) < 0) {
        abort();
    }
}

#endif
