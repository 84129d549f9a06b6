/*
 * front_extension.c - what came after v8.0 (FEAT_RDM, DotProd, FCMA, JSCVT), and cryptographic
 * instructions.
 */
#include <math.h>

#include "emu/guest/arm64/crypto.h"
#include "emu/guest/arm64/front_internal.h"
#include "emu/guest/arm64/saturate.h"
#include "emu/guest/arm64/simd.h"

/* ra: 1 more than the element of rm that counts as all; 0: each its own. */
static struct lane_args args_of(const struct a64_args *a, unsigned bytes, unsigned op)
{
    return (struct lane_args){.rd = (uint8_t)a->rd,
                              .rn = (uint8_t)a->rn,
                              .rm = (uint8_t)a->rm,
                              .op = (uint8_t)op,
                              .size = (uint8_t)bytes,
                              .q = a->q != 0 ? 16 : 8};
}

/*
 * AESE and AESMC, AESD and AESIMC of one register, one behind the other as programs have them, are
 * one round of other CPUs. Nobody looks between the two: neither faults.
 */
static bool mix_round(struct front *f, const struct a64_args *a)
{
    struct ir *ir = f->ir;
    struct ir_insn *before = ir->count < 2 ? NULL : &ir->insn[ir->count - 2];
    bool back = a->opcode == 7;
    if (before == NULL || before->op != IR_CALL || a->rd != a->rn || before->vector.d != a->rd ||
        before->fn != (back ? arm64_aesd : arm64_aese)) {
        return false;
    }
    before->fn = back ? arm64_aesd_mixed : arm64_aese_mixed;
    before->vector.op = back ? IR_V_AESD_MIXED : IR_V_AESE_MIXED;
    return true;
}

static bool front_crypto_aes(struct front *f, const struct a64_args *a)
{
    static ir_call_fn *const fns[] = {arm64_aese, arm64_aesd, arm64_aesmc, arm64_aesimc};
    static const uint8_t ops[] = {IR_V_AESE, IR_V_AESD, IR_V_AESMC, IR_V_AESIMC};
    struct lane_args args = args_of(a, 16, 0);
    if (a->opcode >= 6 && mix_round(f, a)) {
        return true;
    }
    args.q = 16;
    front_call_vector(f, fns[a->opcode - 4], lane_pack(args),
                      front_vector(args, ops[a->opcode - 4], 0));
    return true;
}

static bool front_crypto_sha(struct front *f, const struct a64_args *a)
{
    static const uint8_t ops[] = {IR_V_SHA1C,   IR_V_SHA1P,    IR_V_SHA1M,    IR_V_SHA1SU0,
                                  IR_V_SHA256H, IR_V_SHA256H2, IR_V_SHA256SU1};
    struct lane_args args = args_of(a, 4, (unsigned)a->opcode);
    args.q = 16;
    front_call_vector(f, arm64_sha, lane_pack(args), front_vector(args, ops[a->opcode], 0));
    return true;
}

static bool front_crypto_sha_two(struct front *f, const struct a64_args *a)
{
    static const uint8_t ops[] = {IR_V_SHA1H, IR_V_SHA1SU1, IR_V_SHA256SU0};
    struct lane_args args = args_of(a, 4, (unsigned)a->opcode);
    args.q = 16;
    front_call_vector(f, arm64_sha_two, lane_pack(args), front_vector(args, ops[a->opcode], 0));
    return true;
}

static bool front_pmull_wide(struct front *f, const struct a64_args *a)
{
    struct lane_args args = args_of(a, 8, (unsigned)a->q);
    args.q = 16;
    front_call_vector(f, arm64_pmull_wide, lane_pack(args),
                      front_vector(args, IR_V_PMULL, (unsigned)a->q));
    return true;
}

/* SQRDMLAH; op 1: SQRDMLSH. */
static uint64_t rounding_multiply(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    struct lane_args args = lane_unpack(imm);
    const union arm64_vector m = state->v[args.rm];
    union arm64_vector r = {.d = {0, 0}};
    (void)a;
    for (unsigned i = 0; i < args.q / args.size; i++) {
        uint64_t by = lane_get(&m, args.size, args.ra != 0 ? args.ra - 1u : i);
        lane_set(&r, args.size, i,
                 saturate_multiply_add(state, args.op != 0,
                                       lane_get(&state->v[args.rd], args.size, i),
                                       lane_get(&state->v[args.rn], args.size, i), by, args.size));
    }
    state->v[args.rd] = r;
    return 0;
}

static bool front_rdm(struct front *f, const struct a64_args *a)
{
    front_call(f, rounding_multiply, lane_pack(args_of(a, 1u << a->size, (unsigned)a->s)));
    return true;
}

static bool front_rdm_s(struct front *f, const struct a64_args *a)
{
    struct lane_args args = args_of(a, 1u << a->size, (unsigned)a->s);
    args.q = args.size;
    front_call(f, rounding_multiply, lane_pack(args));
    return true;
}

static struct lane_args element(const struct a64_args *a, struct lane_args args)
{
    if (args.size == 2) {
        args.ra = (uint8_t)(1 + (a->h << 2 | a->l << 1 | a->m));
    } else {
        args.rm = (uint8_t)(a->m << 4 | a->rm);
        args.ra = (uint8_t)(1 + (a->h << 1 | a->l));
    }
    return args;
}

static bool front_rdm_element(struct front *f, const struct a64_args *a)
{
    front_call(f, rounding_multiply,
               lane_pack(element(a, args_of(a, 1u << a->size, (unsigned)a->s))));
    return true;
}

static bool front_rdm_element_s(struct front *f, const struct a64_args *a)
{
    struct lane_args args = element(a, args_of(a, 1u << a->size, (unsigned)a->s));
    args.q = args.size;
    front_call(f, rounding_multiply, lane_pack(args));
    return true;
}

/* SDOT; op 1: UDOT. */
static uint64_t dot_product(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    struct lane_args args = lane_unpack(imm);
    const union arm64_vector n = state->v[args.rn];
    const union arm64_vector m = state->v[args.rm];
    union arm64_vector r = {.d = {0, 0}};
    (void)a;
    for (unsigned i = 0; i < args.q / 4u; i++) {
        uint32_t sum = state->v[args.rd].s[i];
        unsigned from = args.ra != 0 ? args.ra - 1u : i;
        for (unsigned k = 0; k < 4; k++) {
            uint8_t x = n.b[4 * i + k];
            uint8_t y = m.b[4 * from + k];
            sum += args.op != 0 ? (uint32_t)x * y : (uint32_t)((int8_t)x * (int8_t)y);
        }
        r.s[i] = sum;
    }
    state->v[args.rd] = r;
    return 0;
}

static bool front_dot(struct front *f, const struct a64_args *a)
{
    front_call(f, dot_product, lane_pack(args_of(a, 4, (unsigned)a->u)));
    return true;
}

static bool front_dot_element(struct front *f, const struct a64_args *a)
{
    front_call(f, dot_product, lane_pack(element(a, args_of(a, 4, (unsigned)a->u))));
    return true;
}

/* Pairs are complex numbers, rm turned by op quarters; ra as above, but of pairs. */
static uint64_t complex_multiply(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    struct lane_args args = lane_unpack(imm);
    unsigned bytes = args.size;
    bool wide = bytes == 8;
    uint64_t sign = (uint64_t)1 << (8 * bytes - 1);
    const union arm64_vector n = state->v[args.rn];
    const union arm64_vector m = state->v[args.rm];
    union arm64_vector r = {.d = {0, 0}};
    (void)a;
    for (unsigned i = 0; i < args.q / bytes; i += 2) {
        unsigned from = args.ra != 0 ? 2 * (args.ra - 1u) : i;
        uint64_t real = lane_get(&m, bytes, from + (args.op & 1));
        uint64_t other = lane_get(&m, bytes, from + (~args.op & 1));
        uint64_t by = lane_get(&n, bytes, i + (args.op & 1));
        real ^= args.op == 1 || args.op == 2 ? sign : 0;
        other ^= args.op >= 2 ? sign : 0;
        lane_set(&r, bytes, i,
                 arm64_fp_fused(state, 0, wide, lane_get(&state->v[args.rd], bytes, i), by, real));
        lane_set(
            &r, bytes, i + 1,
            arm64_fp_fused(state, 0, wide, lane_get(&state->v[args.rd], bytes, i + 1), by, other));
    }
    state->v[args.rd] = r;
    return 0;
}

/* op 0: by 90 degrees, 1: by 270. */
static uint64_t complex_add(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    enum { ADD = 2 };
    struct lane_args args = lane_unpack(imm);
    unsigned bytes = args.size;
    bool wide = bytes == 8;
    uint64_t sign = (uint64_t)1 << (8 * bytes - 1);
    const union arm64_vector n = state->v[args.rn];
    const union arm64_vector m = state->v[args.rm];
    union arm64_vector r = {.d = {0, 0}};
    (void)a;
    for (unsigned i = 0; i < args.q / bytes; i += 2) {
        uint64_t real = lane_get(&m, bytes, i + 1) ^ (args.op == 0 ? sign : 0);
        uint64_t other = lane_get(&m, bytes, i) ^ (args.op != 0 ? sign : 0);
        lane_set(&r, bytes, i, arm64_fp_binary(state, ADD, wide, lane_get(&n, bytes, i), real));
        lane_set(&r, bytes, i + 1,
                 arm64_fp_binary(state, ADD, wide, lane_get(&n, bytes, i + 1), other));
    }
    state->v[args.rd] = r;
    return 0;
}

static bool front_fcmla(struct front *f, const struct a64_args *a)
{
    if (a->sz != 0 && a->q == 0) {
        return false;
    }
    front_call(f, complex_multiply, lane_pack(args_of(a, a->sz != 0 ? 8 : 4, (unsigned)a->rot)));
    return true;
}

/* Of single precision: H is the pair. */
static bool front_fcmla_element(struct front *f, const struct a64_args *a)
{
    struct lane_args args = args_of(a, 4, (unsigned)a->rot);
    args.q = 16;
    args.rm = (uint8_t)(a->m << 4 | a->rm);
    args.ra = (uint8_t)(1 + a->h);
    front_call(f, complex_multiply, lane_pack(args));
    return true;
}

static bool front_fcadd(struct front *f, const struct a64_args *a)
{
    if (a->sz != 0 && a->q == 0) {
        return false;
    }
    front_call(f, complex_add, lane_pack(args_of(a, a->sz != 0 ? 8 : 4, (unsigned)a->rot)));
    return true;
}

/* FPToFixedJS(): what is too large wraps; bit 62: exact, the Z of NZCV. imm: rn. */
static uint64_t to_javascript(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    union arm64_vector v = state->v[imm];
    (void)a;
    if (v.d[0] << 1 == 0) {
        return v.d[0] == 0 ? (uint64_t)1 << 62 : 0; /* not of -0 */
    }
    if ((state->fpcr & ARM64_FPCR_FZ) != 0 && (v.d[0] & 0x7ff0000000000000u) == 0) {
        return 0;
    }
    double whole = trunc(v.g[0]);
    if (!isfinite(whole)) {
        return 0;
    }
    double wrapped = fmod(whole, 4294967296.0);
    uint32_t r = (uint32_t)(int64_t)wrapped;
    bool exact = whole == v.g[0] && whole >= INT32_MIN && whole <= INT32_MAX;
    return r | (exact ? (uint64_t)1 << 62 : 0);
}

static bool front_fjcvtzs(struct front *f, const struct a64_args *a)
{
    ir_value v = IR_NONE;
    struct ir_insn *insn = ir_add(f->ir, IR_CALL, &v);
    insn->fn = to_javascript;
    insn->imm = a->rn;
    front_put_x(f, a->rd, ir_op1i(f->ir, IR_ZEXT, 8, v, 4));
    ir_value flags = front_shift(f, v, 1 /* LSR */, 32, 8);
    ir_add(f->ir, IR_PUTNZCV, NULL)->operand[0] = flags;
    return true;
}

front_fn *const arm64_front_extension[A64_OP_COUNT] = {A64_EXTENSION_OPS(FRONT_ROW)};
