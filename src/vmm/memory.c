#include "vmm/memory.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"
#include "base/macros.h"
#include "vmm/cpu.h"

#define HUGE_PAGE ((uint64_t)2 << 20)

struct memory {
    struct memory_options options;
    int fd; /* MEMORY_SHARED */
    uint64_t file_size;
    size_t count;
    struct memory_region region[MEMORY_REGIONS_MAX];
    struct cpu_engine *engine; /* borrowed */
    /* What our own devices wrote: one bit a page, while tracking. */
    _Atomic bool tracking;
    _Atomic uint64_t *written[MEMORY_REGIONS_MAX];
};

int memory_new(const struct memory_options *options, struct memory **ret)
{
    AUTO(memory_freep) struct memory *memory = calloc(1, sizeof(*memory));
    if (memory == NULL) {
        return -ENOMEM;
    }
    memory->options = *options;
    memory->fd = -1;
    if (options->kind == MEMORY_SHARED) {
        memory->fd = memfd_create("isola-guest-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (memory->fd < 0) {
            return -errno;
        }
    }
    *ret = TAKE_PTR(memory);
    return 0;
}

void memory_free(struct memory *memory)
{
    if (memory == NULL) {
        return;
    }
    for (size_t i = 0; i < memory->count; i++) {
        (void)munmap(memory->region[i].host, memory->region[i].size);
        free(memory->written[i]);
    }
    (void)close_fd(memory->fd);
    free(memory);
}

static bool overlaps(const struct memory *memory, uint64_t gpa, uint64_t size)
{
    for (size_t i = 0; i < memory->count; i++) {
        const struct memory_region *region = &memory->region[i];
        if (gpa < region->gpa + region->size && region->gpa < gpa + size) {
            return true;
        }
    }
    return false;
}

/*
 * A place in our address space that lies to huge pages as gpa does: only then a huge page of the
 * host can stand behind one of the guest, and one fault brings 2 MiB instead of 4 KiB.
 */
static void *reserve(uint64_t gpa, uint64_t size)
{
    if (size < HUGE_PAGE) {
        return NULL;
    }
    size_t most = (size_t)(size + HUGE_PAGE);
    uint8_t *start =
        mmap(NULL, most, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) {
        return NULL;
    }
    size_t before = (size_t)((gpa - (uintptr_t)start) % HUGE_PAGE);
    size_t behind = most - before - (size_t)size;
    if (before > 0) {
        (void)munmap(start, before);
    }
    if (behind > 0) {
        (void)munmap(start + before + size, behind);
    }
    return start + before;
}

static void *map_region(struct memory *memory, uint64_t gpa, uint64_t size)
{
    int flags = MAP_NORESERVE;
    int fd = -1;
    off_t offset = (off_t)memory->file_size;
    switch (memory->options.kind) {
    case MEMORY_PRIVATE:
        flags |= MAP_PRIVATE | MAP_ANONYMOUS;
        offset = 0;
        break;
    case MEMORY_SHARED:
        flags |= MAP_SHARED;
        fd = memory->fd;
        if (ftruncate(fd, (off_t)(memory->file_size + size)) < 0) {
            return MAP_FAILED;
        }
        break;
    case MEMORY_FILE:
        flags |= MAP_PRIVATE;
        fd = memory->options.fd;
        break;
    }
    void *place = reserve(gpa, size);
    flags |= place != NULL ? MAP_FIXED : 0;
    void *host = mmap(place, size, PROT_READ | PROT_WRITE, flags, fd, offset);
    if (host == MAP_FAILED && place != NULL) {
        int code = errno;
        (void)munmap(place, size);
        errno = code;
    }
    return host;
}

int memory_add(struct memory *memory, uint64_t gpa, uint64_t size, struct err *err)
{
    if (size == 0 || gpa % MEMORY_PAGE != 0 || size % MEMORY_PAGE != 0 || size > UINT64_MAX - gpa) {
        return err_say(err, EINVAL, "guest memory of %llu bytes at 0x%llx: not whole pages",
                       (unsigned long long)size, (unsigned long long)gpa);
    }
    if (overlaps(memory, gpa, size)) {
        return err_say(err, EEXIST, "guest memory at 0x%llx overlaps other memory",
                       (unsigned long long)gpa);
    }
    if (memory->count == MEMORY_REGIONS_MAX) {
        return err_say(err, ENOSPC, "guest memory in more than %d regions", MEMORY_REGIONS_MAX);
    }
    void *host = map_region(memory, gpa, size);
    if (host == MAP_FAILED) {
        int code = errno;
        (void)err_set(err, code, "map %llu MiB of guest memory", (unsigned long long)(size >> 20));
        err_hint(err, "give the machine less with --memory");
        return -code;
    }
    /* Both are wishes: a kernel without them runs the machine all the same. */
    if (memory->options.huge_pages) {
        (void)madvise(host, size, MADV_HUGEPAGE);
    }
    if (memory->options.mergeable) {
        (void)madvise(host, size, MADV_MERGEABLE);
    }
    /* A core dump of the monitor is not to hold the guest's secrets, nor is a child to share them.
     */
    (void)madvise(host, size, MADV_DONTDUMP);
    (void)madvise(host, size, MADV_DONTFORK);
    memory->region[memory->count++] = (struct memory_region){
        .gpa = gpa,
        .size = size,
        .host = host,
        .file_offset = memory->file_size,
    };
    memory->file_size += size;
    return 0;
}

int memory_map(struct memory *memory, struct cpu_engine *engine, struct err *err)
{
    memory->engine = engine;
    bool tracking = atomic_load(&memory->tracking);
    for (size_t i = 0; i < memory->count; i++) {
        const struct memory_region *region = &memory->region[i];
        struct cpu_map map = {
            .slot = (uint32_t)i,
            .read_only = region->read_only,
            .track_dirty = tracking,
            .gpa = region->gpa,
            .size = region->size,
            .host = region->host,
        };
        int r = engine->ops->map(engine, &map);
        if (r < 0) {
            return err_set(err, -r, "give %llu MiB of memory at 0x%llx to %s",
                           (unsigned long long)(region->size >> 20),
                           (unsigned long long)region->gpa, engine->ops->name);
        }
    }
    return 0;
}

const struct memory_region *memory_regions(const struct memory *memory, size_t *ret_count)
{
    *ret_count = memory->count;
    return memory->region;
}

uint64_t memory_size(const struct memory *memory)
{
    return memory->file_size;
}

int memory_fd(const struct memory *memory)
{
    return memory->fd;
}

static const struct memory_region *find(const struct memory *memory, uint64_t gpa, uint64_t len)
{
    for (size_t i = 0; i < memory->count; i++) {
        const struct memory_region *region = &memory->region[i];
        if (gpa >= region->gpa && gpa - region->gpa < region->size) {
            return len <= region->size - (gpa - region->gpa) ? region : NULL;
        }
    }
    return NULL;
}

void *memory_at(const struct memory *memory, uint64_t gpa, uint64_t len)
{
    const struct memory_region *region = len == 0 ? NULL : find(memory, gpa, len);
    return region == NULL ? NULL : region->host + (gpa - region->gpa);
}

int memory_read(const struct memory *memory, uint64_t gpa, void *data, size_t len)
{
    const void *from = memory_at(memory, gpa, len);
    if (from == NULL) {
        return len == 0 ? 0 : -EFAULT;
    }
    memcpy(data, from, len);
    /* The compiler must not read the guest's bytes again where the copy is used. */
    __asm__ volatile("" ::: "memory");
    return 0;
}

int memory_write(struct memory *memory, uint64_t gpa, const void *data, size_t len)
{
    void *to = memory_at(memory, gpa, len);
    if (to == NULL) {
        return len == 0 ? 0 : -EFAULT;
    }
    memcpy(to, data, len);
    memory_mark(memory, gpa, len);
    return 0;
}

void memory_mark(struct memory *memory, uint64_t gpa, uint64_t len)
{
    if (!atomic_load_explicit(&memory->tracking, memory_order_acquire) || len == 0) {
        return;
    }
    const struct memory_region *region = find(memory, gpa, len);
    if (region == NULL) {
        return;
    }
    _Atomic uint64_t *written = memory->written[region - memory->region];
    uint64_t last = (gpa - region->gpa + len - 1) / MEMORY_PAGE;
    for (uint64_t page = (gpa - region->gpa) / MEMORY_PAGE; page <= last; page++) {
        (void)atomic_fetch_or_explicit(&written[page / 64], 1ULL << (page % 64),
                                       memory_order_relaxed);
    }
}

static size_t bitmap_words(const struct memory_region *region)
{
    return (size_t)((region->size / MEMORY_PAGE + 63) / 64);
}

int memory_track(struct memory *memory, bool on, struct err *err)
{
    for (size_t i = 0; on && i < memory->count; i++) {
        if (memory->written[i] == NULL) {
            memory->written[i] =
                calloc(bitmap_words(&memory->region[i]), sizeof(*memory->written[i]));
        }
        if (memory->written[i] == NULL) {
            return err_set(err, ENOMEM, "track changed memory");
        }
    }
    atomic_store_explicit(&memory->tracking, on, memory_order_release);
    return memory->engine == NULL ? 0 : memory_map(memory, memory->engine, err);
}

int memory_dirty(struct memory *memory, size_t region, uint64_t *bitmap, size_t bytes,
                 struct err *err)
{
    if (region >= memory->count || !atomic_load(&memory->tracking)) {
        return err_say(err, EINVAL, "memory is not tracked");
    }
    size_t words = bitmap_words(&memory->region[region]);
    if (bytes < words * sizeof(*bitmap)) {
        return err_say(err, EINVAL, "the bitmap is too short");
    }
    AUTO(freep) uint64_t *fresh = calloc(words, sizeof(*fresh));
    if (fresh == NULL) {
        return err_set(err, ENOMEM, "read changed pages");
    }
    if (memory->engine != NULL) {
        int r = memory->engine->ops->dirty(memory->engine, (uint32_t)region, fresh,
                                           words * sizeof(*fresh));
        if (r < 0) {
            return err_set(err, -r, "read changed pages");
        }
    }
    for (size_t i = 0; i < words; i++) {
        bitmap[i] |= fresh[i] | atomic_exchange(&memory->written[region][i], 0);
    }
    return 0;
}

int memory_discard(struct memory *memory, uint64_t gpa, uint64_t len)
{
    if (gpa % MEMORY_PAGE != 0 || len % MEMORY_PAGE != 0) {
        return -EINVAL;
    }
    void *host = memory_at(memory, gpa, len);
    if (host == NULL) {
        return -EFAULT;
    }
    /* MADV_DONTNEED keeps the pages of a shared file. */
    int advice = memory->options.kind == MEMORY_SHARED ? MADV_REMOVE : MADV_DONTNEED;
    if (madvise(host, len, advice) < 0) {
        return -errno;
    }
    memory_mark(memory, gpa, len);
    return 0;
}
