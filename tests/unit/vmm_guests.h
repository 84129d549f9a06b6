/*
 * vmm_guests.h - machines with small guests of our own, on the real /dev/kvm.
 */
#ifndef UNIT_VMM_GUESTS_H
#define UNIT_VMM_GUESTS_H

#include <check.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/loop.h"
#include "freestanding/byteorder.h"
#include "vmm/machine.h"
#include "vmm/memory.h"

#define GUEST(name) extern const uint8_t guest_##name[], guest_##name##_end[]
GUEST(hello);
GUEST(interrupt);
GUEST(nothing);
GUEST(echo);
GUEST(ring);
GUEST(doorbell);
GUEST(count);
GUEST(dirty);
GUEST(triple);
GUEST(smp);
GUEST(second);
GUEST(off);
GUEST(clock);
GUEST(fuzz);
GUEST(second_counts);
GUEST(pending);
GUEST(talk);
GUEST(strings);
GUEST(timer);
GUEST(pins);
GUEST(stamps);
GUEST(smp_counts);

#define GUEST_AT 0x1000ULL
#define GUEST_TABLES 0x8000ULL /* PML4, PDPT, four page directories */

struct guest {
    struct loop *loop;
    struct machine *machine;
    struct err err;
};

static inline struct machine_options guest_options(void)
{
    return (struct machine_options){
        .cpus = 1,
        .memory = (uint64_t)2 << 20,
        .kvm_fd = -1,
        .debug_exit = true,
        .serial_in_fd = -1,
        .serial_out_fd = -1,
    };
}

static inline void guest_open(struct guest *guest, const struct machine_options *options)
{
    memset(guest, 0, sizeof(*guest));
    ck_assert_int_eq(loop_new(&guest->loop), 0);
    int r = machine_new(options, guest->loop, &guest->machine, &guest->err);
    ck_assert_msg(r == 0, "%s", err_text(&guest->err));
}

static inline void guest_close(struct guest *guest)
{
    machine_free(guest->machine);
    loop_free(guest->loop);
}

static inline void guest_copy(struct guest *guest, uint64_t gpa, const uint8_t *from,
                              const uint8_t *end)
{
    ck_assert_int_eq(memory_write(machine_memory(guest->machine), gpa, from, (size_t)(end - from)),
                     0);
}

static inline void guest_set_core(struct guest *guest, void (*change)(struct x86_state *state))
{
    struct x86_state *state = calloc(1, sizeof(*state));
    struct cpu *cpu = machine_cpu(guest->machine, 0);
    ck_assert_int_eq(cpu->ops->get_core(cpu, state), 0);
    change(state);
    ck_assert_int_eq(cpu->ops->set_core(cpu, state), 0);
    free(state);
}

static inline void guest_real_mode(struct x86_state *state)
{
    state->segment[X86_CS].base = 0;
    state->segment[X86_CS].selector = 0;
    state->rip = GUEST_AT;
    state->rflags = 2;
}

static inline void guest_long_mode(struct x86_state *state)
{
    struct x86_segment flat = {
        .limit = 0xffffffff, .selector = 0x10, .type = 3, .s = 1, .present = 1, .db = 1, .g = 1};
    for (unsigned i = X86_ES; i <= X86_GS; i++) {
        state->segment[i] = flat;
    }
    state->segment[X86_CS].selector = 8;
    state->segment[X86_CS].type = 11;
    state->segment[X86_CS].l = 1;
    state->segment[X86_CS].db = 0;
    state->cr0 |= 1ULL | 1ULL << 31;
    state->cr3 = GUEST_TABLES;
    state->cr4 |= 1ULL << 5;
    state->efer |= 1ULL << 8 | 1ULL << 10;
    state->rip = GUEST_AT;
    state->rflags = 2;
}

/* The first 4 GiB as they are, in pages of 2 MiB. */
static inline void guest_write_tables(struct guest *guest)
{
    uint8_t *table = memory_at(machine_memory(guest->machine), GUEST_TABLES, 6 * 4096);
    ck_assert_ptr_nonnull(table);
    store_le64(table, (GUEST_TABLES + 0x1000) | 3);
    for (uint64_t i = 0; i < 4; i++) {
        store_le64(table + 0x1000 + 8 * i, (GUEST_TABLES + 0x2000 + 0x1000 * i) | 3);
    }
    for (uint64_t i = 0; i < 2048; i++) {
        store_le64(table + 0x2000 + 8 * i, i << 21 | 0x83);
    }
}

static inline void guest_load(struct guest *guest, const uint8_t *from, const uint8_t *end,
                              bool long_mode)
{
    guest_copy(guest, GUEST_AT, from, end);
    if (long_mode) {
        guest_write_tables(guest);
    }
    guest_set_core(guest, long_mode ? guest_long_mode : guest_real_mode);
}

static inline void guest_on_end(struct machine *machine, void *data)
{
    (void)machine;
    loop_quit(data, 0);
}

static inline void guest_start(struct guest *guest)
{
    int r = machine_start(guest->machine, guest_on_end, guest->loop, &guest->err);
    ck_assert_msg(r == 0, "%s", err_text(&guest->err));
}

/* Runs to its end, which must be this one. */
static inline void guest_finish(struct guest *guest, enum board_end why, uint32_t code)
{
    ck_assert_int_eq(loop_run(guest->loop), 0);
    char text[200];
    machine_describe_ending(guest->machine, text, sizeof(text));
    const struct machine_ending *ending = machine_ending(guest->machine);
    ck_assert_msg(ending->why == why && (why != BOARD_DEBUG_EXIT || ending->code == code),
                  "wanted end %d with %u: %s", (int)why, code, text);
}

#define guest_load_real(guest, name) guest_load((guest), guest_##name, guest_##name##_end, false)
#define guest_load_long(guest, name) guest_load((guest), guest_##name, guest_##name##_end, true)

#endif
