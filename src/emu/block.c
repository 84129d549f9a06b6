#include "emu/block.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "emu/ir.h"

#define CHUNK ((size_t)64 << 10)
#define PAGE 4096u

static uint32_t slot_of(const struct emu *emu, uint64_t pc)
{
    /* Neighbours stay neighbours: few pages and lines of the table are used at a time. */
    return (uint32_t)((pc >> 4) + (pc >> 22) * 0x9e3779b1u) & (((uint32_t)1 << emu->hash_bits) - 1);
}

struct block *block_find(struct emu *emu, uint64_t pc)
{
    struct block *block = __atomic_load_n(&emu->hash[slot_of(emu, pc)], __ATOMIC_ACQUIRE);
    while (block != NULL && (block->pc != pc || __atomic_load_n(&block->dead, __ATOMIC_RELAXED))) {
        block = block->next;
    }
    return block;
}

/* Memory of blocks, which go all at once. */
struct block_chunk {
    struct block_chunk *next;
    size_t used;
    _Alignas(16) uint8_t bytes[];
};

static void *take_memory(struct emu *emu, size_t size)
{
    const size_t room = CHUNK - sizeof(struct block_chunk);
    struct block_chunk *chunk = emu->chunks;
    size = (size + 15) & ~(size_t)15;
    if (size > room) {
        return NULL;
    }
    if (chunk == NULL || room - chunk->used < size) {
        chunk = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (chunk == MAP_FAILED) {
            return NULL;
        }
        chunk->next = emu->chunks;
        emu->chunks = chunk;
    }
    chunk->used += size;
    return chunk->bytes + chunk->used - size;
}

/* One piece of memory: the block, then its faults, then its distances. */
static struct block *copy_block(struct emu *emu, const struct block *from)
{
    size_t faults = from->fault_count * sizeof(*from->faults);
    size_t distances = from->guests * sizeof(*from->distances);
    bool copied = from->code != NULL && !from->borrowed;
    struct block *block = take_memory(emu, sizeof(*block) + (copied ? faults + distances : 0));
    if (block == NULL) {
        return NULL;
    }
    *block = *from;
    block->ir = NULL;
    if (copied) {
        struct block_fault *own_faults = (struct block_fault *)(block + 1);
        int32_t *own_distances = (int32_t *)(own_faults + from->fault_count);
        memcpy(own_faults, from->faults, faults);
        memcpy(own_distances, from->distances, distances);
        block->faults = own_faults;
        block->distances = own_distances;
    }
    return block;
}

static struct block **page_slot(struct emu *emu, uint64_t page)
{
    return &emu->pages[page * 0x9e3779b97f4a7c15ull >> (64 - BLOCK_PAGE_BITS)];
}

static uint64_t page_of(uint64_t address)
{
    return address / PAGE;
}

static void link_pages(struct emu *emu, struct block *block)
{
    const uint64_t page[] = {page_of(block->low), page_of(block->high - 1)};
    assert(page[1] - page[0] <= 1);
    for (unsigned i = 0; i < 2; i++) {
        struct block **slot = page_slot(emu, page[i]);
        block->page_next[i] = NULL;
        if (i == 0 || (page[1] != page[0] && slot != page_slot(emu, page[0]))) {
            block->page_next[i] = *slot;
            *slot = block;
        }
    }
}

/* In the list of that slot: by its first page, else by its last. */
static struct block *next_of_page(struct emu *emu, const struct block *block,
                                  struct block *const *slot)
{
    return block->page_next[page_slot(emu, page_of(block->low)) == slot ? 0 : 1];
}

void block_each(struct emu *emu, uint64_t start, uint64_t len, block_fn *fn)
{
    const uint64_t slots = (uint64_t)1 << BLOCK_PAGE_BITS;
    uint64_t first = page_of(start);
    uint64_t count = len == 0 ? 0 : page_of(start + len - 1) - first + 1;
    for (uint64_t i = 0; i < count && i < slots; i++) {
        struct block **slot = count < slots ? page_slot(emu, first + i) : &emu->pages[i];
        for (struct block *block = *slot; block != NULL; block = next_of_page(emu, block, slot)) {
            if (block->low < start + len && start < block->high) {
                fn(emu, block);
            }
        }
    }
}

int block_add(struct emu *emu, const struct block *from, const struct ir *ir, struct block **ret)
{
    struct block *block = copy_block(emu, from);
    if (block == NULL) {
        return -ENOMEM;
    }
    if (block->code == NULL) {
        size_t size = offsetof(struct ir, insn) + ir->count * sizeof(ir->insn[0]);
        block->ir = malloc(size);
        if (block->ir == NULL) {
            return -ENOMEM;
        }
        memcpy(block->ir, ir, size);
    }
    if (block->code != NULL) {
        if (emu->order_count == emu->order_max) {
            return -ENOMEM;
        }
        emu->order[emu->order_count] = block;
        __atomic_store_n(&emu->order_count, emu->order_count + 1, __ATOMIC_RELEASE);
    }
    struct block **slot = &emu->hash[slot_of(emu, block->pc)];
    block->next = *slot;
    __atomic_store_n(slot, block, __ATOMIC_RELEASE);
    link_pages(emu, block);
    *ret = block;
    return 0;
}

struct block *block_at(struct emu *emu, const uint8_t *code)
{
    size_t low = 0;
    size_t high = __atomic_load_n(&emu->order_count, __ATOMIC_ACQUIRE);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct block *block = emu->order[middle];
        if (code < block->code) {
            high = middle;
        } else if (code >= block->code + block->code_size) {
            low = middle + 1;
        } else {
            return block;
        }
    }
    return NULL;
}

void block_drop_all(struct emu *emu)
{
    const size_t slots = (size_t)1 << emu->hash_bits;
    for (size_t i = 0; i < slots && emu->cache == NULL; i++) { /* those without code have ir */
        for (struct block *block = emu->hash[i]; block != NULL; block = block->next) {
            free(block->ir);
        }
    }
    memset((void *)emu->hash, 0, slots * sizeof(struct block *));
    memset((void *)emu->pages, 0, sizeof(emu->pages));
    while (emu->chunks != NULL) {
        struct block_chunk *next = emu->chunks->next;
        (void)munmap(emu->chunks, CHUNK);
        emu->chunks = next;
    }
    emu->order_count = 0;
}
