#include "emu/guest/arm64/front.h"

#include <assert.h>
#include <stddef.h>

#include "base/macros.h"
#include "emu/cpu.h"
#include "emu/decode.h"
#include "emu/guest/arm64/front_internal.h"

ir_value front_x(struct front *f, int32_t reg)
{
    return reg == 31 ? ir_const(f->ir, 0) : ir_get(f->ir, (unsigned)reg);
}

ir_value front_x_sp(struct front *f, int32_t reg)
{
    return ir_get(f->ir, (unsigned)reg);
}

void front_put_x(struct front *f, int32_t reg, ir_value v)
{
    if (reg != 31) {
        ir_put(f->ir, (unsigned)reg, v);
    }
}

void front_put_x_sp(struct front *f, int32_t reg, ir_value v)
{
    ir_put(f->ir, (unsigned)reg, v);
}

ir_value front_shift(struct front *f, ir_value v, int32_t kind, int32_t amount, unsigned width)
{
    static const uint8_t op[] = {IR_SHL, IR_SHR, IR_SAR, IR_ROR};
    if (amount == 0) {
        return v;
    }
    return ir_op2(f->ir, (enum ir_op)op[kind & 3], width, v, ir_const(f->ir, (uint64_t)amount));
}

ir_value front_extend(struct front *f, ir_value v, int32_t option, int32_t amount, unsigned width)
{
    int64_t bytes = 1 << (option & 3);
    if (bytes < 8) {
        v = ir_op1i(f->ir, (option & 4) != 0 ? IR_SEXT : IR_ZEXT, width, v, bytes);
    }
    return front_shift(f, v, 0, amount, width);
}

static uint64_t ones(unsigned count)
{
    return count == 64 ? UINT64_MAX : ((uint64_t)1 << count) - 1;
}

bool front_bit_mask(int32_t n, int32_t imms, int32_t immr, unsigned width, uint64_t *ret)
{
    uint32_t kind = (uint32_t)n << 6 | (~(uint32_t)imms & 63);
    if (kind < 2 || (width == 4 && n != 0)) {
        return false;
    }
    unsigned size = 1u << (31 - (unsigned)__builtin_clz(kind)); /* bits of an element */
    unsigned s = (unsigned)imms & (size - 1);
    unsigned r = (unsigned)immr & (size - 1);
    if (s == size - 1) {
        return false;
    }
    uint64_t element = ones(s + 1);
    if (r != 0) {
        element = (element >> r | element << (size - r)) & ones(size);
    }
    for (unsigned filled = size; filled < 64; filled *= 2) {
        element |= element << filled;
    }
    *ret = width == 4 ? (uint32_t)element : element;
    return true;
}

/* Followed within the block when that is worth it: the caller sees to it. */
void front_branch(struct front *f, uint64_t target)
{
    f->jumped = true;
    f->next = target;
}

void front_exit(struct front *f, unsigned why, uint64_t pc)
{
    struct ir_insn *insn = ir_add(f->ir, IR_EXIT, NULL);
    insn->scale = (uint8_t)why;
    insn->imm = (int64_t)pc;
    f->ended = true;
}

void front_call(struct front *f, ir_call_fn *fn, uint64_t imm)
{
    struct ir_insn *insn = ir_add(f->ir, IR_CALL, NULL);
    insn->fn = fn;
    insn->imm = (int64_t)imm;
}

void front_call_vector(struct front *f, ir_call_fn *fn, uint64_t imm, struct ir_vector vector)
{
    front_call(f, fn, imm);
    f->ir->insn[f->ir->count - 1].vector = vector;
}

struct ir_vector front_vector(struct lane_args args, unsigned op, unsigned by)
{
    return (struct ir_vector){.op = (uint8_t)op,
                              .d = args.rd,
                              .n = args.rn,
                              .m = args.rm,
                              .a = args.rd,
                              .size = args.size,
                              .bytes = args.q,
                              .by = (uint8_t)by};
}

void front_put_vector(struct front *f, int32_t number, ir_value low, ir_value high)
{
    struct ir_insn *insn = ir_add(f->ir, IR_PUTV, NULL);
    insn->reg = (uint8_t)number;
    insn->operand[0] = low;
    insn->operand[1] = high;
}

void front_put_lanes(struct front *f, int32_t number, ir_value v, unsigned size, unsigned bytes)
{
    struct ir_insn *insn = ir_add(f->ir, IR_DUPV, NULL);
    insn->reg = (uint8_t)number;
    insn->size = (uint8_t)size;
    insn->imm = bytes;
    insn->operand[0] = v;
}

void front_put_state(struct front *f, size_t offset, unsigned width, ir_value v)
{
    struct ir_insn *insn = ir_add(f->ir, IR_PUTSTATE, NULL);
    insn->width = (uint8_t)width;
    insn->imm = (int64_t)offset;
    insn->operand[0] = v;
}

ir_value front_get_state(struct front *f, size_t offset, unsigned width)
{
    ir_value v = IR_NONE;
    struct ir_insn *insn = ir_add(f->ir, IR_GETSTATE, &v);
    insn->width = (uint8_t)width;
    insn->imm = (int64_t)offset;
    return v;
}

ir_value front_load(struct front *f, ir_value base, int64_t offset, unsigned size)
{
    ir_value v = IR_NONE;
    struct ir_insn *insn = ir_add(f->ir, IR_LOAD, &v);
    insn->size = (uint8_t)size;
    insn->width = 8;
    insn->operand[0] = base;
    insn->operand[1] = IR_NONE;
    insn->imm = offset;
    return v;
}

void front_store(struct front *f, ir_value base, int64_t offset, unsigned size, ir_value v)
{
    struct ir_insn *insn = ir_add(f->ir, IR_STORE, NULL);
    insn->size = (uint8_t)size;
    insn->operand[0] = base;
    insn->operand[1] = IR_NONE;
    insn->operand[2] = v;
    insn->imm = offset;
}

static void jump(struct front *f, uint64_t target)
{
    ir_add(f->ir, IR_JUMP, NULL)->imm = (int64_t)target;
    f->ended = true;
}

static front_fn *row_of(enum a64_op op)
{
    front_fn *const *const tables[] = {arm64_front_integer, arm64_front_branch,
                                       arm64_front_memory,  arm64_front_simd,
                                       arm64_front_fp,      arm64_front_extension};
    for (size_t i = 0; i < COUNT(tables); i++) {
        if (tables[i][op] != NULL) {
            return tables[i][op];
        }
    }
    return NULL;
}

static void one_instruction(struct front *f, struct guest_code *code)
{
    ir_add(f->ir, IR_INSN, NULL)->imm = (int64_t)f->pc;
    f->ir->guests++;
    uint32_t word = 0;
    if (!guest_code_read(code, f->pc, &word)) {
        code->incomplete = true;
        front_exit(f, EMU_EXIT_FETCH, f->pc);
        return;
    }
    struct a64_args args = {0};
    enum a64_op op = (enum a64_op)decode_word(&a64_table, word, (int32_t *)&args);
    front_fn *fn = row_of(op);
    uint32_t before = f->ir->count;
    if (fn == NULL || !fn(f, &args)) {
        f->ir->count = before;
        f->jumped = f->ended = false;
        front_exit(f, EMU_EXIT_UNDEFINED, f->pc);
    }
}

void arm64_translate(struct ir *ir, uint64_t pc, struct guest_code *code, uint64_t *ret_low,
                     uint64_t *ret_high)
{
    struct front f = {.ir = ir, .pc = pc};
    ir->pc = pc;
    ir->count = ir->guests = 0;
    *ret_low = pc;
    *ret_high = pc + 4;
    while (!f.ended) {
        one_instruction(&f, code);
        *ret_high = MAX(*ret_high, f.pc + 4);
        uint64_t next = f.pc + 4;
        if (f.ended) {
            break;
        }
        /* Code that is followed forward is one range; a branch back, or far, is a jump. */
        bool follow = !f.jumped || (f.next > f.pc && f.next - pc < 1024);
        if (f.jumped) {
            next = f.next;
            f.jumped = false;
        }
        if (!follow || ir->guests >= FRONT_MAX || ir->count + IR_ROOM > IR_MAX) {
            jump(&f, next);
        }
        f.pc = next;
    }
}
