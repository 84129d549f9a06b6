/*
 * vectors.c - where vector registers are, and moves between them and the others.
 */
#include "emu/host/x86_64/lower_internal.h"

static struct x86_rm in_state(unsigned reg)
{
    return x86_cpu(X86_CPU(state.v) + (int32_t)reg * 16);
}

struct x86_rm vector_rm(unsigned reg)
{
    unsigned x = x86_pinned_vector(reg);
    return x == X86_NO_REG ? in_state(reg) : x86_reg_rm(x);
}

void vector_into(struct lower *l, unsigned reg, unsigned x)
{
    if (x86_pinned_vector(reg) != x) {
        emit_vex(&l->e, X86_66 | X86_0F | 0x6f, false, x, 0, vector_rm(reg)); /* vmovdqa */
    }
}

unsigned vector_in(struct lower *l, unsigned reg, unsigned scratch)
{
    unsigned x = x86_pinned_vector(reg);
    if (x != X86_NO_REG) {
        return x;
    }
    vector_into(l, reg, scratch);
    return scratch;
}

unsigned vector_dst(unsigned reg)
{
    unsigned x = x86_pinned_vector(reg);
    return x == X86_NO_REG ? X0 : x;
}

void vector_out(struct lower *l, unsigned reg, unsigned x, unsigned bytes)
{
    struct emit *e = &l->e;
    unsigned own = x86_pinned_vector(reg);
    unsigned to = own != X86_NO_REG ? own : bytes == 16 ? x : X0; /* x may be another's */
    if (bytes == 8) {
        emit_vex(e, X86_F3 | X86_0F | 0x7e, false, to, 0, x86_reg_rm(x)); /* vmovq */
    } else if (bytes == 4) {
        emit_vex(e, X86_66 | X86_0F3A | 0x21, false, to, x, x86_reg_rm(x)); /* vinsertps */
        emit_byte(e, 0x0e);
    } else if (to != x) {
        emit_vex(e, X86_66 | X86_0F | 0x6f, false, to, 0, x86_reg_rm(x));
    }
    if (own == X86_NO_REG) {
        emit_vex(e, X86_66 | X86_0F | 0x7f, false, to, 0, in_state(reg));
    }
}

void vector_op(struct lower *l, uint32_t opcode, unsigned dst, unsigned a, struct x86_rm rm)
{
    emit_vex(&l->e, X86_66 | opcode, false, dst, a, rm);
}

/* psllw and so on: 66 0F 71 to 73 /n. x86 has none for bytes, and no psraq. */
void vector_shift(struct lower *l, unsigned n, unsigned size, unsigned dst, unsigned x, unsigned by)
{
    vector_op(l, X86_0F | (size == 2 ? 0x71u : size == 4 ? 0x72u : 0x73u), n, dst, x86_reg_rm(x));
    emit_byte(&l->e, by > 255 ? 255 : by);
}

void vector_ones(struct lower *l, unsigned x)
{
    vector_op(l, X86_0F | 0x76, x, x, x86_reg_rm(x)); /* equal to itself */
}

/* The pinned register that has the byte of the state, and which of its bytes that is. */
static unsigned pinned_at(int64_t offset, unsigned *ret_byte)
{
    int64_t from = offset - (int64_t)offsetof(struct arm64_state, v);
    if (from < 0 || from >= 32 * 16) {
        return X86_NO_REG;
    }
    *ret_byte = (unsigned)from % 16;
    return x86_pinned_vector((unsigned)from / 16);
}

bool vector_get_lane(struct lower *l, const struct ir_insn *insn, unsigned dst)
{
    struct emit *e = &l->e;
    unsigned byte = 0;
    unsigned x = pinned_at(insn->imm, &byte);
    unsigned width = insn->width;
    if (x == X86_NO_REG) {
        return false;
    }
    if (byte == 0 && width >= 4) {
        emit_vex(e, X86_66 | X86_0F | 0x7e, width == 8, x, 0, x86_reg_rm(dst)); /* vmovd, vmovq */
        return true;
    }
    if (width >= 4) {
        emit_vex(e, X86_66 | X86_0F3A | 0x16, width == 8, x, 0, x86_reg_rm(dst)); /* vpextrd, q */
    } else if (width == 2) {
        emit_vex(e, X86_66 | X86_0F | 0xc5, false, dst, 0, x86_reg_rm(x)); /* vpextrw */
    } else {
        emit_vex(e, X86_66 | X86_0F3A | 0x14, false, x, 0, x86_reg_rm(dst)); /* vpextrb */
    }
    emit_byte(e, byte / width);
    return true;
}

bool vector_put_lane(struct lower *l, const struct ir_insn *insn)
{
    unsigned byte = 0;
    unsigned x = pinned_at(insn->imm, &byte);
    if (x == X86_NO_REG) {
        return false;
    }
    uint32_t opcode = insn->width == 1   ? X86_0F3A | 0x20
                      : insn->width == 2 ? X86_0F | 0xc4
                                         : X86_0F3A | 0x22; /* vpinsrb, w, d and q */
    emit_vex(&l->e, X86_66 | opcode, insn->width == 8, x, x, x86_reg_rm(RAX));
    emit_byte(&l->e, byte / insn->width);
    return true;
}

static bool is_const(const struct lower *l, ir_value v, uint64_t *ret)
{
    return ir_is_const(l->ir, v, ret);
}

/* x = the value in the lower half, 0 above. */
static void low_half(struct lower *l, unsigned x, ir_value v)
{
    use_into(l, v, 8, RAX);
    emit_vex(&l->e, X86_66 | X86_0F | 0x6e, true, x, 0, x86_reg_rm(RAX)); /* vmovq */
}

static void put_both(struct lower *l, const struct ir_insn *insn)
{
    uint64_t low = 1;
    uint64_t high = 1;
    unsigned x = vector_dst(insn->reg);
    bool low_known = is_const(l, insn->operand[0], &low);
    bool high_known = is_const(l, insn->operand[1], &high);
    bool same = insn->operand[0] == insn->operand[1] || (low_known && high_known && low == high);
    if (low_known && low == 0 && same) {
        vector_op(l, X86_0F | 0xef, x, x, x86_reg_rm(x));
    } else if (low_known && low == UINT64_MAX && same) {
        vector_ones(l, x);
    } else {
        low_half(l, x, insn->operand[0]);
        if (same) {
            vector_op(l, X86_0F | 0x6c, x, x, x86_reg_rm(x)); /* vpunpcklqdq */
        } else if (!high_known || high != 0) {
            use_into(l, insn->operand[1], 8, RAX);
            emit_vex(&l->e, X86_66 | X86_0F3A | 0x22, true, x, x, x86_reg_rm(RAX));
            emit_byte(&l->e, 1);
        }
    }
    vector_out(l, insn->reg, x, 16);
}

static void duplicate(struct lower *l, const struct ir_insn *insn)
{
    static const uint32_t broadcast[] = {0x78, 0x79, 0x58, 0x59}; /* vpbroadcastb, w, d, q */
    low_half(l, X0, insn->operand[0]);
    vector_op(l, X86_0F38 | broadcast[__builtin_ctz(insn->size)], X0, 0, x86_reg_rm(X0));
    vector_out(l, insn->reg, X0, (unsigned)insn->imm);
}

/* Numbers leave the host's flags to look at; what is none goes out of the block. */
static void compare_floats(struct lower *l, const struct ir_insn *insn)
{
    const struct ir_vector *v = &insn->vector;
    struct emit *e = &l->e;
    unsigned n = vector_in(l, v->n, X0);
    struct x86_rm m = x86_reg_rm(X1);
    if (v->m > 31) {
        vector_op(l, X86_0F | 0xef, X1, X1, m);
    } else {
        m = vector_rm(v->m);
    }
    /* vucomiss, vucomisd; vcomis where any NaN is invalid */
    emit_vex(e, (v->size == 8 ? X86_66 : 0) | X86_0F | (v->by != 0 ? 0x2fu : 0x2eu), false, n, 0,
             m);
    add_unordered(l, emit_jcc32(e, X86_P), lower_pc(l) + 4);
    flags_set(l, FLAGS_FLOAT);
}

bool lower_vector_own(struct lower *l)
{
    const struct ir_insn *insn = lower_now(l);
    switch ((int)insn->op) {
    case IR_PUTV:
        put_both(l, insn);
        return true;
    case IR_DUPV:
        duplicate(l, insn);
        return true;
    case IR_FCMPF:
        compare_floats(l, insn);
        return true;
    default:
        return false;
    }
}
