#include "vmm/device.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

/* A guest that errs in a loop must not fill the log. */
#define SAID_MAX 8

void device_init(struct device *device, const struct device_ops *ops,
                 const struct state_table *state, const char *instance)
{
    device->ops = ops;
    device->state = state;
    (void)snprintf(device->instance, sizeof(device->instance), "%s", instance);
    (void)pthread_mutex_init(&device->lock, NULL);
    device->next = NULL;
    device->guest_errors = 0;
}

void device_done(struct device *device)
{
    (void)pthread_mutex_destroy(&device->lock);
}

void device_guest_error(struct device *device, const char *fmt, ...)
{
    uint64_t before = device->guest_errors++;
    if (before >= SAID_MAX || !log_debug_enabled()) {
        return;
    }
    char text[160];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    log_debug("%s: guest error: %s", device->instance, text);
}
