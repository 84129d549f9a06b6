/*
 * lower_vector.c - vectors of integers by AVX of 128 bits.
 */
#include "base/macros.h"
#include "emu/host/x86_64/lower_internal.h"

/* Of lanes of 1, 2, 4, 8 bytes; 0: there is none. */
static const struct {
    uint32_t opcode[4];
} by_lanes[] = {
    [IR_V_ADD] = {{X86_0F | 0xfc, X86_0F | 0xfd, X86_0F | 0xfe, X86_0F | 0xd4}},
    [IR_V_SUB] = {{X86_0F | 0xf8, X86_0F | 0xf9, X86_0F | 0xfa, X86_0F | 0xfb}},
    [IR_V_EQ] = {{X86_0F | 0x74, X86_0F | 0x75, X86_0F | 0x76, X86_0F38 | 0x29}},
    [IR_V_GT] = {{X86_0F | 0x64, X86_0F | 0x65, X86_0F | 0x66, X86_0F38 | 0x37}},
    [IR_V_SMAX] = {{X86_0F38 | 0x3c, X86_0F | 0xee, X86_0F38 | 0x3d, 0}},
    [IR_V_SMIN] = {{X86_0F38 | 0x38, X86_0F | 0xea, X86_0F38 | 0x39, 0}},
    [IR_V_UMAX] = {{X86_0F | 0xde, X86_0F38 | 0x3e, X86_0F38 | 0x3f, 0}},
    [IR_V_UMIN] = {{X86_0F | 0xda, X86_0F38 | 0x3a, X86_0F38 | 0x3b, 0}},
    [IR_V_MUL] = {{0, X86_0F | 0xd5, X86_0F38 | 0x40, 0}},
    [IR_V_ABS] = {{X86_0F38 | 0x1c, X86_0F38 | 0x1d, X86_0F38 | 0x1e, 0}},
    [IR_V_ZIP1] = {{X86_0F | 0x60, X86_0F | 0x61, X86_0F | 0x62, X86_0F | 0x6c}},
    [IR_V_ZIP2] = {{X86_0F | 0x68, X86_0F | 0x69, X86_0F | 0x6a, X86_0F | 0x6d}},
    [IR_V_WIDEN] = {{X86_0F38 | 0x20, X86_0F38 | 0x23, X86_0F38 | 0x25, 0}},
    [IR_V_UWIDEN] = {{X86_0F38 | 0x30, X86_0F38 | 0x33, X86_0F38 | 0x35, 0}},
};

#define AND (X86_0F | 0xdb)
#define ANDN (X86_0F | 0xdf) /* ~first & second */
#define OR (X86_0F | 0xeb)
#define XOR (X86_0F | 0xef)

uint32_t vector_opcode(enum ir_vector_op op, unsigned size)
{
    return by_lanes[op].opcode[__builtin_ctz(size)];
}

static void zero(struct lower *l, unsigned x)
{
    vector_op(l, XOR, x, x, x86_reg_rm(x));
}

static void invert(struct lower *l, unsigned x, unsigned scratch)
{
    vector_ones(l, scratch);
    vector_op(l, XOR, x, x, x86_reg_rm(scratch));
}

void vector_broadcast(struct lower *l, unsigned x, unsigned reg, unsigned size, unsigned lane)
{
    struct emit *e = &l->e;
    if (size >= 4) {
        static const uint8_t halves[] = {0x44, 0xee};
        vector_op(l, X86_0F | 0x70, x, 0, vector_rm(reg)); /* vpshufd */
        emit_byte(e, size == 8 ? halves[lane & 1] : lane * 0x55u);
        return;
    }
    unsigned from = vector_in(l, reg, x);
    if (lane != 0) {
        vector_op(l, X86_0F | 0x73, 3, x, x86_reg_rm(from)); /* vpsrldq */
        emit_byte(e, lane * size);
        from = x;
    }
    vector_op(l, X86_0F38 | (size == 1 ? 0x78u : 0x79u), x, 0, x86_reg_rm(from));
}

/* A register with n. */
static unsigned left(struct lower *l, const struct ir_vector *v, unsigned scratch)
{
    if (v->n > 31) {
        zero(l, scratch);
        return scratch;
    }
    return vector_in(l, v->n, scratch);
}

struct x86_rm vector_right(struct lower *l, const struct ir_vector *v)
{
    if (v->m > 31) {
        zero(l, X2);
        return x86_reg_rm(X2);
    }
    if (v->lane != 0) {
        vector_broadcast(l, X2, v->m, v->size, v->lane - 1u);
        return x86_reg_rm(X2);
    }
    return vector_rm(v->m);
}

/* x = n op m for what x86 has as it is. */
static bool plain(struct lower *l, const struct ir_vector *v, unsigned x)
{
    static const uint32_t bitwise[] = {[IR_V_AND] = AND, [IR_V_OR] = OR, [IR_V_XOR] = XOR};
    uint32_t opcode = 0;
    if (v->op < COUNT(bitwise) && bitwise[v->op] != 0) {
        opcode = bitwise[v->op];
    } else {
        opcode = vector_opcode((enum ir_vector_op)v->op, v->size);
    }
    if (opcode == 0) {
        return false;
    }
    struct x86_rm m = vector_right(l, v);
    vector_op(l, opcode, x, left(l, v, X0), m);
    return true;
}

/* a >= b: the larger of both is a; a > b unsigned: the larger is not b. */
static bool compare(struct lower *l, const struct ir_vector *v)
{
    enum ir_vector_op max = v->op == IR_V_GE ? IR_V_SMAX : IR_V_UMAX;
    uint32_t opcode = vector_opcode(max, v->size);
    if (opcode == 0) {
        return false;
    }
    struct x86_rm m = vector_right(l, v);
    unsigned n = left(l, v, X1);
    vector_op(l, opcode, X0, n, m);
    vector_op(l, vector_opcode(IR_V_EQ, v->size), X0, X0, v->op == IR_V_HI ? m : x86_reg_rm(n));
    if (v->op == IR_V_HI) {
        invert(l, X0, X1);
    }
    return true;
}

static void test(struct lower *l, const struct ir_vector *v)
{
    vector_op(l, AND, X0, vector_in(l, v->n, X0), vector_rm(v->m));
    zero(l, X1);
    vector_op(l, vector_opcode(IR_V_EQ, v->size), X0, X0, x86_reg_rm(X1));
    invert(l, X0, X1);
}

/* (a & mask) | (b & ~mask), with one register more: b ^ ((a ^ b) & mask). */
static void select_bits(struct lower *l, const struct ir_vector *v)
{
    unsigned mask = v->op == IR_V_SELECT_D ? v->d : v->m;
    unsigned yes = v->op == IR_V_SELECT_NOT_M ? v->d : v->n;
    unsigned no = v->op == IR_V_SELECT_D ? v->m : v->op == IR_V_SELECT_M ? v->d : v->n;
    unsigned b = vector_in(l, no, X1);
    vector_op(l, XOR, X0, b, vector_rm(yes));
    vector_op(l, AND, X0, X0, vector_rm(mask));
    vector_op(l, XOR, X0, X0, x86_reg_rm(b));
}

/* x = the byte in all. */
static void all_bytes(struct lower *l, unsigned x, unsigned byte)
{
    emit_const(&l->e, RAX, byte * 0x01010101u);
    emit_vex(&l->e, X86_66 | X86_0F | 0x6e, false, x, 0, x86_reg_rm(RAX)); /* vmovd */
    vector_op(l, X86_0F38 | 0x58, x, 0, x86_reg_rm(x));                    /* vpbroadcastd */
}

/* x86 has none: words are shifted, and what came from the neighbour is masked. */
static void shift_bytes(struct lower *l, const struct ir_vector *v)
{
    bool to_left = v->op == IR_V_SHL;
    bool with_sign = v->op == IR_V_SAR || v->op == IR_V_SRA;
    unsigned by = with_sign && v->by > 7 ? 7 : v->by;
    vector_shift(l, to_left ? 6 : 2, 2, X0, vector_in(l, v->n, X0), by);
    all_bytes(l, X1, by > 7 ? 0 : to_left ? 0xffu << by & 0xffu : 0xffu >> by);
    vector_op(l, AND, X0, X0, x86_reg_rm(X1));
    if (with_sign) { /* what was the sign becomes one again */
        all_bytes(l, X1, 0x80u >> by);
        vector_op(l, XOR, X0, X0, x86_reg_rm(X1));
        vector_op(l, vector_opcode(IR_V_SUB, 1), X0, X0, x86_reg_rm(X1));
    }
}

/* And what is added to d. */
static bool shift(struct lower *l, const struct ir_vector *v)
{
    bool with_sign = v->op == IR_V_SAR || v->op == IR_V_SRA;
    if (with_sign && v->size == 8) {
        return false;
    }
    if (v->size == 1) {
        shift_bytes(l, v);
    } else {
        unsigned n = v->op == IR_V_SHL ? 6 : with_sign ? 4 : 2;
        vector_shift(l, n, v->size, X0, vector_in(l, v->n, X0), v->by);
    }
    if (v->op == IR_V_SRA || v->op == IR_V_USRA) {
        vector_op(l, vector_opcode(IR_V_ADD, v->size), X0, X0, vector_rm(v->d));
    }
    return true;
}

static bool insert_shifted(struct lower *l, const struct ir_vector *v)
{
    bool left_insert = v->op == IR_V_SLI;
    unsigned kept = v->size * 8u - v->by; /* bits of d that go */
    if (v->size == 1) {
        return false;
    }
    vector_shift(l, left_insert ? 6 : 2, v->size, X0, vector_in(l, v->n, X0), v->by);
    vector_shift(l, left_insert ? 6 : 2, v->size, X1, vector_in(l, v->d, X1), kept);
    vector_shift(l, left_insert ? 2 : 6, v->size, X1, X1, kept);
    vector_op(l, OR, X0, X0, x86_reg_rm(X1));
    return true;
}

static bool multiply_add(struct lower *l, const struct ir_vector *v)
{
    uint32_t opcode = vector_opcode(IR_V_MUL, v->size);
    if (opcode == 0) {
        return false;
    }
    struct x86_rm m = vector_right(l, v);
    vector_op(l, opcode, X0, vector_in(l, v->n, X0), m);
    if (v->op == IR_V_MLA) {
        vector_op(l, vector_opcode(IR_V_ADD, v->size), X0, X0, vector_rm(v->d));
    } else {
        vector_op(l, vector_opcode(IR_V_SUB, v->size), X0, vector_in(l, v->d, X1), x86_reg_rm(X0));
    }
    return true;
}

static bool one_source(struct lower *l, const struct ir_vector *v)
{
    switch ((int)v->op) {
    case IR_V_NOT:
        vector_ones(l, X1);
        vector_op(l, XOR, X0, X1, vector_rm(v->n));
        return true;
    case IR_V_NEG:
        zero(l, X1);
        vector_op(l, vector_opcode(IR_V_SUB, v->size), X0, X1, vector_rm(v->n));
        return true;
    case IR_V_ABS:
        if (vector_opcode(IR_V_ABS, v->size) == 0) {
            return false;
        }
        vector_op(l, vector_opcode(IR_V_ABS, v->size), X0, 0, vector_rm(v->n));
        return true;
    default: /* EQ_ZERO */
        zero(l, X1);
        vector_op(l, vector_opcode(IR_V_EQ, v->size), X0, X1, vector_rm(v->n));
        return true;
    }
}

static void with_inverse(struct lower *l, const struct ir_vector *v)
{
    unsigned m = vector_in(l, v->m, X1);
    if (v->op == IR_V_ANDN) {
        vector_op(l, ANDN, X0, m, vector_rm(v->n));
        return;
    }
    vector_ones(l, X0);
    vector_op(l, XOR, X0, X0, x86_reg_rm(m));
    vector_op(l, OR, X0, X0, vector_rm(v->n));
}

/* To X0. */
static bool compute(struct lower *l, const struct ir_vector *v)
{
    switch ((int)v->op) {
    case IR_V_ANDN:
    case IR_V_ORN:
        with_inverse(l, v);
        return true;
    case IR_V_SELECT_D:
    case IR_V_SELECT_M:
    case IR_V_SELECT_NOT_M:
        select_bits(l, v);
        return true;
    case IR_V_GE:
    case IR_V_HI:
    case IR_V_HS:
        return compare(l, v);
    case IR_V_TST:
        test(l, v);
        return true;
    case IR_V_EQ_ZERO:
    case IR_V_NOT:
    case IR_V_NEG:
    case IR_V_ABS:
        return one_source(l, v);
    case IR_V_SHL:
    case IR_V_SHR:
    case IR_V_SAR:
    case IR_V_SRA:
    case IR_V_USRA:
        return shift(l, v);
    case IR_V_SLI:
    case IR_V_SRI:
        return insert_shifted(l, v);
    case IR_V_MLA:
    case IR_V_MLS:
        return multiply_add(l, v);
    case IR_V_EXTRACT:
        vector_op(l, X86_0F3A | 0x0f, X0, vector_in(l, v->m, X1), vector_rm(v->n)); /* vpalignr */
        emit_byte(&l->e, v->by);
        return true;
    default:
        return v->op >= IR_V_AESE ? lower_crypto(l, v) : lower_lanes(l, v);
    }
}

static bool is_plain(const struct ir_vector *v)
{
    return (v->op >= IR_V_ADD && v->op <= IR_V_XOR && v->op != IR_V_ANDN && v->op != IR_V_ORN) ||
           v->op == IR_V_EQ || v->op == IR_V_GT || (v->op >= IR_V_SMAX && v->op <= IR_V_UMIN) ||
           v->op == IR_V_MUL;
}

bool lower_vector(struct lower *l)
{
    const struct ir_insn *insn = lower_now(l);
    const struct ir_vector *v = &insn->vector;
    if (insn->uses != 0 || v->op == IR_V_NONE || v->op >= IR_V_FADD) {
        return false;
    }
    unsigned x = X0;
    if (is_plain(v)) {
        x = v->bytes == 16 ? vector_dst(v->d) : X0;
        if (!plain(l, v, x)) {
            return false;
        }
    } else if (!compute(l, v)) {
        return false;
    }
    bool wide =
        v->op == IR_V_WIDEN || v->op == IR_V_UWIDEN || (v->op >= IR_V_MULL && v->op <= IR_V_SUBW);
    vector_out(l, v->d, x, wide ? 16 : v->bytes);
    return true;
}
