#include "emu/host/x86_64/emit.h"

#include <assert.h>
#include <string.h>

void emit_byte(struct emit *e, unsigned byte)
{
    if (e->p >= e->end) {
        e->full = true;
        return;
    }
    *e->p++ = (uint8_t)byte;
}

void emit_u32(struct emit *e, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++) {
        emit_byte(e, v >> (8 * i) & 0xff);
    }
}

void emit_u64(struct emit *e, uint64_t v)
{
    emit_u32(e, (uint32_t)v);
    emit_u32(e, (uint32_t)(v >> 32));
}

static bool is_s8(int64_t v)
{
    return v == (int8_t)v;
}

/* ModR/M, SIB and displacement. */
static void emit_operand(struct emit *e, unsigned reg, struct x86_rm rm)
{
    unsigned field = (reg & 7) << 3;
    unsigned base = rm.base & 7;
    if (!rm.memory) {
        emit_byte(e, 0xc0 | field | base);
        return;
    }
    unsigned mod = rm.disp == 0 && base != RBP ? 0x00 : is_s8(rm.disp) ? 0x40 : 0x80;
    if (rm.index != X86_NO_REG || base == RSP) {
        unsigned index = rm.index == X86_NO_REG ? RSP : rm.index & 7;
        emit_byte(e, mod | field | 4);
        emit_byte(e, (unsigned)rm.scale << 6 | index << 3 | base);
    } else {
        emit_byte(e, mod | field | base);
    }
    if (mod == 0x40) {
        emit_byte(e, (uint8_t)rm.disp);
    } else if (mod == 0x80) {
        emit_u32(e, (uint32_t)rm.disp);
    }
}

static bool has_index(struct x86_rm rm)
{
    return rm.memory && rm.index != X86_NO_REG;
}

void emit_rm(struct emit *e, uint32_t opcode, unsigned width, unsigned reg, struct x86_rm rm)
{
    unsigned rex = (width == 8 ? 8u : 0) | (reg >= R8 ? 4u : 0) |
                   (has_index(rm) && rm.index >= R8 ? 2u : 0) | (rm.base >= R8 ? 1u : 0);
    bool byte_reg = (opcode & X86_BYTE) != 0 && (reg >= RSP || (!rm.memory && rm.base >= RSP));
    if ((opcode & X86_WORD) != 0 || (opcode & 0xf000) == X86_66) {
        emit_byte(e, 0x66);
    } else if ((opcode & 0xf000) == X86_F3) {
        emit_byte(e, 0xf3);
    } else if ((opcode & 0xf000) == X86_F2) {
        emit_byte(e, 0xf2);
    }
    if (rex != 0 || byte_reg) {
        emit_byte(e, 0x40 | rex);
    }
    if ((opcode & 0xf00) != 0) {
        emit_byte(e, 0x0f);
    }
    if ((opcode & 0xf00) == X86_0F38) {
        emit_byte(e, 0x38);
    } else if ((opcode & 0xf00) == X86_0F3A) {
        emit_byte(e, 0x3a);
    }
    emit_byte(e, opcode & 0xff);
    emit_operand(e, reg, rm);
}

void emit_vex(struct emit *e, uint32_t opcode, bool w, unsigned reg, unsigned vvvv,
              struct x86_rm rm)
{
    unsigned map = opcode >> 8 & 3;
    unsigned prefix = opcode >> 12 & 3;
    static const uint8_t pp[] = {0, 1, 2, 3}; /* none, 66, F3, F2: as X86_66 and so on count */
    if (map == 1 && !w && rm.base < R8 && !(has_index(rm) && rm.index >= R8)) {
        emit_byte(e, 0xc5);
        emit_byte(e, (reg >= R8 ? 0 : 0x80u) | (~vvvv & 15) << 3 | pp[prefix]);
        emit_byte(e, opcode & 0xff);
        emit_operand(e, reg, rm);
        return;
    }
    emit_byte(e, 0xc4);
    emit_byte(e, (reg >= R8 ? 0 : 0x80u) | (has_index(rm) && rm.index >= R8 ? 0 : 0x40u) |
                     (rm.base >= R8 ? 0 : 0x20u) | map);
    emit_byte(e, (w ? 0x80u : 0) | (~vvvv & 15) << 3 | pp[prefix]);
    emit_byte(e, opcode & 0xff);
    emit_operand(e, reg, rm);
}

void emit_mov(struct emit *e, unsigned width, unsigned dst, unsigned src)
{
    if (dst != src || width == 4) {
        emit_rm(e, 0x8b, width, dst, x86_reg_rm(src));
    }
}

void emit_load(struct emit *e, unsigned width, unsigned dst, struct x86_rm rm)
{
    emit_rm(e, 0x8b, width, dst, rm);
}

void emit_store(struct emit *e, unsigned width, struct x86_rm rm, unsigned src)
{
    emit_rm(e, 0x89, width, src, rm);
}

void emit_const(struct emit *e, unsigned dst, uint64_t value)
{
    if (value == (uint32_t)value) {
        if (dst >= R8) {
            emit_byte(e, 0x41);
        }
        emit_byte(e, 0xb8 | (dst & 7));
        emit_u32(e, (uint32_t)value);
    } else if ((int64_t)value == (int32_t)value) {
        emit_rm(e, 0xc7, 8, 0, x86_reg_rm(dst));
        emit_u32(e, (uint32_t)value);
    } else {
        emit_byte(e, 0x48 | (dst >= R8 ? 1u : 0));
        emit_byte(e, 0xb8 | (dst & 7));
        emit_u64(e, value);
    }
}

void emit_lea(struct emit *e, unsigned width, unsigned dst, struct x86_rm rm)
{
    emit_rm(e, 0x8d, width, dst, rm);
}

void emit_alu(struct emit *e, enum x86_alu op, unsigned width, unsigned dst, struct x86_rm src)
{
    emit_rm(e, (unsigned)op << 3 | 3, width, dst, src);
}

void emit_alu_imm(struct emit *e, enum x86_alu op, unsigned width, struct x86_rm dst, int32_t imm)
{
    if (is_s8(imm)) {
        emit_rm(e, 0x83, width, op, dst);
        emit_byte(e, (uint8_t)imm);
    } else {
        emit_rm(e, 0x81, width, op, dst);
        emit_u32(e, (uint32_t)imm);
    }
}

void emit_shift_imm(struct emit *e, enum x86_shift op, unsigned width, unsigned dst, unsigned by)
{
    emit_rm(e, 0xc1, width, op, x86_reg_rm(dst));
    emit_byte(e, by);
}

uint8_t *emit_jcc8(struct emit *e, enum x86_cond cond)
{
    emit_byte(e, 0x70 | (unsigned)cond);
    emit_byte(e, 0);
    return e->p;
}

uint8_t *emit_jmp8(struct emit *e)
{
    emit_byte(e, 0xeb);
    emit_byte(e, 0);
    return e->p;
}

void emit_here(struct emit *e, uint8_t *place)
{
    if (!e->full) {
        assert(e->p - place < 128);
        place[-1] = (uint8_t)(e->p - place);
    }
}

/* opcode of that many bytes, and the distance behind it in one line. */
static uint8_t *emit_far(struct emit *e, unsigned opcode_bytes, unsigned opcode)
{
    while (((uintptr_t)(e->p + opcode_bytes) & 63) > 60 && !e->full) {
        emit_byte(e, 0x90);
    }
    if (opcode_bytes == 2) {
        emit_byte(e, 0x0f);
    }
    emit_byte(e, opcode);
    emit_u32(e, 0);
    return e->p;
}

uint8_t *emit_jcc32(struct emit *e, enum x86_cond cond)
{
    return emit_far(e, 2, 0x80 | (unsigned)cond);
}

uint8_t *emit_jmp32(struct emit *e)
{
    return emit_far(e, 1, 0xe9);
}

uint8_t *emit_call32(struct emit *e)
{
    return emit_far(e, 1, 0xe8);
}

void emit_distance(struct emit *e, uint8_t *place, const uint8_t *target)
{
    if (!e->full) {
        int32_t distance = (int32_t)(target - place);
        memcpy(place - 4, &distance, sizeof(distance));
    }
}

void emit_here32(struct emit *e, uint8_t *place)
{
    emit_distance(e, place, e->p);
}
