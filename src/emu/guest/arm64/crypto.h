/*
 * crypto.h - cryptographic instructions (Arm ARM, C7.2, and its shared pseudocode), on the state;
 * imm is a struct lane_args (lanes.h). A host with instructions of its own does not call them.
 */
#ifndef EMU_GUEST_ARM64_CRYPTO_H
#define EMU_GUEST_ARM64_CRYPTO_H

#include "emu/ir.h"

ir_call_fn arm64_aese, arm64_aesd, arm64_aesmc, arm64_aesimc;
/* And then AESMC, AESIMC of rd. */
ir_call_fn arm64_aese_mixed, arm64_aesd_mixed;
/* op: SHA1C, SHA1P, SHA1M, SHA1SU0, SHA256H, SHA256H2, SHA256SU1. */
ir_call_fn arm64_sha;
/* op: SHA1H, SHA1SU1, SHA256SU0. */
ir_call_fn arm64_sha_two;
/* PMULL of 64 bits; op 1: of the upper halves. */
ir_call_fn arm64_pmull_wide;

#endif
