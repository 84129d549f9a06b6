/*
 * The I/O APIC of ours (chip/ioapic.h): its registers as the 82093AA's manual has them (sections of
 * it in brackets), and where its pins lead, seen by a guest.
 */
#include "vmm/chip/ioapic.h"

#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/macros.h"
#include "unit.h"
#include "vmm/bus.h"
#include "vmm/chip/board.h"
#include "vmm/cpu.h"
#include "vmm/device.h"
#include "vmm/irq.h"
#include "vmm/layout.h"
#include "vmm/snapshot.h"
#include "vmm/speed.h"
#include "vmm_guests.h"

#define ENTRY(pin) (0x10u + 2 * (pin))
#define MASKED 0x10000u
#define LEVEL 0x8000u
#define REMOTE_IRR 0x4000u
#define VECTOR 0x40u
#define PIN 5u

#define COUNT_AT 0x5000u
#define GO_ON_AT 0x5010u
#define ENDED_AT 0x5018u
#define READY_AT 0x5020u

static struct machine_options split_options(void)
{
    struct machine_options options = guest_options();
    options.split_irqchip = true;
    return options;
}

static uint32_t get(struct guest *guest, uint32_t index)
{
    struct bus *bus = machine_board(guest->machine)->mmio;
    bus_write(bus, LAYOUT_IOAPIC, 4, index);
    return (uint32_t)bus_read(bus, LAYOUT_IOAPIC + 0x10, 4);
}

static void put(struct guest *guest, uint32_t index, uint32_t value)
{
    struct bus *bus = machine_board(guest->machine)->mmio;
    bus_write(bus, LAYOUT_IOAPIC, 4, index);
    bus_write(bus, LAYOUT_IOAPIC + 0x10, 4, value);
}

START_TEST(registers_are_those_of_the_manual)
{
    struct guest guest;
    struct machine_options options = split_options();
    guest_open(&guest, &options);
    struct bus *bus = machine_board(guest.machine)->mmio;
    /* [3.1.1] the index reads back, eight bits of it */
    bus_write(bus, LAYOUT_IOAPIC, 4, 0xffffff01);
    ck_assert_uint_eq(bus_read(bus, LAYOUT_IOAPIC, 4), 1);
    /* [3.2.1] the id has four bits; [3.2.3] arbitration follows it and is read only */
    put(&guest, 0, 0xffffffff);
    ck_assert_uint_eq(get(&guest, 0), 0x0f000000);
    ck_assert_uint_eq(get(&guest, 2), 0x0f000000);
    put(&guest, 2, 0);
    ck_assert_uint_eq(get(&guest, 2), 0x0f000000);
    /* [3.2.2] version 0x11, the last entry is 23; read only */
    put(&guest, 1, 0);
    ck_assert_uint_eq(get(&guest, 1), 0x00170011);
    for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++) {
        /* [3.2.4] after a reset all pins are masked */
        ck_assert_uint_eq(get(&guest, ENTRY(pin)), MASKED);
        ck_assert_uint_eq(get(&guest, ENTRY(pin) + 1), 0);
        /* delivery status and remote IRR are read only, the reserved bits are 0 */
        put(&guest, ENTRY(pin), 0xffffffff);
        put(&guest, ENTRY(pin) + 1, 0xffffffff);
        ck_assert_uint_eq(get(&guest, ENTRY(pin)), 0x1afff);
        ck_assert_uint_eq(get(&guest, ENTRY(pin) + 1), 0xff000000);
    }
    /* behind the table there is nothing */
    put(&guest, ENTRY(IOAPIC_PINS), 0xffffffff);
    ck_assert_uint_eq(get(&guest, ENTRY(IOAPIC_PINS)), 0);
    /* [3.1] registers are accessed as 32 bits */
    bus_write(bus, LAYOUT_IOAPIC, 1, 7);
    ck_assert_uint_eq(bus_read(bus, LAYOUT_IOAPIC, 4), ENTRY(IOAPIC_PINS));
    guest_close(&guest);
}
END_TEST

START_TEST(neither_a_second_device_nor_a_pin_that_is_not_there_is_connected)
{
    struct guest guest;
    struct machine_options options = split_options();
    struct irq irq = IRQ_NONE;
    struct irq other = IRQ_NONE;
    guest_open(&guest, &options);
    struct cpu_engine *engine = machine_board(guest.machine)->engine;
    ck_assert_int_eq(irq_init_line(&other, engine, IOAPIC_PINS, NULL), -EINVAL);
    ck_assert_int_eq(irq_init_line(&irq, engine, PIN, NULL), 0);
    ck_assert_int_eq(irq_init_line(&other, engine, PIN, NULL), -EINVAL);
    guest_close(&guest);
    irq_done(&irq);
}
END_TEST

START_TEST(an_8254_is_refused_beside_it)
{
    struct machine_options options = split_options();
    struct machine *machine = NULL;
    struct err err = ERR_NONE;
    AUTO(loop_freep) struct loop *loop = NULL;
    options.pit = true;
    ck_assert_int_eq(loop_new(&loop), 0);
    ck_assert_int_eq(machine_new(&options, loop, &machine, &err), -EOPNOTSUPP);
    ck_assert_ptr_nonnull(strstr(err_text(&err), "8254"));
}
END_TEST

static uint64_t peek(struct guest *guest, uint64_t gpa)
{
    uint64_t value = 0;
    ck_assert_int_eq(memory_read(machine_memory(guest->machine), gpa, &value, 8), 0);
    return value;
}

static void poke(struct guest *guest, uint64_t gpa, uint64_t value)
{
    ck_assert_int_eq(memory_write(machine_memory(guest->machine), gpa, &value, 8), 0);
}

static void on_time(struct loop_source *source, void *data)
{
    (void)source;
    loop_quit(data, 0);
}

/* The loop runs for so long: level-triggered pins come through it. */
static void pass(struct guest *guest, int64_t ns)
{
    struct loop_source *timer = NULL;
    ck_assert_int_eq(loop_add_timer(guest->loop, ns, on_time, guest->loop, &timer), 0);
    ck_assert_int_eq(loop_run(guest->loop), 0);
    loop_remove(timer);
}

static void wait_for(struct guest *guest, uint64_t gpa, uint64_t value)
{
    int64_t end = clock_monotonic_ns() + 10 * NS_PER_SEC;
    while (peek(guest, gpa) < value) {
        ck_assert_msg(clock_monotonic_ns() < end, "0x%llx is %llu, not %llu",
                      (unsigned long long)gpa, (unsigned long long)peek(guest, gpa),
                      (unsigned long long)value);
        pass(guest, NS_PER_SEC / 1000);
    }
    pass(guest, NS_PER_SEC / 50); /* and no more */
    ck_assert_uint_eq(peek(guest, gpa), value);
}

static void open_pins(struct guest *guest, struct irq *irq)
{
    struct machine_options options = split_options();
    guest_open(guest, &options);
    ck_assert_int_eq(irq_init_line(irq, machine_board(guest->machine)->engine, PIN, &guest->err),
                     0);
    guest_load_long(guest, pins);
    poke(guest, GO_ON_AT, 1);
    guest_start(guest);
    wait_for(guest, READY_AT, 1);
}

START_TEST(an_edge_reaches_the_guest_and_one_on_a_masked_pin_never_was)
{
    struct guest guest;
    struct irq irq = IRQ_NONE;
    open_pins(&guest, &irq);
    irq_raise(&irq);
    wait_for(&guest, COUNT_AT, 0);
    put(&guest, ENTRY(PIN), VECTOR);
    wait_for(&guest, COUNT_AT, 0);
    irq_raise(&irq);
    wait_for(&guest, COUNT_AT, 1);
    put(&guest, ENTRY(PIN), VECTOR | MASKED);
    irq_raise(&irq);
    wait_for(&guest, COUNT_AT, 1);
    put(&guest, ENTRY(PIN), VECTOR);
    wait_for(&guest, COUNT_AT, 1);
    /* [3.2.4] to nobody's local APIC */
    put(&guest, ENTRY(PIN) + 1, 9u << 24);
    irq_raise(&irq);
    wait_for(&guest, COUNT_AT, 1);
    put(&guest, ENTRY(PIN) + 1, 0);
    irq_raise(&irq);
    wait_for(&guest, COUNT_AT, 2);
    guest_close(&guest);
    irq_done(&irq);
}
END_TEST

START_TEST(a_level_is_being_served_until_its_end_is_told)
{
    struct guest guest;
    struct irq irq = IRQ_NONE;
    open_pins(&guest, &irq);
    poke(&guest, GO_ON_AT, 0);
    put(&guest, ENTRY(PIN), VECTOR | LEVEL);
    ck_assert_uint_eq(get(&guest, ENTRY(PIN)), VECTOR | LEVEL);
    irq_raise(&irq);
    wait_for(&guest, COUNT_AT, 1);
    ck_assert_uint_eq(get(&guest, ENTRY(PIN)), VECTOR | LEVEL | REMOTE_IRR);
    irq_raise(&irq); /* one that is served takes no other */
    pass(&guest, NS_PER_SEC / 50);
    poke(&guest, GO_ON_AT, 1);
    wait_for(&guest, ENDED_AT, 1);
    ck_assert_uint_eq(get(&guest, ENTRY(PIN)), VECTOR | LEVEL);
    ck_assert_uint_eq(peek(&guest, COUNT_AT), 1);
    irq_raise(&irq);
    wait_for(&guest, ENDED_AT, 2);
    /* How systems end one without the local APIC: an edge for a moment. */
    poke(&guest, GO_ON_AT, 0);
    irq_raise(&irq);
    wait_for(&guest, COUNT_AT, 3);
    put(&guest, ENTRY(PIN), VECTOR | MASKED);
    put(&guest, ENTRY(PIN), VECTOR | LEVEL | MASKED);
    ck_assert_uint_eq(get(&guest, ENTRY(PIN)), VECTOR | LEVEL | MASKED);
    /* And an edge again goes without the loop. */
    put(&guest, ENTRY(PIN), VECTOR);
    poke(&guest, GO_ON_AT, 1);
    wait_for(&guest, ENDED_AT, 3);
    irq_raise(&irq);
    wait_for(&guest, ENDED_AT, 4);
    guest_close(&guest);
    irq_done(&irq);
}
END_TEST

START_TEST(a_restored_pin_leads_where_it_led)
{
    struct guest old;
    struct guest new;
    struct irq irq = IRQ_NONE;
    struct irq again = IRQ_NONE;
    char folder[] = "/tmp/isola-ioapic-XXXXXX";
    char state[64];
    char memory[64];
    AUTO(snapshot_freep) struct snapshot *snapshot = NULL;
    ck_assert_ptr_nonnull(mkdtemp(folder));
    (void)snprintf(state, sizeof(state), "%s/state", folder);
    (void)snprintf(memory, sizeof(memory), "%s/memory", folder);
    const struct snapshot_paths paths = {.state = state, .memory = memory};
    open_pins(&old, &irq);
    poke(&old, GO_ON_AT, 0);
    put(&old, ENTRY(PIN), VECTOR | LEVEL);
    irq_raise(&irq);
    wait_for(&old, COUNT_AT, 1);
    ck_assert_int_eq(machine_pause(old.machine, &old.err), 0);
    int r = snapshot_save(old.machine, "{}", &paths, &old.err);
    ck_assert_msg(r == 0, "%s", err_text(&old.err));
    guest_close(&old);
    irq_done(&irq);

    struct machine_options options = split_options();
    memset(&new, 0, sizeof(new));
    ck_assert_int_eq(snapshot_open(&paths, &snapshot, &new.err), 0);
    snapshot_set_memory(snapshot, &options);
    ck_assert_int_eq(loop_new(&new.loop), 0);
    ck_assert_int_eq(machine_new(&options, new.loop, &new.machine, &new.err), 0);
    ck_assert_int_eq(irq_init_line(&again, machine_board(new.machine)->engine, PIN, &new.err), 0);
    r = snapshot_restore(snapshot, new.machine, &new.err);
    ck_assert_msg(r == 0, "%s", err_text(&new.err));
    guest_start(&new);
    ck_assert_int_eq(machine_resume(new.machine, &new.err), 0);
    ck_assert_uint_eq(get(&new, ENTRY(PIN)), VECTOR | LEVEL | REMOTE_IRR);
    poke(&new, GO_ON_AT, 1);
    wait_for(&new, ENDED_AT, 1);
    ck_assert_uint_eq(get(&new, ENTRY(PIN)), VECTOR | LEVEL);
    irq_raise(&again);
    wait_for(&new, ENDED_AT, 2);
    guest_close(&new);
    irq_done(&again);
    (void)unlink(state);
    (void)unlink(memory);
    ck_assert_int_eq(rmdir(folder), 0);
}
END_TEST

START_TEST(saved_entries_that_no_guest_could_bring_about_are_refused)
{
    static const uint64_t entries[] = {1ull << 12, 1ull << 17, 1ull << 55, REMOTE_IRR};
    struct guest guest;
    struct machine_options options = split_options();
    guest_open(&guest, &options);
    struct device *chip = NULL;
    struct board board = *machine_board(guest.machine);
    AUTO(buf_donep) struct buf file = {0};
    ck_assert_int_eq(ioapic_new(&board, 0xd8000000, &chip, &guest.err), 0);
    ck_assert_int_eq(state_write(&file, chip->state, "ioapic", chip, &guest.err), 0);
    /* The table is the last of the section: 24 times 8 bytes. */
    uint8_t *last = (uint8_t *)file.data + file.len - 8;
    for (size_t i = 0; i < COUNT(entries); i++) {
        struct state_reader reader = {(const uint8_t *)file.data, file.len, 0};
        store_le64(last, entries[i] | VECTOR);
        ck_assert_int_eq(state_read(&reader, chip->state, "ioapic", chip, &guest.err), -EINVAL);
        ck_assert_msg(strstr(err_text(&guest.err), "entry 23") != NULL, "%s", err_text(&guest.err));
    }
    device_free(chip);
    guest_close(&guest);
}
END_TEST

int main(void)
{
    int64_t ns = 0;
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        (void)printf("1..0 # SKIP this host has no /dev/kvm\n");
        return 0;
    }
    /* A KVM that emulates tells the end of an interrupt when it delivers it. nested_kvm runs all.
     */
    bool tells_ends = speed_check_kvm(-1, &ns, NULL) == 0;
    if (!tells_ends) {
        (void)printf("# this KVM emulates: levels that are served are not tried\n");
    }
    const TTest *const tests[] = {
        registers_are_those_of_the_manual,
        neither_a_second_device_nor_a_pin_that_is_not_there_is_connected,
        an_8254_is_refused_beside_it,
        an_edge_reaches_the_guest_and_one_on_a_masked_pin_never_was,
        saved_entries_that_no_guest_could_bring_about_are_refused,
        tells_ends ? a_level_is_being_served_until_its_end_is_told : NULL,
        tells_ends ? a_restored_pin_leads_where_it_led : NULL,
        NULL,
    };
    return unit_run("vmm_ioapic", tests);
}
