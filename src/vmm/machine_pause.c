/* A machine stands still and goes on, with all that serves its devices. */
#include <errno.h>

#include "base/err.h"
#include "vmm/cpu.h"
#include "vmm/io_thread.h"
#include "vmm/machine_internal.h"

struct device_turn {
    struct device *device;
    struct err *err;
    int result;
};

/* On the thread that serves the device. */
static void quiesce_device(void *data)
{
    struct device_turn *turn = data;
    struct device *d = turn->device;
    (void)pthread_mutex_lock(&d->lock);
    turn->result = d->ops->quiesce == NULL ? 0 : d->ops->quiesce(d, turn->err);
    (void)pthread_mutex_unlock(&d->lock);
}

static void resume_device(void *data)
{
    struct device *d = data;
    (void)pthread_mutex_lock(&d->lock);
    if (d->ops->resume != NULL) {
        d->ops->resume(d);
    }
    (void)pthread_mutex_unlock(&d->lock);
}

void machine_stop_io_threads(struct machine *machine)
{
    for (struct device *d = machine->devices; d != NULL; d = d->next) {
        struct device_turn turn = {.device = d};
        if (d->io_thread != NULL) {
            io_thread_call(d->io_thread, quiesce_device, &turn);
        }
    }
    for (size_t i = 0; i < machine->io_thread_count; i++) {
        io_thread_stop(machine->io_thread[i]);
    }
}

int machine_pause(struct machine *machine, struct err *err)
{
    if (machine->stands) {
        return 0;
    }
    if (!machine_park_cpus(machine)) {
        return err_say(err, ESRCH, "the machine has ended");
    }
    machine->stands = true;
    for (struct device *d = machine->devices; d != NULL; d = d->next) {
        struct device_turn turn = {.device = d, .err = err};
        io_thread_call(d->io_thread, quiesce_device, &turn);
        if (turn.result < 0) {
            return err_wrap(err, -turn.result, "pause '%s'", d->instance);
        }
    }
    return 0;
}

int machine_resume(struct machine *machine, struct err *err)
{
    (void)err;
    if (!machine->stands) {
        return 0;
    }
    machine->stands = false;
    for (struct device *d = machine->devices; d != NULL; d = d->next) {
        io_thread_call(d->io_thread, resume_device, d);
    }
    for (uint32_t i = 0; i < machine->cpu_count; i++) {
        machine->cpu[i].cpu->ops->resumed(machine->cpu[i].cpu);
    }
    machine_unpark_cpus(machine);
    return 0;
}

bool machine_is_paused(const struct machine *machine)
{
    return machine->stands;
}
