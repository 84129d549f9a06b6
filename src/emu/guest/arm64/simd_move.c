/*
 * simd_move.c - lanes that change their places, and vectors of floats.
 */
#include <math.h>

#include "emu/guest/arm64/lanes.h"
#include "emu/guest/arm64/simd.h"

static void finish(struct arm64_state *state, const struct lane_args *args,
                   union arm64_vector *result)
{
    if (args->q <= 8) {
        result->d[1] = 0;
    }
    if (args->q == 4) {
        result->s[1] = 0;
    }
    state->v[args->rd] = *result;
}

uint64_t arm64_simd_ext(struct arm64_state *state, uint64_t imm, uint64_t x)
{
    const struct lane_args args = lane_unpack(imm);
    union arm64_vector r = {.d = {0, 0}};
    (void)x;
    for (unsigned i = 0; i < args.q; i++) {
        unsigned from = i + args.more;
        r.b[i] = from < args.q ? state->v[args.rn].b[from] : state->v[args.rm].b[from - args.q];
    }
    finish(state, &args, &r);
    return 0;
}

/* Bytes by their number from one to four registers; op: others stay, else they become 0. */
uint64_t arm64_simd_tbl(struct arm64_state *state, uint64_t imm, uint64_t x)
{
    const struct lane_args args = lane_unpack(imm);
    union arm64_vector r = state->v[args.rd];
    (void)x;
    for (unsigned i = 0; i < args.q; i++) {
        unsigned from = state->v[args.rm].b[i];
        if (from < 16u * (args.more + 1u)) {
            r.b[i] = state->v[(args.rn + from / 16) & 31].b[from % 16];
        } else if (args.op == 0) {
            r.b[i] = 0;
        }
    }
    finish(state, &args, &r);
    return 0;
}

/* 1: UZP1, 2: TRN1, 3: ZIP1; and 4: their other halves. */
uint64_t arm64_simd_permute(struct arm64_state *state, uint64_t imm, uint64_t x)
{
    const struct lane_args args = lane_unpack(imm);
    const union arm64_vector in[2] = {state->v[args.rn], state->v[args.rm]};
    union arm64_vector r = {.d = {0, 0}};
    unsigned lanes = args.q / args.size;
    unsigned part = args.op >> 2;
    (void)x;
    for (unsigned i = 0; i < lanes; i++) {
        unsigned which = i & 1;
        unsigned from = (i & ~1u) + part;
        if ((args.op & 3) == 1) {
            which = i >= lanes / 2;
            from = i % (lanes / 2) * 2 + part;
        } else if ((args.op & 3) == 3) {
            from = i / 2 + part * lanes / 2;
        }
        lane_set(&r, args.size, i, lane_get(&in[which], args.size, from));
    }
    finish(state, &args, &r);
    return 0;
}

/* U, the upper bit of size, opcode. */
#define FLOAT(u, high, opcode) ((u) << 6 | (high) << 5 | (opcode))

bool arm64_simd_float_known(unsigned op, unsigned more)
{
    switch (FLOAT(op >> 5 & 1, more, op & 31)) {
    case FLOAT(0, 0, 27): /* FMULX */
    case FLOAT(0, 0, 31): /* FRECPS, FRSQRTS */
    case FLOAT(0, 1, 31):
    case FLOAT(1, 0, 29): /* FACGE, FACGT */
    case FLOAT(1, 1, 29):
    case FLOAT(1, 0, 24): /* FMAXNMP, FMINNMP, FMAXP, FMINP */
    case FLOAT(1, 1, 24):
    case FLOAT(1, 0, 30):
    case FLOAT(1, 1, 30):
    case FLOAT(0, 0, 24): /* FMAXNM */
    case FLOAT(0, 1, 24): /* FMINNM */
    case FLOAT(0, 0, 25): /* FMLA */
    case FLOAT(0, 1, 25): /* FMLS */
    case FLOAT(0, 0, 26): /* FADD */
    case FLOAT(0, 1, 26): /* FSUB */
    case FLOAT(1, 0, 26): /* FADDP */
    case FLOAT(1, 1, 26): /* FABD */
    case FLOAT(1, 0, 27): /* FMUL */
    case FLOAT(0, 0, 28): /* FCMEQ */
    case FLOAT(1, 0, 28): /* FCMGE */
    case FLOAT(1, 1, 28): /* FCMGT */
    case FLOAT(0, 0, 30): /* FMAX */
    case FLOAT(0, 1, 30): /* FMIN */
    case FLOAT(1, 0, 31): /* FDIV */
        return true;
    default:
        return false;
    }
}

static double number(uint64_t v, bool wide)
{
    double d = 0;
    float f = 0;
    if (wide) {
        memcpy(&d, &v, sizeof(d));
        return d;
    }
    memcpy(&f, &v, sizeof(f));
    return (double)f;
}

/* FMULX: an infinity by 0 is 2, with the sign of both. */
static uint64_t multiply_extended(struct arm64_state *state, bool wide, uint64_t a, uint64_t b)
{
    uint64_t sign = wide ? (uint64_t)1 << 63 : (uint64_t)1 << 31;
    double x = fabs(number(a, wide));
    double y = fabs(number(b, wide));
    if ((isinf(x) && y == 0) || (x == 0 && isinf(y))) {
        return ((a ^ b) & sign) | (wide ? 0x4000000000000000u : 0x40000000u);
    }
    return arm64_fp_binary(state, 0, wide, a, b);
}

static uint64_t float_lane(struct arm64_state *state, unsigned op, bool wide, uint64_t d,
                           uint64_t a, uint64_t b)
{
    switch (op) {
    case FLOAT(0, 0, 27):
        return multiply_extended(state, wide, a, b);
    case FLOAT(0, 0, 31):
    case FLOAT(0, 1, 31):
        return arm64_step(state, a, b, wide, op == FLOAT(0, 1, 31));
    case FLOAT(1, 0, 29):
        return fabs(number(a, wide)) >= fabs(number(b, wide)) ? UINT64_MAX : 0;
    case FLOAT(1, 1, 29):
        return fabs(number(a, wide)) > fabs(number(b, wide)) ? UINT64_MAX : 0;
    case FLOAT(0, 0, 25):
    case FLOAT(0, 1, 25):
        return arm64_fp_fused(state, op == FLOAT(0, 1, 25), wide, d, a, b);
    case FLOAT(0, 0, 28):
        return number(a, wide) == number(b, wide) ? UINT64_MAX : 0;
    case FLOAT(1, 0, 28):
        return number(a, wide) >= number(b, wide) ? UINT64_MAX : 0;
    case FLOAT(1, 1, 28):
        return number(a, wide) > number(b, wide) ? UINT64_MAX : 0;
    case FLOAT(0, 0, 24):
    case FLOAT(1, 0, 24):
        return arm64_fp_binary(state, 6, wide, a, b);
    case FLOAT(0, 1, 24):
    case FLOAT(1, 1, 24):
        return arm64_fp_binary(state, 7, wide, a, b);
    case FLOAT(0, 1, 26):
        return arm64_fp_binary(state, 3, wide, a, b);
    case FLOAT(1, 1, 26):
        return arm64_fp_unary(state, 1, wide, arm64_fp_binary(state, 3, wide, a, b));
    case FLOAT(1, 0, 27):
        return arm64_fp_binary(state, 0, wide, a, b);
    case FLOAT(0, 0, 30):
    case FLOAT(1, 0, 30):
        return arm64_fp_binary(state, 4, wide, a, b);
    case FLOAT(0, 1, 30):
    case FLOAT(1, 1, 30):
        return arm64_fp_binary(state, 5, wide, a, b);
    case FLOAT(1, 0, 31):
        return arm64_fp_binary(state, 1, wide, a, b);
    default:
        return arm64_fp_binary(state, 2, wide, a, b);
    }
}

static bool is_float_pairwise(unsigned op)
{
    return op == FLOAT(1, 0, 26) || op == FLOAT(1, 0, 24) || op == FLOAT(1, 1, 24) ||
           op == FLOAT(1, 0, 30) || op == FLOAT(1, 1, 30);
}

uint64_t arm64_simd_float_three(struct arm64_state *state, uint64_t imm, uint64_t x)
{
    const struct lane_args args = lane_unpack(imm);
    const union arm64_vector n = state->v[args.rn];
    const union arm64_vector m = state->v[args.rm];
    union arm64_vector r = state->v[args.rd];
    unsigned op = FLOAT(args.op >> 5 & 1u, args.more, args.op & 31u);
    unsigned lanes = args.q / args.size;
    (void)x;
    for (unsigned i = 0; i < lanes; i++) {
        uint64_t a = lane_get(&n, args.size, i);
        uint64_t b = lane_get(&m, args.size, i);
        if (is_float_pairwise(op)) {
            const union arm64_vector *from = i < lanes / 2 ? &n : &m;
            a = lane_get(from, args.size, i % (lanes / 2) * 2);
            b = lane_get(from, args.size, i % (lanes / 2) * 2 + 1);
        }
        uint64_t d = lane_get(&r, args.size, i);
        lane_set(&r, args.size, i, float_lane(state, op, args.size == 8, d, a, b));
    }
    finish(state, &args, &r);
    return 0;
}

bool arm64_simd_float_two_known(unsigned op, unsigned high)
{
    switch (FLOAT(op >> 5, high, op & 31)) {
    case FLOAT(0, 1, 12): /* FCMGT, FCMEQ, FCMLT, FCMGE, FCMLE with zero */
    case FLOAT(0, 1, 13):
    case FLOAT(0, 1, 14):
    case FLOAT(1, 1, 12):
    case FLOAT(1, 1, 13):
    case FLOAT(0, 1, 15): /* FABS, FNEG */
    case FLOAT(1, 1, 15):
    case FLOAT(0, 0, 24): /* FRINTN, FRINTP, FRINTA, FRINTM, FRINTZ, FRINTX, FRINTI */
    case FLOAT(0, 1, 24):
    case FLOAT(1, 0, 24):
    case FLOAT(0, 0, 25):
    case FLOAT(0, 1, 25):
    case FLOAT(1, 0, 25):
    case FLOAT(1, 1, 25):
    case FLOAT(0, 1, 28): /* URECPE, URSQRTE */
    case FLOAT(1, 1, 28):
    case FLOAT(0, 1, 29): /* FRECPE, FRSQRTE */
    case FLOAT(1, 1, 29):
    case FLOAT(0, 1, 31): /* FRECPX */
    case FLOAT(0, 0, 22): /* FCVTN, FCVTL, FCVTXN */
    case FLOAT(0, 0, 23):
    case FLOAT(1, 0, 22):
    case FLOAT(0, 0, 26): /* FCVTNS, FCVTNU, FCVTPS, FCVTPU */
    case FLOAT(1, 0, 26):
    case FLOAT(0, 1, 26):
    case FLOAT(1, 1, 26):
    case FLOAT(0, 0, 27): /* FCVTMS, FCVTMU, FCVTZS, FCVTZU */
    case FLOAT(1, 0, 27):
    case FLOAT(0, 1, 27):
    case FLOAT(1, 1, 27):
    case FLOAT(0, 0, 28): /* FCVTAS, FCVTAU */
    case FLOAT(1, 0, 28):
    case FLOAT(0, 0, 29): /* SCVTF, UCVTF */
    case FLOAT(1, 0, 29):
    case FLOAT(1, 1, 31): /* FSQRT */
        return true;
    default:
        return false;
    }
}

/* FRINTN, FRINTP, FRINTA, FRINTM, FRINTZ, FRINTX, FRINTI as the scalars' numbers. */
static uint64_t round_lane(struct arm64_state *state, unsigned op, unsigned high, bool wide,
                           uint64_t a)
{
    static const uint8_t to[2][2][2] = {{{8, 9}, {12, 0}}, {{10, 11}, {14, 15}}};
    return arm64_fp_unary(state, to[op & 1][op >> 5][high], wide, a);
}

static uint64_t float_two(struct arm64_state *state, unsigned op, unsigned high, bool wide,
                          uint64_t a)
{
    static const uint8_t modes[2][3] = {{0, 2, 4}, {1, 3, 4}}; /* of opcodes 26 to 28 */
    bool u = (op & 32) != 0;
    double x = number(a, wide);
    switch (op & 31) {
    case 12:
        return (u ? x >= 0 : x > 0) ? UINT64_MAX : 0;
    case 13:
        return (u ? x <= 0 : x == 0) ? UINT64_MAX : 0;
    case 14:
        return x < 0 ? UINT64_MAX : 0;
    case 15:
        return arm64_fp_unary(state, u ? 2 : 1, wide, a);
    case 24:
    case 25:
        return round_lane(state, op, high, wide, a);
    case 26:
    case 27:
    case 28:
        if ((op & 31) == 28 && high != 0) {
            return arm64_estimate_u32((uint32_t)a, u);
        }
        return arm64_fp_to_int(x, u, wide ? 64 : 32, modes[high][(op & 31) - 26]);
    case 29:
        if (high != 0) {
            return u ? arm64_estimate_root(state, a, wide) : arm64_estimate(state, a, wide);
        }
        return arm64_fp_from_int(wide ? a : u ? a : (uint64_t)lane_signed(a, 4), u, wide);
    default:
        return u ? arm64_fp_unary(state, 3, wide, a) : arm64_exponent_turned(state, a, wide);
    }
}

/* FCVTL, FCVTL2: size of the result, 4 or 8; FCVTN, FCVTN2: of the operand, 4 or 8; FCVTXN
 * likewise. */
uint64_t arm64_simd_float_resize(struct arm64_state *state, uint64_t imm, uint64_t x)
{
    const struct lane_args args = lane_unpack(imm);
    const union arm64_vector n = state->v[args.rn];
    union arm64_vector r = {.d = {0, 0}};
    unsigned half = args.size / 2u;
    bool wide = args.size == 8;
    bool longer = (args.op & 31) == 23;
    bool scalar = args.q == half;
    unsigned lanes = scalar ? 1 : 16u / args.size;
    unsigned base = args.q == 16 ? lanes : 0;
    (void)x;
    for (unsigned i = 0; i < lanes; i++) {
        if (longer) {
            uint64_t v = lane_get(&n, half, base + i);
            lane_set(&r, args.size, i,
                     wide ? arm64_fp_unary(state, 5, false, v) : arm64_from_half(state, v, false));
            continue;
        }
        uint64_t v = lane_get(&n, args.size, i);
        lane_set(&r, half, base + i,
                 (args.op & 32) != 0 ? arm64_to_single_odd(state, v)
                 : wide              ? arm64_fp_unary(state, 4, true, v)
                                     : arm64_to_half(state, v, false));
    }
    if (!longer && args.q == 16) {
        r.d[0] = state->v[args.rd].d[0];
    }
    state->v[args.rd] = r;
    return 0;
}

/* Lanes with bits behind the point: op 28 from integers, else to them. */
uint64_t arm64_simd_float_fixed(struct arm64_state *state, uint64_t imm, uint64_t x)
{
    const struct lane_args args = lane_unpack(imm);
    const union arm64_vector n = state->v[args.rn];
    union arm64_vector r = {.d = {0, 0}};
    bool u = (args.op & 32) != 0;
    (void)x;
    for (unsigned i = 0; i < args.q / args.size; i++) {
        uint64_t v = lane_get(&n, args.size, i);
        lane_set(&r, args.size, i,
                 (args.op & 31) == 28 ? arm64_fp_from_fixed(v, u, args.size == 8, args.more)
                                      : arm64_fp_to_fixed(v, u, args.size == 8, args.more));
    }
    finish(state, &args, &r);
    return 0;
}

/* FMAXNMV, FMINNMV, FMAXV, FMINV: pairs of pairs. op: of arm64_fp_binary(). */
uint64_t arm64_simd_float_across(struct arm64_state *state, uint64_t imm, uint64_t x)
{
    const struct lane_args args = lane_unpack(imm);
    const union arm64_vector n = state->v[args.rn];
    (void)x;
    uint64_t low = arm64_fp_binary(state, args.op, false, n.s[0], n.s[1]);
    uint64_t high = arm64_fp_binary(state, args.op, false, n.s[2], n.s[3]);
    state->v[args.rd] =
        (union arm64_vector){.d = {arm64_fp_binary(state, args.op, false, low, high), 0}};
    return 0;
}

uint64_t arm64_simd_float_two(struct arm64_state *state, uint64_t imm, uint64_t x)
{
    const struct lane_args args = lane_unpack(imm);
    const union arm64_vector n = state->v[args.rn];
    union arm64_vector r = {.d = {0, 0}};
    (void)x;
    for (unsigned i = 0; i < args.q / args.size; i++) {
        lane_set(&r, args.size, i,
                 float_two(state, args.op, args.more, args.size == 8, lane_get(&n, args.size, i)));
    }
    finish(state, &args, &r);
    return 0;
}
