/*
 * What firmware would do: tables, the memory map, and the kernel at its entry.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/err.h"
#include "base/macros.h"
#include "base/thread.h"
#include "vmm/boot/boot.h"
#include "vmm/layout.h"
#include "vmm/machine_internal.h"
#include "vmm/memory.h"

#define GENERATION_SIZE 16 /* ACPI's VM generation id */

/* What a PC's firmware would tell: memory, and the holes in it. */
static size_t make_ranges(const struct machine *machine, struct boot_range range[4])
{
    uint64_t low = MIN(machine->options.memory, LAYOUT_LOW_MAX);
    size_t n = 0;
    range[n++] = (struct boot_range){0, LAYOUT_EBDA, 1};
    range[n++] = (struct boot_range){LAYOUT_EBDA, LAYOUT_KERNEL - LAYOUT_EBDA, 2};
    if (low > LAYOUT_KERNEL) {
        range[n++] = (struct boot_range){LAYOUT_KERNEL, low - LAYOUT_KERNEL, 1};
    }
    if (machine->options.memory > low) {
        range[n++] = (struct boot_range){LAYOUT_HIGH, machine->options.memory - low, 1};
    }
    return n;
}

static int write_acpi(struct machine *machine, struct err *err)
{
    AUTO(buf_donep) struct buf tables = {0};
    int r = acpi_build(&machine->acpi, LAYOUT_ACPI, &tables, err);
    if (r < 0) {
        return r;
    }
    if (tables.len > LAYOUT_GENERATION_ID - LAYOUT_ACPI) {
        return err_say(err, EMSGSIZE, "the ACPI tables have %zu bytes", tables.len);
    }
    r = memory_write(machine->memory, LAYOUT_ACPI, tables.data, tables.len);
    return r < 0 ? err_set(err, -r, "write the ACPI tables") : machine_new_generation(machine, err);
}

/*
 * What this board knows of itself and Linux would find out by trying. Each was measured
 * (docs/testing-vm.md): the tests of ciphers take most of a boot and are for hardware that is new;
 * ports that are not there cost an exit each; a time stamp counter under KVM needs no watchdog,
 * which wakes an idle guest twice a second.
 */
static int make_board_arguments(const struct machine *machine, struct buf *ret)
{
    return buf_printf(ret, "tsc=reliable cryptomgr.notests 8250.nr_uarts=%d%s",
                      machine->options.serial ? 1 : 0, machine->options.pci ? "" : " pci=off");
}

int machine_new_generation(struct machine *machine, struct err *err)
{
    uint8_t id[GENERATION_SIZE];
    if (getrandom(id, sizeof(id), 0) != (ssize_t)sizeof(id)) {
        return err_set(err, errno, "choose the machine's generation id");
    }
    int r = memory_write(machine->memory, LAYOUT_GENERATION_ID, id, sizeof(id));
    return r < 0 ? err_set(err, -r, "write the machine's generation id") : 0;
}

static void *load_thread(void *data)
{
    struct machine_loader *loader = data;
    loader->result = boot_load(&loader->plan, loader->memory, &loader->entry, &loader->err);
    return NULL;
}

int machine_load_begin(struct machine *machine, struct err *err)
{
    struct machine_loader *loader = &machine->loader;
    const struct boot_plan *plan = machine->options.boot;
    loader->plan = *plan;
    loader->memory = machine->memory;
    int r = plan->bare ? 0 : make_board_arguments(machine, &loader->arguments);
    if (r < 0) {
        return err_set(err, -r, "make the command line");
    }
    loader->plan.board_arguments = loader->arguments.data;
    loader->plan.rsdp = LAYOUT_ACPI;
    loader->plan.ranges = loader->range;
    loader->plan.range_count = make_ranges(machine, loader->range);
    r = thread_start(&loader->thread, load_thread, loader, NULL);
    loader->started = r == 0;
    return r < 0 ? err_set(err, -r, "start to load the kernel") : 0;
}

void machine_load_end(struct machine *machine)
{
    if (machine->loader.started) {
        (void)pthread_join(machine->loader.thread, NULL);
        machine->loader.started = false;
    }
    buf_done(&machine->loader.arguments);
}

int machine_boot(struct machine *machine, struct err *err)
{
    AUTO(freep) struct x86_state *state = calloc(1, sizeof(*state));
    if (state == NULL) {
        return err_set(err, ENOMEM, "boot");
    }
    struct cpu *cpu = machine->cpu[0].cpu;
    int r = write_acpi(machine, err);
    machine_load_end(machine);
    if (r == 0 && machine->loader.result < 0) {
        *err = machine->loader.err;
        r = machine->loader.result;
    }
    if (r < 0) {
        return r;
    }
    r = cpu->ops->get_core(cpu, state);
    if (r < 0) {
        return err_set(err, -r, "read the first CPU");
    }
    boot_enter(&machine->loader.entry, state);
    r = cpu->ops->set_core(cpu, state);
    return r < 0 ? err_set(err, -r, "set the first CPU") : 0;
}
