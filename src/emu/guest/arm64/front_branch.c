/*
 * front_branch.c - branches, exceptions, system instructions (Arm ARM, C4.1.93).
 */
#include <stddef.h>
#include <time.h>

#include "emu/cpu.h"
#include "emu/guest/arm64/control.h"
#include "emu/guest/arm64/front_internal.h"

static uint64_t target_of(const struct front *f, int32_t words)
{
    return f->pc + (uint64_t)((int64_t)words * 4);
}

static struct ir_insn *add_branch(struct front *f, enum ir_op op, uint64_t target)
{
    struct ir_insn *insn = ir_add(f->ir, op, NULL);
    insn->imm = (int64_t)target;
    return insn;
}

static bool front_b(struct front *f, const struct a64_args *a)
{
    front_branch(f, target_of(f, a->imm));
    return true;
}

static bool front_b_cond(struct front *f, const struct a64_args *a)
{
    if (a->cond >= IR_AL) {
        return front_b(f, a);
    }
    add_branch(f, IR_BRCOND, target_of(f, a->imm))->cond = (uint8_t)a->cond;
    return true;
}

static bool front_bl(struct front *f, const struct a64_args *a)
{
    ir_put(f->ir, 30, ir_const_pc(f->ir, f->pc + 4));
    add_branch(f, IR_CALLTO, target_of(f, a->imm));
    f->ended = true;
    return true;
}

static bool front_cbz(struct front *f, const struct a64_args *a)
{
    ir_value v = front_x(f, a->rt);
    struct ir_insn *insn =
        add_branch(f, a->nz != 0 ? IR_BRNONZERO : IR_BRZERO, target_of(f, a->imm));
    insn->width = (uint8_t)front_width(a->sf);
    insn->operand[0] = v;
    return true;
}

static bool front_tbz(struct front *f, const struct a64_args *a)
{
    ir_value v = front_x(f, a->rt);
    struct ir_insn *insn = add_branch(f, a->nz != 0 ? IR_BRBIT1 : IR_BRBIT0, target_of(f, a->imm));
    insn->operand[0] = v;
    insn->scale = (uint8_t)(a->b5 << 5 | a->b40);
    return true;
}

static bool indirect(struct front *f, int32_t rn, enum ir_jump kind)
{
    ir_value v = front_x(f, rn);
    if (kind == IR_JUMP_CALL) {
        ir_put(f->ir, 30, ir_const_pc(f->ir, f->pc + 4));
    }
    struct ir_insn *insn = ir_add(f->ir, IR_JUMPIND, NULL);
    insn->cond = (uint8_t)kind;
    insn->operand[0] = v;
    f->ended = true;
    return true;
}

static bool front_br(struct front *f, const struct a64_args *a)
{
    return indirect(f, a->rn, IR_JUMP_PLAIN);
}

static bool front_blr(struct front *f, const struct a64_args *a)
{
    return indirect(f, a->rn, IR_JUMP_CALL);
}

static bool front_ret(struct front *f, const struct a64_args *a)
{
    return indirect(f, a->rn, IR_JUMP_RETURN);
}

static bool front_svc(struct front *f, const struct a64_args *a)
{
    (void)a;
    front_exit(f, EMU_EXIT_SYSCALL, f->pc + 4);
    return true;
}

static bool front_brk(struct front *f, const struct a64_args *a)
{
    (void)a;
    front_exit(f, EMU_EXIT_BREAKPOINT, f->pc);
    return true;
}

/* NOP, YIELD, BTI, and pointer authentication, which this CPU does not have. */
static bool front_hint(struct front *f, const struct a64_args *a)
{
    (void)f;
    (void)a;
    return true;
}

static bool front_clrex(struct front *f, const struct a64_args *a)
{
    (void)a;
    front_put_state(f, offsetof(struct arm64_state, exclusive_size), 4, ir_const(f->ir, 0));
    return true;
}

/* x86 lets only loads pass earlier stores: a barrier for loads alone (ISHLD and so on) is none. */
static bool front_dsb(struct front *f, const struct a64_args *a)
{
    if ((a->crm & 3) != 1) {
        (void)ir_add(f->ir, IR_FENCE, NULL);
    }
    return true;
}

static bool front_isb(struct front *f, const struct a64_args *a)
{
    (void)a;
    front_branch(f, f->pc + 4);
    return true;
}

/* o0, op1, CRn, CRm, op2 of registers (o0 is 2 or 3 in the manual). */
#define REGISTER(op0, op1, crn, crm, op2)                                                          \
    ((uint32_t)((op0)-2) << 14 | (op1) << 11 | (crn) << 7 | (crm) << 3 | (op2))
#define NZCV REGISTER(3, 3, 4, 2, 0)
#define FPCR REGISTER(3, 3, 4, 4, 0)
#define FPSR REGISTER(3, 3, 4, 4, 1)
#define TPIDR_EL0 REGISTER(3, 3, 13, 0, 2)
#define TPIDRRO_EL0 REGISTER(3, 3, 13, 0, 3)
#define CTR_EL0 REGISTER(3, 3, 0, 0, 1)
#define DCZID_EL0 REGISTER(3, 3, 0, 0, 7)
#define CNTFRQ_EL0 REGISTER(3, 3, 14, 0, 0)
#define CNTVCT_EL0 REGISTER(3, 3, 14, 0, 2)
#define MIDR_EL1 REGISTER(3, 0, 0, 0, 0)

/* Lines of 64 bytes, both caches to be kept coherent by software; bit 31 is one. */
#define CTR_VALUE 0x80040004u
#define DCZID_VALUE 4u /* 64 bytes */
#define COUNTER_HZ 1000000000u

static uint64_t read_counter(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    struct timespec now;
    (void)state;
    (void)imm;
    (void)a;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * COUNTER_HZ + (uint64_t)now.tv_nsec;
}

static uint64_t read_fpsr(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    (void)imm;
    (void)a;
    return arm64_fpsr(state);
}

static uint64_t write_fpsr(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    (void)imm;
    arm64_set_fpsr(state, (uint32_t)a);
    return 0;
}

static uint64_t write_fpcr(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    (void)imm;
    arm64_set_fpcr(state, (uint32_t)a);
    return 0;
}

static ir_value call(struct front *f, ir_call_fn *fn, ir_value a)
{
    ir_value v = IR_NONE;
    struct ir_insn *insn = ir_add(f->ir, IR_CALL, &v);
    insn->fn = fn;
    insn->operand[0] = a;
    return v;
}

static uint32_t register_of(const struct a64_args *a)
{
    return (uint32_t)a->o0 << 14 | (uint32_t)a->op1 << 11 | (uint32_t)a->crn << 7 |
           (uint32_t)a->crm << 3 | (uint32_t)a->op2;
}

static bool front_mrs(struct front *f, const struct a64_args *a)
{
    ir_value v = IR_NONE;
    switch (register_of(a)) {
    case NZCV:
        (void)ir_add(f->ir, IR_GETNZCV, &v);
        break;
    case FPCR:
        v = front_get_state(f, offsetof(struct arm64_state, fpcr), 4);
        break;
    case FPSR:
        v = call(f, read_fpsr, IR_NONE);
        break;
    case TPIDR_EL0:
        v = front_get_state(f, offsetof(struct arm64_state, tpidr), 8);
        break;
    case TPIDRRO_EL0:
    case MIDR_EL1:
        v = ir_const(f->ir, 0);
        break;
    case CTR_EL0:
        v = ir_const(f->ir, CTR_VALUE);
        break;
    case DCZID_EL0:
        v = ir_const(f->ir, DCZID_VALUE);
        break;
    case CNTFRQ_EL0:
        v = ir_const(f->ir, COUNTER_HZ);
        break;
    case CNTVCT_EL0:
        v = call(f, read_counter, IR_NONE);
        break;
    default:
        return false;
    }
    front_put_x(f, a->rt, v);
    return true;
}

static bool front_msr(struct front *f, const struct a64_args *a)
{
    ir_value v = front_x(f, a->rt);
    switch (register_of(a)) {
    case NZCV:
        ir_add(f->ir, IR_PUTNZCV, NULL)->operand[0] = v;
        return true;
    case FPCR:
        (void)call(f, write_fpcr, v);
        return true;
    case FPSR:
        (void)call(f, write_fpsr, v);
        return true;
    case TPIDR_EL0:
        front_put_state(f, offsetof(struct arm64_state, tpidr), 8, v);
        return true;
    default:
        return false;
    }
}

/* DC ZVA writes zeros to a line; IC IVAU says that code changed; other cache operations do nothing.
 */
static bool front_sys(struct front *f, const struct a64_args *a)
{
    if (a->op1 != 3 || a->crn != 7 || a->op2 != 1) {
        return false;
    }
    ir_value v = front_x(f, a->rt);
    switch (a->crm) {
    case 4: {
        ir_value line = ir_op2(f->ir, IR_AND, 8, v, ir_const(f->ir, ~(uint64_t)(EMU_LINE - 1)));
        ir_value zero = ir_const(f->ir, 0);
        for (unsigned i = 0; i < EMU_LINE; i += 8) {
            struct ir_insn *insn = ir_add(f->ir, IR_STORE, NULL);
            insn->size = 8;
            insn->operand[0] = line;
            insn->operand[2] = zero;
            insn->imm = i;
        }
        return true;
    }
    case 5:
        front_put_state(f, offsetof(struct emu_cpu, changed), 8, v);
        front_exit(f, EMU_EXIT_CODE_CHANGED, f->pc + 4);
        return true;
    case 10: /* CVAC */
    case 11: /* CVAU */
    case 12: /* CVAP */
    case 14: /* CIVAC */
        return true;
    default:
        return false;
    }
}

front_fn *const arm64_front_branch[A64_OP_COUNT] = {A64_BRANCH_OPS(FRONT_ROW)};
