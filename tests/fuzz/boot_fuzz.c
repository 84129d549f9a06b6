/* Any file as a kernel, by each protocol: it loads inside the memory, or is refused with a text. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"
#include "base/macros.h"
#include "vmm/boot/boot.h"
#include "vmm/layout.h"
#include "vmm/memory.h"

#define MEMORY_SIZE ((uint64_t)32 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void load(int fd, enum boot_protocol protocol)
{
    static const struct boot_range ranges[] = {
        {0, LAYOUT_EBDA, 1},
        {LAYOUT_KERNEL, MEMORY_SIZE - LAYOUT_KERNEL, 1},
    };
    const struct boot_plan plan = {
        .protocol = protocol,
        .kernel_fd = fd,
        .kernel_name = "fuzz",
        .initrd_fd = fd,
        .initrd_name = "fuzz",
        .command_line = "quiet",
        .ranges = ranges,
        .range_count = COUNT(ranges),
    };
    const struct memory_options options = {.kind = MEMORY_PRIVATE, .fd = -1};
    AUTO(memory_freep) struct memory *memory = NULL;
    struct boot_entry entry = {.protocol = BOOT_AUTO};
    struct err err = ERR_NONE;
    if (memory_new(&options, &memory) < 0 || memory_add(memory, 0, MEMORY_SIZE, &err) < 0) {
        abort();
    }
    int r = boot_load(&plan, memory, &entry, &err);
    if (r == 0 && (entry.protocol == BOOT_AUTO || memory_at(memory, entry.ip, 1) == NULL)) {
        abort();
    }
    if (r < 0 && err.text[0] == '\0') {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const enum boot_protocol all[] = {BOOT_AUTO, BOOT_PVH, BOOT_LINUX64, BOOT_MULTIBOOT};
    AUTO(closep) int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write_full(fd, data, len) < 0) {
        abort();
    }
    for (size_t i = 0; i < COUNT(all); i++) {
        load(fd, all[i]);
    }
    return 0;
}
