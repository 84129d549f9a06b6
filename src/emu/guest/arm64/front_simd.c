/*
 * front_simd.c - Advanced SIMD (Arm ARM, C4.1.97): by C functions over lanes, but for what is a
 * move.
 */
#include <stddef.h>

#include "emu/guest/arm64/front_internal.h"
#include "emu/guest/arm64/lanes.h"
#include "emu/guest/arm64/simd.h"

#define NO_VECTOR 32 /* reads as zeros */

static bool call(struct front *f, ir_call_fn *fn, struct lane_args args)
{
    front_call(f, fn, lane_pack(args));
    return true;
}

/* The same, and what a host may do instead. */
static bool call_vector(struct front *f, ir_call_fn *fn, struct lane_args args, unsigned op,
                        unsigned by)
{
    front_call_vector(f, fn, lane_pack(args), front_vector(args, op, by));
    return true;
}

/* Of one source and zeros: n op 0, or 0 op n. */
static bool call_with_zero(struct front *f, ir_call_fn *fn, struct lane_args args, unsigned op,
                           bool zero_first)
{
    front_call_vector(f, fn, lane_pack(args),
                      (struct ir_vector){.op = (uint8_t)op,
                                         .d = args.rd,
                                         .n = zero_first ? NO_VECTOR : args.rn,
                                         .m = zero_first ? args.rn : NO_VECTOR,
                                         .size = args.size,
                                         .bytes = args.q});
    return true;
}

static struct lane_args args_of(const struct a64_args *a, unsigned bytes)
{
    return (struct lane_args){.rd = (uint8_t)a->rd,
                              .rn = (uint8_t)a->rn,
                              .rm = (uint8_t)a->rm,
                              .size = (uint8_t)bytes,
                              .q = a->q != 0 ? 16 : 8};
}

/* By U:opcode. */
static const uint8_t three_ops[SIMD_LOGIC + 8] = {
    [6] = IR_V_GT,
    [32 + 6] = IR_V_HI,
    [7] = IR_V_GE,
    [32 + 7] = IR_V_HS,
    [12] = IR_V_SMAX,
    [32 + 12] = IR_V_UMAX,
    [13] = IR_V_SMIN,
    [32 + 13] = IR_V_UMIN,
    [16] = IR_V_ADD,
    [17] = IR_V_TST,
    [18] = IR_V_MLA,
    [32 + 18] = IR_V_MLS,
    [19] = IR_V_MUL,
    [23] = IR_V_ADD_PAIRS,
    [32 + 16] = IR_V_SUB,
    [32 + 17] = IR_V_EQ,
    [32 + 20] = IR_V_UMAX_PAIRS,
    [32 + 21] = IR_V_UMIN_PAIRS,
    [SIMD_LOGIC] = IR_V_AND,
    [SIMD_LOGIC + 1] = IR_V_ANDN,
    [SIMD_LOGIC + 2] = IR_V_OR,
    [SIMD_LOGIC + 3] = IR_V_ORN,
    [SIMD_LOGIC + 4] = IR_V_XOR,
    [SIMD_LOGIC + 5] = IR_V_SELECT_D,
    [SIMD_LOGIC + 6] = IR_V_SELECT_M,
    [SIMD_LOGIC + 7] = IR_V_SELECT_NOT_M,
};

/* U, upper bit of size, opcode from 24 on. */
static const uint8_t float_ops[2][2][8] = {
    {{IR_V_FMAX, IR_V_FMADD, IR_V_FADD, 0, IR_V_FCMEQ, 0, IR_V_FMAX, 0},
     {IR_V_FMIN, IR_V_FMSUB, IR_V_FSUB, 0, 0, 0, IR_V_FMIN, 0}},
    {{0, 0, 0, IR_V_FMUL, IR_V_FCMGE, 0, 0, IR_V_FDIV}, {0, 0, 0, 0, IR_V_FCMGT, 0, 0, 0}},
};

static bool float_three(struct front *f, const struct a64_args *a, struct lane_args args)
{
    return arm64_simd_float_known(args.op, args.more) &&
           call_vector(f, arm64_simd_float_three, args, float_ops[a->u][args.more][a->opcode - 24],
                       0);
}

static bool front_simd_three(struct front *f, const struct a64_args *a)
{
    struct lane_args args = args_of(a, 1u << a->size);
    args.op = (uint8_t)(a->u << 5 | a->opcode);
    if (a->opcode == 3) {
        args.op = (uint8_t)(SIMD_LOGIC + (unsigned)(a->u << 2 | a->size));
        args.size = 8;
        if (args.op == SIMD_LOGIC + 2 && a->rn == a->rm && a->q != 0) { /* MOV */
            struct ir_insn *insn = ir_add(f->ir, IR_COPYV, NULL);
            insn->reg = (uint8_t)a->rd;
            insn->imm = a->rn;
            return true;
        }
        return call_vector(f, arm64_simd_three, args, three_ops[args.op], 0);
    }
    if (a->opcode >= 0x18) { /* floats: the upper bit of size chooses, the lower is the width */
        args.size = (a->size & 1) != 0 ? 8 : 4;
        args.more = (uint8_t)(a->size >> 1);
        return (args.size == 4 || a->q != 0) && float_three(f, a, args);
    }
    /* Of 64 bits there are comparisons, shifts and sums. */
    bool saturates = a->opcode == 1 || a->opcode == 5 || (a->opcode >= 9 && a->opcode <= 11);
    bool wide = saturates || a->opcode == 6 || a->opcode == 7 || a->opcode == 8 ||
                a->opcode == 16 || a->opcode == 17 || a->opcode == 23;
    if (!arm64_simd_three_known(args.op) || (a->size == 3 && (a->q == 0 || !wide)) ||
        (args.op == 32 + 19 && a->size != 0) || (a->opcode == 22 && a->size == 0)) {
        return false;
    }
    return call_vector(f, arm64_simd_three, args, three_ops[args.op], 0);
}

/* Of 64 bits: shifts, comparisons, additions. */
static bool front_simd_three_s(struct front *f, const struct a64_args *a)
{
    struct lane_args args = args_of(a, 8);
    args.op = (uint8_t)(a->u << 5 | a->opcode);
    args.q = 8;
    if (a->opcode >= 0x18) {
        unsigned bytes = (a->size & 1) != 0 ? 8 : 4;
        args.size = args.q = (uint8_t)bytes;
        args.more = (uint8_t)(a->size >> 1);
        bool alone = a->opcode == 28 || a->opcode == 29 || args.op == 31 || args.op == 27;
        bool distance = args.op == 32 + 26 && args.more != 0;
        return (alone || distance) && float_three(f, a, args);
    }
    if (a->opcode == 1 || a->opcode == 5 || a->opcode == 9 || a->opcode == 11 || a->opcode == 22) {
        args.size = args.q = (uint8_t)(1u << a->size);
        return !(a->opcode == 22 && (a->size == 0 || a->size == 3)) &&
               call(f, arm64_simd_three, args);
    }
    bool known = a->opcode == 10 || a->opcode == 6 || a->opcode == 7 || a->opcode == 8 ||
                 a->opcode == 16 || a->opcode == 17;
    return a->size == 3 && known && call_vector(f, arm64_simd_three, args, three_ops[args.op], 0);
}

static bool front_simd_different(struct front *f, const struct a64_args *a)
{
    struct lane_args args = args_of(a, 1u << a->size);
    args.op = (uint8_t)(a->u << 4 | a->opcode);
    bool doubling = a->opcode == 9 || a->opcode == 11 || a->opcode == 13;
    if ((doubling && a->size == 0) || (a->opcode == 14 && a->size != 0)) {
        return false;
    }
    static const uint8_t ops[16] = {
        [0] = IR_V_ADDL, [1] = IR_V_ADDW,  [2] = IR_V_SUBL, [3] = IR_V_SUBW,
        [8] = IR_V_MLAL, [10] = IR_V_MLSL, [12] = IR_V_MULL};
    return arm64_simd_different_known(args.op) &&
           call_vector(f, arm64_simd_different, args, ops[a->opcode],
                       (a->u != 0 ? 1u : 0) | (a->q != 0 ? 2u : 0));
}

static bool front_simd_different_s(struct front *f, const struct a64_args *a)
{
    struct lane_args args = args_of(a, 1u << a->size);
    args.op = (uint8_t)a->opcode;
    args.q = args.size;
    return call(f, arm64_simd_different, args);
}

/* Floats: the upper bit of size chooses, the lower is the width. q: bytes, of the scalar or vector.
 */
static bool float_two(struct front *f, const struct a64_args *a, unsigned q)
{
    unsigned bytes = (a->size & 1) != 0 ? 8 : 4;
    struct lane_args args = args_of(a, bytes);
    args.op = (uint8_t)(a->u << 5 | a->opcode);
    args.more = (uint8_t)(a->size >> 1);
    args.q = (uint8_t)q;
    if (!arm64_simd_float_two_known(args.op, args.more)) {
        return false;
    }
    if (a->opcode == 22 || a->opcode == 23) { /* twice that is the longer one: 4 bytes and 8 */
        return !(args.op == 32 + 22 && bytes == 4) && call(f, arm64_simd_float_resize, args);
    }
    if (a->opcode == 28 && args.more != 0 && bytes == 8) {
        return false;
    }
    const bool convertible = bytes == 4 || q == bytes;
    switch (args.op << 1 | args.more) {
    case 12 << 1 | 1: /* FCMGT, FCMEQ, FCMLT, FCMGE, FCMLE with zero */
        return call_with_zero(f, arm64_simd_float_two, args, IR_V_FCMGT, false);
    case 13 << 1 | 1:
        return call_with_zero(f, arm64_simd_float_two, args, IR_V_FCMEQ, false);
    case 14 << 1 | 1:
        return call_with_zero(f, arm64_simd_float_two, args, IR_V_FCMGT, true);
    case (32 + 12) << 1 | 1:
        return call_with_zero(f, arm64_simd_float_two, args, IR_V_FCMGE, false);
    case (32 + 13) << 1 | 1:
        return call_with_zero(f, arm64_simd_float_two, args, IR_V_FCMGE, true);
    case 15 << 1 | 1:
        return call_vector(f, arm64_simd_float_two, args, IR_V_FABS, 0);
    case (32 + 15) << 1 | 1:
        return call_vector(f, arm64_simd_float_two, args, IR_V_FNEG, 0);
    case (32 + 31) << 1 | 1:
        return call_vector(f, arm64_simd_float_two, args, IR_V_FSQRT, 0);
    case 29 << 1:
        return call_vector(f, arm64_simd_float_two, args, convertible ? IR_V_SCVTF : IR_V_NONE, 0);
    case 27 << 1 | 1:
        return call_vector(f, arm64_simd_float_two, args, convertible ? IR_V_FCVTZS : IR_V_NONE, 0);
    default:
        return call(f, arm64_simd_float_two, args);
    }
}

/* Comparisons with zero and what else has one source. */
static bool integer_two(struct front *f, const struct a64_args *a, struct lane_args args)
{
    switch (args.op) {
    case 8: /* CMGT, CMGE, CMLE, CMLT */
        return call_with_zero(f, arm64_simd_two, args, IR_V_GT, false);
    case 40:
        return call_with_zero(f, arm64_simd_two, args, IR_V_GE, false);
    case 41:
        return call_with_zero(f, arm64_simd_two, args, IR_V_GE, true);
    case 10:
        return call_with_zero(f, arm64_simd_two, args, IR_V_GT, true);
    case 9:
        return call_vector(f, arm64_simd_two, args, IR_V_EQ_ZERO, 0);
    case 11:
        return call_vector(f, arm64_simd_two, args, IR_V_ABS, 0);
    case 43:
        return call_vector(f, arm64_simd_two, args, IR_V_NEG, 0);
    case 37:
        return call_vector(f, arm64_simd_two, args, a->size == 0 ? IR_V_NOT : IR_V_NONE, 0);
    case 0: /* REV64, REV32, REV16 */
        return call_vector(f, arm64_simd_two, args, IR_V_REV, 8);
    case 32:
        return call_vector(f, arm64_simd_two, args, IR_V_REV, 4);
    case 1:
        return call_vector(f, arm64_simd_two, args, IR_V_REV, 2);
    case 18: /* XTN */
        return call_vector(f, arm64_simd_two, args, IR_V_NARROW, 0);
    case 51: /* SHLL */
        return call_vector(f, arm64_simd_two, args, IR_V_UWIDEN,
                           args.size * 8u | (args.q == 16 ? 64u : 0));
    default:
        return call(f, arm64_simd_two, args);
    }
}

static bool front_simd_two(struct front *f, const struct a64_args *a)
{
    struct lane_args args = args_of(a, 1u << a->size);
    args.op = (uint8_t)(a->u << 5 | a->opcode);
    if (a->opcode >= 12 && a->opcode != 18 && a->opcode != 20 && args.op != 51) {
        bool resizes = a->opcode == 22 || a->opcode == 23;
        bool frecpx = args.op == 31;
        return !frecpx && (resizes || !((a->size & 1) != 0 && a->q == 0)) &&
               float_two(f, a, a->q != 0 ? 16 : 8);
    }
    return arm64_simd_two_known(args.op, a->size, a->q != 0) && integer_two(f, a, args);
}

/* Comparisons with zero, ABS and NEG of 64 bits; floats. */
static bool front_simd_two_s(struct front *f, const struct a64_args *a)
{
    struct lane_args args = args_of(a, 8);
    args.op = (uint8_t)(a->u << 5 | a->opcode);
    args.q = 8;
    if (a->opcode == 3 || a->opcode == 7 || a->opcode == 20 || args.op == 32 + 18) {
        args.size = args.q = (uint8_t)(1u << a->size);
        return (a->opcode < 12 || a->size != 3) && call(f, arm64_simd_two, args);
    }
    if (a->opcode >= 12) {
        bool vectors_only = a->opcode == 15 || args.op == 32 + 31 || a->opcode == 24 ||
                            a->opcode == 25 || (a->opcode == 28 && (a->size & 2) != 0) ||
                            a->opcode == 23 || args.op == 22;
        unsigned q = a->opcode == 22 || (a->size & 1) == 0 ? 4 : 8;
        return !vectors_only && float_two(f, a, q);
    }
    return a->size == 3 && a->opcode >= 8 && a->opcode <= 11 && !(a->u != 0 && a->opcode == 10) &&
           integer_two(f, a, args);
}

static bool front_simd_across(struct front *f, const struct a64_args *a)
{
    struct lane_args args = args_of(a, 1u << a->size);
    args.op = (uint8_t)(a->u << 5 | a->opcode);
    bool known =
        a->opcode == 3 || a->opcode == 10 || a->opcode == 26 || (a->opcode == 27 && a->u == 0);
    if ((a->opcode == 12 || a->opcode == 15) && a->u != 0 && a->q != 0 && (a->size & 1) == 0) {
        args.op = (uint8_t)((a->opcode == 12 ? 6 : 4) + (a->size >> 1));
        return call(f, arm64_simd_float_across, args);
    }
    return known && a->size != 3 && !(a->size == 2 && a->q == 0) &&
           call(f, arm64_simd_across, args);
}

static bool front_simd_pair_s(struct front *f, const struct a64_args *a)
{
    struct lane_args args = args_of(a, 8);
    args.op = 27;
    args.q = 16;
    return call(f, arm64_simd_across, args);
}

static ir_value get(struct front *f, int32_t number, unsigned byte, unsigned width)
{
    return front_get_state(f, front_vector_offset((unsigned)number, byte), width);
}

static void put(struct front *f, int32_t number, unsigned byte, unsigned width, ir_value v)
{
    front_put_state(f, front_vector_offset((unsigned)number, byte), width, v);
}

/* A lane to all. */
static void replicate(struct front *f, const struct a64_args *a, ir_value v, unsigned bytes)
{
    front_put_lanes(f, a->rd, v, bytes, a->q != 0 ? 16 : 8);
}

static bool front_simd_copy(struct front *f, const struct a64_args *a)
{
    unsigned log = (unsigned)__builtin_ctz((unsigned)a->imm5 | 16);
    unsigned bytes = 1u << log;
    unsigned at = (unsigned)a->imm5 >> (log + 1) << log;
    if (log > 3) {
        return false;
    }
    if (a->op != 0) { /* INS (element) */
        if (a->q == 0) {
            return false;
        }
        put(f, a->rd, at, bytes, get(f, a->rn, (unsigned)a->imm4 >> log << log, bytes));
        return true;
    }
    switch (a->imm4) {
    case 0: /* DUP (element) */
        if (bytes == 8 && a->q == 0) {
            return false;
        }
        replicate(f, a, get(f, a->rn, at, bytes), bytes);
        return true;
    case 1: { /* DUP (general) */
        ir_value v = front_x(f, a->rn);
        if (bytes == 8 && a->q == 0) {
            return false;
        }
        replicate(f, a, v, bytes);
        return true;
    }
    case 3: /* INS (general) */
        put(f, a->rd, at, bytes, front_x(f, a->rn));
        return a->q != 0;
    case 5:   /* SMOV */
    case 7: { /* UMOV */
        ir_value v = get(f, a->rn, at, bytes);
        bool sign = a->imm4 == 5;
        if (sign ? bytes == 8 || (bytes == 4 && a->q == 0) : (bytes == 8) != (a->q != 0)) {
            return false;
        }
        if (sign) {
            v = ir_op1i(f->ir, IR_SEXT, a->q != 0 ? 8 : 4, v, bytes);
        }
        front_put_x(f, a->rd, v);
        return true;
    }
    default:
        return false;
    }
}

static bool front_simd_dup_s(struct front *f, const struct a64_args *a)
{
    unsigned log = (unsigned)__builtin_ctz((unsigned)a->imm5 | 16);
    if (log > 3) {
        return false;
    }
    ir_value v = get(f, a->rn, (unsigned)a->imm5 >> (log + 1) << log, 1u << log);
    front_put_vector(f, a->rd, v, ir_const(f->ir, 0));
    return true;
}

/* AdvSIMDExpandImm; false: reserved, or FP16. */
static bool expand_imm(const struct a64_args *a, uint64_t *ret)
{
    uint64_t imm = (uint64_t)(uint32_t)(a->abc << 5 | a->defgh);
    unsigned cmode = (unsigned)a->cmode;
    if (cmode < 8) {
        imm <<= 8 * (cmode >> 1);
        imm |= imm << 32;
    } else if (cmode < 12) {
        imm <<= 8 * (cmode >> 1 & 1);
        imm |= imm << 16;
        imm |= imm << 32;
    } else if (cmode < 14) {
        imm = (cmode & 1) == 0 ? imm << 8 | 0xff : imm << 16 | 0xffff;
        imm |= imm << 32;
    } else if (cmode == 14 && a->op == 0) {
        imm *= 0x0101010101010101;
    } else if (cmode == 14) {
        uint64_t bits = imm;
        imm = 0;
        for (unsigned i = 0; i < 8; i++) {
            imm |= (bits >> i & 1) != 0 ? (uint64_t)0xff << (8 * i) : 0;
        }
    } else if (a->op == 0) {
        uint64_t b = imm >> 6 & 1;
        imm = (imm >> 7) << 31 | (b ^ 1) << 30 | (b != 0 ? (uint64_t)0x1f << 25 : 0) |
              (imm & 63) << 19;
        imm |= imm << 32;
    } else {
        uint64_t b = imm >> 6 & 1;
        imm = (imm >> 7) << 63 | (b ^ 1) << 62 | (b != 0 ? (uint64_t)0xff << 54 : 0) |
              (imm & 63) << 48;
        if (a->q == 0) {
            return false;
        }
    }
    *ret = imm;
    return true;
}

/* MOVI, MVNI, FMOV; ORR and BIC where cmode is odd and below 12. */
static bool front_simd_imm(struct front *f, const struct a64_args *a)
{
    uint64_t imm = 0;
    if (!expand_imm(a, &imm)) {
        return false;
    }
    bool invert = a->op != 0 && a->cmode < 14;
    ir_value v = ir_const(f->ir, invert ? ~imm : imm);
    if (a->cmode < 12 && (a->cmode & 1) != 0) {
        enum ir_op op = a->op != 0 ? IR_AND : IR_OR;
        ir_value low = ir_op2(f->ir, op, 8, get(f, a->rd, 0, 8), v);
        ir_value high =
            a->q == 0 ? ir_const(f->ir, 0) : ir_op2(f->ir, op, 8, get(f, a->rd, 8, 8), v);
        front_put_vector(f, a->rd, low, high);
        return true;
    }
    front_put_vector(f, a->rd, v, a->q != 0 ? v : ir_const(f->ir, 0));
    return true;
}

static bool shift(struct front *f, const struct a64_args *a, unsigned q)
{
    unsigned log = 31u - (unsigned)__builtin_clz((unsigned)a->immh);
    struct lane_args args = args_of(a, 1u << log);
    args.op = (uint8_t)(a->u << 5 | a->opcode);
    args.q = (uint8_t)q;
    args.more = (uint8_t)(a->immh << 3 | a->immb);
    unsigned bits = 8u << log;
    unsigned right = 2 * bits - args.more;
    unsigned op = IR_V_NONE;
    unsigned by = right;
    if (args.op == 10) {
        op = IR_V_SHL;
        by = args.more - bits;
    } else if (args.op == 0 || args.op == 32) {
        op = args.op == 0 ? IR_V_SAR : IR_V_SHR;
    } else if (args.op == 2 || args.op == 34) {
        op = args.op == 2 ? IR_V_SRA : IR_V_USRA;
    } else if (args.op == 42) {
        op = IR_V_SLI;
        by = args.more - bits;
    } else if (args.op == 40) {
        op = IR_V_SRI;
    } else if (args.op == 16) {
        op = IR_V_NARROW;
    } else if (args.op == 20 || args.op == 52) {
        op = args.op == 20 ? IR_V_WIDEN : IR_V_UWIDEN;
        by = (args.more - bits) | (q == 16 ? 64u : 0);
    }
    if (a->opcode == 28 || a->opcode == 31) {
        args.more = (uint8_t)right;
        return log >= 2 && call(f, arm64_simd_float_fixed, args);
    }
    return arm64_simd_shift_known(args.op, log) && call_vector(f, arm64_simd_shift, args, op, by);
}

static bool front_simd_shift(struct front *f, const struct a64_args *a)
{
    return !((a->immh & 8) != 0 && a->q == 0) && shift(f, a, a->q != 0 ? 16 : 8);
}

static bool front_simd_shift_s(struct front *f, const struct a64_args *a)
{
    unsigned bytes = 1u << (31u - (unsigned)__builtin_clz((unsigned)a->immh));
    if (a->opcode == 12 || a->opcode == 14 || a->opcode >= 28) {
        return shift(f, a, bytes);
    }
    if (a->opcode >= 16) { /* saturating ones alone */
        return a->opcode <= 19 && (a->u != 0 || a->opcode >= 18) && bytes < 8 && shift(f, a, bytes);
    }
    return a->opcode < 12 && bytes == 8 && shift(f, a, 8);
}

static bool front_simd_ext(struct front *f, const struct a64_args *a)
{
    struct lane_args args = args_of(a, 1);
    args.more = (uint8_t)a->imm4;
    return !(a->q == 0 && a->imm4 >= 8) &&
           call_vector(f, arm64_simd_ext, args, a->q != 0 ? IR_V_EXTRACT : IR_V_NONE,
                       (unsigned)a->imm4);
}

static bool front_simd_tbl(struct front *f, const struct a64_args *a)
{
    struct lane_args args = args_of(a, 1);
    args.op = (uint8_t)a->op;
    args.more = (uint8_t)a->len;
    return call_vector(f, arm64_simd_tbl, args, a->len == 0 && a->op == 0 ? IR_V_TBL : IR_V_NONE,
                       0);
}

static bool front_simd_permute(struct front *f, const struct a64_args *a)
{
    struct lane_args args = args_of(a, 1u << a->size);
    args.op = (uint8_t)a->opcode;
    static const uint8_t ops[] = {
        [1] = IR_V_UZP1, [3] = IR_V_ZIP1, [5] = IR_V_UZP2, [7] = IR_V_ZIP2};
    unsigned op = ops[a->opcode];
    if (a->size == 3 && (a->opcode & 3) == 2) { /* TRN of two lanes */
        op = a->opcode == 2 ? IR_V_ZIP1 : IR_V_ZIP2;
    }
    return (a->opcode & 3) != 0 && !(a->size == 3 && a->q == 0) &&
           call_vector(f, arm64_simd_permute, args, op, 0);
}

front_fn *const arm64_front_simd[A64_OP_COUNT] = {A64_SIMD_OPS(FRONT_ROW)};
