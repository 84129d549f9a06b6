/*
 * dsdt.h - the devices of the board as AML. Inside src/vmm/acpi only.
 */
#ifndef VMM_ACPI_DSDT_H
#define VMM_ACPI_DSDT_H

#include "vmm/acpi/acpi.h"

/* Appends the definition block without its header. 0 or a negative errno. */
int dsdt_write(const struct acpi_board *board, struct buf *out);

#endif
