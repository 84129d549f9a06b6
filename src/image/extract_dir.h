/*
 * extract_dir.h - the directories that an archive's entries go to, kept open along the last path.
 *
 * For src/image only. Paths are cleaned: relative, without ".", ".." or empty parts. "Real" paths
 * have no links in them.
 */
#ifndef IMAGE_EXTRACT_DIR_H
#define IMAGE_EXTRACT_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "image/layer_stack.h"

struct err;

#define EXTRACT_DEPTH_MAX 128

struct extract_level {
    int fd;
    char *real;      /* "" for the root */
    size_t path_len; /* of the archive's path up to here */
};

/* Tells that a directory was made without an entry of its own; its times are set at the end. */
typedef int extract_made_fn(void *data, const char *real, const struct stat *like);

struct extract_dirs {
    int root_fd;                      /* the caller's */
    const struct layer_stack *parent; /* NULL: none */
    int (*parent_wait)(void *data, struct err *err);
    void *parent_wait_data;
    bool parent_ready;
    bool used_parent;
    const char *opaque; /* the attribute that makes a directory hide those below */
    bool parent_given;  /* there are layers below, known or still to come */
    extract_made_fn *made;
    void *made_data;
    struct buf path;
    struct extract_level levels[EXTRACT_DEPTH_MAX + 1];
    size_t count;
};

int extract_dirs_init(struct extract_dirs *dirs, int root_fd);
void extract_dirs_done(struct extract_dirs *dirs);

/* Closes all but the root: after a directory was removed. */
void extract_dirs_forget(struct extract_dirs *dirs);

/*
 * The directory path[0..len), made when missing. *ret_level stays valid until the next call.
 * With make false a missing one is -ENOENT.
 */
int extract_dirs_get(struct extract_dirs *dirs, const char *path, size_t len, bool make,
                     const struct extract_level **ret_level, struct err *err);

/* Waits for the layers below, once. 1 when there are some, 0 when not, or a negative errno. */
int extract_dirs_parent(struct extract_dirs *dirs, struct err *err);

/*
 * Copies a file that the layers below have as name into the level, as overlayfs does before it
 * changes one. -ENOENT when they show none there, or this layer hides it; -EPERM for a directory.
 */
int extract_copy_up(struct extract_dirs *dirs, const struct extract_level *level, const char *name,
                    uint64_t *ret_bytes, struct err *err);

/* Copies owner, mode and attributes of a lower directory. */
int extract_copy_metadata(int from_fd, const struct stat *st, int to_fd);

#endif
