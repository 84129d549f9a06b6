/*
 * block.h - a translated piece of guest code, and the table in which it is found by its address.
 */
#ifndef EMU_BLOCK_H
#define EMU_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "emu/cpu.h"

/* Where the host's flags are at an instruction that may fault. */
enum block_flags { BLOCK_FLAGS_SAVED, BLOCK_FLAGS_ADD, BLOCK_FLAGS_SUB, BLOCK_FLAGS_FLOAT };

struct block_fault {
    uint32_t host;  /* offset in the block's code of the host's instruction */
    uint16_t guest; /* index of the guest's instruction: see distances */
    uint8_t flags;  /* enum block_flags */
};

/* Eight bytes of a block's code, at that offset, that say where something lies. */
enum block_reloc_kind {
    BLOCK_RELOC_GUEST, /* guest code, or what is at a distance from it */
    BLOCK_RELOC_FN     /* a function of this program */
};

struct block_reloc {
    uint32_t at;
    uint32_t kind; /* enum block_reloc_kind */
};

struct block {
    uint64_t pc;
    /* Guest bytes [low, high) were read for it. */
    uint64_t low, high;
    struct block *next; /* of the same hash */
    /* Of the same page: of its first one, and of its last one where that is another. */
    struct block *page_next[2];
    uint8_t *code; /* where it executes; NULL: ir */
    uint32_t code_size;
    uint32_t dead_tail; /* offset of the way out for a dead head */
    bool dead;
    bool borrowed; /* its arrays stay where they are */
    uint16_t guests;
    uint32_t fault_count;
    const struct block_fault *faults; /* by host offset */
    const int32_t *distances;         /* of its guest instructions from pc */
    struct ir *ir;                    /* for the interpreter */
    /* While it is made alone. */
    uint32_t reloc_count;
    const struct block_reloc *relocs;
};

/* The block at pc, or NULL. Without the lock: one that is made meanwhile may be missed. */
struct block *block_find(struct emu *emu, uint64_t pc);
/* The lock is held. Copies what the block points to, unless it is borrowed. -ENOMEM. */
int block_add(struct emu *emu, const struct block *block, const struct ir *ir, struct block **ret);
/* The block whose code has the host address, or NULL. Without the lock, in a signal handler. */
struct block *block_at(struct emu *emu, const uint8_t *code);
/* The lock is held. fn() for each that was made of a byte of [start, start + len), maybe twice. */
typedef void block_fn(struct emu *emu, struct block *block);
void block_each(struct emu *emu, uint64_t start, uint64_t len, block_fn *fn);
/* The lock is held and nobody is in translated code. */
void block_drop_all(struct emu *emu);

#endif
