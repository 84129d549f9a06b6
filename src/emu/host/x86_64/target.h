/*
 * target.h - what the x86-64 host is used for while translated code runs.
 */
#ifndef EMU_HOST_X86_64_TARGET_H
#define EMU_HOST_X86_64_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "emu/cpu.h"
#include "emu/ir.h"

enum x86_reg {
    RAX,
    RCX,
    RDX,
    RBX,
    RSP,
    RBP,
    RSI,
    RDI,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    X86_NO_REG = 0xff
};

/*
 * RBP: the CPU, 128 bytes in, so that x0 to sp have displacements of one byte.
 * RSP: the stack of returns. RAX: scratch within an operation. RCX, RDX, R15: values.
 * The others: slots of the guest, always.
 */
#define X86_BIAS 128
#define X86_PINNED(X)                                                                              \
    X(0, RBX)                                                                                      \
    X(1, RSI) X(2, RDI) X(3, R8) X(4, R9) X(5, R10) X(19, R11) X(20, R12) X(30, R13) X(31, R14)

/*
 * Vector registers, all 16 bytes of each, always: those that compilers use most. The others are in
 * the state; XMM0 to XMM2 are scratch within an operation.
 */
#define X86_PINNED_VECTORS(X)                                                                      \
    X(0, 3)                                                                                        \
    X(1, 4)                                                                                        \
    X(2, 5) X(3, 6) X(4, 7) X(5, 8) X(6, 9) X(7, 10) X(8, 11) X(9, 12) X(16, 13) X(17, 14) X(18, 15)

#define X86_TEMPS ((1u << RCX) | (1u << RDX) | (1u << R15))

/* The host register of a slot, or X86_NO_REG. */
enum x86_reg x86_pinned(unsigned slot);

/* The same of a vector register; from 32 on there are none. */
unsigned x86_pinned_vector(unsigned reg);

/* From RBP. */
#define X86_CPU(member) ((int32_t)offsetof(struct emu_cpu, member) - X86_BIAS)
static inline int32_t x86_slot(unsigned slot)
{
    return (int32_t)(slot * 8) - X86_BIAS;
}

/* Whether this host has what translated code uses: BMI1, BMI2, LZCNT, AVX2, FMA, CMPXCHG16B. */
bool x86_suffices(void);
/* What it may have besides: AES-NI and PCLMULQDQ; the SHA extensions. */
bool x86_has_aes(void);
bool x86_has_sha(void);
/* What code depends on beyond x86_suffices(): bits of these. */
uint32_t x86_features(void);

#endif
