/*
 * Multiboot specification 0.6.96: small kernels that say in their first 8 KiB how to load them.
 */
#include <stdio.h>
#include <string.h>

#include "freestanding/byteorder.h"
#include "vmm/boot/loader.h"
#include "vmm/boot/places.h"
#include "vmm/memory.h"

#define HEADER_MAGIC 0x1badb002u
#define ENTRY_MAGIC 0x2badb002u

/* Header flags: what the kernel asks for. Of bits 0 to 15 each must be understood (3.1.2). */
#define WANTS_ALIGNED 0x1u
#define WANTS_MEMORY 0x2u
#define WANTS_MUST 0xffffu
#define HAS_ADDRESSES 0x10000u

/* Information flags: what we tell. */
#define TELLS_MEMORY 0x1u
#define TELLS_COMMAND_LINE 0x4u
#define TELLS_MODULES 0x8u
#define TELLS_MAP 0x40u
#define TELLS_LOADER 0x200u

#define INFO_SIZE ((size_t)120)
#define MODULE_SIZE ((size_t)16)
#define MAP_ENTRY_SIZE ((size_t)24)

struct multiboot_header {
    size_t offset; /* in the file */
    uint32_t flags;
    uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
};

static bool find_header(const struct loader *loader, struct multiboot_header *ret)
{
    for (size_t at = 0; at + 12 <= loader->head_len; at += 4) {
        const uint8_t *b = loader->head + at;
        uint32_t flags = load_le32(b + 4);
        if (load_le32(b) != HEADER_MAGIC || HEADER_MAGIC + flags + load_le32(b + 8) != 0) {
            continue;
        }
        *ret = (struct multiboot_header){.offset = at, .flags = flags};
        if (at + 32 <= loader->head_len) {
            ret->header_addr = load_le32(b + 12);
            ret->load_addr = load_le32(b + 16);
            ret->load_end_addr = load_le32(b + 20);
            ret->bss_end_addr = load_le32(b + 24);
            ret->entry_addr = load_le32(b + 28);
        } else if ((flags & HAS_ADDRESSES) != 0) {
            continue;
        }
        return true;
    }
    return false;
}

bool multiboot_is(const struct loader *loader)
{
    struct multiboot_header header;
    return find_header(loader, &header);
}

static int refuse(const struct loader *loader, struct err *err, const char *field, uint64_t value,
                  const char *text)
{
    return loader_refuse_field(loader, err, "multiboot header", field, value, text);
}

/* Loads by the header's own addresses (3.1.3). */
static int load_by_addresses(struct loader *loader, const struct multiboot_header *h,
                             struct err *err)
{
    if (h->load_addr > h->header_addr || h->header_addr - h->load_addr > h->offset) {
        return refuse(loader, err, "load_addr", h->load_addr,
                      "does not fit to header_addr and the header's place in the file");
    }
    uint64_t offset = h->offset - (h->header_addr - h->load_addr);
    uint64_t bytes = loader->file_size - offset;
    if (h->load_end_addr != 0) {
        if (h->load_end_addr < h->load_addr || h->load_end_addr - h->load_addr > bytes) {
            return refuse(loader, err, "load_end_addr", h->load_end_addr,
                          "lies behind the end of the file");
        }
        bytes = h->load_end_addr - h->load_addr;
    }
    uint64_t memory_bytes = bytes;
    if (h->bss_end_addr != 0) {
        if (h->bss_end_addr < h->load_addr || h->bss_end_addr - h->load_addr < bytes) {
            return refuse(loader, err, "bss_end_addr", h->bss_end_addr,
                          "lies before the end of the data");
        }
        memory_bytes = h->bss_end_addr - h->load_addr;
    }
    const struct loader_piece piece = {
        .header = "multiboot header",
        .field = "load_addr",
        .gpa = h->load_addr,
        .memory_bytes = memory_bytes,
        .offset = offset,
        .file_bytes = bytes,
    };
    return loader_place(loader, &piece, err);
}

static int put_map(struct loader *loader, struct err *err)
{
    uint8_t raw[LOADER_RANGES_MAX * MAP_ENTRY_SIZE];
    const struct boot_plan *plan = loader->plan;
    for (size_t i = 0; i < plan->range_count; i++) {
        uint8_t *entry = raw + i * MAP_ENTRY_SIZE;
        store_le32(entry, MAP_ENTRY_SIZE - 4); /* of the rest */
        store_le64(entry + 4, plan->ranges[i].gpa);
        store_le64(entry + 12, plan->ranges[i].size);
        store_le32(entry + 20, plan->ranges[i].type);
    }
    return loader_put(loader, PLACE_MAP, raw, plan->range_count * MAP_ENTRY_SIZE, err);
}

static int put_info(struct loader *loader, struct err *err)
{
    static const char name[] = "isola";
    uint8_t raw[INFO_SIZE] = {0};
    uint32_t flags = TELLS_MEMORY | TELLS_COMMAND_LINE | TELLS_MODULES | TELLS_MAP | TELLS_LOADER;
    store_le32(raw, flags);
    store_le32(raw + 4, (uint32_t)(MIN(loader->low_size, LAYOUT_EBDA) >> 10));
    store_le32(raw + 8, (uint32_t)((loader->low_end - LAYOUT_KERNEL) >> 10));
    store_le32(raw + 16, (uint32_t)LAYOUT_COMMAND_LINE);
    if (loader->initrd_size > 0) {
        uint8_t module[MODULE_SIZE] = {0};
        store_le32(module, (uint32_t)loader->initrd_gpa);
        store_le32(module + 4, (uint32_t)(loader->initrd_gpa + loader->initrd_size));
        int r = loader_put(loader, PLACE_MODULE, module, sizeof(module), err);
        if (r < 0) {
            return r;
        }
        store_le32(raw + 20, 1);
        store_le32(raw + 24, (uint32_t)PLACE_MODULE);
    }
    store_le32(raw + 44, (uint32_t)(loader->plan->range_count * MAP_ENTRY_SIZE));
    store_le32(raw + 48, (uint32_t)PLACE_MAP);
    store_le32(raw + 64, (uint32_t)PLACE_NAME);
    int r = loader_put(loader, PLACE_NAME, name, sizeof(name), err);
    return r < 0 ? r : loader_put(loader, PLACE_INFO, raw, sizeof(raw), err);
}

int multiboot_load(struct loader *loader, const struct elf_kernel *kernel, struct boot_entry *ret,
                   struct err *err)
{
    struct multiboot_header h;
    if (!find_header(loader, &h)) {
        return loader_refuse(loader, err, "has no multiboot header in its first 8 KiB");
    }
    if ((h.flags & WANTS_MUST & ~(WANTS_ALIGNED | WANTS_MEMORY)) != 0) {
        return refuse(loader, err, "flags", h.flags, "asks for what this machine does not offer");
    }
    uint64_t entry = h.entry_addr;
    int r = 0;
    if ((h.flags & HAS_ADDRESSES) != 0) {
        r = load_by_addresses(loader, &h, err);
    } else if (kernel != NULL) {
        entry = kernel->header.entry;
        r = elf_kernel_load(loader, kernel, err);
    } else {
        r = refuse(loader, err, "flags", h.flags, "has no addresses, and the file is no ELF file");
    }
    if (r < 0) {
        return r;
    }
    if (!loader_has(loader, entry)) {
        const bool by_header = (h.flags & HAS_ADDRESSES) != 0;
        return loader_refuse_field(loader, err, by_header ? "multiboot header" : "ELF",
                                   by_header ? "entry_addr" : "e_entry", entry,
                                   "lies outside the loaded kernel");
    }
    r = loader_initrd(loader, LAYOUT_HIGH, err);
    r = r < 0 ? r : loader_command_line(loader, LAYOUT_COMMAND_LINE_MAX, err);
    r = r < 0 ? r : put_map(loader, err);
    r = r < 0 ? r : put_info(loader, err);
    r = r < 0 ? r : loader_enter_flat(loader, entry, ret, err);
    if (r == 0) {
        ret->rax = ENTRY_MAGIC;
        ret->rbx = PLACE_INFO;
    }
    return r;
}
