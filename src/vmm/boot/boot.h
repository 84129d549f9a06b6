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
    /*
     * By what the file offers: PVH's note, a bzImage's header, a multiboot header; else an ELF file
     * of 64 bits is taken for a vmlinux.
     */
    BOOT_AUTO,
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
    /*
     * What Linux is told of this board before command_line, whose words win; no other kernel gets
     * it, nor one for which both are too long. NULL: nothing.
     */
    const char *board_arguments;
    bool bare;     /* for machine_boot(), which otherwise sets board_arguments */
    uint64_t rsdp; /* guest physical address of the ACPI root pointer; 0: none */
    const struct boot_range *ranges;
    size_t range_count;
};

/* The first CPU at the kernel's entry. */
struct boot_entry {
    enum boot_protocol protocol; /* what was used */
    bool is_64;                  /* 64-bit mode, the first 4 GiB mapped to themselves; else 32-bit
                                    protected mode with flat segments, no paging */
    uint64_t ip;
    uint64_t rax, rbx, rsi; /* the other registers are 0 */
};

/*
 * Loads everything into memory that is still zero: what the kernel wants zeroed is not touched.
 * -ENOEXEC: the kernel is not one, or damaged; -ENOMEM: it or the RAM disk does not fit. Any
 * thread: neither engine nor CPUs need be there yet.
 */
int boot_load(const struct boot_plan *plan, struct memory *memory, struct boot_entry *ret,
              struct err *err);

/* state comes as the CPU after reset and leaves as the CPU at the entry. */
void boot_enter(const struct boot_entry *entry, struct x86_state *state);

/*
 * The ELF kernel inside a bzImage, unpacked once: cache_dir_fd keeps it as DIGEST.vmlinux, by the
 * SHA-256 of the bzImage; made in one step, so that two processes may do it at once; a damaged
 * entry is made again. An ELF file comes back as a duplicate of its own descriptor. *ret_fd is the
 * caller's. In the library vmm_unpack, like the next one, which is not for jailed processes.
 */
int boot_unpack_kernel(int kernel_fd, const char *name, int cache_dir_fd, int *ret_fd,
                       struct err *err);

/*
 * The version that a bzImage says ("6.1.0-56-cloud-amd64"): its first word. -ENOENT: it says none,
 * as an ELF file.
 */
#define BOOT_VERSION_SIZE ((size_t)128)
int boot_kernel_version(int kernel_fd, const char *name, char ret[BOOT_VERSION_SIZE],
                        struct err *err);

/* Writes the ELF kernel inside a bzImage, or a copy of an ELF file, to the empty file out_fd. */
int boot_unpack_to(int kernel_fd, const char *name, int out_fd, struct err *err);

#endif
