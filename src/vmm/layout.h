/*
 * layout.h - where things are on the x86 board "pc": addresses, ports and global interrupts.
 *
 * A guest sees these only through ACPI and the memory map, apart from the PC's old ports.
 */
#ifndef VMM_LAYOUT_H
#define VMM_LAYOUT_H

#include <stdint.h>

/* Memory: up to LAYOUT_LOW_MAX below the hole, the rest from 4 GiB on. */
#define LAYOUT_LOW_MAX 0xc0000000ULL
#define LAYOUT_HIGH 0x100000000ULL

/* Below 1 MiB, as a PC has it. */
#define LAYOUT_BOOT_DATA 0x7000ULL /* start information, page tables: up to LAYOUT_EBDA */
#define LAYOUT_COMMAND_LINE 0x20000ULL
#define LAYOUT_COMMAND_LINE_MAX 0x10000ULL
#define LAYOUT_EBDA 0x9fc00ULL          /* end of usable low memory */
#define LAYOUT_ACPI 0xe0000ULL          /* RSDP and tables: up to 1 MiB */
#define LAYOUT_GENERATION_ID 0xffff0ULL /* 16 bytes, in the same reserved range */
#define LAYOUT_KERNEL 0x100000ULL

/* The hole below 4 GiB */
#define LAYOUT_VIRTIO_MMIO 0xd0000000ULL /* device i at + i * LAYOUT_VIRTIO_MMIO_SIZE */
#define LAYOUT_VIRTIO_MMIO_SIZE 0x1000ULL
#define LAYOUT_PCI_LOW 0xe0000000ULL
#define LAYOUT_PCI_LOW_SIZE 0x0c000000ULL
#define LAYOUT_ECAM 0xec000000ULL /* one bus: 1 MiB */
#define LAYOUT_ECAM_SIZE 0x100000ULL
#define LAYOUT_EVENTS 0xfe000000ULL /* selector of the generic event device */
#define LAYOUT_IOAPIC 0xfec00000ULL
#define LAYOUT_LAPIC 0xfee00000ULL
#define LAYOUT_KVM_IDENTITY 0xfffbc000ULL    /* page for real mode on old Intel CPUs, then 3 more */
#define LAYOUT_PCI_HIGH_SIZE 0x1000000000ULL /* 64 GiB, aligned behind the memory */

/* Ports */
#define LAYOUT_PORT_I8042 0x60
#define LAYOUT_PORT_RTC 0x70
#define LAYOUT_PORT_COM1 0x3f8
#define LAYOUT_PORT_DEBUG_EXIT 0x501
#define LAYOUT_PORT_PVPANIC 0x505
#define LAYOUT_PORT_POWER 0x600 /* 16 ports, see chip/power.h */
#define LAYOUT_PORT_PCI_CONFIG 0xcf8

/* Global interrupts */
#define LAYOUT_GSI_I8042 1
#define LAYOUT_GSI_COM1 4
#define LAYOUT_GSI_RTC 8
#define LAYOUT_GSI_EVENTS 9
#define LAYOUT_GSI_VIRTIO 10 /* the first of LAYOUT_VIRTIO_MMIO_MAX */
#define LAYOUT_VIRTIO_MMIO_MAX 14
#define LAYOUT_GSI_MESSAGES 24 /* from here on the engine's routes for messages */

#endif
