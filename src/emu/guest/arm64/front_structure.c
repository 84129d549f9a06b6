/*
 * front_structure.c - vectors of structures: LD1 to LD4 and ST1 to ST4 (Arm ARM, C4.1.96).
 *
 * Memory goes through registers 32 to 35, which no instruction names: so a fault leaves the guest's
 * as they were. What is interleaved is sorted there in C.
 */
#include <stddef.h>

#include "emu/guest/arm64/front_internal.h"
#include "emu/guest/arm64/lanes.h"

#define STRUCTURE 32
#define REGISTERS_MAX 4u

static void move_vector(struct front *f, ir_value base, unsigned offset, unsigned size,
                        bool is_load, unsigned reg)
{
    struct ir_insn *insn = ir_add(f->ir, is_load ? IR_LOADV : IR_STOREV, NULL);
    insn->size = (uint8_t)size;
    insn->operand[0] = base;
    insn->operand[1] = IR_NONE;
    insn->imm = offset;
    insn->reg = (uint8_t)reg;
}

static void move_base(struct front *f, const struct a64_args *a, ir_value base, unsigned bytes)
{
    ir_value by = a->rm == 31 ? ir_const(f->ir, bytes) : front_x(f, a->rm);
    front_put_x_sp(f, a->rn, ir_op2(f->ir, IR_ADD, 8, base, by));
}

/* Byte k of the memory is in piece k / q. */
static uint8_t *piece(struct arm64_state *state, const struct lane_args *args, unsigned k)
{
    return &state->structure[k / args->q].b[k % args->q];
}

/* rd: the first register, op: how many; size of an element, q of a register. */
static uint64_t sort(struct arm64_state *state, uint64_t imm, bool is_load)
{
    const struct lane_args args = lane_unpack(imm);
    unsigned lanes = args.q / args.size;
    for (unsigned i = 0; i < lanes; i++) {
        for (unsigned r = 0; r < args.op; r++) {
            uint8_t *memory = piece(state, &args, (i * args.op + r) * args.size);
            uint8_t *lane = &state->v[(args.rd + r) & 31].b[(size_t)i * args.size];
            memcpy(is_load ? lane : memory, is_load ? memory : lane, args.size);
        }
    }
    for (unsigned r = 0; is_load && args.q == 8 && r < args.op; r++) {
        state->v[(args.rd + r) & 31].d[1] = 0;
    }
    return 0;
}

static uint64_t sort_in(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    (void)a;
    return sort(state, imm, true);
}

static uint64_t sort_out(struct arm64_state *state, uint64_t imm, uint64_t a)
{
    (void)a;
    return sort(state, imm, false);
}

/* LD1 and ST1 of one to four whole registers: one behind the other. */
static void whole(struct front *f, const struct a64_args *a, ir_value base, unsigned count,
                  unsigned size)
{
    for (unsigned i = 0; i < count; i++) {
        move_vector(f, base, i * size, size, a->l != 0, ((unsigned)a->rt + i) & 31);
    }
}

static void interleaved(struct front *f, const struct a64_args *a, ir_value base, unsigned count,
                        unsigned size)
{
    const struct lane_args args = {
        .rd = (uint8_t)a->rt,
        .op = (uint8_t)count,
        .size = (uint8_t)(1u << a->size),
        .q = (uint8_t)size,
    };
    if (a->l == 0) {
        front_call(f, sort_out, lane_pack(args));
    }
    for (unsigned i = 0; i < count; i++) {
        move_vector(f, base, i * size, size, a->l != 0, STRUCTURE + i);
    }
    if (a->l != 0) {
        front_call(f, sort_in, lane_pack(args));
    }
}

static bool multiple(struct front *f, const struct a64_args *a, bool moves)
{
    static const struct {
        uint8_t count;
        bool interleaved;
    } kinds[16] = {[0] = {4, true},  [2] = {4, false}, [4] = {3, true},  [6] = {3, false},
                   [7] = {1, false}, [8] = {2, true},  [10] = {2, false}};
    unsigned count = kinds[a->opcode].count;
    unsigned size = a->q != 0 ? 16 : 8;
    if (count == 0 || (kinds[a->opcode].interleaved && a->size == 3 && a->q == 0)) {
        return false;
    }
    ir_value base = front_x_sp(f, a->rn);
    if (kinds[a->opcode].interleaved) {
        interleaved(f, a, base, count, size);
    } else {
        whole(f, a, base, count, size);
    }
    if (moves) {
        move_base(f, a, base, count * size);
    }
    return true;
}

bool front_ld_multiple(struct front *f, const struct a64_args *a)
{
    return multiple(f, a, false);
}

bool front_ld_multiple_post(struct front *f, const struct a64_args *a)
{
    return multiple(f, a, true);
}

/* Which lane of what size; false: reserved. */
static bool lane_of(const struct a64_args *a, unsigned *ret_log, unsigned *ret_index)
{
    unsigned log = (unsigned)a->opcode >> 1;
    unsigned index = (unsigned)(a->q << 3 | a->s << 2 | a->size);
    if ((log == 1 && (a->size & 1) != 0) ||
        (log == 2 && (a->size >= 2 || (a->size == 1 && a->s != 0))) ||
        (log == 3 && (a->l == 0 || a->s != 0))) {
        return false;
    }
    if (log == 3) { /* to all lanes */
        log = (unsigned)a->size;
        index = 0;
    } else if (log == 2 && (a->size & 1) != 0) {
        log = 3;
        index >>= 3;
    } else {
        index >>= log;
    }
    *ret_log = log;
    *ret_index = index;
    return true;
}

static size_t offset_of(const struct a64_args *a, unsigned reg, unsigned byte)
{
    return front_vector_offset(((unsigned)a->rt + reg) & 31, byte);
}

/* A lane of one to four registers, or one element to all lanes of each. */
static bool single(struct front *f, const struct a64_args *a, bool moves)
{
    unsigned count = (unsigned)((a->opcode & 1) << 1 | a->r) + 1;
    unsigned log = 0;
    unsigned index = 0;
    bool replicate = a->opcode >> 1 == 3;
    ir_value lane[REGISTERS_MAX];
    if (!lane_of(a, &log, &index)) {
        return false;
    }
    unsigned size = 1u << log;
    ir_value base = front_x_sp(f, a->rn);
    for (unsigned r = 0; a->l != 0 && r < count; r++) {
        lane[r] = front_load(f, base, r * size, size); /* all before the first is put */
    }
    for (unsigned r = 0; r < count; r++) {
        unsigned lanes = replicate ? (a->q != 0 ? 16 : 8) / size : 1;
        if (a->l == 0) {
            front_store(f, base, r * size, size,
                        front_get_state(f, offset_of(a, r, index * size), size));
            continue;
        }
        for (unsigned i = 0; i < lanes; i++) {
            front_put_state(f, offset_of(a, r, (replicate ? i : index) * size), size, lane[r]);
        }
        if (replicate && a->q == 0) {
            front_put_state(f, offset_of(a, r, 8), 8, ir_const(f->ir, 0));
        }
    }
    if (moves) {
        move_base(f, a, base, count * size);
    }
    return true;
}

bool front_ld_single(struct front *f, const struct a64_args *a)
{
    return single(f, a, false);
}

bool front_ld_single_post(struct front *f, const struct a64_args *a)
{
    return single(f, a, true);
}
