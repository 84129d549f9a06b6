/*
 * exit.c - what our CPU loop and buses add to an exit: the same guest, on the same CPU, once by
 * bare KVM_RUN and once by the machine. One JSON line a kind of exit, nanoseconds
 * of CPU time an exit.
 *
 * Usage: bench_vm_exit [ROUNDS]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/macros.h"
#include "vmm/bus.h"
#include "vmm/kvm_internal.h"
#include "vmm/machine.h"
#include "vmm/memory.h"

#define EXITS 20000u
#define GUEST_AT 0x1000u
#define WINDOW 0xd0000000u
#define PORT 0x80

/* mov $EXITS, %ecx; 1: out %al, $0x80; dec %ecx; jnz 1b; mov $0x501, %dx; out %al, %dx; hlt */
static const uint8_t port_guest[] = {0x66, 0xb9, 0x20, 0x4e, 0x00, 0x00, 0xe6, 0x80, 0x66,
                                     0x49, 0x75, 0xfa, 0xba, 0x01, 0x05, 0xee, 0xf4};
/* The same with mov %al, 0 where the data segment lies at WINDOW. */
static const uint8_t mmio_guest[] = {0x66, 0xb9, 0x20, 0x4e, 0x00, 0x00, 0xa2, 0x00, 0x00,
                                     0x66, 0x49, 0x75, 0xf9, 0xba, 0x01, 0x05, 0xee, 0xf4};

static void must(int r, const char *what, const struct err *err)
{
    if (r < 0) {
        (void)fprintf(stderr, "bench_vm_exit: %s: %s\n", what, err_text(err));
        exit(1);
    }
}

/* CPU time, of which the loop's thread takes none: others on this machine do not count. */
static int64_t cpu_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static uint64_t read_none(void *data, uint64_t offset, unsigned size)
{
    (void)data, (void)offset, (void)size;
    return 0;
}

static void count_write(void *data, uint64_t offset, unsigned size, uint64_t value)
{
    (void)offset, (void)size, (void)value;
    ++*(uint64_t *)data;
}

static const struct bus_ops counter_ops = {read_none, count_write};

struct bed {
    struct loop *loop;
    struct machine *machine;
    pthread_mutex_t lock; /* as every device has one */
    uint64_t writes;
};

static void open_bed(struct bed *bed, const uint8_t *guest, size_t len)
{
    struct err err = ERR_NONE;
    struct machine_options options = {
        .cpus = 1,
        .memory = 1 << 20,
        .kvm_fd = -1,
        .debug_exit = true,
        .serial = true,
        .serial_in_fd = -1,
        .serial_out_fd = -1,
    };
    *bed = (struct bed){0};
    (void)pthread_mutex_init(&bed->lock, NULL);
    must(loop_new(&bed->loop), "loop", &err);
    must(machine_new(&options, bed->loop, &bed->machine, &err), "machine", &err);
    struct board *board = machine_board(bed->machine);
    struct bus_range port = {PORT, 1, &counter_ops, &bed->writes, &bed->lock};
    struct bus_range window = {WINDOW, 0x1000, &counter_ops, &bed->writes, &bed->lock};
    must(bus_add(board->ports, &port), "port", &err);
    must(bus_add(board->mmio, &window), "window", &err);
    must(memory_write(machine_memory(bed->machine), GUEST_AT, guest, len), "guest", &err);
    struct x86_state *state = calloc(1, sizeof(*state));
    struct cpu *cpu = machine_cpu(bed->machine, 0);
    must(state == NULL ? -1 : cpu->ops->get_core(cpu, state), "CPU", &err);
    state->segment[X86_CS].base = 0;
    state->segment[X86_CS].selector = 0;
    state->segment[X86_DS].base = WINDOW;
    state->rip = GUEST_AT;
    state->rflags = 2;
    must(cpu->ops->set_core(cpu, state), "CPU", &err);
    free(state);
}

static void close_bed(struct bed *bed)
{
    machine_free(bed->machine);
    loop_free(bed->loop);
    (void)pthread_mutex_destroy(&bed->lock);
}

static double run_bare(const uint8_t *guest, size_t len)
{
    struct bed bed;
    open_bed(&bed, guest, len);
    struct kvm_cpu *cpu = kvm_cpu_of(machine_cpu(bed.machine, 0));
    uint64_t exits = 0;
    int64_t start = cpu_ns();
    while (ioctl(cpu->fd, KVM_RUN, NULL) == 0 &&
           !(cpu->run->exit_reason == KVM_EXIT_IO && cpu->run->io.port == 0x501)) {
        exits++;
    }
    int64_t end = cpu_ns();
    close_bed(&bed);
    must(exits == EXITS ? 0 : -1, "the bare loop's guest", NULL);
    return (double)(end - start) / EXITS;
}

static void on_end(struct machine *machine, void *data)
{
    (void)machine;
    loop_quit(data, 0);
}

static double run_machine(const uint8_t *guest, size_t len)
{
    struct bed bed;
    struct err err = ERR_NONE;
    open_bed(&bed, guest, len);
    int64_t start = cpu_ns();
    must(machine_start(bed.machine, on_end, bed.loop, &err), "start", &err);
    must(loop_run(bed.loop), "run", &err);
    int64_t end = cpu_ns();
    must(bed.writes == EXITS ? 0 : -1, "the machine's guest", NULL);
    close_bed(&bed);
    return (double)(end - start) / EXITS;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void measure(const char *name, const uint8_t *guest, size_t len, unsigned rounds)
{
    double *bare = calloc(rounds, sizeof(*bare));
    double *ours = calloc(rounds, sizeof(*ours));
    must(bare == NULL || ours == NULL ? -1 : 0, "memory", NULL);
    for (unsigned i = 0; i < rounds; i++) {
        bare[i] = run_bare(guest, len);
        ours[i] = run_machine(guest, len);
    }
    qsort(bare, rounds, sizeof(*bare), compare);
    qsort(ours, rounds, sizeof(*ours), compare);
    /* What disturbs only ever adds: the quickest quarter is nearest to the truth. */
    (void)printf("{\"name\": \"exit-%s\", \"ns\": %.1f, \"bare_ns\": %.1f, \"ratio\": %.4f}\n",
                 name, ours[rounds / 4], bare[rounds / 4], ours[rounds / 4] / bare[rounds / 4]);
    free(bare);
    free(ours);
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 20;
    rounds = MAX(rounds, 1u);
    measure("port", port_guest, sizeof(port_guest), rounds);
    measure("mmio", mmio_guest, sizeof(mmio_guest), rounds);
    return 0;
}
