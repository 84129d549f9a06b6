#include "emu/guest/arm64/crypto.h"

#include <string.h>

#include "emu/guest/arm64/lanes.h"

/* In GF(2^8) of AES (FIPS 197, 4.2). */
static uint8_t multiply(uint8_t a, uint8_t b)
{
    unsigned r = 0;
    for (unsigned i = 0; i < 8; i++) {
        r ^= (b >> i & 1) != 0 ? (unsigned)a << i : 0;
    }
    for (unsigned i = 14; i >= 8; i--) {
        r ^= (r >> i & 1) != 0 ? 0x11bu << (i - 8) : 0;
    }
    return (uint8_t)r;
}

/* To the power of 254; of 0 it is 0. */
static uint8_t inverse(uint8_t a)
{
    uint8_t r = 1;
    for (unsigned i = 0; i < 7; i++) {
        a = multiply(a, a);
        r = multiply(r, a);
    }
    return r;
}

static uint8_t rotated(uint8_t a, unsigned by)
{
    return (uint8_t)(a << by | a >> (8 - by));
}

static uint8_t substitute(uint8_t a)
{
    a = inverse(a);
    return (uint8_t)(a ^ rotated(a, 1) ^ rotated(a, 2) ^ rotated(a, 3) ^ rotated(a, 4) ^ 0x63);
}

static uint8_t substitute_back(uint8_t a)
{
    return inverse((uint8_t)(rotated(a, 1) ^ rotated(a, 3) ^ rotated(a, 6) ^ 0x05));
}

/* Rows are every fourth byte; row i goes i columns to the left, or back. */
static void aes_round(struct arm64_state *state, uint64_t imm, bool back)
{
    struct lane_args args = lane_unpack(imm);
    union arm64_vector from = state->v[args.rd];
    union arm64_vector *to = &state->v[args.rd];
    from.d[0] ^= state->v[args.rn].d[0];
    from.d[1] ^= state->v[args.rn].d[1];
    for (unsigned i = 0; i < 16; i++) {
        unsigned row = i % 4;
        unsigned at = back ? (i + 12 * row) % 16 : (i + 4 * row) % 16;
        to->b[i] = back ? substitute_back(from.b[at]) : substitute(from.b[at]);
    }
}

uint64_t arm64_aese(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    (void)a;
    aes_round(state, imm, false);
    return 0;
}

uint64_t arm64_aesd(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    (void)a;
    aes_round(state, imm, true);
    return 0;
}

static void mix(struct arm64_state *state, uint64_t imm, const uint8_t by[4])
{
    struct lane_args args = lane_unpack(imm);
    const union arm64_vector from = state->v[args.rn];
    for (unsigned i = 0; i < 16; i++) {
        uint8_t sum = 0;
        for (unsigned k = 0; k < 4; k++) {
            sum ^= multiply(from.b[i / 4 * 4 + (i + k) % 4], by[k]);
        }
        state->v[args.rd].b[i] = sum;
    }
}

uint64_t arm64_aesmc(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    static const uint8_t by[] = {2, 3, 1, 1};
    (void)a;
    mix(state, imm, by);
    return 0;
}

uint64_t arm64_aesimc(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    static const uint8_t by[] = {14, 11, 13, 9};
    (void)a;
    mix(state, imm, by);
    return 0;
}

/* imm of the second: rd as both. */
static uint64_t on_itself(uint64_t imm)
{
    struct lane_args args = lane_unpack(imm);
    args.rn = args.rd;
    return lane_pack(args);
}

uint64_t arm64_aese_mixed(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    aes_round(state, imm, false);
    return arm64_aesmc(state, on_itself(imm), a);
}

uint64_t arm64_aesd_mixed(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    aes_round(state, imm, true);
    return arm64_aesimc(state, on_itself(imm), a);
}

static uint32_t left(uint32_t v, unsigned by)
{
    return v << by | v >> (32 - by);
}

static uint32_t right(uint32_t v, unsigned by)
{
    return left(v, 32 - by);
}

static uint32_t choose(uint32_t x, uint32_t y, uint32_t z)
{
    return (x & y) | (~x & z);
}

static uint32_t majority(uint32_t x, uint32_t y, uint32_t z)
{
    return (x & y) | (z & (x | y));
}

/* Four rounds; op: C, P, M. */
static void sha1_rounds(struct arm64_state *state, struct lane_args args)
{
    union arm64_vector x = state->v[args.rd];
    uint32_t y = state->v[args.rn].s[0];
    for (unsigned i = 0; i < 4; i++) {
        uint32_t t = args.op == 0   ? choose(x.s[1], x.s[2], x.s[3])
                     : args.op == 1 ? x.s[1] ^ x.s[2] ^ x.s[3]
                                    : majority(x.s[1], x.s[2], x.s[3]);
        y += left(x.s[0], 5) + t + state->v[args.rm].s[i];
        uint32_t last = x.s[3];
        x.s[3] = x.s[2];
        x.s[2] = left(x.s[1], 30);
        x.s[1] = x.s[0];
        x.s[0] = y;
        y = last;
    }
    state->v[args.rd] = x;
}

/* Four rounds on the eight words x and y; what becomes of one half. */
static union arm64_vector sha256_rounds(union arm64_vector x, union arm64_vector y,
                                        const union arm64_vector *words, bool first)
{
    for (unsigned i = 0; i < 4; i++) {
        uint32_t e = y.s[0];
        uint32_t t = y.s[3] + (right(e, 6) ^ right(e, 11) ^ right(e, 25)) +
                     choose(e, y.s[1], y.s[2]) + words->s[i];
        uint32_t a = x.s[0];
        uint32_t top =
            t + (right(a, 2) ^ right(a, 13) ^ right(a, 22)) + majority(a, x.s[1], x.s[2]);
        y = (union arm64_vector){.s = {x.s[3] + t, y.s[0], y.s[1], y.s[2]}};
        x = (union arm64_vector){.s = {top, x.s[0], x.s[1], x.s[2]}};
    }
    return first ? x : y;
}

static uint32_t sigma0(uint32_t v)
{
    return right(v, 7) ^ right(v, 18) ^ v >> 3;
}

static uint32_t sigma1(uint32_t v)
{
    return right(v, 17) ^ right(v, 19) ^ v >> 10;
}

uint64_t arm64_sha(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    struct lane_args args = lane_unpack(imm);
    const union arm64_vector d = state->v[args.rd];
    const union arm64_vector n = state->v[args.rn];
    const union arm64_vector m = state->v[args.rm];
    union arm64_vector *to = &state->v[args.rd];
    (void)a;
    switch (args.op) {
    case 3: /* SHA1SU0 */
        to->d[0] = d.d[0] ^ d.d[1] ^ m.d[0];
        to->d[1] = d.d[1] ^ n.d[0] ^ m.d[1];
        break;
    case 4:
        *to = sha256_rounds(d, n, &m, true);
        break;
    case 5:
        *to = sha256_rounds(n, d, &m, false);
        break;
    case 6: /* SHA256SU1: the upper two of the words depend on the lower */
        for (unsigned i = 0; i < 4; i++) {
            to->s[i] =
                d.s[i] + (i < 3 ? n.s[i + 1] : m.s[0]) + sigma1(i < 2 ? m.s[i + 2] : to->s[i - 2]);
        }
        break;
    default:
        sha1_rounds(state, args);
    }
    return 0;
}

uint64_t arm64_sha_two(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    struct lane_args args = lane_unpack(imm);
    const union arm64_vector d = state->v[args.rd];
    const union arm64_vector n = state->v[args.rn];
    union arm64_vector *to = &state->v[args.rd];
    (void)a;
    switch (args.op) {
    case 0: /* SHA1H */
        *to = (union arm64_vector){.s = {left(n.s[0], 30)}};
        break;
    case 1: /* SHA1SU1 */
        for (unsigned i = 0; i < 3; i++) {
            to->s[i] = left(d.s[i] ^ n.s[i + 1], 1);
        }
        to->s[3] = left(d.s[3], 1) ^ left(d.s[0] ^ n.s[1], 2);
        break;
    default: /* SHA256SU0 */
        for (unsigned i = 0; i < 4; i++) {
            to->s[i] = d.s[i] + sigma0(i < 3 ? d.s[i + 1] : n.s[0]);
        }
    }
    return 0;
}

uint64_t arm64_pmull_wide(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    struct lane_args args = lane_unpack(imm);
    uint64_t n = state->v[args.rn].d[args.op];
    uint64_t m = state->v[args.rm].d[args.op];
    union arm64_vector r = {.d = {0, 0}};
    (void)a;
    for (unsigned i = 0; i < 64; i++) {
        if ((m >> i & 1) != 0) {
            r.d[0] ^= n << i;
            r.d[1] ^= i == 0 ? 0 : n >> (64 - i);
        }
    }
    state->v[args.rd] = r;
    return 0;
}
