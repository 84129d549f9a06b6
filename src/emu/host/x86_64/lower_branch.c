/*
 * lower_branch.c - where a block goes on: direct, conditional, indirect, calls and returns.
 */
#include "emu/host/x86_64/lower_internal.h"

/* Flags that are wanted where a jump leads that cannot save them on its way. */
static void save_for_exit(struct lower *l)
{
    if (lower_now(l)->exit_flags) {
        flags_save(l);
    }
}

static bool must_save(const struct lower *l)
{
    return l->flags_dirty && lower_now(l)->exit_flags;
}

static void branch_on_flags(struct lower *l, const struct ir_insn *insn)
{
    flags_need(l);
    enum x86_cond cond = flags_cond(l, (enum ir_cond)insn->cond);
    uint8_t *place = emit_jcc32(&l->e, cond);
    add_way_out(l, place, (uint64_t)insn->imm, must_save(l));
}

/* The test changes the host's flags: to the state with them when anybody may want them. */
static void branch_on_value(struct lower *l, const struct ir_insn *insn, bool bit, bool when_zero)
{
    struct emit *e = &l->e;
    flags_clobber(l);
    if (!bit) {
        struct x86_rm a = use_rm(l, insn->operand[0]);
        if (a.memory) {
            emit_alu_imm(e, X86_CMP, insn->width, a, 0);
        } else {
            emit_rm(e, 0x85, insn->width, a.base, a);
        }
        add_way_out(l, emit_jcc32(e, when_zero ? X86_E : X86_NE), (uint64_t)insn->imm, false);
        return;
    }
    unsigned reg = use_reg(l, insn->operand[0]);
    emit_rm(e, X86_0F | 0xba, 8, 4, x86_reg_rm(reg)); /* bt reg, imm8 */
    emit_byte(e, insn->scale);
    add_way_out(l, emit_jcc32(e, when_zero ? X86_AE : X86_B), (uint64_t)insn->imm, false);
}

/* What returned comes here, with the guest's address still on the stack. */
static void after_call(struct lower *l, uint64_t pc)
{
    emit_lea(&l->e, 8, RSP, x86_mem(RSP, 8));
    add_way_out(l, emit_jmp32(&l->e), pc, false);
}

/* The pair for the return: its second half is what CALL pushes. */
static void push_return(struct lower *l)
{
    struct emit *e = &l->e;
    emit_alu(e, X86_CMP, 8, RSP, x86_cpu(X86_CPU(returns_limit)));
    uint8_t *room = emit_jcc8(e, X86_A);
    emit_load(e, 8, RSP, x86_cpu(X86_CPU(returns_top)));
    emit_here(e, room);
    unsigned reg = x86_pinned(30);
    if (reg >= R8) {
        emit_byte(e, 0x41);
    }
    emit_byte(e, 0x50 | (reg & 7));
}

static void call_to(struct lower *l, const struct ir_insn *insn)
{
    save_for_exit(l);
    push_return(l);
    add_way_out(l, emit_call32(&l->e), (uint64_t)insn->imm, false);
    after_call(l, lower_pc(l) + 4);
}

/* RAX: the guest's address. The entry of the table is behind RCX, or it is a miss. */
static uint8_t *find_target(struct lower *l)
{
    struct emit *e = &l->e;
    emit_mov(e, 4, RCX, RAX);
    emit_shift_imm(e, X86_SHL, 4, RCX, 2);
    emit_alu_imm(e, X86_AND, 4, x86_reg_rm(RCX), (int32_t)((EMU_TARGETS - 1) << 4));
    emit_alu(e, X86_ADD, 8, RCX, x86_cpu(X86_CPU(targets)));
    emit_rm(e, 0x39, 8, RAX, x86_mem(RCX, 0));
    return emit_jcc8(e, X86_NE);
}

static void jump_indirect(struct lower *l, const struct ir_insn *insn)
{
    struct emit *e = &l->e;
    save_for_exit(l);
    use_into(l, insn->operand[0], 8, RAX);
    if (insn->cond == IR_JUMP_RETURN) {
        emit_alu(e, X86_CMP, 8, RAX, x86_mem(RSP, 8));
        uint8_t *other = emit_jcc8(e, X86_NE);
        emit_byte(e, 0xc3);
        emit_here(e, other);
        emit_rm(e, 0xff, 4, 4, x86_cpu(X86_CPU(thunk_return)));
        return;
    }
    bool call = insn->cond == IR_JUMP_CALL;
    if (call) {
        push_return(l);
    }
    uint8_t *miss = find_target(l);
    emit_rm(e, 0xff, 4, call ? 2 : 4, x86_mem(RCX, 8));
    uint8_t *back = call ? emit_jmp8(e) : NULL;
    emit_here(e, miss);
    emit_rm(e, 0xff, 4, call ? 2 : 4, x86_cpu(X86_CPU(thunk_lookup)));
    if (call) {
        emit_here(e, back);
        after_call(l, lower_pc(l) + 4);
    }
}

bool lower_branch(struct lower *l)
{
    const struct ir_insn *insn = lower_now(l);
    switch ((int)insn->op) {
    case IR_BRCOND:
        branch_on_flags(l, insn);
        return true;
    case IR_BRZERO:
    case IR_BRNONZERO:
        branch_on_value(l, insn, false, insn->op == IR_BRZERO);
        return true;
    case IR_BRBIT0:
    case IR_BRBIT1:
        branch_on_value(l, insn, true, insn->op == IR_BRBIT0);
        return true;
    case IR_JUMP:
        save_for_exit(l);
        add_way_out(l, emit_jmp32(&l->e), (uint64_t)insn->imm, false);
        return true;
    case IR_CALLTO:
        call_to(l, insn);
        return true;
    case IR_JUMPIND:
        jump_indirect(l, insn);
        return true;
    default:
        return false;
    }
}
