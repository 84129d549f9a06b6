/*
 * bus.h - which device answers at an address: ports or physical addresses.
 *
 * Looked up by all CPU threads at once; changed rarely (by building the machine, or a guest that
 * moves a PCI region). A device's functions are called with its lock held.
 */
#ifndef VMM_BUS_H
#define VMM_BUS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct bus;
struct cpu_engine;

struct bus_ops {
    /* offset counts from the range's start; size is 1, 2, 4 or 8; the access lies inside it. */
    uint64_t (*read)(void *device, uint64_t offset, unsigned size);
    void (*write)(void *device, uint64_t offset, unsigned size, uint64_t value);
};

struct bus_range {
    uint64_t base;
    uint64_t size;
    const struct bus_ops *ops;
    void *device;
    pthread_mutex_t *lock; /* held around each call; NULL: the device needs none */
};

/* engine may be NULL (tests); port tells its doorbells which space this is. */
int bus_new(struct cpu_engine *engine, bool port, struct bus **ret);
void bus_free(struct bus *bus);
DEFINE_FREEP(struct bus *, bus_free)

/* -EEXIST when something is there already, -EINVAL for an empty range or one that wraps. */
int bus_add(struct bus *bus, const struct bus_range *range);
void bus_remove(struct bus *bus, uint64_t base);

/*
 * A write to address (size 0: of any size and value) makes fd readable instead of reaching a
 * device. The engine does it when it can, else this bus.
 */
int bus_add_doorbell(struct bus *bus, uint64_t address, uint32_t size, uint64_t value, int fd);
void bus_remove_doorbell(struct bus *bus, uint64_t address, uint32_t size, uint64_t value, int fd);

/* Where nothing answers reads are all ones and writes are lost, as on a real bus. */
uint64_t bus_read(struct bus *bus, uint64_t address, unsigned size);
void bus_write(struct bus *bus, uint64_t address, unsigned size, uint64_t value);

/* Accesses that met no device since the start. */
uint64_t bus_misses(const struct bus *bus);

#endif
