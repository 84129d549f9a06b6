/*
 * vmm_mmio.h - a virtio device behind its registers on a bus, and a driver that sets it up, for
 * tests. The loop runs when the test says so: pump().
 */
#ifndef UNIT_VMM_MMIO_H
#define UNIT_VMM_MMIO_H

#include <check.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/loop.h"
#include "vmm/bus.h"
#include "vmm/virtio/mmio.h"
#include "vmm/virtio/virtio.h"
#include "vmm_driver.h"

#define BED_BASE 0xd0000000ULL
#define BED_REGION 0x100000ULL
#define BED_RINGS 0x10000ULL /* of queue i at + i * 0x4000 */
#define BED_BUFFERS 0x80000ULL

struct bed {
    struct memory *memory;
    struct loop *loop;
    struct bus *bus;
    struct virtio *virtio;
    struct virtio_mmio *mmio;
    int irq;
    struct driver driver[VIRTIO_QUEUES_MAX];
};

static inline void bed_open(struct bed *bed)
{
    struct memory_options options = {.kind = MEMORY_PRIVATE, .fd = -1};
    *bed = (struct bed){.irq = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    MUST(bed->irq >= 0);
    MUST(memory_new(&options, &bed->memory) == 0);
    MUST(memory_add(bed->memory, 0, BED_REGION, NULL) == 0);
    MUST(memory_add(bed->memory, BED_REGION, BED_REGION, NULL) == 0);
    MUST(loop_new(&bed->loop) == 0);
    MUST(bus_new(NULL, false, &bed->bus) == 0);
}

/* Puts bed->virtio on the bus. */
static inline void bed_connect(struct bed *bed)
{
    struct irq irq = {.fd = bed->irq};
    MUST(virtio_mmio_new("test-mmio", bed->virtio, bed->bus, BED_BASE, irq, &bed->mmio, NULL) == 0);
}

static inline void bed_close(struct bed *bed)
{
    virtio_mmio_free(bed->mmio);
    virtio_free(bed->virtio);
    bus_free(bed->bus);
    loop_free(bed->loop);
    memory_free(bed->memory);
    (void)close(bed->irq);
}

static inline uint32_t bed_get(struct bed *bed, uint64_t offset)
{
    return (uint32_t)bus_read(bed->bus, BED_BASE + offset, 4);
}

static inline void bed_set(struct bed *bed, uint64_t offset, uint32_t value)
{
    bus_write(bed->bus, BED_BASE + offset, 4, value);
}

static inline void bed_quit(struct loop_source *source, void *data)
{
    loop_remove(source);
    loop_quit(data, 0);
}

/* Runs what is ready now, and what follows from it. */
static inline void bed_pump(struct bed *bed)
{
    for (unsigned i = 0; i < 4; i++) {
        MUST(loop_add_timer(bed->loop, 0, bed_quit, bed->loop, NULL) == 0);
        MUST(loop_run(bed->loop) == 0);
    }
}

/* Lets the loop run for some time. */
static inline void bed_run(struct bed *bed, int64_t ns)
{
    MUST(loop_add_timer(bed->loop, ns, bed_quit, bed->loop, NULL) == 0);
    MUST(loop_run(bed->loop) == 0);
}

/* Runs the loop until the condition holds; ten seconds at most. */
#define BED_UNTIL(bed, cond)                                                                       \
    do {                                                                                           \
        int64_t end_ = clock_monotonic_ns() + 10 * NS_PER_SEC;                                     \
        while (!(cond)) {                                                                          \
            ck_assert_msg(clock_monotonic_ns() < end_, "never: %s", #cond);                        \
            bed_run((bed), NS_PER_MS / 2);                                                         \
        }                                                                                          \
    } while (0)

/* Interrupts since the last call. */
static inline uint64_t bed_interrupts(struct bed *bed)
{
    uint64_t count = 0;
    return read(bed->irq, &count, sizeof(count)) == (ssize_t)sizeof(count) ? count : 0;
}

static inline uint64_t bed_features(struct bed *bed)
{
    bed_set(bed, 0x14, 1);
    uint64_t features = (uint64_t)bed_get(bed, 0x10) << 32;
    bed_set(bed, 0x14, 0);
    return features | bed_get(bed, 0x10);
}

static inline void bed_accept(struct bed *bed, uint64_t features)
{
    bed_set(bed, 0x24, 0);
    bed_set(bed, 0x20, (uint32_t)features);
    bed_set(bed, 0x24, 1);
    bed_set(bed, 0x20, (uint32_t)(features >> 32));
}

static inline void bed_queue(struct bed *bed, unsigned index, uint16_t size, uint64_t features)
{
    struct driver *d = &bed->driver[index];
    driver_init(d, bed->memory, BED_RINGS + index * 0x4000ULL, size,
                (features & VIRTIO_F_RING_PACKED) != 0, (features & VIRTIO_F_EVENT_IDX) != 0);
    bed_set(bed, 0x30, index);
    bed_set(bed, 0x38, size);
    bed_set(bed, 0x80, (uint32_t)d->desc);
    bed_set(bed, 0x84, (uint32_t)(d->desc >> 32));
    bed_set(bed, 0x90, (uint32_t)d->driver);
    bed_set(bed, 0x94, (uint32_t)(d->driver >> 32));
    bed_set(bed, 0xa0, (uint32_t)d->device);
    bed_set(bed, 0xa4, (uint32_t)(d->device >> 32));
    bed_set(bed, 0x44, 1);
    MUST(bed_get(bed, 0x44) == 1);
}

/* What a driver does from reset to DRIVER_OK (3.1.1). */
static inline void bed_start(struct bed *bed, uint64_t features, unsigned queues, uint16_t size)
{
    features |= VIRTIO_F_VERSION_1;
    bed_set(bed, 0x70, 0);
    bed_set(bed, 0x70, VIRTIO_ACKNOWLEDGE);
    bed_set(bed, 0x70, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
    bed_accept(bed, features);
    bed_set(bed, 0x70, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
    MUST(bed_get(bed, 0x70) == (VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK));
    for (unsigned i = 0; i < queues; i++) {
        bed_queue(bed, i, size, features);
    }
    bed_set(bed, 0x70, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK);
    bed_pump(bed);
}

/* Adds a chain to a queue and tells the device when it wants to know. */
static inline int bed_send(struct bed *bed, unsigned queue, const struct driver_piece *piece,
                           unsigned out, unsigned in)
{
    int id = driver_add(&bed->driver[queue], piece, out, in, 0);
    if (id >= 0 && driver_must_notify(&bed->driver[queue])) {
        bed_set(bed, 0x50, queue);
    }
    return id;
}

#endif
