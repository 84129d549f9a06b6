/*
 * front_pair.c - exclusive and compared pairs of registers (Arm ARM, C4.1.96): two words of 32 bits
 * are one of 64; two of 64 bits need the host's own pair.
 *
 * That is done in C, where guest memory must not fault: both words are read and written before, as
 * they are.
 */
#include <stddef.h>
#include <string.h>

#include "emu/guest/arm64/front_internal.h"

#define STATE(member) offsetof(struct arm64_state, member)

typedef unsigned __int128 pair_u128;

/* Both words: an address that is not aligned may lie on two pages. */
static void fault_if_it_must(struct front *f, ir_value base)
{
    ir_value nothing = ir_const(f->ir, 0); /* before who uses it */
    for (uint64_t i = 0; i < 2; i++) {
        ir_value at = i == 0 ? base : ir_op2(f->ir, IR_ADD, 8, base, ir_const(f->ir, 8));
        ir_value v = IR_NONE;
        struct ir_insn *insn = ir_add(f->ir, IR_ATOMIC, &v);
        insn->size = 8;
        insn->operand[0] = at;
        insn->operand[1] = nothing;
        insn->imm = IR_FETCH_ADD;
    }
}

static ir_value call(struct front *f, ir_call_fn *fn, ir_value address)
{
    ir_value v = IR_NONE;
    struct ir_insn *insn = ir_add(f->ir, IR_CALL, &v);
    insn->fn = fn;
    insn->operand[0] = address;
    return v;
}

static pair_u128 join(const uint64_t word[2])
{
    return (pair_u128)word[1] << 64 | word[0];
}

/* What was there. One that is not aligned is no single access: the architecture has none for it. */
#if defined(__x86_64__)
__attribute__((target("cx16")))
#endif
static pair_u128
compare_and_swap(uint64_t address, pair_u128 expected, pair_u128 fresh)
{
    void *at = (void *)(uintptr_t)address; // NOLINT: guest addresses are ours
    pair_u128 old;
    if (address % sizeof(old) == 0) {
        return __sync_val_compare_and_swap((pair_u128 *)at, expected, fresh);
    }
    memcpy(&old, at, sizeof(old));
    if (old == expected) {
        memcpy(at, &fresh, sizeof(fresh));
    }
    return old;
}

/* CASP: pair[0] and [1] are compared, [2] and [3] are stored; what was there comes to [0], [1]. */
static uint64_t swap_pair(struct arm64_state *state, uint64_t imm, uint64_t address)
{
    (void)imm;
    pair_u128 old = compare_and_swap(address, join(state->pair), join(state->pair + 2));
    state->pair[0] = (uint64_t)old;
    state->pair[1] = (uint64_t)(old >> 64);
    return 0;
}

/* STXP of pair[0] and [1]: 0 when it was stored. */
static uint64_t store_pair(struct arm64_state *state, uint64_t imm, uint64_t address)
{
    (void)imm;
    bool set = state->exclusive_size == 16 && state->exclusive_address == address;
    state->exclusive_size = 0;
    if (!set) {
        return 1;
    }
    pair_u128 expected = join(state->exclusive_value);
    return compare_and_swap(address, expected, join(state->pair)) == expected ? 0 : 1;
}

bool front_ldxp(struct front *f, const struct a64_args *a)
{
    ir_value base = front_x_sp(f, a->rn);
    ir_value low = front_load(f, base, 0, 8);
    ir_value high = a->sz != 0 ? front_load(f, base, 8, 8) : IR_NONE;
    front_put_state(f, STATE(exclusive_value), 8, low);
    if (a->sz != 0) {
        front_put_state(f, STATE(exclusive_value) + 8, 8, high);
    }
    front_put_state(f, STATE(exclusive_address), 8, base);
    front_put_state(f, STATE(exclusive_size), 4, ir_const(f->ir, a->sz != 0 ? 16 : 8));
    if (a->sz == 0) {
        high = ir_op2(f->ir, IR_SHR, 8, low, ir_const(f->ir, 32));
        low = ir_op1i(f->ir, IR_ZEXT, 8, low, 4);
    }
    front_put_x(f, a->rt, low);
    front_put_x(f, a->rt2, high);
    return true;
}

bool front_stxp(struct front *f, const struct a64_args *a)
{
    ir_value base = front_x_sp(f, a->rn);
    ir_value v = IR_NONE;
    if (a->sz != 0) {
        fault_if_it_must(f, base);
        front_put_state(f, STATE(pair), 8, front_x(f, a->rt));
        front_put_state(f, STATE(pair) + 8, 8, front_x(f, a->rt2));
        front_put_x(f, a->rs, call(f, store_pair, base));
        return true;
    }
    ir_value low = ir_op1i(f->ir, IR_ZEXT, 8, front_x(f, a->rt), 4);
    ir_value high = ir_op2(f->ir, IR_SHL, 8, front_x(f, a->rt2), ir_const(f->ir, 32));
    ir_value both = ir_op2(f->ir, IR_OR, 8, low, high);
    struct ir_insn *insn = ir_add(f->ir, IR_STX, &v);
    insn->size = 8;
    insn->operand[0] = base;
    insn->operand[1] = both;
    front_put_x(f, a->rs, v);
    return true;
}

static ir_value word_pair(struct front *f, int32_t reg)
{
    ir_value low = ir_op1i(f->ir, IR_ZEXT, 8, front_x(f, reg), 4);
    ir_value high = ir_op2(f->ir, IR_SHL, 8, front_x(f, reg + 1), ir_const(f->ir, 32));
    return ir_op2(f->ir, IR_OR, 8, low, high);
}

bool front_casp(struct front *f, const struct a64_args *a)
{
    if ((a->rs & 1) != 0 || (a->rt & 1) != 0) {
        return false;
    }
    ir_value base = front_x_sp(f, a->rn);
    if (a->sz == 0) {
        ir_value expected = word_pair(f, a->rs);
        ir_value fresh = word_pair(f, a->rt);
        ir_value v = IR_NONE;
        struct ir_insn *insn = ir_add(f->ir, IR_CAS, &v);
        insn->size = 8;
        insn->operand[0] = base;
        insn->operand[1] = expected;
        insn->operand[2] = fresh;
        front_put_x(f, a->rs, ir_op1i(f->ir, IR_ZEXT, 8, v, 4));
        front_put_x(f, a->rs + 1, ir_op2(f->ir, IR_SHR, 8, v, ir_const(f->ir, 32)));
        return true;
    }
    fault_if_it_must(f, base);
    for (int32_t i = 0; i < 2; i++) {
        front_put_state(f, STATE(pair) + (size_t)i * 8, 8, front_x(f, a->rs + i));
        front_put_state(f, STATE(pair) + 16 + (size_t)i * 8, 8, front_x(f, a->rt + i));
    }
    (void)call(f, swap_pair, base);
    for (int32_t i = 0; i < 2; i++) {
        front_put_x(f, a->rs + i, front_get_state(f, STATE(pair) + (size_t)i * 8, 8));
    }
    return true;
}
