/*
 * pass_dead.c - counts who uses a value; what nobody uses and has no effect is not made.
 */
#include "emu/ir.h"

/* Setting flags that nobody reads is no effect. */
static bool has_effect(const struct ir_insn *insn)
{
    unsigned what = ir_op_info[insn->op].what;
    return insn->op == IR_INSN || (what & (IR_EFFECT | IR_BRANCH | IR_FAULTS)) != 0 ||
           ((what & IR_SETS_FLAGS) != 0 && insn->keep_flags);
}

void ir_pass_dead(struct ir *ir)
{
    for (uint32_t i = ir->count; i-- > 0;) {
        struct ir_insn *insn = &ir->insn[i];
        if (!has_effect(insn) && insn->uses == 0) {
            insn->dead = true;
            continue;
        }
        for (unsigned n = 0; n < ir_op_info[insn->op].operands; n++) {
            if (insn->operand[n] != IR_NONE) {
                ir->insn[insn->operand[n]].uses++;
            }
        }
    }
}
