/*
 * emit.h - x86-64 machine code, an instruction a call (Intel SDM, volume 2).
 *
 * Bytes go to memory of the caller; when it is full they are dropped and full is set.
 */
#ifndef EMU_HOST_X86_64_EMIT_H
#define EMU_HOST_X86_64_EMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "emu/host/x86_64/target.h"

struct emit {
    uint8_t *start, *p, *end;
    bool full;
};

/* A register (index and disp unused, base a register), or memory at base + index << scale + disp.
 */
struct x86_rm {
    bool memory;
    uint8_t base, index, scale; /* index: X86_NO_REG for none */
    int32_t disp;
};

static inline struct x86_rm x86_reg_rm(unsigned reg)
{
    return (struct x86_rm){.base = (uint8_t)reg, .index = X86_NO_REG};
}

static inline struct x86_rm x86_mem(unsigned base, int32_t disp)
{
    return (struct x86_rm){
        .memory = true, .base = (uint8_t)base, .index = X86_NO_REG, .disp = disp};
}

static inline struct x86_rm x86_cpu(int32_t disp)
{
    return x86_mem(RBP, disp);
}

/* Opcodes: the last byte, with the map and a mandatory prefix above it. */
#define X86_0F 0x100u
#define X86_0F38 0x200u
#define X86_0F3A 0x300u
#define X86_66 0x1000u
#define X86_F3 0x2000u
#define X86_F2 0x3000u
#define X86_BYTE 0x10000u /* reg and rm are of 8 bits: SPL to DIL need a REX */
#define X86_WORD 0x20000u /* operands of 16 bits */

void emit_byte(struct emit *e, unsigned byte);
void emit_u32(struct emit *e, uint32_t v);
void emit_u64(struct emit *e, uint64_t v);

/* opcode /r with width 4 or 8. */
void emit_rm(struct emit *e, uint32_t opcode, unsigned width, unsigned reg, struct x86_rm rm);
/* VEX-coded with a second source, of 32 or 64 bits or 128-bit vectors (w: VEX.W). */
void emit_vex(struct emit *e, uint32_t opcode, bool w, unsigned reg, unsigned vvvv,
              struct x86_rm rm);

void emit_mov(struct emit *e, unsigned width, unsigned dst, unsigned src); /* nothing when equal */
void emit_load(struct emit *e, unsigned width, unsigned dst, struct x86_rm rm);
void emit_store(struct emit *e, unsigned width, struct x86_rm rm, unsigned src);
/* Shortest form; does not touch flags. */
void emit_const(struct emit *e, unsigned dst, uint64_t value);
void emit_lea(struct emit *e, unsigned width, unsigned dst, struct x86_rm rm);

/* The eight of opcodes 00 to 38, by their number in 80 /n. */
enum x86_alu { X86_ADD, X86_OR, X86_ADC, X86_SBB, X86_AND, X86_SUB, X86_XOR, X86_CMP };
void emit_alu(struct emit *e, enum x86_alu op, unsigned width, unsigned dst, struct x86_rm src);
void emit_alu_imm(struct emit *e, enum x86_alu op, unsigned width, struct x86_rm dst, int32_t imm);

enum x86_shift { X86_ROL, X86_ROR, X86_SHL = 4, X86_SHR, X86_SAR = 7 };
void emit_shift_imm(struct emit *e, enum x86_shift op, unsigned width, unsigned dst, unsigned by);

/* Conditions of Jcc, SETcc and CMOVcc. */
enum x86_cond {
    X86_O,
    X86_NO,
    X86_B,
    X86_AE,
    X86_E,
    X86_NE,
    X86_BE,
    X86_A,
    X86_S,
    X86_NS,
    X86_P,
    X86_NP,
    X86_L,
    X86_GE,
    X86_LE,
    X86_G
};

/* Jumps within the same buffer, forward: the place is given to emit_here() later. */
uint8_t *emit_jcc8(struct emit *e, enum x86_cond cond);
uint8_t *emit_jmp8(struct emit *e);
void emit_here(struct emit *e, uint8_t *place);
/* With 32 bits of distance that do not cross a line of 64 bytes, so that they can be patched while
 * others run. */
uint8_t *emit_jcc32(struct emit *e, enum x86_cond cond);
uint8_t *emit_jmp32(struct emit *e);
uint8_t *emit_call32(struct emit *e);
void emit_here32(struct emit *e, uint8_t *place);
/* To a place that is known. */
void emit_distance(struct emit *e, uint8_t *place, const uint8_t *target);

#endif
