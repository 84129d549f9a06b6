/*
 * create.h - new disk images: scratch disks, and overlays on an image that stays as it is.
 */
#ifndef VMM_DISK_CREATE_H
#define VMM_DISK_CREATE_H

#include <stdint.h>

struct err;

struct disk_create_options {
    const char *format;         /* "raw" (all hole) or "qcow2" */
    uint64_t size;              /* bytes, multiple of 512; 0 with backing: the size of that */
    const char *backing;        /* qcow2: from the image's directory; NULL: none */
    const char *backing_format; /* with backing */
    unsigned cluster_bits;      /* qcow2: 9..21; 0: 16 */
};

/*
 * Makes the file name (a path that stays below dir_fd), mode 0600. -EEXIST when it is there. What
 * fails leaves nothing; after a crash there is the image or a file that is no image.
 */
int disk_create(int dir_fd, const char *name, const struct disk_create_options *options,
                struct err *err);

#endif
