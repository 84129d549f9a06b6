/*
 * layer_stack.h - unpacked layers seen as overlayfs would show them, without a mount.
 */
#ifndef IMAGE_LAYER_STACK_H
#define IMAGE_LAYER_STACK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/str.h"

struct err;

struct layer_stack {
    int *fds; /* topmost first */
    size_t count;
};

/* paths: topmost first, as in struct image. */
int layer_stack_open(const struct strv *paths, struct layer_stack *ret, struct err *err);
void layer_stack_close(struct layer_stack *stack);
DEFINE_DONEP(struct layer_stack, layer_stack_close)

/*
 * Looks path up (relative, plain components, no link is followed). Returns 0 and which layer has it
 * with its stat, -ENOENT when no layer shows it (or one hides it), -ENOTDIR when a part on the way
 * is no directory.
 */
int layer_stack_stat(const struct layer_stack *stack, const char *path, size_t *ret_layer,
                     struct stat *ret_st);

/* Appends the names that the stack shows in the directory path ("." for the root), unsorted. */
int layer_stack_list(const struct layer_stack *stack, const char *path, struct strv *ret);

bool stat_is_whiteout(const struct stat *st);
/* Whether the directory hides those below it. */
bool directory_is_opaque(int dir_fd);
/*
 * Whether in the layer the directory path (relative, no links), or one above it, hides the layers
 * below. Its root cannot.
 */
bool layer_hides_below(int layer_fd, const char *path);

enum change_kind {
    CHANGE_MODIFIED = 'C',
    CHANGE_ADDED = 'A',
    CHANGE_DELETED = 'D',
};

/* path starts with '/'. A negative return ends the walk. */
typedef int change_fn(void *data, enum change_kind kind, const char *path);

/* What an overlay's upper directory changes, in `docker diff`'s order (sorted by path). */
int layer_stack_diff(const struct layer_stack *lower, int upper_fd, change_fn *fn, void *data,
                     struct err *err);

#endif
