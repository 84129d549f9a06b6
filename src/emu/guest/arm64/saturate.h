/*
 * saturate.h - lanes that stay at the end of their range, and say so in FPSR.QC (Arm ARM,
 * SignedSatQ() and UnsignedSatQ()). bytes: of the result's lane. op as in simd.h.
 */
#ifndef EMU_GUEST_ARM64_SATURATE_H
#define EMU_GUEST_ARM64_SATURATE_H

#include <stdbool.h>
#include <stdint.h>

struct arm64_state;

/* SQADD, SQSUB, SQSHL, SRSHL, SQRSHL, SQDMULH and their unsigned forms, by two registers. */
bool saturate_is_three(unsigned op);
uint64_t saturate_three(struct arm64_state *state, unsigned op, uint64_t a, uint64_t b,
                        unsigned bytes);
/* SQRDMLAH, SQRDMLSH: d and twice the product, rounded to the upper half. */
uint64_t saturate_multiply_add(struct arm64_state *state, bool subtract, uint64_t d, uint64_t a,
                               uint64_t b, unsigned bytes);
/* SUQADD, SQABS, SQNEG and unsigned forms. */
bool saturate_is_two(unsigned op);
uint64_t saturate_two(struct arm64_state *state, unsigned op, uint64_t d, uint64_t a,
                      unsigned bytes);
/* A lane of twice the bytes: SQXTN and so on, after a shift to the right with rounding or without.
 */
uint64_t saturate_narrow(struct arm64_state *state, uint64_t a, unsigned bytes, bool from_unsigned,
                         bool to_unsigned, unsigned by, bool round);
/* By an immediate to the left: SQSHL, UQSHL, SQSHLU. */
uint64_t saturate_left(struct arm64_state *state, uint64_t a, unsigned bytes, bool from_unsigned,
                       bool to_unsigned, unsigned by);
/* SQDMULL, SQDMLAL, SQDMLSL (op 13, 9, 11) of lanes of half the bytes. */
uint64_t saturate_double(struct arm64_state *state, unsigned op, uint64_t d, int64_t a, int64_t b,
                         unsigned bytes);

#endif
