#include "emu/ir.h"

#include <assert.h>
#include <inttypes.h>

#include "base/buf.h"

const struct ir_op_info ir_op_info[IR_OP_COUNT] = {
#define X(name, operands, what) {#name, operands, (uint8_t)(what)},
    IR_OPS(X)
#undef X
};

struct ir_insn *ir_add(struct ir *ir, enum ir_op op, ir_value *ret)
{
    assert(ir->count < IR_MAX);
    struct ir_insn *insn = &ir->insn[ir->count];
    *insn = (struct ir_insn){.op = (uint8_t)op, .width = 8, .operand = {IR_NONE, IR_NONE, IR_NONE}};
    if (ret != NULL) {
        *ret = (ir_value)ir->count;
    }
    ir->count++;
    return insn;
}

ir_value ir_const(struct ir *ir, uint64_t value)
{
    ir_value v = IR_NONE;
    ir_add(ir, IR_CONST, &v)->imm = (int64_t)value;
    return v;
}

ir_value ir_const_pc(struct ir *ir, uint64_t value)
{
    ir_value v = ir_const(ir, value);
    ir->insn[v].of_pc = true;
    return v;
}

bool ir_is_const(const struct ir *ir, ir_value value, uint64_t *ret)
{
    if (value == IR_NONE || ir->insn[value].op != IR_CONST || ir->insn[value].of_pc) {
        return false;
    }
    *ret = (uint64_t)ir->insn[value].imm;
    return true;
}

ir_value ir_get(struct ir *ir, unsigned slot)
{
    ir_value v = IR_NONE;
    ir_add(ir, IR_GET, &v)->imm = slot;
    return v;
}

void ir_put(struct ir *ir, unsigned slot, ir_value a)
{
    struct ir_insn *insn = ir_add(ir, IR_PUT, NULL);
    insn->imm = slot;
    insn->operand[0] = a;
}

/* Operands that make the operation nothing but its other operand, of 64 bits. */
static bool is_neutral(enum ir_op op, uint64_t b)
{
    switch ((int)op) {
    case IR_ADD:
    case IR_SUB:
    case IR_OR:
    case IR_XOR:
    case IR_ANDN:
    case IR_SHL:
    case IR_SHR:
    case IR_SAR:
    case IR_ROR:
        return b == 0;
    case IR_AND:
        return b == UINT64_MAX;
    default:
        return false;
    }
}

static ir_value add_pure(struct ir *ir, const struct ir_insn *want)
{
    uint64_t a = 0;
    uint64_t b = 0;
    uint64_t folded = 0;
    bool a_known = ir_is_const(ir, want->operand[0], &a);
    bool b_known = ir_is_const(ir, want->operand[1], &b);
    if (a_known && (b_known || want->operand[1] == IR_NONE) && ir_compute(want, a, b, &folded)) {
        return ir_const(ir, folded);
    }
    if (want->width == 8 && b_known && is_neutral(want->op, b)) {
        return want->operand[0];
    }
    ir_value v = IR_NONE;
    *ir_add(ir, want->op, &v) = *want;
    return v;
}

ir_value ir_op1i(struct ir *ir, enum ir_op op, unsigned width, ir_value a, int64_t imm)
{
    const struct ir_insn want = {
        .op = (uint8_t)op, .width = (uint8_t)width, .operand = {a, IR_NONE, IR_NONE}, .imm = imm};
    return add_pure(ir, &want);
}

ir_value ir_op1(struct ir *ir, enum ir_op op, unsigned width, ir_value a)
{
    return ir_op1i(ir, op, width, a, 0);
}

ir_value ir_op2(struct ir *ir, enum ir_op op, unsigned width, ir_value a, ir_value b)
{
    const struct ir_insn want = {
        .op = (uint8_t)op, .width = (uint8_t)width, .operand = {a, b, IR_NONE}};
    return add_pure(ir, &want);
}

static uint64_t extend(uint64_t a, unsigned bytes, bool sign)
{
    unsigned shift = 64 - 8 * bytes;
    return sign ? (uint64_t)((int64_t)(a << shift) >> shift) : a << shift >> shift;
}

static uint64_t divide(uint64_t a, uint64_t b, unsigned width, bool is_signed)
{
    if (width == 4) {
        a = extend(a, 4, is_signed);
        b = extend(b, 4, is_signed);
    }
    if (b == 0) {
        return 0;
    }
    if (!is_signed) {
        return a / b;
    }
    return b == UINT64_MAX ? 0 - a : (uint64_t)((int64_t)a / (int64_t)b);
}

static uint64_t shift(enum ir_op op, uint64_t a, uint64_t b, unsigned bits)
{
    unsigned by = (unsigned)b & (bits - 1);
    if (bits == 32) {
        a = (uint32_t)a;
    }
    switch ((int)op) {
    case IR_SHL:
        return a << by;
    case IR_SHR:
        return a >> by;
    case IR_SAR:
        return (uint64_t)((int64_t)extend(a, bits / 8, true) >> by);
    default:
        return by == 0 ? a : a >> by | a << (bits - by);
    }
}

static uint64_t reverse_bits(uint64_t a, unsigned bits)
{
    uint64_t r = 0;
    for (unsigned i = 0; i < bits; i++) {
        r |= (a >> i & 1) << (bits - 1 - i);
    }
    return r;
}

static uint64_t reverse_bytes(uint64_t a, unsigned unit)
{
    switch (unit) {
    case 2:
        return (a & 0x00ff00ff00ff00ff) << 8 | (a >> 8 & 0x00ff00ff00ff00ff);
    case 4:
        return (uint64_t)__builtin_bswap32((uint32_t)(a >> 32)) << 32 |
               __builtin_bswap32((uint32_t)a);
    default:
        return __builtin_bswap64(a);
    }
}

static uint64_t leading_zeros(uint64_t a, unsigned bits)
{
    a = bits == 32 ? (uint32_t)a : a;
    return a == 0 ? bits : (unsigned)__builtin_clzll(a) - (64 - bits);
}

static uint64_t high_product(uint64_t a, uint64_t b, bool is_signed)
{
    if (is_signed) {
        return (uint64_t)((__int128)(int64_t)a * (int64_t)b >> 64);
    }
    return (uint64_t)((unsigned __int128)a * b >> 64);
}

static uint64_t extract(uint64_t a, uint64_t b, unsigned lsb, unsigned bits)
{
    if (lsb == 0) {
        return b;
    }
    return bits == 32 ? (uint32_t)b >> lsb | a << (32 - lsb) : b >> lsb | a << (64 - lsb);
}

static bool compute_one(const struct ir_insn *insn, uint64_t a, uint64_t *ret)
{
    unsigned bits = insn->width * 8u;
    switch ((int)insn->op) {
    case IR_NOT:
        *ret = ~a;
        return true;
    case IR_NEG:
        *ret = 0 - a;
        return true;
    case IR_ZEXT:
    case IR_SEXT:
        *ret = extend(a, (unsigned)insn->imm, insn->op == IR_SEXT);
        return true;
    case IR_CLZ:
        *ret = leading_zeros(a, bits);
        return true;
    case IR_RBIT:
        *ret = reverse_bits(a, bits);
        return true;
    case IR_REV:
        *ret = reverse_bytes(a, (unsigned)insn->imm);
        return true;
    default:
        return false;
    }
}

static bool compute_two(const struct ir_insn *insn, uint64_t a, uint64_t b, uint64_t *ret)
{
    unsigned bits = insn->width * 8u;
    switch ((int)insn->op) {
    case IR_ADD:
        *ret = a + b;
        return true;
    case IR_SUB:
        *ret = a - b;
        return true;
    case IR_AND:
        *ret = a & b;
        return true;
    case IR_OR:
        *ret = a | b;
        return true;
    case IR_XOR:
        *ret = a ^ b;
        return true;
    case IR_ANDN:
        *ret = a & ~b;
        return true;
    case IR_MUL:
        *ret = a * b;
        return true;
    case IR_MULHU:
    case IR_MULHS:
        *ret = high_product(a, b, insn->op == IR_MULHS);
        return true;
    case IR_UDIV:
    case IR_SDIV:
        *ret = divide(a, b, insn->width, insn->op == IR_SDIV);
        return true;
    case IR_SHL:
    case IR_SHR:
    case IR_SAR:
    case IR_ROR:
        *ret = shift(insn->op, a, b, bits);
        return true;
    case IR_EXTR:
        *ret = extract(a, b, (unsigned)insn->imm, bits);
        return true;
    default:
        return false;
    }
}

bool ir_compute(const struct ir_insn *insn, uint64_t a, uint64_t b, uint64_t *ret)
{
    uint64_t v = 0;
    if (!compute_one(insn, a, &v) && !compute_two(insn, a, b, &v)) {
        return false;
    }
    *ret = insn->width == 4 ? (uint32_t)v : v;
    return true;
}

void ir_print(const struct ir *ir, struct buf *ret)
{
    for (uint32_t i = 0; i < ir->count; i++) {
        const struct ir_insn *insn = &ir->insn[i];
        const struct ir_op_info *info = &ir_op_info[insn->op];
        (void)buf_printf(ret, "%s%4" PRIu32 " %s.%u", insn->dead ? "-" : " ", i, info->name,
                         insn->width);
        for (unsigned n = 0; n < info->operands; n++) {
            (void)buf_printf(ret, insn->operand[n] == IR_NONE ? " -" : " %%%u", insn->operand[n]);
        }
        (void)buf_printf(ret, " imm=0x%" PRIx64 " cond=%u scale=%u size=%u reg=%u uses=%u%s\n",
                         (uint64_t)insn->imm, insn->cond, insn->scale, insn->size, insn->reg,
                         insn->uses, insn->keep_flags ? " flags" : "");
    }
}
