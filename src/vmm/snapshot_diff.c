/*
 * Differences between snapshots: a memory file with those pages only that were written in between.
 *
 * It lies as a full one does, other pages are holes. Behind the page at its end, which also names
 * the snapshot that it rests on, is a bit for each page: a page that is there may be all zeros.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/machine_internal.h"
#include "vmm/memory.h"
#include "vmm/snapshot_internal.h"

static const char diff_magic[8] = "IsolaVMd";

#define VERSION 1u
#define AT_VERSION 8
#define AT_SIZE 16
#define AT_ID 24
#define AT_BASE 40
#define TRAILER_SIZE 56

/* One read or write of pages that lie together. */
#define RUN_MAX ((uint64_t)1024)

size_t snapshot_bitmap_bytes(const struct memory_region *region)
{
    return (size_t)((region->size / MEMORY_PAGE + 63) / 64 * 8);
}

static uint64_t bitmaps_bytes(const struct memory_region *region, size_t count)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += snapshot_bitmap_bytes(&region[i]);
    }
    return bytes;
}

static uint64_t whole_pages(uint64_t bytes)
{
    return (bytes + MEMORY_PAGE - 1) / MEMORY_PAGE * MEMORY_PAGE;
}

int snapshot_collect(struct machine *machine, struct err *err)
{
    size_t count = 0;
    const struct memory_region *region = memory_regions(machine->memory, &count);
    int r = 0;
    for (size_t i = 0; r == 0 && i < count; i++) {
        size_t bytes = snapshot_bitmap_bytes(&region[i]);
        if (machine->saved.unsaved[i] == NULL) {
            machine->saved.unsaved[i] = calloc(1, bytes);
        }
        r = machine->saved.unsaved[i] == NULL
                ? err_set(err, ENOMEM, "note what was written")
                : memory_dirty(machine->memory, i, machine->saved.unsaved[i], bytes, err);
    }
    return r;
}

static bool is_set(const uint64_t *bitmap, uint64_t page)
{
    return (bitmap[page / 64] >> (page % 64) & 1) != 0;
}

/* The next pages that are set, from *from on: their number, 0 at the end. */
static uint64_t next_run(const uint64_t *bitmap, uint64_t pages, uint64_t *from)
{
    uint64_t at = *from;
    while (at < pages && !is_set(bitmap, at)) {
        at += bitmap[at / 64] == 0 ? 64 - at % 64 : 1;
    }
    uint64_t end = at;
    while (end < pages && end - at < RUN_MAX && is_set(bitmap, end)) {
        end++;
    }
    *from = at;
    return at < pages ? end - at : 0;
}

static int write_at(int fd, const void *data, uint64_t len, uint64_t offset)
{
    const uint8_t *from = data;
    while (len > 0) {
        ssize_t n = pwrite(fd, from, len, (off_t)offset);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        uint64_t done = n < 0 ? 0 : (uint64_t)n;
        from += done;
        len -= done;
        offset += done;
    }
    return 0;
}

static int write_pages(const struct machine *machine, int fd)
{
    size_t count = 0;
    const struct memory_region *region = memory_regions(machine->memory, &count);
    int r = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t pages = region[i].size / MEMORY_PAGE;
        uint64_t run = 0;
        for (uint64_t at = 0; r == 0; at += run) {
            run = next_run(machine->saved.unsaved[i], pages, &at);
            if (run == 0) {
                break;
            }
            r = write_at(fd, region[i].host + at * MEMORY_PAGE, run * MEMORY_PAGE,
                         region[i].file_offset + at * MEMORY_PAGE);
        }
    }
    return r;
}

int snapshot_write_diff(struct machine *machine, const uint8_t *id, int fd, struct err *err)
{
    uint8_t trailer[TRAILER_SIZE] = {0};
    size_t count = 0;
    const struct memory_region *region = memory_regions(machine->memory, &count);
    uint64_t size = memory_size(machine->memory);
    uint64_t at = size + MEMORY_PAGE;
    uint64_t whole = at + whole_pages(bitmaps_bytes(region, count));
    memcpy(trailer, diff_magic, sizeof(diff_magic));
    store_le32(trailer + AT_VERSION, VERSION);
    store_le64(trailer + AT_SIZE, size);
    memcpy(trailer + AT_ID, id, SNAPSHOT_ID_SIZE);
    memcpy(trailer + AT_BASE, machine->saved.id, SNAPSHOT_ID_SIZE);
    int r = ftruncate(fd, (off_t)whole) < 0 ? -errno : write_pages(machine, fd);
    r = r < 0 ? r : write_at(fd, trailer, sizeof(trailer), size);
    for (size_t i = 0; r == 0 && i < count; i++) {
        r = write_at(fd, machine->saved.unsaved[i], snapshot_bitmap_bytes(&region[i]), at);
        at += snapshot_bitmap_bytes(&region[i]);
    }
    r = r < 0 ? r : fsync(fd) < 0 ? -errno : 0;
    return r < 0 ? err_set(err, -r, "write the snapshot's memory") : 0;
}

int snapshot_check_diff(int fd, const char *name, const struct snapshot_head *head,
                        const uint8_t *id, uint8_t *ret_base, struct err *err)
{
    uint8_t trailer[TRAILER_SIZE];
    struct stat st;
    if (fstat(fd, &st) < 0) {
        return err_set(err, errno, "open the snapshot's memory '%s'", name);
    }
    /* Its length is checked against the regions when it is read. */
    int r =
        !S_ISREG(st.st_mode) ? -EINVAL : read_full_at(fd, trailer, sizeof(trailer), head->memory);
    if (r < 0 || memcmp(trailer, diff_magic, sizeof(diff_magic)) != 0 ||
        load_le32(trailer + AT_VERSION) != VERSION ||
        load_le64(trailer + AT_SIZE) != head->memory) {
        return err_say(err, EINVAL, "'%s' is no difference to a snapshot of this machine", name);
    }
    if (memcmp(trailer + AT_ID, id, SNAPSHOT_ID_SIZE) != 0) {
        return err_say(err, EINVAL, "'%s' is the memory of another snapshot", name);
    }
    memcpy(ret_base, trailer + AT_BASE, SNAPSHOT_ID_SIZE);
    return 0;
}

static int read_pages(int fd, const struct memory_region *region, const uint64_t *bitmap)
{
    uint64_t pages = region->size / MEMORY_PAGE;
    uint64_t run = 0;
    for (uint64_t at = 0;; at += run) {
        run = next_run(bitmap, pages, &at);
        if (run == 0) {
            return 0;
        }
        int r = read_full_at(fd, region->host + at * MEMORY_PAGE, (size_t)(run * MEMORY_PAGE),
                             region->file_offset + at * MEMORY_PAGE);
        if (r < 0) {
            return r;
        }
    }
}

int snapshot_apply_diff(struct memory *memory, int fd, struct err *err)
{
    size_t count = 0;
    const struct memory_region *region = memory_regions(memory, &count);
    uint64_t at = memory_size(memory) + MEMORY_PAGE;
    int r = 0;
    for (size_t i = 0; r == 0 && i < count; i++) {
        size_t bytes = snapshot_bitmap_bytes(&region[i]);
        AUTO(freep) uint64_t *bitmap = malloc(bytes);
        r = bitmap == NULL ? -ENOMEM : read_full_at(fd, bitmap, bytes, at);
        r = r < 0 ? r : read_pages(fd, &region[i], bitmap);
        at += bytes;
    }
    return r < 0 ? err_set(err, -r, "read what was written since the snapshot before") : 0;
}
