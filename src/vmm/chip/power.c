/*
 * Sleep, reset, the power management timer and generic events; power.h says where each register is.
 */
#include "vmm/chip/power.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/macros.h"
#include "vmm/bus.h"
#include "vmm/chip/board.h"
#include "vmm/device.h"
#include "vmm/irq.h"

#define TIMER_HZ 3579545ULL
#define SLEEP_ENABLE 0x20u /* SLP_EN of the sleep control register */
#define SLEEP_TYPE(value) ((value) >> 2 & 7)

struct power {
    struct device device;
    struct board *board;
    struct irq irq;
    uint16_t port;
    uint64_t events_base;
    /* Saved */
    uint32_t pending;
    uint64_t timer_value; /* while saved: the host's clock is another after a restore */
    /* Not saved */
    uint64_t timer_offset; /* added to the host's clock, in ticks */
};

static uint64_t ticks_of_host(void)
{
    uint64_t ns = (uint64_t)clock_monotonic_ns();
    return ns / NS_PER_SEC * TIMER_HZ + ns % NS_PER_SEC * TIMER_HZ / NS_PER_SEC;
}

static uint64_t port_read(void *data, uint64_t offset, unsigned size)
{
    const struct power *power = data;
    (void)size;
    return offset == POWER_TIMER ? (uint32_t)(ticks_of_host() + power->timer_offset) : 0;
}

static void port_write(void *data, uint64_t offset, unsigned size, uint64_t value)
{
    struct power *power = data;
    (void)size;
    if (offset == POWER_RESET_REGISTER && value == POWER_RESET) {
        power->board->end(power->board, BOARD_RESET, 0);
    } else if (offset == POWER_SLEEP_CONTROL && (value & SLEEP_ENABLE) != 0) {
        if (SLEEP_TYPE(value) == POWER_SLEEP_TYPE_S5) {
            power->board->end(power->board, BOARD_POWER_OFF, 0);
        } else {
            device_guest_error(&power->device, "sleep state of type %llu is none",
                               (unsigned long long)SLEEP_TYPE(value));
        }
    }
}

static const struct bus_ops port_ops = {port_read, port_write};

static uint64_t events_read(void *data, uint64_t offset, unsigned size)
{
    struct power *power = data;
    if (offset != 0 || size != 4) {
        return 0;
    }
    uint32_t pending = power->pending;
    power->pending = 0;
    return pending;
}

static void events_write(void *data, uint64_t offset, unsigned size, uint64_t value)
{
    (void)data;
    (void)offset;
    (void)size;
    (void)value;
}

static const struct bus_ops events_ops = {events_read, events_write};

void power_event(struct device *device, uint32_t events)
{
    struct power *power = CONTAINER_OF(device, struct power, device);
    (void)pthread_mutex_lock(&device->lock);
    power->pending |= events;
    (void)pthread_mutex_unlock(&device->lock);
    irq_raise(&power->irq);
}

static void power_reset(struct device *device)
{
    CONTAINER_OF(device, struct power, device)->pending = 0;
}

static void power_free(struct device *device)
{
    struct power *power = CONTAINER_OF(device, struct power, device);
    bus_remove(power->board->ports, power->port);
    bus_remove(power->board->mmio, power->events_base);
    irq_done(&power->irq);
    device_done(device);
    free(power);
}

static void power_resume(struct device *device)
{
    const struct power *power = CONTAINER_OF(device, struct power, device);
    if (power->pending != 0) {
        irq_raise(&power->irq);
    }
}

static const struct device_ops power_ops = {
    .reset = power_reset,
    .resume = power_resume,
    .free = power_free,
};

static int power_prepare(void *object, struct err *err)
{
    (void)err;
    struct power *power = object;
    power->timer_value = power->timer_offset + ticks_of_host();
    return 0;
}

static int power_check(void *object, struct err *err)
{
    (void)err;
    struct power *power = object;
    power->timer_offset = power->timer_value - ticks_of_host();
    return 0;
}

static const struct state_table power_state = {
    .name = "power",
    .version = 1,
    .oldest = 1,
    .prepare = power_prepare,
    .check = power_check,
    .fields =
        (const struct state_field[]){
            STATE(U32, struct power, pending),
            STATE(U64, struct power, timer_value),
            STATE_DONE,
        },
};

int power_new(struct board *board, uint16_t port, uint64_t events, uint32_t gsi,
              struct device **ret, struct err *err)
{
    struct power *power = calloc(1, sizeof(*power));
    if (power == NULL) {
        return err_set(err, ENOMEM, "make the power chip");
    }
    device_init(&power->device, &power_ops, &power_state, "power");
    AUTO(device_freep) struct device *device = &power->device;
    power->board = board;
    power->port = port;
    power->events_base = events;
    power->irq = IRQ_NONE;
    int r = irq_init_line(&power->irq, board->engine, gsi, err);
    struct bus_range ports = {port, POWER_PORTS, &port_ops, power, &device->lock};
    struct bus_range selector = {events, 4, &events_ops, power, &device->lock};
    r = r < 0 ? r : bus_add(board->ports, &ports);
    r = r < 0 ? r : bus_add(board->mmio, &selector);
    if (r < 0) {
        return err_wrap(err, -r, "make the power chip");
    }
    *ret = TAKE_PTR(device);
    return 0;
}
