#include "emu/guest/arm64/control.h"

#include <immintrin.h>

#include "emu/guest/arm64/state.h"

/* Of MXCSR: what was invalid, denormal, divided by zero, too large, too small, inexact, from bit 0.
 */
#define HOST_FLAGS 0x3fu
#define HOST_ROUNDING 0x6000u
#define HOST_FLUSH 0x8040u /* results, operands */
/* FPSR: QC and the flags; NZCV of the 32-bit states. */
#define FPSR_BITS 0xf800009fu

uint32_t arm64_fpsr(const struct arm64_state *state)
{
    uint32_t host = _mm_getcsr();
    return state->fpsr | ((host & 1) != 0 ? ARM64_FPSR_IOC : 0) |
           ((host & 4) != 0 ? ARM64_FPSR_DZC : 0) | ((host & 8) != 0 ? ARM64_FPSR_OFC : 0) |
           ((host & 16) != 0 ? ARM64_FPSR_UFC : 0) | ((host & 32) != 0 ? ARM64_FPSR_IXC : 0);
}

void arm64_set_fpsr(struct arm64_state *state, uint32_t value)
{
    state->fpsr = value & FPSR_BITS;
    _mm_setcsr(_mm_getcsr() & ~HOST_FLAGS);
}

void arm64_set_fpcr(struct arm64_state *state, uint32_t value)
{
    static const uint32_t rounding[] = {0x0000, 0x4000, 0x2000, 0x6000}; /* of MXCSR */
    state->fpcr = value & (ARM64_FPCR_AHP | ARM64_FPCR_DN | ARM64_FPCR_FZ | ARM64_FPCR_RMODE);
    uint32_t host = _mm_getcsr() & ~(HOST_ROUNDING | HOST_FLUSH);
    host |= rounding[state->fpcr >> 22 & 3];
    host |= (state->fpcr & ARM64_FPCR_FZ) != 0 ? HOST_FLUSH : 0;
    _mm_setcsr(host);
}
