/*
 * fetch.h - reads guest code, which may not be there: a file that was cut short, a mapping that
 * another thread takes away.
 */
#ifndef EMU_FETCH_H
#define EMU_FETCH_H

#include <stdbool.h>
#include <stdint.h>

/* False when it faulted. Needs emu_fault() in the handler of SIGSEGV and SIGBUS. */
bool emu_fetch(uint64_t address, uint32_t *ret);

/* For emu_fault(): where to go on when the host's pc is emu_fetch()'s, else 0. */
uint64_t emu_fetch_failed(uint64_t host_pc);

#endif
