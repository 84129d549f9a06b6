#include "vmm/boot/boot.h"

#include "base/buf.h"
#include "base/err.h"
#include "vmm/boot/command_line.h"
#include "vmm/boot/loader.h"
#include "vmm/boot/setup_header.h"

/* Filled by boot_load(); kernel is set when the file is an ELF file. */
static enum boot_protocol choose(const struct loader *loader, const struct elf_kernel *kernel,
                                 int pvh)
{
    if (loader->plan->protocol != BOOT_AUTO) {
        return loader->plan->protocol;
    }
    if (pvh > 0) {
        return BOOT_PVH;
    }
    if (setup_header_is(loader->head, loader->head_len)) {
        return BOOT_LINUX64;
    }
    if (multiboot_is(loader)) {
        return BOOT_MULTIBOOT;
    }
    return kernel != NULL ? BOOT_LINUX64 : BOOT_AUTO;
}

static int load_by(struct loader *loader, const struct elf_kernel *kernel, int pvh, uint64_t entry,
                   enum boot_protocol protocol, struct boot_entry *ret, struct err *err)
{
    switch (protocol) {
    case BOOT_PVH:
        if (pvh == 0) {
            return loader_refuse(loader, err, "has no ELF note XEN_ELFNOTE_PHYS32_ENTRY");
        }
        return pvh_load(loader, kernel, entry, ret, err);
    case BOOT_LINUX64:
        return kernel != NULL ? linux64_load_elf(loader, kernel, ret, err)
                              : linux64_load_bzimage(loader, ret, err);
    case BOOT_MULTIBOOT:
        return multiboot_load(loader, kernel, ret, err);
    case BOOT_AUTO:
        break;
    }
    return loader_refuse(loader, err, "is neither ELF nor bzImage nor multiboot");
}

/*
 * Sets board_line, kept in line, for a kernel that is Linux: an ELF file that says so, or a
 * bzImage, whose header is Linux' own. Another one may take words that it does not know for its
 * program's.
 */
static int add_board_arguments(struct loader *loader, const struct elf_kernel *kernel,
                               enum boot_protocol protocol, struct buf *line, struct err *err)
{
    const struct boot_plan *plan = loader->plan;
    if (plan->board_arguments == NULL || protocol == BOOT_MULTIBOOT) {
        return 0;
    }
    int r = kernel != NULL ? elf_kernel_is_linux(loader, kernel, err) : 1;
    if (r <= 0) {
        return r;
    }
    r = command_line_join(plan->board_arguments,
                          plan->command_line == NULL ? "" : plan->command_line, line);
    if (r < 0) {
        return err_set(err, -r, "make the command line");
    }
    loader->board_line = line->data;
    return 0;
}

int boot_load(const struct boot_plan *plan, struct memory *memory, struct boot_entry *ret,
              struct err *err)
{
    struct loader loader;
    struct elf_kernel kernel;
    int r = loader_begin(plan, memory, &loader, err);
    if (r < 0) {
        return r;
    }
    const bool is_elf = elf_kernel_is(&loader);
    int pvh = 0;
    uint64_t entry = 0;
    if (is_elf) {
        r = elf_kernel_open(&loader, &kernel, err);
        pvh = r < 0 ? r : pvh_ready(&loader, &kernel, &entry, err);
        if (pvh < 0) {
            return pvh;
        }
    }
    const struct elf_kernel *elf = is_elf ? &kernel : NULL;
    enum boot_protocol protocol = choose(&loader, elf, pvh);
    AUTO(buf_donep) struct buf line = {0};
    r = add_board_arguments(&loader, elf, protocol, &line, err);
    *ret = (struct boot_entry){.protocol = protocol};
    return r < 0 ? r : load_by(&loader, elf, pvh, entry, protocol, ret, err);
}
