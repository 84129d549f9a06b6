/*
 * The debug exit port: whatever is written ends the machine with that as its code. Tests and
 * unikernels end this way.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/macros.h"
#include "vmm/bus.h"
#include "vmm/chip/board.h"
#include "vmm/device.h"

struct debug_exit {
    struct device device;
    struct board *board;
    uint16_t port;
};

static uint64_t debug_exit_read(void *data, uint64_t offset, unsigned size)
{
    (void)data;
    (void)offset;
    (void)size;
    return 0;
}

static void debug_exit_write(void *data, uint64_t offset, unsigned size, uint64_t value)
{
    struct debug_exit *chip = data;
    (void)offset;
    (void)size;
    chip->board->end(chip->board, BOARD_DEBUG_EXIT, (uint32_t)value);
}

static const struct bus_ops debug_exit_bus_ops = {debug_exit_read, debug_exit_write};

static void debug_exit_reset(struct device *device)
{
    (void)device;
}

static void debug_exit_free(struct device *device)
{
    struct debug_exit *chip = CONTAINER_OF(device, struct debug_exit, device);
    bus_remove(chip->board->ports, chip->port);
    device_done(device);
    free(chip);
}

static const struct device_ops debug_exit_ops = {.reset = debug_exit_reset,
                                                 .free = debug_exit_free};

int debug_exit_new(struct board *board, uint16_t port, struct device **ret, struct err *err)
{
    struct debug_exit *chip = calloc(1, sizeof(*chip));
    if (chip == NULL) {
        return err_set(err, ENOMEM, "make the debug exit port");
    }
    device_init(&chip->device, &debug_exit_ops, NULL, "debug-exit");
    AUTO(device_freep) struct device *device = &chip->device;
    chip->board = board;
    chip->port = port;
    /* Two accesses side by side in one string instruction must not both count: the first ends. */
    struct bus_range range = {port, 1, &debug_exit_bus_ops, chip, NULL};
    int r = bus_add(board->ports, &range);
    if (r < 0) {
        return err_set(err, -r, "make the debug exit port");
    }
    *ret = TAKE_PTR(device);
    return 0;
}
