/*
 * simd_move.c - lanes that change their places, and vectors of floats.
 */
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

static uint64_t float_lane(struct arm64_state *state, unsigned op, bool wide, uint64_t d,
                           uint64_t a, uint64_t b)
{
    switch (op) {
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
        return arm64_fp_binary(state, 6, wide, a, b);
    case FLOAT(0, 1, 24):
        return arm64_fp_binary(state, 7, wide, a, b);
    case FLOAT(0, 1, 26):
        return arm64_fp_binary(state, 3, wide, a, b);
    case FLOAT(1, 1, 26):
        return arm64_fp_unary(state, 1, wide, arm64_fp_binary(state, 3, wide, a, b));
    case FLOAT(1, 0, 27):
        return arm64_fp_binary(state, 0, wide, a, b);
    case FLOAT(0, 0, 30):
        return arm64_fp_binary(state, 4, wide, a, b);
    case FLOAT(0, 1, 30):
        return arm64_fp_binary(state, 5, wide, a, b);
    case FLOAT(1, 0, 31):
        return arm64_fp_binary(state, 1, wide, a, b);
    default:
        return arm64_fp_binary(state, 2, wide, a, b);
    }
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
        if (op == FLOAT(1, 0, 26)) {
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
    case 26:
    case 27:
    case 28:
        return arm64_fp_to_int(x, u, wide ? 64 : 32, modes[high][(op & 31) - 26]);
    case 29:
        return arm64_fp_from_int(wide ? a : u ? a : (uint64_t)lane_signed(a, 4), u, wide);
    default:
        return arm64_fp_unary(state, 3, wide, a);
    }
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
