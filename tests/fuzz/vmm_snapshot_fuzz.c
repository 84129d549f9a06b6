/*
 * The sections of a state file, read into a machine's registers and devices. The envelope's
 * checksum is made here: it keeps out damage, not intent.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/loop.h"
#include "vmm/bus.h"
#include "vmm/chip/board.h"
#include "vmm/cpu.h"
#include "vmm/device.h"
#include "vmm/irq.h"
#include "vmm/layout.h"
#include "vmm/memory.h"
#include "vmm/snapshot_internal.h"
#include "vmm/virtio/mmio.h"
#include "vmm/virtio/rng.h"
#include "vmm/virtio/virtio.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define DEVICES 6

struct bed {
    struct cpu_engine engine;
    struct board board;
    struct memory *memory;
    struct virtio_mmio *mmio;
    struct device *device[DEVICES];
};

static void must(int r)
{
    if (r < 0) {
        abort();
    }
}

/* An engine that runs nothing. */
static int take_line(struct cpu_engine *engine, uint32_t gsi, int fd)
{
    (void)engine, (void)gsi, (void)fd;
    return 0;
}

static const struct cpu_engine_ops engine_ops = {.name = "fuzz", .line_attach = take_line};

static void end(struct board *board, enum board_end why, uint32_t code)
{
    (void)board, (void)why, (void)code;
}

static void make(struct bed *bed)
{
    struct memory_options options = {.kind = MEMORY_PRIVATE, .fd = -1};
    struct board *board = &bed->board;
    struct virtio *v = NULL;
    struct irq irq = IRQ_NONE;
    bed->engine.ops = &engine_ops;
    board->engine = &bed->engine;
    board->end = end;
    must(loop_new(&board->loop));
    must(bus_new(NULL, true, &board->ports));
    must(bus_new(NULL, false, &board->mmio));
    must(memory_new(&options, &bed->memory));
    must(memory_add(bed->memory, 0, 1 << 20, NULL));
    must(power_new(board, LAYOUT_PORT_POWER, LAYOUT_EVENTS, LAYOUT_GSI_EVENTS, &bed->device[0],
                   NULL));
    must(uart16550_new(board, "com1", LAYOUT_PORT_COM1, LAYOUT_GSI_COM1, -1, -1, &bed->device[1],
                       NULL));
    must(mc146818_new(board, LAYOUT_PORT_RTC, LAYOUT_GSI_RTC, &bed->device[2], NULL));
    must(i8042_new(board, LAYOUT_PORT_I8042, LAYOUT_GSI_I8042, &bed->device[3], NULL));
    must(virtio_rng_new("entropy", bed->memory, board->loop, &v, NULL));
    irq.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    must(irq.fd);
    must(
        virtio_mmio_new("entropy-mmio", v, board->mmio, LAYOUT_VIRTIO_MMIO, irq, &bed->mmio, NULL));
    must(close(irq.fd));
    bed->device[4] = virtio_mmio_device(bed->mmio);
    bed->device[5] = &v->device;
}

static void done(struct bed *bed)
{
    for (size_t i = 0; i < DEVICES; i++) {
        device_free(bed->device[i]);
    }
    memory_free(bed->memory);
    bus_free(bed->board.ports);
    bus_free(bed->board.mmio);
    loop_free(bed->board.loop);
}

/* As snapshot_restore() reads them. */
static void restore(struct bed *bed, const struct snapshot *snapshot)
{
    static struct x86_state cpu;
    struct x86_board_state board = {0};
    struct state_reader reader = {(const uint8_t *)snapshot->file.data, snapshot->file.len,
                                  snapshot->body};
    memset(&cpu, 0, sizeof(cpu));
    int r = state_read(&reader, &x86_state_table, "0", &cpu, NULL);
    r = r < 0 ? r : state_read(&reader, &x86_board_state_table, "board", &board, NULL);
    for (size_t i = 0; r == 0 && i < DEVICES; i++) {
        struct device *d = bed->device[i];
        d->ops->reset(d);
        r = state_read(&reader, d->state, d->instance, d, NULL);
    }
    for (size_t i = 0; r == 0 && i < DEVICES; i++) {
        struct device *d = bed->device[i];
        if (d->ops->resume != NULL) {
            d->ops->resume(d);
        }
    }
    /* Registers are touched as a guest would. */
    for (uint16_t port = 0; r == 0 && port < 0x700; port++) {
        (void)bus_read(bed->board.ports, port, 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct snapshot snapshot = {.memory_fd = -1};
    struct bed bed = {0};
    if (snapshot_envelope_begin(&snapshot.file) == 0 && buf_add(&snapshot.file, data, len) == 0) {
        snapshot_envelope_end(&snapshot.file);
        make(&bed);
        if (snapshot_parse(&snapshot, "fuzz", NULL) == 0) {
            restore(&bed, &snapshot);
        }
        done(&bed);
    }
    buf_done(&snapshot.file);
    buf_done(&snapshot.head.description);
    (void)snapshot_envelope_check(data, len, "fuzz", NULL);
    return 0;
}
