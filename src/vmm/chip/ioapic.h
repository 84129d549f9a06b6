/*
 * ioapic.h - an I/O APIC for engines that have only local APICs (Intel 82093AA, 1996): 24 pins,
 * each an edge of a device that becomes a message to a local APIC.
 *
 * Where a pin leads is the engine's to do: an edge goes from the device's eventfd to the guest
 * without us. Pins that the guest calls level-triggered come through the loop, for their entry
 * shows until the guest's EOI that the interrupt is being served.
 */
#ifndef VMM_CHIP_IOAPIC_H
#define VMM_CHIP_IOAPIC_H

#include <stdint.h>

struct board;
struct device;
struct err;

#define IOAPIC_PINS 24u

/* To be made before the devices whose lines it takes; board->engine leads them here from then on.
 */
int ioapic_new(struct board *board, uint64_t base, struct device **ret, struct err *err);

/* A local APIC has ended the interrupt with this vector. Any thread. */
void ioapic_eoi(struct device *device, uint8_t vector);

#endif
