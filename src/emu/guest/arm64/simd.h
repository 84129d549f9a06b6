/*
 * simd.h - what vector instructions do, on the state; imm is a struct lane_args (lanes.h).
 *
 * op is U:opcode of the manual's tables. _known(): whether there is such an instruction here.
 */
#ifndef EMU_GUEST_ARM64_SIMD_H
#define EMU_GUEST_ARM64_SIMD_H

#include <stdbool.h>

#include "emu/ir.h"

/* AND, BIC, ORR, ORN, EOR, BSL, BIT, BIF. */
#define SIMD_LOGIC 64u

ir_call_fn arm64_simd_three, arm64_simd_float_three, arm64_simd_float_two, arm64_simd_float_resize,
    arm64_simd_float_fixed, arm64_simd_float_across, arm64_simd_different, arm64_simd_two,
    arm64_simd_across, arm64_simd_shift, arm64_simd_ext, arm64_simd_tbl, arm64_simd_permute;

bool arm64_simd_three_known(unsigned op);
bool arm64_simd_float_known(unsigned op, unsigned more);
/* high: the upper bit of size. */
bool arm64_simd_float_two_known(unsigned op, unsigned high);
bool arm64_simd_different_known(unsigned op);
bool arm64_simd_two_known(unsigned op, int32_t size, bool q);
bool arm64_simd_shift_known(unsigned op, unsigned log);

/* front_fp.c: one lane. */
uint64_t arm64_fp_binary(struct arm64_state *state, unsigned op, bool wide, uint64_t x, uint64_t y);
uint64_t arm64_fp_fused(struct arm64_state *state, unsigned op, bool wide, uint64_t addend,
                        uint64_t n, uint64_t m);
uint64_t arm64_fp_unary(struct arm64_state *state, unsigned op, bool wide, uint64_t v);
/* The NaN that one such operand makes. */
uint64_t arm64_fp_nan(const struct arm64_state *state, uint64_t v, bool wide);
uint64_t arm64_fp_from_int(uint64_t v, bool is_unsigned, bool wide);
uint64_t arm64_fp_to_int(double x, bool is_unsigned, unsigned bits, unsigned mode);
/* Integers with bits behind the point; to zero. lane: of 4 or 8 bytes, both the float and the
 * integer. */
uint64_t arm64_fp_from_fixed(uint64_t lane, bool is_unsigned, bool wide, unsigned bits);
uint64_t arm64_fp_to_fixed(uint64_t lane, bool is_unsigned, bool wide, unsigned bits);

/* estimate.c */
uint64_t arm64_estimate_u32(uint32_t v, bool root);
uint64_t arm64_estimate(struct arm64_state *state, uint64_t v, bool wide);
uint64_t arm64_estimate_root(struct arm64_state *state, uint64_t v, bool wide);
uint64_t arm64_exponent_turned(struct arm64_state *state, uint64_t v, bool wide);
uint64_t arm64_step(struct arm64_state *state, uint64_t a, uint64_t b, bool wide, bool root);
uint64_t arm64_from_half(struct arm64_state *state, uint64_t v, bool to_wide);
uint64_t arm64_to_half(struct arm64_state *state, uint64_t v, bool wide);
uint64_t arm64_to_single_odd(struct arm64_state *state, uint64_t v);

#endif
