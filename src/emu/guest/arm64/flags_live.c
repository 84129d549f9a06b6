/*
 * flags_live.c - a look ahead: are the flags set before anybody reads them?
 */
#include "base/macros.h"
#include "emu/guest/arm64/front.h"

#define LOOK_AHEAD 12u

enum effect { PASSES, READS, SETS, JUMPS };

/* Instructions with the bits of value where mask has ones. */
static const struct {
    uint32_t mask, value;
    enum effect effect;
} effects[] = {
    {0x3f000000, 0x31000000, SETS},  /* ADDS, SUBS (immediate) */
    {0x3f200000, 0x2b000000, SETS},  /* ADDS, SUBS (shifted register) */
    {0x3fe00000, 0x2b200000, SETS},  /* ADDS, SUBS (extended register) */
    {0x7f800000, 0x72000000, SETS},  /* ANDS (immediate) */
    {0x7f000000, 0x6a000000, SETS},  /* ANDS, BICS (shifted register) */
    {0xff20fc07, 0x1e202000, SETS},  /* FCMP, FCMPE */
    {0x1fe00000, 0x1a000000, READS}, /* ADC, SBC and more */
    {0x1fe00000, 0x1a400000, READS}, /* CCMN, CCMP */
    {0x1fe00000, 0x1a800000, READS}, /* CSEL and its kin */
    {0xff200c00, 0x1e200400, READS}, /* FCCMP */
    {0xff200c00, 0x1e200c00, READS}, /* FCSEL */
    {0xfc000000, 0x14000000, JUMPS}, /* B */
    {0xfc000000, 0x94000000, JUMPS}, /* BL */
    {0x1c000000, 0x14000000, READS}, /* other branches, exceptions, system: who knows */
};

static enum effect effect_of(uint32_t insn)
{
    for (size_t i = 0; i < COUNT(effects); i++) {
        if ((insn & effects[i].mask) == effects[i].value) {
            return effects[i].effect;
        }
    }
    return PASSES;
}

bool arm64_flags_live(uint64_t pc, struct guest_code *code)
{
    for (unsigned i = 0; i < LOOK_AHEAD; i++) {
        uint32_t insn = 0;
        if (!guest_code_read(code, pc, &insn)) {
            return true;
        }
        switch (effect_of(insn)) {
        case SETS:
            return false;
        case READS:
            return true;
        case JUMPS:
            pc += (uint64_t)((int64_t)(int32_t)(insn << 6) >> 4);
            break;
        case PASSES:
        default:
            pc += 4;
        }
    }
    return true;
}
