/*
 * lower_crypto.c - AES, SHA and carry-less products by the host's own instructions, where it has
 * them.
 *
 * Arm has the words of SHA in the order of their names from the lowest lane up, x86 the other way
 * round, and those of SHA-256 as ABEF and CDGH.
 */
#include "emu/host/x86_64/lower_internal.h"

/* These have no VEX form; dst and from: X0 to X2. */
static void sha_op(struct lower *l, uint32_t opcode, unsigned dst, unsigned from)
{
    emit_byte(&l->e, 0x0f);
    emit_byte(&l->e, (opcode & X86_0F3A) == X86_0F3A ? 0x3a : 0x38);
    emit_byte(&l->e, opcode & 0xff);
    emit_byte(&l->e, 0xc0u | dst << 3 | from);
}

/* dst = the lowest word alone. */
static void lowest(struct lower *l, unsigned dst, unsigned from)
{
    vector_op(l, X86_0F3A | 0x21, dst, from, x86_reg_rm(from)); /* vinsertps */
    emit_byte(&l->e, 0x0e);
}

static void shuffle(struct lower *l, unsigned dst, struct x86_rm from, unsigned by)
{
    vector_op(l, X86_0F | 0x70, dst, 0, from); /* vpshufd */
    emit_byte(&l->e, by);
}

/* Two words of a, then two of b. */
static void pick(struct lower *l, unsigned dst, unsigned a, unsigned b, unsigned by)
{
    emit_vex(&l->e, X86_0F | 0xc6, false, dst, a, x86_reg_rm(b)); /* vshufps */
    emit_byte(&l->e, by);
}

static void zero(struct lower *l, unsigned x)
{
    vector_op(l, X86_0F | 0xef, x, x, x86_reg_rm(x));
}

#define AESENC (X86_0F38 | 0xdc)
#define AESENCLAST (X86_0F38 | 0xdd)
#define AESDEC (X86_0F38 | 0xde)
#define AESDECLAST (X86_0F38 | 0xdf)
#define AESIMC (X86_0F38 | 0xdb)

static bool aes(struct lower *l, const struct ir_vector *v)
{
    if (!x86_has_aes()) {
        return false;
    }
    if (v->op == IR_V_AESIMC) {
        vector_op(l, AESIMC, X0, 0, vector_rm(v->n));
        return true;
    }
    zero(l, X1);
    if (v->op == IR_V_AESMC) { /* x86 mixes after a round: undo the rest of one first */
        vector_op(l, AESDECLAST, X0, vector_in(l, v->n, X0), x86_reg_rm(X1));
        vector_op(l, AESENC, X0, X0, x86_reg_rm(X1));
        return true;
    }
    /* Arm's key comes first. */
    vector_op(l, X86_0F | 0xef, X0, vector_in(l, v->d, X0), vector_rm(v->n));
    uint32_t round = v->op == IR_V_AESE         ? AESENCLAST
                     : v->op == IR_V_AESE_MIXED ? AESENC
                     : v->op == IR_V_AESD       ? AESDECLAST
                                                : AESDEC;
    vector_op(l, round, X0, X0, x86_reg_rm(X1));
    return true;
}

static bool carryless(struct lower *l, const struct ir_vector *v)
{
    if (!x86_has_aes()) {
        return false;
    }
    vector_op(l, X86_0F3A | 0x44, X0, vector_in(l, v->n, X0), vector_rm(v->m)); /* vpclmulqdq */
    emit_byte(&l->e, v->by != 0 ? 0x11 : 0);
    return true;
}

#define SHA1RNDS4 (X86_0F3A | 0xcc)
#define SHA256RNDS2 (X86_0F38 | 0xcb)
#define SHA256MSG1 (X86_0F38 | 0xcc)
#define SHA256MSG2 (X86_0F38 | 0xcd)
#define UPSIDE_DOWN 0x1b

/* x86 adds the constant of the rounds itself: Arm's words have it, so it is taken off. E goes to
 * the first word. */
static void sha1_rounds(struct lower *l, const struct ir_vector *v)
{
    static const struct {
        uint32_t constant;
        uint8_t which;
    } rounds[] = {{0x5a827999, 0}, {0x6ed9eba1, 1}, {0x8f1bbcdc, 2}};
    unsigned kind = v->op - (unsigned)IR_V_SHA1C;
    emit_const(&l->e, RAX, (uint32_t)-rounds[kind].constant);
    emit_vex(&l->e, X86_66 | X86_0F | 0x6e, false, X1, 0, x86_reg_rm(RAX)); /* vmovd */
    shuffle(l, X1, x86_reg_rm(X1), 0);
    vector_op(l, X86_0F | 0xfe, X1, X1, vector_rm(v->m)); /* vpaddd */
    lowest(l, X2, vector_in(l, v->n, X2));
    vector_op(l, X86_0F | 0xfe, X1, X1, x86_reg_rm(X2));
    shuffle(l, X1, x86_reg_rm(X1), UPSIDE_DOWN);
    shuffle(l, X0, vector_rm(v->d), UPSIDE_DOWN);
    sha_op(l, SHA1RNDS4, X0, X1);
    emit_byte(&l->e, rounds[kind].which);
    shuffle(l, X0, x86_reg_rm(X0), UPSIDE_DOWN);
}

static void sha256_rounds(struct lower *l, const struct ir_vector *v)
{
    bool first = v->op == IR_V_SHA256H;
    unsigned abcd = vector_in(l, first ? v->d : v->n, X0);
    unsigned efgh = vector_in(l, first ? v->n : v->d, X1);
    pick(l, X2, efgh, abcd, 0x11); /* F E B A */
    pick(l, X1, efgh, abcd, 0xbb); /* H G D C */
    vector_into(l, v->m, X0);
    sha_op(l, SHA256RNDS2, X1, X2); /* by X0 */
    shuffle(l, X0, vector_rm(v->m), 0x0e);
    sha_op(l, SHA256RNDS2, X2, X1);
    pick(l, X0, X2, X1, first ? 0xbb : 0x11);
}

static void sha256_words(struct lower *l, const struct ir_vector *v)
{
    unsigned n = vector_in(l, v->n, X1);
    vector_into(l, v->d, X0);
    if (v->op == IR_V_SHA256SU0) {
        if (n != X1) {
            emit_vex(&l->e, X86_66 | X86_0F | 0x6f, false, X1, 0, x86_reg_rm(n));
        }
        sha_op(l, SHA256MSG1, X0, X1);
        return;
    }
    unsigned m = vector_in(l, v->m, X2);
    vector_op(l, X86_0F3A | 0x0f, X1, m, x86_reg_rm(n)); /* vpalignr */
    emit_byte(&l->e, 4);
    vector_op(l, X86_0F | 0xfe, X0, X0, x86_reg_rm(X1));
    vector_into(l, v->m, X2);
    sha_op(l, SHA256MSG2, X0, X2);
}

/* x = x to the left by `by` in each word; scratch: another. */
static void rotate_words(struct lower *l, unsigned x, unsigned scratch, unsigned by)
{
    vector_shift(l, 2, 4, scratch, x, 32 - by);
    vector_shift(l, 6, 4, x, x, by);
    vector_op(l, X86_0F | 0xeb, x, x, x86_reg_rm(scratch));
}

static void sha1_schedule(struct lower *l, const struct ir_vector *v)
{
    unsigned d = vector_in(l, v->d, X1);
    emit_vex(&l->e, X86_66 | X86_0F | 0xc6, false, X0, d, vector_rm(v->n)); /* vshufpd */
    emit_byte(&l->e, 1); /* the upper half of d, the lower of n */
    vector_op(l, X86_0F | 0xef, X0, X0, x86_reg_rm(d));
    vector_op(l, X86_0F | 0xef, X0, X0, vector_rm(v->m));
}

/* The topmost word depends on the lowest, once more to the left. */
static void sha1_schedule_end(struct lower *l, const struct ir_vector *v)
{
    vector_op(l, X86_0F | 0x73, 3, X0, x86_reg_rm(vector_in(l, v->n, X0))); /* vpsrldq */
    emit_byte(&l->e, 4);
    vector_op(l, X86_0F | 0xef, X0, X0, vector_rm(v->d));
    rotate_words(l, X0, X1, 1);
    vector_op(l, X86_0F | 0x73, 7, X1, x86_reg_rm(X0)); /* vpslldq */
    emit_byte(&l->e, 12);
    rotate_words(l, X1, X2, 1);
    vector_op(l, X86_0F | 0xef, X0, X0, x86_reg_rm(X1));
}

static bool sha(struct lower *l, const struct ir_vector *v)
{
    if (!x86_has_sha()) {
        return false;
    }
    switch ((int)v->op) {
    case IR_V_SHA1SU0:
        sha1_schedule(l, v);
        return true;
    case IR_V_SHA1SU1:
        sha1_schedule_end(l, v);
        return true;
    case IR_V_SHA1H:
        lowest(l, X0, vector_in(l, v->n, X0));
        rotate_words(l, X0, X1, 30);
        return true;
    case IR_V_SHA256H:
    case IR_V_SHA256H2:
        sha256_rounds(l, v);
        return true;
    case IR_V_SHA256SU0:
    case IR_V_SHA256SU1:
        sha256_words(l, v);
        return true;
    default:
        sha1_rounds(l, v);
        return true;
    }
}

bool lower_crypto(struct lower *l, const struct ir_vector *v)
{
    if (v->op >= IR_V_AESE && v->op <= IR_V_AESD_MIXED) {
        return aes(l, v);
    }
    return v->op == IR_V_PMULL ? carryless(l, v) : sha(l, v);
}
