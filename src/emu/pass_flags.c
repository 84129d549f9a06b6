/*
 * pass_flags.c - which flags somebody reads: what sets the others need not keep them.
 */
#include "emu/ir.h"

/* Whether flags are read where the operation goes when it leaves the block. */
static bool live_outside(const struct ir_insn *insn, ir_flags_live_fn *flags_live, void *data)
{
    switch ((int)insn->op) {
    case IR_JUMP:
    case IR_CALLTO:
    case IR_BRCOND:
    case IR_BRZERO:
    case IR_BRNONZERO:
    case IR_BRBIT0:
    case IR_BRBIT1:
        return flags_live(data, (uint64_t)insn->imm);
    default:
        return true; /* a target or a caller that nobody knows */
    }
}

void ir_pass_flags(struct ir *ir, ir_flags_live_fn *flags_live, void *data)
{
    bool live = true;
    for (uint32_t i = ir->count; i-- > 0;) {
        struct ir_insn *insn = &ir->insn[i];
        unsigned what = ir_op_info[insn->op].what;
        insn->keep_flags = live;
        if ((what & IR_BRANCH) != 0) {
            bool outside = live_outside(insn, flags_live, data);
            live = (what & IR_END) != 0 ? outside : live || outside;
            insn->keep_flags = live;
            insn->exit_flags = outside;
        }
        if ((what & IR_SETS_FLAGS) != 0) {
            live = false;
        }
        if ((what & IR_READS_FLAGS) != 0) {
            live = true;
        }
    }
}
