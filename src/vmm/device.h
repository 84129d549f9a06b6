/*
 * device.h - what every device of a board has in common.
 *
 * Registers are touched by CPU threads, queues and files by the thread of the machine's event loop:
 * both hold the device's lock. Interrupts go out through eventfds (cpu.h) and need none.
 */
#ifndef VMM_DEVICE_H
#define VMM_DEVICE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "vmm/state.h"

struct device;

struct device_ops {
    /* Back to power-on; called with the lock held, CPUs may run. */
    void (*reset)(struct device *device);
    /* The machine stops or goes on: no file or socket may be touched in between. May be NULL. */
    int (*quiesce)(struct device *device, struct err *err);
    /*
     * Also the first call after saved state was read. An edge that was on its way to the engine
     * when the machine was saved is lost: what waits for the guest's attention raises it again,
     * which is harmless when it had come.
     */
    void (*resume)(struct device *device);
    /* Also of a device that was only half made. */
    void (*free)(struct device *device);
};

/* First member of every device. */
struct device {
    const struct device_ops *ops;
    const struct state_table *state; /* NULL: keeps nothing */
    char instance[32];               /* "com1", "drive-root": unique in the machine */
    pthread_mutex_t lock;
    struct device *next;         /* the machine's list */
    struct io_thread *io_thread; /* whose loop serves it, borrowed; NULL: the machine's loop */
    /* What the guest did against the device's manual, and was ignored. */
    _Atomic uint64_t guest_errors;
};

void device_init(struct device *device, const struct device_ops *ops,
                 const struct state_table *state, const char *instance);
/* For the free function of the device itself: undoes device_init(). */
void device_done(struct device *device);

/* Accepts NULL. */
static inline void device_free(struct device *device)
{
    if (device != NULL) {
        device->ops->free(device);
    }
}
DEFINE_FREEP(struct device *, device_free)

/* Counts an error of the guest; with ISOLA_DEBUG=1 the first ones of each device are said. */
void device_guest_error(struct device *device, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
