/*
 * pci.h - a virtio device as a PCI function, the modern interface only (virtio 1.2, 4.1).
 *
 * One region holds all structures, the MSI-X table included. There is no INTx: drivers need MSI-X.
 * A write to a queue's notify address rings its eventfd without coming here, when the bus or the
 * engine can do that.
 */
#ifndef VMM_VIRTIO_PCI_H
#define VMM_VIRTIO_PCI_H

#include "base/cleanup.h"
#include "vmm/device.h"

struct cpu_engine;
struct err;
struct pci;
struct virtio;
struct virtio_pci;

/*
 * Puts v (borrowed) into the next free slot of the bus. instance names the function in saved state
 * ("drive-root-pci"). To be freed before v and the bus.
 */
int virtio_pci_new(const char *instance, struct virtio *v, struct pci *bus,
                   struct cpu_engine *engine, struct virtio_pci **ret, struct err *err);
/* Accepts NULL. No CPU runs. */
void virtio_pci_free(struct virtio_pci *p);
DEFINE_FREEP(struct virtio_pci *, virtio_pci_free)

/* For the machine's list: reset, saved state, resume. */
struct device *virtio_pci_device(struct virtio_pci *p);

#endif
