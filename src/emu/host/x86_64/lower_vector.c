/*
 * lower_vector.c - vectors by AVX of 128 bits, from and to the state.
 */
#include "base/macros.h"
#include "emu/host/x86_64/lower_internal.h"

#define X0 0u
#define X1 1u
#define X2 2u

static struct x86_rm in_state(unsigned reg)
{
    return x86_cpu(X86_CPU(state.v) + (int32_t)reg * 16);
}

/* x = the register; vmovdqa. */
static void load(struct emit *e, unsigned x, unsigned reg)
{
    emit_vex(e, X86_66 | X86_0F | 0x6f, false, x, 0, in_state(reg));
}

/* dst = a op rm. */
static void op3(struct emit *e, uint32_t opcode, unsigned dst, unsigned a, struct x86_rm rm)
{
    emit_vex(e, X86_66 | opcode, false, dst, a, rm);
}

static void ones(struct emit *e, unsigned x)
{
    op3(e, X86_0F | 0x76, x, x, x86_reg_rm(x)); /* equal to itself */
}

static void invert(struct emit *e, unsigned x, unsigned scratch)
{
    ones(e, scratch);
    op3(e, X86_0F | 0xef, x, x, x86_reg_rm(scratch));
}

/* Of lanes of 1, 2, 4, 8 bytes; 0: there is none. */
static const struct {
    uint32_t opcode[4];
} by_lanes[] = {
    [IR_V_ADD] = {{X86_0F | 0xfc, X86_0F | 0xfd, X86_0F | 0xfe, X86_0F | 0xd4}},
    [IR_V_SUB] = {{X86_0F | 0xf8, X86_0F | 0xf9, X86_0F | 0xfa, X86_0F | 0xfb}},
    [IR_V_EQ] = {{X86_0F | 0x74, X86_0F | 0x75, X86_0F | 0x76, X86_0F38 | 0x29}},
    [IR_V_GT] = {{X86_0F | 0x64, X86_0F | 0x65, X86_0F | 0x66, X86_0F38 | 0x37}},
    [IR_V_SMAX] = {{X86_0F38 | 0x3c, X86_0F | 0xee, X86_0F38 | 0x3d, 0}},
    [IR_V_SMIN] = {{X86_0F38 | 0x38, X86_0F | 0xea, X86_0F38 | 0x39, 0}},
    [IR_V_UMAX] = {{X86_0F | 0xde, X86_0F38 | 0x3e, X86_0F38 | 0x3f, 0}},
    [IR_V_UMIN] = {{X86_0F | 0xda, X86_0F38 | 0x3a, X86_0F38 | 0x3b, 0}},
};

static uint32_t opcode_of(enum ir_vector_op op, unsigned size)
{
    return by_lanes[op].opcode[__builtin_ctz(size)];
}

/* X0 = n op m for what x86 has as it is. */
static bool plain(struct emit *e, const struct ir_vector *v)
{
    static const uint32_t bitwise[] = {
        [IR_V_AND] = X86_0F | 0xdb, [IR_V_OR] = X86_0F | 0xeb, [IR_V_XOR] = X86_0F | 0xef};
    uint32_t opcode = 0;
    if (v->op < COUNT(bitwise) && bitwise[v->op] != 0) {
        opcode = bitwise[v->op];
    } else if (v->op < COUNT(by_lanes)) {
        opcode = opcode_of((enum ir_vector_op)v->op, v->size);
    }
    if (opcode == 0) {
        return false;
    }
    load(e, X0, v->n);
    op3(e, opcode, X0, X0, in_state(v->m));
    return true;
}

/* a >= b: the larger of both is a; a > b unsigned: the larger is not b. */
static bool compare(struct emit *e, const struct ir_vector *v)
{
    enum ir_vector_op max = v->op == IR_V_GE ? IR_V_SMAX : IR_V_UMAX;
    uint32_t opcode = opcode_of(max, v->size);
    if (opcode == 0) {
        return false;
    }
    load(e, X0, v->n);
    op3(e, opcode, X0, X0, in_state(v->m));
    op3(e, opcode_of(IR_V_EQ, v->size), X0, X0, in_state(v->op == IR_V_HI ? v->m : v->n));
    if (v->op == IR_V_HI) {
        invert(e, X0, X1);
    }
    return true;
}

/* (a & mask) | (b & ~mask), with one register more: b ^ ((a ^ b) & mask). */
static bool select_bits(struct emit *e, const struct ir_vector *v)
{
    unsigned mask = v->op == IR_V_SELECT_D ? v->d : v->m;
    unsigned yes = v->op == IR_V_SELECT_NOT_M ? v->d : v->n;
    unsigned no = v->op == IR_V_SELECT_D ? v->m : v->op == IR_V_SELECT_M ? v->d : v->n;
    load(e, X1, no);
    op3(e, X86_0F | 0xef, X0, X1, in_state(yes));
    op3(e, X86_0F | 0xdb, X0, X0, in_state(mask));
    op3(e, X86_0F | 0xef, X0, X0, x86_reg_rm(X1));
    return true;
}

/* psllw and so on by an immediate: 66 0F 71 to 73 /n. x86 has none for bytes, and no psraq. */
static void shift_imm(struct emit *e, unsigned n, unsigned size, unsigned x, unsigned by)
{
    emit_vex(e,
             X86_66 | X86_0F |
                 (size == 2   ? 0x71u
                  : size == 4 ? 0x72u
                              : 0x73u),
             false, n, x, x86_reg_rm(x));
    emit_byte(e, by);
}

static bool shift(struct emit *e, const struct ir_vector *v)
{
    unsigned n = v->op == IR_V_SHL ? 6 : v->op == IR_V_SHR ? 2 : 4;
    if (v->size == 1 || (v->op == IR_V_SAR && v->size == 8)) {
        return false;
    }
    load(e, X0, v->n);
    shift_imm(e, n, v->size, X0, MIN(v->by, 255u));
    return true;
}

/* The lower byte of each lane of 2 bytes alone. */
static void low_bytes(struct emit *e, unsigned x)
{
    shift_imm(e, 6, 2, x, 8);
    shift_imm(e, 2, 2, x, 8);
}

#define PACK (X86_0F | 0x67) /* packuswb: n's lanes, then m's */

static bool narrow(struct emit *e, const struct ir_vector *v)
{
    load(e, X0, v->n);
    shift_imm(e, 2, 2, X0, v->by);
    low_bytes(e, X0);
    op3(e, PACK, X0, X0, x86_reg_rm(X0));
    return true;
}

/* Bytes alone: each against its neighbour in a lane of 2. */
static bool pairs(struct emit *e, const struct ir_vector *v)
{
    uint32_t opcode = opcode_of(v->op == IR_V_UMAX_PAIRS ? IR_V_UMAX : IR_V_UMIN, 1);
    if (v->size != 1 || v->bytes != 16) {
        return false;
    }
    const unsigned from[] = {v->n, v->m};
    for (unsigned i = 0; i < 2; i++) {
        unsigned x = i == 0 ? X0 : X1;
        load(e, x, from[i]);
        emit_vex(e, X86_66 | X86_0F | 0x71, false, 2, X2, x86_reg_rm(x)); /* X2 = x >> 8 */
        emit_byte(e, 8);
        op3(e, opcode, x, x, x86_reg_rm(X2));
        low_bytes(e, x);
    }
    op3(e, PACK, X0, X0, x86_reg_rm(X1));
    return true;
}

static bool one_source(struct emit *e, const struct ir_vector *v)
{
    if (v->op == IR_V_NOT) {
        load(e, X0, v->n);
        invert(e, X0, X1);
        return true;
    }
    op3(e, X86_0F | 0xef, X0, X0, x86_reg_rm(X0));
    op3(e, opcode_of(IR_V_EQ, v->size), X0, X0, in_state(v->n));
    return true;
}

static bool with_inverse(struct emit *e, const struct ir_vector *v)
{
    load(e, X1, v->m);
    if (v->op == IR_V_ANDN) {
        op3(e, X86_0F | 0xdf, X0, X1, in_state(v->n)); /* pandn: ~X1 & n */
        return true;
    }
    invert(e, X1, X0);
    op3(e, X86_0F | 0xeb, X0, X1, in_state(v->n));
    return true;
}

static bool compute(struct emit *e, const struct ir_vector *v)
{
    switch ((enum ir_vector_op)v->op) {
    case IR_V_ADD:
    case IR_V_SUB:
    case IR_V_AND:
    case IR_V_OR:
    case IR_V_XOR:
    case IR_V_EQ:
    case IR_V_GT:
    case IR_V_SMAX:
    case IR_V_SMIN:
    case IR_V_UMAX:
    case IR_V_UMIN:
        return plain(e, v);
    case IR_V_ANDN:
    case IR_V_ORN:
        return with_inverse(e, v);
    case IR_V_SELECT_D:
    case IR_V_SELECT_M:
    case IR_V_SELECT_NOT_M:
        return select_bits(e, v);
    case IR_V_GE:
    case IR_V_HI:
    case IR_V_HS:
        return compare(e, v);
    case IR_V_EQ_ZERO:
    case IR_V_NOT:
        return one_source(e, v);
    case IR_V_SHL:
    case IR_V_SHR:
    case IR_V_SAR:
        return shift(e, v);
    case IR_V_NARROW:
        return narrow(e, v);
    case IR_V_UMAX_PAIRS:
    case IR_V_UMIN_PAIRS:
        return pairs(e, v);
    case IR_V_EXTRACT:
        load(e, X1, v->m);
        op3(e, X86_0F3A | 0x0f, X0, X1, in_state(v->n)); /* palignr */
        emit_byte(e, v->by);
        return true;
    case IR_V_NONE:
    default:
        return false;
    }
}

bool lower_vector(struct lower *l)
{
    const struct ir_insn *insn = lower_now(l);
    const struct ir_vector *v = &insn->vector;
    struct emit *e = &l->e;
    if (insn->uses != 0 || !compute(e, v)) {
        return false;
    }
    if (v->bytes == 8 || v->op == IR_V_NARROW) {
        emit_vex(e, X86_F3 | X86_0F | 0x7e, false, X0, 0, x86_reg_rm(X0)); /* vmovq */
    }
    emit_vex(e, X86_66 | X86_0F | 0x7f, false, X0, 0, in_state(v->d));
    return true;
}
