#include "emu/block.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "emu/ir.h"

static uint32_t slot_of(const struct emu *emu, uint64_t pc)
{
    return (uint32_t)((pc >> 2) * 0x9e3779b97f4a7c15ull >> (64 - emu->hash_bits));
}

struct block *block_find(struct emu *emu, uint64_t pc)
{
    struct block *block = __atomic_load_n(&emu->hash[slot_of(emu, pc)], __ATOMIC_ACQUIRE);
    while (block != NULL && (block->pc != pc || __atomic_load_n(&block->dead, __ATOMIC_RELAXED))) {
        block = block->next;
    }
    return block;
}

static void block_free(struct block *block)
{
    if (block != NULL) {
        free(block->ir);
        free(block); /* with its arrays */
    }
}

/* One piece of memory: the block, then its faults, then its distances. */
static struct block *copy_block(const struct block *from)
{
    size_t faults = from->fault_count * sizeof(*from->faults);
    size_t distances = from->guests * sizeof(*from->distances);
    bool translated = from->code != NULL;
    struct block *block = malloc(sizeof(*block) + (translated ? faults + distances : 0));
    if (block == NULL) {
        return NULL;
    }
    *block = *from;
    block->ir = NULL;
    block->faults = NULL;
    block->distances = NULL;
    if (translated) {
        block->faults = (struct block_fault *)(block + 1);
        block->distances = (int32_t *)(block->faults + from->fault_count);
        memcpy(block->faults, from->faults, faults);
        memcpy(block->distances, from->distances, distances);
    }
    return block;
}

int block_add(struct emu *emu, const struct block *from, const struct ir *ir, struct block **ret)
{
    struct block *block = copy_block(from);
    if (block == NULL) {
        return -ENOMEM;
    }
    if (block->code == NULL) {
        size_t size = offsetof(struct ir, insn) + ir->count * sizeof(ir->insn[0]);
        block->ir = malloc(size);
        if (block->ir == NULL) {
            block_free(block);
            return -ENOMEM;
        }
        memcpy(block->ir, ir, size);
    }
    if (block->code != NULL) {
        if (emu->order_count == emu->order_max) {
            block_free(block);
            return -ENOMEM;
        }
        emu->order[emu->order_count] = block;
        __atomic_store_n(&emu->order_count, emu->order_count + 1, __ATOMIC_RELEASE);
    }
    struct block **slot = &emu->hash[slot_of(emu, block->pc)];
    block->next = *slot;
    __atomic_store_n(slot, block, __ATOMIC_RELEASE);
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
    for (size_t i = 0; i < (size_t)1 << emu->hash_bits; i++) {
        while (emu->hash[i] != NULL) {
            struct block *next = emu->hash[i]->next;
            block_free(emu->hash[i]);
            emu->hash[i] = next;
        }
    }
    emu->order_count = 0;
}
