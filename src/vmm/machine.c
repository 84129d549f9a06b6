#include "vmm/machine.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/macros.h"
#include "vmm/bus.h"
#include "vmm/chip/ioapic.h"
#include "vmm/chip/power.h"
#include "vmm/io_thread.h"
#include "vmm/kvm.h"
#include "vmm/layout.h"
#include "vmm/machine_internal.h"
#include "vmm/memory.h"
#include "vmm/pci/pci.h"

static void on_board_end(struct board *board, enum board_end why, uint32_t code)
{
    struct machine *machine = CONTAINER_OF(board, struct machine, board);
    machine_note_end(machine, why, code, NULL, NULL);
}

static int check_options(const struct machine_options *options, struct err *err)
{
    if (options->cpus == 0 || options->cpus > MACHINE_CPUS_MAX) {
        return err_say(err, EINVAL, "a machine with %u CPUs: it may have 1 to %u", options->cpus,
                       MACHINE_CPUS_MAX);
    }
    if (options->split_irqchip && options->pit) {
        return err_say(err, EOPNOTSUPP,
                       "the 8254 (pit) needs the engine's interrupt controllers: "
                       "leave split_irqchip out");
    }
    if (options->memory_from_file && options->shared_memory) {
        return err_say(err, EOPNOTSUPP, "memory that others share cannot come from a snapshot");
    }
    if (options->memory < MACHINE_MEMORY_MIN || options->memory > MACHINE_MEMORY_MAX ||
        options->memory % MEMORY_PAGE != 0) {
        return err_say(err, EINVAL,
                       "a machine with %llu bytes of memory: it may have 1 MiB to 1 TiB, in whole "
                       "pages of 4 KiB",
                       (unsigned long long)options->memory);
    }
    return 0;
}

static int make_memory(struct machine *machine, struct err *err)
{
    const struct machine_options *options = &machine->options;
    struct memory_options memory = {
        .kind = options->memory_from_file ? MEMORY_FILE
                : options->shared_memory  ? MEMORY_SHARED
                                          : MEMORY_PRIVATE,
        .fd = options->memory_from_file ? options->memory_fd : -1,
        .huge_pages = options->huge_pages,
        .mergeable = options->mergeable,
    };
    int r = memory_new(&memory, &machine->memory);
    if (r < 0) {
        return err_set(err, -r, "make guest memory");
    }
    uint64_t low = MIN(options->memory, LAYOUT_LOW_MAX);
    r = memory_add(machine->memory, 0, low, err);
    if (r == 0 && options->memory > low) {
        r = memory_add(machine->memory, LAYOUT_HIGH, options->memory - low, err);
    }
    return r < 0 || !options->track_dirty ? r : memory_track(machine->memory, true, err);
}

void machine_add_device(struct machine *machine, struct device *device)
{
    device->next = *machine->devices_end;
    *machine->devices_end = device;
    machine->devices_end = &device->next;
}

static int make_ioapic(struct machine *machine, struct device **ret, struct err *err)
{
    int r = ioapic_new(&machine->board, LAYOUT_IOAPIC, ret, err);
    machine->ioapic = *ret;
    return r;
}

static int make_serial(struct machine *machine, struct device **ret, struct err *err)
{
    const struct machine_options *options = &machine->options;
    machine->acpi.uart_port = LAYOUT_PORT_COM1;
    machine->acpi.uart_gsi = LAYOUT_GSI_COM1;
    return uart16550_new(&machine->board, "com1", LAYOUT_PORT_COM1, LAYOUT_GSI_COM1,
                         options->serial_in_fd, options->serial_out_fd, ret, err);
}

static int make_power(struct machine *machine, struct device **ret, struct err *err)
{
    int r =
        power_new(&machine->board, LAYOUT_PORT_POWER, LAYOUT_EVENTS, LAYOUT_GSI_EVENTS, ret, err);
    machine->power = *ret;
    machine->acpi.power_port = LAYOUT_PORT_POWER;
    machine->acpi.event_gsi = LAYOUT_GSI_EVENTS;
    machine->acpi.event_base = LAYOUT_EVENTS;
    machine->acpi.generation_id = LAYOUT_GENERATION_ID;
    return r;
}

static int make_rtc(struct machine *machine, struct device **ret, struct err *err)
{
    machine->acpi.rtc = true;
    return mc146818_new(&machine->board, LAYOUT_PORT_RTC, LAYOUT_GSI_RTC, ret, err);
}

static int make_i8042(struct machine *machine, struct device **ret, struct err *err)
{
    int r = i8042_new(&machine->board, LAYOUT_PORT_I8042, LAYOUT_GSI_I8042, ret, err);
    machine->i8042 = *ret;
    machine->acpi.i8042 = true;
    return r;
}

static int make_pvpanic(struct machine *machine, struct device **ret, struct err *err)
{
    machine->acpi.pvpanic_port = LAYOUT_PORT_PVPANIC;
    return pvpanic_new(&machine->board, LAYOUT_PORT_PVPANIC, ret, err);
}

static int make_debug_exit(struct machine *machine, struct device **ret, struct err *err)
{
    return debug_exit_new(&machine->board, LAYOUT_PORT_DEBUG_EXIT, ret, err);
}

static int make_chips(struct machine *machine, struct err *err)
{
    const struct machine_options *options = &machine->options;
    const struct {
        bool wanted;
        int (*make)(struct machine *machine, struct device **ret, struct err *err);
    } chips[] = {
        {options->split_irqchip, make_ioapic}, /* the others are connected to it */
        {true, make_power},
        {options->serial, make_serial},
        {options->rtc, make_rtc},
        {options->i8042, make_i8042},
        {options->pvpanic, make_pvpanic},
        {options->debug_exit, make_debug_exit},
    };
    for (size_t i = 0; i < COUNT(chips); i++) {
        struct device *device = NULL;
        int r = chips[i].wanted ? chips[i].make(machine, &device, err) : 0;
        if (r < 0) {
            return r;
        }
        if (device != NULL) {
            machine_add_device(machine, device);
        }
    }
    return 0;
}

/* The bus stays the last of the list, for its functions leave it before it goes. */
static int make_pci(struct machine *machine, struct err *err)
{
    const struct pci_options options = {
        .mmio = machine->board.mmio,
        .ports = machine->board.ports,
        .ecam = LAYOUT_ECAM,
        .config_port = LAYOUT_PORT_PCI_CONFIG,
        .low_base = LAYOUT_PCI_LOW,
        .low_size = LAYOUT_PCI_LOW_SIZE,
    };
    int r = pci_new(&options, &machine->pci, err);
    if (r < 0) {
        return r;
    }
    *machine->devices_end = pci_device(machine->pci);
    machine->acpi.ecam_base = LAYOUT_ECAM;
    machine->acpi.pci_low_base = LAYOUT_PCI_LOW;
    machine->acpi.pci_low_size = LAYOUT_PCI_LOW_SIZE;
    return 0;
}

static int make_cpus(struct machine *machine, struct err *err)
{
    struct cpu_engine *engine = machine->board.engine;
    struct cpu_model model = {
        .count = machine->options.cpus,
        .off = machine->options.features_off,
    };
    machine->cpu = calloc(machine->options.cpus, sizeof(*machine->cpu));
    if (machine->cpu == NULL) {
        return err_set(err, ENOMEM, "make %u CPUs", machine->options.cpus);
    }
    for (uint32_t i = 0; i < machine->options.cpus; i++) {
        struct machine_cpu *cpu = &machine->cpu[i];
        cpu->machine = machine;
        int r = engine->ops->cpu_new(engine, i, &model, &cpu->cpu, err);
        if (r < 0) {
            return r;
        }
        machine->cpu_count++;
    }
    return 0;
}

static void on_end(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)events;
    (void)fd;
    struct machine *machine = data;
    loop_remove(source);
    machine->end_source = NULL;
    machine_join_cpus(machine);
    if (machine->ended != NULL) {
        machine->ended(machine, machine->ended_data);
    }
}

static int make_board(struct machine *machine, struct loop *loop, struct err *err)
{
    struct kvm_options kvm = {
        .fd = machine->options.kvm_fd,
        .pit = machine->options.pit,
        .split = machine->options.split_irqchip,
    };
    machine->board.loop = loop;
    machine->board.end = on_board_end;
    int r = kvm_engine_new(&kvm, &machine->board.engine, err);
    if (r < 0) {
        return r;
    }
    r = bus_new(machine->board.engine, true, &machine->board.ports);
    r = r < 0 ? r : bus_new(machine->board.engine, false, &machine->board.mmio);
    if (r == 0) {
        machine->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        r = machine->end_fd < 0 ? -errno : 0;
    }
    r = r < 0 ? r
              : loop_add_fd(loop, machine->end_fd, EPOLLIN, on_end, machine, &machine->end_source);
    return r < 0 ? err_set(err, -r, "make the board") : 0;
}

/* By what this process may use; a host that is busy with others is not seen. */
static bool shares_cpus(const struct machine_options *options)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof(set), &set) == 0 &&
           (unsigned)CPU_COUNT(&set) <= options->cpus;
}

int machine_new(const struct machine_options *options, struct loop *loop, struct machine **ret,
                struct err *err)
{
    int r = check_options(options, err);
    if (r < 0) {
        return r;
    }
    AUTO(machine_freep) struct machine *machine = calloc(1, sizeof(*machine));
    if (machine == NULL) {
        return err_set(err, ENOMEM, "make the machine");
    }
    machine->options = *options;
    machine->shares_cpus = shares_cpus(options);
    machine->end_fd = machine->debug_fd = -1;
    machine->devices_end = &machine->devices;
    (void)pthread_mutex_init(&machine->lock, NULL);
    (void)pthread_cond_init(&machine->changed, NULL);
    machine->acpi = (struct acpi_board){
        .cpu_count = options->cpus,
        .lapic_base = (uint32_t)LAYOUT_LAPIC,
        .ioapic_base = (uint32_t)LAYOUT_IOAPIC,
    };
    r = make_memory(machine, err);
    r = r < 0 || options->boot == NULL ? r : machine_load_begin(machine, err);
    r = r < 0 ? r : make_board(machine, loop, err);
    r = r < 0 ? r : memory_map(machine->memory, machine->board.engine, err);
    r = r < 0 ? r : make_cpus(machine, err);
    r = r < 0 ? r : make_chips(machine, err);
    r = r < 0 || !options->pci ? r : make_pci(machine, err);
    if (r < 0) {
        return r;
    }
    *ret = TAKE_PTR(machine);
    return 0;
}

void machine_free(struct machine *machine)
{
    if (machine == NULL) {
        return;
    }
    machine->ended = NULL;
    machine_load_end(machine);
    if (machine->cpu_count > 0 && machine->cpu[0].started) {
        machine_note_end(machine, BOARD_STOPPED, 0, NULL, NULL);
    }
    machine_join_cpus(machine);
    machine_stop_io_threads(machine);
    while (machine->devices != NULL) {
        struct device *next = machine->devices->next;
        device_free(machine->devices);
        machine->devices = next;
    }
    while (machine->io_thread_count > 0) {
        io_thread_free(machine->io_thread[--machine->io_thread_count]);
    }
    while (machine->irq_count > 0) {
        irq_done(&machine->irq[--machine->irq_count]);
    }
    for (uint32_t i = 0; i < machine->cpu_count; i++) {
        cpu_free(machine->cpu[i].cpu);
    }
    free(machine->cpu);
    for (size_t i = 0; i < COUNT(machine->saved.unsaved); i++) {
        free(machine->saved.unsaved[i]);
    }
    loop_remove(machine->end_source);
    loop_remove(machine->debug_source);
    (void)close_fd(machine->end_fd);
    (void)close_fd(machine->debug_fd);
    bus_free(machine->board.ports);
    bus_free(machine->board.mmio);
    cpu_engine_free(machine->board.engine);
    memory_free(machine->memory);
    (void)pthread_cond_destroy(&machine->changed);
    (void)pthread_mutex_destroy(&machine->lock);
    free(machine);
}

struct board *machine_board(struct machine *machine)
{
    return &machine->board;
}

struct memory *machine_memory(struct machine *machine)
{
    return machine->memory;
}

struct cpu *machine_cpu(struct machine *machine, uint32_t index)
{
    return index < machine->cpu_count ? machine->cpu[index].cpu : NULL;
}

uint32_t machine_cpu_count(const struct machine *machine)
{
    return machine->cpu_count;
}

int machine_start(struct machine *machine, machine_ended_fn *ended, void *data, struct err *err)
{
    machine->ended = ended;
    machine->ended_data = data;
    for (size_t i = 0; i < machine->io_thread_count; i++) {
        int r = io_thread_start(machine->io_thread[i]);
        if (r < 0) {
            return err_set(err, -r, "start an I/O thread");
        }
    }
    return machine_start_cpus(machine, err);
}

int machine_press_ctrl_alt_del(struct machine *machine, struct err *err)
{
    if (machine->i8042 == NULL) {
        return err_say(err, EOPNOTSUPP, "the machine has no keyboard; describe it with \"i8042\"");
    }
    i8042_press_ctrl_alt_del(machine->i8042);
    return 0;
}

void machine_press_power(struct machine *machine)
{
    power_event(machine->power, POWER_EVENT_BUTTON);
}

static void on_debug(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)events;
    struct machine *machine = data;
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof(count));
    (void)n;
    /* A device that does not come to rest does not keep the debugger from looking. */
    if (machine_pause(machine, NULL) == -ESRCH) {
        return;
    }
    for (uint32_t i = 0; i < machine->cpu_count; i++) {
        if (machine->cpu[i].debug_stopped && machine->debug != NULL) {
            machine->debug(machine, i, machine->cpu[i].debug_watch, machine->debug_data);
            return;
        }
    }
}

int machine_set_debug(struct machine *machine, machine_debug_fn *fn, void *data, struct err *err)
{
    machine->debug = fn;
    machine->debug_data = data;
    if (machine->debug_fd >= 0) {
        return 0;
    }
    machine->debug_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = machine->debug_fd < 0 ? -errno
                                  : loop_add_fd(machine->board.loop, machine->debug_fd, EPOLLIN,
                                                on_debug, machine, &machine->debug_source);
    return r < 0 ? err_set(err, -r, "listen for breakpoints") : 0;
}

void machine_hold_cpu(struct machine *machine, uint32_t cpu, bool hold)
{
    (void)pthread_mutex_lock(&machine->lock);
    machine->cpu[cpu].held = hold;
    (void)pthread_mutex_unlock(&machine->lock);
}

void machine_stop(struct machine *machine, enum board_end why)
{
    machine_note_end(machine, why, 0, NULL, NULL);
}

const struct machine_ending *machine_ending(const struct machine *machine)
{
    return &machine->ending;
}

static void describe_failure(const struct machine_ending *ending, char *text, size_t size)
{
    const struct cpu_exit *exit = &ending->exit;
    int n = snprintf(text, size, "CPU %u: %s (code %llu) at 0x%llx", ending->cpu, exit->failed.what,
                     (unsigned long long)exit->failed.code, (unsigned long long)exit->failed.ip);
    for (unsigned i = 0; i < exit->failed.len && n > 0 && (size_t)n < size; i++) {
        n += snprintf(text + n, size - (size_t)n, "%s%02x", i == 0 ? ": bytes " : " ",
                      exit->failed.bytes[i]);
    }
}

void machine_describe_ending(const struct machine *machine, char *text, size_t size)
{
    const struct machine_ending *ending = &machine->ending;
    switch (ending->why) {
    case BOARD_RUNS:
        (void)snprintf(text, size, "the machine runs");
        break;
    case BOARD_POWER_OFF:
        (void)snprintf(text, size, "the guest powered off");
        break;
    case BOARD_RESET:
        (void)snprintf(text, size, "the guest asked for a reset");
        break;
    case BOARD_SHUTDOWN:
        (void)snprintf(text, size, "CPU %u: triple fault", ending->cpu);
        break;
    case BOARD_PANIC:
        (void)snprintf(text, size, "the guest panicked");
        break;
    case BOARD_DEBUG_EXIT:
        (void)snprintf(text, size, "the guest left by the debug exit port with %u", ending->code);
        break;
    case BOARD_UNEMULATED:
        describe_failure(ending, text, size);
        break;
    case BOARD_STOPPED:
        (void)snprintf(text, size, "the machine was stopped");
        break;
    case BOARD_SHARE_LOST:
        (void)snprintf(text, size, "isola-fs, the server of share '%s', ended",
                       machine->share[ending->code].tag);
        break;
    }
}
