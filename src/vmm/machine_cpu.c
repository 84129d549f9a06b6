/*
 * The threads of CPUs: run, hand what comes out to the buses, stand still when asked to.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/thread.h"
#include "freestanding/byteorder.h"
#include "vmm/bus.h"
#include "vmm/chip/ioapic.h"
#include "vmm/jail.h"
#include "vmm/machine_internal.h"
#include "vmm/speed.h"

static uint64_t load(const uint8_t *data, unsigned size)
{
    switch (size) {
    case 1:
        return data[0];
    case 2:
        return load_le16(data);
    case 4:
        return load_le32(data);
    default:
        return load_le64(data);
    }
}

static void store(uint8_t *data, unsigned size, uint64_t value)
{
    switch (size) {
    case 1:
        data[0] = (uint8_t)value;
        break;
    case 2:
        store_le16(data, (uint16_t)value);
        break;
    case 4:
        store_le32(data, (uint32_t)value);
        break;
    default:
        store_le64(data, value);
        break;
    }
}

static void access_bus(struct bus *bus, const struct cpu_exit *exit)
{
    for (uint32_t i = 0; i < exit->count; i++) {
        uint8_t *data = exit->data + (size_t)i * exit->size;
        if (exit->write) {
            bus_write(bus, exit->address, exit->size, load(data, exit->size));
        } else {
            store(data, exit->size, bus_read(bus, exit->address, exit->size));
        }
    }
}

void machine_note_end(struct machine *machine, enum board_end why, uint32_t code,
                      const struct machine_cpu *cpu, const struct cpu_exit *exit)
{
    uint64_t one = 1;
    (void)pthread_mutex_lock(&machine->lock);
    /* The first reason counts; others are its consequences. */
    if (machine->ending.why == BOARD_RUNS) {
        machine->ending.why = why;
        machine->ending.code = code;
        machine->ending.cpu = cpu == NULL ? 0 : cpu->cpu->index;
        if (exit != NULL) {
            machine->ending.exit = *exit;
        }
        machine->quit = true;
        atomic_store(&machine->halt, true);
        for (uint32_t i = 0; i < machine->cpu_count; i++) {
            machine->cpu[i].cpu->ops->kick(machine->cpu[i].cpu);
        }
        (void)pthread_cond_broadcast(&machine->changed);
        ssize_t n = write(machine->end_fd, &one, sizeof(one));
        (void)n;
    }
    (void)pthread_mutex_unlock(&machine->lock);
}

/* False when the thread is to end. */
static bool stand_still(struct machine_cpu *cpu)
{
    struct machine *machine = cpu->machine;
    (void)pthread_mutex_lock(&machine->lock);
    if ((machine->paused || cpu->held) && !machine->quit) {
        cpu->parked = true;
        machine->parked++;
        (void)pthread_cond_broadcast(&machine->changed);
        while ((machine->paused || cpu->held) && !machine->quit) {
            (void)pthread_cond_wait(&machine->changed, &machine->lock);
        }
        cpu->parked = false;
        machine->parked--;
    }
    bool go_on = !machine->quit;
    (void)pthread_mutex_unlock(&machine->lock);
    return go_on;
}

/* All CPUs stop, and the loop's thread is told. */
static void stop_for_debugger(struct machine_cpu *cpu, const struct cpu_exit *exit)
{
    struct machine *machine = cpu->machine;
    uint64_t one = 1;
    (void)pthread_mutex_lock(&machine->lock);
    cpu->debug_stopped = true;
    cpu->debug_watch = exit->watch;
    machine->paused = true;
    atomic_store(&machine->halt, true);
    for (uint32_t i = 0; i < machine->cpu_count; i++) {
        machine->cpu[i].cpu->ops->kick(machine->cpu[i].cpu);
    }
    (void)pthread_mutex_unlock(&machine->lock);
    ssize_t n = write(machine->debug_fd, &one, sizeof(one));
    (void)n;
}

static void handle(struct machine_cpu *cpu, struct cpu_exit *exit)
{
    struct machine *machine = cpu->machine;
    switch (exit->kind) {
    case CPU_EXIT_NONE:
    case CPU_EXIT_HALT:
        break;
    case CPU_EXIT_EOI:
        if (machine->ioapic != NULL) {
            ioapic_eoi(machine->ioapic, exit->vector);
        }
        break;
    case CPU_EXIT_DEBUG:
        stop_for_debugger(cpu, exit);
        break;
    case CPU_EXIT_PORT:
        access_bus(machine->board.ports, exit);
        break;
    case CPU_EXIT_MMIO:
        access_bus(machine->board.mmio, exit);
        break;
    case CPU_EXIT_SHUTDOWN:
        machine_note_end(machine, BOARD_SHUTDOWN, 0, cpu, NULL);
        break;
    case CPU_EXIT_UNEMULATED:
        machine_note_end(machine, BOARD_UNEMULATED, 0, cpu, exit);
        break;
    }
}

static void describe_broken(int r, struct cpu_exit *exit)
{
    exit->kind = CPU_EXIT_UNEMULATED;
    exit->failed.what = "the CPU engine failed";
    exit->failed.code = (uint64_t)-r;
    exit->failed.ip = 0;
    exit->failed.len = 0;
}

/*
 * What is saved or shown must lie between two instructions: one whose access is under way ends
 * first, a string instruction with all its pieces (KVM looks for kicks every 1024 of them).
 */
static void settle(struct machine_cpu *cpu)
{
    struct cpu_exit exit;
    do {
        int r = cpu->cpu->ops->settle(cpu->cpu, &exit);
        if (r < 0) {
            describe_broken(r, &exit);
        }
        handle(cpu, &exit);
    } while (exit.kind == CPU_EXIT_PORT || exit.kind == CPU_EXIT_MMIO);
}

static void *cpu_thread(void *data)
{
    struct machine_cpu *cpu = data;
    struct machine *machine = cpu->machine;
    int jailed = machine->options.jail ? jail_enter_cpu() : 0;
    if (jailed < 0) {
        struct cpu_exit failed = {.kind = CPU_EXIT_UNEMULATED};
        failed.failed.what = "the CPU's thread cannot be jailed";
        failed.failed.code = (uint64_t)-jailed;
        machine_note_end(machine, BOARD_UNEMULATED, 0, cpu, &failed);
    } else if (cpu->on_trial) {
        cpu->trial_result = speed_trial_run(cpu->cpu, &cpu->trial_ns);
    }
    for (;;) {
        if (atomic_load_explicit(&machine->halt, memory_order_acquire)) {
            settle(cpu);
            if (!stand_still(cpu)) {
                return NULL;
            }
        }
        struct cpu_exit exit;
        int r = cpu->cpu->ops->run(cpu->cpu, &exit);
        if (r < 0) {
            describe_broken(r, &exit);
        }
        handle(cpu, &exit);
    }
}

static int start_cpu(struct machine_cpu *cpu)
{
    /* Signals of the process are the loop's, but for the one that kicks a CPU out of the guest. */
    const int open[] = {SIGRTMIN + 1, 0};
    int r = thread_start(&cpu->thread, cpu_thread, cpu, open);
    cpu->started = r == 0;
    return r;
}

/* Starts the first CPU and refuses it if it is emulated. It stands afterwards. */
static int try_first_cpu(struct machine *machine, struct err *err)
{
    struct machine_cpu *cpu = &machine->cpu[0];
    struct speed_trial *trial;
    int r = speed_trial_begin(cpu->cpu, machine->memory, &trial, err);
    if (r < 0) {
        return r;
    }
    cpu->on_trial = true;
    machine->paused = true;
    atomic_store(&machine->halt, true);
    r = start_cpu(cpu);
    if (r == 0) {
        r = machine_park_cpus(machine) ? cpu->trial_result : -ECHILD;
    }
    int back = speed_trial_end(trial);
    r = r < 0 ? r : back;
    if (r < 0) {
        return err_set(err, -r, "start the first CPU");
    }
    return cpu->trial_ns > SPEED_LIMIT_NS ? speed_refuse(cpu->trial_ns, err) : 0;
}

int machine_start_cpus(struct machine *machine, struct err *err)
{
    bool stands = machine->paused;
    int r = machine->options.require_hardware ? try_first_cpu(machine, err) : 0;
    if (r < 0) {
        return r;
    }
    for (uint32_t i = 0; r == 0 && i < machine->cpu_count; i++) {
        r = machine->cpu[i].started ? 0 : start_cpu(&machine->cpu[i]);
    }
    if (r < 0) {
        return err_set(err, -r, "start the threads of %u CPUs", machine->cpu_count);
    }
    if (!stands && machine->options.require_hardware) {
        machine_unpark_cpus(machine);
    }
    return 0;
}

void machine_join_cpus(struct machine *machine)
{
    for (uint32_t i = 0; i < machine->cpu_count; i++) {
        if (machine->cpu[i].started) {
            (void)pthread_join(machine->cpu[i].thread, NULL);
            machine->cpu[i].started = false;
        }
    }
}

bool machine_park_cpus(struct machine *machine)
{
    (void)pthread_mutex_lock(&machine->lock);
    machine->paused = true;
    atomic_store(&machine->halt, true);
    uint32_t running = 0;
    for (uint32_t i = 0; i < machine->cpu_count; i++) {
        running += machine->cpu[i].started ? 1 : 0;
        machine->cpu[i].cpu->ops->kick(machine->cpu[i].cpu);
    }
    while (machine->parked < running && !machine->quit) {
        (void)pthread_cond_wait(&machine->changed, &machine->lock);
    }
    bool there = !machine->quit;
    (void)pthread_mutex_unlock(&machine->lock);
    return there;
}

void machine_unpark_cpus(struct machine *machine)
{
    (void)pthread_mutex_lock(&machine->lock);
    machine->paused = false;
    bool halt = machine->quit;
    for (uint32_t i = 0; i < machine->cpu_count; i++) {
        halt = halt || machine->cpu[i].held;
        machine->cpu[i].debug_stopped = false;
    }
    atomic_store(&machine->halt, halt);
    (void)pthread_cond_broadcast(&machine->changed);
    (void)pthread_mutex_unlock(&machine->lock);
}
