/*
 * machine.h - a whole machine: memory, CPUs, chips and devices on the x86 board "pc".
 *
 * Built, started, paused and freed by the thread of its loop; CPUs run in threads of their own.
 */
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "vmm/chip/board.h"
#include "vmm/cpu.h"

struct boot_plan;
struct err;
struct loop;
struct machine;
struct memory;

#define MACHINE_CPUS_MAX 254u /* what the 8-bit APIC ids of the I/O APIC can name */
#define MACHINE_MEMORY_MIN ((uint64_t)1 << 20)
#define MACHINE_MEMORY_MAX ((uint64_t)1 << 40)

struct machine_options {
    uint32_t cpus;
    uint64_t memory; /* bytes, whole pages */
    bool huge_pages, mergeable, shared_memory;
    bool track_dirty;                /* for differences between snapshots */
    bool require_hardware;           /* a KVM that emulates is refused by machine_start() */
    const char *const *features_off; /* see cpu_model */
    int kvm_fd;                      /* borrowed; -1: /dev/kvm is opened */
    bool pit;                        /* an 8254, for systems that know no other clock */
    bool split_irqchip;              /* an I/O APIC of ours (chip/ioapic.h); no 8259, no 8254 */
    bool rtc, i8042, pvpanic, debug_exit;
    bool serial;
    int serial_in_fd, serial_out_fd; /* borrowed; -1: none */
    bool pci;                        /* virtio devices are PCI functions */
    bool jail; /* threads of CPUs restrict themselves; jail_enter() was called (jail.h) */
    bool memory_from_file; /* a snapshot's: mapped copy-on-write */
    int memory_fd;         /* of that; borrowed until machine_new() returns */
    /*
     * A kernel that is loaded on a thread of its own while the machine is made, for KVM and the
     * disk keep us waiting; borrowed until machine_boot(). NULL: there is none.
     */
    const struct boot_plan *boot;
};

/* How it ended. */
struct machine_ending {
    enum board_end why;
    uint32_t code;        /* of BOARD_DEBUG_EXIT, that of BOARD_PANIC, which of BOARD_SHARE_LOST */
    uint32_t cpu;         /* which one, of BOARD_SHUTDOWN and BOARD_UNEMULATED */
    struct cpu_exit exit; /* of BOARD_UNEMULATED: failed is valid */
};

int machine_new(const struct machine_options *options, struct loop *loop, struct machine **ret,
                struct err *err);
/* Stops the CPUs. Accepts NULL. */
void machine_free(struct machine *machine);
DEFINE_FREEP(struct machine *, machine_free)

struct board *machine_board(struct machine *machine);
struct memory *machine_memory(struct machine *machine);
struct cpu *machine_cpu(struct machine *machine, uint32_t index);
uint32_t machine_cpu_count(const struct machine *machine);

/* The machine frees it, and saves and resets it with the others. */
void machine_add_device(struct machine *machine, struct device *device);

/* Writes ACPI tables and waits for options.boot; the first CPU stands at its kernel's entry. */
int machine_boot(struct machine *machine, struct err *err);

/*
 * CPUs run from here on. ended is called once, on the loop's thread, when the machine has ended and
 * its CPUs stand still.
 */
typedef void machine_ended_fn(struct machine *machine, void *data);
int machine_start(struct machine *machine, machine_ended_fn *ended, void *data, struct err *err);

/*
 * Returns when every CPU stands between two instructions and devices touch nothing. Also before
 * machine_start(): CPUs then start standing. Pausing what stands and resuming what runs change
 * nothing.
 */
int machine_pause(struct machine *machine, struct err *err);
int machine_resume(struct machine *machine, struct err *err);
bool machine_is_paused(const struct machine *machine);

/* The keys that ask an old system to restart; -EOPNOTSUPP without an i8042. */
int machine_press_ctrl_alt_del(struct machine *machine, struct err *err);
/* The power button. */
void machine_press_power(struct machine *machine);

/*
 * For a debugger: fn is called on the loop's thread when a CPU met what cpu_ops.debug asked for;
 * the machine is paused by then; watch as in cpu_exit. NULL: nobody listens any more.
 */
typedef void machine_debug_fn(struct machine *machine, uint32_t cpu, uint8_t watch, void *data);
int machine_set_debug(struct machine *machine, machine_debug_fn *fn, void *data, struct err *err);
/* While paused: this CPU stays where it is when the machine is resumed. */
void machine_hold_cpu(struct machine *machine, uint32_t cpu, bool hold);

/* Asks it to end; why is BOARD_STOPPED usually. Any thread. */
void machine_stop(struct machine *machine, enum board_end why);
const struct machine_ending *machine_ending(const struct machine *machine);
/* One line for a user: "the guest powered off", "KVM cannot emulate an instruction (0f c7 ...)". */
void machine_describe_ending(const struct machine *machine, char *text, size_t size);

#endif
