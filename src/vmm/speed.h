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
 * A loop in long mode on a CPU that has not run yet, whose registers and low memory come back as
 * they were. In three steps, for KVM lets a CPU move to another thread only after a grace period of
 * RCU (some milliseconds): the second one is for the thread that will run the CPU.
 */
struct speed_trial;

/* Puts the loop into place. The CPU is the caller's until speed_trial_end(), which is due then. */
int speed_trial_begin(struct cpu *cpu, struct memory *memory, struct speed_trial **ret,
                      struct err *err);
/* *ret_ns is the best of up to three runs. 0 or a negative errno. Makes no call but the CPU's. */
int speed_trial_run(struct cpu *cpu, int64_t *ret_ns);
/* Frees the trial. The port access that ended the loop is completed by this or by a settle(). */
int speed_trial_end(struct speed_trial *trial);

/* All three on this thread. */
int speed_measure(struct cpu *cpu, struct memory *memory, int64_t *ret_ns, struct err *err);

/* -EOPNOTSUPP with what was measured and the remedy. */
int speed_refuse(int64_t ns, struct err *err);

/* A machine of one page for the same, thrown away. 0: executes; -EOPNOTSUPP with err otherwise. */
int speed_check_kvm(int kvm_fd, int64_t *ret_ns, struct err *err);

#endif
