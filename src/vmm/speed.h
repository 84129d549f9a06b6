/*
 * speed.h - does an engine really execute a guest's ring-0 code, or emulate it?
 *
 * Where KVM runs without hardware virtualisation (pagetable based KVM) a guest's ring-0 code is
 * interpreted an instruction at a time: an operating system takes minutes to start or never does.
 */
#ifndef VMM_SPEED_H
#define VMM_SPEED_H

#include <stdbool.h>
#include <stdint.h>

struct cpu;
struct err;
struct memory;

/* Instructions that one measurement executes. */
#define SPEED_INSTRUCTIONS 20000u
/* Nanoseconds for them from which on it is emulation: real hardware takes under 0.1 ms, in a nested
 * machine 0.5 ms; pagetable based KVM 11 ms. */
#define SPEED_LIMIT_NS 4000000

/*
 * Runs a loop in long mode on cpu, which must not have run yet, and leaves it and the memory below
 * 64 KiB as they were: the memory must be zero there. *ret_ns is the best of up to three runs.
 */
int speed_measure(struct cpu *cpu, struct memory *memory, int64_t *ret_ns, struct err *err);

/* -EOPNOTSUPP with what was measured and the remedy. */
int speed_refuse(int64_t ns, struct err *err);

/* A machine of one page for the same, thrown away. 0: executes; -EOPNOTSUPP with err otherwise. */
int speed_check_kvm(int kvm_fd, int64_t *ret_ns, struct err *err);

#endif
