#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/loop.h"
#include "freestanding/byteorder.h"
#include "vmm/bus.h"
#include "vmm/cpu.h"
#include "vmm/disk/disk.h"
#include "vmm/memory.h"
#include "vmm/pci/pci.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/blk.h"
#include "vmm/virtio/console.h"
#include "vmm/virtio/mmio.h"
#include "vmm/virtio/pci.h"
#include "vmm/virtio/rng.h"
#include "vmm/virtio/virtio.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define REGION ((uint64_t)0x10000)
#define WINDOW 0xe0000000ULL
#define WINDOW_SIZE 0x100000ULL
#define ECAM 0xec000000ULL
#define CONFIG_PORT 0xcf8
#define STEPS_MAX 256

struct bed {
    struct memory *memory;
    struct loop *loop;
    struct bus *bus, *ports;
    struct virtio *virtio;
    struct virtio_mmio *mmio;
    struct pci *pci;
    struct virtio_pci *function;
    int irq;
    struct cpu_engine engine;
};

static void must(int r)
{
    if (r < 0) {
        abort();
    }
}

static void make_blk(struct bed *bed)
{
    struct disk_options options = {.format = "raw", .dir_fd = -1};
    struct disk *disk = NULL;
    int fd = memfd_create("virtio-fuzz", MFD_CLOEXEC);
    must(fd);
    must(ftruncate(fd, 65536));
    must(disk_open("virtio-fuzz", fd, &options, bed->loop, &disk, NULL));
    struct virtio_blk_config config = {.disk = disk, .serial = "fuzz", .queues = 2};
    must(virtio_blk_new("fuzz", &config, bed->memory, bed->loop, &bed->virtio, NULL));
}

static void make_device(struct bed *bed, unsigned kind)
{
    int ends[2];
    struct virtio_balloon_config balloon = {.report_free = true};
    switch (kind) {
    case 0:
        must(virtio_rng_new("fuzz", bed->memory, bed->loop, &bed->virtio, NULL));
        break;
    case 1:
        make_blk(bed);
        break;
    case 2:
        must(pipe(ends)); /* what the guest says, it hears */
        struct virtio_console_config console = {
            .in_fd = ends[0], .out_fd = ends[1], .columns = 80, .rows = 25};
        must(virtio_console_new("fuzz", &console, bed->memory, bed->loop, &bed->virtio, NULL));
        must(close(ends[0]));
        must(close(ends[1]));
        break;
    default:
        must(virtio_balloon_new("fuzz", &balloon, bed->memory, bed->loop, &bed->virtio, NULL));
        break;
    }
}

/* An engine that takes every message and runs nothing. */
static int take_message(struct cpu_engine *engine, int fd, uint64_t address, uint32_t data,
                        uint32_t *ret_id)
{
    (void)engine, (void)fd, (void)address, (void)data;
    *ret_id = 0;
    return 0;
}

static int change_message(struct cpu_engine *engine, uint32_t id, uint64_t address, uint32_t data)
{
    (void)engine, (void)id, (void)address, (void)data;
    return 0;
}

static void drop_message(struct cpu_engine *engine, uint32_t id, int fd)
{
    (void)engine, (void)id, (void)fd;
}

static const struct cpu_engine_ops engine_ops = {
    .name = "fuzz",
    .message_attach = take_message,
    .message_change = change_message,
    .message_detach = drop_message,
};

static void connect_pci(struct bed *bed)
{
    struct pci_options options = {
        .mmio = bed->bus,
        .ports = bed->ports,
        .ecam = ECAM,
        .config_port = CONFIG_PORT,
        .low_base = WINDOW,
        .low_size = WINDOW_SIZE,
    };
    must(pci_new(&options, &bed->pci, NULL));
    must(virtio_pci_new("fuzz-pci", bed->virtio, bed->pci, &bed->engine, &bed->function, NULL));
}

static void connect_mmio(struct bed *bed)
{
    struct irq irq = {.fd = bed->irq};
    must(virtio_mmio_new("fuzz-mmio", bed->virtio, bed->bus, WINDOW, irq, &bed->mmio, NULL));
}

/* what: the kind of device in two bits, then the transport. */
static void bed_open(struct bed *bed, uint8_t what)
{
    struct memory_options options = {.kind = MEMORY_PRIVATE, .fd = -1};
    *bed = (struct bed){.irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .engine.ops = &engine_ops};
    must(bed->irq);
    must(memory_new(&options, &bed->memory));
    must(memory_add(bed->memory, 0, REGION, NULL));
    must(memory_add(bed->memory, REGION, REGION, NULL));
    must(loop_new(&bed->loop));
    must(bus_new(NULL, false, &bed->bus));
    must(bus_new(NULL, true, &bed->ports));
    make_device(bed, what & 3);
    if ((what & 4) != 0) {
        connect_pci(bed);
    } else {
        connect_mmio(bed);
    }
}

static void bed_close(struct bed *bed)
{
    virtio_pci_free(bed->function);
    virtio_mmio_free(bed->mmio);
    virtio_free(bed->virtio);
    pci_free(bed->pci);
    bus_free(bed->ports);
    bus_free(bed->bus);
    loop_free(bed->loop);
    memory_free(bed->memory);
    (void)close(bed->irq);
}

static void quit(struct loop_source *source, void *data)
{
    loop_remove(source);
    loop_quit(data, 0);
}

static void pump(struct bed *bed)
{
    for (unsigned i = 0; i < 3; i++) {
        must(loop_add_timer(bed->loop, 0, quit, bed->loop, NULL));
        must(loop_run(bed->loop));
    }
}

struct input {
    const uint8_t *data;
    size_t len;
};

/* The next bytes as a number; zeros behind the end. */
static uint64_t take(struct input *in, unsigned bytes)
{
    uint8_t raw[8] = {0};
    size_t n = in->len < bytes ? in->len : bytes;
    memcpy(raw, in->data, n);
    in->data += n;
    in->len -= n;
    return load_le64(raw);
}

/* Of a CPU: which space, where, how wide, and what. */
static void step_access(struct bed *bed, struct input *in, bool write)
{
    static const uint64_t bases[] = {WINDOW, ECAM, CONFIG_PORT, WINDOW + 0x8000};
    unsigned space = (unsigned)take(in, 1) & 3;
    uint64_t address = bases[space] + (uint16_t)take(in, 2);
    unsigned size = 1u << (take(in, 1) & 3);
    struct bus *bus = space == 2 ? bed->ports : bed->bus;
    if (write) {
        bus_write(bus, address, size, take(in, size));
    } else {
        (void)bus_read(bus, address, size);
    }
}

static void step_memory(struct bed *bed, struct input *in)
{
    uint64_t gpa = take(in, 2);
    size_t n = take(in, 1) & 63;
    n = n < in->len ? n : in->len;
    (void)memory_write(bed->memory, gpa, in->data, n);
    in->data += n;
    in->len -= n;
}

/* What a driver does from reset to DRIVER_OK, so that most inputs come to the queues. */
static void step_start(struct bed *bed, struct input *in)
{
    struct virtio *v = bed->virtio;
    uint64_t features = take(in, 5) & virtio_features(v);
    uint8_t size = (uint8_t)take(in, 1);
    virtio_set_status(v, 0);
    virtio_set_status(v, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
    virtio_set_features(v, features | VIRTIO_F_VERSION_1);
    virtio_set_status(v, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
    for (unsigned i = 0; i < v->queue_count; i++) {
        v->queue[i].size = size;
        v->queue[i].desc = 0x1000 * i;
        v->queue[i].driver = 0x1000 * i + 0x800;
        v->queue[i].device = 0x1000 * i + 0xa00;
        virtio_queue_set_ready(v, i, true);
    }
    virtio_set_status(v,
                      VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK);
}

/* Saved and read again with one byte changed: read, or refused and reset. */
static void step_state(struct device *device, void *object, struct input *in)
{
    AUTO(buf_donep) struct buf out = {0};
    size_t at = take(in, 2);
    uint8_t change = (uint8_t)take(in, 1);
    must(state_write(&out, device->state, device->instance, object, NULL));
    if (at < out.len) {
        out.data[at] = (char)(out.data[at] ^ change);
    }
    device->ops->reset(device);
    struct state_reader reader = {.data = (const uint8_t *)out.data, .len = out.len};
    if (state_read(&reader, device->state, device->instance, object, NULL) < 0) {
        device->ops->reset(device);
    }
}

/* The machine pauses and goes on. */
static void step_pause(struct bed *bed, struct input *in, bool save)
{
    struct device *device = &bed->virtio->device;
    (void)pthread_mutex_lock(&device->lock);
    must(device->ops->quiesce(device, NULL));
    if (save) {
        step_state(device, bed->virtio, in);
    }
    (void)pthread_mutex_unlock(&device->lock);
    if (save && bed->function != NULL) {
        step_state(virtio_pci_device(bed->function), bed->function, in);
    }
    if (bed->function != NULL) {
        struct device *function = virtio_pci_device(bed->function);
        function->ops->resume(function);
    }
    (void)pthread_mutex_lock(&device->lock);
    device->ops->resume(device);
    (void)pthread_mutex_unlock(&device->lock);
}

static void step(struct bed *bed, struct input *in)
{
    struct virtio *v = bed->virtio;
    switch (take(in, 1) & 7) {
    case 0:
        step_access(bed, in, true);
        break;
    case 1:
        step_access(bed, in, false);
        break;
    case 2:
        step_memory(bed, in);
        break;
    case 3:
        pump(bed);
        break;
    case 4:
        (void)pthread_mutex_lock(&v->device.lock);
        step_start(bed, in);
        (void)pthread_mutex_unlock(&v->device.lock);
        break;
    case 5:
        step_pause(bed, in, true);
        break;
    case 6:
        step_pause(bed, in, false);
        break;
    default:
        virtio_kick(v, (unsigned)take(in, 1));
        break;
    }
}

/* The first byte chooses device and transport; the others are what CPUs and the machine do. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct input in = {.data = data, .len = len};
    struct bed bed;
    bed_open(&bed, (uint8_t)take(&in, 1));
    for (unsigned i = 0; in.len > 0 && i < STEPS_MAX; i++) {
        step(&bed, &in);
    }
    pump(&bed);
    bed_close(&bed);
    return 0;
}
