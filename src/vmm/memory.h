/*
 * memory.h - guest physical memory as the host sees it.
 *
 * The regions are fixed before the first CPU runs; after that every thread may use them. All bytes
 * are the guest's and may change at any moment: read once into a local, check that, use that.
 */
#ifndef VMM_MEMORY_H
#define VMM_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct cpu_engine;
struct err;
struct memory;

#define MEMORY_PAGE ((uint64_t)4096)
#define MEMORY_REGIONS_MAX 8

struct memory_region {
    uint64_t gpa;
    uint64_t size; /* bytes, whole pages */
    uint8_t *host;
    uint64_t file_offset; /* of the region in memory_fd() */
    bool read_only;
};

enum memory_kind {
    MEMORY_PRIVATE, /* anonymous; the default */
    MEMORY_SHARED,  /* a memfd that other processes may map: vhost-user, DAX */
    MEMORY_FILE,    /* a file mapped copy-on-write: a restored snapshot */
};

struct memory_options {
    enum memory_kind kind;
    int fd;          /* MEMORY_FILE: borrowed */
    bool huge_pages; /* ask for transparent ones (MADV_HUGEPAGE) */
    bool mergeable;  /* MADV_MERGEABLE */
};

int memory_new(const struct memory_options *options, struct memory **ret);
void memory_free(struct memory *memory);
DEFINE_FREEP(struct memory *, memory_free)

/* Adds zeroed memory (or that of the file) at gpa. -EEXIST: overlaps; -ENOSPC: too many. */
int memory_add(struct memory *memory, uint64_t gpa, uint64_t size, struct err *err);
/* Hands all regions to the engine, and remembers it for memory_dirty_*(). */
int memory_map(struct memory *memory, struct cpu_engine *engine, struct err *err);

const struct memory_region *memory_regions(const struct memory *memory, size_t *ret_count);
uint64_t memory_size(const struct memory *memory);
/* MEMORY_SHARED: the memfd, borrowed; else -1. */
int memory_fd(const struct memory *memory);

/*
 * The host address of [gpa, gpa + len), which must lie in one region; else NULL. len 0: NULL.
 * What is written through it must be noted with memory_mark().
 */
void *memory_at(const struct memory *memory, uint64_t gpa, uint64_t len);

/* Whole or -EFAULT. Writing marks. */
int memory_read(const struct memory *memory, uint64_t gpa, void *data, size_t len);
int memory_write(struct memory *memory, uint64_t gpa, const void *data, size_t len);

/* Notes that a device of ours wrote there; cheap while nobody tracks. Any thread. */
void memory_mark(struct memory *memory, uint64_t gpa, uint64_t len);

/* Tracking of what guest and devices write, for differential snapshots and migration. */
int memory_track(struct memory *memory, bool on, struct err *err);
/* Ors the pages written since the last call into bitmap, one bit a page of region index. */
int memory_dirty(struct memory *memory, size_t region, uint64_t *bitmap, size_t bytes,
                 struct err *err);

/* Gives pages back to the host; they read as zeros (or as the file) afterwards. Whole pages only.
 */
int memory_discard(struct memory *memory, uint64_t gpa, uint64_t len);

#endif
