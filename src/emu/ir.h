/*
 * ir.h - the translator's intermediate code: a block of guest instructions as a line of typed
 * operations.
 *
 * An operation that has a value is named by its place in the line. Guest registers are slots, read
 * and written by GET and PUT in program order; the flags N, Z, C, V are one more, which the
 * operations ending in F set and those with a condition read. Between INSN and the first PUT, STORE
 * or change of state an instruction may fault: whatever can comes before its first PUT.
 */
#ifndef EMU_IR_H
#define EMU_IR_H

#include <stdbool.h>
#include <stdint.h>

/*
 * X(NAME, operands that are values, what it is: IR_HAS_VALUE and so on). width is bytes of the
 * operation, 4 or 8, unless it says other; with 4 the operands' upper halves are ignored, and the
 * value's is 0.
 */
#define IR_OPS(X)                                                                                  \
    X(INSN, 0, 0) /* a guest instruction begins; imm: its pc */                                    \
    X(CONST, 0, IR_HAS_VALUE)                                                                      \
    X(GET, 0, IR_HAS_VALUE)      /* imm: slot */                                                   \
    X(PUT, 1, IR_EFFECT)         /* imm: slot */                                                   \
    X(GETSTATE, 0, IR_HAS_VALUE) /* imm: offset in the state, width 1 to 8, zero-extended */       \
    X(PUTSTATE, 1, IR_EFFECT)    /* the same */                                                    \
    X(ADD, 2, IR_HAS_VALUE)                                                                        \
    X(SUB, 2, IR_HAS_VALUE)                                                                        \
    X(AND, 2, IR_HAS_VALUE)                                                                        \
    X(OR, 2, IR_HAS_VALUE)                                                                         \
    X(XOR, 2, IR_HAS_VALUE)                                                                        \
    X(ANDN, 2, IR_HAS_VALUE) /* a & ~b */                                                          \
    X(MUL, 2, IR_HAS_VALUE)                                                                        \
    X(MULHU, 2, IR_HAS_VALUE) /* upper 64 bits of the product */                                   \
    X(MULHS, 2, IR_HAS_VALUE)                                                                      \
    X(UDIV, 2, IR_HAS_VALUE) /* by 0: 0 */                                                         \
    X(SDIV, 2, IR_HAS_VALUE) /* by 0: 0; the most negative by -1: itself */                        \
    X(SHL, 2, IR_HAS_VALUE)  /* amounts count modulo the width in bits */                          \
    X(SHR, 2, IR_HAS_VALUE)                                                                        \
    X(SAR, 2, IR_HAS_VALUE)                                                                        \
    X(ROR, 2, IR_HAS_VALUE)                                                                        \
    X(EXTR, 2, IR_HAS_VALUE) /* of a:b the width from bit imm on */                                \
    X(NOT, 1, IR_HAS_VALUE)                                                                        \
    X(NEG, 1, IR_HAS_VALUE)                                                                        \
    X(ZEXT, 1, IR_HAS_VALUE) /* imm: from so many bytes, 1, 2 or 4 */                              \
    X(SEXT, 1, IR_HAS_VALUE)                                                                       \
    X(CLZ, 1, IR_HAS_VALUE)                                                                        \
    X(RBIT, 1, IR_HAS_VALUE)                                                                       \
    X(REV, 1, IR_HAS_VALUE) /* bytes in units of imm bytes, 2, 4, 8 */                             \
    X(ADDF, 2, IR_HAS_VALUE | IR_SETS_FLAGS)                                                       \
    X(SUBF, 2, IR_HAS_VALUE | IR_SETS_FLAGS)                                                       \
    X(ANDF, 2, IR_HAS_VALUE | IR_SETS_FLAGS) /* C and V become 0 */                                \
    X(ADC, 2, IR_HAS_VALUE | IR_READS_FLAGS)                                                       \
    X(SBC, 2, IR_HAS_VALUE | IR_READS_FLAGS)                                                       \
    X(ADCF, 2, IR_HAS_VALUE | IR_READS_FLAGS | IR_SETS_FLAGS)                                      \
    X(SBCF, 2, IR_HAS_VALUE | IR_READS_FLAGS | IR_SETS_FLAGS)                                      \
    X(FCMPF, 0, IR_SETS_FLAGS) /* of vector.n and vector.m, size bytes; m above 31: 0; fn: NZCV */ \
    X(CCMPF, 2, IR_READS_FLAGS | IR_SETS_FLAGS) /* cond ? of a - b : imm, as ARM64_N and so on */  \
    X(CCMNF, 2, IR_READS_FLAGS | IR_SETS_FLAGS) /* cond ? of a + b : imm */                        \
    X(SELECT, 2, IR_HAS_VALUE | IR_READS_FLAGS) /* cond ? a : b */                                 \
    X(GETNZCV, 0, IR_HAS_VALUE | IR_READS_FLAGS)                                                   \
    X(PUTNZCV, 1, IR_SETS_FLAGS)                                                                   \
    X(LOAD, 2, IR_HAS_VALUE | IR_FAULTS) /* at a + (b << scale) + imm; size, sext: ir_insn */      \
    X(STORE, 3, IR_EFFECT | IR_FAULTS)   /* c, as LOAD */                                          \
    X(LOADV, 2, IR_EFFECT | IR_FAULTS)   /* size 1 to 16 into vector register reg, the rest 0 */   \
    X(STOREV, 2, IR_EFFECT | IR_FAULTS)                                                            \
    X(COPYV, 0, IR_EFFECT) /* register reg from register imm, all 16 bytes */                      \
    X(PUTV, 2, IR_EFFECT)  /* vector register reg: lower and upper half */                         \
    X(DUPV, 1, IR_EFFECT)  /* size bytes in all lanes of the lower imm bytes of register reg */    \
    X(CAS, 3, IR_HAS_VALUE | IR_EFFECT | IR_FAULTS)    /* at a: b becomes c; what was there */     \
    X(ATOMIC, 2, IR_HAS_VALUE | IR_EFFECT | IR_FAULTS) /* enum ir_atomic imm at a with b */        \
    X(STX, 2, IR_HAS_VALUE | IR_EFFECT | IR_FAULTS) /* store-exclusive of b at a; 1: not done */   \
    X(FENCE, 0, IR_EFFECT)                                                                         \
    X(CALL, 1, IR_HAS_VALUE | IR_EFFECT)     /* fn(state, imm, a): of vectors and floats alone */  \
    X(BRCOND, 0, IR_BRANCH | IR_READS_FLAGS) /* to imm when cond holds */                          \
    X(BRZERO, 1, IR_BRANCH)                  /* to imm when a is 0 */                              \
    X(BRNONZERO, 1, IR_BRANCH)                                                                     \
    X(BRBIT0, 1, IR_BRANCH) /* to imm when bit `scale` of a is 0 */                                \
    X(BRBIT1, 1, IR_BRANCH)                                                                        \
    X(JUMP, 0, IR_BRANCH | IR_END)    /* to imm */                                                 \
    X(CALLTO, 0, IR_BRANCH | IR_END)  /* to imm; the return address is in slot 30 */               \
    X(JUMPIND, 1, IR_BRANCH | IR_END) /* to a; kind */                                             \
    X(EXIT, 0, IR_BRANCH | IR_END)    /* enum emu_exit in scale, pc in imm */

enum ir_op {
#define X(name, operands, what) IR_##name,
    IR_OPS(X)
#undef X
        IR_OP_COUNT
};

#define IR_HAS_VALUE 1u
#define IR_EFFECT 2u /* not to be left out when nobody uses the value */
#define IR_SETS_FLAGS 4u
#define IR_READS_FLAGS 8u
#define IR_FAULTS 16u
#define IR_BRANCH 32u /* may leave the block */
#define IR_END 64u    /* always does */

struct ir_op_info {
    const char *name;
    uint8_t operands;
    uint8_t what;
};
extern const struct ir_op_info ir_op_info[IR_OP_COUNT];

enum ir_atomic {
    IR_SWAP,
    IR_FETCH_ADD,
    IR_FETCH_CLEAR,
    IR_FETCH_XOR,
    IR_FETCH_OR,
    IR_FETCH_SMAX,
    IR_FETCH_SMIN,
    IR_FETCH_UMAX,
    IR_FETCH_UMIN
};

/*
 * What a CALL does, where a host may do it in line: d = n op m on lanes of `size` bytes, of the
 * lower 8 or all 16 bytes; 8 leave zeros above. What lanes compare as is all ones or zeros. n or m
 * above 31: zeros. lane: 1 more than the lane of m that counts as all of them.
 */
enum ir_vector_op {
    IR_V_NONE, /* only its function knows */
    IR_V_ADD,
    IR_V_SUB,
    IR_V_AND,
    IR_V_ANDN,
    IR_V_OR,
    IR_V_ORN,
    IR_V_XOR,
    IR_V_SELECT_D,
    IR_V_SELECT_M,
    IR_V_SELECT_NOT_M, /* bits of n where d is 1, else m; where m is 1, else d; ... */
    IR_V_EQ,
    IR_V_GT,
    IR_V_GE,
    IR_V_HI,
    IR_V_HS,
    IR_V_SMAX,
    IR_V_SMIN,
    IR_V_UMAX,
    IR_V_UMIN,
    IR_V_EQ_ZERO,
    IR_V_NOT,
    IR_V_SHL,
    IR_V_SHR,
    IR_V_SAR,        /* by `by` */
    IR_V_NARROW,     /* lanes of 2 * size, to the right by `by`; with 16 bytes to the upper half */
    IR_V_UMAX_PAIRS, /* of n, then of m */
    IR_V_UMIN_PAIRS,
    IR_V_EXTRACT, /* bytes of m:n from byte `by` on */
    IR_V_MUL,
    IR_V_MLA, /* d + n * m, d - n * m */
    IR_V_MLS,
    IR_V_NEG,
    IR_V_ABS,
    IR_V_SRA, /* d + (n to the right by `by`), with sign and without */
    IR_V_USRA,
    IR_V_SLI, /* n to the left by `by`, below it d; to the right, above it d */
    IR_V_SRI,
    /* Lanes of size to twice that; by & 1: unsigned, by & 2: of the upper halves. n of the W is
       wide. */
    IR_V_MULL,
    IR_V_MLAL,
    IR_V_MLSL,
    IR_V_ADDL,
    IR_V_ADDW,
    IR_V_SUBL,
    IR_V_SUBW,
    IR_V_ADD_PAIRS,
    IR_V_ZIP1, /* lanes of both in turn: of the lower halves, of the upper ones */
    IR_V_ZIP2,
    IR_V_WIDEN, /* from lanes of `size`, the lower ones or with by & 64 the upper, to the left by
                   the rest of `by` */
    IR_V_UWIDEN,
    IR_V_UZP1, /* even lanes of both, odd ones */
    IR_V_UZP2,
    IR_V_TST, /* whether a bit is in both */
    IR_V_TBL, /* bytes of n by the number in m, else 0 */
    IR_V_REV, /* bytes or lanes within units of `by` bytes */
    /* Arm's cryptographic instructions of these names. */
    IR_V_AESE,
    IR_V_AESD,
    IR_V_AESMC,
    IR_V_AESIMC,
    IR_V_AESE_MIXED, /* and then AESMC, AESIMC of d */
    IR_V_AESD_MIXED,
    IR_V_PMULL, /* of 8 bytes to 16; by 1: of the upper halves */
    IR_V_SHA1C,
    IR_V_SHA1P,
    IR_V_SHA1M,
    IR_V_SHA1SU0,
    IR_V_SHA256H,
    IR_V_SHA256H2,
    IR_V_SHA256SU1,
    IR_V_SHA1H,
    IR_V_SHA1SU1,
    IR_V_SHA256SU0,
    /*
     * Floats: one of size bytes when `bytes` is that, else lanes. What a NaN is in, and what a
     * function says better, the function does.
     */
    IR_V_FADD,
    IR_V_FSUB,
    IR_V_FMUL,
    IR_V_FDIV,
    IR_V_FNMUL,
    IR_V_FMAX, /* also FMAXNM: they differ with NaN */
    IR_V_FMIN,
    IR_V_FSQRT,
    IR_V_FABS,
    IR_V_FNEG,
    IR_V_FMOV,
    IR_V_FMADD, /* a + n * m, a - n * m, -a - n * m, -a + n * m */
    IR_V_FMSUB,
    IR_V_FNMADD,
    IR_V_FNMSUB,
    IR_V_FCMEQ, /* all ones or zeros */
    IR_V_FCMGE,
    IR_V_FCMGT,
    IR_V_FCVT,  /* to size `by` */
    IR_V_FRINT, /* `by`: 0 to nearest, 1 up, 2 down, 3 to zero, 6 and 7 as FPCR says, 6 with inexact
                 */
    IR_V_SCVTF, /* of lanes of 4 bytes */
    IR_V_FCVTZS,
    IR_V_TO_INT, /* the CALL's value; by & 1: unsigned, by & 2: of 64 bits; a: as FRINT, 4: away */
    IR_V_FROM_INT, /* of the CALL's operand; `by` likewise */
};

struct ir_vector {
    uint8_t op; /* enum ir_vector_op */
    uint8_t d, n, m, a;
    uint8_t size, bytes, by, lane;
};

/* How a JUMPIND came about: of a call the return address is in x30 already. */
enum ir_jump { IR_JUMP_PLAIN, IR_JUMP_CALL, IR_JUMP_RETURN };

/* Conditions: bits 31 to 28 of B.cond in the Arm ARM (C1.2.4). */
enum ir_cond {
    IR_EQ,
    IR_NE,
    IR_CS,
    IR_CC,
    IR_MI,
    IR_PL,
    IR_VS,
    IR_VC,
    IR_HI,
    IR_LS,
    IR_GE,
    IR_LT,
    IR_GT,
    IR_LE,
    IR_AL,
    IR_NV
};

/* Slots of GET and PUT. */
#define IR_SLOT_SP 31u
#define IR_SLOT_COUNT 32u

typedef uint16_t ir_value;
#define IR_NONE ((ir_value)0xffff)

struct arm64_state;
typedef uint64_t ir_call_fn(struct arm64_state *state, uint64_t imm, uint64_t a);

struct ir_insn {
    uint8_t op;      /* enum ir_op */
    uint8_t width;   /* 4 or 8 */
    uint8_t size;    /* of memory: 1, 2, 4, 8, 16 bytes */
    uint8_t cond;    /* enum ir_cond; enum ir_jump */
    uint8_t scale;   /* of an index; a bit's number */
    uint8_t reg;     /* a vector register */
    bool sext;       /* LOAD: to width, else with zeros */
    bool dead;       /* the passes': nothing is to be made of it */
    bool keep_flags; /* somebody after it reads the flags that are there after it */
    bool exit_flags; /* of a branch: somebody does where it leads */
    bool of_pc;      /* CONST: lies at a distance from the pc that the code gives */
    uint16_t uses;   /* of its value */
    ir_value operand[3];
    int64_t imm;
    ir_call_fn *fn;
    struct ir_vector vector; /* of a CALL */
};

/* 64 guest instructions of 24 operations, the widest. */
#define IR_MAX 2048u
#define IR_ROOM 64u /* that one instruction must find */

struct ir {
    uint64_t pc;     /* of the first instruction */
    uint32_t guests; /* instructions */
    uint32_t count;
    struct ir_insn insn[IR_MAX];
};

/* The builders fold what is constant; IR_MAX is never exceeded while IR_ROOM is kept. */
ir_value ir_const(struct ir *ir, uint64_t value);
/* One that moves with the code. Nothing is folded into it, and ir_is_const() says false. */
ir_value ir_const_pc(struct ir *ir, uint64_t value);
bool ir_is_const(const struct ir *ir, ir_value value, uint64_t *ret);
ir_value ir_get(struct ir *ir, unsigned slot);
void ir_put(struct ir *ir, unsigned slot, ir_value a);
ir_value ir_op1(struct ir *ir, enum ir_op op, unsigned width, ir_value a);
ir_value ir_op1i(struct ir *ir, enum ir_op op, unsigned width, ir_value a, int64_t imm);
ir_value ir_op2(struct ir *ir, enum ir_op op, unsigned width, ir_value a, ir_value b);
/* Any operation: what is not set is 0 and IR_NONE. */
struct ir_insn *ir_add(struct ir *ir, enum ir_op op, ir_value *ret);

/* What a pure operation makes of constants; used by the builders and the interpreter. */
bool ir_compute(const struct ir_insn *insn, uint64_t a, uint64_t b, uint64_t *ret);

/* The passes, in this order. flags_live(): whether code at pc may read the flags before it sets
 * them. */
typedef bool ir_flags_live_fn(void *data, uint64_t pc);
void ir_pass_flags(struct ir *ir, ir_flags_live_fn *flags_live, void *data);
void ir_pass_dead(struct ir *ir);

struct buf;
void ir_print(const struct ir *ir, struct buf *ret);

#endif
