/*
 * elf.h - ELF headers, program and section headers and notes read from bytes (System V gABI 4.1,
 * chapters 4 and 5), 32 and 64 bits, both byte orders.
 *
 * For foreign files: each value is copied out and checked before it is handed on. Nothing here
 * allocates or keeps state. Functions return true, or false with *fault saying which field is
 * wrong.
 */
#ifndef FREESTANDING_ELF_H
#define FREESTANDING_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The first bytes of a file that suffice for elf_read_header(). */
#define ELF_HEADER_MAX ((size_t)64)
/* Program headers that we are ready to walk; a kernel or a program has about ten. */
#define ELF_SEGMENTS_MAX 128u

enum elf_machine {
    ELF_MACHINE_386 = 3,
    ELF_MACHINE_X86_64 = 62,
    ELF_MACHINE_AARCH64 = 183,
    ELF_MACHINE_RISCV = 243,
};

enum elf_type {
    ELF_TYPE_EXEC = 2,
    ELF_TYPE_DYN = 3,
};

enum elf_segment_type {
    ELF_SEGMENT_LOAD = 1,
    ELF_SEGMENT_DYNAMIC = 2,
    ELF_SEGMENT_INTERP = 3,
    ELF_SEGMENT_NOTE = 4,
};

struct elf_fault {
    const char *field;   /* "e_phoff", static */
    uint64_t value;      /* what stands there */
    const char *problem; /* "lies behind the end of the file", static */
};

struct elf_header {
    bool is_64;
    bool big_endian;
    uint16_t type;    /* enum elf_type and others */
    uint16_t machine; /* enum elf_machine and others */
    uint64_t entry;
    uint64_t segment_offset; /* of the program headers in the file; all of them lie in it */
    uint16_t segment_count;  /* at most ELF_SEGMENTS_MAX */
    uint16_t segment_size;   /* of one program header in bytes */
    uint64_t section_offset; /* unchecked, see elf_check_sections() */
    uint16_t section_count;
    uint16_t section_size;  /* of one section header in bytes */
    uint16_t section_names; /* the section that holds the names */
    uint64_t file_size;
};

struct elf_segment {
    uint32_t type;
    uint32_t flags;  /* 1 execute, 2 write, 4 read */
    uint64_t offset; /* [offset, offset + file_bytes) lies in the file */
    uint64_t vaddr;
    uint64_t paddr;
    uint64_t file_bytes; /* at most memory_bytes for ELF_SEGMENT_LOAD */
    uint64_t memory_bytes;
    uint64_t align;
};

#define ELF_SECTION_NO_BITS 8u

struct elf_section {
    uint32_t name; /* offset in the section of names; unchecked */
    uint32_t type;
    uint64_t offset; /* [offset, offset + bytes) lies in the file, but for ELF_SECTION_NO_BITS */
    uint64_t bytes;
};

struct elf_note {
    const char *owner;  /* in the caller's bytes */
    uint32_t owner_len; /* without a closing NUL */
    uint32_t type;
    const void *data; /* in the caller's bytes */
    uint32_t len;
};

/* data: the first len bytes of a file of file_size bytes. */
bool elf_read_header(const void *data, size_t len, uint64_t file_size, struct elf_header *ret,
                     struct elf_fault *fault);

/* table: the segment_count * segment_size bytes at segment_offset. */
bool elf_read_segment(const struct elf_header *header, const void *table, size_t len,
                      unsigned index, struct elf_segment *ret, struct elf_fault *fault);

/* Whether the section headers lie in the file; what only loads a file does not ask. */
bool elf_check_sections(const struct elf_header *header, struct elf_fault *fault);

/* table: the section_count * section_size bytes at section_offset. */
bool elf_read_section(const struct elf_header *header, const void *table, size_t len,
                      unsigned index, struct elf_section *ret, struct elf_fault *fault);

/*
 * The note at *at (start with 0) of a segment or section of notes; *at moves behind it. align is
 * that of the segment: 8 pads by 8, all else by 4. False with *at == len: there are no more; else
 * the rest is no note.
 */
bool elf_read_note(const struct elf_header *header, const void *notes, size_t len, uint64_t align,
                   size_t *at, struct elf_note *ret);

/* Whether the note is of that owner and type. */
bool elf_note_is(const struct elf_note *note, const char *owner, uint32_t type);

#endif
