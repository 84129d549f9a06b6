/*
 * payload.h - the compressed kernel in a bzImage, unpacked as a stream with a bound.
 *
 * In the library vmm_unpack, with zlib, liblzma, liblz4 and libzstd: isola-vmm has none of them.
 */
#ifndef VMM_BOOT_PAYLOAD_H
#define VMM_BOOT_PAYLOAD_H

#include <stdint.h>

struct err;

/* Bytes that a kernel may have when unpacked: ten times of what the largest one takes. */
#define PAYLOAD_OUTPUT_MAX ((uint64_t)512 << 20)

struct payload {
    int fd;           /* borrowed */
    const char *name; /* of the kernel, for errors */
    uint64_t offset;  /* in the file; [offset, offset + bytes) lies in it */
    uint64_t bytes;
    uint32_t unpacked_bytes; /* what its last four bytes say: set by payload_size() */
};

/* Reads unpacked_bytes. -ENOEXEC when it is out of bounds. */
int payload_size(struct payload *payload, struct err *err);

/* Writes exactly unpacked_bytes to out_fd, at its position, or fails. */
int payload_unpack(const struct payload *payload, int out_fd, struct err *err);

#endif
