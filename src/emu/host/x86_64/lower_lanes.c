/*
 * lower_lanes.c - lanes that change their places or their width.
 */
#include "emu/host/x86_64/lower_internal.h"

#define LOW_HALVES (X86_0F | 0x6c) /* vpunpcklqdq */
#define HIGH_HALVES (X86_0F | 0x6d)

/* x = lanes of the lower or upper half of `from`, twice as wide. */
static void widened(struct lower *l, const struct ir_vector *v, unsigned x, struct x86_rm from)
{
    if ((v->by & 2) != 0) {
        vector_op(l, X86_0F | 0x70, x, 0, from); /* vpshufd: the upper half below */
        emit_byte(&l->e, 0xee);
        from = x86_reg_rm(x);
    }
    vector_op(l, vector_opcode((v->by & 1) != 0 ? IR_V_UWIDEN : IR_V_WIDEN, v->size), x, 0, from);
}

/* To X0: of twice the width. */
static void long_lanes(struct lower *l, const struct ir_vector *v)
{
    unsigned wide = 2u * v->size;
    bool first_is_wide = v->op == IR_V_ADDW || v->op == IR_V_SUBW;
    unsigned n = X1;
    widened(l, v, X2, vector_right(l, v));
    if (first_is_wide) {
        n = vector_in(l, v->n, X1);
    } else {
        widened(l, v, X1, vector_rm(v->n));
    }
    if (v->op >= IR_V_ADDL) {
        bool add = v->op == IR_V_ADDL || v->op == IR_V_ADDW;
        vector_op(l, vector_opcode(add ? IR_V_ADD : IR_V_SUB, wide), X0, n, x86_reg_rm(X2));
        return;
    }
    uint32_t multiply = vector_opcode(IR_V_MUL, wide);
    if (v->size == 4) {
        multiply = (v->by & 1) != 0 ? X86_0F | 0xf4 : X86_0F38 | 0x28; /* vpmuludq, vpmuldq */
    }
    vector_op(l, multiply, X0, X1, x86_reg_rm(X2));
    if (v->op == IR_V_MLAL) {
        vector_op(l, vector_opcode(IR_V_ADD, wide), X0, X0, vector_rm(v->d));
    } else if (v->op == IR_V_MLSL) {
        vector_op(l, vector_opcode(IR_V_SUB, wide), X0, vector_in(l, v->d, X1), x86_reg_rm(X0));
    }
}

/* The lower `size` bytes of each lane of twice that: dst = from. */
static void low_parts(struct lower *l, unsigned size, unsigned dst, unsigned from)
{
    vector_shift(l, 6, 2 * size, dst, from, size * 8);
    vector_shift(l, 2, 2 * size, dst, dst, size * 8);
}

static uint32_t pack(unsigned size)
{
    return size == 1 ? X86_0F | 0x67 : X86_0F38 | 0x2b; /* vpackuswb, vpackusdw: a's, then b's */
}

static bool narrow(struct lower *l, const struct ir_vector *v)
{
    unsigned n = vector_in(l, v->n, X0);
    if (v->by != 0) {
        vector_shift(l, 2, 2u * v->size, X0, n, v->by);
        n = X0;
    }
    if (v->size == 4) {
        vector_op(l, X86_0F | 0x70, X0, 0, x86_reg_rm(n)); /* vpshufd */
        emit_byte(&l->e, 0x08);
    } else {
        low_parts(l, v->size, X0, n);
        vector_op(l, pack(v->size), X0, X0, x86_reg_rm(X0));
    }
    if (v->bytes == 16) {
        vector_op(l, LOW_HALVES, X0, vector_in(l, v->d, X1), x86_reg_rm(X0));
    }
    return true;
}

static bool widen(struct lower *l, const struct ir_vector *v)
{
    unsigned by = v->by & 63u;
    struct x86_rm from = vector_rm(v->n);
    if ((v->by & 64) != 0) {
        vector_op(l, X86_0F | 0x70, X0, 0, from); /* vpshufd: the upper half below */
        emit_byte(&l->e, 0xee);
        from = x86_reg_rm(X0);
    }
    vector_op(l, vector_opcode((enum ir_vector_op)v->op, v->size), X0, 0, from);
    if (by != 0) {
        vector_shift(l, 6, 2u * v->size, X0, X0, by);
    }
    return true;
}

/*
 * Both operands as one of 16 bytes when they are of 8: what is made of that and itself has the
 * result in its lower half.
 */
static void both_halves(struct lower *l, const struct ir_vector *v, unsigned *n, unsigned *m)
{
    if (v->bytes == 8) {
        vector_op(l, LOW_HALVES, X0, vector_in(l, v->n, X0), vector_rm(v->m));
        *n = *m = X0;
        return;
    }
    *m = vector_in(l, v->m, X1);
    *n = vector_in(l, v->n, X0);
}

/* Bytes: each against its neighbour in a lane of 2. */
static void byte_pairs(struct lower *l, uint32_t opcode, unsigned n, unsigned m)
{
    const unsigned from[] = {m, n};
    const unsigned to[] = {X1, X0};
    for (unsigned i = 0; i < 2; i++) {
        vector_shift(l, 2, 2, X2, from[i], 8);
        vector_op(l, opcode, X2, X2, x86_reg_rm(from[i]));
        low_parts(l, 1, to[i], X2);
    }
    vector_op(l, pack(1), X0, X0, x86_reg_rm(X1));
}

static bool pairs(struct lower *l, const struct ir_vector *v)
{
    unsigned n = 0;
    unsigned m = 0;
    if (v->size == 1) {
        static const uint8_t ops[] = {[IR_V_UMAX_PAIRS] = IR_V_UMAX,
                                      [IR_V_UMIN_PAIRS] = IR_V_UMIN,
                                      [IR_V_ADD_PAIRS] = IR_V_ADD};
        both_halves(l, v, &n, &m);
        byte_pairs(l, vector_opcode((enum ir_vector_op)ops[v->op], 1), n, m);
        return true;
    }
    if (v->op != IR_V_ADD_PAIRS) {
        return false;
    }
    both_halves(l, v, &n, &m);
    if (v->size == 8) {
        vector_op(l, HIGH_HALVES, X2, n, x86_reg_rm(m));
        vector_op(l, LOW_HALVES, X0, n, x86_reg_rm(m));
        vector_op(l, vector_opcode(IR_V_ADD, 8), X0, X0, x86_reg_rm(X2));
        return true;
    }
    vector_op(l, X86_0F38 | (v->size == 2 ? 0x01u : 0x02u), X0, n, x86_reg_rm(m)); /* vphaddw, d */
    return true;
}

static bool zip(struct lower *l, const struct ir_vector *v)
{
    bool high = v->op == IR_V_ZIP2 && v->bytes == 8;
    enum ir_vector_op op = high ? IR_V_ZIP1 : (enum ir_vector_op)v->op;
    vector_op(l, vector_opcode(op, v->size), X0, vector_in(l, v->n, X0), vector_rm(v->m));
    if (high) {
        vector_op(l, X86_0F | 0x73, 3, X0, x86_reg_rm(X0)); /* vpsrldq */
        emit_byte(&l->e, 8);
    }
    return true;
}

static bool unzip(struct lower *l, const struct ir_vector *v)
{
    unsigned n = 0;
    unsigned m = 0;
    bool odd = v->op == IR_V_UZP2;
    both_halves(l, v, &n, &m);
    if (v->size == 8) {
        vector_op(l, odd ? HIGH_HALVES : LOW_HALVES, X0, n, x86_reg_rm(m));
        return true;
    }
    if (v->size == 4) {
        emit_vex(&l->e, X86_0F | 0xc6, false, X0, n, x86_reg_rm(m)); /* vshufps */
        emit_byte(&l->e, odd ? 0xdd : 0x88);
        return true;
    }
    const unsigned from[] = {m, n};
    const unsigned to[] = {X1, X0};
    for (unsigned i = 0; i < 2; i++) {
        if (odd) {
            vector_shift(l, 2, 2u * v->size, to[i], from[i], v->size * 8u);
        } else {
            low_parts(l, v->size, to[i], from[i]);
        }
    }
    vector_op(l, pack(v->size), X0, X0, x86_reg_rm(X1));
    return true;
}

/* x = two constants. */
static void constants(struct lower *l, unsigned x, uint64_t low, uint64_t high)
{
    emit_const(&l->e, RAX, low);
    emit_vex(&l->e, X86_66 | X86_0F | 0x6e, true, x, 0, x86_reg_rm(RAX));
    emit_const(&l->e, RAX, high);
    emit_vex(&l->e, X86_66 | X86_0F3A | 0x22, true, x, x, x86_reg_rm(RAX));
    emit_byte(&l->e, 1);
}

/* vpshufb takes numbers modulo 16 and 0 for 128 and more: 16 to 127 are made such. */
static bool table(struct lower *l, const struct ir_vector *v)
{
    constants(l, X1, 0x7070707070707070, 0x7070707070707070);
    vector_op(l, X86_0F | 0xdc, X1, X1, vector_rm(v->m)); /* vpaddusb */
    vector_op(l, X86_0F38, X0, vector_in(l, v->n, X0), x86_reg_rm(X1));
    return true;
}

static bool reverse(struct lower *l, const struct ir_vector *v)
{
    uint64_t low = 0;
    for (unsigned i = 0; i < 8; i++) {
        unsigned unit = i / v->by * v->by;
        unsigned lane = (i - unit) / v->size;
        unsigned from = unit + (v->by / v->size - 1u - lane) * v->size + i % v->size;
        low |= (uint64_t)from << (8 * i);
    }
    constants(l, X1, low, low + 0x0808080808080808);
    vector_op(l, X86_0F38, X0, vector_in(l, v->n, X0), x86_reg_rm(X1));
    return true;
}

/* To X0. */
bool lower_lanes(struct lower *l, const struct ir_vector *v)
{
    switch ((int)v->op) {
    case IR_V_MULL:
    case IR_V_MLAL:
    case IR_V_MLSL:
    case IR_V_ADDL:
    case IR_V_ADDW:
    case IR_V_SUBL:
    case IR_V_SUBW:
        long_lanes(l, v);
        return true;
    case IR_V_NARROW:
        return narrow(l, v);
    case IR_V_WIDEN:
    case IR_V_UWIDEN:
        return widen(l, v);
    case IR_V_UMAX_PAIRS:
    case IR_V_UMIN_PAIRS:
    case IR_V_ADD_PAIRS:
        return pairs(l, v);
    case IR_V_ZIP1:
    case IR_V_ZIP2:
        return zip(l, v);
    case IR_V_UZP1:
    case IR_V_UZP2:
        return unzip(l, v);
    case IR_V_TBL:
        return table(l, v);
    case IR_V_REV:
        return reverse(l, v);
    default:
        return false;
    }
}
