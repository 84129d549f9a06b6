/*
 * acpi.h - the tables that describe the board to an operating system (ACPI 6.5, hardware-reduced).
 *
 * Pure: a description in, bytes out, to be copied to the address they were made for.
 */
#ifndef VMM_ACPI_ACPI_H
#define VMM_ACPI_ACPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct err;

struct acpi_virtio_mmio {
    uint64_t base;
    uint32_t size;
    uint32_t gsi;
};

/* The devices of virtio-mmio and all windows but the high one lie below 4 GiB. */
#define ACPI_VIRTIO_MAX 32

struct acpi_board {
    uint32_t cpu_count;
    uint32_t lapic_base, ioapic_base;
    uint8_t ioapic_id;
    bool pic; /* PC-AT compatible dual 8259 (MADT flag PCAT_COMPAT) */
    struct acpi_virtio_mmio virtio[ACPI_VIRTIO_MAX];
    size_t virtio_count;
    /* PCIe; ecam_base 0: no PCI at all. */
    uint64_t ecam_base;
    uint8_t last_bus;
    uint64_t pci_low_base, pci_low_size;   /* below 4 GiB */
    uint64_t pci_high_base, pci_high_size; /* prefetchable, 64 bits */
    /* Registers of ours (chip/power.h): sleep control and status, reset; generic events. */
    uint16_t power_port;    /* base of the block of I/O ports */
    uint32_t event_gsi;     /* of the generic event device: power button, VM generation id */
    uint64_t event_base;    /* its selector register, MMIO */
    uint16_t pm_timer_port; /* 0: none; hardware-reduced tables need none, Linux takes it */
    uint64_t generation_id; /* guest physical address of the 16 bytes; 0: none */
    uint16_t uart_port;     /* 0: none */
    uint32_t uart_gsi;
    bool i8042, rtc;
    uint16_t pvpanic_port; /* 0: none */
};

/*
 * All tables and the RSDP, made to lie at gpa (16-byte aligned, below 4 GiB); the RSDP comes first.
 * The block is at most 64 KiB: -E2BIG for more than some 1,500 CPUs. *ret is replaced.
 */
int acpi_build(const struct acpi_board *board, uint64_t gpa, struct buf *ret, struct err *err);

#endif
