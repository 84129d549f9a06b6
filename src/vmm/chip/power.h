/*
 * power.h - sleep, reset and the generic event device: the registers of hardware-reduced ACPI
 * (ACPI 6.5, 4.8.3.7, 4.8.3.6 and 5.6.9).
 *
 * Ports from LAYOUT_PORT_POWER: +0 sleep control, +1 sleep status, +4 reset (write POWER_RESET),
 * +8 the ACPI power management timer (24 or 32 bits at 3.579545 MHz, 4.8.2.1). One MMIO register at
 * LAYOUT_EVENTS: reading it gives the pending events as bits and clears them.
 */
#ifndef VMM_CHIP_POWER_H
#define VMM_CHIP_POWER_H

#include <stdint.h>

#define POWER_SLEEP_CONTROL 0
#define POWER_SLEEP_STATUS 1
#define POWER_RESET_REGISTER 4
#define POWER_TIMER 8
#define POWER_PORTS 16

#define POWER_RESET 0x42
#define POWER_SLEEP_TYPE_S5 5

/* Event bits. */
#define POWER_EVENT_BUTTON 1u
#define POWER_EVENT_GENERATION 2u /* the VM generation id changed */

#endif
