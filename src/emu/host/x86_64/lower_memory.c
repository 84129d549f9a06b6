/*
 * lower_memory.c - loads and stores of guest memory, whose addresses are the host's.
 */
#include "emu/host/x86_64/lower_internal.h"

static struct x86_rm address(struct lower *l, const struct ir_insn *insn)
{
    struct x86_rm rm = x86_mem(use_reg(l, insn->operand[0]), (int32_t)insn->imm);
    if (insn->operand[1] != IR_NONE) {
        rm.index = (uint8_t)use_reg(l, insn->operand[1]);
        rm.scale = insn->scale;
    }
    return rm;
}

static void load(struct lower *l, const struct ir_insn *insn)
{
    struct emit *e = &l->e;
    struct x86_rm rm = address(l, insn);
    unsigned dst = pick_dst(l);
    note_fault(l);
    if (insn->size == 8 || (insn->size == 4 && !insn->sext)) {
        emit_load(e, insn->size, dst, rm);
    } else if (insn->size == 4) {
        emit_rm(e, 0x63, insn->width, dst, rm);
    } else {
        uint32_t opcode = (insn->sext ? 0xbeu : 0xb6u) | (insn->size == 2 ? 1u : 0);
        emit_rm(e, X86_0F | opcode, insn->sext ? insn->width : 4, dst, rm);
    }
    set_value(l, dst);
}

static void store_reg(struct lower *l, unsigned size, struct x86_rm rm, unsigned reg)
{
    note_fault(l);
    if (size >= 4) {
        emit_store(&l->e, size, rm, reg);
    } else {
        emit_rm(&l->e, size == 2 ? X86_WORD | 0x89u : X86_BYTE | 0x88u, 4, reg, rm);
    }
}

static void store_imm(struct lower *l, unsigned size, struct x86_rm rm, int32_t imm)
{
    struct emit *e = &l->e;
    note_fault(l);
    if (size == 1) {
        emit_rm(e, 0xc6, 4, 0, rm);
        emit_byte(e, (uint8_t)imm);
    } else if (size == 2) {
        emit_rm(e, X86_WORD | 0xc7, 4, 0, rm);
        emit_byte(e, imm & 0xff);
        emit_byte(e, imm >> 8 & 0xff);
    } else {
        emit_rm(e, 0xc7, size, 0, rm);
        emit_u32(e, (uint32_t)imm);
    }
}

static void store(struct lower *l, const struct ir_insn *insn)
{
    struct x86_rm rm = address(l, insn);
    int32_t imm = 0;
    if (use_imm(l, insn->operand[2], insn->size == 8 ? 8 : 4, &imm)) {
        store_imm(l, insn->size, rm, imm);
        return;
    }
    struct x86_rm value = use_rm(l, insn->operand[2]);
    if (value.memory) {
        emit_load(&l->e, 8, RAX, value);
        value = x86_reg_rm(RAX);
    }
    store_reg(l, insn->size, rm, value.base);
}

/* vmovdqu x, rm / vmovdqu rm, x. */
static void move_vector(struct emit *e, bool to_memory, struct x86_rm rm, unsigned x)
{
    emit_vex(e, X86_F3 | X86_0F | (to_memory ? 0x7fu : 0x6fu), false, x, 0, rm);
}

/* What faults leaves the register as it was. */
static void load_vector(struct lower *l, const struct ir_insn *insn)
{
    struct emit *e = &l->e;
    struct x86_rm rm = address(l, insn);
    unsigned x = vector_dst(insn->reg);
    note_fault(l);
    if (insn->size == 16) {
        move_vector(e, false, rm, x);
    } else if (insn->size >= 4) {
        /* vmovq xmm, m64; vmovd xmm, m32 */
        emit_vex(e, insn->size == 8 ? X86_F3 | X86_0F | 0x7eu : X86_66 | X86_0F | 0x6eu, false, x,
                 0, rm);
    } else {
        emit_rm(e, X86_0F | (insn->size == 2 ? 0xb7u : 0xb6u), 4, RAX, rm);
        emit_vex(e, X86_66 | X86_0F | 0x6e, false, x, 0, x86_reg_rm(RAX));
    }
    vector_out(l, insn->reg, x, 16);
}

static void store_vector(struct lower *l, const struct ir_insn *insn)
{
    struct emit *e = &l->e;
    struct x86_rm rm = address(l, insn);
    if (insn->size >= 4) {
        unsigned x = vector_in(l, insn->reg, X0);
        note_fault(l);
        if (insn->size == 16) {
            move_vector(e, true, rm, x);
        } else {
            /* vmovq m64, xmm; vmovd m32, xmm */
            emit_vex(e, X86_66 | X86_0F | (insn->size == 8 ? 0xd6u : 0x7eu), false, x, 0, rm);
        }
        return;
    }
    struct x86_rm value = vector_rm(insn->reg);
    if (value.memory) {
        emit_load(e, 4, RAX, value);
    } else {
        emit_vex(e, X86_66 | X86_0F | 0x7e, false, value.base, 0, x86_reg_rm(RAX)); /* vmovd */
    }
    store_reg(l, insn->size, rm, RAX);
}

static void copy_vector(struct lower *l, const struct ir_insn *insn)
{
    vector_out(l, insn->reg, vector_in(l, (unsigned)insn->imm, X0), 16);
}

bool lower_memory(struct lower *l)
{
    const struct ir_insn *insn = lower_now(l);
    switch ((int)insn->op) {
    case IR_LOAD:
        load(l, insn);
        return true;
    case IR_STORE:
        store(l, insn);
        return true;
    case IR_LOADV:
        load_vector(l, insn);
        return true;
    case IR_STOREV:
        store_vector(l, insn);
        return true;
    case IR_COPYV:
        copy_vector(l, insn);
        return true;
    default:
        return false;
    }
}
