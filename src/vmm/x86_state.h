/*
 * x86_state.h - the registers of an x86 CPU and of the interrupt controllers beside it, as values.
 *
 * Neutral between engines: what a snapshot keeps and a debugger reads. Names and layouts are those
 * of the Intel SDM (vol. 1 ch. 3 and 13, vol. 3 ch. 2, 10 and 11) and of the 8259, 8254 and
 * 82093AA.
 */
#ifndef VMM_X86_STATE_H
#define VMM_X86_STATE_H

#include <stddef.h>
#include <stdint.h>

struct state_table;

enum x86_register {
    X86_RAX,
    X86_RCX,
    X86_RDX,
    X86_RBX,
    X86_RSP,
    X86_RBP,
    X86_RSI,
    X86_RDI,
    X86_R8,
    X86_R9,
    X86_R10,
    X86_R11,
    X86_R12,
    X86_R13,
    X86_R14,
    X86_R15,
    X86_REGISTERS,
};

/* As the hidden part of a segment register (SDM vol. 3, 3.4.3). */
struct x86_segment {
    uint64_t base;
    uint32_t limit; /* in bytes */
    uint16_t selector;
    uint8_t type; /* bits 8-11 of the descriptor's second word */
    uint8_t s, dpl, present, avl, l, db, g;
    uint8_t unusable;
};

enum x86_segment_name {
    X86_ES,
    X86_CS,
    X86_SS,
    X86_DS,
    X86_FS,
    X86_GS,
    X86_TR,
    X86_LDTR,
    X86_SEGMENTS,
};

struct x86_table {
    uint64_t base;
    uint16_t limit;
};

struct x86_msr {
    uint32_t index;
    uint64_t value;
};

#define X86_MSRS_MAX 320
#define X86_XSAVE_MAX ((size_t)16384)
#define X86_LAPIC_SIZE ((size_t)1024)

/* What is on its way into the CPU between two instructions. */
struct x86_events {
    uint8_t exception_pending, exception_injected, exception_number, exception_has_code;
    uint32_t exception_code;
    uint8_t exception_has_payload;
    uint64_t exception_payload;
    uint8_t interrupt_injected, interrupt_number, interrupt_soft, interrupt_shadow;
    uint8_t nmi_injected, nmi_pending, nmi_masked;
    uint8_t smi_smm, smi_pending, smi_inside_nmi, smi_latched_init;
    uint8_t triple_fault_pending;
    uint32_t sipi_vector;
};

enum x86_run_state {
    X86_RUNNABLE,
    X86_UNINITIALIZED, /* waits for INIT */
    X86_INIT_RECEIVED, /* waits for SIPI */
    X86_HALTED,
    X86_SIPI_RECEIVED,
};

struct x86_state {
    uint64_t reg[X86_REGISTERS];
    uint64_t rip, rflags;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer, apic_base;
    uint64_t dr[4], dr6, dr7;
    struct x86_segment segment[X86_SEGMENTS];
    struct x86_table gdt, idt;
    uint64_t xcr0;
    uint32_t run_state; /* enum x86_run_state */
    uint32_t tsc_khz;
    struct x86_events events;
    uint32_t msr_count;
    struct x86_msr msr[X86_MSRS_MAX];
    uint32_t xsave_size;
    uint8_t xsave[X86_XSAVE_MAX];
    uint8_t lapic[X86_LAPIC_SIZE]; /* the register page's first KiB */
};

extern const struct state_table x86_state_table;

#define X86_IOAPIC_PINS 24

struct x86_pic {
    uint8_t last_irr, irr, imr, isr, priority_add, irq_base, read_reg_select, poll, special_mask;
    uint8_t init_state, auto_eoi, rotate_on_auto_eoi, special_fully_nested_mode, init4, elcr,
        elcr_mask;
};

struct x86_ioapic {
    uint64_t base;
    uint32_t select, id, irr;
    uint64_t redirection[X86_IOAPIC_PINS];
};

struct x86_pit_channel {
    uint32_t count;
    uint16_t latched_count;
    uint8_t count_latched, status_latched, status, read_state, write_state, write_latch, rw_mode,
        mode, bcd, gate;
    int64_t loaded_at_ns; /* by the engine's monotonic clock */
};

/* What an engine keeps for the whole machine. */
struct x86_board_state {
    uint8_t has_pic, has_ioapic, has_pit;
    struct x86_pic pic[2];
    struct x86_ioapic ioapic;
    struct x86_pit_channel pit[3];
    uint32_t pit_flags;
    uint64_t clock_ns; /* of the guest's paravirtual clock */
};

extern const struct state_table x86_board_state_table;

#endif
