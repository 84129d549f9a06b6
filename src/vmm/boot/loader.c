#include "vmm/boot/loader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/io.h"
#include "vmm/layout.h"
#include "vmm/memory.h"

int loader_refuse(const struct loader *loader, struct err *err, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return err_say(err, ENOEXEC, "kernel '%s': %s", loader->plan->kernel_name, text);
}

int loader_refuse_field(const struct loader *loader, struct err *err, const char *header,
                        const char *field, uint64_t value, const char *text)
{
    return loader_refuse(loader, err, "%s field %s 0x%" PRIx64 " %s", header, field, value, text);
}

/* Where the guest's low memory ends, by the map that the guest is told. */
static int read_ranges(struct loader *loader, struct err *err)
{
    const struct boot_plan *plan = loader->plan;
    if (plan->range_count > LOADER_RANGES_MAX) {
        return err_say(err, E2BIG, "load kernel '%s': a memory map of %zu pieces is too long",
                       plan->kernel_name, plan->range_count);
    }
    for (size_t i = 0; i < plan->range_count; i++) {
        const struct boot_range *range = &plan->ranges[i];
        if (range->type != 1) {
            continue;
        }
        if (range->gpa == 0) {
            loader->low_size = range->size;
        }
        if (range->gpa <= LAYOUT_KERNEL && range->size > LAYOUT_KERNEL - range->gpa) {
            loader->low_end = MIN(range->gpa + range->size, LAYOUT_HIGH);
        }
    }
    if (loader->low_end == 0) {
        return err_say(err, ENOMEM, "load kernel '%s': the machine has no memory at 1 MiB",
                       plan->kernel_name);
    }
    return 0;
}

int loader_begin(const struct boot_plan *plan, struct memory *memory, struct loader *ret,
                 struct err *err)
{
    ret->plan = plan;
    ret->memory = memory;
    ret->low_end = 0;
    ret->low_size = 0;
    ret->kernel_start = UINT64_MAX;
    ret->kernel_end = LAYOUT_KERNEL;
    ret->board_line = NULL;
    ret->initrd_gpa = 0;
    ret->initrd_size = 0;
    struct stat st;
    if (fstat(plan->kernel_fd, &st) < 0) {
        return err_set(err, errno, "read kernel '%s'", plan->kernel_name);
    }
    if (!S_ISREG(st.st_mode)) {
        return loader_refuse(ret, err, "is no file");
    }
    ret->file_size = (uint64_t)st.st_size;
    ret->head_len = (size_t)MIN(ret->file_size, (uint64_t)LOADER_HEAD);
    int r = loader_read(ret, 0, ret->head, ret->head_len, err);
    return r < 0 ? r : read_ranges(ret, err);
}

int loader_read(const struct loader *loader, uint64_t offset, void *data, size_t len,
                struct err *err)
{
    int r = read_full_at(loader->plan->kernel_fd, data, len, offset);
    return r < 0 ? err_set(err, -r, "read kernel '%s'", loader->plan->kernel_name) : 0;
}

int loader_place(struct loader *loader, const struct loader_piece *piece, struct err *err)
{
    if (piece->gpa < LAYOUT_KERNEL) {
        return loader_refuse_field(loader, err, piece->header, piece->field, piece->gpa,
                                   "lies below 1 MiB");
    }
    if (piece->gpa > loader->low_end || piece->memory_bytes > loader->low_end - piece->gpa) {
        char text[96];
        (void)snprintf(text, sizeof(text),
                       "with %" PRIu64 " bytes lies behind the end of the memory, 0x%" PRIx64,
                       piece->memory_bytes, loader->low_end);
        return loader_refuse_field(loader, err, piece->header, piece->field, piece->gpa, text);
    }
    if (piece->file_bytes > 0) {
        void *host = memory_at(loader->memory, piece->gpa, piece->file_bytes);
        if (host == NULL) {
            return loader_refuse_field(loader, err, piece->header, piece->field, piece->gpa,
                                       "lies where the machine has no memory");
        }
        int r = loader_read(loader, piece->offset, host, piece->file_bytes, err);
        if (r < 0) {
            return r;
        }
        memory_mark(loader->memory, piece->gpa, piece->file_bytes);
    }
    loader->kernel_start = MIN(loader->kernel_start, piece->gpa);
    loader->kernel_end = MAX(loader->kernel_end, piece->gpa + piece->memory_bytes);
    return 0;
}

bool loader_has(const struct loader *loader, uint64_t gpa)
{
    return gpa >= loader->kernel_start && gpa < loader->kernel_end;
}

int loader_initrd(struct loader *loader, uint64_t limit, struct err *err)
{
    const struct boot_plan *plan = loader->plan;
    if (plan->initrd_fd < 0) {
        return 0;
    }
    struct stat st;
    if (fstat(plan->initrd_fd, &st) < 0) {
        return err_set(err, errno, "read initial RAM disk '%s'", plan->initrd_name);
    }
    uint64_t size = (uint64_t)st.st_size;
    if (!S_ISREG(st.st_mode) || size == 0) {
        return err_say(err, EINVAL, "initial RAM disk '%s' is %s", plan->initrd_name,
                       size == 0 && S_ISREG(st.st_mode) ? "empty" : "no file");
    }
    uint64_t top = MIN(limit, loader->low_end);
    uint64_t gpa = size < top ? (top - size) & ~(MEMORY_PAGE - 1) : 0;
    void *host = gpa >= loader->kernel_end ? memory_at(loader->memory, gpa, size) : NULL;
    if (host == NULL) {
        return err_say(err, ENOMEM,
                       "initial RAM disk '%s' of %" PRIu64 " bytes does not fit into the memory"
                       " between the kernel's end, 0x%" PRIx64 ", and 0x%" PRIx64,
                       plan->initrd_name, size, loader->kernel_end, top);
    }
    int r = read_full_at(plan->initrd_fd, host, size, 0);
    if (r < 0) {
        return err_set(err, -r, "read initial RAM disk '%s'", plan->initrd_name);
    }
    memory_mark(loader->memory, gpa, size);
    loader->initrd_gpa = gpa;
    loader->initrd_size = size;
    return 0;
}

int loader_put(struct loader *loader, uint64_t gpa, const void *data, size_t len, struct err *err)
{
    int r = memory_write(loader->memory, gpa, data, len);
    return r < 0 ? err_set(err, -r, "load kernel '%s': write 0x%" PRIx64, loader->plan->kernel_name,
                           gpa)
                 : 0;
}

int loader_command_line(struct loader *loader, uint64_t limit, struct err *err)
{
    const char *text = loader->plan->command_line != NULL ? loader->plan->command_line : "";
    uint64_t most = MIN(limit, LAYOUT_COMMAND_LINE_MAX - 1);
    if (loader->board_line != NULL && strlen(loader->board_line) <= most) {
        text = loader->board_line;
    }
    size_t len = strlen(text);
    if (len > most) {
        return err_say(err, E2BIG,
                       "kernel '%s' takes a command line of %" PRIu64 " bytes, not of %zu",
                       loader->plan->kernel_name, most, len);
    }
    return loader_put(loader, LAYOUT_COMMAND_LINE, text, len + 1, err);
}
