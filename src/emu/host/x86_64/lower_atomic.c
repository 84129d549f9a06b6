/*
 * lower_atomic.c - what is atomic in memory. x86's locked operations are sequentially consistent,
 * which is as strong as any acquire and release.
 */
#include "emu/host/x86_64/lower_internal.h"

/* Of the size: opcode for words and more, opcode - 1 for bytes. lock: the prefix. */
static void locked(struct lower *l, bool lock, uint32_t opcode, unsigned size, unsigned reg,
                   unsigned address)
{
    struct emit *e = &l->e;
    note_fault(l);
    if (lock) {
        emit_byte(e, 0xf0);
    }
    if (size == 1) {
        opcode = (opcode - 1) | X86_BYTE;
    } else if (size == 2) {
        opcode |= X86_WORD;
    }
    emit_rm(e, opcode, size == 8 ? 8 : 4, reg, x86_mem(address, 0));
}

#define CMPXCHG (X86_0F | 0xb1)
#define XADD (X86_0F | 0xc1)
#define XCHG 0x87u

/* The value of the operation: what was in memory, of the size, is in RAX. */
static void set_old(struct lower *l, unsigned size)
{
    struct emit *e = &l->e;
    unsigned dst = pick_dst(l);
    if (size >= 4) {
        emit_mov(e, size, dst, RAX);
    } else {
        emit_rm(e, X86_0F | (size == 2 ? 0xb7u : X86_BYTE | 0xb6u), 4, dst, x86_reg_rm(RAX));
    }
    set_value(l, dst);
}

static void compare_and_swap(struct lower *l, const struct ir_insn *insn)
{
    flags_clobber(l);
    unsigned address = use_reg(l, insn->operand[0]);
    unsigned fresh = use_reg(l, insn->operand[2]);
    use_into(l, insn->operand[1], 8, RAX);
    locked(l, true, CMPXCHG, insn->size, fresh, address);
    set_old(l, insn->size);
}

static void load_old(struct lower *l, unsigned size, bool sext, unsigned dst, unsigned address)
{
    struct emit *e = &l->e;
    note_fault(l);
    if (size >= 4) {
        emit_load(e, size, dst, x86_mem(address, 0));
    } else {
        emit_rm(e, X86_0F | (sext ? 0xbeu : 0xb6u) | (size == 2 ? 1u : 0), 4, dst,
                x86_mem(address, 0));
    }
}

/* RAX, extended as the comparison wants it, to reg. */
static void extend_old(struct lower *l, unsigned size, bool sext, unsigned reg)
{
    struct emit *e = &l->e;
    if (size >= 4) {
        emit_mov(e, size, reg, RAX);
    } else {
        emit_rm(e, X86_0F | (sext ? 0xbeu : 0xb6u) | (size == 2 ? 1u : X86_BYTE), 4, reg,
                x86_reg_rm(RAX));
    }
}

/* reg = what is to be written, of the old value in RAX and the operand b. */
static void combine(struct lower *l, const struct ir_insn *insn, unsigned reg, struct x86_rm b)
{
    struct emit *e = &l->e;
    unsigned width = insn->size == 8 ? 8 : 4;
    enum ir_atomic kind = (enum ir_atomic)insn->imm;
    bool is_signed = kind == IR_FETCH_SMAX || kind == IR_FETCH_SMIN;
    extend_old(l, insn->size, is_signed, reg);
    switch ((int)kind) {
    case IR_FETCH_CLEAR: /* a & ~b is ~(~a | b): no more registers */
        emit_rm(e, 0xf7, width, 2, x86_reg_rm(reg));
        emit_alu(e, X86_OR, width, reg, b);
        emit_rm(e, 0xf7, width, 2, x86_reg_rm(reg));
        break;
    case IR_FETCH_XOR:
        emit_alu(e, X86_XOR, width, reg, b);
        break;
    case IR_FETCH_OR:
        emit_alu(e, X86_OR, width, reg, b);
        break;
    default: {
        static const uint8_t replaces[] = {[IR_FETCH_SMAX] = X86_L,
                                           [IR_FETCH_SMIN] = X86_G,
                                           [IR_FETCH_UMAX] = X86_B,
                                           [IR_FETCH_UMIN] = X86_A};
        emit_alu(e, X86_CMP, width, reg, b);
        emit_rm(e, X86_0F | 0x40u | replaces[kind], width, reg, b);
    }
    }
}

/* Until nobody came between. */
static void by_loop(struct lower *l, const struct ir_insn *insn)
{
    struct emit *e = &l->e;
    unsigned address = use_reg(l, insn->operand[0]);
    unsigned fresh = take_temp(l);
    struct x86_rm b = use_rm(l, insn->operand[1]);
    load_old(l, insn->size, false, RAX, address);
    uint8_t *again = e->p;
    combine(l, insn, fresh, b);
    locked(l, true, CMPXCHG, insn->size, fresh, address);
    uint8_t *end = emit_jcc8(e, X86_NE);
    if (!e->full) {
        end[-1] = (uint8_t)(again - end);
    }
    set_old(l, insn->size);
}

static void read_modify_write(struct lower *l, const struct ir_insn *insn)
{
    flags_clobber(l);
    if (insn->imm != IR_SWAP && insn->imm != IR_FETCH_ADD) {
        by_loop(l, insn);
        return;
    }
    unsigned address = use_reg(l, insn->operand[0]);
    use_into(l, insn->operand[1], 8, RAX);
    bool add = insn->imm == IR_FETCH_ADD;
    locked(l, add, add ? XADD : XCHG, insn->size, RAX, address);
    set_old(l, insn->size);
}

/* When the monitor is set for the address and size, and memory has what it had then. */
static void store_exclusive(struct lower *l, const struct ir_insn *insn)
{
    struct emit *e = &l->e;
    flags_clobber(l);
    unsigned address = use_reg(l, insn->operand[0]);
    unsigned fresh = use_reg(l, insn->operand[1]);
    emit_alu_imm(e, X86_CMP, 4, x86_cpu(X86_CPU(state.exclusive_size)), insn->size);
    uint8_t *not_set = emit_jcc8(e, X86_NE);
    emit_alu(e, X86_CMP, 8, address, x86_cpu(X86_CPU(state.exclusive_address)));
    uint8_t *elsewhere = emit_jcc8(e, X86_NE);
    emit_load(e, 8, RAX, x86_cpu(X86_CPU(state.exclusive_value)));
    locked(l, true, CMPXCHG, insn->size, fresh, address);
    emit_here(e, not_set);
    emit_here(e, elsewhere);
    emit_rm(e, X86_0F | X86_BYTE | 0x90 | X86_NE, 4, 0, x86_reg_rm(RAX));
    emit_rm(e, 0xc7, 4, 0, x86_cpu(X86_CPU(state.exclusive_size)));
    emit_u32(e, 0);
    unsigned dst = pick_dst(l);
    emit_rm(e, X86_0F | X86_BYTE | 0xb6, 4, dst, x86_reg_rm(RAX));
    set_value(l, dst);
}

/* Of vectors and floats: they do not touch the slots. */
static void call(struct lower *l, const struct ir_insn *insn)
{
    struct emit *e = &l->e;
    if (lower_vector(l) || lower_float(l)) {
        return;
    }
    flags_clobber(l);
    if (insn->operand[0] != IR_NONE) {
        take_reg(l, RDX);
        use_into(l, insn->operand[0], 8, RDX);
    }
    l->locked = 0;
    for (unsigned reg = RCX; reg <= RDX; reg++) {
        take_reg(l, reg);
    }
    emit_const(e, RCX, (uint64_t)insn->imm);
    emit_address(l, RAX, (uint64_t)(uintptr_t)insn->fn, BLOCK_RELOC_FN);
    emit_rm(e, 0xff, 4, 2, x86_cpu(X86_CPU(thunk_call)));
    unsigned dst = pick_dst(l);
    emit_mov(e, 8, dst, RAX);
    set_value(l, dst);
}

bool lower_atomic(struct lower *l)
{
    const struct ir_insn *insn = lower_now(l);
    switch ((int)insn->op) {
    case IR_CAS:
        compare_and_swap(l, insn);
        return true;
    case IR_ATOMIC:
        read_modify_write(l, insn);
        return true;
    case IR_STX:
        store_exclusive(l, insn);
        return true;
    case IR_FENCE:
        emit_byte(&l->e, 0x0f); /* mfence */
        emit_byte(&l->e, 0xae);
        emit_byte(&l->e, 0xf0);
        return true;
    case IR_CALL:
        call(l, insn);
        return true;
    default:
        return false;
    }
}
