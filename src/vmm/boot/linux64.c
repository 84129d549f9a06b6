/*
 * The 64-bit entry of Linux' x86 boot protocol (Documentation/arch/x86/boot.rst and zero-page.rst),
 * for vmlinux and for a bzImage that unpacks itself.
 */
#include <stdio.h>
#include <string.h>

#include "freestanding/byteorder.h"
#include "vmm/boot/loader.h"
#include "vmm/boot/places.h"
#include "vmm/boot/setup_header.h"
#include "vmm/memory.h"

#define ZERO_PAGE ((size_t)4096)
#define Z_ACPI_RSDP 0x070
#define Z_E820_COUNT 0x1e8
#define Z_BOOT_FLAG 0x1fe
#define Z_HEADER 0x202
#define Z_VERSION 0x206
#define Z_LOADER_TYPE 0x210
#define Z_LOADFLAGS 0x211
#define Z_CODE32_START 0x214
#define Z_RAMDISK 0x218
#define Z_RAMDISK_SIZE 0x21c
#define Z_CMD_LINE 0x228
#define Z_KERNEL_ALIGNMENT 0x230
#define Z_E820 0x2d0
#define E820_ENTRY_SIZE ((size_t)20)

#define LOADER_UNDEFINED 0xff
#define LOADED_HIGH 0x1
#define XLF_KERNEL_64 0x1
/* Of a vmlinux, which has no header: of Linux, and of what the page may hold. */
#define VMLINUX_VERSION 0x20f
#define VMLINUX_ALIGNMENT 0x200000u
#define ENTRY_64_OFFSET 0x200u

/* What both kinds of kernel are told. page holds the header already. */
static int finish(struct loader *loader, uint8_t *page, uint64_t entry, struct boot_entry *ret,
                  struct err *err)
{
    const struct boot_plan *plan = loader->plan;
    page[Z_LOADER_TYPE] = LOADER_UNDEFINED;
    store_le32(page + Z_CMD_LINE, (uint32_t)LAYOUT_COMMAND_LINE);
    store_le32(page + Z_RAMDISK, (uint32_t)loader->initrd_gpa);
    store_le32(page + Z_RAMDISK_SIZE, (uint32_t)loader->initrd_size);
    store_le64(page + Z_ACPI_RSDP, plan->rsdp);
    page[Z_E820_COUNT] = (uint8_t)plan->range_count;
    for (size_t i = 0; i < plan->range_count; i++) {
        uint8_t *entry_raw = page + Z_E820 + i * E820_ENTRY_SIZE;
        store_le64(entry_raw, plan->ranges[i].gpa);
        store_le64(entry_raw + 8, plan->ranges[i].size);
        store_le32(entry_raw + 16, plan->ranges[i].type);
    }
    int r = loader_put(loader, PLACE_INFO, page, ZERO_PAGE, err);
    r = r < 0 ? r : loader_enter_long(loader, entry, ret, err);
    if (r == 0) {
        ret->rsi = PLACE_INFO;
    }
    return r;
}

int linux64_load_elf(struct loader *loader, const struct elf_kernel *kernel, struct boot_entry *ret,
                     struct err *err)
{
    uint64_t entry = kernel->header.entry;
    if (!kernel->header.is_64 || kernel->header.machine != ELF_MACHINE_X86_64) {
        return loader_refuse_field(loader, err, "ELF", "e_machine", kernel->header.machine,
                                   "is not x86-64, and there is no other way to start it");
    }
    int r = elf_kernel_load(loader, kernel, err);
    if (r < 0) {
        return r;
    }
    if (!loader_has(loader, entry)) {
        return loader_refuse_field(loader, err, "ELF", "e_entry", entry,
                                   "lies outside the loaded kernel");
    }
    uint8_t page[ZERO_PAGE] = {0};
    store_le16(page + Z_BOOT_FLAG, 0xaa55);
    memcpy(page + Z_HEADER, "HdrS", 4);
    store_le16(page + Z_VERSION, VMLINUX_VERSION);
    page[Z_LOADFLAGS] = LOADED_HIGH;
    store_le32(page + Z_KERNEL_ALIGNMENT, VMLINUX_ALIGNMENT);
    r = loader_initrd(loader, LAYOUT_HIGH, err);
    r = r < 0 ? r : loader_command_line(loader, LAYOUT_COMMAND_LINE_MAX, err);
    return r < 0 ? r : finish(loader, page, entry, ret, err);
}

/* The memory that the kernel unpacks itself into must be there, and the RAM disk lie behind it. */
static int take_room(struct loader *loader, const struct setup_header *h, struct err *err)
{
    uint64_t align = h->kernel_alignment;
    uint64_t start = h->pref_address;
    if (h->relocatable) {
        start = MAX(start, (LAYOUT_KERNEL + align - 1) & ~(align - 1));
    }
    const struct loader_piece room = {
        .header = "setup header",
        .field = "pref_address",
        .gpa = start,
        .memory_bytes = h->init_size,
    };
    return loader_place(loader, &room, err);
}

int linux64_load_bzimage(struct loader *loader, struct boot_entry *ret, struct err *err)
{
    struct setup_header h;
    struct setup_fault fault = {0};
    if (!setup_header_read(loader->head, loader->head_len, loader->file_size, &h, &fault)) {
        return loader_refuse_field(loader, err, "setup header", fault.field, fault.value,
                                   fault.problem);
    }
    if ((h.xloadflags & XLF_KERNEL_64) == 0) {
        return loader_refuse_field(loader, err, "setup header", "xloadflags", h.xloadflags,
                                   "offers no 64-bit entry");
    }
    if (h.kernel_bytes <= ENTRY_64_OFFSET) {
        return loader_refuse_field(loader, err, "setup header", "syssize", h.kernel_bytes / 16,
                                   "leaves no 64-bit entry");
    }
    const struct loader_piece kernel = {
        .header = "setup header",
        .field = "code32_start",
        .gpa = LAYOUT_KERNEL,
        .memory_bytes = h.kernel_bytes,
        .offset = h.kernel_offset,
        .file_bytes = h.kernel_bytes,
    };
    int r = loader_place(loader, &kernel, err);
    r = r < 0 ? r : take_room(loader, &h, err);
    r = r < 0 ? r : loader_initrd(loader, (uint64_t)h.initrd_addr_max + 1, err);
    r = r < 0 ? r : loader_command_line(loader, h.cmdline_size, err);
    if (r < 0) {
        return r;
    }
    uint8_t page[ZERO_PAGE] = {0};
    memcpy(page + SETUP_HEADER_START, loader->head + SETUP_HEADER_START,
           h.end - SETUP_HEADER_START);
    store_le32(page + Z_CODE32_START, (uint32_t)LAYOUT_KERNEL);
    return finish(loader, page, LAYOUT_KERNEL + ENTRY_64_OFFSET, ret, err);
}
