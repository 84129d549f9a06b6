/*
 * restore.c - from the files of a snapshot to the restored guest's first instruction that is seen:
 * one JSON line, milliseconds, median and quickest and slowest tenth.
 *
 * Usage: bench_vm_restore FOLDER [RUNS]
 */
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/macros.h"
#include "vmm/bus.h"
#include "vmm/config.h"
#include "vmm/machine.h"
#include "vmm/machine_devices.h"
#include "vmm/memory.h"
#include "vmm/snapshot.h"

#define PORT 0x80
#define GUEST_AT 0x1000u

/* 1: out %al, $0x80; jmp 1b */
static const uint8_t guest[] = {0xe6, PORT, 0xeb, 0xfc};

static void must(int r, const char *what, const struct err *err)
{
    if (r < 0) {
        (void)fprintf(stderr, "bench_vm_restore: %s: %s\n", what, err_text(err));
        exit(1);
    }
}

static uint64_t read_none(void *data, uint64_t offset, unsigned size)
{
    (void)data, (void)offset, (void)size;
    return 0;
}

static void note_write(void *data, uint64_t offset, unsigned size, uint64_t value)
{
    (void)offset, (void)size, (void)value;
    _Atomic int64_t *first = data;
    int64_t none = 0;
    (void)atomic_compare_exchange_strong(first, &none, clock_monotonic_ns());
}

static const struct bus_ops note_ops = {read_none, note_write};

static struct machine_options options_of(void)
{
    return (struct machine_options){
        .cpus = 1,
        .memory = (uint64_t)256 << 20,
        .kvm_fd = -1,
        .serial = true,
        .pvpanic = true,
        .serial_in_fd = -1,
        .serial_out_fd = -1,
    };
}

struct bed {
    struct loop *loop;
    struct machine *machine;
    _Atomic int64_t first;
};

static void make(struct bed *bed, const struct machine_options *options)
{
    static const struct vmm_config config = {
        .entropy = true, .balloon = {.present = true}, .stdio = CONFIG_STDIO_NONE};
    struct err err = ERR_NONE;
    atomic_store(&bed->first, 0);
    must(loop_new(&bed->loop), "loop", &err);
    must(machine_new(options, bed->loop, &bed->machine, &err), "machine", &err);
    must(machine_add_devices(bed->machine, &config, &err), "devices", &err);
    struct bus_range port = {PORT, 1, &note_ops, &bed->first, NULL};
    must(bus_add(machine_board(bed->machine)->ports, &port), "port", &err);
}

static void wait_first(const struct bed *bed)
{
    while (atomic_load(&bed->first) == 0) {
        (void)poll(NULL, 0, 1);
    }
}

static void drop(struct bed *bed)
{
    machine_free(bed->machine);
    loop_free(bed->loop);
}

static void save(const struct snapshot_paths *paths)
{
    struct bed bed;
    struct err err = ERR_NONE;
    struct machine_options options = options_of();
    make(&bed, &options);
    must(memory_write(machine_memory(bed.machine), GUEST_AT, guest, sizeof(guest)), "guest", &err);
    struct x86_state *state = calloc(1, sizeof(*state));
    struct cpu *cpu = machine_cpu(bed.machine, 0);
    must(state == NULL ? -1 : cpu->ops->get_core(cpu, state), "CPU", &err);
    state->segment[X86_CS].base = 0;
    state->segment[X86_CS].selector = 0;
    state->rip = GUEST_AT;
    state->rflags = 2;
    must(cpu->ops->set_core(cpu, state), "CPU", &err);
    free(state);
    must(machine_start(bed.machine, NULL, NULL, &err), "start", &err);
    wait_first(&bed);
    must(machine_pause(bed.machine, &err), "pause", &err);
    must(snapshot_save(bed.machine, "{}", paths, &err), "save", &err);
    drop(&bed);
}

static double restore(const struct snapshot_paths *paths)
{
    struct bed bed;
    struct err err = ERR_NONE;
    struct snapshot *snapshot = NULL;
    struct machine_options options = options_of();
    int64_t start = clock_monotonic_ns();
    must(snapshot_open(paths, &snapshot, &err), "open", &err);
    snapshot_set_memory(snapshot, &options);
    make(&bed, &options);
    must(snapshot_restore(snapshot, bed.machine, &err), "restore", &err);
    must(machine_start(bed.machine, NULL, NULL, &err), "start", &err);
    must(machine_resume(bed.machine, &err), "resume", &err);
    wait_first(&bed);
    double ms = (double)(atomic_load(&bed.first) - start) / 1e6;
    snapshot_free(snapshot);
    drop(&bed);
    return ms;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        (void)fprintf(stderr, "Usage: bench_vm_restore FOLDER [RUNS]\n");
        return 2;
    }
    unsigned runs = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 30;
    runs = MAX(runs, 1u);
    char state[4096];
    char memory[4096];
    (void)snprintf(state, sizeof(state), "%s/bench.state", argv[1]);
    (void)snprintf(memory, sizeof(memory), "%s/bench.memory", argv[1]);
    struct snapshot_paths paths = {.state = state, .memory = memory};
    save(&paths);
    double *ms = calloc(runs, sizeof(*ms));
    must(ms == NULL ? -1 : 0, "memory", NULL);
    for (unsigned i = 0; i < runs; i++) {
        ms[i] = restore(&paths);
    }
    qsort(ms, runs, sizeof(*ms), compare);
    (void)printf("{\"name\": \"restore\", \"ms\": %.3f, \"ms_p10\": %.3f, \"ms_p90\": %.3f}\n",
                 ms[runs / 2], ms[runs / 10], ms[runs * 9 / 10]);
    free(ms);
    (void)unlink(state);
    (void)unlink(memory);
    return 0;
}
