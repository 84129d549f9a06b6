#include "emu/cache.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/macros.h"
#include "emu/emu.h"

#define ALIGN 16u
#define AHEAD ((size_t)128 << 10)
/* Linux 5.14; before that they fail, and nothing is lost. */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

struct cache {
    uint8_t *write, *code;
    size_t size, used;
    size_t there; /* so much is mapped with pages already */
};

static int memory_fd(size_t size)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && size > limit.rlim_cur) {
        return -EFBIG; /* which would be a signal */
    }
    int fd = memfd_create(EMU_CODE_NAME, MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, (off_t)size) < 0) {
        int r = -errno;
        (void)close(fd);
        return r;
    }
    return fd < 0 ? -errno : fd;
}

int cache_new(size_t size, struct cache **ret)
{
    AUTO(cache_freep) struct cache *cache = calloc(1, sizeof(*cache));
    if (cache == NULL) {
        return -ENOMEM;
    }
    cache->write = cache->code = MAP_FAILED;
    cache->size = size;
    AUTO(closep) int fd = memory_fd(size);
    if (fd < 0) {
        return fd;
    }
    cache->write = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (cache->write == MAP_FAILED) {
        return -errno;
    }
    cache->code = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    if (cache->code == MAP_FAILED) {
        return -errno;
    }
    *ret = TAKE_PTR(cache);
    return 0;
}

void cache_free(struct cache *cache)
{
    if (cache == NULL) {
        return;
    }
    if (cache->write != MAP_FAILED) {
        (void)munmap(cache->write, cache->size);
    }
    if (cache->code != MAP_FAILED) {
        (void)munmap(cache->code, cache->size);
    }
    free(cache);
}

/* Faults of single pages cost more than the code on them: a piece at a time. */
static void populate(struct cache *cache)
{
    if (cache->used < cache->there) {
        return;
    }
    size_t from = cache->there;
    cache->there = MIN((cache->used & ~(AHEAD - 1)) + AHEAD, cache->size);
    if (from < cache->there) {
        (void)madvise(cache->write + from, cache->there - from, MADV_POPULATE_WRITE);
        (void)madvise(cache->code + from, cache->there - from, MADV_POPULATE_READ);
    }
}

uint8_t *cache_room(struct cache *cache, size_t *ret_size)
{
    populate(cache);
    *ret_size = cache->size - cache->used;
    return cache->write + cache->used;
}

uint8_t *cache_room_at(struct cache *cache, size_t phase, size_t line, size_t *ret_size)
{
    size_t skip = (phase - (uintptr_t)(cache->code + cache->used)) & (line - 1);
    cache->used = MIN(cache->used + skip, cache->size);
    return cache_room(cache, ret_size);
}

uint8_t *cache_take(struct cache *cache, size_t size)
{
    uint8_t *code = cache->code + cache->used;
    size_t rounded = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    assert(size <= cache->size - cache->used);
    cache->used = MIN(cache->used + rounded, cache->size);
    return code;
}

void cache_reset(struct cache *cache, size_t keep)
{
    cache->used = keep;
}

size_t cache_used(const struct cache *cache)
{
    return cache->used;
}

int cache_copy(const struct cache *cache)
{
    AUTO(closep) int fd = memory_fd(cache->size);
    if (fd < 0) {
        return fd;
    }
    for (size_t at = 0; at < cache->used;) {
        ssize_t n = pwrite(fd, cache->write + at, cache->used - at, (off_t)at);
        if (n <= 0) {
            return n < 0 ? -errno : -EIO;
        }
        at += (size_t)n;
    }
    return TAKE_FD(fd);
}

int cache_adopt(struct cache *cache, int fd)
{
    if (mmap(cache->write, cache->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
            MAP_FAILED ||
        mmap(cache->code, cache->size, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, 0) ==
            MAP_FAILED) {
        return -errno;
    }
    cache->there = 0;
    return 0;
}

uint8_t *cache_writable(const struct cache *cache, const void *code)
{
    const uint8_t *at = code;
    if (at < cache->code || at >= cache->code + cache->size) {
        return NULL;
    }
    return cache->write + (at - cache->code);
}
