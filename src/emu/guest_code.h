/*
 * guest_code.h - reads guest code for a translation, and knows afterwards what was read: the
 * translation depends on these words, on the distances between them, and on nothing else.
 */
#ifndef EMU_GUEST_CODE_H
#define EMU_GUEST_CODE_H

#include <stdbool.h>
#include <stdint.h>

#include "emu/emu.h"

#define GUEST_CODE_WORDS 320u
#define GUEST_CODE_RUNS 64u

/* Words that follow each other. */
struct guest_code_run {
    uint64_t pc;
    uint16_t first, count; /* of word[] */
};

struct guest_code {
    const struct emu_options *options;
    bool incomplete; /* some are not here, or the translation depends on their absence */
    uint32_t run_count, word_count;
    struct guest_code_run run[GUEST_CODE_RUNS];
    uint32_t word[GUEST_CODE_WORDS];
};

void guest_code_begin(struct guest_code *code, const struct emu_options *options);
/* False when pc is not aligned, not executable, or not there. */
bool guest_code_read(struct guest_code *code, uint64_t pc, uint32_t *ret);

#endif
