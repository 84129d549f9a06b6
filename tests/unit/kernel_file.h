/*
 * kernel_file.h - small kernels made by a test, one for each boot protocol, and a machine for them.
 */
#ifndef UNIT_KERNEL_FILE_H
#define UNIT_KERNEL_FILE_H

#include <check.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "freestanding/byteorder.h"

#define KERNEL_FILE_SIZE ((size_t)16384)

/* A file's bytes, to be changed before kernel_file_fd(). */
struct kernel_file {
    uint8_t data[KERNEL_FILE_SIZE];
    size_t len;
};

/* Field offsets of an ELF64 header and of program header i. */
#define EH_MACHINE 18
#define EH_ENTRY 24
#define EH_PHOFF 32
#define EH_PHENTSIZE 54
#define EH_PHNUM 56
#define PH(i) ((size_t)64 + (size_t)56 * (i))
#define PH_TYPE 0
#define PH_OFFSET 8
#define PH_PADDR 24
#define PH_FILESZ 32
#define PH_MEMSZ 40
/* Where the ELF kernel's parts are in the file. */
#define ELF_NOTE_AT ((size_t)0x200)
#define ELF_TEXT_AT ((size_t)0x1000)
#define ELF_TEXT_LEN ((size_t)0x300)
#define ELF_DATA_AT ((size_t)0x2000)
#define ELF_DATA_LEN ((size_t)0x123)
#define ELF_TEXT_GPA ((uint64_t)0x200000)
#define ELF_DATA_GPA ((uint64_t)0x400000)
#define ELF_DATA_MEMORY ((uint64_t)0x5000)
#define ELF_PVH_ENTRY ((uint64_t)0x200040)
#define ELF_ENTRY ((uint64_t)0x200000)

static inline void kernel_file_segment(struct kernel_file *k, unsigned i, uint32_t type,
                                       uint64_t offset, uint64_t gpa, uint64_t bytes,
                                       uint64_t memory)
{
    uint8_t *p = k->data + PH(i);
    store_le32(p, type);
    store_le64(p + PH_OFFSET, offset);
    store_le64(p + 16, 0xffffffff80000000ULL + gpa);
    store_le64(p + PH_PADDR, gpa);
    store_le64(p + PH_FILESZ, bytes);
    store_le64(p + PH_MEMSZ, memory);
    store_le64(p + 48, 4);
}

static inline void kernel_file_fill(uint8_t *data, size_t len, uint8_t seed)
{
    for (size_t i = 0; i < len; i++) {
        data[i] = (uint8_t)(seed + i * 7);
    }
}

/* An ELF64 kernel of two segments; with the PVH note if pvh. */
static inline void kernel_file_elf(struct kernel_file *k, bool pvh)
{
    *k = (struct kernel_file){.len = ELF_DATA_AT + ELF_DATA_LEN};
    memcpy(k->data, "\177ELF\2\1\1", 7);
    store_le16(k->data + 16, 2);
    store_le16(k->data + EH_MACHINE, 62);
    store_le32(k->data + 20, 1);
    store_le64(k->data + EH_ENTRY, ELF_ENTRY);
    store_le64(k->data + EH_PHOFF, 64);
    store_le16(k->data + 52, 64);
    store_le16(k->data + EH_PHENTSIZE, 56);
    store_le16(k->data + EH_PHNUM, pvh ? 3 : 2);
    kernel_file_segment(k, 0, 1, ELF_TEXT_AT, ELF_TEXT_GPA, ELF_TEXT_LEN, ELF_TEXT_LEN);
    kernel_file_segment(k, 1, 1, ELF_DATA_AT, ELF_DATA_GPA, ELF_DATA_LEN, ELF_DATA_MEMORY);
    kernel_file_fill(k->data + ELF_TEXT_AT, ELF_TEXT_LEN, 1);
    kernel_file_fill(k->data + ELF_DATA_AT, ELF_DATA_LEN, 2);
    /* A note of another owner comes first. */
    uint8_t *note = k->data + ELF_NOTE_AT;
    store_le32(note, 6);
    store_le32(note + 4, 3);
    store_le32(note + 8, 18);
    memcpy(note + 12, "Linux", 6);
    store_le32(note + 24, 4);
    store_le32(note + 28, 8);
    store_le32(note + 32, 18);
    memcpy(note + 36, "Xen", 4);
    store_le64(note + 40, ELF_PVH_ENTRY);
    kernel_file_segment(k, 2, 4, ELF_NOTE_AT, 0, 48, 48);
}

/* Field offsets of a setup header. */
#define SH_SETUP_SECTS 0x1f1
#define SH_SYSSIZE 0x1f4
#define SH_BOOT_FLAG 0x1fe
#define SH_JUMP 0x201
#define SH_VERSION 0x206
#define SH_LOADFLAGS 0x211
#define SH_INITRD_ADDR_MAX 0x22c
#define SH_ALIGNMENT 0x230
#define SH_XLOADFLAGS 0x236
#define SH_CMDLINE_SIZE 0x238
#define SH_PAYLOAD_OFFSET 0x248
#define SH_PAYLOAD_LENGTH 0x24c
#define SH_PREF_ADDRESS 0x258
#define SH_INIT_SIZE 0x260
#define BZ_KERNEL_AT ((size_t)1024)   /* one setup sector */
#define BZ_PAYLOAD_AT ((size_t)0x400) /* from the kernel on */

/* A bzImage around payload. */
static inline void kernel_file_bzimage(struct kernel_file *k, const void *payload, size_t len)
{
    size_t kernel = (BZ_PAYLOAD_AT + len + 15) & ~(size_t)15;
    *k = (struct kernel_file){.len = BZ_KERNEL_AT + kernel};
    ck_assert_uint_le(k->len, sizeof(k->data));
    k->data[SH_SETUP_SECTS] = 1;
    store_le32(k->data + SH_SYSSIZE, (uint32_t)(kernel / 16));
    store_le16(k->data + SH_BOOT_FLAG, 0xaa55);
    k->data[0x200] = 0xeb;
    k->data[SH_JUMP] = 0x6a;
    memcpy(k->data + 0x202, "HdrS", 4);
    store_le16(k->data + SH_VERSION, 0x20f);
    k->data[SH_LOADFLAGS] = 1;
    store_le32(k->data + 0x214, 0x100000);
    store_le32(k->data + SH_INITRD_ADDR_MAX, 0x7fffffff);
    store_le32(k->data + SH_ALIGNMENT, 0x200000);
    k->data[0x234] = 1;
    store_le16(k->data + SH_XLOADFLAGS, 0x7f);
    store_le32(k->data + SH_CMDLINE_SIZE, 2047);
    store_le32(k->data + SH_PAYLOAD_OFFSET, (uint32_t)BZ_PAYLOAD_AT);
    store_le32(k->data + SH_PAYLOAD_LENGTH, (uint32_t)len);
    store_le64(k->data + SH_PREF_ADDRESS, 0x1000000);
    store_le32(k->data + SH_INIT_SIZE, 0x800000);
    kernel_file_fill(k->data + BZ_KERNEL_AT, BZ_PAYLOAD_AT, 3);
    memcpy(k->data + BZ_KERNEL_AT + BZ_PAYLOAD_AT, payload, len);
}

/* A file of these bytes; the caller closes it. */
static inline int kernel_file_fd(const void *data, size_t len)
{
    int fd = memfd_create("kernel", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write_full(fd, data, len), 0);
    return fd;
}

#endif
