/*
 * Reads instruction words, in hexadecimal, a line each; prints those that the translator makes.
 */
#include <stdio.h>
#include <stdlib.h>

#include "emu/emu.h"
#include "emu/guest/arm64/front.h"
#include "emu/ir.h"

static uint32_t word[2];

static bool executable(void *data, uint64_t pc, size_t len)
{
    (void)data;
    (void)len;
    return pc == (uint64_t)(uintptr_t)word;
}

int main(void)
{
    const struct emu_options options = {.executable = executable};
    struct ir *ir = malloc(sizeof(*ir));
    struct guest_code code;
    char line[32];
    while (ir != NULL && fgets(line, sizeof(line), stdin) != NULL) {
        uint64_t low = 0;
        uint64_t high = 0;
        word[0] = (uint32_t)strtoul(line, NULL, 16);
        guest_code_begin(&code, &options);
        arm64_translate(ir, (uint64_t)(uintptr_t)word, &code, &low, &high);
        if (ir->insn[1].op != IR_EXIT || ir->insn[1].scale != EMU_EXIT_UNDEFINED) {
            (void)printf("%08x\n", word[0]);
        }
    }
    free(ir);
    return 0;
}
