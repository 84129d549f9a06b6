#include "vmm/machine.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/macros.h"
#include "unit.h"
#include "vmm/bus.h"
#include "vmm/config.h"
#include "vmm/kvm.h"
#include "vmm/layout.h"
#include "vmm/machine_devices.h"
#include "vmm/speed.h"
#include "vmm/state.h"
#include "vmm_guests.h"

START_TEST(a_guest_writes_to_the_serial_port_and_leaves)
{
    struct guest guest;
    int pipe_fd[2];
    ck_assert_int_eq(pipe(pipe_fd), 0);
    struct machine_options options = guest_options();
    options.serial = true;
    options.serial_out_fd = pipe_fd[1];
    guest_open(&guest, &options);
    guest_load_real(&guest, hello);
    guest_start(&guest);
    guest_finish(&guest, BOARD_DEBUG_EXIT, 42);
    guest_close(&guest);
    char text[8] = "";
    ck_assert_int_eq(read(pipe_fd[0], text, sizeof(text)), 2);
    ck_assert_str_eq(text, "Hi");
}
END_TEST

START_TEST(an_edge_of_a_device_reaches_its_handler)
{
    struct guest guest;
    struct machine_options options = guest_options();
    options.serial = true;
    guest_open(&guest, &options);
    guest_load_real(&guest, interrupt);
    guest_start(&guest);
    guest_finish(&guest, BOARD_DEBUG_EXIT, 2); /* transmitter empty */
    guest_close(&guest);
}
END_TEST

/* The thread that measures is another one than that which runs the machine. */
START_TEST(a_halted_cpu_that_was_measured_before_stands_still_when_told)
{
    static const uint8_t halt[] = {0xf4, 0xeb, 0xfd}; /* 1: hlt; jmp 1b */
    struct guest guest;
    struct machine_options options = guest_options();
    int64_t ns = 0;
    guest_open(&guest, &options);
    int r = speed_measure(machine_cpu(guest.machine, 0), machine_memory(guest.machine), &ns,
                          &guest.err);
    ck_assert_msg(r == 0, "%s", err_text(&guest.err));
    guest_copy(&guest, GUEST_AT, halt, halt + sizeof(halt));
    guest_set_core(&guest, guest_real_mode);
    guest_start(&guest);
    (void)usleep(100000);
    ck_assert_int_eq(machine_pause(guest.machine, &guest.err), 0);
    guest_close(&guest);
}
END_TEST

START_TEST(the_old_interrupt_controllers_are_masked_until_a_system_sets_them_up)
{
    struct guest guest;
    struct machine_options options = guest_options();
    struct x86_board_state board = {0};
    guest_open(&guest, &options);
    struct cpu_engine *engine = machine_board(guest.machine)->engine;
    ck_assert_int_eq(engine->ops->get_board(engine, &board, &guest.err), 0);
    ck_assert_uint_eq(board.pic[0].imr, 0xff);
    ck_assert_uint_eq(board.pic[1].imr, 0xff);
    guest_close(&guest);
}
END_TEST

START_TEST(where_nothing_answers_all_bits_are_set)
{
    struct guest guest;
    struct machine_options options = guest_options();
    guest_open(&guest, &options);
    guest_load_real(&guest, nothing);
    guest_start(&guest);
    guest_finish(&guest, BOARD_DEBUG_EXIT, 0xff);
    ck_assert_uint_eq(bus_misses(machine_board(guest.machine)->ports), 1);
    guest_close(&guest);
}
END_TEST

START_TEST(serial_input_comes_through_however_slow_the_guest_is)
{
    struct guest guest;
    int in[2];
    int out[2];
    ck_assert_int_eq(pipe(in), 0);
    ck_assert_int_eq(pipe(out), 0);
    struct machine_options options = guest_options();
    options.serial = true;
    options.serial_in_fd = in[0];
    options.serial_out_fd = out[1];
    guest_open(&guest, &options);
    guest_load_real(&guest, echo);
    char sent[301];
    for (int i = 0; i < 300; i++) {
        sent[i] = (char)('a' + i % 15);
    }
    sent[300] = 'q';
    ck_assert_int_eq(write(in[1], sent, sizeof(sent)), (ssize_t)sizeof(sent));
    guest_start(&guest);
    guest_finish(&guest, BOARD_DEBUG_EXIT, 0);
    guest_close(&guest);
    char got[400];
    ssize_t n = 0;
    while (n < (ssize_t)sizeof(sent)) {
        ssize_t more = read(out[0], got + n, sizeof(got) - (size_t)n);
        ck_assert_int_gt(more, 0);
        n += more;
    }
    ck_assert_int_eq(n, (ssize_t)sizeof(sent));
    ck_assert_mem_eq(got, sent, sizeof(sent));
}
END_TEST

static uint64_t read_seven(void *device, uint64_t offset, unsigned size)
{
    (void)device;
    (void)size;
    return offset == 0 ? 7 : 0;
}

static unsigned writes;

static void count_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    (void)device;
    (void)offset;
    (void)size;
    writes += value == 1 ? 1 : 100;
}

static const struct bus_ops seven_ops = {read_seven, count_write};

START_TEST(a_doorbell_rings_without_leaving_the_guest)
{
    struct guest guest;
    struct machine_options options = guest_options();
    guest_open(&guest, &options);
    struct bus *mmio = machine_board(guest.machine)->mmio;
    int bell = eventfd(0, EFD_NONBLOCK);
    struct bus_range range = {LAYOUT_VIRTIO_MMIO, 0x1000, &seven_ops, NULL, NULL};
    ck_assert_int_eq(bus_add(mmio, &range), 0);
    ck_assert_int_eq(bus_add_doorbell(mmio, LAYOUT_VIRTIO_MMIO + 0x50, 4, 0, bell), 0);
    guest_load_long(&guest, doorbell);
    guest_start(&guest);
    guest_finish(&guest, BOARD_DEBUG_EXIT, 7);
    uint64_t rung = 0;
    ck_assert_int_eq(read(bell, &rung, sizeof(rung)), 8);
    ck_assert_uint_eq(rung, 2);
    ck_assert_uint_eq(writes, 1); /* the one of another value came to the device */
    bus_remove_doorbell(mmio, LAYOUT_VIRTIO_MMIO + 0x50, 4, 0, bell);
    guest_close(&guest);
}
END_TEST

START_TEST(a_triple_fault_ends_the_machine)
{
    struct guest guest;
    struct machine_options options = guest_options();
    guest_open(&guest, &options);
    guest_load_long(&guest, triple);
    guest_start(&guest);
    guest_finish(&guest, BOARD_SHUTDOWN, 0);
    guest_close(&guest);
}
END_TEST

START_TEST(a_second_cpu_starts_when_the_first_says_so)
{
    struct guest guest;
    struct machine_options options = guest_options();
    options.cpus = 2;
    guest_open(&guest, &options);
    guest_load_long(&guest, smp);
    guest_copy(&guest, 0x10000, guest_second, guest_second_end);
    guest_start(&guest);
    guest_finish(&guest, BOARD_DEBUG_EXIT, 77);
    guest_close(&guest);
}
END_TEST

START_TEST(sleep_type_five_powers_off)
{
    struct guest guest;
    struct machine_options options = guest_options();
    guest_open(&guest, &options);
    guest_load_long(&guest, off);
    guest_start(&guest);
    guest_finish(&guest, BOARD_POWER_OFF, 0);
    guest_close(&guest);
}
END_TEST

START_TEST(the_clock_tells_the_host_s_year)
{
    struct guest guest;
    struct machine_options options = guest_options();
    options.rtc = true;
    guest_open(&guest, &options);
    guest_load_long(&guest, clock);
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    guest_start(&guest);
    guest_finish(&guest, BOARD_DEBUG_EXIT, (uint32_t)tm.tm_year % 100);
    guest_close(&guest);
}
END_TEST

static uint64_t counter(struct guest *guest)
{
    uint64_t value = 0;
    ck_assert_int_eq(memory_read(machine_memory(guest->machine), 0x5000, &value, 8), 0);
    return value;
}

static void wait_for_count(struct guest *guest, uint64_t more_than)
{
    int64_t end = clock_monotonic_ns() + 10 * NS_PER_SEC;
    while (counter(guest) <= more_than) {
        ck_assert_msg(clock_monotonic_ns() < end, "the guest does not count");
        (void)usleep(1000);
    }
}

START_TEST(a_paused_guest_stands_still_and_goes_on)
{
    struct guest guest;
    struct machine_options options = guest_options();
    guest_open(&guest, &options);
    guest_load_long(&guest, count);
    guest_start(&guest);
    wait_for_count(&guest, 0);
    ck_assert_int_eq(machine_pause(guest.machine, &guest.err), 0);
    uint64_t at = counter(&guest);
    (void)usleep(20000);
    ck_assert_uint_eq(counter(&guest), at);
    ck_assert_int_eq(machine_resume(guest.machine, &guest.err), 0);
    wait_for_count(&guest, at);
    uint32_t code = 9;
    ck_assert_int_eq(memory_write(machine_memory(guest.machine), 0x5008, &code, 4), 0);
    guest_finish(&guest, BOARD_DEBUG_EXIT, 9);
    guest_close(&guest);
}
END_TEST

START_TEST(a_guest_goes_on_in_another_machine_from_its_state)
{
    struct guest old;
    struct guest new;
    struct machine_options options = guest_options();
    struct x86_state *state = calloc(1, sizeof(*state));
    struct x86_state *again = calloc(1, sizeof(*again));
    guest_open(&old, &options);
    guest_load_long(&old, count);
    guest_start(&old);
    wait_for_count(&old, 0);
    ck_assert_int_eq(machine_pause(old.machine, &old.err), 0);
    struct cpu *cpu = machine_cpu(old.machine, 0);
    ck_assert_msg(cpu->ops->get_state(cpu, state, &old.err) == 0, "%s", err_text(&old.err));

    AUTO(buf_donep) struct buf saved = {0};
    ck_assert_int_eq(state_write(&saved, &x86_state_table, "0", state, &old.err), 0);
    struct state_reader reader = {(const uint8_t *)saved.data, saved.len, 0};
    int r = state_read(&reader, &x86_state_table, "0", again, &new.err);
    ck_assert_msg(r == 0, "%s", err_text(&new.err));
    ck_assert_mem_eq(state, again, sizeof(*state));

    uint64_t at = counter(&old);
    guest_open(&new, &options);
    size_t count;
    const struct memory_region *region = memory_regions(machine_memory(old.machine), &count);
    ck_assert_int_eq(
        memory_write(machine_memory(new.machine), region->gpa, region->host, region->size), 0);
    cpu = machine_cpu(new.machine, 0);
    ck_assert_msg(cpu->ops->set_state(cpu, again, &new.err) == 0, "%s", err_text(&new.err));
    guest_start(&new);
    wait_for_count(&new, at);
    uint32_t code = 11;
    ck_assert_int_eq(memory_write(machine_memory(new.machine), 0x5008, &code, 4), 0);
    guest_finish(&new, BOARD_DEBUG_EXIT, 11);
    guest_close(&new);
    guest_close(&old);
    free(state);
    free(again);
}
END_TEST

START_TEST(written_pages_are_known_whoever_wrote_them)
{
    struct guest guest;
    struct machine_options options = guest_options();
    guest_open(&guest, &options);
    guest_load_long(&guest, dirty);
    struct memory *memory = machine_memory(guest.machine);
    ck_assert_int_eq(memory_track(memory, true, &guest.err), 0);
    uint64_t bitmap[8] = {0};
    ck_assert_int_eq(memory_dirty(memory, 0, bitmap, sizeof(bitmap), &guest.err), 0);
    memset(bitmap, 0, sizeof(bitmap));
    guest_start(&guest);
    wait_for_count(&guest, 0);
    uint32_t code = 3;
    ck_assert_int_eq(memory_write(memory, 0x20000, &code, 4), 0); /* a device of ours */
    ck_assert_int_eq(memory_write(memory, 0x5008, &code, 4), 0);
    guest_finish(&guest, BOARD_DEBUG_EXIT, 3);
    ck_assert_int_eq(memory_dirty(memory, 0, bitmap, sizeof(bitmap), &guest.err), 0);
    static const unsigned written[] = {0x5, 0x10, 0x12, 0x20};
    for (size_t i = 0; i < COUNT(written); i++) {
        ck_assert_msg((bitmap[0] >> written[i] & 1) != 0, "page 0x%x", written[i]);
    }
    ck_assert_uint_eq(bitmap[0] >> 0x11 & 1, 0);
    memset(bitmap, 0, sizeof(bitmap));
    ck_assert_int_eq(memory_dirty(memory, 0, bitmap, sizeof(bitmap), &guest.err), 0);
    ck_assert_uint_eq(bitmap[0], 0);
    guest_close(&guest);
}
END_TEST

START_TEST(a_running_machine_can_be_thrown_away)
{
    struct guest guest;
    struct machine_options options = guest_options();
    options.cpus = 2;
    guest_open(&guest, &options);
    guest_load_long(&guest, count);
    guest_start(&guest);
    wait_for_count(&guest, 0);
    guest_close(&guest);
}
END_TEST

START_TEST(wrong_machines_are_refused_with_the_reason)
{
    static const struct {
        uint32_t cpus;
        uint64_t memory;
        const char *off;
        const char *why;
    } wrong[] = {
        {0, 1 << 20, NULL, "CPUs"},
        {255, 1 << 20, NULL, "CPUs"},
        {1, 4096, NULL, "memory"},
        {1, (1 << 20) + 1, NULL, "whole"},
        {1, 1 << 20, "flux_capacitor", "flux_capacitor"},
    };
    AUTO(loop_freep) struct loop *loop = NULL;
    ck_assert_int_eq(loop_new(&loop), 0);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        const char *off[] = {wrong[i].off, NULL};
        struct machine_options options = guest_options();
        options.cpus = wrong[i].cpus;
        options.memory = wrong[i].memory;
        options.features_off = off;
        struct machine *machine = NULL;
        struct err err = ERR_NONE;
        ck_assert_int_lt(machine_new(&options, loop, &machine, &err), 0);
        ck_assert_msg(strstr(err_text(&err), wrong[i].why) != NULL, "%s", err_text(&err));
    }
}
END_TEST

START_TEST(measuring_the_engine_leaves_no_trace)
{
    struct guest guest;
    struct machine_options options = guest_options();
    guest_open(&guest, &options);
    struct cpu *cpu = machine_cpu(guest.machine, 0);
    struct x86_state *before = calloc(1, sizeof(*before));
    struct x86_state *after = calloc(1, sizeof(*after));
    ck_assert_int_eq(cpu->ops->get_core(cpu, before), 0);
    int64_t ns = 0;
    int r = speed_measure(cpu, machine_memory(guest.machine), &ns, &guest.err);
    ck_assert_msg(r == 0, "%s", err_text(&guest.err));
    ck_assert_int_eq(cpu->ops->get_core(cpu, after), 0);
    ck_assert_int_gt(ns, 0);
    ck_assert_mem_eq(before, after, sizeof(*before));
    static const uint8_t zero[0x10000];
    ck_assert_mem_eq(memory_at(machine_memory(guest.machine), 0, sizeof(zero)), zero, sizeof(zero));
    guest_load_real(&guest, hello);
    guest_start(&guest);
    guest_finish(&guest, BOARD_DEBUG_EXIT, 42);
    guest_close(&guest);
    free(before);
    free(after);
}
END_TEST

/* /sys says what kind of KVM this is; only a hint, but a good one for a test. */
START_TEST(emulating_kvm_is_told_from_real_one)
{
    int64_t ns = 0;
    struct err err = ERR_NONE;
    int r = speed_check_kvm(-1, &ns, &err);
    if (access("/sys/module/kvm_pvm", F_OK) == 0) {
        ck_assert_int_eq(r, -EOPNOTSUPP);
        ck_assert_ptr_nonnull(strstr(err_text(&err), "one instruction at a time"));
    } else {
        ck_assert_msg(r == 0, "%s", err_text(&err));
    }
}
END_TEST

/* Tried on the thread that will run it; the guest's memory and registers come back. */
START_TEST(what_requires_hardware_starts_where_there_is_some_and_is_refused_elsewhere)
{
    struct guest guest;
    struct machine_options options = guest_options();
    options.require_hardware = true;
    guest_open(&guest, &options);
    guest_load_real(&guest, hello);
    uint8_t *low = memory_at(machine_memory(guest.machine), 0, 0x5000);
    uint8_t *before = malloc(0x5000);
    ck_assert_ptr_nonnull(before);
    memset(low, 0x5a, 0x1000);
    memcpy(before, low, 0x5000);
    int r = machine_start(guest.machine, guest_on_end, guest.loop, &guest.err);
    if (access("/sys/module/kvm_pvm", F_OK) == 0) {
        ck_assert_int_eq(r, -EOPNOTSUPP);
        ck_assert_ptr_nonnull(strstr(err_text(&guest.err), "one instruction at a time"));
        ck_assert_mem_eq(low, before, 0x5000);
    } else {
        ck_assert_msg(r == 0, "%s", err_text(&guest.err));
        guest_finish(&guest, BOARD_DEBUG_EXIT, 42);
    }
    free(before);
    guest_close(&guest);
}
END_TEST

/* A machine with entropy and so many disks, all of one file. */
static int add_disks(struct guest *guest, bool pci, size_t disks)
{
    static char ids[CONFIG_DRIVES_MAX][24];
    char path[] = "/tmp/isola-machine-test-XXXXXX";
    struct machine_options options = guest_options();
    struct vmm_config config = {.entropy = true, .stdio = CONFIG_STDIO_NONE};
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, 4096), 0);
    options.pci = pci;
    guest_open(guest, &options);
    for (size_t i = 0; i < disks; i++) {
        (void)snprintf(ids[i], sizeof(ids[i]), "d%zu", i);
        config.drive[config.drive_count++] =
            (struct config_drive){.id = ids[i], .path = path, .read_only = true, .queues = 1};
    }
    int r = machine_add_devices(guest->machine, &config, &guest->err);
    (void)unlink(path);
    (void)close(fd);
    return r;
}

START_TEST(devices_are_pci_functions_where_the_machine_has_pci)
{
    struct guest guest;
    ck_assert_msg(add_disks(&guest, true, 20) == 0, "%s", err_text(&guest.err));
    const struct board *board = machine_board(guest.machine);
    for (unsigned slot = 0; slot < 32; slot++) {
        uint32_t want = slot == 0    ? 0x00081b36
                        : slot <= 20 ? 0x10421af4 /* block */
                        : slot == 21 ? 0x10441af4 /* entropy */
                                     : UINT32_MAX;
        ck_assert_uint_eq(bus_read(board->mmio, LAYOUT_ECAM + 0x8000ULL * slot, 4), want);
        bus_write(board->ports, LAYOUT_PORT_PCI_CONFIG, 4, 0x80000000u | slot << 11);
        ck_assert_uint_eq(bus_read(board->ports, LAYOUT_PORT_PCI_CONFIG + 4, 4), want);
    }
    ck_assert_uint_eq(bus_read(board->mmio, LAYOUT_VIRTIO_MMIO, 4), UINT32_MAX);
    guest_close(&guest);
}
END_TEST

START_TEST(without_pci_there_is_a_limit_that_names_it)
{
    struct guest guest;
    ck_assert_msg(add_disks(&guest, false, 13) == 0, "%s", err_text(&guest.err));
    const struct board *board = machine_board(guest.machine);
    ck_assert_uint_eq(bus_read(board->mmio, LAYOUT_VIRTIO_MMIO, 4), 0x74726976);
    ck_assert_uint_eq(bus_read(board->mmio, LAYOUT_ECAM, 4), UINT32_MAX);
    guest_close(&guest);
    ck_assert_int_eq(add_disks(&guest, false, 14), -ENOSPC);
    ck_assert_ptr_nonnull(strstr(err_text(&guest.err), "\"pci\": true"));
    guest_close(&guest);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_guest_writes_to_the_serial_port_and_leaves,
        an_edge_of_a_device_reaches_its_handler,
        a_halted_cpu_that_was_measured_before_stands_still_when_told,
        the_old_interrupt_controllers_are_masked_until_a_system_sets_them_up,
        where_nothing_answers_all_bits_are_set,
        serial_input_comes_through_however_slow_the_guest_is,
        a_doorbell_rings_without_leaving_the_guest,
        a_triple_fault_ends_the_machine,
        a_second_cpu_starts_when_the_first_says_so,
        sleep_type_five_powers_off,
        the_clock_tells_the_host_s_year,
        a_paused_guest_stands_still_and_goes_on,
        a_guest_goes_on_in_another_machine_from_its_state,
        written_pages_are_known_whoever_wrote_them,
        a_running_machine_can_be_thrown_away,
        wrong_machines_are_refused_with_the_reason,
        measuring_the_engine_leaves_no_trace,
        what_requires_hardware_starts_where_there_is_some_and_is_refused_elsewhere,
        emulating_kvm_is_told_from_real_one,
        devices_are_pci_functions_where_the_machine_has_pci,
        without_pci_there_is_a_limit_that_names_it,
        NULL,
    };
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        (void)printf("1..0 # SKIP this host has no /dev/kvm\n");
        return 0;
    }
    return unit_run("vmm_machine", tests);
}
