/*
 * The PVH boot protocol: an ELF kernel with a note that names its 32-bit entry (Xen's public
 * headers elfnote.h and arch-x86/hvm/start_info.h).
 */
#include <inttypes.h>

#include "freestanding/byteorder.h"
#include "vmm/boot/loader.h"
#include "vmm/boot/places.h"
#include "vmm/memory.h"

#define NOTE_PHYS32_ENTRY 18
#define START_MAGIC 0x336ec578u
#define START_SIZE ((size_t)56)
#define MODULE_SIZE ((size_t)32)
#define MAP_ENTRY_SIZE ((size_t)24)

int pvh_ready(const struct loader *loader, const struct elf_kernel *kernel, uint64_t *ret_entry,
              struct err *err)
{
    return elf_kernel_note(loader, kernel, "Xen", NOTE_PHYS32_ENTRY, ret_entry, err);
}

static int put_map(struct loader *loader, struct err *err)
{
    uint8_t raw[LOADER_RANGES_MAX * MAP_ENTRY_SIZE] = {0};
    const struct boot_plan *plan = loader->plan;
    for (size_t i = 0; i < plan->range_count; i++) {
        uint8_t *entry = raw + i * MAP_ENTRY_SIZE;
        store_le64(entry, plan->ranges[i].gpa);
        store_le64(entry + 8, plan->ranges[i].size);
        store_le32(entry + 16, plan->ranges[i].type);
    }
    return loader_put(loader, PLACE_MAP, raw, plan->range_count * MAP_ENTRY_SIZE, err);
}

static int put_start(struct loader *loader, struct err *err)
{
    uint8_t raw[START_SIZE] = {0};
    store_le32(raw, START_MAGIC);
    store_le32(raw + 4, 1); /* version */
    store_le64(raw + 24, LAYOUT_COMMAND_LINE);
    store_le64(raw + 32, loader->plan->rsdp);
    store_le64(raw + 40, PLACE_MAP);
    store_le32(raw + 48, (uint32_t)loader->plan->range_count);
    if (loader->initrd_size > 0) {
        uint8_t module[MODULE_SIZE] = {0};
        store_le64(module, loader->initrd_gpa);
        store_le64(module + 8, loader->initrd_size);
        store_le32(raw + 12, 1);
        store_le64(raw + 16, PLACE_MODULE);
        int r = loader_put(loader, PLACE_MODULE, module, sizeof(module), err);
        if (r < 0) {
            return r;
        }
    }
    return loader_put(loader, PLACE_INFO, raw, sizeof(raw), err);
}

int pvh_load(struct loader *loader, const struct elf_kernel *kernel, uint64_t entry,
             struct boot_entry *ret, struct err *err)
{
    int r = elf_kernel_load(loader, kernel, err);
    if (r == 0 && !loader_has(loader, entry)) {
        return loader_refuse_field(loader, err, "ELF note", "XEN_ELFNOTE_PHYS32_ENTRY", entry,
                                   "lies outside the loaded kernel");
    }
    r = r < 0 ? r : loader_initrd(loader, LAYOUT_HIGH, err);
    r = r < 0 ? r : loader_command_line(loader, LAYOUT_COMMAND_LINE_MAX, err);
    r = r < 0 ? r : put_map(loader, err);
    r = r < 0 ? r : put_start(loader, err);
    r = r < 0 ? r : loader_enter_flat(loader, entry, ret, err);
    if (r == 0) {
        ret->rbx = PLACE_INFO;
    }
    return r;
}
