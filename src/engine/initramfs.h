/*
 * initramfs.h - an initial RAM file system for a guest kernel: a cpio archive in the "newc" form
 * (Linux, Documentation/driver-api/early-userspace/buffer-format.rst), not compressed, the same
 * bytes for the same input.
 */
#ifndef ENGINE_INITRAMFS_H
#define ENGINE_INITRAMFS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct err;

struct initramfs_entry {
    const char *path; /* relative: "init", "modules/virtio_blk.ko" */
    mode_t mode;      /* with its type: S_IFREG, S_IFDIR, S_IFLNK or S_IFCHR */
    int fd;           /* S_IFREG: a file that is read from its start; -1: data holds the bytes */
    const void *data; /* S_IFREG, or the target of S_IFLNK */
    size_t size;      /* of data */
    uint32_t major, minor; /* S_IFCHR */
};

/*
 * Writes the archive to out_fd. Directories that a path needs are made before it (mode 0755).
 * -EINVAL: a path that is empty, absolute, has ".." or comes twice.
 */
int initramfs_write(const struct initramfs_entry *entries, size_t count, int out_fd,
                    struct err *err);

#endif
