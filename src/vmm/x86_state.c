#include "vmm/x86_state.h"

#include <errno.h>

#include "base/err.h"
#include "vmm/state.h"

static const struct state_table segment_table = {
    .name = "x86-segment",
    .version = 1,
    .oldest = 1,
    .fields =
        (const struct state_field[]){
            STATE(U64, struct x86_segment, base),
            STATE(U32, struct x86_segment, limit),
            STATE(U16, struct x86_segment, selector),
            STATE(U8, struct x86_segment, type),
            STATE(U8, struct x86_segment, s),
            STATE(U8, struct x86_segment, dpl),
            STATE(U8, struct x86_segment, present),
            STATE(U8, struct x86_segment, avl),
            STATE(U8, struct x86_segment, l),
            STATE(U8, struct x86_segment, db),
            STATE(U8, struct x86_segment, g),
            STATE(U8, struct x86_segment, unusable),
            STATE_DONE,
        },
};

static const struct state_table msr_table = {
    .name = "x86-msr",
    .version = 1,
    .oldest = 1,
    .fields =
        (const struct state_field[]){
            STATE(U32, struct x86_msr, index),
            STATE(U64, struct x86_msr, value),
            STATE_DONE,
        },
};

#define EVENT(kind, member) STATE(kind, struct x86_events, member)

static const struct state_table events_table = {
    .name = "x86-events",
    .version = 1,
    .oldest = 1,
    .fields =
        (const struct state_field[]){
            EVENT(U8, exception_pending),
            EVENT(U8, exception_injected),
            EVENT(U8, exception_number),
            EVENT(U8, exception_has_code),
            EVENT(U32, exception_code),
            EVENT(U8, exception_has_payload),
            EVENT(U64, exception_payload),
            EVENT(U8, interrupt_injected),
            EVENT(U8, interrupt_number),
            EVENT(U8, interrupt_soft),
            EVENT(U8, interrupt_shadow),
            EVENT(U8, nmi_injected),
            EVENT(U8, nmi_pending),
            EVENT(U8, nmi_masked),
            EVENT(U8, smi_smm),
            EVENT(U8, smi_pending),
            EVENT(U8, smi_inside_nmi),
            EVENT(U8, smi_latched_init),
            EVENT(U8, triple_fault_pending),
            EVENT(U32, sipi_vector),
            STATE_DONE,
        },
};

static int check_cpu(void *object, struct err *err)
{
    const struct x86_state *state = object;
    if (state->run_state > X86_SIPI_RECEIVED) {
        return err_say(err, EINVAL, "run_state %u is none", state->run_state);
    }
    return 0;
}

#define CPU(kind, member) STATE(kind, struct x86_state, member)

const struct state_table x86_state_table = {
    .name = "x86-cpu",
    .version = 1,
    .oldest = 1,
    .check = check_cpu,
    .fields =
        (const struct state_field[]){
            STATE_ARRAY(U64, struct x86_state, reg),
            CPU(U64, rip),
            CPU(U64, rflags),
            CPU(U64, cr0),
            CPU(U64, cr2),
            CPU(U64, cr3),
            CPU(U64, cr4),
            CPU(U64, cr8),
            CPU(U64, efer),
            CPU(U64, apic_base),
            STATE_ARRAY(U64, struct x86_state, dr),
            CPU(U64, dr6),
            CPU(U64, dr7),
            STATE_OBJECTS(struct x86_state, segment, X86_SEGMENTS, &segment_table),
            CPU(U64, gdt.base),
            CPU(U16, gdt.limit),
            CPU(U64, idt.base),
            CPU(U16, idt.limit),
            CPU(U64, xcr0),
            CPU(U32, run_state),
            CPU(U32, tsc_khz),
            STATE_OBJECTS(struct x86_state, events, 1, &events_table),
            {
                .kind = STATE_STRUCT,
                .name = "msr",
                .offset = offsetof(struct x86_state, msr),
                .count = X86_MSRS_MAX,
                .stride = sizeof(struct x86_msr),
                .table = &msr_table,
                .used = offsetof(struct x86_state, msr_count),
            },
            STATE_ARRAY_USED(BYTES, struct x86_state, xsave, xsave_size),
            STATE_ARRAY(BYTES, struct x86_state, lapic),
            STATE_DONE,
        },
};

#define PIC(kind, member) STATE(kind, struct x86_pic, member)

static const struct state_table pic_table = {
    .name = "i8259",
    .version = 1,
    .oldest = 1,
    .fields =
        (const struct state_field[]){
            PIC(U8, last_irr),
            PIC(U8, irr),
            PIC(U8, imr),
            PIC(U8, isr),
            PIC(U8, priority_add),
            PIC(U8, irq_base),
            PIC(U8, read_reg_select),
            PIC(U8, poll),
            PIC(U8, special_mask),
            PIC(U8, init_state),
            PIC(U8, auto_eoi),
            PIC(U8, rotate_on_auto_eoi),
            PIC(U8, special_fully_nested_mode),
            PIC(U8, init4),
            PIC(U8, elcr),
            PIC(U8, elcr_mask),
            STATE_DONE,
        },
};

static const struct state_table ioapic_table = {
    .name = "ioapic",
    .version = 1,
    .oldest = 1,
    .fields =
        (const struct state_field[]){
            STATE(U64, struct x86_ioapic, base),
            STATE(U32, struct x86_ioapic, select),
            STATE(U32, struct x86_ioapic, id),
            STATE(U32, struct x86_ioapic, irr),
            STATE_ARRAY(U64, struct x86_ioapic, redirection),
            STATE_DONE,
        },
};

#define PIT(kind, member) STATE(kind, struct x86_pit_channel, member)

static const struct state_table pit_table = {
    .name = "i8254-channel",
    .version = 1,
    .oldest = 1,
    .fields =
        (const struct state_field[]){
            PIT(U32, count),
            PIT(U16, latched_count),
            PIT(U8, count_latched),
            PIT(U8, status_latched),
            PIT(U8, status),
            PIT(U8, read_state),
            PIT(U8, write_state),
            PIT(U8, write_latch),
            PIT(U8, rw_mode),
            PIT(U8, mode),
            PIT(U8, bcd),
            PIT(U8, gate),
            PIT(U64, loaded_at_ns),
            STATE_DONE,
        },
};

#define BOARD(kind, member) STATE(kind, struct x86_board_state, member)

const struct state_table x86_board_state_table = {
    .name = "x86-board",
    .version = 1,
    .oldest = 1,
    .fields =
        (const struct state_field[]){
            BOARD(U8, has_pic),
            BOARD(U8, has_ioapic),
            BOARD(U8, has_pit),
            STATE_OBJECTS(struct x86_board_state, pic, 2, &pic_table),
            STATE_OBJECTS(struct x86_board_state, ioapic, 1, &ioapic_table),
            STATE_OBJECTS(struct x86_board_state, pit, 3, &pit_table),
            BOARD(U32, pit_flags),
            BOARD(U64, clock_ns),
            STATE_DONE,
        },
};
