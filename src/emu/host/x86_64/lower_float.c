/*
 * lower_float.c - floats by the host's own instructions, of one and of lanes.
 *
 * x86 and Arm agree on numbers, in every rounding mode. They differ in which NaN comes out, which
 * is looked at behind the operation, and in what is out of range for an integer: there the function
 * of the CALL decides.
 */
#include "base/macros.h"
#include "emu/host/x86_64/lower_internal.h"

static bool is_one(const struct ir_vector *v)
{
    return v->bytes == v->size;
}

/* Two lanes of floats alone: what is above them must not be computed with. */
static bool is_half(const struct ir_vector *v)
{
    return v->bytes == 8 && v->size == 4;
}

static uint32_t prefix_of(const struct ir_vector *v)
{
    if (is_one(v)) {
        return v->size == 8 ? X86_F2 : X86_F3;
    }
    return v->size == 8 ? X86_66 : 0;
}

/* A register with the operand: its own, or scratch. */
static unsigned operand(struct lower *l, const struct ir_vector *v, unsigned reg, unsigned scratch)
{
    if (is_half(v)) {
        emit_vex(&l->e, X86_F3 | X86_0F | 0x7e, false, scratch, 0, vector_rm(reg)); /* vmovq */
        return scratch;
    }
    return vector_in(l, reg, scratch);
}

static struct x86_rm operand_rm(struct lower *l, const struct ir_vector *v, unsigned reg,
                                unsigned scratch)
{
    if (v->lane != 0) {
        vector_broadcast(l, scratch, reg, v->size, v->lane - 1u);
        if (is_half(v)) {
            emit_vex(&l->e, X86_F3 | X86_0F | 0x7e, false, scratch, 0, x86_reg_rm(scratch));
        }
        return x86_reg_rm(scratch);
    }
    return is_half(v) ? x86_reg_rm(operand(l, v, reg, scratch)) : vector_rm(reg);
}

/* When a or b (of `size`) is a NaN the function is called. Changes X1 for lanes. */
static void slow_when_nan(struct lower *l, bool one, unsigned size, unsigned a, struct x86_rm b)
{
    struct emit *e = &l->e;
    uint32_t packed = size == 8 ? X86_66 : 0;
    if (one) {
        emit_vex(e, packed | X86_0F | 0x2e, false, a, 0, b); /* vucomiss, vucomisd */
        add_slow(l, emit_jcc32(e, X86_P), X86_NO_REG);
        return;
    }
    emit_vex(e, packed | X86_0F | 0xc2, false, X1, a, b); /* vcmpunordps, pd */
    emit_byte(e, 3);
    emit_vex(e, X86_66 | X86_0F38 | 0x17, false, X1, 0, x86_reg_rm(X1)); /* vptest */
    add_slow(l, emit_jcc32(e, X86_NE), X86_NO_REG);
}

static void finish(struct lower *l, const struct ir_vector *v)
{
    vector_out(l, v->d, X0, v->bytes);
}

/* x = the sign of each lane. */
static void signs(struct lower *l, const struct ir_vector *v, unsigned x)
{
    vector_ones(l, x);
    vector_shift(l, 6, v->size, x, x, v->size * 8u - 1);
}

static bool arithmetic(struct lower *l, const struct ir_vector *v)
{
    static const uint8_t opcode[] = {[IR_V_FADD] = 0x58,
                                     [IR_V_FSUB] = 0x5c,
                                     [IR_V_FMUL] = 0x59,
                                     [IR_V_FNMUL] = 0x59,
                                     [IR_V_FDIV] = 0x5e};
    if (v->op == IR_V_FDIV && is_half(v)) {
        return false; /* 0 by 0 above would be an exception */
    }
    unsigned n = operand(l, v, v->n, X1);
    struct x86_rm m = operand_rm(l, v, v->m, X2);
    emit_vex(&l->e, prefix_of(v) | X86_0F | opcode[v->op], false, X0, n, m);
    slow_when_nan(l, is_one(v), v->size, X0, x86_reg_rm(X0));
    if (v->op == IR_V_FNMUL) {
        signs(l, v, X1);
        vector_op(l, X86_0F | 0xef, X0, X0, x86_reg_rm(X1));
    }
    finish(l, v);
    return true;
}

/* Of 0 and -0 x86 takes the second: so both ways, and the signs of both. */
static bool extreme(struct lower *l, const struct ir_vector *v)
{
    struct emit *e = &l->e;
    uint32_t opcode = prefix_of(v) | X86_0F | (v->op == IR_V_FMAX ? 0x5fu : 0x5du);
    unsigned n = operand(l, v, v->n, X0);
    unsigned m = operand(l, v, v->m, X2);
    slow_when_nan(l, is_one(v), v->size, n, x86_reg_rm(m));
    emit_vex(e, opcode, false, X1, m, x86_reg_rm(n));
    emit_vex(e, opcode, false, X0, n, x86_reg_rm(m));
    vector_op(l, X86_0F | (v->op == IR_V_FMAX ? 0xdbu : 0xebu), X0, X0, x86_reg_rm(X1));
    finish(l, v);
    return true;
}

static bool fused(struct lower *l, const struct ir_vector *v)
{
    static const uint8_t opcode[] = {
        [IR_V_FMADD] = 0xb8, [IR_V_FMSUB] = 0xbc, [IR_V_FNMADD] = 0xbe, [IR_V_FNMSUB] = 0xba};
    unsigned n = operand(l, v, v->n, X1);
    struct x86_rm m = operand_rm(l, v, v->m, X2);
    if (is_half(v)) {
        (void)operand(l, v, v->a, X0);
    } else {
        vector_into(l, v->a, X0);
    }
    emit_vex(&l->e, X86_66 | X86_0F38 | opcode[v->op] | (is_one(v) ? 1u : 0), v->size == 8, X0, n,
             m);
    slow_when_nan(l, is_one(v), v->size, X0, x86_reg_rm(X0));
    finish(l, v);
    return true;
}

static bool unary(struct lower *l, const struct ir_vector *v)
{
    struct emit *e = &l->e;
    unsigned n = 0;
    switch ((int)v->op) {
    case IR_V_FMOV:
        vector_out(l, v->d, vector_in(l, v->n, X0), v->bytes);
        return true;
    case IR_V_FABS:
    case IR_V_FNEG:
        signs(l, v, X1);
        vector_op(l, X86_0F | (v->op == IR_V_FABS ? 0xdfu : 0xefu), X0, X1, vector_rm(v->n));
        finish(l, v);
        return true;
    default: /* FSQRT */
        n = operand(l, v, v->n, X1);
        emit_vex(e, prefix_of(v) | X86_0F | 0x51, false, X0, is_one(v) ? n : 0, x86_reg_rm(n));
        slow_when_nan(l, is_one(v), v->size, X0, x86_reg_rm(X0));
        finish(l, v);
        return true;
    }
}

/* Greater is less the other way round, whose predicates AVX has from SSE. m above 31: 0. */
static bool compare(struct lower *l, const struct ir_vector *v)
{
    unsigned predicate = v->op == IR_V_FCMEQ ? 0 : v->op == IR_V_FCMGE ? 2 : 1;
    unsigned zero = v->n > 31 ? X1 : X2;
    if (v->n > 31 || v->m > 31) {
        vector_op(l, X86_0F | 0xef, zero, zero, x86_reg_rm(zero));
    }
    unsigned n = v->n > 31 ? X1 : operand(l, v, v->n, X1);
    unsigned m = v->m > 31 ? X2 : operand(l, v, v->m, X2);
    bool swap = predicate != 0;
    emit_vex(&l->e, prefix_of(v) | X86_0F | 0xc2, false, X0, swap ? m : n,
             x86_reg_rm(swap ? n : m));
    emit_byte(&l->e, predicate);
    finish(l, v);
    return true;
}

static void round_to(struct lower *l, const struct ir_vector *v, unsigned n, unsigned mode)
{
    static const uint8_t immediate[] = {8, 10, 9, 11, 0, 0, 4, 12};
    /* vroundss, sd */
    vector_op(l, X86_0F3A | (v->size == 8 ? 0x0bu : 0x0au), X0, n, x86_reg_rm(n));
    emit_byte(&l->e, immediate[mode]);
}

/* An integer in a vector register, of the float's size: by way of RAX. */
static void one_from_integer(struct lower *l, const struct ir_vector *v)
{
    struct emit *e = &l->e;
    bool wide = v->size == 8;
    emit_vex(e, X86_66 | X86_0F | 0x7e, wide, vector_in(l, v->n, X0), 0, x86_reg_rm(RAX));
    vector_op(l, X86_0F | 0xef, X0, X0, x86_reg_rm(X0));
    emit_vex(e, prefix_of(v) | X86_0F | 0x2a, wide, X0, X0, x86_reg_rm(RAX));
    finish(l, v);
}

static void one_to_integer(struct lower *l, const struct ir_vector *v)
{
    struct emit *e = &l->e;
    bool wide = v->size == 8;
    emit_vex(e, prefix_of(v) | X86_0F | 0x2c, wide, RAX, 0, vector_rm(v->n));
    emit_alu_imm(e, X86_CMP, v->size, x86_reg_rm(RAX), 1);
    add_slow(l, emit_jcc32(e, X86_O), X86_NO_REG);
    emit_vex(e, X86_66 | X86_0F | 0x6e, wide, X0, 0, x86_reg_rm(RAX));
    finish(l, v);
}

static bool convert(struct lower *l, const struct ir_vector *v)
{
    struct emit *e = &l->e;
    unsigned n = 0;
    switch ((int)v->op) {
    case IR_V_FCVT:
        n = vector_in(l, v->n, X1);
        emit_vex(e, (v->size == 8 ? X86_F2 : X86_F3) | X86_0F | 0x5a, false, X0, n, x86_reg_rm(n));
        slow_when_nan(l, true, v->by, X0, x86_reg_rm(X0));
        vector_out(l, v->d, X0, v->by);
        return true;
    case IR_V_FRINT:
        round_to(l, v, vector_in(l, v->n, X1), v->by);
        slow_when_nan(l, true, v->size, X0, x86_reg_rm(X0));
        finish(l, v);
        return true;
    case IR_V_SCVTF:
        if (is_one(v)) {
            one_from_integer(l, v);
            return true;
        }
        emit_vex(e, X86_0F | 0x5b, false, X0, 0, operand_rm(l, v, v->n, X1)); /* vcvtdq2ps */
        finish(l, v);
        return true;
    default: /* FCVTZS: 2^31 is what is out of range */
        if (is_one(v)) {
            one_to_integer(l, v);
            return true;
        }
        emit_vex(e, X86_F3 | X86_0F | 0x5b, false, X0, 0, operand_rm(l, v, v->n, X1));
        signs(l, v, X1);
        vector_op(l, X86_0F | 0x76, X1, X1, x86_reg_rm(X0));
        emit_vex(e, X86_66 | X86_0F38 | 0x17, false, X1, 0, x86_reg_rm(X1));
        add_slow(l, emit_jcc32(e, X86_NE), X86_NO_REG);
        finish(l, v);
        return true;
    }
}

/* cvttsd2si says the most negative number for what it cannot. */
static bool to_integer(struct lower *l, const struct ir_vector *v)
{
    struct emit *e = &l->e;
    bool is_unsigned = (v->by & 1) != 0;
    bool wide = (v->by & 2) != 0;
    struct x86_rm from = vector_rm(v->n);
    if (v->a > 3) {
        return false;
    }
    if (v->a != 3) {
        round_to(l, v, vector_in(l, v->n, X1), v->a);
        from = x86_reg_rm(X0);
    }
    unsigned dst = pick_dst(l);
    emit_vex(e, (v->size == 8 ? X86_F2 : X86_F3) | X86_0F | 0x2c, wide || is_unsigned, dst, 0,
             from);
    if (!is_unsigned) {
        emit_alu_imm(e, X86_CMP, wide ? 8 : 4, x86_reg_rm(dst), 1);
        add_slow(l, emit_jcc32(e, X86_O), dst);
    } else if (wide) {
        emit_rm(e, 0x85, 8, dst, x86_reg_rm(dst)); /* test */
        add_slow(l, emit_jcc32(e, X86_S), dst);
    } else {
        emit_rm(e, 0x8b, 4, RAX, x86_reg_rm(dst));
        emit_alu(e, X86_CMP, 8, RAX, x86_reg_rm(dst));
        add_slow(l, emit_jcc32(e, X86_NE), dst);
    }
    set_value(l, dst);
    return true;
}

static bool from_integer(struct lower *l, const struct ir_vector *v)
{
    struct emit *e = &l->e;
    bool is_unsigned = (v->by & 1) != 0;
    bool wide = (v->by & 2) != 0;
    ir_value a = lower_now(l)->operand[0];
    if (is_unsigned && wide) {
        return false;
    }
    use_into(l, a, wide ? 8 : 4, RAX); /* what is not wide has zeros above */
    vector_op(l, X86_0F | 0xef, X0, X0, x86_reg_rm(X0));
    emit_vex(e, (v->size == 8 ? X86_F2 : X86_F3) | X86_0F | 0x2a, wide || is_unsigned, X0, X0,
             x86_reg_rm(RAX));
    vector_out(l, v->d, X0, v->size);
    return true;
}

static bool compute(struct lower *l, const struct ir_vector *v)
{
    switch ((int)v->op) {
    case IR_V_FADD:
    case IR_V_FSUB:
    case IR_V_FMUL:
    case IR_V_FNMUL:
    case IR_V_FDIV:
        return arithmetic(l, v);
    case IR_V_FMAX:
    case IR_V_FMIN:
        return extreme(l, v);
    case IR_V_FMADD:
    case IR_V_FMSUB:
    case IR_V_FNMADD:
    case IR_V_FNMSUB:
        return fused(l, v);
    case IR_V_FSQRT:
    case IR_V_FABS:
    case IR_V_FNEG:
    case IR_V_FMOV:
        return unary(l, v);
    case IR_V_FCMEQ:
    case IR_V_FCMGE:
    case IR_V_FCMGT:
        return compare(l, v);
    case IR_V_TO_INT:
        return to_integer(l, v);
    case IR_V_FROM_INT:
        return from_integer(l, v);
    default:
        return convert(l, v);
    }
}

bool lower_float(struct lower *l)
{
    const struct ir_vector *v = &lower_now(l)->vector;
    if (v->op < IR_V_FADD || (v->op == IR_V_TO_INT) != (lower_now(l)->uses != 0)) {
        return false;
    }
    flags_clobber(l);
    spill_all(l); /* a function may be called */
    return compute(l, v);
}
