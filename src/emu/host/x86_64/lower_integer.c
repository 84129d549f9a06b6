/*
 * lower_integer.c - arithmetic, logic, shifts.
 */
#include "emu/host/x86_64/lower_internal.h"

/* dst = a op b, where the flags are free. */
static void alu(struct lower *l, const struct ir_insn *insn, enum x86_alu op, bool commutes)
{
    struct emit *e = &l->e;
    ir_value a = insn->operand[0];
    ir_value b = insn->operand[1];
    int32_t imm = 0;
    if (commutes && use_imm(l, a, insn->width, &imm)) {
        ir_value swap = a;
        a = b;
        b = swap;
    }
    bool small = use_imm(l, b, insn->width, &imm);
    struct x86_rm right = small ? x86_reg_rm(RAX) : use_rm(l, b);
    unsigned dst = pick_dst(l);
    bool same = !small && !right.memory && right.base == dst;
    if (same && commutes) {
        emit_alu(e, op, insn->width, dst, use_rm(l, a));
        set_value(l, dst);
        return;
    }
    unsigned work = same ? RAX : dst;
    use_into(l, a, insn->width, work);
    if (small) {
        emit_alu_imm(e, op, insn->width, x86_reg_rm(work), imm);
    } else {
        emit_alu(e, op, insn->width, work, right);
    }
    if (same) {
        emit_mov(e, 8, dst, RAX);
    }
    set_value(l, dst);
}

/* By LEA, which changes no flags and has three operands. */
static bool add_by_lea(struct lower *l, const struct ir_insn *insn)
{
    ir_value a = insn->operand[0];
    ir_value b = insn->operand[1];
    int32_t imm = 0;
    bool small = use_imm(l, b, insn->width, &imm);
    if (insn->op == IR_SUB) {
        if (!small || imm == INT32_MIN) {
            return false;
        }
        imm = -imm;
    }
    bool live = l->flags != FLAGS_NONE && l->flags_dirty && insn->keep_flags;
    bool in_regs = l->loc[a].kind == LOC_PIN && (small || l->loc[b].kind == LOC_PIN);
    if (!live && !in_regs) {
        return false;
    }
    struct x86_rm sum = x86_mem(use_reg(l, a), small ? imm : 0);
    if (!small) {
        sum.index = (uint8_t)use_reg(l, b);
    }
    unsigned dst = pick_dst(l);
    if (small && dst == sum.base && !live) {
        flags_clobber(l);
        emit_alu_imm(&l->e, X86_ADD, insn->width, x86_reg_rm(dst), imm);
    } else {
        emit_lea(&l->e, insn->width, dst, sum);
    }
    set_value(l, dst);
    return true;
}

static void negate(struct lower *l, const struct ir_insn *insn)
{
    struct emit *e = &l->e;
    unsigned dst = pick_dst(l);
    use_into(l, insn->operand[0], insn->width, dst);
    emit_rm(e, 0xf7, insn->width, 2, x86_reg_rm(dst)); /* not: no flags */
    if (insn->op == IR_NEG) {
        emit_lea(e, insn->width, dst, x86_mem(dst, 1));
    }
    set_value(l, dst);
}

/* b is no operand that LEA, NOT or AND would not do: ANDN of BMI1. */
static void and_not(struct lower *l, const struct ir_insn *insn)
{
    flags_clobber(l);
    struct x86_rm a = use_rm(l, insn->operand[0]);
    unsigned b = use_reg(l, insn->operand[1]);
    unsigned dst = pick_dst(l);
    emit_vex(&l->e, X86_0F38 | 0xf2, insn->width == 8, dst, b, a);
    set_value(l, dst);
}

static void multiply(struct lower *l, const struct ir_insn *insn)
{
    struct emit *e = &l->e;
    int32_t imm = 0;
    flags_clobber(l);
    if (use_imm(l, insn->operand[1], insn->width, &imm)) {
        struct x86_rm a = use_rm(l, insn->operand[0]);
        unsigned dst = pick_dst(l);
        emit_rm(e, 0x69, insn->width, dst, a);
        emit_u32(e, (uint32_t)imm);
        set_value(l, dst);
        return;
    }
    struct x86_rm b = use_rm(l, insn->operand[1]);
    unsigned dst = pick_dst(l);
    bool same = !b.memory && b.base == dst;
    if (same) {
        b = use_rm(l, insn->operand[0]);
    } else {
        use_into(l, insn->operand[0], insn->width, dst);
    }
    emit_rm(e, X86_0F | 0xaf, insn->width, dst, b);
    set_value(l, dst);
}

/* RDX:RAX = a * b. */
static void multiply_high(struct lower *l, const struct ir_insn *insn)
{
    struct emit *e = &l->e;
    flags_clobber(l);
    take_reg(l, RDX);
    use_into(l, insn->operand[0], 8, RAX);
    struct x86_rm b = use_rm(l, insn->operand[1]);
    emit_rm(e, 0xf7, 8, insn->op == IR_MULHU ? 4 : 5, b);
    unsigned dst = pick_dst(l);
    emit_mov(e, 8, dst, RDX);
    set_value(l, dst);
}

/* By 0 is 0, and the most negative by -1 itself: x86 traps there. */
static void divide(struct lower *l, const struct ir_insn *insn)
{
    struct emit *e = &l->e;
    bool is_signed = insn->op == IR_SDIV;
    unsigned width = insn->width;
    uint8_t *negated = NULL;
    flags_clobber(l);
    take_reg(l, RDX);
    unsigned b = use_reg(l, insn->operand[1]);
    use_into(l, insn->operand[0], width, RAX);
    emit_rm(e, 0x85, width, b, x86_reg_rm(b));
    uint8_t *by_zero = emit_jcc8(e, X86_E);
    if (is_signed) {
        emit_alu_imm(e, X86_CMP, width, x86_reg_rm(b), -1);
        negated = emit_jcc8(e, X86_E);
        if (width == 8) {
            emit_byte(e, 0x48);
        }
        emit_byte(e, 0x99); /* cdq, cqo */
    } else {
        emit_alu(e, X86_XOR, 4, RDX, x86_reg_rm(RDX));
    }
    emit_rm(e, 0xf7, width, is_signed ? 7 : 6, x86_reg_rm(b));
    uint8_t *done = emit_jmp8(e);
    emit_here(e, by_zero);
    emit_alu(e, X86_XOR, 4, RAX, x86_reg_rm(RAX));
    uint8_t *zero_done = emit_jmp8(e);
    if (is_signed) {
        emit_here(e, negated);
        emit_rm(e, 0xf7, width, 3, x86_reg_rm(RAX));
    }
    emit_here(e, done);
    emit_here(e, zero_done);
    unsigned dst = pick_dst(l);
    emit_mov(e, width, dst, RAX);
    set_value(l, dst);
}

static void shift_by(struct lower *l, const struct ir_insn *insn, unsigned by)
{
    struct emit *e = &l->e;
    if (insn->op == IR_ROR) { /* rorx: no flags */
        struct x86_rm a = use_rm(l, insn->operand[0]);
        unsigned dst = pick_dst(l);
        emit_vex(e, X86_F2 | X86_0F3A | 0xf0, insn->width == 8, dst, 0, a);
        emit_byte(e, by);
        set_value(l, dst);
        return;
    }
    flags_clobber(l);
    unsigned dst = pick_dst(l);
    use_into(l, insn->operand[0], insn->width, dst);
    if (by == 0) {
        emit_mov(e, insn->width, dst, dst); /* 32 bits: with zeros above */
        set_value(l, dst);
        return;
    }
    emit_shift_imm(e,
                   insn->op == IR_SHL   ? X86_SHL
                   : insn->op == IR_SHR ? X86_SHR
                                        : X86_SAR,
                   insn->width, dst, by);
    set_value(l, dst);
}

/* x >> n | x << -n. */
static void rotate(struct lower *l, const struct ir_insn *insn)
{
    struct emit *e = &l->e;
    bool wide = insn->width == 8;
    flags_clobber(l);
    struct x86_rm a = use_rm(l, insn->operand[0]);
    unsigned by = use_reg(l, insn->operand[1]);
    unsigned rest = take_temp(l);
    emit_vex(e, X86_F2 | X86_0F38 | 0xf7, wide, RAX, by, a); /* shrx */
    emit_mov(e, 4, rest, by);
    emit_rm(e, 0xf7, 4, 3, x86_reg_rm(rest));
    emit_vex(e, X86_66 | X86_0F38 | 0xf7, wide, rest, rest, a); /* shlx */
    emit_alu(e, X86_OR, insn->width, rest, x86_reg_rm(RAX));
    set_value(l, rest);
}

static void shift(struct lower *l, const struct ir_insn *insn)
{
    uint64_t by = 0;
    if (ir_is_const(l->ir, insn->operand[1], &by)) {
        shift_by(l, insn, (unsigned)by & (insn->width * 8u - 1));
        return;
    }
    if (insn->op == IR_ROR) {
        rotate(l, insn);
        return;
    }
    static const uint32_t prefix[] = {
        [IR_SHL] = X86_66, [IR_SHR] = X86_F2, [IR_SAR] = X86_F3}; /* shlx, shrx, sarx */
    struct x86_rm a = use_rm(l, insn->operand[0]);
    unsigned count = use_reg(l, insn->operand[1]);
    unsigned dst = pick_dst(l);
    emit_vex(&l->e, prefix[insn->op] | X86_0F38 | 0xf7, insn->width == 8, dst, count, a);
    set_value(l, dst);
}

/* shrd low, high, imm: the width's bits from bit imm of high:low. */
static void extract(struct lower *l, const struct ir_insn *insn)
{
    struct emit *e = &l->e;
    flags_clobber(l);
    unsigned high = use_reg(l, insn->operand[0]);
    use_into(l, insn->operand[1], insn->width, RAX);
    emit_rm(e, X86_0F | 0xac, insn->width, high, x86_reg_rm(RAX));
    emit_byte(e, (unsigned)insn->imm);
    unsigned dst = pick_dst(l);
    emit_mov(e, insn->width, dst, RAX);
    set_value(l, dst);
}

static void extend(struct lower *l, const struct ir_insn *insn)
{
    struct emit *e = &l->e;
    struct x86_rm a = use_rm(l, insn->operand[0]);
    unsigned dst = pick_dst(l);
    bool sign = insn->op == IR_SEXT;
    if (insn->imm == 4 && !sign) {
        emit_load(e, 4, dst, a);
    } else if (insn->imm == 4) {
        emit_rm(e, 0x63, insn->width, dst, a);
    } else {
        uint32_t opcode = (sign ? 0xbeu : 0xb6u) | (insn->imm == 2 ? 1u : X86_BYTE);
        emit_rm(e, X86_0F | opcode, sign ? insn->width : 4, dst, a);
    }
    set_value(l, dst);
}

static void count_zeros(struct lower *l, const struct ir_insn *insn)
{
    flags_clobber(l);
    struct x86_rm a = use_rm(l, insn->operand[0]);
    unsigned dst = pick_dst(l);
    emit_rm(&l->e, X86_F3 | X86_0F | 0xbd, insn->width, dst, a); /* lzcnt */
    set_value(l, dst);
}

static void byte_swap(struct emit *e, unsigned width, unsigned reg)
{
    emit_byte(e, 0x40 | (width == 8 ? 8u : 0) | (reg >= R8 ? 1u : 0));
    emit_byte(e, 0x0f);
    emit_byte(e, 0xc8 | (reg & 7));
}

static void reverse_bytes(struct lower *l, const struct ir_insn *insn)
{
    struct emit *e = &l->e;
    if (insn->imm == insn->width) {
        unsigned dst = pick_dst(l);
        use_into(l, insn->operand[0], insn->width, dst);
        byte_swap(e, insn->width, dst);
        set_value(l, dst);
        return;
    }
    if (insn->imm == 4) { /* both halves: all of it, then the halves the other way round */
        unsigned dst = pick_dst(l);
        use_into(l, insn->operand[0], 8, dst);
        byte_swap(e, 8, dst);
        emit_vex(e, X86_F2 | X86_0F3A | 0xf0, true, dst, 0, x86_reg_rm(dst));
        emit_byte(e, 32);
        set_value(l, dst);
        return;
    }
    flags_clobber(l);
    unsigned odd = use_copy(l, insn->operand[0], insn->width);
    unsigned even = take_temp(l);
    emit_mov(e, 8, even, odd);
    emit_const(e, RAX, 0x00ff00ff00ff00ff);
    emit_shift_imm(e, X86_SHR, insn->width, odd, 8);
    emit_alu(e, X86_AND, insn->width, odd, x86_reg_rm(RAX));
    emit_alu(e, X86_AND, insn->width, even, x86_reg_rm(RAX));
    emit_shift_imm(e, X86_SHL, insn->width, even, 8);
    emit_alu(e, X86_OR, insn->width, odd, x86_reg_rm(even));
    set_value(l, odd);
}

/* Of neighbours by shifts and masks, then of bytes. */
static void reverse_bits(struct lower *l, const struct ir_insn *insn)
{
    static const uint64_t mask[] = {0x5555555555555555, 0x3333333333333333, 0x0f0f0f0f0f0f0f0f};
    struct emit *e = &l->e;
    unsigned width = insn->width;
    flags_clobber(l);
    unsigned work = use_copy(l, insn->operand[0], width);
    unsigned other = take_temp(l);
    for (unsigned i = 0; i < 3; i++) {
        emit_const(e, RAX, width == 4 ? (uint32_t)mask[i] : mask[i]);
        emit_mov(e, 8, other, work);
        emit_shift_imm(e, X86_SHR, width, other, 1u << i);
        emit_alu(e, X86_AND, width, other, x86_reg_rm(RAX));
        emit_alu(e, X86_AND, width, work, x86_reg_rm(RAX));
        emit_shift_imm(e, X86_SHL, width, work, 1u << i);
        emit_alu(e, X86_OR, width, work, x86_reg_rm(other));
    }
    byte_swap(e, width, work);
    set_value(l, work);
}

static void get_state(struct lower *l, const struct ir_insn *insn)
{
    struct x86_rm rm = x86_cpu((int32_t)insn->imm - X86_BIAS);
    unsigned dst = pick_dst(l);
    if (vector_get_lane(l, insn, dst)) {
        set_value(l, dst);
        return;
    }
    if (insn->width >= 4) {
        emit_load(&l->e, insn->width, dst, rm);
    } else {
        emit_rm(&l->e, X86_0F | (insn->width == 2 ? 0xb7u : 0xb6u), 4, dst, rm);
    }
    set_value(l, dst);
}

static void put_state(struct lower *l, const struct ir_insn *insn)
{
    struct x86_rm rm = x86_cpu((int32_t)insn->imm - X86_BIAS);
    use_into(l, insn->operand[0], 8, RAX);
    if (vector_put_lane(l, insn)) {
        return;
    }
    if (insn->width >= 4) {
        emit_store(&l->e, insn->width, rm, RAX);
    } else {
        emit_rm(&l->e, insn->width == 2 ? X86_WORD | 0x89u : X86_BYTE | 0x88u, 4, RAX, rm);
    }
}

static bool lower_arithmetic(struct lower *l, const struct ir_insn *insn)
{
    switch ((int)insn->op) {
    case IR_ADD:
    case IR_SUB:
        if (!add_by_lea(l, insn)) {
            flags_clobber(l);
            alu(l, insn, insn->op == IR_ADD ? X86_ADD : X86_SUB, insn->op == IR_ADD);
        }
        return true;
    case IR_AND:
    case IR_OR:
    case IR_XOR:
        flags_clobber(l);
        alu(l, insn, insn->op == IR_AND ? X86_AND : insn->op == IR_OR ? X86_OR : X86_XOR, true);
        return true;
    case IR_ANDN:
        and_not(l, insn);
        return true;
    case IR_NOT:
    case IR_NEG:
        negate(l, insn);
        return true;
    case IR_MUL:
        multiply(l, insn);
        return true;
    case IR_MULHU:
    case IR_MULHS:
        multiply_high(l, insn);
        return true;
    case IR_UDIV:
    case IR_SDIV:
        divide(l, insn);
        return true;
    default:
        return false;
    }
}

bool lower_integer(struct lower *l)
{
    const struct ir_insn *insn = lower_now(l);
    if (lower_arithmetic(l, insn)) {
        return true;
    }
    switch ((int)insn->op) {
    case IR_SHL:
    case IR_SHR:
    case IR_SAR:
    case IR_ROR:
        shift(l, insn);
        return true;
    case IR_EXTR:
        extract(l, insn);
        return true;
    case IR_ZEXT:
    case IR_SEXT:
        extend(l, insn);
        return true;
    case IR_CLZ:
        count_zeros(l, insn);
        return true;
    case IR_RBIT:
        reverse_bits(l, insn);
        return true;
    case IR_REV:
        reverse_bytes(l, insn);
        return true;
    case IR_GETSTATE:
        get_state(l, insn);
        return true;
    case IR_PUTSTATE:
        put_state(l, insn);
        return true;
    default:
        return false;
    }
}
