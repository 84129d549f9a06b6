/*
 * estimate.c - FRECPE, FRSQRTE and what refines them (Arm ARM, FPRecipEstimate(),
 * FPRSqrtEstimate(), FPRecipStepFused(), FPRSqrtStepFused()); and floats of 16 bits.
 */
#include <math.h>

#include "emu/guest/arm64/lanes.h"
#include "emu/guest/arm64/simd.h"

struct format {
    unsigned fraction; /* bits */
    int exponent_max;  /* that of infinity */
    uint64_t sign;
};

static const struct format formats[] = {{23, 0xff, (uint64_t)1 << 31},
                                        {52, 0x7ff, (uint64_t)1 << 63}};

struct number {
    uint64_t sign, magnitude, fraction;
    int exponent;
};

static struct number unpack(const struct format *f, uint64_t v)
{
    uint64_t magnitude = v & (f->sign - 1);
    return (struct number){.sign = v & f->sign,
                           .magnitude = magnitude,
                           .fraction = v & (((uint64_t)1 << f->fraction) - 1),
                           .exponent = (int)(magnitude >> f->fraction)};
}

/* 256 to 511 of 512ths to a reciprocal, 256 to 511. */
static unsigned reciprocal(unsigned a)
{
    return ((1u << 19) / (2 * a + 1) + 1) / 2;
}

/* 128 to 511 of 512ths. */
static unsigned reciprocal_root(unsigned a)
{
    a = a < 256 ? a * 2 + 1 : (a & ~1u) * 2 + 2;
    unsigned b = 512;
    while ((uint64_t)a * (b + 1) * (b + 1) < (uint64_t)1 << 28) {
        b++;
    }
    return (b + 1) / 2;
}

uint64_t arm64_estimate_u32(uint32_t v, bool root)
{
    if (root) {
        return v < 0x40000000u ? UINT32_MAX : (uint64_t)reciprocal_root(v >> 23) << 23;
    }
    return v < 0x80000000u ? UINT32_MAX : (uint64_t)reciprocal(v >> 23) << 23;
}

static uint64_t infinity(const struct format *f)
{
    return (uint64_t)f->exponent_max << f->fraction;
}

/* Whether to the largest number, not infinity: by the rounding mode. */
static bool overflows_to_number(const struct arm64_state *state, bool negative)
{
    unsigned mode = state->fpcr >> 22 & 3;
    return mode == 3 || (mode == 1 && negative) || (mode == 2 && !negative);
}

uint64_t arm64_estimate(struct arm64_state *state, uint64_t v, bool wide)
{
    const struct format *f = &formats[wide];
    const struct number x = unpack(f, v);
    const uint64_t sign = x.sign;
    const uint64_t magnitude = x.magnitude;
    uint64_t fraction = x.fraction;
    int exponent = x.exponent;
    if (magnitude > infinity(f)) {
        return arm64_fp_nan(state, v, wide);
    }
    if (magnitude == infinity(f)) {
        return sign;
    }
    bool flush = (state->fpcr & ARM64_FPCR_FZ) != 0;
    if (magnitude == 0 || (flush && exponent == 0)) {
        return sign | infinity(f);
    }
    if (exponent == 0 &&
        fraction >> (f->fraction - 2) == 0) { /* too small: its reciprocal overflows */
        return sign | (infinity(f) - (overflows_to_number(state, sign != 0) ? 1 : 0));
    }
    if (flush && exponent >= f->exponent_max - 2) {
        return sign;
    }
    if (exponent == 0) {
        if (fraction >> (f->fraction - 1) == 0) {
            exponent = -1;
            fraction <<= 1;
        }
        fraction = fraction << 1 & (((uint64_t)1 << f->fraction) - 1);
    }
    unsigned scaled = 256u | (unsigned)(fraction >> (f->fraction - 8));
    int result_exponent = f->exponent_max - 2 - exponent;
    uint64_t estimate = (uint64_t)(reciprocal(scaled) & 255) << (f->fraction - 8);
    if (result_exponent == 0) {
        estimate = estimate >> 1 | (uint64_t)1 << (f->fraction - 1);
    } else if (result_exponent == -1) {
        estimate = estimate >> 2 | (uint64_t)1 << (f->fraction - 2);
        result_exponent = 0;
    }
    return sign | (uint64_t)result_exponent << f->fraction | estimate;
}

uint64_t arm64_estimate_root(struct arm64_state *state, uint64_t v, bool wide)
{
    const struct format *f = &formats[wide];
    const struct number x = unpack(f, v);
    const uint64_t sign = x.sign;
    const uint64_t magnitude = x.magnitude;
    uint64_t fraction = x.fraction;
    int exponent = x.exponent;
    if (magnitude > infinity(f)) {
        return arm64_fp_nan(state, v, wide);
    }
    if (magnitude == 0 || ((state->fpcr & ARM64_FPCR_FZ) != 0 && exponent == 0)) {
        return sign | infinity(f);
    }
    if (sign != 0) {
        return infinity(f) | (uint64_t)1 << (f->fraction - 1); /* the default NaN */
    }
    if (magnitude == infinity(f)) {
        return 0;
    }
    if (exponent == 0) {
        while (fraction >> (f->fraction - 1) == 0) {
            fraction <<= 1;
            exponent--;
        }
        fraction = fraction << 1 & (((uint64_t)1 << f->fraction) - 1);
    }
    unsigned top = (unsigned)(fraction >> (f->fraction - 8));
    unsigned scaled = (exponent & 1) == 0 ? 256u | top : 128u | top >> 1;
    int bias3 = 3 * (f->exponent_max >> 1);
    uint64_t result_exponent = (uint64_t)((bias3 - 1 - exponent) >> 1);
    return result_exponent << f->fraction | (uint64_t)(reciprocal_root(scaled) & 255)
                                                << (f->fraction - 8);
}

/* FRECPX: the exponent turned over. */
uint64_t arm64_exponent_turned(struct arm64_state *state, uint64_t v, bool wide)
{
    const struct format *f = &formats[wide];
    uint64_t magnitude = v & (f->sign - 1);
    uint64_t exponent = magnitude >> f->fraction;
    if (magnitude > infinity(f)) {
        return arm64_fp_nan(state, v, wide);
    }
    uint64_t mask = (uint64_t)f->exponent_max;
    return (v & f->sign) | (exponent == 0 ? mask - 1 : ~exponent & mask) << f->fraction;
}

/* 2 - a * b, or half of 3 - a * b; an infinity by 0 counts as 0. */
uint64_t arm64_step(struct arm64_state *state, uint64_t a, uint64_t b, bool wide, bool root)
{
    const struct format *f = &formats[wide];
    uint64_t x = a & (f->sign - 1);
    uint64_t y = b & (f->sign - 1);
    uint64_t two = wide ? 0x4000000000000000u : 0x40000000u;
    uint64_t three_halves = wide ? 0x3ff8000000000000u : 0x3fc00000u;
    uint64_t half = wide ? 0x3fe0000000000000u : 0x3f000000u;
    if (x > infinity(f) || y > infinity(f)) {
        return arm64_fp_binary(state, 0, wide, a ^ f->sign, b); /* that NaN, of -a and b */
    }
    if ((x == infinity(f) && y == 0) || (x == 0 && y == infinity(f))) {
        return root ? three_halves : two;
    }
    if (!root) {
        return arm64_fp_fused(state, 1, wide, two, a, b);
    }
    /* Halved first, which is exact where it is a number that is not tiny: then its product
     * vanishes. */
    uint64_t larger = x > y ? a : b;
    uint64_t smaller = x > y ? b : a;
    return arm64_fp_fused(state, 1, wide, three_halves,
                          arm64_fp_binary(state, 0, wide, larger, half), smaller);
}

uint64_t arm64_from_half(struct arm64_state *state, uint64_t v, bool to_wide)
{
    uint64_t sign = v >> 15 & 1;
    unsigned exponent = v >> 10 & 31;
    unsigned fraction = v & 0x3ff;
    bool alternative = (state->fpcr & ARM64_FPCR_AHP) != 0;
    if (exponent == 31 && !alternative) {
        uint64_t quiet = fraction == 0 ? 0 : 0x200;
        if (fraction != 0 && (state->fpcr & ARM64_FPCR_DN) != 0) {
            sign = 0;
            fraction = 0;
        }
        fraction |= (unsigned)quiet;
        return to_wide ? sign << 63 | (uint64_t)0x7ff << 52 | (uint64_t)fraction << 42
                       : sign << 31 | (uint64_t)0xff << 23 | (uint64_t)fraction << 13;
    }
    double d = exponent == 0 ? ldexp(fraction, -24) : ldexp(fraction + 1024, (int)exponent - 25);
    uint64_t r = 0;
    if (to_wide) {
        memcpy(&r, &d, sizeof(d));
        return r | sign << 63;
    }
    float single = (float)d;
    memcpy(&r, &single, sizeof(single));
    return r | sign << 31;
}

/* What is behind the last bit of a half: by the rounding mode to the next one. */
static bool rounds_up(const struct arm64_state *state, bool negative, uint64_t kept, uint64_t lost,
                      uint64_t half)
{
    switch (state->fpcr >> 22 & 3) {
    case 0:
        return lost > half || (lost == half && (kept & 1) != 0);
    case 1:
        return !negative && lost != 0;
    case 2:
        return negative && lost != 0;
    default:
        return false;
    }
}

uint64_t arm64_to_half(struct arm64_state *state, uint64_t v, bool wide)
{
    const struct format *f = &formats[wide];
    bool alternative = (state->fpcr & ARM64_FPCR_AHP) != 0;
    const struct number x = unpack(f, v);
    const bool negative = x.sign != 0;
    const uint64_t sign = negative ? 0x8000 : 0;
    const uint64_t magnitude = x.magnitude;
    uint64_t fraction = x.fraction;
    const int exponent = x.exponent;
    if (magnitude > infinity(f)) {
        if (alternative) {
            return sign;
        }
        return (state->fpcr & ARM64_FPCR_DN) != 0 ? 0x7e00
                                                  : sign | 0x7e00 | fraction >> (f->fraction - 10);
    }
    if (magnitude == infinity(f)) {
        return sign | (alternative ? 0x7fff : 0x7c00);
    }
    if (magnitude == 0 || (exponent == 0 && (state->fpcr & ARM64_FPCR_FZ) != 0)) {
        return sign;
    }
    fraction |= exponent == 0 ? 0 : (uint64_t)1 << f->fraction;
    int half_exponent = (exponent == 0 ? 1 : exponent) - (f->exponent_max >> 1) + 15;
    unsigned drop = f->fraction - 10;
    if (half_exponent < 1) {
        drop += (unsigned)(1 - half_exponent);
        half_exponent = 0;
    }
    if (drop > 62) {
        fraction = 1; /* something, below half of the least */
        drop = 62;
    }
    uint64_t kept = fraction >> drop;
    uint64_t lost = fraction & (((uint64_t)1 << drop) - 1);
    /* The hidden bit adds the exponent's one, where there is one. */
    uint64_t r = half_exponent == 0 ? kept : ((uint64_t)(half_exponent - 1) << 10) + kept;
    r += rounds_up(state, negative, kept, lost, (uint64_t)1 << (drop - 1)) ? 1 : 0;
    if (alternative) {
        return r > 0x7fff ? sign | 0x7fff : sign | r;
    }
    if (r >= 0x7c00) {
        return sign | (overflows_to_number(state, negative) ? 0x7bffu : 0x7c00u);
    }
    return sign | r;
}

/* FCVTXN: what is lost makes the last bit 1, so that a second rounding is as one. */
uint64_t arm64_to_single_odd(struct arm64_state *state, uint64_t v)
{
    uint64_t magnitude = v & INT64_MAX;
    uint64_t sign = v >> 63 << 31;
    if (magnitude > 0x7ff0000000000000u) {
        return arm64_fp_unary(state, 4, true, v);
    }
    if (magnitude == 0x7ff0000000000000u) {
        return sign | 0x7f800000u;
    }
    int exponent = (int)(magnitude >> 52);
    uint64_t fraction = (magnitude & 0xfffffffffffffu) | (exponent == 0 ? 0 : (uint64_t)1 << 52);
    int single = (exponent == 0 ? 1 : exponent) - 1023 + 127;
    if (magnitude == 0 || ((state->fpcr & ARM64_FPCR_FZ) != 0 && exponent == 0)) {
        return sign;
    }
    if (single >= 255) {
        return sign | 0x7f7fffffu;
    }
    unsigned drop = 29 + (single < 1 ? (unsigned)(1 - single) : 0);
    single = single < 1 ? 0 : single;
    if (drop > 62) {
        return sign | 1;
    }
    uint64_t kept = fraction >> drop;
    bool lost = (fraction & (((uint64_t)1 << drop) - 1)) != 0;
    return (sign | (single == 0 ? kept : ((uint64_t)(single - 1) << 23) + kept)) | (lost ? 1 : 0);
}
