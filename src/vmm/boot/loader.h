/*
 * loader.h - what the boot protocols share: pieces of the kernel file into guest memory, the
 * initial RAM disk, the command line, the CPU's first state. Inside src/vmm/boot only.
 */
#ifndef VMM_BOOT_LOADER_H
#define VMM_BOOT_LOADER_H

#include "base/macros.h"
#include "freestanding/elf.h"
#include "vmm/boot/boot.h"

/* A multiboot header lies in the first 8 KiB, a setup header in the first one. */
#define LOADER_HEAD ((size_t)8192)
/* Pieces of the memory map; the zero page of Linux holds no more (E820_MAX_ENTRIES_ZEROPAGE). */
#define LOADER_RANGES_MAX ((size_t)128)

struct loader {
    const struct boot_plan *plan;
    struct memory *memory;
    uint64_t file_size;
    uint64_t low_end;       /* of the memory that starts at or below 1 MiB, as the map tells it */
    uint64_t low_size;      /* of the memory from 0 on, as the map tells it */
    uint64_t kernel_start;  /* of the lowest byte that the kernel takes so far */
    uint64_t kernel_end;    /* behind the last byte that the kernel takes so far */
    const char *board_line; /* the whole command line with board_arguments; NULL: none */
    uint64_t initrd_gpa;
    uint64_t initrd_size; /* 0: none */
    size_t head_len;
    uint8_t head[LOADER_HEAD]; /* the file's first head_len bytes */
};

/* An ELF kernel whose headers were read. */
struct elf_kernel {
    struct elf_header header;
    uint8_t table[ELF_SEGMENTS_MAX * 56];
    size_t table_len;
};

int loader_begin(const struct boot_plan *plan, struct memory *memory, struct loader *ret,
                 struct err *err);

/* "kernel 'NAME': text"; returns -ENOEXEC. */
int loader_refuse(const struct loader *loader, struct err *err, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
/* The same for a field of a header: "setup header field init_size 0x3378000 text". */
int loader_refuse_field(const struct loader *loader, struct err *err, const char *header,
                        const char *field, uint64_t value, const char *text);

/* Bytes of the kernel file; the caller has compared offset and len with file_size. */
int loader_read(const struct loader *loader, uint64_t offset, void *data, size_t len,
                struct err *err);

/*
 * Loads file_bytes at offset of the file to gpa and takes memory_bytes there, which must lie
 * between 1 MiB and low_end. What lies behind the bytes of the file is not touched: it is zero.
 * header and field name the place in errors.
 */
struct loader_piece {
    const char *header, *field;
    uint64_t gpa, memory_bytes;
    uint64_t offset, file_bytes; /* inside the file: checked by the caller */
};
int loader_place(struct loader *loader, const struct loader_piece *piece, struct err *err);

/* Whether gpa lies between the first and the last byte of the kernel. */
bool loader_has(const struct loader *loader, uint64_t gpa);

/* Loads the initial RAM disk, if there is one, as high as it goes with all bytes below limit. */
int loader_initrd(struct loader *loader, uint64_t limit, struct err *err);
/* Writes the command line, with the board's words where they fit, to LAYOUT_COMMAND_LINE; limit:
 * bytes without the closing NUL. */
int loader_command_line(struct loader *loader, uint64_t limit, struct err *err);
/* Writes data that is ours, not the kernel's. */
int loader_put(struct loader *loader, uint64_t gpa, const void *data, size_t len, struct err *err);

/* The tables that a CPU in 32-bit mode leans on at its entry, ret->ip and ret->is_64. */
int loader_enter_flat(struct loader *loader, uint64_t ip, struct boot_entry *ret, struct err *err);
/* The same for 64-bit mode. */
int loader_enter_long(struct loader *loader, uint64_t ip, struct boot_entry *ret, struct err *err);

/* elf.c */
bool elf_kernel_is(const struct loader *loader);
int elf_kernel_open(const struct loader *loader, struct elf_kernel *ret, struct err *err);
/* Loads every PT_LOAD segment to its physical address. */
int elf_kernel_load(struct loader *loader, const struct elf_kernel *kernel, struct err *err);
/* The number (4 or 8 bytes) that a note holds. 1, 0 (no such note), or a negative errno. */
int elf_kernel_note(const struct loader *loader, const struct elf_kernel *kernel, const char *owner,
                    uint32_t type, uint64_t *ret, struct err *err);

/* 1: its notes say that it is Linux (include/linux/elfnote.h); 0, or a negative errno. */
int elf_kernel_is_linux(const struct loader *loader, const struct elf_kernel *kernel,
                        struct err *err);

/* pvh.c; ready returns 1 with the entry, 0 when the kernel does not offer it, a negative errno. */
int pvh_ready(const struct loader *loader, const struct elf_kernel *kernel, uint64_t *ret_entry,
              struct err *err);
int pvh_load(struct loader *loader, const struct elf_kernel *kernel, uint64_t entry,
             struct boot_entry *ret, struct err *err);

/* linux64.c */
int linux64_load_elf(struct loader *loader, const struct elf_kernel *kernel, struct boot_entry *ret,
                     struct err *err);
int linux64_load_bzimage(struct loader *loader, struct boot_entry *ret, struct err *err);

/* multiboot.c */
bool multiboot_is(const struct loader *loader);
/* kernel: NULL when the file is no ELF file. */
int multiboot_load(struct loader *loader, const struct elf_kernel *kernel, struct boot_entry *ret,
                   struct err *err);

#endif
