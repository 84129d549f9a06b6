/*
 * cache.h - memory for host code: written at one address, executed at another, never both at one.
 *
 * All calls with the lock of its emu.
 */
#ifndef EMU_CACHE_H
#define EMU_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct cache;

/* size in bytes, a multiple of a page. Negative errno where the host gives no such memory. */
int cache_new(size_t size, struct cache **ret);
void cache_free(struct cache *cache);
DEFINE_FREEP(struct cache *, cache_free)

/* Room for the next piece, 16-byte aligned, to write to; *ret_size is what is left. */
uint8_t *cache_room(struct cache *cache, size_t *ret_size);
/* The same where what executes there has that address modulo `line`, both multiples of 16. */
uint8_t *cache_room_at(struct cache *cache, size_t phase, size_t line, size_t *ret_size);
/* So much of it was used. Returns where it executes. */
uint8_t *cache_take(struct cache *cache, size_t size);
/* Everything behind the first `keep` bytes is free again. */
void cache_reset(struct cache *cache, size_t keep);
size_t cache_used(const struct cache *cache);

/*
 * What is executed is shared memory, so a child of fork() needs its own: copied before, mapped in
 * the child at the same addresses. Returns a descriptor for cache_adopt() and the parent's close().
 */
int cache_copy(const struct cache *cache);
int cache_adopt(struct cache *cache, int fd);

/* Where to write what executes there; NULL when that is not in the cache. */
uint8_t *cache_writable(const struct cache *cache, const void *code);

#endif
