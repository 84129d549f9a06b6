/*
 * The panic port (QEMU's docs/specs/pvpanic): reading says which events the host understands,
 * writing tells one.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/macros.h"
#include "vmm/bus.h"
#include "vmm/chip/board.h"
#include "vmm/device.h"

#define EVENT_PANICKED 1u
#define EVENT_CRASH_LOADED 2u /* the guest will look into it itself, by a second kernel */
#define EVENTS (EVENT_PANICKED | EVENT_CRASH_LOADED)

struct pvpanic {
    struct device device;
    struct board *board;
    uint16_t port;
};

static uint64_t pvpanic_read(void *data, uint64_t offset, unsigned size)
{
    (void)data;
    (void)offset;
    (void)size;
    return EVENTS;
}

static void pvpanic_write(void *data, uint64_t offset, unsigned size, uint64_t value)
{
    struct pvpanic *chip = data;
    (void)offset;
    (void)size;
    if ((value & ~(uint64_t)EVENTS) != 0) {
        device_guest_error(&chip->device, "event 0x%llx is not known", (unsigned long long)value);
    }
    if ((value & EVENT_PANICKED) != 0) {
        chip->board->end(chip->board, BOARD_PANIC, (uint32_t)value);
    }
}

static const struct bus_ops pvpanic_bus_ops = {pvpanic_read, pvpanic_write};

static void pvpanic_reset(struct device *device)
{
    (void)device;
}

static void pvpanic_free(struct device *device)
{
    struct pvpanic *chip = CONTAINER_OF(device, struct pvpanic, device);
    bus_remove(chip->board->ports, chip->port);
    device_done(device);
    free(chip);
}

static const struct device_ops pvpanic_ops = {.reset = pvpanic_reset, .free = pvpanic_free};

int pvpanic_new(struct board *board, uint16_t port, struct device **ret, struct err *err)
{
    struct pvpanic *chip = calloc(1, sizeof(*chip));
    if (chip == NULL) {
        return err_set(err, ENOMEM, "make the panic port");
    }
    device_init(&chip->device, &pvpanic_ops, NULL, "pvpanic");
    AUTO(device_freep) struct device *device = &chip->device;
    chip->board = board;
    chip->port = port;
    struct bus_range range = {port, 1, &pvpanic_bus_ops, chip, &device->lock};
    int r = bus_add(board->ports, &range);
    if (r < 0) {
        return err_set(err, -r, "make the panic port");
    }
    *ret = TAKE_PTR(device);
    return 0;
}
