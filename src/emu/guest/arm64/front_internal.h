/*
 * front_internal.h - shared by the front_*.c files: one a table of encodings.
 */
#ifndef EMU_GUEST_ARM64_FRONT_INTERNAL_H
#define EMU_GUEST_ARM64_FRONT_INTERNAL_H

#include <stddef.h>

#include "emu/guest/arm64/a64_decode.h"
#include "emu/guest/arm64/front.h"
#include "emu/guest/arm64/lanes.h"

struct front {
    struct ir *ir;
    uint64_t pc; /* of the instruction */
    bool ended;  /* it leaves the block in every case */
    /* Where the block goes on when it is not the next instruction. */
    bool jumped;
    uint64_t next;
};

/* Makes the instruction; false: it is undefined, and nothing was made. */
typedef bool front_fn(struct front *f, const struct a64_args *a);

/* Registers: number 31 is zero, or the stack pointer where the name says so. */
ir_value front_x(struct front *f, int32_t reg);
ir_value front_x_sp(struct front *f, int32_t reg);
void front_put_x(struct front *f, int32_t reg, ir_value v);
void front_put_x_sp(struct front *f, int32_t reg, ir_value v);

/* 4 or 8 bytes. */
static inline unsigned front_width(int32_t sf)
{
    return sf != 0 ? 8 : 4;
}

/* LSL, LSR, ASR, ROR by a constant (DecodeShift). */
ir_value front_shift(struct front *f, ir_value v, int32_t kind, int32_t amount, unsigned width);
/* UXTB to SXTX, then to the left (ExtendReg). */
ir_value front_extend(struct front *f, ir_value v, int32_t option, int32_t amount, unsigned width);

/* The bits of a logical immediate (DecodeBitMasks); false where it is reserved. */
bool front_bit_mask(int32_t n, int32_t imms, int32_t immr, unsigned width, uint64_t *ret);

void front_branch(struct front *f, uint64_t target);
void front_exit(struct front *f, unsigned why, uint64_t pc);

/* width bytes at an offset of the state that is no slot. */
void front_put_state(struct front *f, size_t offset, unsigned width, ir_value v);
ir_value front_get_state(struct front *f, size_t offset, unsigned width);
/* The same of a vector register's bytes from `byte` on. */
static inline size_t front_vector_offset(unsigned number, unsigned byte)
{
    return offsetof(struct arm64_state, v) + 16 * (size_t)number + byte;
}

/* Memory at base + offset, of size bytes; loads are extended by zeros. */
ir_value front_load(struct front *f, ir_value base, int64_t offset, unsigned size);
void front_store(struct front *f, ir_value base, int64_t offset, unsigned size, ir_value v);

/* fn(state, imm) on vectors and floats. */
void front_call(struct front *f, ir_call_fn *fn, uint64_t imm);
/* The same, and what a host may do instead. */
void front_call_vector(struct front *f, ir_call_fn *fn, uint64_t imm, struct ir_vector vector);
/* The operands of a function on lanes, for a host. */
struct ir_vector front_vector(struct lane_args args, unsigned op, unsigned by);
/* Vector register: lower and upper half; a value in all lanes of the lower 8 or all 16 bytes. */
void front_put_vector(struct front *f, int32_t number, ir_value low, ir_value high);
void front_put_lanes(struct front *f, int32_t number, ir_value v, unsigned size, unsigned bytes);

/* front_element.c */
bool front_simd_element(struct front *f, const struct a64_args *a);
bool front_simd_element_s(struct front *f, const struct a64_args *a);
bool front_simd_fpair_s(struct front *f, const struct a64_args *a);
/* front_structure.c */
bool front_ld_multiple(struct front *f, const struct a64_args *a);
bool front_ld_multiple_post(struct front *f, const struct a64_args *a);
bool front_ld_single(struct front *f, const struct a64_args *a);
bool front_ld_single_post(struct front *f, const struct a64_args *a);
/* front_pair.c */
bool front_ldxp(struct front *f, const struct a64_args *a);
bool front_stxp(struct front *f, const struct a64_args *a);
bool front_casp(struct front *f, const struct a64_args *a);

/* One table a file, by the operation. */
#define FRONT_ROW(name) [A64_##name] = front_##name,
extern front_fn *const arm64_front_integer[A64_OP_COUNT];
extern front_fn *const arm64_front_branch[A64_OP_COUNT];
extern front_fn *const arm64_front_memory[A64_OP_COUNT];
extern front_fn *const arm64_front_simd[A64_OP_COUNT];
extern front_fn *const arm64_front_fp[A64_OP_COUNT];
extern front_fn *const arm64_front_extension[A64_OP_COUNT];

#endif
