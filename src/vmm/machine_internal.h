/*
 * machine_internal.h - shared by machine*.c only.
 */
#ifndef VMM_MACHINE_INTERNAL_H
#define VMM_MACHINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "base/err.h"
#include "vmm/acpi/acpi.h"
#include "vmm/boot/boot.h"
#include "vmm/config.h"
#include "vmm/device.h"
#include "vmm/irq.h"
#include "vmm/machine.h"
#include "vmm/memory.h"
#include "vmm/snapshot.h"
#include "vmm/virtio/fs.h"

struct machine_cpu {
    struct machine *machine;
    struct cpu *cpu;
    pthread_t thread;
    bool started;
    bool on_trial;    /* before the guest it runs speed.h's loop, for: */
    int trial_result; /* read when it has parked, as the next one */
    int64_t trial_ns;
    bool parked;        /* under machine.lock */
    bool held;          /* under machine.lock: stands although the machine runs */
    bool debug_stopped; /* under machine.lock: a breakpoint or a step ended */
    uint8_t debug_watch;
};

/* For the end of its server. */
struct machine_share {
    struct machine *machine;
    char tag[VIRTIO_FS_TAG_MAX + 1];
};

/* machine_boot.c: the kernel on its way into memory; the thread's until it is joined. */
struct machine_loader {
    pthread_t thread;
    bool started;
    struct memory *memory;
    struct boot_plan plan;
    struct boot_range range[4];
    struct buf arguments;
    struct boot_entry entry;
    int result;
    struct err err;
};

struct machine {
    struct machine_options options;
    struct board board; /* ends lead here */
    struct memory *memory;
    struct device *devices;      /* in order of their making */
    struct device **devices_end; /* where the next one goes: before pci */
    struct pci *pci;             /* NULL: virtio devices are at virtio-mmio */
    struct device *power;
    struct device *i8042;
    struct virtio *vsock, *balloon;                                 /* of devices; NULL: none */
    struct virtio *drive[CONFIG_DRIVES_MAX], *net[CONFIG_NETS_MAX]; /* as described */
    struct device *ioapic;                                          /* NULL: the engine has it */
    struct machine_share share[CONFIG_SHARES_MAX];
    size_t share_count;
    struct io_thread *io_thread[CONFIG_DRIVES_MAX + CONFIG_NETS_MAX];
    size_t io_thread_count;
    struct acpi_board acpi;
    struct irq irq[ACPI_VIRTIO_MAX]; /* lines of virtio devices */
    size_t irq_count;

    uint32_t cpu_count;
    struct machine_cpu *cpu;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    _Atomic bool halt;            /* CPUs are to look at the two below */
    bool paused;                  /* under lock */
    bool quit;                    /* under lock */
    uint32_t parked;              /* CPUs that stand still, under lock */
    bool shares_cpus;             /* the loop has no CPU that no CPU of the guest can be on */
    bool stands;                  /* between pause and resume; the loop's thread */
    struct machine_ending ending; /* under lock until ended */
    struct machine_loader loader;

    struct {
        bool known; /* there is one: */
        uint8_t id[SNAPSHOT_ID_SIZE];
        uint8_t pending[SNAPSHOT_ID_SIZE];     /* written, but without its name yet */
        uint64_t *unsaved[MEMORY_REGIONS_MAX]; /* pages written since; NULL: not asked yet */
    } saved; /* the last snapshot, for differences; the loop's thread */

    int end_fd; /* an eventfd: the loop is to see the end */
    struct loop_source *end_source;
    machine_ended_fn *ended;
    void *ended_data;

    int debug_fd; /* an eventfd: a CPU met a breakpoint */
    struct loop_source *debug_source;
    machine_debug_fn *debug; /* NULL: nobody debugs */
    void *debug_data;
};

/* machine_boot.c: another one than before, so that the guest knows that it is a copy. */
int machine_new_generation(struct machine *machine, struct err *err);
/* When there is memory. machine_load_end() waits for it, and is due in any case. */
int machine_load_begin(struct machine *machine, struct err *err);
void machine_load_end(struct machine *machine);

/* machine_pause.c: what is under way ends on the thread that began it. */
void machine_stop_io_threads(struct machine *machine);

/* machine_cpu.c */
int machine_start_cpus(struct machine *machine, struct err *err);
/* Threads are gone when it returns. */
void machine_join_cpus(struct machine *machine);
void machine_note_end(struct machine *machine, enum board_end why, uint32_t code,
                      const struct machine_cpu *cpu, const struct cpu_exit *exit);
/* Waits until every CPU is parked. False: the machine has ended. */
bool machine_park_cpus(struct machine *machine);
void machine_unpark_cpus(struct machine *machine);

#endif
