/*
 * payload.h - the compressed kernel in a bzImage, or a compressed module, unpacked as a stream with
 * a bound.
 *
 * In the library vmm_unpack, with zlib, liblzma, liblz4 and libzstd: isola-vmm has none of them.
 */
#ifndef VMM_BOOT_PAYLOAD_H
#define VMM_BOOT_PAYLOAD_H

#include <stdbool.h>
#include <stdint.h>

struct err;

/* Bytes that a kernel may have when unpacked: ten times of what the largest one takes. */
#define PAYLOAD_OUTPUT_MAX ((uint64_t)512 << 20)

struct payload {
    int fd;           /* borrowed */
    const char *what; /* "kernel" or "module", and */
    const char *name; /* its name, for errors */
    uint64_t offset;  /* in the file; [offset, offset + bytes) lies in it */
    uint64_t bytes;
    uint64_t most;   /* bytes that may come out */
    bool exact;      /* all of them must */
    uint8_t trailer; /* bytes at the end that do not belong to the stream, but for gzip */
};

/*
 * For the payload of a bzImage: sets most, exact and trailer by its last four bytes, which say how
 * much comes out. -ENOEXEC when that is out of bounds.
 */
int payload_size(struct payload *payload, struct err *err);

/* Writes what comes out to out_fd, at its position. -ENOEXEC: damaged, or more than most. */
int payload_unpack(const struct payload *payload, int out_fd, struct err *err);

#endif
