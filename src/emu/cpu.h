/*
 * cpu.h - one guest CPU as translated code sees it, and the translator's own view of an address
 * space.
 */
#ifndef EMU_CPU_H
#define EMU_CPU_H

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stddef.h>

#include "emu/emu.h"

struct block;
struct block_chunk;
struct cache;
struct emu_region;
struct ir;
struct lower;

/* Of the table for indirect branches: indexed by bits 13 to 2 of the address. */
#define EMU_TARGETS 4096u
struct emu_target {
    uint64_t pc;
    const void *code;
};

/* Why translated code came back. */
enum emu_leave {
    EMU_LEAVE_EXIT,   /* with an enum emu_exit in leave_arg, pc is exact */
    EMU_LEAVE_LINK,   /* leave_arg: a struct emu_link in code memory, where to go on */
    EMU_LEAVE_LOOKUP, /* pc: where to go on */
};

/* Lists of blocks by the page that they are made of. */
#define BLOCK_PAGE_BITS 10u

/* Beside enum emu_exit, for emu_run() itself: the line at cpu->changed is to be translated anew. */
#define EMU_EXIT_CODE_CHANGED 100u
/* Bytes of a line of the instruction cache that the guest sees: CTR_EL0. */
#define EMU_LINE 64u

/* Translated code addresses all of this through one register; see host/x86_64/target.h. */
struct emu_cpu {
    struct arm64_state state;
    /* The host's flags as LAHF and SETO have them, the carry as Arm means it. */
    uint16_t flags;
    uint8_t interrupt; /* looked at by each block; written by anybody */
    uint32_t leave;    /* enum emu_leave */
    uint64_t leave_arg;
    struct emu_target *targets;
    /* The stack of returns: pairs of host and guest address, growing down. */
    uint64_t returns_now, returns_limit, returns_top;
    uint64_t c_stack;
    uint64_t changed;
    uint64_t spill[8];
    const void *thunk_leave, *thunk_link, *thunk_lookup, *thunk_return, *thunk_call;

    struct emu *emu;
    struct emu_cpu *next;
    void *returns;     /* what is mapped for them */
    bool running;      /* inside translated code or about to; atomic */
    bool asked;        /* emu_interrupt() said so; atomic */
    sigjmp_buf unwind; /* of the interpreter */
};

struct emu {
    struct emu_options options;
    pthread_mutex_t lock; /* of all below, and of what translates */
    bool stopping;        /* nobody may enter translated code; atomic */
    struct cache *cache;  /* NULL: interpreted */
    size_t thunks_size;   /* of it, at its beginning */
    struct block **hash;  /* by pc; read without the lock */
    uint32_t hash_bits;
    struct block *pages[1u << BLOCK_PAGE_BITS]; /* by page of what they were made of */
    struct block_chunk *chunks;                 /* their memory */
    struct block **order;                       /* by address of host code; likewise */
    size_t order_count, order_max;
    struct emu_cpu *cpus;
    struct ir *ir;           /* the one that is being made */
    struct guest_code *code; /* what was read for it */
    struct lower *lower;
    struct emu_file *files; /* whose translations are kept */
    struct emu_region *regions;
    size_t region_count;
    uint64_t flushes, blocks, guest_instructions, kept_blocks;
    const void *enter, *leave, *link, *lookup, *ret, *call; /* host code */
    int copy_fd; /* between emu_fork_begin() and emu_fork_end() */
};

/* A direct branch that is not linked yet, in code memory. */
struct emu_link {
    uint64_t target;
    int32_t patch; /* from here to the four bytes of its distance */
    uint32_t unused;
};

#endif
