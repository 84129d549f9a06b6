/*
 * front_memory.c - loads and stores (Arm ARM, C4.1.96).
 */
#include <stddef.h>

#include "emu/guest/arm64/front_internal.h"

/* Where an access goes, and what the base register becomes. */
struct place {
    ir_value base, index; /* index: IR_NONE */
    uint8_t scale;
    int64_t offset;
};

static struct ir_insn *add_access(struct front *f, enum ir_op op, const struct place *p,
                                  unsigned size, ir_value *ret)
{
    struct ir_insn *insn = ir_add(f->ir, op, ret);
    insn->size = (uint8_t)size;
    insn->operand[0] = p->base;
    insn->operand[1] = p->index;
    insn->scale = p->scale;
    insn->imm = p->offset;
    return insn;
}

static void store(struct front *f, const struct place *p, unsigned size, ir_value v)
{
    add_access(f, IR_STORE, p, size, NULL)->operand[2] = v;
}

static ir_value load(struct front *f, const struct place *p, unsigned size, bool sext,
                     unsigned width)
{
    ir_value v = IR_NONE;
    struct ir_insn *insn = add_access(f, IR_LOAD, p, size, &v);
    insn->sext = sext;
    insn->width = (uint8_t)width;
    return v;
}

static void write_back(struct front *f, int32_t rn, const struct place *p, int64_t by)
{
    front_put_x_sp(f, rn, ir_op2(f->ir, IR_ADD, 8, p->base, ir_const(f->ir, (uint64_t)by)));
}

/* size and opc of the manual: 0 store, 1 load, 2 load with sign to 64, 3 to 32 bits. False:
 * reserved. PRFM does nothing. */
static bool transfer(struct front *f, const struct a64_args *a, const struct place *p, bool moves,
                     int64_t by)
{
    unsigned size = 1u << a->size;
    ir_value v = IR_NONE;
    if ((a->size == 3 && a->opc >= 2) || (a->size == 2 && a->opc == 3)) {
        return a->size == 3 && a->opc == 2 && !moves; /* PRFM */
    }
    if (a->opc == 0) {
        store(f, p, size, front_x(f, a->rt));
    } else {
        unsigned width = a->opc == 2 || a->size == 3 ? 8 : 4;
        v = load(f, p, size, a->opc >= 2, width);
    }
    if (moves) {
        write_back(f, a->rn, p, by);
    }
    if (a->opc != 0) {
        front_put_x(f, a->rt, v);
    }
    return true;
}

/* size and opc give 1 to 16 bytes; 0: reserved. */
static unsigned vector_size(int32_t size, int32_t opc)
{
    unsigned log = (unsigned)size | ((unsigned)opc & 2) << 1;
    return log > 4 ? 0 : 1u << log;
}

static void move_vector(struct front *f, const struct place *p, unsigned size, bool is_load,
                        int32_t rt)
{
    add_access(f, is_load ? IR_LOADV : IR_STOREV, p, size, NULL)->reg = (uint8_t)rt;
}

static bool transfer_vector(struct front *f, const struct a64_args *a, const struct place *p,
                            bool moves, int64_t by)
{
    unsigned size = vector_size(a->size, a->opc);
    if (size == 0) {
        return false;
    }
    move_vector(f, p, size, (a->opc & 1) != 0, a->rt);
    if (moves) {
        write_back(f, a->rn, p, by);
    }
    return true;
}

static struct place at(struct front *f, int32_t rn, int64_t offset)
{
    return (struct place){.base = front_x_sp(f, rn), .index = IR_NONE, .offset = offset};
}

static bool front_ldr_unsigned(struct front *f, const struct a64_args *a)
{
    struct place p = at(f, a->rn, (int64_t)a->imm << a->size);
    return transfer(f, a, &p, false, 0);
}

static bool front_ldr_unsigned_v(struct front *f, const struct a64_args *a)
{
    unsigned size = vector_size(a->size, a->opc);
    struct place p = at(f, a->rn, (int64_t)a->imm * size);
    return transfer_vector(f, a, &p, false, 0);
}

/* mode: 0 and 2 plain, 1 after the access, 3 before it. */
static bool front_ldr_unscaled(struct front *f, const struct a64_args *a)
{
    struct place p = at(f, a->rn, a->mode == 1 ? 0 : a->imm);
    return transfer(f, a, &p, (a->mode & 1) != 0, a->imm);
}

static bool front_ldr_unscaled_v(struct front *f, const struct a64_args *a)
{
    struct place p = at(f, a->rn, a->mode == 1 ? 0 : a->imm);
    return transfer_vector(f, a, &p, (a->mode & 1) != 0, a->imm);
}

static struct place indexed(struct front *f, const struct a64_args *a, unsigned log)
{
    struct place p = at(f, a->rn, 0);
    p.index = front_extend(f, front_x(f, a->rm), a->option, 0, 8);
    if (a->s != 0 && log <= 3) {
        p.scale = (uint8_t)log;
    } else if (a->s != 0) {
        p.index = front_shift(f, p.index, 0, (int32_t)log, 8);
    }
    return p;
}

static bool front_ldr_register(struct front *f, const struct a64_args *a)
{
    struct place p = indexed(f, a, (unsigned)a->size);
    return transfer(f, a, &p, false, 0);
}

static bool front_ldr_register_v(struct front *f, const struct a64_args *a)
{
    unsigned size = vector_size(a->size, a->opc);
    if (size == 0) {
        return false;
    }
    struct place p = indexed(f, a, (unsigned)__builtin_ctz(size));
    return transfer_vector(f, a, &p, false, 0);
}

static bool front_ldr_literal(struct front *f, const struct a64_args *a)
{
    uint64_t address = f->pc + (uint64_t)((int64_t)a->imm * 4);
    struct place p = {.base = ir_const_pc(f->ir, address), .index = IR_NONE};
    if (a->opc != 3) { /* else PRFM */
        unsigned size = a->opc == 1 ? 8 : 4;
        front_put_x(f, a->rt, load(f, &p, size, a->opc == 2, a->opc == 0 ? 4 : 8));
    }
    return true;
}

static bool front_ldr_literal_v(struct front *f, const struct a64_args *a)
{
    uint64_t address = f->pc + (uint64_t)((int64_t)a->imm * 4);
    struct place p = {.base = ir_const_pc(f->ir, address), .index = IR_NONE};
    move_vector(f, &p, 4u << a->opc, true, a->rt);
    return true;
}

/* mode: 0 no-allocate, 2 plain; 1 after, 3 before. */
static bool front_ldp(struct front *f, const struct a64_args *a)
{
    bool sign = a->opc == 1;
    unsigned size = a->opc == 2 ? 8 : 4;
    int64_t offset = (int64_t)a->imm * size;
    struct place p = at(f, a->rn, a->mode == 1 ? 0 : offset);
    struct place second = p;
    second.offset += size;
    if (sign && (a->l == 0 || a->mode == 0)) {
        return false;
    }
    ir_value one = IR_NONE;
    ir_value two = IR_NONE;
    if (a->l != 0) {
        unsigned width = sign || size == 8 ? 8 : 4;
        one = load(f, &p, size, sign, width);
        two = load(f, &second, size, sign, width);
    } else {
        one = front_x(f, a->rt);
        two = front_x(f, a->rt2);
        store(f, &p, size, one);
        store(f, &second, size, two);
    }
    if ((a->mode & 1) != 0) {
        write_back(f, a->rn, &p, offset);
    }
    if (a->l != 0) {
        front_put_x(f, a->rt, one);
        front_put_x(f, a->rt2, two);
    }
    return true;
}

static bool front_ldp_v(struct front *f, const struct a64_args *a)
{
    unsigned size = 4u << a->opc;
    int64_t offset = (int64_t)a->imm * size;
    struct place p = at(f, a->rn, a->mode == 1 ? 0 : offset);
    struct place second = p;
    second.offset += size;
    move_vector(f, &p, size, a->l != 0, a->rt);
    move_vector(f, &second, size, a->l != 0, a->rt2);
    if ((a->mode & 1) != 0) {
        write_back(f, a->rn, &p, offset);
    }
    return true;
}

static bool front_ldxr(struct front *f, const struct a64_args *a)
{
    unsigned size = 1u << a->size;
    struct place p = at(f, a->rn, 0);
    ir_value v = load(f, &p, size, false, size == 8 ? 8 : 4);
    front_put_state(f, offsetof(struct arm64_state, exclusive_value), 8, v);
    front_put_state(f, offsetof(struct arm64_state, exclusive_address), 8, p.base);
    front_put_state(f, offsetof(struct arm64_state, exclusive_size), 4, ir_const(f->ir, size));
    front_put_x(f, a->rt, v);
    return true;
}

static bool front_stxr(struct front *f, const struct a64_args *a)
{
    struct place p = at(f, a->rn, 0);
    ir_value value = front_x(f, a->rt);
    ir_value v = IR_NONE;
    struct ir_insn *insn = ir_add(f->ir, IR_STX, &v);
    insn->size = (uint8_t)(1u << a->size);
    insn->operand[0] = p.base;
    insn->operand[1] = value;
    front_put_x(f, a->rs, v);
    return true;
}

/* x86's loads acquire and its stores release; only a store before a load needs a fence. */
static bool front_ldar(struct front *f, const struct a64_args *a)
{
    struct place p = at(f, a->rn, 0);
    unsigned size = 1u << a->size;
    front_put_x(f, a->rt, load(f, &p, size, false, size == 8 ? 8 : 4));
    return true;
}

static bool front_ldapr(struct front *f, const struct a64_args *a)
{
    return front_ldar(f, a);
}

static bool front_stlr(struct front *f, const struct a64_args *a)
{
    struct place p = at(f, a->rn, 0);
    store(f, &p, 1u << a->size, front_x(f, a->rt));
    if (a->o0 != 0) { /* STLR, not STLLR */
        (void)ir_add(f->ir, IR_FENCE, NULL);
    }
    return true;
}

static bool front_cas(struct front *f, const struct a64_args *a)
{
    struct place p = at(f, a->rn, 0);
    unsigned size = 1u << a->size;
    ir_value expected = front_x(f, a->rs);
    ir_value fresh = front_x(f, a->rt);
    if (size < 8) {
        expected = ir_op1i(f->ir, IR_ZEXT, 8, expected, size);
    }
    ir_value v = IR_NONE;
    struct ir_insn *insn = ir_add(f->ir, IR_CAS, &v);
    insn->size = (uint8_t)size;
    insn->operand[0] = p.base;
    insn->operand[1] = expected;
    insn->operand[2] = fresh;
    front_put_x(f, a->rs, v);
    return true;
}

static bool atomic(struct front *f, const struct a64_args *a, enum ir_atomic kind)
{
    struct place p = at(f, a->rn, 0);
    unsigned size = 1u << a->size;
    ir_value b = front_x(f, a->rs);
    if (size < 8) {
        bool sign = kind == IR_FETCH_SMAX || kind == IR_FETCH_SMIN;
        b = ir_op1i(f->ir, sign ? IR_SEXT : IR_ZEXT, sign ? 4 : 8, b, size);
    }
    ir_value v = IR_NONE;
    struct ir_insn *insn = ir_add(f->ir, IR_ATOMIC, &v);
    insn->size = (uint8_t)size;
    insn->operand[0] = p.base;
    insn->operand[1] = b;
    insn->imm = kind;
    front_put_x(f, a->rt, v);
    return true;
}

static bool front_ldadd(struct front *f, const struct a64_args *a)
{
    static const uint8_t kind[] = {IR_FETCH_ADD,  IR_FETCH_CLEAR, IR_FETCH_XOR,  IR_FETCH_OR,
                                   IR_FETCH_SMAX, IR_FETCH_SMIN,  IR_FETCH_UMAX, IR_FETCH_UMIN};
    return atomic(f, a, (enum ir_atomic)kind[a->opc]);
}

static bool front_swp(struct front *f, const struct a64_args *a)
{
    return atomic(f, a, IR_SWAP);
}

front_fn *const arm64_front_memory[A64_OP_COUNT] = {A64_MEMORY_OPS(FRONT_ROW)};
