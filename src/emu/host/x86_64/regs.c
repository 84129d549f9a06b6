/*
 * regs.c - where values are while a block is lowered, and the temporaries.
 */
#include <assert.h>
#include <string.h>

#include "base/macros.h"
#include "emu/host/x86_64/lower_internal.h"

enum x86_reg x86_pinned(unsigned slot)
{
    static const uint8_t pinned[IR_SLOT_COUNT] = {
#define X(slot, reg) [slot] = (reg) + 1,
        X86_PINNED(X)
#undef X
    };
    return pinned[slot] == 0 ? X86_NO_REG : (enum x86_reg)(pinned[slot] - 1);
}

unsigned x86_pinned_vector(unsigned reg)
{
    static const uint8_t pinned[32] = {
#define X(guest, host) [guest] = (host) + 1,
        X86_PINNED_VECTORS(X)
#undef X
    };
    return reg >= 32 || pinned[reg] == 0 ? X86_NO_REG : pinned[reg] - 1u;
}

static struct loc *loc_of(struct lower *l, ir_value v)
{
    return &l->loc[v];
}

static bool is_temp(unsigned reg)
{
    return (X86_TEMPS >> reg & 1) != 0;
}

static void lock(struct lower *l, unsigned reg)
{
    l->locked |= 1u << reg;
}

static struct x86_rm spill_rm(unsigned place)
{
    return x86_cpu(X86_CPU(spill) + (int32_t)place * 8);
}

static void put_in(struct lower *l, ir_value v, unsigned reg)
{
    struct loc *loc = loc_of(l, v);
    if (loc->kind == LOC_TEMP) {
        l->holder[loc->reg] = IR_NONE;
    } else if (loc->kind == LOC_SPILL) {
        l->spilled[loc->reg] = IR_NONE;
    }
    loc->kind = LOC_TEMP;
    loc->reg = (uint8_t)reg;
    l->holder[reg] = v;
}

static void spill(struct lower *l, unsigned reg)
{
    ir_value v = l->holder[reg];
    for (unsigned i = 0; i < COUNT(l->spilled); i++) {
        if (l->spilled[i] == IR_NONE) {
            emit_store(&l->e, 8, spill_rm(i), reg);
            l->spilled[i] = v;
            l->holder[reg] = IR_NONE;
            l->loc[v].kind = LOC_SPILL;
            l->loc[v].reg = (uint8_t)i;
            return;
        }
    }
    assert(!"more values at a time than an instruction has");
}

unsigned take_temp(struct lower *l)
{
    unsigned victim = X86_NO_REG;
    for (unsigned reg = 0; reg < 16; reg++) {
        if (!is_temp(reg) || (l->locked >> reg & 1) != 0) {
            continue;
        }
        if (l->holder[reg] == IR_NONE) {
            lock(l, reg);
            return reg;
        }
        victim = reg;
    }
    assert(victim != X86_NO_REG);
    spill(l, victim);
    lock(l, victim);
    return victim;
}

void take_reg(struct lower *l, unsigned reg)
{
    assert(is_temp(reg));
    if (l->holder[reg] != IR_NONE) {
        spill(l, reg);
    }
    lock(l, reg);
}

void spill_all(struct lower *l)
{
    for (unsigned reg = 0; reg < 16; reg++) {
        if (l->holder[reg] != IR_NONE) {
            spill(l, reg);
        }
    }
}

void use_into(struct lower *l, ir_value v, unsigned width, unsigned reg)
{
    const struct loc *loc = loc_of(l, v);
    switch ((enum loc_kind)loc->kind) {
    case LOC_CONST:
        if (l->ir->insn[v].of_pc) {
            emit_address(l, reg, (uint64_t)l->ir->insn[v].imm, BLOCK_RELOC_GUEST);
            break;
        }
        emit_const(&l->e, reg,
                   width == 4 ? (uint32_t)l->ir->insn[v].imm : (uint64_t)l->ir->insn[v].imm);
        break;
    case LOC_TEMP:
    case LOC_PIN:
        if (loc->reg != reg) {
            emit_mov(&l->e, width, reg, loc->reg);
        }
        break;
    case LOC_STATE:
        emit_load(&l->e, width, reg, x86_cpu(x86_slot(loc->reg)));
        break;
    case LOC_SPILL:
        emit_load(&l->e, width, reg, spill_rm(loc->reg));
        break;
    case LOC_NONE:
    default:
        assert(!"a value that is nowhere");
    }
}

unsigned use_reg(struct lower *l, ir_value v)
{
    struct loc *loc = loc_of(l, v);
    if (loc->kind == LOC_TEMP || loc->kind == LOC_PIN) {
        lock(l, loc->reg);
        return loc->reg;
    }
    unsigned reg = take_temp(l);
    use_into(l, v, 8, reg);
    put_in(l, v, reg);
    return reg;
}

unsigned use_copy(struct lower *l, ir_value v, unsigned width)
{
    unsigned reg = take_temp(l);
    use_into(l, v, width, reg);
    return reg;
}

struct x86_rm use_rm(struct lower *l, ir_value v)
{
    const struct loc *loc = loc_of(l, v);
    switch ((enum loc_kind)loc->kind) {
    case LOC_STATE:
        return x86_cpu(x86_slot(loc->reg));
    case LOC_SPILL:
        return spill_rm(loc->reg);
    case LOC_NONE:
    case LOC_CONST:
    case LOC_TEMP:
    case LOC_PIN:
    default:
        return x86_reg_rm(use_reg(l, v));
    }
}

bool use_imm(const struct lower *l, ir_value v, unsigned width, int32_t *ret)
{
    if (l->loc[v].kind != LOC_CONST || l->ir->insn[v].of_pc) {
        return false;
    }
    int64_t value = l->ir->insn[v].imm;
    *ret = (int32_t)value;
    return width == 4 || value == (int32_t)value;
}

/* Nothing needs the slot's old value after this operation. */
static bool slot_is_free(const struct lower *l, unsigned slot)
{
    const struct ir_insn *insn = lower_now(l);
    for (unsigned i = 0; i < l->alias_count[slot]; i++) {
        ir_value v = l->alias[slot][i];
        unsigned left = l->loc[v].left;
        for (unsigned n = 0; n < 3; n++) {
            left -= insn->operand[n] == v && left > 0 ? 1u : 0;
        }
        if (left > 0) {
            return false;
        }
    }
    return true;
}

/* The pinned slot that the value goes to soon, or IR_SLOT_COUNT. */
static unsigned slot_to_come(const struct lower *l)
{
    for (uint32_t i = l->now + 1; i < l->ir->count && i < l->now + 12; i++) {
        const struct ir_insn *insn = &l->ir->insn[i];
        if (insn->dead) {
            continue;
        }
        if (insn->op == IR_PUT && insn->operand[0] == l->now) {
            unsigned slot = (unsigned)insn->imm;
            if (x86_pinned(slot) == X86_NO_REG) {
                continue;
            }
            for (uint32_t k = l->now + 1; k < i; k++) {
                const struct ir_insn *between = &l->ir->insn[k];
                if ((between->op == IR_GET || between->op == IR_PUT) && between->imm == slot) {
                    return IR_SLOT_COUNT;
                }
            }
            return slot_is_free(l, slot) ? slot : IR_SLOT_COUNT;
        }
        if ((ir_op_info[insn->op].what & (IR_FAULTS | IR_BRANCH)) != 0 || insn->op == IR_INSN ||
            insn->op == IR_CALL) {
            return IR_SLOT_COUNT;
        }
    }
    return IR_SLOT_COUNT;
}

unsigned pick_dst(struct lower *l)
{
    unsigned slot = slot_to_come(l);
    if (slot < IR_SLOT_COUNT) {
        return x86_pinned(slot);
    }
    /* An operand's own register when this is its last use. */
    ir_value a = lower_now(l)->operand[0];
    if (a != IR_NONE && l->loc[a].kind == LOC_TEMP && l->loc[a].left == 1) {
        lock(l, l->loc[a].reg);
        return l->loc[a].reg;
    }
    return take_temp(l);
}

static unsigned slot_of(unsigned reg)
{
    for (unsigned slot = 0; slot < IR_SLOT_COUNT; slot++) {
        if (x86_pinned(slot) == reg) {
            return slot;
        }
    }
    return IR_SLOT_COUNT;
}

static void add_alias(struct lower *l, unsigned slot, ir_value v)
{
    assert(l->alias_count[slot] < ALIASES);
    l->alias[slot][l->alias_count[slot]++] = v;
}

void set_value(struct lower *l, unsigned reg)
{
    ir_value v = (ir_value)l->now;
    struct loc *loc = loc_of(l, v);
    loc->left = l->ir->insn[v].uses;
    if (loc->left == 0) {
        loc->kind = LOC_NONE;
        return;
    }
    if (is_temp(reg)) {
        /* The register of a dying operand: it has gone over. */
        ir_value before = l->holder[reg];
        if (before != IR_NONE) {
            l->loc[before].kind = LOC_NONE;
        }
        loc->kind = LOC_NONE;
        put_in(l, v, reg);
        return;
    }
    loc->kind = LOC_PIN;
    loc->reg = (uint8_t)reg;
    add_alias(l, slot_of(reg), v);
}

void release_operands(struct lower *l)
{
    const struct ir_insn *insn = lower_now(l);
    for (unsigned n = 0; n < ir_op_info[insn->op].operands; n++) {
        ir_value v = insn->operand[n];
        if (v == IR_NONE) {
            continue;
        }
        struct loc *loc = loc_of(l, v);
        if (loc->left > 0 && --loc->left > 0) {
            continue;
        }
        if (loc->kind == LOC_TEMP && l->holder[loc->reg] == v) {
            l->holder[loc->reg] = IR_NONE;
        } else if (loc->kind == LOC_SPILL && l->spilled[loc->reg] == v) {
            l->spilled[loc->reg] = IR_NONE;
        }
    }
    l->locked = 0;
}

/* GET: no code. */
static void lower_get(struct lower *l, const struct ir_insn *insn)
{
    unsigned slot = (unsigned)insn->imm;
    enum x86_reg reg = x86_pinned(slot);
    l->loc[l->now] = (struct loc){.kind = reg == X86_NO_REG ? LOC_STATE : LOC_PIN,
                                  .reg = (uint8_t)(reg == X86_NO_REG ? slot : reg),
                                  .left = insn->uses};
    add_alias(l, slot, (ir_value)l->now);
}

/* What still names the slot's old value gets a copy of it. */
static void save_aliases(struct lower *l, unsigned slot, ir_value written)
{
    for (unsigned i = 0; i < l->alias_count[slot]; i++) {
        ir_value v = l->alias[slot][i];
        struct loc *loc = loc_of(l, v);
        if (v == written || loc->left == 0 || (loc->kind != LOC_PIN && loc->kind != LOC_STATE)) {
            continue;
        }
        unsigned reg = take_temp(l);
        use_into(l, v, 8, reg);
        put_in(l, v, reg);
    }
    l->alias_count[slot] = 0;
}

static void lower_put(struct lower *l, const struct ir_insn *insn)
{
    unsigned slot = (unsigned)insn->imm;
    ir_value v = insn->operand[0];
    enum x86_reg pin = x86_pinned(slot);
    const struct loc *loc = loc_of(l, v);
    if (pin != X86_NO_REG && loc->kind == LOC_PIN && loc->reg == pin) {
        return; /* it was computed there, or is what was there */
    }
    save_aliases(l, slot, v);
    int32_t imm = 0;
    if (pin != X86_NO_REG) {
        use_into(l, v, 8, pin);
        return;
    }
    struct x86_rm rm = x86_cpu(x86_slot(slot));
    if (use_imm(l, v, 8, &imm)) {
        emit_rm(&l->e, 0xc7, 8, 0, rm);
        emit_u32(&l->e, (uint32_t)imm);
        return;
    }
    if (loc->kind == LOC_TEMP || loc->kind == LOC_PIN) {
        emit_store(&l->e, 8, rm, loc->reg);
        return;
    }
    use_into(l, v, 8, RAX);
    emit_store(&l->e, 8, rm, RAX);
}

/* Values live within an instruction. */
static void lower_insn(struct lower *l, const struct ir_insn *insn)
{
    memset(l->alias_count, 0, sizeof(l->alias_count));
    memset(l->holder, 0xff, sizeof(l->holder));
    memset(l->spilled, 0xff, sizeof(l->spilled));
    l->guest++;
    l->distances[l->guest - 1] = (int32_t)(insn->imm - (int64_t)l->ir->pc);
}

bool lower_place(struct lower *l)
{
    const struct ir_insn *insn = lower_now(l);
    switch ((int)insn->op) {
    case IR_INSN:
        lower_insn(l, insn);
        return true;
    case IR_CONST:
        l->loc[l->now] = (struct loc){.kind = LOC_CONST, .left = insn->uses};
        return true;
    case IR_GET:
        lower_get(l, insn);
        return true;
    case IR_PUT:
        lower_put(l, insn);
        return true;
    default:
        return false;
    }
}
