#include "vmm/bus.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cpu.h"

struct doorbell {
    uint64_t address;
    uint32_t size;
    uint64_t value;
    int fd;
    bool in_engine;
};

struct bus {
    struct cpu_engine *engine;
    bool port;
    pthread_rwlock_t lock;
    struct bus_range *range; /* sorted by base */
    size_t count;
    struct doorbell *doorbell;
    size_t doorbells;
    _Atomic size_t own_doorbells; /* those that the engine did not take */
    _Atomic uint64_t misses;
};

int bus_new(struct cpu_engine *engine, bool port, struct bus **ret)
{
    struct bus *bus = calloc(1, sizeof(*bus));
    if (bus == NULL) {
        return -ENOMEM;
    }
    bus->engine = engine;
    bus->port = port;
    (void)pthread_rwlock_init(&bus->lock, NULL);
    *ret = bus;
    return 0;
}

void bus_free(struct bus *bus)
{
    if (bus == NULL) {
        return;
    }
    (void)pthread_rwlock_destroy(&bus->lock);
    free(bus->range);
    free(bus->doorbell);
    free(bus);
}

/* The index of the first range whose base lies above address. */
static size_t upper_bound(const struct bus *bus, uint64_t address)
{
    size_t low = 0;
    size_t high = bus->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (bus->range[middle].base <= address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static int insert(struct bus *bus, const struct bus_range *range)
{
    size_t at = upper_bound(bus, range->base);
    if (at > 0 && range->base - bus->range[at - 1].base < bus->range[at - 1].size) {
        return -EEXIST;
    }
    if (at < bus->count && bus->range[at].base - range->base < range->size) {
        return -EEXIST;
    }
    struct bus_range *grown = realloc(bus->range, (bus->count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return -ENOMEM;
    }
    bus->range = grown;
    memmove(&grown[at + 1], &grown[at], (bus->count - at) * sizeof(*grown));
    grown[at] = *range;
    bus->count++;
    return 0;
}

int bus_add(struct bus *bus, const struct bus_range *range)
{
    if (range->size == 0 || range->size - 1 > UINT64_MAX - range->base) {
        return -EINVAL;
    }
    (void)pthread_rwlock_wrlock(&bus->lock);
    int r = insert(bus, range);
    (void)pthread_rwlock_unlock(&bus->lock);
    return r;
}

void bus_remove(struct bus *bus, uint64_t base)
{
    (void)pthread_rwlock_wrlock(&bus->lock);
    size_t at = upper_bound(bus, base);
    if (at > 0 && bus->range[at - 1].base == base) {
        bus->count--;
        memmove(&bus->range[at - 1], &bus->range[at],
                (bus->count - (at - 1)) * sizeof(*bus->range));
    }
    (void)pthread_rwlock_unlock(&bus->lock);
}

int bus_add_doorbell(struct bus *bus, uint64_t address, uint32_t size, uint64_t value, int fd)
{
    struct doorbell bell = {.address = address, .size = size, .value = value, .fd = fd};
    (void)pthread_rwlock_wrlock(&bus->lock);
    struct doorbell *grown = realloc(bus->doorbell, (bus->doorbells + 1) * sizeof(*grown));
    int r = grown == NULL ? -ENOMEM : 0;
    if (r == 0) {
        bus->doorbell = grown;
        r = bus->engine == NULL ? -EOPNOTSUPP
                                : bus->engine->ops->doorbell(bus->engine, bus->port, address, size,
                                                             value, fd, true);
        bell.in_engine = r == 0;
        r = r == -EOPNOTSUPP ? 0 : r;
    }
    if (r == 0) {
        bus->doorbell[bus->doorbells++] = bell;
        bus->own_doorbells += bell.in_engine ? 0 : 1;
    }
    (void)pthread_rwlock_unlock(&bus->lock);
    return r;
}

void bus_remove_doorbell(struct bus *bus, uint64_t address, uint32_t size, uint64_t value, int fd)
{
    (void)pthread_rwlock_wrlock(&bus->lock);
    for (size_t i = 0; i < bus->doorbells; i++) {
        struct doorbell *bell = &bus->doorbell[i];
        if (bell->address != address || bell->size != size || bell->value != value ||
            bell->fd != fd) {
            continue;
        }
        if (bell->in_engine) {
            (void)bus->engine->ops->doorbell(bus->engine, bus->port, address, size, value, fd,
                                             false);
        } else {
            bus->own_doorbells--;
        }
        *bell = bus->doorbell[--bus->doorbells];
        break;
    }
    (void)pthread_rwlock_unlock(&bus->lock);
}

/* A copy: the range may be gone when the device is called, the device itself is not. */
static bool lookup(struct bus *bus, uint64_t address, unsigned size, struct bus_range *ret)
{
    bool found = false;
    (void)pthread_rwlock_rdlock(&bus->lock);
    size_t at = upper_bound(bus, address);
    if (at > 0) {
        const struct bus_range *range = &bus->range[at - 1];
        uint64_t offset = address - range->base;
        if (offset < range->size && size <= range->size - offset) {
            *ret = *range;
            found = true;
        }
    }
    (void)pthread_rwlock_unlock(&bus->lock);
    if (!found) {
        (void)atomic_fetch_add_explicit(&bus->misses, 1, memory_order_relaxed);
    }
    return found;
}

static uint64_t mask_of(unsigned size)
{
    return size >= 8 ? UINT64_MAX : (1ULL << (8 * size)) - 1;
}

uint64_t bus_read(struct bus *bus, uint64_t address, unsigned size)
{
    struct bus_range range;
    if (!lookup(bus, address, size, &range)) {
        return mask_of(size);
    }
    if (range.lock != NULL) {
        (void)pthread_mutex_lock(range.lock);
    }
    uint64_t value = range.ops->read(range.device, address - range.base, size);
    if (range.lock != NULL) {
        (void)pthread_mutex_unlock(range.lock);
    }
    return value & mask_of(size);
}

static bool ring(struct bus *bus, uint64_t address, unsigned size, uint64_t value)
{
    bool rung = false;
    (void)pthread_rwlock_rdlock(&bus->lock);
    for (size_t i = 0; !rung && i < bus->doorbells; i++) {
        const struct doorbell *bell = &bus->doorbell[i];
        if (bell->address == address &&
            (bell->size == 0 || (bell->size == size && bell->value == value))) {
            uint64_t one = 1;
            rung = write(bell->fd, &one, sizeof(one)) == (ssize_t)sizeof(one) || errno == EAGAIN;
        }
    }
    (void)pthread_rwlock_unlock(&bus->lock);
    return rung;
}

void bus_write(struct bus *bus, uint64_t address, unsigned size, uint64_t value)
{
    struct bus_range range;
    value &= mask_of(size);
    /* Read without the lock: a doorbell that comes at this moment may miss this write as well as
     * one that came a moment later. */
    if (bus->own_doorbells > 0 && ring(bus, address, size, value)) {
        return;
    }
    if (!lookup(bus, address, size, &range)) {
        return;
    }
    if (range.lock != NULL) {
        (void)pthread_mutex_lock(range.lock);
    }
    range.ops->write(range.device, address - range.base, size, value);
    if (range.lock != NULL) {
        (void)pthread_mutex_unlock(range.lock);
    }
}

uint64_t bus_misses(const struct bus *bus)
{
    return atomic_load(&bus->misses);
}
