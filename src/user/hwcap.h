/*
 * hwcap.h - what the CPU that programs see has: Linux' names and bits (Documentation/arch/arm64/
 * elf_hwcaps.rst), of AT_HWCAP and of "Features" in /proc/cpuinfo.
 */
#ifndef USER_HWCAP_H
#define USER_HWCAP_H

#include <stdint.h>

struct buf;

uint64_t hwcap_value(void);
/* The names, separated by blanks. 0 or -ENOMEM. */
int hwcap_names(struct buf *text);

#endif
