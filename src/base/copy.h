/*
 * copy.h - copies of directory trees, with owners, modes, times, extended attributes and links.
 */
#ifndef BASE_COPY_H
#define BASE_COPY_H

#include <stdint.h>

/*
 * Copies what is in from_fd into to_fd (two directories); names that exist there already are left
 * alone, devices that may not be made are left out. Never follows links. Returns 0 or the first
 * error.
 */
int copy_children(int from_fd, int to_fd);

/*
 * Copies the one name, which must not be a directory there nor exist here; holes stay holes.
 * *ret_bytes, unless NULL, is what was written. 0, -EISDIR or the first error.
 */
int copy_name(int from_fd, int to_fd, const char *name, uint64_t *ret_bytes);

/* Owner, mode, times and extended attributes of one directory to another. */
int copy_attributes(int from_fd, int to_fd);

#endif
