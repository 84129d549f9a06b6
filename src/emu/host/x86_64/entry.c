/*
 * entry.c - the ways between C and translated code, made once for each cache.
 */
#include <cpuid.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ucontext.h>

#include "emu/host/x86_64/emit.h"
#include "emu/host/x86_64/lower.h"

/* Of the System V ABI, those that a callee keeps. */
static const uint8_t kept[] = {RBX, RBP, R12, R13, R14, R15};
#define KEPT 6u
/* Returns that a mismatch looks through. */
#define RETURNS_SCAN 8

static void push(struct emit *e, unsigned reg)
{
    if (reg >= R8) {
        emit_byte(e, 0x41);
    }
    emit_byte(e, 0x50 | (reg & 7));
}

static void pop(struct emit *e, unsigned reg)
{
    if (reg >= R8) {
        emit_byte(e, 0x41);
    }
    emit_byte(e, 0x58 | (reg & 7));
}

static void ret(struct emit *e)
{
    emit_byte(e, 0xc3);
}

/* All that are pinned, or those alone that a C function may change. */
static void move_slots(struct emit *e, bool to_state, bool all)
{
    for (unsigned slot = 0; slot < IR_SLOT_COUNT; slot++) {
        enum x86_reg reg = x86_pinned(slot);
        if (reg == X86_NO_REG || (!all && memchr(kept, (int)reg, KEPT) != NULL)) {
            continue;
        }
        if (to_state) {
            emit_store(e, 8, x86_cpu(x86_slot(slot)), reg);
        } else {
            emit_load(e, 8, reg, x86_cpu(x86_slot(slot)));
        }
    }
}

/* C functions change them all. */
static void move_vectors(struct emit *e, bool to_state)
{
    for (unsigned reg = 0; reg < 32; reg++) {
        unsigned x = x86_pinned_vector(reg);
        if (x != X86_NO_REG) {
            emit_vex(e, X86_66 | X86_0F | (to_state ? 0x7fu : 0x6fu), false, x, 0,
                     x86_cpu(X86_CPU(state.v) + (int32_t)reg * 16)); /* vmovdqa */
        }
    }
}

/* void enter(struct emu_cpu *cpu, const void *code) */
static void write_enter(struct emit *e)
{
    for (unsigned i = 0; i < KEPT; i++) {
        push(e, kept[i]);
    }
    emit_lea(e, 8, RBP, x86_mem(RDI, X86_BIAS));
    emit_mov(e, 8, RAX, RSI);
    emit_alu_imm(e, X86_SUB, 8, x86_reg_rm(RSP), 8); /* aligned for thunk_call */
    emit_store(e, 8, x86_cpu(X86_CPU(c_stack)), RSP);
    move_slots(e, false, true);
    move_vectors(e, false);
    emit_load(e, 8, RSP, x86_cpu(X86_CPU(returns_now)));
    emit_rm(e, 0xff, 4, 4, x86_reg_rm(RAX));
}

static void write_leave(struct emit *e)
{
    move_slots(e, true, true);
    move_vectors(e, true);
    emit_store(e, 8, x86_cpu(X86_CPU(returns_now)), RSP);
    emit_load(e, 8, RSP, x86_cpu(X86_CPU(c_stack)));
    emit_alu_imm(e, X86_ADD, 8, x86_reg_rm(RSP), 8);
    for (unsigned i = KEPT; i-- > 0;) {
        pop(e, kept[i]);
    }
    ret(e);
}

static void write_reason(struct emit *e, enum emu_leave why)
{
    emit_rm(e, 0xc7, 4, 0, x86_cpu(X86_CPU(leave)));
    emit_u32(e, why);
    emit_rm(e, 0xff, 4, 4, x86_cpu(X86_CPU(thunk_leave)));
}

/* RAX: a struct emu_link. */
static void write_link(struct emit *e)
{
    emit_store(e, 8, x86_cpu(X86_CPU(leave_arg)), RAX);
    write_reason(e, EMU_LEAVE_LINK);
}

/* RAX: the guest's address. */
static void write_lookup(struct emit *e)
{
    emit_store(e, 8, x86_cpu(X86_CPU(state.pc)), RAX);
    write_reason(e, EMU_LEAVE_LOOKUP);
}

/*
 * RAX: where the guest returns to, which is not what the stack has: a frame further up after
 * longjmp or an exception, or nothing of ours. One pair is given up then, so that pairs that
 * nobody returns to any more go away.
 */
static void write_return(struct emit *e)
{
    emit_mov(e, 8, RCX, RSP);
    emit_const(e, RDX, RETURNS_SCAN);
    uint8_t *again = e->p;
    emit_alu(e, X86_CMP, 8, RCX, x86_cpu(X86_CPU(returns_top)));
    uint8_t *at_top = emit_jcc8(e, X86_AE);
    emit_alu_imm(e, X86_ADD, 8, x86_reg_rm(RCX), 16);
    emit_rm(e, 0x39, 8, RAX, x86_mem(RCX, 8));
    uint8_t *found = emit_jcc8(e, X86_E);
    emit_alu_imm(e, X86_SUB, 4, x86_reg_rm(RDX), 1);
    uint8_t *loop = emit_jcc8(e, X86_NE);
    if (!e->full) {
        loop[-1] = (uint8_t)(again - loop);
    }
    emit_here(e, at_top);
    emit_alu(e, X86_CMP, 8, RSP, x86_cpu(X86_CPU(returns_top)));
    uint8_t *empty = emit_jcc8(e, X86_AE);
    emit_alu_imm(e, X86_ADD, 8, x86_reg_rm(RSP), 16);
    emit_here(e, empty);
    emit_mov(e, 4, RCX, RAX);
    emit_shift_imm(e, X86_SHL, 4, RCX, 2);
    emit_alu_imm(e, X86_AND, 4, x86_reg_rm(RCX), (int32_t)((EMU_TARGETS - 1) << 4));
    emit_alu(e, X86_ADD, 8, RCX, x86_cpu(X86_CPU(targets)));
    emit_rm(e, 0x39, 8, RAX, x86_mem(RCX, 0));
    uint8_t *miss = emit_jcc8(e, X86_NE);
    emit_rm(e, 0xff, 4, 4, x86_mem(RCX, 8));
    emit_here(e, miss);
    write_lookup(e);
    emit_here(e, found);
    emit_mov(e, 8, RSP, RCX);
    ret(e);
}

/* RAX: function, RCX: its second argument, RDX: its third; the first is the state. */
static void write_call(struct emit *e)
{
    move_slots(e, true, false);
    move_vectors(e, true);
    emit_store(e, 8, x86_cpu(X86_CPU(returns_now)), RSP);
    emit_load(e, 8, RSP, x86_cpu(X86_CPU(c_stack)));
    emit_lea(e, 8, RDI, x86_cpu(-X86_BIAS));
    emit_mov(e, 8, RSI, RCX);
    emit_rm(e, 0xff, 4, 2, x86_reg_rm(RAX));
    emit_load(e, 8, RSP, x86_cpu(X86_CPU(returns_now)));
    move_slots(e, false, false);
    move_vectors(e, false);
    ret(e);
}

static const uint8_t *begin(struct emit *e)
{
    while (((uintptr_t)e->p & 15) != 0 && !e->full) {
        emit_byte(e, 0xcc);
    }
    return e->p;
}

size_t lower_thunks(uint8_t *at, size_t size, struct lower_thunks *ret)
{
    struct emit e = {.start = at, .p = at, .end = at + size};
    ret->enter = begin(&e);
    write_enter(&e);
    ret->leave = begin(&e);
    write_leave(&e);
    ret->link = begin(&e);
    write_link(&e);
    ret->lookup = begin(&e);
    write_lookup(&e);
    ret->ret = begin(&e);
    write_return(&e);
    ret->call = begin(&e);
    write_call(&e);
    (void)begin(&e);
    return e.full ? 0 : (size_t)(e.p - at);
}

bool x86_has_aes(void)
{
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
}

/* Asking is slow in a virtual machine. */
bool x86_has_sha(void)
{
    static _Atomic uint8_t known; /* 1: no, 2: yes */
    uint8_t answer = atomic_load_explicit(&known, memory_order_relaxed);
    if (answer != 0) {
        return answer == 2;
    }
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    bool has = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & bit_SHA) != 0;
    atomic_store_explicit(&known, has ? 2 : 1, memory_order_relaxed);
    return has;
}

uint32_t x86_features(void)
{
    return (x86_has_aes() ? 1u : 0) | (x86_has_sha() ? 2u : 0);
}

bool x86_suffices(void)
{
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
           __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_CMPXCHG16B) != 0 &&
           __get_cpuid(0x80000001, &a, &b, &c, &d) != 0 && (c & bit_ABM) != 0 &&
           (c & bit_LAHF_LM) != 0;
}

static uint16_t pack_flags(uint64_t eflags, enum block_flags kind)
{
    uint64_t carry = (eflags & 1) ^ (kind == BLOCK_FLAGS_SUB ? 1 : 0);
    if (kind == BLOCK_FLAGS_FLOAT) { /* less: N; else C, and Z when equal */
        return (uint16_t)((eflags & 1) != 0 ? 0x8000 : (eflags & 0x40) << 8 | 0x100);
    }
    return (uint16_t)((eflags & 0xc0) << 8 | carry << 8 | (eflags >> 11 & 1));
}

void lower_recover(struct emu_cpu *cpu, const struct block_fault *fault, const int64_t *gregs)
{
    static const uint8_t greg[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                     REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                     REG_R12, REG_R13, REG_R14, REG_R15};
    for (unsigned slot = 0; slot < IR_SLOT_COUNT; slot++) {
        enum x86_reg reg = x86_pinned(slot);
        if (reg != X86_NO_REG) {
            uint64_t *x = slot == IR_SLOT_SP ? &cpu->state.sp : &cpu->state.x[slot];
            *x = (uint64_t)gregs[greg[reg]];
        }
    }
    if (fault->flags != BLOCK_FLAGS_SAVED) {
        cpu->flags = pack_flags((uint64_t)gregs[REG_EFL], (enum block_flags)fault->flags);
    }
    cpu->returns_now = (uint64_t)gregs[REG_RSP];
}
