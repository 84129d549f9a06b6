/*
 * control.h - FPCR and FPSR of the CPU whose thread this is: the host's MXCSR has their part while
 * it runs, between translated code, too.
 */
#ifndef EMU_GUEST_ARM64_CONTROL_H
#define EMU_GUEST_ARM64_CONTROL_H

#include <stdint.h>

struct arm64_state;

uint32_t arm64_fpsr(const struct arm64_state *state);
void arm64_set_fpsr(struct arm64_state *state, uint32_t value);
/* state->fpcr has it; setting it is more than that. */
void arm64_set_fpcr(struct arm64_state *state, uint32_t value);

#endif
