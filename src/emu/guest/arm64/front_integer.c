/*
 * front_integer.c - data processing with immediates and registers (Arm ARM, C4.1.92 and C4.1.94).
 */
#include "emu/guest/arm64/front_internal.h"

static bool front_adr(struct front *f, const struct a64_args *a)
{
    int64_t offset = (int64_t)a->hi * 4 + a->lo;
    front_put_x(f, a->rd, ir_const_pc(f->ir, f->pc + (uint64_t)offset));
    return true;
}

static bool front_adrp(struct front *f, const struct a64_args *a)
{
    int64_t pages = (int64_t)a->hi * 4 + a->lo;
    front_put_x(f, a->rd, ir_const_pc(f->ir, (f->pc & ~(uint64_t)4095) + (uint64_t)(pages * 4096)));
    return true;
}

/* ADD, SUB and those that set flags; rd is the stack pointer where sp says so. */
static bool add_sub(struct front *f, const struct a64_args *a, ir_value n, ir_value m, bool sp)
{
    enum ir_op op = a->s != 0 ? (a->op != 0 ? IR_SUBF : IR_ADDF) : (a->op != 0 ? IR_SUB : IR_ADD);
    ir_value v = ir_op2(f->ir, op, front_width(a->sf), n, m);
    if (sp && a->s == 0) {
        front_put_x_sp(f, a->rd, v);
    } else {
        front_put_x(f, a->rd, v);
    }
    return true;
}

static bool front_add_imm(struct front *f, const struct a64_args *a)
{
    uint64_t imm = (uint64_t)(uint32_t)a->imm << (a->sh != 0 ? 12 : 0);
    return add_sub(f, a, front_x_sp(f, a->rn), ir_const(f->ir, imm), true);
}

static bool front_add_shifted(struct front *f, const struct a64_args *a)
{
    if (a->sf == 0 && a->imm >= 32) {
        return false;
    }
    ir_value n = front_x(f, a->rn);
    ir_value m = front_shift(f, front_x(f, a->rm), a->shift, a->imm, front_width(a->sf));
    return add_sub(f, a, n, m, false);
}

static bool front_add_extended(struct front *f, const struct a64_args *a)
{
    ir_value n = front_x_sp(f, a->rn);
    ir_value m = front_extend(f, front_x(f, a->rm), a->option, a->amount, front_width(a->sf));
    return add_sub(f, a, n, m, true);
}

static bool front_adc(struct front *f, const struct a64_args *a)
{
    enum ir_op op = a->s != 0 ? (a->op != 0 ? IR_SBCF : IR_ADCF) : (a->op != 0 ? IR_SBC : IR_ADC);
    ir_value n = front_x(f, a->rn);
    front_put_x(f, a->rd, ir_op2(f->ir, op, front_width(a->sf), n, front_x(f, a->rm)));
    return true;
}

/* With a 32-bit result even where nothing is computed. */
static ir_value logic(struct front *f, enum ir_op op, int32_t sf, ir_value n, ir_value m)
{
    return ir_op2(f->ir, op, front_width(sf), n, m);
}

static bool logic_imm(struct front *f, const struct a64_args *a, enum ir_op op)
{
    uint64_t mask = 0;
    if (!front_bit_mask(a->n, a->imms, a->immr, front_width(a->sf), &mask)) {
        return false;
    }
    ir_value v = logic(f, op, a->sf, front_x(f, a->rn), ir_const(f->ir, mask));
    if (op == IR_ANDF) {
        front_put_x(f, a->rd, v);
    } else {
        front_put_x_sp(f, a->rd, v);
    }
    return true;
}

static bool front_and_imm(struct front *f, const struct a64_args *a)
{
    return logic_imm(f, a, IR_AND);
}

static bool front_orr_imm(struct front *f, const struct a64_args *a)
{
    return logic_imm(f, a, IR_OR);
}

static bool front_eor_imm(struct front *f, const struct a64_args *a)
{
    return logic_imm(f, a, IR_XOR);
}

static bool front_ands_imm(struct front *f, const struct a64_args *a)
{
    return logic_imm(f, a, IR_ANDF);
}

/* n: the second operand is inverted. */
static bool logic_reg(struct front *f, const struct a64_args *a, enum ir_op op)
{
    unsigned width = front_width(a->sf);
    if (a->sf == 0 && a->imm >= 32) {
        return false;
    }
    if (op == IR_OR && a->n == 0 && a->rn == 31 && a->imm == 0) { /* MOV */
        ir_value m = front_x(f, a->rm);
        front_put_x(f, a->rd, a->sf != 0 ? m : ir_op1i(f->ir, IR_ZEXT, 8, m, 4));
        return true;
    }
    ir_value n = front_x(f, a->rn);
    ir_value m = front_shift(f, front_x(f, a->rm), a->shift, a->imm, width);
    if (a->n != 0 && op == IR_AND) {
        op = IR_ANDN;
    } else if (a->n != 0) {
        m = ir_op1(f->ir, IR_NOT, width, m);
    }
    front_put_x(f, a->rd, logic(f, op, a->sf, n, m));
    return true;
}

static bool front_and_reg(struct front *f, const struct a64_args *a)
{
    return logic_reg(f, a, IR_AND);
}

static bool front_orr_reg(struct front *f, const struct a64_args *a)
{
    return logic_reg(f, a, IR_OR);
}

static bool front_eor_reg(struct front *f, const struct a64_args *a)
{
    return logic_reg(f, a, IR_XOR);
}

static bool front_ands_reg(struct front *f, const struct a64_args *a)
{
    return logic_reg(f, a, IR_ANDF);
}

static bool move_wide(struct front *f, const struct a64_args *a, bool invert)
{
    if (a->sf == 0 && a->hw >= 2) {
        return false;
    }
    uint64_t v = (uint64_t)(uint32_t)a->imm << (16 * a->hw);
    v = invert ? ~v : v;
    front_put_x(f, a->rd, ir_const(f->ir, a->sf != 0 ? v : (uint32_t)v));
    return true;
}

static bool front_movz(struct front *f, const struct a64_args *a)
{
    return move_wide(f, a, false);
}

static bool front_movn(struct front *f, const struct a64_args *a)
{
    return move_wide(f, a, true);
}

static bool front_movk(struct front *f, const struct a64_args *a)
{
    unsigned width = front_width(a->sf);
    if (a->sf == 0 && a->hw >= 2) {
        return false;
    }
    uint64_t hole = ~((uint64_t)0xffff << (16 * a->hw));
    ir_value v = ir_op2(f->ir, IR_AND, width, front_x(f, a->rd), ir_const(f->ir, hole));
    uint64_t imm = (uint64_t)(uint32_t)a->imm << (16 * a->hw);
    front_put_x(f, a->rd, ir_op2(f->ir, IR_OR, width, v, ir_const(f->ir, imm)));
    return true;
}

/* Bit fields: bits 0 to imms of n rotated right by immr, or what lies below immr shifted left. */
struct field {
    unsigned width, bits, r, s;
};

static bool take_field(const struct a64_args *a, struct field *ret)
{
    *ret = (struct field){front_width(a->sf), a->sf != 0 ? 64 : 32, (unsigned)a->immr,
                          (unsigned)a->imms};
    return a->n == a->sf && ret->r < ret->bits && ret->s < ret->bits;
}

/* The field at its place, with zeros or its sign above and zeros below. */
static ir_value place_field(struct front *f, const struct field *b, ir_value n, bool sign)
{
    enum ir_op right = sign ? IR_SAR : IR_SHR;
    unsigned up = b->bits - 1 - b->s;
    unsigned down = up + b->r;
    ir_value v = n;
    if (b->s >= b->r) {
        if (b->r == 0 && (b->s == 7 || b->s == 15 || (b->s == 31 && b->width == 8))) {
            return ir_op1i(f->ir, sign ? IR_SEXT : IR_ZEXT, b->width, v, (b->s + 1) / 8);
        }
        if (up != 0) {
            v = ir_op2(f->ir, IR_SHL, b->width, v, ir_const(f->ir, up));
        }
        return ir_op2(f->ir, right, b->width, v, ir_const(f->ir, down));
    }
    /* To the top, and down to bits - r. */
    unsigned to = b->bits - b->r;
    if (up == to) {
        return ir_op2(f->ir, IR_SHL, b->width, v, ir_const(f->ir, to));
    }
    v = ir_op2(f->ir, IR_SHL, b->width, v, ir_const(f->ir, up));
    return ir_op2(f->ir, right, b->width, v, ir_const(f->ir, up - to));
}

static bool front_ubfm(struct front *f, const struct a64_args *a)
{
    struct field b;
    if (!take_field(a, &b)) {
        return false;
    }
    front_put_x(f, a->rd, place_field(f, &b, front_x(f, a->rn), false));
    return true;
}

static bool front_sbfm(struct front *f, const struct a64_args *a)
{
    struct field b;
    if (!take_field(a, &b)) {
        return false;
    }
    front_put_x(f, a->rd, place_field(f, &b, front_x(f, a->rn), true));
    return true;
}

static bool front_bfm(struct front *f, const struct a64_args *a)
{
    struct field b;
    if (!take_field(a, &b)) {
        return false;
    }
    unsigned low = b.s >= b.r ? 0 : b.bits - b.r;
    unsigned len = b.s >= b.r ? b.s - b.r + 1 : b.s + 1;
    uint64_t mask = (len == 64 ? UINT64_MAX : ((uint64_t)1 << len) - 1) << low;
    ir_value in = place_field(f, &b, front_x(f, a->rn), false);
    ir_value old = ir_op2(f->ir, IR_AND, b.width, front_x(f, a->rd), ir_const(f->ir, ~mask));
    front_put_x(f, a->rd, ir_op2(f->ir, IR_OR, b.width, old, in));
    return true;
}

static bool front_extr(struct front *f, const struct a64_args *a)
{
    unsigned width = front_width(a->sf);
    if (a->n != a->sf || (a->sf == 0 && a->imms >= 32)) {
        return false;
    }
    ir_value n = front_x(f, a->rn);
    ir_value m = front_x(f, a->rm);
    ir_value v = IR_NONE;
    if (a->imms == 0) {
        v = a->sf != 0 ? m : ir_op1i(f->ir, IR_ZEXT, 8, m, 4);
    } else if (a->rn == a->rm) {
        v = ir_op2(f->ir, IR_ROR, width, n, ir_const(f->ir, (uint64_t)a->imms));
    } else {
        struct ir_insn *insn = ir_add(f->ir, IR_EXTR, &v);
        insn->width = (uint8_t)width;
        insn->operand[0] = n;
        insn->operand[1] = m;
        insn->imm = a->imms;
    }
    front_put_x(f, a->rd, v);
    return true;
}

static bool compare(struct front *f, const struct a64_args *a, ir_value m)
{
    ir_value n = front_x(f, a->rn);
    unsigned width = front_width(a->sf);
    if (a->cond >= IR_AL) { /* always: a comparison as any */
        (void)ir_op2(f->ir, a->op != 0 ? IR_SUBF : IR_ADDF, width, n, m);
        return true;
    }
    struct ir_insn *insn = ir_add(f->ir, a->op != 0 ? IR_CCMPF : IR_CCMNF, NULL);
    insn->width = (uint8_t)width;
    insn->cond = (uint8_t)a->cond;
    insn->operand[0] = n;
    insn->operand[1] = m;
    insn->imm = (int64_t)((uint64_t)(uint32_t)a->nzcv << 28);
    return true;
}

static bool front_ccmp_reg(struct front *f, const struct a64_args *a)
{
    return compare(f, a, front_x(f, a->rm));
}

static bool front_ccmp_imm(struct front *f, const struct a64_args *a)
{
    return compare(f, a, ir_const(f->ir, (uint64_t)a->imm));
}

/* op and op2: CSEL, CSINC, CSINV, CSNEG. */
static bool front_csel(struct front *f, const struct a64_args *a)
{
    unsigned width = front_width(a->sf);
    ir_value n = front_x(f, a->rn);
    ir_value m = front_x(f, a->rm);
    uint8_t cond = (uint8_t)a->cond;
    if (a->op == 0 && a->op2 != 0) {
        m = ir_op2(f->ir, IR_ADD, width, m, ir_const(f->ir, 1));
    } else if (a->op != 0) {
        m = ir_op1(f->ir, a->op2 != 0 ? IR_NEG : IR_NOT, width, m);
    }
    if (cond >= IR_AL) {
        front_put_x(f, a->rd, a->sf != 0 ? n : ir_op1i(f->ir, IR_ZEXT, 8, n, 4));
        return true;
    }
    uint64_t one = 0;
    uint64_t zero = 1;
    if (ir_is_const(f->ir, m, &one) && ir_is_const(f->ir, n, &zero) && one == 1 && zero == 0) {
        ir_value swap = n; /* CSET */
        n = m;
        m = swap;
        cond ^= 1;
    }
    ir_value v = IR_NONE;
    struct ir_insn *insn = ir_add(f->ir, IR_SELECT, &v);
    insn->width = (uint8_t)width;
    insn->cond = cond;
    insn->operand[0] = n;
    insn->operand[1] = m;
    front_put_x(f, a->rd, v);
    return true;
}

static bool accumulate(struct front *f, const struct a64_args *a, ir_value product, unsigned width)
{
    ir_value v = ir_op2(f->ir, a->o0 != 0 ? IR_SUB : IR_ADD, width, front_x(f, a->ra), product);
    if (a->ra == 31 && a->o0 == 0) {
        v = product; /* MUL */
    }
    front_put_x(f, a->rd, v);
    return true;
}

static bool front_madd(struct front *f, const struct a64_args *a)
{
    unsigned width = front_width(a->sf);
    ir_value n = front_x(f, a->rn);
    return accumulate(f, a, ir_op2(f->ir, IR_MUL, width, n, front_x(f, a->rm)), width);
}

static bool front_maddl(struct front *f, const struct a64_args *a)
{
    enum ir_op extend = a->u != 0 ? IR_ZEXT : IR_SEXT;
    ir_value n = ir_op1i(f->ir, extend, 8, front_x(f, a->rn), 4);
    ir_value m = ir_op1i(f->ir, extend, 8, front_x(f, a->rm), 4);
    return accumulate(f, a, ir_op2(f->ir, IR_MUL, 8, n, m), 8);
}

static bool front_mulh(struct front *f, const struct a64_args *a)
{
    ir_value n = front_x(f, a->rn);
    front_put_x(f, a->rd, ir_op2(f->ir, a->u != 0 ? IR_MULHU : IR_MULHS, 8, n, front_x(f, a->rm)));
    return true;
}

static bool two_sources(struct front *f, const struct a64_args *a, enum ir_op op)
{
    ir_value n = front_x(f, a->rn);
    front_put_x(f, a->rd, ir_op2(f->ir, op, front_width(a->sf), n, front_x(f, a->rm)));
    return true;
}

static bool front_udiv(struct front *f, const struct a64_args *a)
{
    return two_sources(f, a, IR_UDIV);
}

static bool front_sdiv(struct front *f, const struct a64_args *a)
{
    return two_sources(f, a, IR_SDIV);
}

static bool front_shift_reg(struct front *f, const struct a64_args *a)
{
    static const uint8_t op[] = {IR_SHL, IR_SHR, IR_SAR, IR_ROR};
    return two_sources(f, a, (enum ir_op)op[a->shift]);
}

/* Bit by bit; imm: the polynomial, reflected, and the bytes above it. */
static uint64_t crc(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    (void)state;
    uint32_t polynomial = (uint32_t)imm;
    uint32_t sum = (uint32_t)(a >> 32);
    sum ^= (uint32_t)a;
    for (unsigned i = 0; i < (imm >> 32) * 8; i++) {
        sum = sum >> 1 ^ ((sum & 1) != 0 ? polynomial : 0);
    }
    return sum;
}

static ir_value crc_step(struct front *f, bool castagnoli, unsigned bytes, ir_value sum,
                         ir_value data)
{
    ir_value high = ir_op2(f->ir, IR_SHL, 8, sum, ir_const(f->ir, 32));
    ir_value v = IR_NONE;
    ir_value both = ir_op2(f->ir, IR_OR, 8, high, data);
    struct ir_insn *insn = ir_add(f->ir, IR_CALL, &v);
    insn->fn = crc;
    insn->imm = (int64_t)((uint64_t)bytes << 32 | (castagnoli ? 0x82f63b78u : 0xedb88320u));
    insn->operand[0] = both;
    return v;
}

static bool front_crc32(struct front *f, const struct a64_args *a)
{
    if ((a->size == 3) != (a->sf != 0)) {
        return false;
    }
    ir_value sum = front_x(f, a->rn);
    ir_value data = front_x(f, a->rm);
    bool castagnoli = a->c != 0;
    if (a->size == 3) { /* 64 bits: the lower half first */
        sum = crc_step(f, castagnoli, 4, sum, ir_op1i(f->ir, IR_ZEXT, 8, data, 4));
        data = ir_op2(f->ir, IR_SHR, 8, data, ir_const(f->ir, 32));
        sum = crc_step(f, castagnoli, 4, sum, data);
    } else {
        data = ir_op1i(f->ir, IR_ZEXT, 8, data, 1 << a->size);
        sum = crc_step(f, castagnoli, 1u << a->size, sum, data);
    }
    front_put_x(f, a->rd, sum);
    return true;
}

static bool front_rbit(struct front *f, const struct a64_args *a)
{
    front_put_x(f, a->rd, ir_op1(f->ir, IR_RBIT, front_width(a->sf), front_x(f, a->rn)));
    return true;
}

static bool front_rev(struct front *f, const struct a64_args *a)
{
    if (a->sf == 0 && a->opc == 3) {
        return false;
    }
    front_put_x(f, a->rd,
                ir_op1i(f->ir, IR_REV, front_width(a->sf), front_x(f, a->rn), 1 << a->opc));
    return true;
}

static bool front_clz(struct front *f, const struct a64_args *a)
{
    front_put_x(f, a->rd, ir_op1(f->ir, IR_CLZ, front_width(a->sf), front_x(f, a->rn)));
    return true;
}

/* Of x ^ (x >> 1), where equal neighbours are zeros: one more than what is asked for. */
static bool front_cls(struct front *f, const struct a64_args *a)
{
    unsigned width = front_width(a->sf);
    ir_value n = front_x(f, a->rn);
    ir_value shifted = ir_op2(f->ir, IR_SAR, width, n, ir_const(f->ir, 1));
    ir_value changes = ir_op2(f->ir, IR_XOR, width, n, shifted);
    ir_value zeros = ir_op1(f->ir, IR_CLZ, width, changes);
    front_put_x(f, a->rd, ir_op2(f->ir, IR_SUB, width, zeros, ir_const(f->ir, 1)));
    return true;
}

front_fn *const arm64_front_integer[A64_OP_COUNT] = {A64_INTEGER_OPS(FRONT_ROW)};
