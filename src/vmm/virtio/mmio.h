/*
 * mmio.h - a virtio device behind memory-mapped registers and one interrupt line (virtio 1.2, 4.2).
 *
 * Version 2 of the registers only. A write to QueueNotify rings the queue's eventfd without coming
 * here, when the bus or the engine can do that.
 */
#ifndef VMM_VIRTIO_MMIO_H
#define VMM_VIRTIO_MMIO_H

#include <stdint.h>

#include "base/cleanup.h"
#include "vmm/device.h"
#include "vmm/irq.h"

struct bus;
struct err;
struct virtio;
struct virtio_mmio;

#define VIRTIO_MMIO_SIZE ((uint64_t)0x1000)

/*
 * Puts v (borrowed) on the bus at base; irq's descriptor stays the caller's. instance names the
 * registers in saved state ("drive-root-mmio"). To be freed before v and bus.
 */
int virtio_mmio_new(const char *instance, struct virtio *v, struct bus *bus, uint64_t base,
                    struct irq irq, struct virtio_mmio **ret, struct err *err);
/* Accepts NULL. No CPU runs. */
void virtio_mmio_free(struct virtio_mmio *mmio);
DEFINE_FREEP(struct virtio_mmio *, virtio_mmio_free)

/* For the machine's list: reset and saved state. */
struct device *virtio_mmio_device(struct virtio_mmio *mmio);

#endif
