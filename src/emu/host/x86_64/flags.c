/*
 * flags.c - N, Z, C, V in the host's flags, and in cpu->flags as LAHF and SETO have them.
 */
#include "emu/host/x86_64/lower_internal.h"

/* S, Z and C in AH, V in AL: what PEXT gathers as V, C, Z, N from bit 0 up. */
#define FLAG_BITS 0xc101u

static void turn_carry(struct lower *l)
{
    emit_byte(&l->e, 0xf5); /* cmc */
    l->flags = l->flags == FLAGS_SUB ? FLAGS_ADD : FLAGS_SUB;
}

void flags_turn(struct lower *l, enum host_flags kind)
{
    if (l->flags != kind) {
        turn_carry(l);
    }
}

/* Less: N. Else C, and Z when equal. The host's are changed by it. */
static void save_float(struct lower *l)
{
    static const uint8_t code[] = {
        0x9f,             /* lahf: zero flag in bit 6 */
        0x0f, 0x92, 0xc0, /* setb al */
        0x80, 0xe4, 0x40, /* and ah, 64 */
        0x80, 0xc4, 0x01, /* add ah, 1 */
        0xf6, 0xd8,       /* neg al */
        0x24, 0x7f,       /* and al, 127 */
        0x00, 0xc4,       /* add ah, al: 128 when less */
        0xb0, 0x00,       /* mov al, 0 */
    };
    for (size_t i = 0; i < sizeof(code); i++) {
        emit_byte(&l->e, code[i]);
    }
    emit_rm(&l->e, X86_WORD | 0x89, 4, RAX, x86_cpu(X86_CPU(flags)));
    l->flags = FLAGS_NONE;
    l->flags_dirty = false;
}

void flags_save(struct lower *l)
{
    if (!l->flags_dirty) {
        return;
    }
    if (l->flags == FLAGS_FLOAT) {
        save_float(l);
        return;
    }
    flags_turn(l, FLAGS_ADD);
    emit_byte(&l->e, 0x9f); /* lahf */
    emit_rm(&l->e, X86_0F | X86_BYTE | 0x90 | X86_O, 4, 0, x86_reg_rm(RAX));
    emit_rm(&l->e, X86_WORD | 0x89, 4, RAX, x86_cpu(X86_CPU(flags)));
    l->flags_dirty = false;
}

void flags_clobber(struct lower *l)
{
    if (lower_now(l)->keep_flags) {
        flags_save(l);
    }
    l->flags = FLAGS_NONE;
    l->flags_dirty = false;
}

void flags_set(struct lower *l, enum host_flags kind)
{
    l->flags = kind;
    l->flags_dirty = true;
}

/* From AX. */
static void flags_from_ax(struct lower *l)
{
    emit_byte(&l->e, 0x04); /* add al, 127: overflow when it was 1 */
    emit_byte(&l->e, 0x7f);
    emit_byte(&l->e, 0x9e); /* sahf */
}

void flags_need(struct lower *l)
{
    if (l->flags != FLAGS_NONE) {
        return;
    }
    emit_rm(&l->e, X86_0F | 0xb7, 4, RAX, x86_cpu(X86_CPU(flags)));
    flags_from_ax(l);
    l->flags = FLAGS_ADD;
}

void flags_arithmetic(struct lower *l)
{
    if (l->flags == FLAGS_FLOAT) {
        flags_save(l);
    }
    flags_need(l);
}

static enum x86_cond float_cond(enum ir_cond cond)
{
    static const uint8_t plain[] = {
        [IR_EQ] = X86_E,  [IR_NE] = X86_NE, [IR_CS] = X86_AE, [IR_CC] = X86_B,
        [IR_MI] = X86_B,  [IR_PL] = X86_AE, [IR_HI] = X86_A,  [IR_LS] = X86_BE,
        [IR_GE] = X86_AE, [IR_LT] = X86_B,  [IR_GT] = X86_A,  [IR_LE] = X86_BE,
    };
    return (enum x86_cond)plain[cond];
}

enum x86_cond flags_cond(struct lower *l, enum ir_cond cond)
{
    static const uint8_t plain[] = {
        [IR_EQ] = X86_E,  [IR_NE] = X86_NE, [IR_MI] = X86_S, [IR_PL] = X86_NS, [IR_VS] = X86_O,
        [IR_VC] = X86_NO, [IR_GE] = X86_GE, [IR_LT] = X86_L, [IR_GT] = X86_G,  [IR_LE] = X86_LE,
    };
    if (l->flags == FLAGS_FLOAT && cond != IR_VS && cond != IR_VC) {
        return float_cond(cond);
    }
    flags_arithmetic(l);
    switch ((int)cond) {
    case IR_CS:
        return l->flags == FLAGS_SUB ? X86_AE : X86_B;
    case IR_CC:
        return l->flags == FLAGS_SUB ? X86_B : X86_AE;
    case IR_HI:
        flags_turn(l, FLAGS_SUB);
        return X86_A;
    case IR_LS:
        flags_turn(l, FLAGS_SUB);
        return X86_BE;
    default:
        return (enum x86_cond)plain[cond];
    }
}

static void lower_sub(struct lower *l, const struct ir_insn *insn)
{
    struct emit *e = &l->e;
    ir_value a = insn->operand[0];
    ir_value b = insn->operand[1];
    int32_t imm = 0;
    if (insn->uses == 0 && use_imm(l, b, insn->width, &imm)) {
        emit_alu_imm(e, X86_CMP, insn->width, use_rm(l, a), imm);
    } else if (insn->uses == 0) {
        unsigned left = use_reg(l, a);
        emit_alu(e, X86_CMP, insn->width, left, use_rm(l, b));
    } else {
        bool small = use_imm(l, b, insn->width, &imm);
        struct x86_rm right = small ? x86_reg_rm(RAX) : use_rm(l, b);
        unsigned dst = pick_dst(l);
        bool same = !right.memory && right.base == dst && !small;
        unsigned work = same ? RAX : dst;
        use_into(l, a, insn->width, work);
        if (small) {
            emit_alu_imm(e, X86_SUB, insn->width, x86_reg_rm(work), imm);
        } else {
            emit_alu(e, X86_SUB, insn->width, work, right);
        }
        if (same) {
            emit_mov(e, 8, dst, RAX);
        }
        set_value(l, dst);
    }
    flags_set(l, FLAGS_SUB);
}

/* ADDF, ANDF. */
static void lower_commutative(struct lower *l, const struct ir_insn *insn, enum x86_alu op)
{
    struct emit *e = &l->e;
    ir_value a = insn->operand[0];
    ir_value b = insn->operand[1];
    int32_t imm = 0;
    bool small = use_imm(l, b, insn->width, &imm);
    if (insn->uses == 0 && op == X86_AND && !small) {
        struct x86_rm right = use_rm(l, b);
        emit_rm(e, 0x85, insn->width, use_reg(l, a), right);
        flags_set(l, FLAGS_ADD);
        return;
    }
    if (insn->uses == 0 && op == X86_AND) {
        emit_rm(e, 0xf7, insn->width, 0, use_rm(l, a));
        emit_u32(e, (uint32_t)imm);
        flags_set(l, FLAGS_ADD);
        return;
    }
    struct x86_rm right = small ? x86_reg_rm(RAX) : use_rm(l, b);
    unsigned dst = insn->uses == 0 ? RAX : pick_dst(l);
    if (!small && !right.memory && right.base == dst) {
        right = use_rm(l, a); /* the other way round */
        emit_alu(e, op, insn->width, dst, right);
    } else {
        use_into(l, a, insn->width, dst);
        if (small) {
            emit_alu_imm(e, op, insn->width, x86_reg_rm(dst), imm);
        } else {
            emit_alu(e, op, insn->width, dst, right);
        }
    }
    if (insn->uses != 0) {
        set_value(l, dst);
    }
    flags_set(l, FLAGS_ADD);
}

/* ADC, SBC and those that set flags. */
static void lower_with_carry(struct lower *l, const struct ir_insn *insn, bool add, bool sets)
{
    struct emit *e = &l->e;
    struct x86_rm right = use_rm(l, insn->operand[1]);
    unsigned left = use_copy(l, insn->operand[0], insn->width);
    flags_arithmetic(l);
    if (!sets && insn->keep_flags) {
        flags_save(l);
    }
    flags_turn(l, add ? FLAGS_ADD : FLAGS_SUB);
    emit_alu(e, add ? X86_ADC : X86_SBB, insn->width, left, right);
    set_value(l, left);
    if (sets) {
        flags_set(l, add ? FLAGS_ADD : FLAGS_SUB);
    } else {
        l->flags = FLAGS_NONE;
        l->flags_dirty = false;
    }
}

/* CCMPF, CCMNF: of a comparison, or given ones. */
static void lower_conditional(struct lower *l, const struct ir_insn *insn)
{
    struct emit *e = &l->e;
    bool sub = insn->op == IR_CCMPF;
    struct x86_rm right = use_rm(l, insn->operand[1]);
    unsigned left = sub ? use_reg(l, insn->operand[0]) : use_copy(l, insn->operand[0], insn->width);
    flags_need(l);
    uint8_t *given = emit_jcc8(e, flags_cond(l, (enum ir_cond)insn->cond) ^ 1u);
    emit_alu(e, sub ? X86_CMP : X86_ADD, insn->width, left, right);
    uint8_t *done = emit_jmp8(e);
    emit_here(e, given);
    uint32_t nzcv = (uint32_t)insn->imm;
    bool carry = (nzcv & ARM64_C) != 0;
    emit_const(e, RAX,
               ((nzcv & ARM64_N) != 0 ? 0x8000u : 0) | ((nzcv & ARM64_Z) != 0 ? 0x4000u : 0) |
                   (carry != sub ? 0x100u : 0) | ((nzcv & ARM64_V) != 0 ? 1u : 0));
    flags_from_ax(l);
    emit_here(e, done);
    flags_set(l, sub ? FLAGS_SUB : FLAGS_ADD);
}

static void lower_select(struct lower *l, const struct ir_insn *insn)
{
    struct emit *e = &l->e;
    uint64_t a = 0;
    uint64_t b = 0;
    if (ir_is_const(l->ir, insn->operand[0], &a) && ir_is_const(l->ir, insn->operand[1], &b) &&
        a == 1 && b == 0) {
        flags_need(l);
        unsigned dst = pick_dst(l);
        emit_rm(e, X86_0F | X86_BYTE | 0x90u | flags_cond(l, (enum ir_cond)insn->cond), 4, 0,
                x86_reg_rm(RAX));
        emit_rm(e, X86_0F | X86_BYTE | 0xb6, 4, dst, x86_reg_rm(RAX));
        set_value(l, dst);
        return;
    }
    struct x86_rm yes = use_rm(l, insn->operand[0]);
    struct x86_rm no = use_rm(l, insn->operand[1]);
    unsigned dst = pick_dst(l);
    flags_need(l);
    enum x86_cond cond = flags_cond(l, (enum ir_cond)insn->cond);
    if (!yes.memory && yes.base == dst) {
        struct x86_rm swap = yes;
        yes = no;
        no = swap;
        cond ^= 1;
    }
    emit_load(e, insn->width, dst, no);
    emit_rm(e, X86_0F | 0x40u | cond, insn->width, dst, yes);
    set_value(l, dst);
}

static void lower_get_nzcv(struct lower *l)
{
    flags_need(l);
    flags_save(l);
    flags_clobber(l);
    unsigned dst = pick_dst(l);
    emit_rm(&l->e, X86_0F | 0xb7, 4, RAX, x86_cpu(X86_CPU(flags)));
    unsigned mask = take_temp(l);
    emit_const(&l->e, mask, FLAG_BITS);
    emit_vex(&l->e, X86_F3 | X86_0F38 | 0xf5, false, dst, RAX, x86_reg_rm(mask)); /* pext */
    emit_shift_imm(&l->e, X86_SHL, 4, dst, 28);
    set_value(l, dst);
}

static void lower_put_nzcv(struct lower *l, const struct ir_insn *insn)
{
    unsigned value = use_copy(l, insn->operand[0], 4);
    emit_shift_imm(&l->e, X86_SHR, 4, value, 28);
    unsigned mask = take_temp(l);
    emit_const(&l->e, mask, FLAG_BITS);
    emit_vex(&l->e, X86_F2 | X86_0F38 | 0xf5, false, RAX, value, x86_reg_rm(mask)); /* pdep */
    emit_rm(&l->e, X86_WORD | 0x89, 4, RAX, x86_cpu(X86_CPU(flags)));
    l->flags = FLAGS_NONE;
    l->flags_dirty = false;
}

bool lower_flags(struct lower *l)
{
    const struct ir_insn *insn = lower_now(l);
    switch ((int)insn->op) {
    case IR_SUBF:
        lower_sub(l, insn);
        return true;
    case IR_ADDF:
    case IR_ANDF:
        lower_commutative(l, insn, insn->op == IR_ADDF ? X86_ADD : X86_AND);
        return true;
    case IR_ADC:
    case IR_ADCF:
        lower_with_carry(l, insn, true, insn->op == IR_ADCF);
        return true;
    case IR_SBC:
    case IR_SBCF:
        lower_with_carry(l, insn, false, insn->op == IR_SBCF);
        return true;
    case IR_CCMPF:
    case IR_CCMNF:
        lower_conditional(l, insn);
        return true;
    case IR_SELECT:
        lower_select(l, insn);
        return true;
    case IR_GETNZCV:
        lower_get_nzcv(l);
        return true;
    case IR_PUTNZCV:
        lower_put_nzcv(l, insn);
        return true;
    default:
        return false;
    }
}
