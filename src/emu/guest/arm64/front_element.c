/*
 * front_element.c - vectors by one element of another (Arm ARM, C4.1.97, "vector x indexed
 * element").
 *
 * They are what the instructions of whole vectors are, with the element in all lanes.
 */
#include "emu/guest/arm64/front_internal.h"
#include "emu/guest/arm64/lanes.h"
#include "emu/guest/arm64/simd.h"

/* ra: which element of rm. */
static void with_element(struct arm64_state *state, uint64_t imm, ir_call_fn *whole)
{
    struct lane_args args = lane_unpack(imm);
    union arm64_vector all;
    uint8_t scratch = 0;
    while (scratch == args.rd || scratch == args.rn) {
        scratch++;
    }
    uint64_t element = lane_get(&state->v[args.rm], args.size, args.ra);
    for (unsigned i = 0; i < 16u / args.size; i++) {
        lane_set(&all, args.size, i, element);
    }
    const union arm64_vector before = state->v[scratch];
    state->v[scratch] = all;
    args.rm = scratch;
    args.ra = 0;
    (void)whole(state, lane_pack(args), 0);
    state->v[scratch] = before;
}

static uint64_t element_three(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    (void)a;
    with_element(state, imm, arm64_simd_three);
    return 0;
}

static uint64_t element_different(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    (void)a;
    with_element(state, imm, arm64_simd_different);
    return 0;
}

static uint64_t element_float(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    (void)a;
    with_element(state, imm, arm64_simd_float_three);
    return 0;
}

/* The numbers that simd.c knows them by; 0: no such instruction here. */
static const uint8_t three_ops[32] = {[12] = 22 /* SQDMULH */,
                                      [13] = 32 + 22 /* SQRDMULH */,
                                      [8] = 19 /* MUL */,
                                      [16 + 0] = 18 /* MLA */,
                                      [16 + 4] = 32 + 18 /* MLS */};
static const uint8_t different_ops[32] = {
    [3] = 9 /* SQDMLAL */,     [7] = 11 /* SQDMLSL */,     [11] = 13 /* SQDMULL */,
    [2] = 8 /* SMLAL */,       [6] = 10 /* SMLSL */,       [10] = 12 /* SMULL */,
    [16 + 2] = 16 + 8 /* U */, [16 + 6] = 16 + 10 /* U */, [16 + 10] = 16 + 12 /* U */};

static struct ir_vector vector_of(struct lane_args args, unsigned op)
{
    struct ir_vector vector = front_vector(args, op, 0);
    vector.lane = (uint8_t)(args.ra + 1);
    return vector;
}

static bool by_float(struct front *f, const struct a64_args *a, struct lane_args args, bool scalar)
{
    bool is_double = a->size == 3;
    if (a->size < 2 || (is_double && (a->l != 0 || (!scalar && args.q == 8)))) {
        return false;
    }
    args.size = is_double ? 8 : 4;
    args.ra = (uint8_t)(is_double ? a->h : a->h << 1 | a->l);
    switch (a->u << 4 | a->opcode) {
    case 1: /* FMLA */
    case 5: /* FMLS */
        args.op = 25;
        args.more = a->opcode == 5;
        break;
    case 9: /* FMUL */
        args.op = 32 + 27;
        break;
    case 16 + 9: /* FMULX */
        args.op = 27;
        break;
    default:
        return false;
    }
    if (!arm64_simd_float_known(args.op, args.more)) {
        return false;
    }
    static const uint8_t ops[] = {[1] = IR_V_FMADD, [5] = IR_V_FMSUB, [9] = IR_V_FMUL};
    front_call_vector(f, element_float, lane_pack(args),
                      vector_of(args, a->u != 0 ? IR_V_NONE : ops[a->opcode]));
    return true;
}

static struct lane_args args_of(const struct a64_args *a, uint8_t q)
{
    return (struct lane_args){
        .rd = (uint8_t)a->rd,
        .rn = (uint8_t)a->rn,
        .rm = (uint8_t)(a->size == 1 ? a->rm : a->m << 4 | a->rm),
        .ra = (uint8_t)(a->size == 1 ? a->h << 2 | a->l << 1 | a->m : a->h << 1 | a->l),
        .size = (uint8_t)(1u << a->size),
        .q = q,
    };
}

static bool by_integer(struct front *f, const struct a64_args *a, struct lane_args args)
{
    unsigned op = (unsigned)(a->u << 4 | a->opcode);
    if (a->size != 1 && a->size != 2) {
        return false;
    }
    bool whole = three_ops[op] != 0;
    args.op = whole ? three_ops[op] : different_ops[op];
    if (args.op == 0) {
        return false;
    }
    static const uint8_t long_ops[16] = {
        [8] = IR_V_MLAL, [10] = IR_V_MLSL, [12] = IR_V_MULL}; /* by the lower bits of args.op */
    struct ir_vector of_different = vector_of(args, long_ops[args.op & 15]);
    of_different.by = (uint8_t)((a->u != 0 ? 1 : 0) | (args.q == 16 ? 2 : 0));
    unsigned own = args.op == 19        ? IR_V_MUL
                   : args.op == 18      ? IR_V_MLA
                   : args.op == 32 + 18 ? IR_V_MLS
                                        : IR_V_NONE;
    front_call_vector(f, whole ? element_three : element_different, lane_pack(args),
                      whole ? vector_of(args, own) : of_different);
    return true;
}

/* Opcode 13 is no float, though its lower bits are those of floats. */
bool front_simd_element(struct front *f, const struct a64_args *a)
{
    struct lane_args args = args_of(a, a->q != 0 ? 16 : 8);
    return (a->opcode & 3) == 1 && a->opcode != 13 ? by_float(f, a, args, false)
                                                   : by_integer(f, a, args);
}

bool front_simd_element_s(struct front *f, const struct a64_args *a)
{
    bool saturates =
        a->u == 0 && (a->opcode == 3 || a->opcode == 7 || (a->opcode >= 11 && a->opcode <= 13));
    if (saturates) {
        return (a->size == 1 || a->size == 2) &&
               by_integer(f, a, args_of(a, (uint8_t)(1u << a->size)));
    }
    struct lane_args args = args_of(a, a->size == 3 ? 8 : 4);
    return (a->opcode & 3) == 1 && by_float(f, a, args, true);
}

/* The two lanes of rn as two vectors of one. */
static uint64_t pair_float(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    struct lane_args args = lane_unpack(imm);
    uint8_t one = args.rd == 0 ? 1 : 0;
    uint8_t other = args.rd <= 1 ? 2 : 1;
    const union arm64_vector both = state->v[args.rn];
    const union arm64_vector before[] = {state->v[one], state->v[other]};
    (void)a;
    lane_set(&state->v[one], args.size, 0, lane_get(&both, args.size, 0));
    lane_set(&state->v[other], args.size, 0, lane_get(&both, args.size, 1));
    args.rn = one;
    args.rm = other;
    (void)arm64_simd_float_three(state, lane_pack(args), 0);
    state->v[one] = before[0];
    state->v[other] = before[1];
    return 0;
}

/* FMAXNMP, FADDP, FMAXP, and with the upper bit of size FMINNMP and FMINP. */
bool front_simd_fpair_s(struct front *f, const struct a64_args *a)
{
    static const uint8_t ops[32] = {[12] = 24, [13] = 26, [15] = 30};
    struct lane_args args = {
        .rd = (uint8_t)a->rd,
        .rn = (uint8_t)a->rn,
        .op = ops[a->opcode],
        .size = (a->size & 1) != 0 ? 8 : 4,
        .more = (uint8_t)(a->size >> 1),
    };
    args.q = args.size;
    if (args.op == 0 || (args.op == 26 && args.more != 0) ||
        !arm64_simd_float_known(args.op, args.more)) {
        return false;
    }
    front_call(f, pair_float, lane_pack(args));
    return true;
}
