/*
 * setup_header.h - the header of a bzImage (Linux, Documentation/arch/x86/boot.rst), read from
 * foreign bytes.
 */
#ifndef VMM_BOOT_SETUP_HEADER_H
#define VMM_BOOT_SETUP_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the header starts in the file and in the zero page, and where it can end at most. */
#define SETUP_HEADER_START ((size_t)0x1f1)
#define SETUP_HEADER_END ((size_t)0x290)

struct setup_header {
    uint16_t version;
    uint16_t xloadflags;
    bool relocatable;
    uint32_t kernel_alignment;
    uint32_t initrd_addr_max;
    uint32_t cmdline_size;
    uint64_t pref_address;
    uint32_t init_size;
    size_t end;              /* of the header, behind its last byte */
    uint64_t version_offset; /* of a text in the file, before kernel_offset; 0: none */
    uint64_t kernel_offset;  /* of the protected-mode kernel in the file */
    uint64_t kernel_bytes;   /* all of them in the file */
    uint64_t payload_offset; /* in the file */
    uint64_t payload_bytes;  /* all of them in the file; 0: none told */
};

struct setup_fault {
    const char *field; /* static */
    uint64_t value;
    const char *problem; /* static */
};

/* Whether the file's first bytes claim to be a bzImage. */
bool setup_header_is(const void *head, size_t len);

/* head: the first len bytes of a file of file_size bytes. False with *fault set. */
bool setup_header_read(const void *head, size_t len, uint64_t file_size, struct setup_header *ret,
                       struct setup_fault *fault);

#endif
