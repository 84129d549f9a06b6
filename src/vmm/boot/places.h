/*
 * places.h - where what the boot protocols hand over lies, between LAYOUT_BOOT_DATA and the command
 * line. A protocol uses its own part of the first page.
 */
#ifndef VMM_BOOT_PLACES_H
#define VMM_BOOT_PLACES_H

#include "vmm/layout.h"

#define PLACE_INFO LAYOUT_BOOT_DATA             /* start information, zero page or multiboot's */
#define PLACE_MODULE (LAYOUT_BOOT_DATA + 0x80)  /* the one module */
#define PLACE_NAME (LAYOUT_BOOT_DATA + 0xc0)    /* of the boot loader */
#define PLACE_MAP (LAYOUT_BOOT_DATA + 0x100)    /* memory map: at most 128 entries of 24 bytes */
#define PLACE_GDT (LAYOUT_BOOT_DATA + 0x1000)   /* 0x8000 */
#define PLACE_PAGES (LAYOUT_BOOT_DATA + 0x2000) /* 0x9000: six pages */
#define PLACE_PAGES_GIB 4u                      /* memory mapped to itself */

#endif
