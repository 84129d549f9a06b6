/*
 * path.h - paths below a root, resolved by the kernel and never as strings twice.
 *
 * All descriptors returned are close-on-exec. Functions return 0 (or a descriptor) or a negative
 * errno.
 */
#ifndef BASE_PATH_H
#define BASE_PATH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * openat2() with RESOLVE_IN_ROOT: absolute names and links are taken below root_fd, ".." stops
 * there, magic links are refused. Retries the kernel's transient EAGAIN.
 */
int open_in_root(int root_fd, const char *path, int flags, mode_t mode);

/* The same with RESOLVE_* bits of linux/openat2.h chosen by the caller. */
int open_resolved(int dir_fd, const char *path, int flags, mode_t mode, uint64_t resolve);

/*
 * Makes every missing directory of path below root_fd and returns an O_PATH descriptor of the last
 * one. Links on the way are followed inside the root.
 */
int mkdir_in_root(int root_fd, const char *path, mode_t mode);

/* As `mkdir -p` by string; only for paths of our own. An existing directory is success. */
int mkdir_parents(const char *path, mode_t mode);

/*
 * Removes name below dir_fd with all below it; never follows links, never leaves the file system
 * that it starts on. A missing name is success.
 */
int remove_tree_at(int dir_fd, const char *name);

/*
 * The bytes that the files of the tree take on disk, by the same rules; a file with several names
 * counts with each. What cannot be read counts nothing.
 */
uint64_t tree_size_at(int dir_fd, const char *name);

/* The text of a link, that the caller frees. */
int read_link_at(int dir_fd, const char *path, char **ret);

/* The full path behind a descriptor, by /proc/self/fd. The caller frees it. */
int path_of_fd(int fd, char **ret);

/* A name that is one path component: not empty, not "." or "..", without '/'. */
bool path_is_plain_name(const char *name);

/* [a-zA-Z0-9][a-zA-Z0-9_.+-]*, at most 128 bytes: what may name a container or volume. */
bool name_is_safe(const char *name);

#endif
