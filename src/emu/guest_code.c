#include "emu/guest_code.h"

#include "emu/fetch.h"

void guest_code_begin(struct guest_code *code, const struct emu_options *options)
{
    code->options = options;
    code->incomplete = false;
    code->run_count = code->word_count = 0;
}

static void note(struct guest_code *code, uint64_t pc, uint32_t word)
{
    struct guest_code_run *last = code->run_count == 0 ? NULL : &code->run[code->run_count - 1];
    if (code->word_count == GUEST_CODE_WORDS) {
        code->incomplete = true;
        return;
    }
    if (last == NULL || pc != last->pc + 4u * last->count) {
        if (code->run_count == GUEST_CODE_RUNS) {
            code->incomplete = true;
            return;
        }
        last = &code->run[code->run_count++];
        *last = (struct guest_code_run){.pc = pc, .first = (uint16_t)code->word_count};
    }
    last->count++;
    code->word[code->word_count++] = word;
}

bool guest_code_read(struct guest_code *code, uint64_t pc, uint32_t *ret)
{
    for (uint32_t i = code->run_count; i-- > 0;) {
        const struct guest_code_run *run = &code->run[i];
        if (pc - run->pc < 4u * run->count && (pc & 3) == 0) {
            *ret = code->word[run->first + (pc - run->pc) / 4];
            return true;
        }
    }
    if ((pc & 3) != 0 || !code->options->executable(code->options->data, pc, 4) ||
        !emu_fetch(pc, ret)) {
        return false;
    }
    note(code, pc, *ret);
    return true;
}
