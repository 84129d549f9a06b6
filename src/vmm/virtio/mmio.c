#include "vmm/virtio/mmio.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/bus.h"
#include "vmm/virtio/virtio.h"

#define MAGIC 0x74726976u  /* "virt" */
#define VENDOR 0x4f4c5349u /* "ISLO": any value */
#define VERSION 2u
#define CONFIG 0x100u

/* Registers (4.2.2) */
enum {
    REG_MAGIC = 0x00,
    REG_VERSION = 0x04,
    REG_DEVICE = 0x08,
    REG_VENDOR = 0x0c,
    REG_FEATURES = 0x10,
    REG_FEATURES_SEL = 0x14,
    REG_DRIVER_FEATURES = 0x20,
    REG_DRIVER_FEATURES_SEL = 0x24,
    REG_QUEUE_SEL = 0x30,
    REG_QUEUE_MAX = 0x34,
    REG_QUEUE_SIZE = 0x38,
    REG_QUEUE_READY = 0x44,
    REG_QUEUE_NOTIFY = 0x50,
    REG_INTERRUPT_STATUS = 0x60,
    REG_INTERRUPT_ACK = 0x64,
    REG_STATUS = 0x70,
    REG_QUEUE_DESC = 0x80,
    REG_QUEUE_DRIVER = 0x90,
    REG_QUEUE_DEVICE = 0xa0,
    REG_SHM_SEL = 0xac,
    REG_SHM_LENGTH = 0xb0,
    REG_SHM_BASE = 0xb8,
    REG_CONFIG_GENERATION = 0xfc,
};

struct virtio_mmio {
    struct device device;
    struct virtio *virtio;
    struct bus *bus;
    uint64_t base;
    struct irq irq;
    uint32_t doorbells; /* on the bus */
    bool on_bus;
    /* Registers that only select */
    uint32_t features_sel, driver_features_sel, queue_sel;
};

static const struct state_field mmio_fields[] = {
    STATE(U32, struct virtio_mmio, features_sel),
    STATE(U32, struct virtio_mmio, driver_features_sel),
    STATE(U32, struct virtio_mmio, queue_sel),
    STATE_DONE,
};

static const struct state_table mmio_state_table = {
    .name = "virtio-mmio",
    .version = 1,
    .oldest = 1,
    .fields = mmio_fields,
};

/* NULL: the driver selected a queue that is not there. */
static struct virtq *selected(struct virtio_mmio *m)
{
    return m->queue_sel < m->virtio->queue_count ? &m->virtio->queue[m->queue_sel] : NULL;
}

static uint32_t read_register(struct virtio_mmio *m, uint64_t offset)
{
    struct virtio *v = m->virtio;
    const struct virtq *q = selected(m);
    switch (offset) {
    case REG_MAGIC:
        return MAGIC;
    case REG_VERSION:
        return VERSION;
    case REG_DEVICE:
        return v->ops->type;
    case REG_VENDOR:
        return VENDOR;
    case REG_FEATURES:
        return m->features_sel > 1 ? 0 : (uint32_t)(virtio_features(v) >> (32 * m->features_sel));
    case REG_QUEUE_MAX:
        return q == NULL ? 0 : q->size_max;
    case REG_QUEUE_READY:
        return q != NULL && q->ready;
    case REG_INTERRUPT_STATUS:
        return v->isr;
    case REG_STATUS:
        return v->status;
    case REG_SHM_LENGTH: /* 4.2.2: all ones where there is no such region */
    case REG_SHM_LENGTH + 4:
    case REG_SHM_BASE:
    case REG_SHM_BASE + 4:
        return UINT32_MAX;
    case REG_CONFIG_GENERATION:
        return v->config_generation;
    default:
        device_guest_error(&v->device, "register 0x%x read", (unsigned)offset);
        return 0;
    }
}

static void set_half(uint64_t *address, bool high, uint32_t value)
{
    *address = high ? (*address & UINT32_MAX) | (uint64_t)value << 32
                    : (*address & ~(uint64_t)UINT32_MAX) | value;
}

/* false: no such register. */
static bool write_queue(struct virtio_mmio *m, uint64_t offset, uint32_t value)
{
    struct virtq *q = selected(m);
    bool known = offset == REG_QUEUE_SIZE || offset == REG_QUEUE_DESC ||
                 offset == REG_QUEUE_DESC + 4 || offset == REG_QUEUE_DRIVER ||
                 offset == REG_QUEUE_DRIVER + 4 || offset == REG_QUEUE_DEVICE ||
                 offset == REG_QUEUE_DEVICE + 4;
    if (!known) {
        return false;
    }
    if (q == NULL || q->ready || m->virtio->resetting) {
        device_guest_error(&m->virtio->device, "queue %u changed while enabled", m->queue_sel);
        return true;
    }
    switch (offset & ~(uint64_t)4) {
    case REG_QUEUE_SIZE & ~4:
        q->size = value <= q->size_max ? (uint16_t)value : 0; /* 0 cannot be enabled */
        break;
    case REG_QUEUE_DESC:
        set_half(&q->desc, (offset & 4) != 0, value);
        break;
    case REG_QUEUE_DRIVER:
        set_half(&q->driver, (offset & 4) != 0, value);
        break;
    default:
        set_half(&q->device, (offset & 4) != 0, value);
        break;
    }
    return true;
}

static void write_features(struct virtio_mmio *m, uint32_t value)
{
    struct virtio *v = m->virtio;
    uint64_t features = v->acked;
    if (m->driver_features_sel <= 1) {
        set_half(&features, m->driver_features_sel == 1, value);
        virtio_set_features(v, features);
    } else if (value != 0) {
        device_guest_error(&v->device, "features above bit 63");
    }
}

static void write_register(struct virtio_mmio *m, uint64_t offset, uint32_t value)
{
    struct virtio *v = m->virtio;
    switch (offset) {
    case REG_FEATURES_SEL:
        m->features_sel = value;
        return;
    case REG_DRIVER_FEATURES:
        write_features(m, value);
        return;
    case REG_DRIVER_FEATURES_SEL:
        m->driver_features_sel = value;
        return;
    case REG_QUEUE_SEL:
        m->queue_sel = value;
        return;
    case REG_QUEUE_READY:
        virtio_queue_set_ready(v, m->queue_sel, (value & 1) != 0);
        return;
    case REG_QUEUE_NOTIFY:
        if (value >= v->queue_count) {
            device_guest_error(&v->device, "queue %u notified", value);
            return;
        }
        virtio_kick(v, value);
        return;
    case REG_INTERRUPT_ACK:
        (void)atomic_fetch_and(&v->isr, ~value);
        return;
    case REG_STATUS:
        virtio_set_status(v, (uint8_t)MIN(value, 0xffu));
        return;
    case REG_SHM_SEL: /* no region is there, whichever is selected */
        return;
    default:
        if (!write_queue(m, offset, value)) {
            device_guest_error(&v->device, "register 0x%x written", (unsigned)offset);
        }
        return;
    }
}

/* 4.2.2.2: registers are 32 bits wide and aligned; only the configuration space is not. */
static bool access_fits(struct virtio_mmio *m, uint64_t offset, unsigned size)
{
    if (offset >= CONFIG || (size == 4 && offset % 4 == 0)) {
        return true;
    }
    device_guest_error(&m->virtio->device, "%u bytes at register 0x%x", size, (unsigned)offset);
    return false;
}

static uint64_t mmio_read(void *device, uint64_t offset, unsigned size)
{
    struct virtio_mmio *m = device;
    uint8_t raw[8] = {0};
    if (!access_fits(m, offset, size)) {
        return 0;
    }
    if (offset < CONFIG) {
        return read_register(m, offset);
    }
    virtio_config_access(m->virtio, false, (uint32_t)(offset - CONFIG), raw, size);
    return load_le64(raw);
}

static void mmio_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct virtio_mmio *m = device;
    uint8_t raw[8];
    store_le64(raw, value);
    if (!access_fits(m, offset, size)) {
        return;
    }
    if (offset < CONFIG) {
        write_register(m, offset, (uint32_t)value);
        return;
    }
    virtio_config_access(m->virtio, true, (uint32_t)(offset - CONFIG), raw, size);
}

static const struct bus_ops mmio_bus_ops = {
    .read = mmio_read,
    .write = mmio_write,
};

static void mmio_interrupt(void *transport, int queue)
{
    const struct virtio_mmio *m = transport;
    (void)queue; /* the driver reads InterruptStatus */
    irq_raise(&m->irq);
}

static void mmio_reset(void *transport)
{
    struct virtio_mmio *m = transport;
    m->features_sel = 0;
    m->driver_features_sel = 0;
    m->queue_sel = 0;
}

static const struct virtio_transport_ops mmio_transport_ops = {
    .interrupt = mmio_interrupt,
    .reset = mmio_reset,
};

/* The device behind is reset by the machine itself. */
static void on_reset(struct device *device)
{
    mmio_reset(CONTAINER_OF(device, struct virtio_mmio, device));
}

static void on_free(struct device *device)
{
    virtio_mmio_free(CONTAINER_OF(device, struct virtio_mmio, device));
}

static const struct device_ops mmio_device_ops = {
    .reset = on_reset,
    .free = on_free,
};

static int connect(struct virtio_mmio *m)
{
    struct virtio *v = m->virtio;
    struct bus_range range = {
        .base = m->base,
        .size = VIRTIO_MMIO_SIZE,
        .ops = &mmio_bus_ops,
        .device = m,
        .lock = &v->device.lock,
    };
    int r = bus_add(m->bus, &range);
    if (r < 0) {
        return r;
    }
    m->on_bus = true;
    for (uint32_t i = 0; i < v->queue_count; i++) {
        r = bus_add_doorbell(m->bus, m->base + REG_QUEUE_NOTIFY, 4, i, v->doorbell[i].fd);
        if (r < 0) {
            return r;
        }
        m->doorbells = i + 1;
    }
    return 0;
}

int virtio_mmio_new(const char *instance, struct virtio *v, struct bus *bus, uint64_t base,
                    struct irq irq, struct virtio_mmio **ret, struct err *err)
{
    AUTO(virtio_mmio_freep) struct virtio_mmio *m = calloc(1, sizeof(*m));
    if (m == NULL) {
        return err_set(err, ENOMEM, "add '%s'", instance);
    }
    device_init(&m->device, &mmio_device_ops, &mmio_state_table, instance);
    m->virtio = v;
    m->bus = bus;
    m->base = base;
    m->irq = irq;
    int r = connect(m);
    if (r < 0) {
        return err_set(err, -r, "add '%s' at 0x%llx", instance, (unsigned long long)base);
    }
    v->transport_ops = &mmio_transport_ops;
    v->transport = m;
    *ret = TAKE_PTR(m);
    return 0;
}

void virtio_mmio_free(struct virtio_mmio *m)
{
    if (m == NULL) {
        return;
    }
    struct virtio *v = m->virtio;
    for (uint32_t i = 0; i < m->doorbells; i++) {
        bus_remove_doorbell(m->bus, m->base + REG_QUEUE_NOTIFY, 4, i, v->doorbell[i].fd);
    }
    if (m->on_bus) {
        bus_remove(m->bus, m->base);
    }
    if (v->transport == m) {
        v->transport_ops = NULL;
        v->transport = NULL;
    }
    device_done(&m->device);
    free(m);
}

struct device *virtio_mmio_device(struct virtio_mmio *m)
{
    return &m->device;
}
