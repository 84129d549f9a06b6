#include "emu/interp.h"

#include <assert.h>
#include <string.h>

#include "base/macros.h"

/* Values of a block, by their place. */
struct interp {
    struct emu_cpu *cpu;
    const struct ir *ir;
    uint64_t pc; /* of the guest instruction */
    uint64_t value[IR_MAX];
};

static uint64_t operand(const struct interp *in, const struct ir_insn *insn, unsigned n)
{
    return insn->operand[n] == IR_NONE ? 0 : in->value[insn->operand[n]];
}

static bool holds(uint32_t nzcv, unsigned cond)
{
    bool n = (nzcv & ARM64_N) != 0;
    bool z = (nzcv & ARM64_Z) != 0;
    bool c = (nzcv & ARM64_C) != 0;
    bool v = (nzcv & ARM64_V) != 0;
    const bool base[] = {z, c, n, v, c && !z, n == v, n == v && !z, true};
    bool result = base[cond >> 1];
    return (cond & 1) != 0 && cond != IR_NV ? !result : result;
}

/* a + b + carry of the width; flags as AddWithCarry() of the Arm ARM. */
static uint64_t add_flags(struct interp *in, uint64_t a, uint64_t b, unsigned carry, unsigned width)
{
    unsigned top = width * 8 - 1;
    if (width == 4) {
        a = (uint32_t)a;
        b = (uint32_t)b;
    }
    unsigned __int128 wide = (unsigned __int128)a + b + carry;
    uint64_t sum = width == 4 ? (uint32_t)wide : (uint64_t)wide;
    uint32_t nzcv = (sum >> top & 1) != 0 ? ARM64_N : 0;
    nzcv |= sum == 0 ? ARM64_Z : 0;
    nzcv |= (wide >> (top + 1) & 1) != 0 ? ARM64_C : 0;
    nzcv |= (((a ^ sum) & (b ^ sum)) >> top & 1) != 0 ? ARM64_V : 0;
    in->cpu->state.nzcv = nzcv;
    return sum;
}

static bool interp_flags(struct interp *in, const struct ir_insn *insn, uint64_t *value)
{
    uint32_t before = in->cpu->state.nzcv;
    uint64_t a = operand(in, insn, 0);
    uint64_t b = operand(in, insn, 1);
    unsigned carry = (before & ARM64_C) != 0;
    switch ((int)insn->op) {
    case IR_ADDF:
        *value = add_flags(in, a, b, 0, insn->width);
        return true;
    case IR_SUBF:
        *value = add_flags(in, a, ~b, 1, insn->width);
        return true;
    case IR_ADC:
    case IR_ADCF:
        *value = add_flags(in, a, b, carry, insn->width);
        break;
    case IR_SBC:
    case IR_SBCF:
        *value = add_flags(in, a, ~b, carry, insn->width);
        break;
    case IR_ANDF:
        *value = insn->width == 4 ? (uint32_t)(a & b) : a & b;
        in->cpu->state.nzcv = ((*value >> (insn->width * 8 - 1) & 1) != 0 ? ARM64_N : 0) |
                              (*value == 0 ? ARM64_Z : 0);
        return true;
    case IR_CCMPF:
    case IR_CCMNF:
        if (!holds(before, insn->cond)) {
            in->cpu->state.nzcv = (uint32_t)insn->imm;
        } else if (insn->op == IR_CCMPF) {
            (void)add_flags(in, a, ~b, 1, insn->width);
        } else {
            (void)add_flags(in, a, b, 0, insn->width);
        }
        return true;
    case IR_SELECT:
        *value = holds(before, insn->cond) ? a : b;
        *value = insn->width == 4 ? (uint32_t)*value : *value;
        return true;
    case IR_GETNZCV:
        *value = before;
        return true;
    case IR_FCMPF:
        in->cpu->state.nzcv = (uint32_t)insn->fn(&in->cpu->state, (uint64_t)insn->imm, 0);
        return true;
    case IR_PUTNZCV:
        in->cpu->state.nzcv = (uint32_t)a & 0xf0000000u;
        return true;
    default:
        return false;
    }
    if (insn->op == IR_ADC || insn->op == IR_SBC) {
        in->cpu->state.nzcv = before;
    }
    return true;
}

static void *pointer(uint64_t address)
{
    return (void *)(uintptr_t)address; // NOLINT: guest addresses are the host's
}

static uint64_t address_of(const struct interp *in, const struct ir_insn *insn)
{
    return operand(in, insn, 0) + (operand(in, insn, 1) << insn->scale) + (uint64_t)insn->imm;
}

static uint64_t load(const struct interp *in, const struct ir_insn *insn)
{
    uint64_t v = 0;
    memcpy(&v, pointer(address_of(in, insn)), insn->size);
    if (insn->sext) {
        unsigned shift = 64 - 8u * insn->size;
        v = (uint64_t)((int64_t)(v << shift) >> shift);
    }
    return insn->width == 4 ? (uint32_t)v : v;
}

static bool compare_and_swap(uint64_t address, unsigned size, uint64_t *expected, uint64_t fresh)
{
    switch (size) {
    case 1: {
        uint8_t e = (uint8_t)*expected;
        bool done = __atomic_compare_exchange_n((uint8_t *)pointer(address), &e, (uint8_t)fresh,
                                                false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        *expected = e;
        return done;
    }
    case 2: {
        uint16_t e = (uint16_t)*expected;
        bool done = __atomic_compare_exchange_n((uint16_t *)pointer(address), &e, (uint16_t)fresh,
                                                false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        *expected = e;
        return done;
    }
    case 4: {
        uint32_t e = (uint32_t)*expected;
        bool done = __atomic_compare_exchange_n((uint32_t *)pointer(address), &e, (uint32_t)fresh,
                                                false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        *expected = e;
        return done;
    }
    default:
        return __atomic_compare_exchange_n((uint64_t *)pointer(address), expected, fresh, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
}

static uint64_t combine(enum ir_atomic kind, uint64_t old, uint64_t b, unsigned size)
{
    unsigned shift = 64 - 8 * size;
    int64_t sold = (int64_t)(old << shift);
    int64_t sb = (int64_t)(b << shift);
    switch (kind) {
    case IR_SWAP:
        return b;
    case IR_FETCH_ADD:
        return old + b;
    case IR_FETCH_CLEAR:
        return old & ~b;
    case IR_FETCH_XOR:
        return old ^ b;
    case IR_FETCH_OR:
        return old | b;
    case IR_FETCH_SMAX:
        return sold > sb ? old : b;
    case IR_FETCH_SMIN:
        return sold < sb ? old : b;
    case IR_FETCH_UMAX:
        return (uint64_t)sold > (uint64_t)sb ? old : b;
    case IR_FETCH_UMIN:
    default:
        return (uint64_t)sold < (uint64_t)sb ? old : b;
    }
}

static uint64_t atomic(const struct interp *in, const struct ir_insn *insn)
{
    uint64_t address = operand(in, insn, 0);
    uint64_t old = 0;
    memcpy(&old, pointer(address), insn->size);
    uint64_t b = operand(in, insn, 1);
    while (!compare_and_swap(address, insn->size, &old,
                             combine((enum ir_atomic)insn->imm, old, b, insn->size))) {
    }
    return old;
}

static uint64_t store_exclusive(const struct interp *in, const struct ir_insn *insn)
{
    struct arm64_state *state = &in->cpu->state;
    uint64_t address = operand(in, insn, 0);
    uint64_t expected = state->exclusive_value[0];
    bool done = state->exclusive_size == insn->size && state->exclusive_address == address &&
                compare_and_swap(address, insn->size, &expected, operand(in, insn, 1));
    state->exclusive_size = 0;
    return done ? 0 : 1;
}

static bool interp_memory(struct interp *in, const struct ir_insn *insn, uint64_t *value)
{
    union arm64_vector *v = in->cpu->state.v;
    union arm64_vector whole = {{0}};
    uint64_t c = operand(in, insn, 2);
    switch ((int)insn->op) {
    case IR_LOAD:
        *value = load(in, insn);
        return true;
    case IR_STORE:
        memcpy(pointer(address_of(in, insn)), &c, insn->size);
        return true;
    case IR_LOADV:
        memcpy(&whole, pointer(address_of(in, insn)), insn->size);
        v[insn->reg] = whole;
        return true;
    case IR_STOREV:
        memcpy(pointer(address_of(in, insn)), &v[insn->reg], insn->size);
        return true;
    case IR_COPYV:
        v[insn->reg] = v[insn->imm];
        return true;
    case IR_CAS:
        *value = operand(in, insn, 1);
        (void)compare_and_swap(operand(in, insn, 0), insn->size, value, c);
        return true;
    case IR_ATOMIC:
        *value = atomic(in, insn);
        return true;
    case IR_STX:
        *value = store_exclusive(in, insn);
        return true;
    case IR_FENCE:
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        return true;
    default:
        return false;
    }
}

static uint64_t *slot(const struct interp *in, uint64_t number)
{
    struct arm64_state *state = &in->cpu->state;
    return number == IR_SLOT_SP ? &state->sp : &state->x[number];
}

static bool interp_place(struct interp *in, const struct ir_insn *insn, uint64_t *value)
{
    uint8_t *state = (uint8_t *)&in->cpu->state;
    uint64_t a = operand(in, insn, 0);
    switch ((int)insn->op) {
    case IR_INSN:
        in->pc = (uint64_t)insn->imm;
        in->cpu->state.pc = in->pc; /* for emu_fault() */
        return true;
    case IR_CONST:
        *value = (uint64_t)insn->imm;
        return true;
    case IR_GET:
        *value = *slot(in, (uint64_t)insn->imm);
        return true;
    case IR_PUT:
        *slot(in, (uint64_t)insn->imm) = a;
        return true;
    case IR_GETSTATE:
        *value = 0;
        memcpy(value, state + insn->imm, insn->width);
        return true;
    case IR_PUTSTATE:
        memcpy(state + insn->imm, &a, insn->width);
        return true;
    case IR_PUTV:
        in->cpu->state.v[insn->reg] = (union arm64_vector){.d = {a, operand(in, insn, 1)}};
        return true;
    case IR_DUPV:
        in->cpu->state.v[insn->reg] = (union arm64_vector){.d = {0, 0}};
        for (int64_t i = 0; i < insn->imm; i += insn->size) {
            memcpy(in->cpu->state.v[insn->reg].b + i, &a, insn->size);
        }
        return true;
    case IR_CALL:
        *value = insn->fn(&in->cpu->state, (uint64_t)insn->imm, a);
        return true;
    default:
        return false;
    }
}

static bool taken(const struct interp *in, const struct ir_insn *insn)
{
    uint64_t a = operand(in, insn, 0);
    a = insn->width == 4 ? (uint32_t)a : a;
    switch ((int)insn->op) {
    case IR_BRCOND:
        return holds(in->cpu->state.nzcv, insn->cond);
    case IR_BRZERO:
        return a == 0;
    case IR_BRNONZERO:
        return a != 0;
    case IR_BRBIT0:
        return (a >> insn->scale & 1) == 0;
    case IR_BRBIT1:
        return (a >> insn->scale & 1) != 0;
    default:
        return true;
    }
}

/* True when the block was left. */
static bool interp_branch(struct interp *in, const struct ir_insn *insn)
{
    struct emu_cpu *cpu = in->cpu;
    if (!taken(in, insn)) {
        return false;
    }
    cpu->leave = EMU_LEAVE_LOOKUP;
    cpu->state.pc = insn->op == IR_JUMPIND ? operand(in, insn, 0) : (uint64_t)insn->imm;
    if (insn->op == IR_EXIT) {
        cpu->leave = EMU_LEAVE_EXIT;
        cpu->leave_arg = insn->scale;
    }
    return true;
}

void interp_block(struct emu_cpu *cpu, const struct ir *ir)
{
    struct interp in;
    in.cpu = cpu;
    in.ir = ir;
    for (uint32_t i = 0; i < ir->count; i++) {
        const struct ir_insn *insn = &ir->insn[i];
        if (insn->dead) {
            continue;
        }
        if ((ir_op_info[insn->op].what & IR_BRANCH) != 0) {
            if (interp_branch(&in, insn)) {
                return;
            }
        } else if (!interp_place(&in, insn, &in.value[i]) &&
                   !interp_flags(&in, insn, &in.value[i]) &&
                   !interp_memory(&in, insn, &in.value[i])) {
            bool pure =
                ir_compute(insn, operand(&in, insn, 0), operand(&in, insn, 1), &in.value[i]);
            assert(pure);
        }
    }
    assert(!"a block that does not end");
}
