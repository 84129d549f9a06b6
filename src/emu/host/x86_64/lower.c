#include "emu/host/x86_64/lower.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "emu/host/x86_64/lower_internal.h"

struct lower *lower_new(void)
{
    return calloc(1, sizeof(struct lower));
}

void lower_free(struct lower *lower)
{
    free(lower);
}

void note_fault(struct lower *l)
{
    if (l->fault_count == FAULTS) {
        l->e.full = true;
        return;
    }
    l->fault[l->fault_count++] = (struct block_fault){
        .host = (uint32_t)(l->e.p - l->e.start),
        .guest = (uint16_t)(l->guest - 1),
        .flags = (uint8_t)(!l->flags_dirty           ? BLOCK_FLAGS_SAVED
                           : l->flags == FLAGS_SUB   ? BLOCK_FLAGS_SUB
                           : l->flags == FLAGS_FLOAT ? BLOCK_FLAGS_FLOAT
                                                     : BLOCK_FLAGS_ADD),
    };
}

void emit_address_data(struct lower *l, uint64_t address, enum block_reloc_kind kind)
{
    if (l->reloc_count == RELOCS) {
        l->e.full = true;
        return;
    }
    l->reloc[l->reloc_count++] =
        (struct block_reloc){.at = (uint32_t)(l->e.p - l->e.start), .kind = kind};
    emit_u64(&l->e, address);
}

/* Of the longest form, whatever the address is now. */
void emit_address(struct lower *l, unsigned dst, uint64_t address, enum block_reloc_kind kind)
{
    emit_byte(&l->e, 0x48 | (dst >= R8 ? 1u : 0)); /* mov dst, imm64 */
    emit_byte(&l->e, 0xb8 | (dst & 7));
    emit_address_data(l, address, kind);
}

void add_way_out(struct lower *l, uint8_t *place, uint64_t target, bool save)
{
    if (l->way_count == WAYS_OUT) {
        l->e.full = true;
        return;
    }
    l->way[l->way_count++] = (struct way_out){
        .place = place, .target = target, .save_flags = save, .flags = (uint8_t)l->flags};
}

/* Goes to a struct emu_link behind it, by which the jump before `place` is patched later. */
static void write_link(struct lower *l, uint8_t *place, uint64_t target)
{
    struct emit *e = &l->e;
    emit_here32(e, place);
    emit_rm(e, 0x8d, 8, RAX, (struct x86_rm){.memory = true, .base = RBP, .index = X86_NO_REG});
    if (!e->full) {
        e->p[-2] = 0x05; /* rip instead of rbp: ModR/M 00 000 101 */
    }
    e->p -= e->full ? 0 : 1;
    uint8_t *to_link = e->p;
    emit_u32(e, 0);
    emit_rm(e, 0xff, 4, 4, x86_cpu(X86_CPU(thunk_link)));
    while (((uintptr_t)e->p & 7) != 0 && !e->full) {
        emit_byte(e, 0xcc);
    }
    emit_distance(e, to_link + 4, e->p);
    uint8_t *link = e->p;
    emit_address_data(l, target, BLOCK_RELOC_GUEST);
    emit_u32(e, (uint32_t)(int32_t)(place - 4 - link));
    emit_u32(e, 0);
}

void add_unordered(struct lower *l, uint8_t *place, uint64_t target)
{
    add_way_out(l, place, target, false);
    if (!l->e.full) {
        l->way[l->way_count - 1].unordered = true;
    }
}

void add_slow(struct lower *l, uint8_t *place, unsigned dst)
{
    if (l->slow_count == SLOWS) {
        l->e.full = true;
        return;
    }
    l->slow[l->slow_count++] = (struct slow){.place = place, .insn = l->now, .dst = (uint8_t)dst};
}

void write_slow(struct lower *l)
{
    struct emit *e = &l->e;
    for (uint32_t i = 0; i < l->slow_count; i++) {
        const struct slow *slow = &l->slow[i];
        const struct ir_insn *insn = &l->ir->insn[slow->insn];
        emit_here32(e, slow->place);
        emit_const(e, RCX, (uint64_t)insn->imm);
        emit_address(l, RAX, (uint64_t)(uintptr_t)insn->fn, BLOCK_RELOC_FN);
        emit_rm(e, 0xff, 4, 2, x86_cpu(X86_CPU(thunk_call)));
        if (slow->dst != X86_NO_REG) {
            emit_mov(e, 8, slow->dst, RAX);
        }
        emit_distance(e, emit_jmp32(e), slow->back);
    }
}

void write_ways_out(struct lower *l)
{
    struct emit *e = &l->e;
    for (uint32_t i = 0; i < l->way_count; i++) {
        const struct way_out *way = &l->way[i];
        uint8_t *place = way->place;
        if (way->unordered) {
            emit_here32(e, place);
            emit_rm(e, X86_WORD | 0xc7, 4, 0, x86_cpu(X86_CPU(flags)));
            emit_byte(e, 0x01); /* V */
            emit_byte(e, 0x01); /* C */
            place = emit_jmp32(e);
        }
        if (way->save_flags) {
            emit_here32(e, place);
            l->flags = (enum host_flags)way->flags;
            l->flags_dirty = true;
            flags_save(l);
            place = emit_jmp32(e);
        }
        if (way->target == l->ir->pc) {
            emit_distance(e, place, e->start); /* a loop */
        } else {
            write_link(l, place, way->target);
        }
    }
}

/* EXIT and what is like it: pc is exact, back to C. */
static void write_leave(struct lower *l, uint64_t pc, enum emu_exit why)
{
    struct emit *e = &l->e;
    emit_address(l, RAX, pc, BLOCK_RELOC_GUEST);
    emit_store(e, 8, x86_cpu(X86_CPU(state.pc)), RAX);
    emit_rm(e, 0xc7, 4, 0, x86_cpu(X86_CPU(leave)));
    emit_u32(e, EMU_LEAVE_EXIT);
    emit_rm(e, 0xc7, 8, 0, x86_cpu(X86_CPU(leave_arg)));
    emit_u32(e, why);
    emit_rm(e, 0xff, 4, 4, x86_cpu(X86_CPU(thunk_leave)));
}

static bool lower_exit(struct lower *l)
{
    const struct ir_insn *insn = lower_now(l);
    if (insn->op != IR_EXIT) {
        return false;
    }
    if (insn->exit_flags) {
        flags_save(l);
    }
    write_leave(l, (uint64_t)insn->imm, (enum emu_exit)insn->scale);
    return true;
}

static void lower_one(struct lower *l)
{
    bool done = lower_place(l) || lower_integer(l) || lower_flags(l) || lower_memory(l) ||
                lower_vector_own(l) || lower_atomic(l) || lower_branch(l) || lower_exit(l);
    assert(done);
    release_operands(l);
}

/* Where the slow ways of the operation that was just lowered go on. */
static void come_back(struct lower *l)
{
    for (uint32_t i = l->slow_count; i-- > 0 && l->slow[i].insn == l->now;) {
        l->slow[i].back = l->e.p;
    }
}

/* cmp byte [rbp + interrupt], 0; jne: flags of the guest are never in the host's here. */
static uint8_t *write_head(struct lower *l)
{
    emit_rm(&l->e, 0x80, 4, X86_CMP, x86_cpu(X86_CPU(interrupt)));
    emit_byte(&l->e, 0);
    return emit_jcc32(&l->e, X86_NE);
}

static void write_tails(struct lower *l, uint8_t *interrupted, struct block *block)
{
    struct emit *e = &l->e;
    emit_here32(e, interrupted);
    write_leave(l, l->ir->pc, EMU_EXIT_INTERRUPTED);
    block->dead_tail = (uint32_t)(e->p - e->start);
    emit_address(l, RAX, l->ir->pc, BLOCK_RELOC_GUEST);
    emit_rm(e, 0xff, 4, 4, x86_cpu(X86_CPU(thunk_lookup)));
}

int lower_block(struct lower *l, const struct ir *ir, uint8_t *at, size_t size, struct block *block)
{
    assert(((uintptr_t)at & 15) == 0);
    l->e = (struct emit){.start = at, .p = at, .end = at + size};
    l->ir = ir;
    l->guest = 0;
    l->locked = 0;
    l->flags = FLAGS_NONE;
    l->flags_dirty = false;
    l->way_count = l->fault_count = l->reloc_count = l->slow_count = 0;
    uint8_t *interrupted = write_head(l);
    for (l->now = 0; l->now < ir->count && !l->e.full; l->now++) {
        if (!ir->insn[l->now].dead) {
            lower_one(l);
            come_back(l);
        }
    }
    write_slow(l);
    write_ways_out(l);
    write_tails(l, interrupted, block);
    if (l->e.full) {
        return -ENOSPC;
    }
    block->code_size = (uint32_t)(l->e.p - at);
    block->guests = l->guest;
    block->faults = l->fault;
    block->fault_count = l->fault_count;
    block->distances = l->distances;
    block->relocs = l->reloc;
    block->reloc_count = l->reloc_count;
    return 0;
}

uint64_t lower_dead_head(const uint8_t *head, uint32_t tail, uint64_t old)
{
    uint8_t bytes[8];
    (void)head;
    memcpy(bytes, &old, sizeof(bytes));
    int32_t distance = (int32_t)tail - 5;
    bytes[0] = 0xe9;
    memcpy(bytes + 1, &distance, sizeof(distance));
    uint64_t fresh = 0;
    memcpy(&fresh, bytes, sizeof(fresh));
    return fresh;
}
