/*
 * front_fp.c - scalar floating point (Arm ARM, C4.1.97). The host computes; what differs is NaN:
 * x86 takes the first operand's and has a negative one of its own, Arm a signalling one first and a
 * positive one.
 */
#include <math.h>
#include <stddef.h>

#include "emu/guest/arm64/front_internal.h"
#include "emu/guest/arm64/lanes.h"
#include "emu/guest/arm64/simd.h"

#define QUIET_D ((uint64_t)1 << 51)
#define QUIET_S ((uint64_t)1 << 22)
#define NAN_D 0x7ff8000000000000u
#define NAN_S 0x7fc00000u

static bool is_nan(uint64_t v, bool wide)
{
    return wide ? (v & ~((uint64_t)1 << 63)) > 0x7ff0000000000000u
                : (v & 0x7fffffffu) > 0x7f800000u;
}

/* The result where an operand was no number, or where numbers made none. */
static uint64_t pick_nan(const struct arm64_state *state, const uint64_t *operand, unsigned count,
                         bool wide)
{
    uint64_t quiet = wide ? QUIET_D : QUIET_S;
    if ((state->fpcr & ARM64_FPCR_DN) != 0) {
        return wide ? NAN_D : NAN_S;
    }
    for (unsigned pass = 0; pass < 2; pass++) { /* signalling ones first */
        for (unsigned i = 0; i < count; i++) {
            if (is_nan(operand[i], wide) && ((operand[i] & quiet) != 0) == (pass != 0)) {
                return operand[i] | quiet;
            }
        }
    }
    return wide ? NAN_D : NAN_S;
}

uint64_t arm64_fp_nan(const struct arm64_state *state, uint64_t v, bool wide)
{
    return pick_nan(state, &v, 1, wide);
}

static double as_double(uint64_t v)
{
    double d = 0;
    memcpy(&d, &v, sizeof(d));
    return d;
}

static float as_float(uint64_t v)
{
    float f = 0;
    memcpy(&f, &v, sizeof(f));
    return f;
}

static uint64_t of_double(double d)
{
    uint64_t v = 0;
    memcpy(&v, &d, sizeof(d));
    return v;
}

static uint64_t of_float(float f)
{
    uint64_t v = 0;
    memcpy(&v, &f, sizeof(f));
    return v;
}

uint64_t arm64_fp_from_fixed(uint64_t v, bool is_unsigned, bool wide, unsigned bits)
{
    v = wide || is_unsigned ? v : (uint64_t)(int64_t)(int32_t)v;
    uint64_t r = arm64_fp_from_int(v, is_unsigned, wide);
    return wide ? of_double(ldexp(as_double(r), -(int)bits))
                : of_float(ldexpf(as_float(r), -(int)bits));
}

uint64_t arm64_fp_to_fixed(uint64_t v, bool is_unsigned, bool wide, unsigned bits)
{
    double x = ldexp(wide ? as_double(v) : (double)as_float(v), (int)bits);
    return arm64_fp_to_int(x, is_unsigned, wide ? 64 : 32, 3);
}

static uint64_t reg(const struct arm64_state *state, unsigned number, bool wide)
{
    return wide ? state->v[number].d[0] : state->v[number].s[0];
}

static void set_reg(struct arm64_state *state, unsigned number, uint64_t value)
{
    state->v[number].d[0] = value;
    state->v[number].d[1] = 0;
}

#define BINARY(type, x, y)                                                                         \
    switch (op) {                                                                                  \
    case 0:                                                                                        \
    case 8:                                                                                        \
        return (x) * (y);                                                                          \
    case 1:                                                                                        \
        return (x) / (y);                                                                          \
    case 2:                                                                                        \
        return (x) + (y);                                                                          \
    case 3:                                                                                        \
        return (x) - (y);                                                                          \
    case 4:                                                                                        \
    case 6:                                                                                        \
        return (x) == (y) ? (signbit(x) ? (y) : (x)) : (x) > (y) ? (x) : (y);                      \
    default:                                                                                       \
        return (x) == (y) ? (signbit(x) ? (x) : (y)) : (x) < (y) ? (x) : (y);                      \
    }

static double binary_d(unsigned op, double x, double y)
{
    BINARY(double, x, y)
}

static float binary_s(unsigned op, float x, float y)
{
    BINARY(float, x, y)
}

/* With FPCR.FZ what is too small is 0; the host does that where it computes, but not where it
 * chooses. */
static uint64_t flushed(const struct arm64_state *state, uint64_t v, bool wide)
{
    uint64_t sign = wide ? (uint64_t)1 << 63 : (uint64_t)1 << 31;
    uint64_t least = wide ? (uint64_t)1 << 52 : (uint64_t)1 << 23;
    bool small = (v & (sign - 1)) < least;
    return small && (state->fpcr & ARM64_FPCR_FZ) != 0 ? v & sign : v;
}

static uint64_t binary(const struct arm64_state *state, unsigned op, bool wide, uint64_t x,
                       uint64_t y)
{
    x = flushed(state, x, wide);
    y = flushed(state, y, wide);
    const uint64_t operand[] = {x, y};
    uint64_t quiet = wide ? QUIET_D : QUIET_S;
    if ((op == 6 || op == 7) && is_nan(x, wide) != is_nan(y, wide)) { /* MAXNM: the number */
        uint64_t nan = is_nan(x, wide) ? x : y;
        if ((nan & quiet) != 0) {
            return is_nan(x, wide) ? y : x;
        }
    }
    if (is_nan(x, wide) || is_nan(y, wide)) {
        return pick_nan(state, operand, 2, wide);
    }
    uint64_t r = wide ? of_double(binary_d(op, as_double(x), as_double(y)))
                      : of_float(binary_s(op, as_float(x), as_float(y)));
    return is_nan(r, wide) ? (wide ? NAN_D : NAN_S) : r;
}

uint64_t arm64_fp_binary(struct arm64_state *state, unsigned op, bool wide, uint64_t x, uint64_t y)
{
    uint64_t sign = wide ? (uint64_t)1 << 63 : (uint64_t)1 << 31;
    uint64_t r = binary(state, op, wide, x, y);
    return op == 8 ? r ^ sign : r; /* FNMUL: also of what is no number */
}

static uint64_t fp_two(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    (void)a;
    struct lane_args args = lane_unpack(imm);
    bool wide = args.size == 8;
    set_reg(state, args.rd,
            arm64_fp_binary(state, args.op, wide, reg(state, args.rn, wide),
                            reg(state, args.rm, wide)));
    return 0;
}

/* An infinity by a zero. */
static bool is_invalid_product(uint64_t n, uint64_t m, bool wide)
{
    uint64_t infinity = wide ? 0x7ff0000000000000u : 0x7f800000u;
    uint64_t mask = wide ? INT64_MAX : INT32_MAX;
    n &= mask;
    m &= mask;
    return (n == infinity && m == 0) || (n == 0 && m == infinity);
}

/* a + n * m: with one rounding. Bits of op: the product is negated, and a is. */
uint64_t arm64_fp_fused(struct arm64_state *state, unsigned op, bool wide, uint64_t addend,
                        uint64_t n, uint64_t m)
{
    uint64_t sign = wide ? (uint64_t)1 << 63 : (uint64_t)1 << 31;
    addend ^= (op & 2) != 0 ? sign : 0;
    n ^= (op & 1) != 0 ? sign : 0;
    const uint64_t operand[] = {addend, n, m};
    if (is_nan(addend, wide) && (addend & (wide ? QUIET_D : QUIET_S)) != 0 &&
        is_invalid_product(n, m, wide)) {
        return wide ? NAN_D : NAN_S; /* FPMulAdd(): not the addend */
    }
    uint64_t r = wide ? of_double(fma(as_double(n), as_double(m), as_double(addend)))
                      : of_float(fmaf(as_float(n), as_float(m), as_float(addend)));
    return is_nan(r, wide) ? pick_nan(state, operand, 3, wide) : r;
}

static uint64_t fp_three(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    (void)a;
    struct lane_args args = lane_unpack(imm);
    bool wide = args.size == 8;
    set_reg(state, args.rd,
            arm64_fp_fused(state, args.op, wide, reg(state, args.ra, wide),
                           reg(state, args.rn, wide), reg(state, args.rm, wide)));
    return 0;
}

/* 0 to nearest even, 1 up, 2 down, 3 to zero, 4 to nearest away. */
static double round_magnitude(double x, unsigned mode)
{
    switch (mode) {
    case 0: {
        double r = floor(x);
        double left = x - r;
        if (left > 0.5 || (left == 0.5 && fmod(r, 2) != 0)) {
            r += 1;
        }
        return r;
    }
    case 1:
        return ceil(x);
    case 2:
        return floor(x);
    case 3:
        return trunc(x);
    default:
        return round(x);
    }
}

/* A zero has the sign of what was rounded: C's functions say another when the mode is down. */
static double round_as(double x, unsigned mode)
{
    return copysign(round_magnitude(x, mode), x);
}

static uint64_t convert(const struct arm64_state *state, uint64_t v, bool from_wide, bool to_wide)
{
    if (is_nan(v, from_wide)) {
        if ((state->fpcr & ARM64_FPCR_DN) != 0) {
            return to_wide ? NAN_D : NAN_S;
        }
        return to_wide ? (v & 0x80000000u) << 32 | NAN_D | (v & 0x3fffff) << 29
                       : (v >> 32 & 0x80000000u) | NAN_S | (v >> 29 & 0x3fffff);
    }
    return to_wide ? of_double((double)as_float(v)) : of_float((float)as_double(v));
}

static uint64_t round_number(const struct arm64_state *state, uint64_t v, bool wide, unsigned op)
{
    unsigned mode = op >= 14 ? state->fpcr >> 22 & 3 : op - 8;
    if (is_nan(v, wide)) {
        return pick_nan(state, &v, 1, wide);
    }
    double r = round_as(wide ? as_double(v) : (double)as_float(v), mode);
    return wide ? of_double(r) : of_float((float)r);
}

uint64_t arm64_fp_unary(struct arm64_state *state, unsigned op, bool wide, uint64_t v)
{
    uint64_t sign = wide ? (uint64_t)1 << 63 : (uint64_t)1 << 31;
    switch (op) {
    case 0:
        return v;
    case 1:
        return v & ~sign;
    case 2:
        return v ^ sign;
    case 3: {
        uint64_t r = wide ? of_double(sqrt(as_double(v))) : of_float(sqrtf(as_float(v)));
        return is_nan(r, wide) ? pick_nan(state, &v, 1, wide) : r;
    }
    case 4:
        return convert(state, v, wide, false);
    case 5:
        return convert(state, v, wide, true);
    default:
        return round_number(state, v, wide, op);
    }
}

static uint64_t fp_one(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    (void)a;
    struct lane_args args = lane_unpack(imm);
    bool wide = args.size == 8;
    set_reg(state, args.rd, arm64_fp_unary(state, args.op, wide, reg(state, args.rn, wide)));
    return 0;
}

static uint64_t fp_compare(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    (void)a;
    struct lane_args args = lane_unpack(imm);
    bool wide = args.size == 8;
    uint64_t x = reg(state, args.rn, wide);
    uint64_t y = args.op != 0 ? 0 : reg(state, args.rm, wide);
    if (is_nan(x, wide) || is_nan(y, wide)) {
        return ARM64_C | ARM64_V;
    }
    double p = wide ? as_double(x) : (double)as_float(x);
    double q = wide ? as_double(y) : (double)as_float(y);
    return p == q ? ARM64_Z | ARM64_C : p < q ? ARM64_N : ARM64_C;
}

/* With saturation, and 0 for what is no number. */
uint64_t arm64_fp_to_int(double x, bool is_unsigned, unsigned bits, unsigned mode)
{
    if (x != x) {
        return 0;
    }
    double r = round_as(x, mode);
    if (is_unsigned) {
        double end = bits == 64 ? 0x1p64 : 0x1p32;
        return r <= 0 ? 0 : r >= end ? (bits == 64 ? UINT64_MAX : UINT32_MAX) : (uint64_t)r;
    }
    double end = bits == 64 ? 0x1p63 : 0x1p31;
    if (r >= end) {
        return bits == 64 ? INT64_MAX : INT32_MAX;
    }
    int64_t v = r < -end ? (bits == 64 ? INT64_MIN : INT32_MIN) : (int64_t)r;
    return bits == 64 ? (uint64_t)v : (uint32_t)v;
}

static uint64_t fp_to_gp(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    (void)a;
    struct lane_args args = lane_unpack(imm);
    bool wide = args.size == 8;
    uint64_t v = reg(state, args.rn, wide);
    double x = wide ? as_double(v) : (double)as_float(v);
    return arm64_fp_to_int(x, (args.op & 1) != 0, args.q != 0 ? 64 : 32, args.more);
}

uint64_t arm64_fp_from_int(uint64_t v, bool is_unsigned, bool wide)
{
    int64_t s = (int64_t)v;
    if (wide) {
        return of_double(is_unsigned ? (double)v : (double)s);
    }
    return of_float(is_unsigned ? (float)v : (float)s);
}

/* more: bits behind the point. */
static uint64_t gp_to_fp(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    struct lane_args args = lane_unpack(imm);
    bool is_unsigned = (args.op & 1) != 0;
    bool wide = args.size == 8;
    uint64_t v = args.q != 0 ? a : is_unsigned ? (uint32_t)a : (uint64_t)(int64_t)(int32_t)a;
    uint64_t r = arm64_fp_from_int(v, is_unsigned, wide);
    if (args.more != 0) {
        r = wide ? of_double(ldexp(as_double(r), -(int)args.more))
                 : of_float(ldexpf(as_float(r), -(int)args.more));
    }
    set_reg(state, args.rd, r);
    return 0;
}

/* To zero, of a number with ra bits behind the point. */
static uint64_t fixed_to_gp(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    (void)a;
    struct lane_args args = lane_unpack(imm);
    bool wide = args.size == 8;
    uint64_t v = reg(state, args.rn, wide);
    double x = ldexp(wide ? as_double(v) : (double)as_float(v), args.ra);
    return arm64_fp_to_int(x, (args.op & 1) != 0, args.q != 0 ? 64 : 32, 3);
}

static uint8_t size_of(const struct a64_args *a)
{
    return a->type == 1 ? 8 : 4;
}

/* One float, of size bytes. */
static struct ir_vector one(const struct a64_args *a, unsigned op)
{
    return (struct ir_vector){.op = (uint8_t)op,
                              .d = (uint8_t)a->rd,
                              .n = (uint8_t)a->rn,
                              .m = (uint8_t)a->rm,
                              .a = (uint8_t)a->ra,
                              .size = size_of(a),
                              .bytes = size_of(a)};
}

static bool front_fp_two(struct front *f, const struct a64_args *a)
{
    static const uint8_t ops[] = {IR_V_FMUL, IR_V_FDIV, IR_V_FADD, IR_V_FSUB, IR_V_FMAX,
                                  IR_V_FMIN, IR_V_FMAX, IR_V_FMIN, IR_V_FNMUL};
    front_call_vector(f, fp_two,
                      lane_pack((struct lane_args){.rd = (uint8_t)a->rd,
                                                   .rn = (uint8_t)a->rn,
                                                   .rm = (uint8_t)a->rm,
                                                   .op = (uint8_t)a->opcode,
                                                   .size = size_of(a)}),
                      one(a, ops[a->opcode]));
    return true;
}

static bool front_fp_three(struct front *f, const struct a64_args *a)
{
    /* o1 o0: FMADD, FMSUB, FNMADD, FNMSUB */
    static const uint8_t op[] = {0, 1, 3, 2};
    static const uint8_t ops[] = {IR_V_FMADD, IR_V_FMSUB, IR_V_FNMADD, IR_V_FNMSUB};
    front_call_vector(f, fp_three,
                      lane_pack((struct lane_args){.rd = (uint8_t)a->rd,
                                                   .rn = (uint8_t)a->rn,
                                                   .rm = (uint8_t)a->rm,
                                                   .ra = (uint8_t)a->ra,
                                                   .op = op[a->o1 << 1 | a->o0],
                                                   .size = size_of(a)}),
                      one(a, ops[a->o1 << 1 | a->o0]));
    return true;
}

/* FCVT to and from 16 bits: op 0 and 1. */
static uint64_t fp_half(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    struct lane_args args = lane_unpack(imm);
    bool wide = args.size == 8;
    (void)a;
    set_reg(state, args.rd,
            args.op != 0 ? arm64_from_half(state, state->v[args.rn].h[0], wide)
                         : arm64_to_half(state, reg(state, args.rn, wide), wide));
    return 0;
}

static bool convert_half(struct front *f, const struct a64_args *a)
{
    bool from = a->type == 3;
    bool good = from ? a->opcode == 4 || a->opcode == 5 : a->opcode == 7;
    bool wide = from ? a->opcode == 5 : a->type == 1;
    if (good) {
        front_call(
            f, fp_half,
            lane_pack((struct lane_args){
                .rd = (uint8_t)a->rd, .rn = (uint8_t)a->rn, .op = from, .size = wide ? 8 : 4}));
    }
    return good;
}

static bool front_fp_one(struct front *f, const struct a64_args *a)
{
    if (a->type == 3 || a->opcode == 7) {
        return convert_half(f, a);
    }
    static const uint8_t ops[16] = {IR_V_FMOV,  IR_V_FABS,  IR_V_FNEG,  IR_V_FSQRT,
                                    IR_V_FCVT,  IR_V_FCVT,  0,          0,
                                    IR_V_FRINT, IR_V_FRINT, IR_V_FRINT, IR_V_FRINT,
                                    0,          0,          IR_V_FRINT, IR_V_FRINT};
    bool to_same = a->opcode == 4 + a->type;
    if (a->opcode > 15 || a->opcode == 6 || a->opcode == 7 || a->opcode == 13 || to_same) {
        return false;
    }
    struct ir_vector vector = one(a, ops[a->opcode]);
    vector.by = (uint8_t)(a->opcode == 4 ? 4 : a->opcode == 5 ? 8 : a->opcode & 7);
    front_call_vector(f, fp_one,
                      lane_pack((struct lane_args){.rd = (uint8_t)a->rd,
                                                   .rn = (uint8_t)a->rn,
                                                   .op = (uint8_t)a->opcode,
                                                   .size = size_of(a)}),
                      vector);
    return true;
}

static uint64_t compare_args(const struct a64_args *a, bool zero)
{
    return lane_pack((struct lane_args){
        .rn = (uint8_t)a->rn, .rm = (uint8_t)a->rm, .op = zero, .size = size_of(a)});
}

static bool front_fcmp(struct front *f, const struct a64_args *a)
{
    struct ir_insn *insn = ir_add(f->ir, IR_FCMPF, NULL);
    insn->fn = fp_compare;
    insn->imm = (int64_t)compare_args(a, a->z != 0);
    insn->vector = one(a, IR_V_NONE);
    insn->vector.m = a->z != 0 ? 32 : (uint8_t)a->rm;
    insn->vector.by = a->e != 0; /* any NaN is an invalid operand */
    return true;
}

/* cond ? of the comparison : nzcv */
static bool front_fccmp(struct front *f, const struct a64_args *a)
{
    ir_value v = IR_NONE;
    struct ir_insn *call = ir_add(f->ir, IR_CALL, &v);
    call->fn = fp_compare;
    call->imm = (int64_t)compare_args(a, false);
    if (a->cond < IR_AL) {
        ir_value given = ir_const(f->ir, (uint64_t)(uint32_t)a->nzcv << 28);
        ir_value chosen = IR_NONE;
        struct ir_insn *insn = ir_add(f->ir, IR_SELECT, &chosen);
        insn->cond = (uint8_t)a->cond;
        insn->operand[0] = v;
        insn->operand[1] = given;
        v = chosen;
    }
    ir_add(f->ir, IR_PUTNZCV, NULL)->operand[0] = v;
    return true;
}

static ir_value get_lane(struct front *f, int32_t number, unsigned half, unsigned width)
{
    return front_get_state(f, front_vector_offset((unsigned)number, 8 * half), width);
}

static void put_scalar(struct front *f, int32_t number, ir_value v)
{
    ir_value zero = ir_const(f->ir, 0);
    front_put_vector(f, number, v, zero);
}

static bool front_fcsel(struct front *f, const struct a64_args *a)
{
    ir_value n = get_lane(f, a->rn, 0, size_of(a));
    ir_value m = get_lane(f, a->rm, 0, size_of(a));
    ir_value v = n;
    if (a->cond < IR_AL) {
        struct ir_insn *insn = ir_add(f->ir, IR_SELECT, &v);
        insn->cond = (uint8_t)a->cond;
        insn->operand[0] = n;
        insn->operand[1] = m;
    }
    put_scalar(f, a->rd, v);
    return true;
}

/* VFPExpandImm: sign, exponent, four bits of fraction. */
static uint64_t expand(uint32_t imm, bool wide)
{
    uint64_t sign = imm >> 7;
    uint64_t b = imm >> 6 & 1;
    uint64_t rest = imm & 63;
    if (wide) {
        return sign << 63 | (b ^ 1) << 62 | (b != 0 ? (uint64_t)0xff << 54 : 0) | rest << 48;
    }
    return sign << 31 | (b ^ 1) << 30 | (b != 0 ? (uint64_t)0x1f << 25 : 0) | rest << 19;
}

static bool front_fmov_imm(struct front *f, const struct a64_args *a)
{
    put_scalar(f, a->rd, ir_const(f->ir, expand((uint32_t)a->imm, a->type == 1)));
    return true;
}

static bool move_gp(struct front *f, const struct a64_args *a, unsigned half)
{
    if (a->opcode == 6) {
        front_put_x(f, a->rd, get_lane(f, a->rn, half, a->sf != 0 ? 8 : 4));
        return true;
    }
    ir_value v = front_x(f, a->rn);
    v = a->sf != 0 ? v : ir_op1i(f->ir, IR_ZEXT, 8, v, 4);
    if (half != 0) {
        front_put_state(f, front_vector_offset((unsigned)a->rd, 8), 8, v);
    } else {
        put_scalar(f, a->rd, v);
    }
    return true;
}

static bool front_fp_fixed(struct front *f, const struct a64_args *a)
{
    unsigned bits = 64 - (unsigned)a->scale;
    bool to_gp = a->opcode < 2;
    if (a->opcode > 3 || a->rmode != (to_gp ? 3 : 0) || (a->sf == 0 && a->scale < 32)) {
        return false;
    }
    struct lane_args args = {.rd = (uint8_t)a->rd,
                             .rn = (uint8_t)a->rn,
                             .op = (uint8_t)a->opcode,
                             .size = size_of(a),
                             .q = a->sf != 0,
                             .more = (uint8_t)bits,
                             .ra = (uint8_t)bits};
    ir_value n = to_gp ? IR_NONE : front_x(f, a->rn);
    ir_value v = IR_NONE;
    struct ir_insn *insn = ir_add(f->ir, IR_CALL, &v);
    insn->fn = to_gp ? fixed_to_gp : gp_to_fp;
    insn->imm = (int64_t)lane_pack(args);
    insn->operand[0] = n;
    if (to_gp) {
        front_put_x(f, a->rd, v);
    }
    return true;
}

static bool front_fp_int(struct front *f, const struct a64_args *a)
{
    if (a->opcode >= 6) {
        bool top = a->rmode == 1 && a->type == 2 && a->sf != 0;
        bool plain = a->rmode == 0 && a->type == a->sf;
        return (top || plain) && move_gp(f, a, top);
    }
    if (a->type > 1 || (a->rmode != 0 && a->opcode >= 2)) {
        return false;
    }
    struct lane_args args = {.rd = (uint8_t)a->rd,
                             .rn = (uint8_t)a->rn,
                             .op = (uint8_t)a->opcode,
                             .size = size_of(a),
                             .q = a->sf != 0,
                             .more = a->opcode >= 4 ? 4 : (uint8_t)a->rmode};
    /* gp_to_fp() has no bits behind the point then: its rmode is 0. */
    bool from_gp = a->opcode == 2 || a->opcode == 3;
    struct ir_vector vector = one(a, from_gp ? IR_V_FROM_INT : IR_V_TO_INT);
    vector.by = (uint8_t)((a->opcode & 1) | (a->sf != 0 ? 2 : 0));
    vector.a = args.more;
    ir_value v = IR_NONE;
    ir_value n = from_gp ? front_x(f, a->rn) : IR_NONE;
    struct ir_insn *insn = ir_add(f->ir, IR_CALL, &v);
    insn->fn = from_gp ? gp_to_fp : fp_to_gp;
    insn->imm = (int64_t)lane_pack(args);
    insn->operand[0] = n;
    insn->vector = vector;
    if (!from_gp) {
        front_put_x(f, a->rd, v);
    }
    return true;
}

front_fn *const arm64_front_fp[A64_OP_COUNT] = {A64_FP_OPS(FRONT_ROW)};
