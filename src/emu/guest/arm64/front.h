/*
 * front.h - AArch64 instructions to intermediate code.
 */
#ifndef EMU_GUEST_ARM64_FRONT_H
#define EMU_GUEST_ARM64_FRONT_H

#include <stdbool.h>
#include <stdint.h>

#include "emu/guest_code.h"
#include "emu/ir.h"

/* Instructions that a block has at most. */
#define FRONT_MAX 64u

/*
 * Makes the block at pc: at least one instruction, which is EXIT where nothing may be executed or
 * decoded.
 * [*ret_low, *ret_high) is what was read of guest memory, which must stay mapped meanwhile.
 */
void arm64_translate(struct ir *ir, uint64_t pc, struct guest_code *code, uint64_t *ret_low,
                     uint64_t *ret_high);

/* Whether code at pc may read the flags before it sets them; true where that is not seen soon. */
bool arm64_flags_live(uint64_t pc, struct guest_code *code);

#endif
