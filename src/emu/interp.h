/*
 * interp.h - executes intermediate code in C: the oracle of the hosts, and what runs where no page
 * may be made executable.
 */
#ifndef EMU_INTERP_H
#define EMU_INTERP_H

#include "emu/cpu.h"
#include "emu/ir.h"

/* One block. Where it went is in state.pc; leave and leave_arg are set as translated code does. */
void interp_block(struct emu_cpu *cpu, const struct ir *ir);

#endif
