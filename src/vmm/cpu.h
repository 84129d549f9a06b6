/*
 * cpu.h - the CPUs of a machine and the engine that runs them.
 *
 * Everything above this header (boards, devices, saved state) knows neither KVM nor a translator.
 * An engine belongs to one machine. It is made and changed by the thread that builds the machine;
 * each CPU is run by one thread of its own; cpu_kick() and the interrupt functions may be called by
 * any.
 *
 * Interrupts and notifications are eventfds on both sides: a device raises a line by writing to a
 * descriptor, a guest's write to a doorbell makes one readable. KVM takes them into the kernel
 * (irqfd, ioeventfd); an engine in user space reads and writes them itself.
 */
#ifndef VMM_CPU_H
#define VMM_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "vmm/x86_state.h"

struct cpu;
struct cpu_engine;
struct err;
struct loop;

enum cpu_exit_kind {
    CPU_EXIT_NONE,       /* kicked, or nothing that concerns the board: run again */
    CPU_EXIT_PORT,       /* x86 IN, OUT and their string forms */
    CPU_EXIT_MMIO,       /* a physical address that is no memory */
    CPU_EXIT_HALT,       /* HLT, where the engine has no interrupt controller of its own */
    CPU_EXIT_SHUTDOWN,   /* triple fault (Intel SDM vol. 3, 24.2 "shutdown") */
    CPU_EXIT_EOI,        /* the end of a level-triggered interrupt, for the board's I/O APIC */
    CPU_EXIT_DEBUG,      /* breakpoint, watchpoint or single step asked for by cpu_debug() */
    CPU_EXIT_UNEMULATED, /* the engine cannot go on; see failed */
};

#define CPU_INSTRUCTION_MAX 15

/* Valid until the same CPU runs again. */
struct cpu_exit {
    enum cpu_exit_kind kind;
    bool write;
    uint8_t size;     /* 1, 2, 4 or 8 bytes an access */
    uint32_t count;   /* accesses of a string instruction, one behind the other in data */
    uint64_t address; /* port number or guest physical address; DEBUG: of the instruction */
    uint8_t vector;   /* of EOI */
    uint8_t watch;    /* DEBUG: which of cpu_debug.watch were hit, one bit each */
    uint8_t *data;    /* size * count bytes, little endian: written by the guest, or to be filled */
    struct {
        const char *what; /* static: "cannot emulate an instruction", "entry failed", ... */
        uint64_t ip;
        uint64_t code; /* the engine's own number for it */
        uint8_t len;   /* bytes known, 0: none */
        uint8_t bytes[CPU_INSTRUCTION_MAX];
    } failed;
};

/* A piece of guest physical memory. */
struct cpu_map {
    uint32_t slot; /* names the piece: the same again changes it */
    bool read_only;
    bool track_dirty;
    uint64_t gpa;  /* page aligned */
    uint64_t size; /* 0 removes the piece */
    void *host;    /* page aligned, stays mapped while the piece is there */
};

/* What the guest's CPUID says. */
struct cpu_model {
    uint32_t count;         /* of CPUs in the machine */
    const char *const *off; /* names of features to hide ("avx512f"), ended by NULL; or NULL */
    bool hide_hypervisor;
};

/* Breakpoints of a debugger. addresses of all kinds are linear. */
#define CPU_WATCH_MAX 4
struct cpu_debug {
    bool single_step;
    bool software_breakpoints; /* INT3 goes to the debugger, not to the guest */
    struct {
        uint64_t address;
        uint8_t len;  /* 0: unused; 1, 2, 4, 8 */
        uint8_t kind; /* 0 execute, 1 write, 3 read or write (DR7's R/W) */
    } watch[CPU_WATCH_MAX];
};

/* To a local APIC, in the form that PCI devices send it. */
struct cpu_message {
    uint64_t address;
    uint32_t data;
};

/* Takes the lines of devices where the engine has local APICs only: the board's I/O APIC. */
struct cpu_lines {
    /* A write to fd, which stays the caller's and open as long as the machine, is an edge on gsi. 0
     * or a negative errno. */
    int (*attach)(struct cpu_lines *lines, uint32_t gsi, int fd);
};

struct cpu_engine_ops {
    const char *name; /* "kvm" */
    void (*free)(struct cpu_engine *engine);
    int (*map)(struct cpu_engine *engine, const struct cpu_map *map);
    /* One bit a page since the last call, and forgets them. bitmap holds size / 4096 bits. */
    int (*dirty)(struct cpu_engine *engine, uint32_t slot, uint64_t *bitmap, size_t bytes);
    int (*cpu_new)(struct cpu_engine *engine, uint32_t index, const struct cpu_model *model,
                   struct cpu **ret, struct err *err);

    /* A write to fd raises the global interrupt gsi once. The descriptor stays the caller's. */
    int (*line_attach)(struct cpu_engine *engine, uint32_t gsi, int fd);
    /*
     * For cpu_lines: attached lines lead where line_route says, at first nowhere; what comes then
     * is lost. send: one message at once. Any thread.
     */
    void (*line_detach)(struct cpu_engine *engine, uint32_t gsi, int fd);
    int (*line_route)(struct cpu_engine *engine, uint32_t gsi, const struct cpu_message *message);
    int (*send)(struct cpu_engine *engine, const struct cpu_message *message);
    /* The same for a message; -ENOSPC when there is no room for more. */
    int (*message_attach)(struct cpu_engine *engine, int fd, uint64_t address, uint32_t data,
                          uint32_t *ret_id);
    int (*message_change)(struct cpu_engine *engine, uint32_t id, uint64_t address, uint32_t data);
    void (*message_detach)(struct cpu_engine *engine, uint32_t id, int fd);
    /*
     * A write of value (size bytes; size 0: any write) to address makes fd readable and does not
     * leave cpu_run(). -EOPNOTSUPP: the bus does it.
     */
    int (*doorbell)(struct cpu_engine *engine, bool port, uint64_t address, uint32_t size,
                    uint64_t value, int fd, bool on);
    /* Interrupt controllers, timers and clock that the engine itself keeps. */
    int (*get_board)(struct cpu_engine *engine, struct x86_board_state *ret, struct err *err);
    int (*set_board)(struct cpu_engine *engine, const struct x86_board_state *state,
                     struct err *err);
};

/* First member of every engine. */
struct cpu_engine {
    const struct cpu_engine_ops *ops;
    struct cpu_lines *lines; /* NULL: the engine takes lines itself */
};

struct cpu_ops {
    void (*free)(struct cpu *cpu);
    /* Runs until something concerns the board. 0, or a negative errno: the engine is broken. */
    int (*run)(struct cpu *cpu, struct cpu_exit *ret);
    /*
     * Lets the instruction end whose access was handed out last. CPU_EXIT_NONE: the CPU stands
     * between two instructions; anything else is to be handled like an exit of run(), and settle()
     * called again (string instructions come in pieces). On the thread that runs the CPU.
     */
    int (*settle)(struct cpu *cpu, struct cpu_exit *ret);
    /* Makes a run of another thread, or the next one, return soon with CPU_EXIT_NONE. */
    void (*kick)(struct cpu *cpu);
    /* The following only while the CPU does not run. Core: general, control and segment registers,
     * tables; the rest of the struct is left alone. */
    int (*get_core)(struct cpu *cpu, struct x86_state *ret);
    int (*set_core)(struct cpu *cpu, const struct x86_state *state);
    int (*get_state)(struct cpu *cpu, struct x86_state *ret, struct err *err);
    int (*set_state)(struct cpu *cpu, const struct x86_state *state, struct err *err);
    int (*debug)(struct cpu *cpu, const struct cpu_debug *debug);
    /* Linear to guest physical address by the CPU's page tables; -EFAULT. */
    int (*translate)(struct cpu *cpu, uint64_t linear, uint64_t *ret_gpa);
    /* After a pause: tells the guest's clock that time was lost on purpose. */
    void (*resumed)(struct cpu *cpu);
};

/* First member of every CPU. */
struct cpu {
    const struct cpu_ops *ops;
    uint32_t index;
};

static inline void cpu_engine_free(struct cpu_engine *engine)
{
    if (engine != NULL) {
        engine->ops->free(engine);
    }
}
DEFINE_FREEP(struct cpu_engine *, cpu_engine_free)

static inline void cpu_free(struct cpu *cpu)
{
    if (cpu != NULL) {
        cpu->ops->free(cpu);
    }
}
DEFINE_FREEP(struct cpu *, cpu_free)

#endif
