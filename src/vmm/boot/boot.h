/*
 * boot.h - a kernel from its file into guest memory, and where the first CPU starts.
 *
 * Kernels are foreign bytes: every offset and length of a header is checked against the file and
 * against guest memory; an error names the header's field.
 */
#ifndef VMM_BOOT_BOOT_H
#define VMM_BOOT_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/x86_state.h"

struct err;
struct memory;

enum boot_protocol {
    BOOT_AUTO,      /* by what the file offers, in this order */
    BOOT_PVH,       /* ELF with the note XEN_ELFNOTE_PHYS32_ENTRY */
    BOOT_LINUX64,   /* ELF or bzImage by the 64-bit entry of Linux' x86 boot protocol */
    BOOT_MULTIBOOT, /* multiboot 1 */
};

/* A piece of the memory map that the guest is told (ACPI 6.5, 15.4; types as there). */
struct boot_range {
    uint64_t gpa;
    uint64_t size;
    uint32_t type; /* 1 memory, 2 reserved, 3 ACPI tables, 4 ACPI NVS */
};

struct boot_plan {
    enum boot_protocol protocol;
    int kernel_fd;           /* borrowed, like all here */
    const char *kernel_name; /* for errors */
    int initrd_fd;           /* -1: none */
    const char *initrd_name;
    const char *command_line;
    uint64_t rsdp; /* guest physical address of the ACPI root pointer; 0: none */
    const struct boot_range *ranges;
    size_t range_count;
};

/*
 * Loads everything. *state comes as the CPU after reset and leaves as the CPU at the kernel's
 * entry. *ret_protocol says what was used.
 */
int boot_load(const struct boot_plan *plan, struct memory *memory, struct x86_state *state,
              enum boot_protocol *ret_protocol, struct err *err);

/*
 * The ELF kernel inside a bzImage, unpacked once: cache_dir_fd keeps it under the digest of the
 * bzImage; made in one step, so that two processes may do it at once. An ELF file comes back as a
 * duplicate of its own descriptor. *ret_fd is the caller's.
 */
int boot_unpack_kernel(int kernel_fd, const char *name, int cache_dir_fd, int *ret_fd,
                       struct err *err);

#endif
