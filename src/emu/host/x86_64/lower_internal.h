/*
 * lower_internal.h - shared by the lower_*.c files: where values are, registers, flags, ways out.
 */
#ifndef EMU_HOST_X86_64_LOWER_INTERNAL_H
#define EMU_HOST_X86_64_LOWER_INTERNAL_H

#include "emu/host/x86_64/emit.h"
#include "emu/host/x86_64/lower.h"

enum loc_kind {
    LOC_NONE,
    LOC_CONST,
    LOC_TEMP,  /* reg, its own */
    LOC_PIN,   /* reg, a slot's: until the slot is written */
    LOC_STATE, /* the memory of slot reg, likewise */
    LOC_SPILL, /* cpu->spill[reg] */
};

struct loc {
    uint8_t kind;
    uint8_t reg;
    uint16_t left; /* uses to come */
};

/* The host's flags: of which kind their carry is. */
enum host_flags {
    FLAGS_NONE, /* they are not the guest's */
    FLAGS_ADD,  /* carry as Arm has it */
    FLAGS_SUB,  /* the other way round */
    FLAGS_FLOAT /* of a comparison of numbers: C as below FLAGS_SUB, N the opposite, V 0 */
};

/* A way out that is written behind the block. */
struct way_out {
    uint8_t *place; /* behind the distance of the jump to it */
    uint64_t target;
    bool save_flags;
    bool unordered; /* C and V are set on the way: of a comparison with no number */
    uint8_t flags;
};

/* A CALL behind the block for what code in line leaves to its function. */
struct slow {
    uint8_t *place, *back; /* behind the distance of the jump to it; where it goes on */
    uint32_t insn;
    uint8_t dst; /* register of the value; X86_NO_REG: none */
};

#define ALIASES 8u
#define SLOWS 128u
#define WAYS_OUT 160u
#define FAULTS 512u
#define GUESTS 128u
#define RELOCS 640u

struct lower {
    struct emit e;
    const struct ir *ir;
    uint32_t now;    /* the operation that is lowered */
    uint16_t guest;  /* and its guest instruction */
    uint32_t locked; /* registers that hold operands of this operation */
    ir_value holder[16];
    ir_value spilled[8];
    ir_value alias[IR_SLOT_COUNT][ALIASES];
    uint8_t alias_count[IR_SLOT_COUNT];
    enum host_flags flags;
    bool flags_dirty; /* cpu->flags is older */
    uint32_t way_count, fault_count, reloc_count, slow_count;
    int32_t distances[GUESTS]; /* of guest instructions from the block's pc */
    struct loc loc[IR_MAX];
    struct way_out way[WAYS_OUT];
    struct slow slow[SLOWS];
    struct block_fault fault[FAULTS];
    struct block_reloc reloc[RELOCS];
};

static inline const struct ir_insn *lower_now(const struct lower *l)
{
    return &l->ir->insn[l->now];
}

static inline uint64_t lower_pc(const struct lower *l)
{
    return l->ir->pc + (uint64_t)(int64_t)l->distances[l->guest - 1];
}

/* Operands. A register is locked until the operation's end; loads do not touch flags. */
unsigned use_reg(struct lower *l, ir_value v);
/* A copy that may be changed, in a register of its own. */
unsigned use_copy(struct lower *l, ir_value v, unsigned width);
struct x86_rm use_rm(struct lower *l, ir_value v);
/* True for a constant that fits an immediate of the width. */
bool use_imm(const struct lower *l, ir_value v, unsigned width, int32_t *ret);
/* Into that register, which is free or scratch. */
void use_into(struct lower *l, ir_value v, unsigned width, unsigned reg);
/* A temporary without a value, locked. */
unsigned take_temp(struct lower *l);
/* That one, whatever it holds goes elsewhere; an operand that is in it is moved. */
void take_reg(struct lower *l, unsigned reg);
/* All temporaries go to memory. */
void spill_all(struct lower *l);

/* The register for this operation's value: a pinned one when the value is PUT there at once. */
unsigned pick_dst(struct lower *l);
/* The value is in reg now (of pick_dst() or use_copy()). */
void set_value(struct lower *l, unsigned reg);
/* At the operation's end: its operands are used. */
void release_operands(struct lower *l);

/* Before an instruction that changes the host's flags. Uses RAX. */
void flags_clobber(struct lower *l);
/* The operation sets the guest's: those before are not wanted. */
void flags_set(struct lower *l, enum host_flags kind);
/* To cpu->flags when they are newer. The host's stay. Uses RAX. */
void flags_save(struct lower *l);
/* Into the host's. Uses RAX. */
void flags_need(struct lower *l);
/* The host's carry becomes of that kind; they are there. */
void flags_turn(struct lower *l, enum host_flags kind);
/* How x86 says the condition; they are there. */
enum x86_cond flags_cond(struct lower *l, enum ir_cond cond);

/* An address into a register, or as data: the block's relocations have its place. */
void emit_address(struct lower *l, unsigned dst, uint64_t address, enum block_reloc_kind kind);
void emit_address_data(struct lower *l, uint64_t address, enum block_reloc_kind kind);
/* The host instruction that comes next may fault. */
void note_fault(struct lower *l);
/* place: of the jump that was just written. */
void add_way_out(struct lower *l, uint8_t *place, uint64_t target, bool save);
/* place: of the jump that was just written, on an unordered comparison. */
void add_unordered(struct lower *l, uint8_t *place, uint64_t target);
void write_ways_out(struct lower *l);
/* The jump before place leads to a call of this operation's function, which comes back here. */
void add_slow(struct lower *l, uint8_t *place, unsigned dst);
void write_slow(struct lower *l);

/* Vectors: scratch, and where register reg is: pinned, or in the state. */
#define X0 0u
#define X1 1u
#define X2 2u
struct x86_rm vector_rm(unsigned reg);
/* A host register that has it: its own, or scratch. */
unsigned vector_in(struct lower *l, unsigned reg, unsigned scratch);
void vector_into(struct lower *l, unsigned reg, unsigned x);
/* Where its new value may be computed: its own, or X0. */
unsigned vector_dst(unsigned reg);
/* Its new value is the lower 4, 8, or all 16 bytes of x; zeros above. */
void vector_out(struct lower *l, unsigned reg, unsigned x, unsigned bytes);
/* dst = a op rm, of integers. */
void vector_op(struct lower *l, uint32_t opcode, unsigned dst, unsigned a, struct x86_rm rm);
/* By an immediate: n is 2 for to the right, 4 with sign, 6 to the left. */
void vector_shift(struct lower *l, unsigned n, unsigned size, unsigned dst, unsigned x,
                  unsigned by);
/* For lanes of size bytes, where x86 has an instruction of its own; else 0. */
uint32_t vector_opcode(enum ir_vector_op op, unsigned size);
/* The operand m, by way of X2 where it is no register as it is. */
struct x86_rm vector_right(struct lower *l, const struct ir_vector *v);
void vector_ones(struct lower *l, unsigned x);
/* x = that lane of register reg in all. */
void vector_broadcast(struct lower *l, unsigned x, unsigned reg, unsigned size, unsigned lane);
/* GETSTATE into dst, PUTSTATE, where they are of a pinned vector; false: they are not. */
bool vector_get_lane(struct lower *l, const struct ir_insn *insn, unsigned dst);
bool vector_put_lane(struct lower *l, const struct ir_insn *insn);

/* Each lowers the operation when it is one of its own, and says whether it was. */
bool lower_place(struct lower *l);
bool lower_integer(struct lower *l);
bool lower_flags(struct lower *l);
bool lower_memory(struct lower *l);
bool lower_atomic(struct lower *l);
bool lower_branch(struct lower *l);
/* A CALL in line. False: not this one, nothing was written. */
bool lower_vector(struct lower *l);
bool lower_float(struct lower *l);
/* lower_vector()'s, of lanes that move: to X0. */
bool lower_lanes(struct lower *l, const struct ir_vector *v);
/* lower_crypto.c: to X0; false: this CPU has no such instruction. */
bool lower_crypto(struct lower *l, const struct ir_vector *v);
/* FCMPF, PUTV, DUPV. */
bool lower_vector_own(struct lower *l);
/* The host's flags are of FLAGS_ADD or FLAGS_SUB. Uses RAX. */
void flags_arithmetic(struct lower *l);

#endif
