#include "emu/guest/arm64/saturate.h"

#include "emu/guest/arm64/lanes.h"

static __int128 lane(uint64_t v, unsigned bytes, bool is_unsigned)
{
    return is_unsigned ? (__int128)(v & lane_mask(bytes)) : (__int128)lane_signed(v, bytes);
}

static uint64_t clamp(struct arm64_state *state, __int128 v, unsigned bytes, bool is_unsigned)
{
    const __int128 one = 1;
    __int128 low = is_unsigned ? 0 : -(one << (bytes * 8 - 1));
    __int128 high = (one << (bytes * 8 - (is_unsigned ? 0 : 1))) - 1;
    if (v < low || v > high) {
        state->fpsr |= ARM64_FPSR_QC;
        v = v < low ? low : high;
    }
    return (uint64_t)v & lane_mask(bytes);
}

bool saturate_is_three(unsigned op)
{
    switch (op & 31) {
    case 1:
    case 5:
    case 9:
    case 10:
    case 11:
    case 22:
        return true;
    default:
        return false;
    }
}

/* To the right by n, 1 to 128; half of what is lost counts with round. */
static __int128 right(__int128 v, unsigned n, bool round)
{
    if (n > 66) {
        return round || v >= 0 ? 0 : -1;
    }
    return (v + (round ? (__int128)1 << (n - 1) : 0)) >> n;
}

/* By the signed byte of b: SSHL's kin. */
static uint64_t shift(struct arm64_state *state, unsigned op, uint64_t a, uint64_t b,
                      unsigned bytes)
{
    bool u = (op & 32) != 0;
    bool saturates = (op & 1) != 0;
    bool round = (op & 2) != 0;
    int by = (int8_t)b;
    __int128 v = lane(a, bytes, u);
    if (by < 0) {
        return (uint64_t)right(v, (unsigned)-by, round) & lane_mask(bytes);
    }
    if ((unsigned)by >= bytes * 8) {
        __int128 out = v == 0 ? 0 : v > 0 ? (__int128)1 << 100 : -((__int128)1 << 100);
        return saturates ? clamp(state, out, bytes, u) : 0;
    }
    v *= (__int128)1 << by;
    return saturates ? clamp(state, v, bytes, u) : (uint64_t)v & lane_mask(bytes);
}

uint64_t saturate_three(struct arm64_state *state, unsigned op, uint64_t a, uint64_t b,
                        unsigned bytes)
{
    bool u = (op & 32) != 0;
    unsigned bits = bytes * 8;
    __int128 x = lane(a, bytes, u);
    __int128 y = lane(b, bytes, u);
    switch (op & 31) {
    case 1:
        return clamp(state, x + y, bytes, u);
    case 5:
        return clamp(state, x - y, bytes, u);
    case 22: /* SQDMULH, SQRDMULH: both are signed */
        x = lane(a, bytes, false) * lane(b, bytes, false) * 2;
        return clamp(state, (x + (u ? (__int128)1 << (bits - 1) : 0)) >> bits, bytes, false);
    default:
        return shift(state, op, a, b, bytes);
    }
}

uint64_t saturate_multiply_add(struct arm64_state *state, bool subtract, uint64_t d, uint64_t a,
                               uint64_t b, unsigned bytes)
{
    unsigned bits = bytes * 8;
    __int128 product = lane(a, bytes, false) * lane(b, bytes, false) * 2;
    __int128 v = lane(d, bytes, false) * ((__int128)1 << bits) + ((__int128)1 << (bits - 1));
    return clamp(state, (subtract ? v - product : v + product) >> bits, bytes, false);
}

bool saturate_is_two(unsigned op)
{
    return (op & 31) == 3 || (op & 31) == 7;
}

uint64_t saturate_two(struct arm64_state *state, unsigned op, uint64_t d, uint64_t a,
                      unsigned bytes)
{
    bool u = (op & 32) != 0;
    __int128 v = lane(a, bytes, false);
    if ((op & 31) == 3) { /* SUQADD: signed and unsigned, USQADD: the other way round */
        return clamp(state, lane(d, bytes, u) + lane(a, bytes, !u), bytes, u);
    }
    return clamp(state, u || v < 0 ? -v : v, bytes, false);
}

uint64_t saturate_narrow(struct arm64_state *state, uint64_t a, unsigned bytes, bool from_unsigned,
                         bool to_unsigned, unsigned by, bool round)
{
    __int128 v = lane(a, 2 * bytes, from_unsigned);
    return clamp(state, by == 0 ? v : right(v, by, round), bytes, to_unsigned);
}

uint64_t saturate_left(struct arm64_state *state, uint64_t a, unsigned bytes, bool from_unsigned,
                       bool to_unsigned, unsigned by)
{
    return clamp(state, lane(a, bytes, from_unsigned) * ((__int128)1 << by), bytes, to_unsigned);
}

uint64_t saturate_double(struct arm64_state *state, unsigned op, uint64_t d, int64_t a, int64_t b,
                         unsigned bytes)
{
    uint64_t product = clamp(state, (__int128)a * b * 2, bytes, false);
    __int128 p = lane(product, bytes, false);
    __int128 x = lane(d, bytes, false);
    return op == 13  ? product
           : op == 9 ? clamp(state, x + p, bytes, false)
                     : clamp(state, x - p, bytes, false);
}
