/*
 * lower.h - a block's intermediate code to x86-64.
 */
#ifndef EMU_HOST_X86_64_LOWER_H
#define EMU_HOST_X86_64_LOWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "emu/block.h"
#include "emu/ir.h"

struct lower;

/* Some 60 KiB, used for one block after the other. NULL: no memory. */
struct lower *lower_new(void);
void lower_free(struct lower *lower);

/*
 * Writes code to [at, at + size), which is 16-byte aligned, and block->code_size, faults, relocs
 * and their counts: the arrays are the lowering's until the next call. Returns -ENOSPC when the
 * room does not do.
 */
int lower_block(struct lower *lower, const struct ir *ir, uint8_t *at, size_t size,
                struct block *block);

/* What all blocks share: entry and ways out. Returns the bytes written, 0 when the room does not
 * do. */
struct lower_thunks {
    const uint8_t *enter, *leave, *link, *lookup, *ret, *call;
};
size_t lower_thunks(uint8_t *at, size_t size, struct lower_thunks *ret);

/* A call of `enter`: C's world to the guest's; the reason is in cpu->leave. */
typedef void lower_enter_fn(struct emu_cpu *cpu, const void *code);

/* The head of a block that went away: a jump (8 bytes, one store) out of it to its tail. */
uint64_t lower_dead_head(const uint8_t *head, uint32_t tail, uint64_t old);

/* Of data that this host wrote, against accidents. */
uint32_t lower_checksum(const uint8_t *from, size_t size);

/* Registers of the guest from those of the host at an instruction that faulted. */
void lower_recover(struct emu_cpu *cpu, const struct block_fault *fault, const int64_t *gregs);

#endif
