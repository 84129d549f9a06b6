/*
 * state.h - the registers of an AArch64 CPU in user mode (Arm ARM, B1.2).
 */
#ifndef EMU_GUEST_ARM64_STATE_H
#define EMU_GUEST_ARM64_STATE_H

#include <stdint.h>

/* As in PSTATE and the register NZCV. */
#define ARM64_N (1u << 31)
#define ARM64_Z (1u << 30)
#define ARM64_C (1u << 29)
#define ARM64_V (1u << 28)

/* FPCR: what can be set; the rest reads as 0. */
#define ARM64_FPCR_AHP (1u << 26)
#define ARM64_FPCR_DN (1u << 25)
#define ARM64_FPCR_FZ (1u << 24)
#define ARM64_FPCR_RMODE (3u << 22) /* 0 nearest, 1 up, 2 down, 3 to zero */

/* FPSR. */
#define ARM64_FPSR_QC (1u << 27)
#define ARM64_FPSR_IDC (1u << 7)
#define ARM64_FPSR_IXC (1u << 4)
#define ARM64_FPSR_UFC (1u << 3)
#define ARM64_FPSR_OFC (1u << 2)
#define ARM64_FPSR_DZC (1u << 1)
#define ARM64_FPSR_IOC (1u << 0)

union arm64_vector {
    uint8_t b[16];
    uint16_t h[8];
    uint32_t s[4];
    uint64_t d[2];
    float f[4];
    double g[2];
};

struct arm64_state {
    uint64_t x[31];
    uint64_t sp;
    uint64_t pc;
    uint64_t tpidr; /* TPIDR_EL0 */
    uint32_t nzcv;  /* ARM64_N and so on */
    uint32_t fpcr;
    uint32_t fpsr;
    /* What LDXR saw (a local monitor); size 0: none. */
    uint32_t exclusive_size;
    uint64_t exclusive_address;
    uint64_t exclusive_value[2];
    uint64_t pair[4]; /* of the instruction that is being executed */
    _Alignas(16) union arm64_vector v[32];
    /* Registers 32 to 35, of structures on their way; the kernel has only those before. */
    union arm64_vector structure[4];
};

#endif
