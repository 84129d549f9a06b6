/*
 * simd.c - lanes added, compared, shifted, moved.
 */
#include "emu/guest/arm64/simd.h"

#include "base/macros.h"
#include "emu/guest/arm64/lanes.h"
#include "emu/guest/arm64/saturate.h"

/* The whole register: 8 bytes leave zeros above. */
static void zero_above(union arm64_vector *v, unsigned bytes)
{
    memset(v->b + bytes, 0, sizeof(v->b) - bytes);
}

static void finish(struct arm64_state *state, const struct lane_args *args,
                   union arm64_vector *result)
{
    if (args->q < 16) {
        zero_above(result, args->q);
    }
    state->v[args->rd] = *result;
}

static uint64_t yes(bool condition)
{
    return condition ? UINT64_MAX : 0;
}

/* To the left by the signed byte of b, to the right when that is negative. */
static uint64_t shift_by(uint64_t a, uint64_t b, unsigned bytes, bool is_signed)
{
    int by = (int8_t)b;
    int bits = (int)bytes * 8;
    if (by >= bits) {
        return 0;
    }
    if (by >= 0) {
        return a << by;
    }
    if (is_signed) {
        return (uint64_t)(lane_signed(a, bytes) >> MIN(-by, 63));
    }
    return -by >= bits ? 0 : a >> -by;
}

static uint64_t polynomial(uint64_t a, uint64_t b)
{
    uint64_t r = 0;
    for (unsigned i = 0; i < 8; i++) {
        r ^= (b >> i & 1) != 0 ? a << i : 0;
    }
    return r;
}

static uint64_t logic(unsigned op, uint64_t d, uint64_t a, uint64_t b)
{
    switch (op - SIMD_LOGIC) {
    case 0:
        return a & b;
    case 1:
        return a & ~b;
    case 2:
        return a | b;
    case 3:
        return a | ~b;
    case 4:
        return a ^ b;
    case 5:
        return (d & a) | (~d & b);
    case 6:
        return (b & a) | (~b & d);
    default:
        return (~b & a) | (b & d);
    }
}

bool arm64_simd_three_known(unsigned op)
{
    if (saturate_is_three(op)) {
        return true;
    }
    switch (op & 31) {
    case 0:
    case 2:
    case 4:
    case 6:
    case 7:
    case 8:
    case 12:
    case 13:
    case 14:
    case 15:
    case 16:
    case 17:
    case 18:
    case 19:
    case 20:
    case 21:
        return true;
    case 23:
        return op == 23;
    default:
        return false;
    }
}

static uint64_t pick(uint64_t a, uint64_t b, unsigned bytes, bool is_unsigned, bool larger)
{
    bool a_larger = is_unsigned ? a > b : lane_signed(a, bytes) > lane_signed(b, bytes);
    return a_larger == larger ? a : b;
}

static uint64_t distance(uint64_t a, uint64_t b, unsigned bytes, bool is_unsigned)
{
    uint64_t high = pick(a, b, bytes, is_unsigned, true);
    return high - (high == a ? b : a);
}

/* Sums of two lanes, halved, without losing the carry: in 64 bits but for the widest, which have
 * none. */
static uint64_t halved(uint64_t a, uint64_t b, unsigned bytes, bool is_unsigned, int64_t round,
                       bool subtract)
{
    int64_t x = is_unsigned ? (int64_t)a : lane_signed(a, bytes);
    int64_t y = is_unsigned ? (int64_t)b : lane_signed(b, bytes);
    return (uint64_t)((subtract ? x - y : x + y + round) >> 1);
}

static uint64_t three(unsigned op, uint64_t d, uint64_t a, uint64_t b, unsigned bytes)
{
    bool u = (op & 32) != 0;
    if (op >= SIMD_LOGIC) {
        return logic(op, d, a, b);
    }
    switch (op & 31) {
    case 0:
    case 2:
    case 4:
        return halved(a, b, bytes, u, (op & 31) == 2, (op & 31) == 4);
    case 6:
        return yes(u ? a > b : lane_signed(a, bytes) > lane_signed(b, bytes));
    case 7:
        return yes(u ? a >= b : lane_signed(a, bytes) >= lane_signed(b, bytes));
    case 8:
        return shift_by(a, b, bytes, !u);
    case 12:
    case 20:
        return pick(a, b, bytes, u, true);
    case 13:
    case 21:
        return pick(a, b, bytes, u, false);
    case 14:
        return distance(a, b, bytes, u);
    case 15:
        return d + distance(a, b, bytes, u);
    case 16:
        return u ? a - b : a + b;
    case 17:
        return yes(u ? a == b : (a & b) != 0);
    case 18:
        return u ? d - a * b : d + a * b;
    case 19:
        return u ? polynomial(a, b) : a * b;
    default:
        return a + b; /* ADDP */
    }
}

static bool is_pairwise(unsigned op)
{
    return op < SIMD_LOGIC && ((op & 31) == 20 || (op & 31) == 21 || (op & 31) == 23);
}

uint64_t arm64_simd_three(struct arm64_state *state, uint64_t imm, uint64_t x)
{
    const struct lane_args args = lane_unpack(imm);
    const union arm64_vector n = state->v[args.rn];
    const union arm64_vector m = state->v[args.rm];
    union arm64_vector r = state->v[args.rd];
    unsigned lanes = args.q / args.size;
    (void)x;
    for (unsigned i = 0; i < lanes; i++) {
        uint64_t a = lane_get(&n, args.size, i);
        uint64_t b = lane_get(&m, args.size, i);
        if (is_pairwise(args.op)) {
            const union arm64_vector *from = i < lanes / 2 ? &n : &m;
            unsigned first = i % (lanes / 2) * 2;
            a = lane_get(from, args.size, first);
            b = lane_get(from, args.size, first + 1);
        }
        uint64_t v = args.op < SIMD_LOGIC && saturate_is_three(args.op)
                         ? saturate_three(state, args.op, a, b, args.size)
                         : three(args.op, lane_get(&r, args.size, i), a, b, args.size);
        lane_set(&r, args.size, i, v);
    }
    finish(state, &args, &r);
    return 0;
}

/* Long: lanes twice as wide; wide: one operand is; narrow: the result is half. */
bool arm64_simd_different_known(unsigned op)
{
    bool unsigned_only = (op & 16) != 0 && (op & 15) >= 9 && (op & 15) != 10 && (op & 15) != 12;
    return (op & 15) != 15 && !unsigned_only;
}

static uint64_t widen(uint64_t v, unsigned bytes, bool is_unsigned)
{
    return is_unsigned ? v : (uint64_t)lane_signed(v, bytes);
}

static void narrow_high(struct arm64_state *state, const struct lane_args *args)
{
    const union arm64_vector n = state->v[args->rn];
    const union arm64_vector m = state->v[args->rm];
    union arm64_vector r = {.d = {0, 0}};
    unsigned bits = args->size * 8u;
    bool subtract = (args->op & 2) != 0;
    uint64_t round = (args->op & 16) != 0 ? (uint64_t)1 << (bits - 1) : 0;
    unsigned lanes = 8u / args->size;
    unsigned base = args->q == 16 ? lanes : 0;
    for (unsigned i = 0; i < lanes; i++) {
        uint64_t a = lane_get(&n, args->size * 2u, i);
        uint64_t b = lane_get(&m, args->size * 2u, i);
        uint64_t v = (subtract ? a - b : a + b) + round;
        lane_set(&r, args->size, base + i, v >> bits);
    }
    if (args->q == 16) {
        r.d[0] = state->v[args->rd].d[0];
    }
    state->v[args->rd] = r;
}

static uint64_t different(unsigned op, uint64_t d, uint64_t a, uint64_t b)
{
    switch (op) {
    case 0:
    case 1:
        return a + b;
    case 2:
    case 3:
        return a - b;
    case 5:
        return d + ((int64_t)a > (int64_t)b ? a - b : b - a);
    case 7:
        return (int64_t)a > (int64_t)b ? a - b : b - a;
    case 8:
        return d + a * b;
    case 10:
        return d - a * b;
    case 14:
        return polynomial(a, b);
    default:
        return a * b;
    }
}

static bool is_doubling(unsigned op)
{
    return op == 9 || op == 11 || op == 13;
}

uint64_t arm64_simd_different(struct arm64_state *state, uint64_t imm, uint64_t x)
{
    const struct lane_args args = lane_unpack(imm);
    unsigned op = args.op & 15;
    (void)x;
    if (op == 4 || op == 6) {
        narrow_high(state, &args);
        return 0;
    }
    const union arm64_vector n = state->v[args.rn];
    const union arm64_vector m = state->v[args.rm];
    union arm64_vector r = state->v[args.rd];
    bool u = (args.op & 16) != 0 || op == 14;
    bool wide = op == 1 || op == 3;
    bool scalar = args.q == args.size;
    unsigned lanes = scalar ? 1 : 8u / args.size;
    unsigned base = args.q == 16 ? lanes : 0;
    for (unsigned i = 0; i < lanes; i++) {
        uint64_t a = wide ? lane_get(&n, args.size * 2u, i)
                          : widen(lane_get(&n, args.size, base + i), args.size, u);
        uint64_t b = widen(lane_get(&m, args.size, base + i), args.size, u);
        uint64_t d = lane_get(&r, args.size * 2u, i);
        uint64_t v = is_doubling(op)
                         ? saturate_double(state, op, d, (int64_t)a, (int64_t)b, args.size * 2u)
                         : different(op, d, a, b);
        lane_set(&r, args.size * 2u, i, v);
    }
    if (scalar) {
        zero_above(&r, args.size * 2u);
    }
    state->v[args.rd] = r;
    return 0;
}

bool arm64_simd_two_known(unsigned op, int32_t size, bool q)
{
    switch (op) {
    case 0:
        return size < 3;
    case 32:
        return size < 2;
    case 1:
        return size == 0;
    case 2:
    case 34:
    case 6:
    case 38:
    case 4:
    case 36:
        return size < 3;
    case 3:
    case 35:
    case 7:
    case 39:
        return size < 3 || q;
    case 20: /* SQXTN, UQXTN, SQXTUN */
    case 52:
    case 50:
        return size < 3;
    case 5:
        return size == 0; /* CNT */
    case 37:
        return size < 2; /* NOT, RBIT */
    case 18:
        return size < 3; /* XTN */
    case 51:
        return size < 3; /* SHLL */
    case 8:
    case 40:
    case 9:
    case 41:
    case 10:
    case 11:
    case 43:
        return size < 3 || q;
    default:
        return false;
    }
}

static uint64_t reverse_bits(uint64_t a)
{
    uint64_t r = 0;
    for (unsigned i = 0; i < 8; i++) {
        r |= (a >> i & 1) << (7 - i);
    }
    return r;
}

static uint64_t leading(uint64_t a, unsigned bytes, bool sign)
{
    unsigned bits = bytes * 8;
    uint64_t v = sign ? a ^ ((uint64_t)lane_signed(a, bytes) >> 1) : a;
    v &= lane_mask(bytes);
    unsigned zeros = v == 0 ? bits : (unsigned)__builtin_clzll(v) - (64 - bits);
    return sign ? MIN(zeros, bits) - 1 : zeros;
}

static uint64_t two(unsigned op, uint64_t a, unsigned bytes, unsigned size)
{
    int64_t s = lane_signed(a, bytes);
    switch (op) {
    case 4:
        return leading(a, bytes, true);
    case 36:
        return leading(a, bytes, false);
    case 5:
        return (unsigned)__builtin_popcountll(a);
    case 37:
        return size == 1 ? reverse_bits(a) : ~a;
    case 8:
        return yes(s > 0);
    case 40:
        return yes(s >= 0);
    case 9:
        return yes(s == 0);
    case 41:
        return yes(s <= 0);
    case 10:
        return yes(s < 0);
    case 11:
        return s < 0 ? 0 - a : a;
    default:
        return 0 - a;
    }
}

/* Lanes within units of 8, 4 or 2 bytes, the other way round. */
static void reverse(struct arm64_state *state, const struct lane_args *args, unsigned unit)
{
    const union arm64_vector n = state->v[args->rn];
    union arm64_vector r = {.d = {0, 0}};
    unsigned in_unit = unit / args->size;
    for (unsigned i = 0; i < args->q / args->size; i++) {
        unsigned from = i / in_unit * in_unit + (in_unit - 1 - i % in_unit);
        lane_set(&r, args->size, i, lane_get(&n, args->size, from));
    }
    finish(state, args, &r);
}

static void pair_long(struct arm64_state *state, const struct lane_args *args)
{
    const union arm64_vector n = state->v[args->rn];
    union arm64_vector r = state->v[args->rd];
    bool u = (args->op & 32) != 0;
    bool accumulate = (args->op & 31) == 6;
    for (unsigned i = 0; i < args->q / args->size / 2u; i++) {
        uint64_t sum = widen(lane_get(&n, args->size, 2 * i), args->size, u) +
                       widen(lane_get(&n, args->size, 2 * i + 1), args->size, u);
        sum += accumulate ? lane_get(&r, args->size * 2u, i) : 0;
        lane_set(&r, args->size * 2u, i, sum);
    }
    finish(state, args, &r);
}

/* XTN, and to the upper half; SHLL the other way. */
static void narrow(struct arm64_state *state, const struct lane_args *args)
{
    const union arm64_vector n = state->v[args->rn];
    union arm64_vector r = {.d = {0, 0}};
    unsigned lanes = args->q == args->size ? 1 : 8u / args->size;
    unsigned base = args->q == 16 ? lanes : 0;
    for (unsigned i = 0; i < lanes; i++) {
        uint64_t v = lane_get(&n, args->size * 2u, i);
        v = args->op == 18
                ? v
                : saturate_narrow(state, v, args->size, args->op == 52, args->op != 20, 0, false);
        lane_set(&r, args->size, base + i, v);
    }
    if (args->q == 16) {
        r.d[0] = state->v[args->rd].d[0];
    }
    state->v[args->rd] = r;
}

static void shift_long(struct arm64_state *state, const struct lane_args *args)
{
    const union arm64_vector n = state->v[args->rn];
    union arm64_vector r = {.d = {0, 0}};
    unsigned lanes = 8u / args->size;
    unsigned base = args->q == 16 ? lanes : 0;
    for (unsigned i = 0; i < lanes; i++) {
        lane_set(&r, args->size * 2u, i, lane_get(&n, args->size, base + i) << (args->size * 8u));
    }
    state->v[args->rd] = r;
}

uint64_t arm64_simd_two(struct arm64_state *state, uint64_t imm, uint64_t x)
{
    struct lane_args args = lane_unpack(imm);
    (void)x;
    switch (args.op) {
    case 0:
    case 32:
    case 1:
        reverse(state, &args, args.op == 0 ? 8 : args.op == 32 ? 4 : 2);
        return 0;
    case 2:
    case 34:
    case 6:
    case 38:
        pair_long(state, &args);
        return 0;
    case 18:
    case 20:
    case 52:
    case 50:
        narrow(state, &args);
        return 0;
    case 51:
        shift_long(state, &args);
        return 0;
    default:
        break;
    }
    unsigned size = args.size >> 1; /* NOT and RBIT: of bytes, whatever it says */
    if (args.op == 37 || args.op == 5) {
        args.size = 1;
    }
    const union arm64_vector n = state->v[args.rn];
    const union arm64_vector d = state->v[args.rd];
    union arm64_vector r = {.d = {0, 0}};
    for (unsigned i = 0; i < args.q / args.size; i++) {
        uint64_t a = lane_get(&n, args.size, i);
        uint64_t v = saturate_is_two(args.op)
                         ? saturate_two(state, args.op, lane_get(&d, args.size, i), a, args.size)
                         : two(args.op, a, args.size, size);
        lane_set(&r, args.size, i, v);
    }
    finish(state, &args, &r);
    return 0;
}

/* 3: ADDLV; 10: MAXV; 26: MINV; 27: ADDV. */
uint64_t arm64_simd_across(struct arm64_state *state, uint64_t imm, uint64_t x)
{
    const struct lane_args args = lane_unpack(imm);
    const union arm64_vector n = state->v[args.rn];
    bool u = (args.op & 32) != 0;
    unsigned op = args.op & 31;
    uint64_t sum = lane_get(&n, args.size, 0);
    (void)x;
    sum = op == 3 ? widen(sum, args.size, u) : sum;
    for (unsigned i = 1; i < args.q / args.size; i++) {
        uint64_t lane = lane_get(&n, args.size, i);
        if (op == 3) {
            sum += widen(lane, args.size, u);
        } else if (op == 27) {
            sum += lane;
        } else {
            sum = pick(sum, lane, args.size, u, op == 10);
        }
    }
    unsigned bytes = op == 3 ? args.size * 2u : args.size;
    state->v[args.rd] = (union arm64_vector){.d = {sum & lane_mask(bytes), 0}};
    return 0;
}

bool arm64_simd_shift_known(unsigned op, unsigned log)
{
    switch (op) {
    case 0: /* SSHR, USHR */
    case 32:
    case 2: /* SSRA, USRA */
    case 34:
    case 4: /* SRSHR, URSHR */
    case 36:
    case 6: /* SRSRA, URSRA */
    case 38:
    case 40: /* SRI */
    case 10: /* SHL */
    case 42: /* SLI */
        return true;
    case 12 + 32: /* SQSHLU, SQSHL, UQSHL */
    case 14:
    case 14 + 32:
        return true;
    case 16 + 32: /* SQSHRUN, SQRSHRUN, SQSHRN, SQRSHRN, UQSHRN, UQRSHRN */
    case 17 + 32:
    case 18:
    case 19:
    case 18 + 32:
    case 19 + 32:
    case 16: /* SHRN, RSHRN */
    case 17:
    case 20: /* SSHLL, USHLL */
    case 52:
        return log < 3;
    default:
        return false;
    }
}

static uint64_t shift_right(uint64_t a, unsigned by, unsigned bytes, bool u, bool round)
{
    __int128 wide = u ? (__int128)a : (__int128)lane_signed(a, bytes);
    wide += round ? (__int128)1 << (by - 1) : 0;
    return (uint64_t)(wide >> by);
}

static uint64_t shift_lane(unsigned op, uint64_t d, uint64_t a, unsigned by, unsigned bytes)
{
    bool u = (op & 32) != 0;
    unsigned bits = bytes * 8;
    uint64_t mask = 0;
    switch (op) {
    case 10:
        return a << by;
    case 42:
        mask = lane_mask(bytes) << by;
        return (a << by & mask) | (d & ~mask);
    case 40:
        mask = by == bits ? 0 : lane_mask(bytes) >> by;
        return (by == bits ? 0 : a >> by) | (d & ~mask);
    default: {
        uint64_t v = shift_right(a, by, bytes, u, (op & 4) != 0);
        return (op & 2) != 0 ? d + v : v;
    }
    }
}

static void shift_wide(struct arm64_state *state, const struct lane_args *args, unsigned by)
{
    const union arm64_vector n = state->v[args->rn];
    union arm64_vector r = {.d = {0, 0}};
    unsigned lanes = 8u / args->size;
    unsigned base = args->q == 16 ? lanes : 0;
    for (unsigned i = 0; i < lanes; i++) {
        uint64_t v = widen(lane_get(&n, args->size, base + i), args->size, args->op == 52);
        lane_set(&r, args->size * 2u, i, v << by);
    }
    state->v[args->rd] = r;
}

static void shift_narrow(struct arm64_state *state, const struct lane_args *args, unsigned by)
{
    const union arm64_vector n = state->v[args->rn];
    union arm64_vector r = {.d = {0, 0}};
    unsigned lanes = args->q == args->size ? 1 : 8u / args->size;
    unsigned base = args->q == 16 ? lanes : 0;
    unsigned op = args->op & 31;
    bool u = (args->op & 32) != 0;
    bool plain = !u && op < 18;
    for (unsigned i = 0; i < lanes; i++) {
        uint64_t v = lane_get(&n, args->size * 2u, i);
        v = plain ? shift_right(v, by, args->size * 2u, true, op == 17)
                  : saturate_narrow(state, v, args->size, op >= 18 && u, u, by, (op & 1) != 0);
        lane_set(&r, args->size, base + i, v);
    }
    if (args->q == 16) {
        r.d[0] = state->v[args->rd].d[0];
    }
    state->v[args->rd] = r;
}

uint64_t arm64_simd_shift(struct arm64_state *state, uint64_t imm, uint64_t x)
{
    const struct lane_args args = lane_unpack(imm);
    unsigned bits = args.size * 8u;
    unsigned left = args.more - bits;
    unsigned right = 2 * bits - args.more;
    (void)x;
    if (args.op == 20 || args.op == 52) {
        shift_wide(state, &args, left);
        return 0;
    }
    if ((args.op & 31) >= 16 && (args.op & 31) <= 19) {
        shift_narrow(state, &args, right);
        return 0;
    }
    const union arm64_vector n = state->v[args.rn];
    union arm64_vector r = state->v[args.rd];
    bool saturates = (args.op & 31) == 12 || (args.op & 31) == 14;
    unsigned by = args.op == 10 || args.op == 42 || saturates ? left : right;
    for (unsigned i = 0; i < args.q / args.size; i++) {
        uint64_t a = lane_get(&n, args.size, i);
        bool from_unsigned = args.op == 14 + 32;
        uint64_t v =
            saturates ? saturate_left(state, a, args.size, from_unsigned, (args.op & 32) != 0, by)
                      : shift_lane(args.op, lane_get(&r, args.size, i), a, by, args.size);
        lane_set(&r, args.size, i, v);
    }
    finish(state, &args, &r);
    return 0;
}
