#include "vmm/virtio/pci.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/pci/msix.h"
#include "vmm/pci/pci.h"
#include "vmm/virtio/virtio.h"

#define VENDOR 0x1af4      /* 4.1.2 */
#define DEVICE_BASE 0x1040 /* 4.1.2.1 */
#define NO_VECTOR 0xffffu

/* The region: each structure has pages of its own. */
#define REGION 0u
#define REGION_SIZE 0x8000u
enum {
    AT_COMMON = 0x0000,
    AT_ISR = 0x1000,
    AT_CONFIG = 0x2000,
    AT_NOTIFY = 0x3000,
    AT_TABLE = 0x4000,
    AT_PENDING = 0x5000,
    AT_END = 0x6000,
};
#define PART_SIZE 0x1000u
#define NOTIFY_MULTIPLIER 4u

/* Capabilities (4.1.4) */
enum {
    CAP_VENDOR = 0x09,
    CAP_MSIX = 0x11,
    CFG_COMMON = 1,
    CFG_NOTIFY = 2,
    CFG_ISR = 3,
    CFG_DEVICE = 4,
    CFG_PCI = 5,
};
#define CAP_SIZE 16u
#define CAP_BAR 4u
#define CAP_OFFSET 8u
#define CAP_LENGTH 12u
#define CAP_DATA 16u /* of CFG_PCI; of CFG_NOTIFY the multiplier */

/* Common configuration (4.1.4.3) */
enum {
    COMMON_FEATURE_SEL = 0,
    COMMON_FEATURE = 4,
    COMMON_DRIVER_SEL = 8,
    COMMON_DRIVER_FEATURE = 12,
    COMMON_CONFIG_VECTOR = 16,
    COMMON_QUEUES = 18,
    COMMON_STATUS = 20,
    COMMON_GENERATION = 21,
    COMMON_QUEUE_SEL = 22,
    COMMON_QUEUE_SIZE = 24,
    COMMON_QUEUE_VECTOR = 26,
    COMMON_QUEUE_ENABLE = 28,
    COMMON_QUEUE_NOTIFY_OFF = 30,
    COMMON_QUEUE_DESC = 32,
    COMMON_QUEUE_DRIVER = 40,
    COMMON_QUEUE_DEVICE = 48,
    COMMON_SIZE = 56,
};

struct virtio_pci {
    struct device device;
    struct pci_function function;
    struct virtio *virtio;
    struct msix msix;
    unsigned msix_cap, window_cap; /* where in the configuration */
    uint32_t feature_sel, driver_sel;
    uint16_t queue_sel, config_vector;
    uint16_t queue_vector[VIRTIO_QUEUES_MAX];
};

static int check_pci(void *object, struct err *err);

static const struct state_field pci_fields[] = {
    STATE_OBJECTS(struct virtio_pci, function, 1, &pci_function_state_table),
    STATE_OBJECTS(struct virtio_pci, msix, 1, &msix_state_table),
    STATE(U32, struct virtio_pci, feature_sel),
    STATE(U32, struct virtio_pci, driver_sel),
    STATE(U16, struct virtio_pci, queue_sel),
    STATE(U16, struct virtio_pci, config_vector),
    STATE_ARRAY(U16, struct virtio_pci, queue_vector),
    STATE_DONE,
};

static const struct state_table virtio_pci_state_table = {
    .name = "virtio-pci",
    .version = 1,
    .oldest = 1,
    .fields = pci_fields,
    .check = check_pci,
};

static bool is_vector(const struct virtio_pci *p, uint16_t vector)
{
    return vector == NO_VECTOR || vector < p->msix.count;
}

static int check_pci(void *object, struct err *err)
{
    const struct virtio_pci *p = object;
    bool good = is_vector(p, p->config_vector);
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        good = good && is_vector(p, p->queue_vector[i]);
    }
    uint16_t control = load_le16(p->function.config + p->msix_cap + 2);
    good = good && p->msix.enabled == ((control & MSIX_CONTROL_ENABLE) != 0) &&
           p->msix.all_masked == ((control & MSIX_CONTROL_MASK) != 0);
    return good ? 0 : err_say(err, EINVAL, "vectors that are not there");
}

static struct virtq *selected(struct virtio_pci *p)
{
    return p->queue_sel < p->virtio->queue_count ? &p->virtio->queue[p->queue_sel] : NULL;
}

/* All of the structure as bytes: reading it changes nothing. */
static void fill_common(struct virtio_pci *p, uint8_t *raw)
{
    const struct virtio *v = p->virtio;
    const struct virtq *q = selected(p);
    store_le32(raw + COMMON_FEATURE_SEL, p->feature_sel);
    store_le32(raw + COMMON_FEATURE,
               p->feature_sel > 1 ? 0 : (uint32_t)(virtio_features(v) >> (32 * p->feature_sel)));
    store_le32(raw + COMMON_DRIVER_SEL, p->driver_sel);
    store_le32(raw + COMMON_DRIVER_FEATURE,
               p->driver_sel > 1 ? 0 : (uint32_t)(v->acked >> (32 * p->driver_sel)));
    store_le16(raw + COMMON_CONFIG_VECTOR, p->config_vector);
    store_le16(raw + COMMON_QUEUES, (uint16_t)v->queue_count);
    raw[COMMON_STATUS] = v->status;
    raw[COMMON_GENERATION] = (uint8_t)v->config_generation;
    store_le16(raw + COMMON_QUEUE_SEL, p->queue_sel);
    if (q == NULL) {
        store_le16(raw + COMMON_QUEUE_VECTOR, NO_VECTOR);
        return; /* size 0: there is no such queue */
    }
    store_le16(raw + COMMON_QUEUE_SIZE, q->size);
    store_le16(raw + COMMON_QUEUE_VECTOR, p->queue_vector[p->queue_sel]);
    store_le16(raw + COMMON_QUEUE_ENABLE, q->ready);
    store_le16(raw + COMMON_QUEUE_NOTIFY_OFF, p->queue_sel);
    store_le64(raw + COMMON_QUEUE_DESC, q->desc);
    store_le64(raw + COMMON_QUEUE_DRIVER, q->driver);
    store_le64(raw + COMMON_QUEUE_DEVICE, q->device);
}

static uint64_t read_common(struct virtio_pci *p, unsigned offset)
{
    uint8_t raw[COMMON_SIZE + 8] = {0};
    if (offset >= COMMON_SIZE) {
        return 0;
    }
    fill_common(p, raw);
    return load_le64(raw + offset);
}

static void guest_error(struct virtio_pci *p, const char *what, unsigned offset, unsigned size)
{
    device_guest_error(&p->virtio->device, "%s: %u bytes at 0x%x", what, size, offset);
}

static uint16_t take_vector(const struct virtio_pci *p, uint64_t value)
{
    return value < p->msix.count ? (uint16_t)value : NO_VECTOR; /* 4.1.5.1.2.1 */
}

static void write_driver_feature(struct virtio_pci *p, uint32_t value)
{
    uint64_t acked = p->virtio->acked;
    if (p->driver_sel == 0) {
        virtio_set_features(p->virtio, (acked & ~(uint64_t)UINT32_MAX) | value);
    } else if (p->driver_sel == 1) {
        virtio_set_features(p->virtio, (acked & UINT32_MAX) | (uint64_t)value << 32);
    } else if (value != 0) {
        device_guest_error(&p->virtio->device, "features above bit 63");
    }
}

/* Addresses: whole, or in halves (4.1.3.1). false: no such field, or not in that size. */
static bool write_address(struct virtio_pci *p, struct virtq *q, unsigned offset, unsigned size,
                          uint64_t value)
{
    uint64_t *const field[] = {&q->desc, &q->driver, &q->device};
    if (offset < COMMON_QUEUE_DESC || offset >= COMMON_SIZE ||
        (size != 4 && (size != 8 || offset % 8 != 0)) || offset % 4 != 0) {
        return false;
    }
    uint64_t *address = field[(offset - COMMON_QUEUE_DESC) / 8];
    if (q->ready) {
        guest_error(p, "an address of an enabled queue", offset, size);
    } else if (size == 8) {
        *address = value;
    } else if (offset % 8 == 0) {
        *address = (*address & ~(uint64_t)UINT32_MAX) | (uint32_t)value;
    } else {
        *address = (*address & UINT32_MAX) | value << 32;
    }
    return true;
}

static bool write_queue(struct virtio_pci *p, unsigned offset, unsigned size, uint64_t value)
{
    struct virtq *q = selected(p);
    if (q == NULL || p->virtio->resetting) {
        return false;
    }
    if (size == 2 && offset == COMMON_QUEUE_SIZE && !q->ready) {
        q->size = value <= q->size_max ? (uint16_t)value : 0; /* 0 cannot be enabled */
        return true;
    }
    if (size == 2 && offset == COMMON_QUEUE_VECTOR) {
        p->queue_vector[p->queue_sel] = take_vector(p, value);
        return true;
    }
    if (size == 2 && offset == COMMON_QUEUE_ENABLE && value == 1) {
        virtio_queue_set_ready(p->virtio, p->queue_sel, true);
        return true;
    }
    return write_address(p, q, offset, size, value);
}

static void write_common(struct virtio_pci *p, unsigned offset, unsigned size, uint64_t value)
{
    if (size == 4 && offset == COMMON_FEATURE_SEL) {
        p->feature_sel = (uint32_t)value;
    } else if (size == 4 && offset == COMMON_DRIVER_SEL) {
        p->driver_sel = (uint32_t)value;
    } else if (size == 4 && offset == COMMON_DRIVER_FEATURE) {
        write_driver_feature(p, (uint32_t)value);
    } else if (size == 2 && offset == COMMON_CONFIG_VECTOR) {
        p->config_vector = take_vector(p, value);
    } else if (size == 1 && offset == COMMON_STATUS) {
        virtio_set_status(p->virtio, (uint8_t)value);
    } else if (size == 2 && offset == COMMON_QUEUE_SEL) {
        p->queue_sel = (uint16_t)value;
    } else if (!write_queue(p, offset, size, value)) {
        guest_error(p, "common configuration written", offset, size);
    }
}

static uint64_t region_read(void *device, uint64_t offset, unsigned size)
{
    struct virtio_pci *p = device;
    uint8_t raw[8] = {0};
    unsigned at = (unsigned)(offset % PART_SIZE);
    if (offset >= AT_END || size > PART_SIZE - at) {
        return 0;
    }
    switch (offset - at) {
    case AT_COMMON:
        return read_common(p, at);
    case AT_ISR: /* reading acknowledges (4.1.4.5) */
        return at == 0 ? atomic_exchange(&p->virtio->isr, 0) : 0;
    case AT_CONFIG:
        virtio_config_access(p->virtio, false, at, raw, size);
        return load_le64(raw);
    case AT_TABLE:
        return msix_table_read(&p->msix, at, size);
    case AT_PENDING:
        return msix_pending_read(&p->msix, at, size);
    default: /* notifications are written only */
        return 0;
    }
}

static void region_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct virtio_pci *p = device;
    uint8_t raw[8];
    store_le64(raw, value);
    unsigned at = (unsigned)(offset % PART_SIZE);
    if (offset >= AT_END || size > PART_SIZE - at) {
        guest_error(p, "region written", (unsigned)offset, size);
        return;
    }
    switch (offset - at) {
    case AT_COMMON:
        write_common(p, at, size, value);
        break;
    case AT_CONFIG:
        virtio_config_access(p->virtio, true, at, raw, size);
        break;
    case AT_NOTIFY: /* the address says which queue */
        virtio_kick(p->virtio, at / NOTIFY_MULTIPLIER);
        break;
    case AT_TABLE:
        msix_table_write(&p->msix, at, size, value);
        break;
    default:
        guest_error(p, "region written", (unsigned)offset, size);
        break;
    }
}

static const struct bus_ops region_ops = {.read = region_read, .write = region_write};

/* Doorbells move with the region. */
static void on_mapped(struct pci_function *f, unsigned bar, uint64_t base, bool on)
{
    struct virtio_pci *p = CONTAINER_OF(f, struct virtio_pci, function);
    struct bus *bus = pci_mmio_bus(f->pci);
    (void)bar;
    for (unsigned i = 0; i < p->virtio->queue_count; i++) {
        uint64_t address = base + AT_NOTIFY + (uint64_t)i * NOTIFY_MULTIPLIER;
        int fd = p->virtio->doorbell[i].fd;
        if (!on) {
            bus_remove_doorbell(bus, address, 0, 0, fd);
        } else if (bus_add_doorbell(bus, address, 0, 0, fd) < 0) {
            /* The write comes to region_write() then: slower, not wrong. */
            guest_error(p, "no room for a doorbell", i, 0);
        }
    }
}

/* The window through which firmware reaches the region (4.1.4.9): bar, offset and length in the
 * capability; reading and writing its data. false: it points nowhere. */
static bool window(const struct virtio_pci *p, unsigned offset, unsigned size, uint32_t *ret_at,
                   uint32_t *ret_len)
{
    const uint8_t *cap = p->function.config + p->window_cap;
    unsigned data = p->window_cap + CAP_DATA;
    *ret_at = load_le32(cap + CAP_OFFSET);
    *ret_len = load_le32(cap + CAP_LENGTH);
    return offset < data + 4 && offset + size > data && cap[CAP_BAR] == REGION &&
           (*ret_len == 1 || *ret_len == 2 || *ret_len == 4) && *ret_at % *ret_len == 0 &&
           *ret_at < REGION_SIZE;
}

static void on_reading(struct pci_function *f, unsigned offset, unsigned size)
{
    struct virtio_pci *p = CONTAINER_OF(f, struct virtio_pci, function);
    uint32_t at = 0;
    uint32_t len = 0;
    if (window(p, offset, size, &at, &len)) {
        store_le32(f->config + p->window_cap + CAP_DATA, (uint32_t)region_read(p, at, len));
    }
}

static void on_written(struct pci_function *f, unsigned offset, unsigned size)
{
    struct virtio_pci *p = CONTAINER_OF(f, struct virtio_pci, function);
    uint32_t at = 0;
    uint32_t len = 0;
    if (window(p, offset, size, &at, &len)) {
        uint32_t value = load_le32(f->config + p->window_cap + CAP_DATA);
        region_write(p, at, len, len == 4 ? value : value & ((1u << 8 * len) - 1));
    }
    if (offset < p->msix_cap + 4 && offset + size > p->msix_cap + 2) {
        msix_set_control(&p->msix, load_le16(f->config + p->msix_cap + 2));
    }
}

static const struct pci_function_ops function_ops = {
    .mapped = on_mapped,
    .reading = on_reading,
    .written = on_written,
};

static void pci_interrupt(void *transport, int queue)
{
    struct virtio_pci *p = transport;
    msix_notify(&p->msix, queue < 0 ? p->config_vector : p->queue_vector[queue]);
}

/* The virtio side of it; a reset by the driver leaves the function as it is. */
static void pci_transport_reset(void *transport)
{
    struct virtio_pci *p = transport;
    p->feature_sel = 0;
    p->driver_sel = 0;
    p->queue_sel = 0;
    p->config_vector = NO_VECTOR;
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        p->queue_vector[i] = NO_VECTOR;
    }
}

static const struct virtio_transport_ops transport_ops = {
    .interrupt = pci_interrupt,
    .reset = pci_transport_reset,
};

static void on_reset(struct device *device)
{
    struct virtio_pci *p = CONTAINER_OF(device, struct virtio_pci, device);
    (void)pthread_mutex_lock(p->function.lock);
    pci_function_reset(&p->function);
    msix_reset(&p->msix);
    pci_transport_reset(p);
    (void)pthread_mutex_unlock(p->function.lock);
}

static void on_resume(struct device *device)
{
    struct virtio_pci *p = CONTAINER_OF(device, struct virtio_pci, device);
    (void)pthread_mutex_lock(p->function.lock);
    pci_function_resume(&p->function);
    msix_resume(&p->msix);
    (void)pthread_mutex_unlock(p->function.lock);
}

static void on_free(struct device *device)
{
    virtio_pci_free(CONTAINER_OF(device, struct virtio_pci, device));
}

static const struct device_ops device_ops = {
    .reset = on_reset,
    .resume = on_resume,
    .free = on_free,
};

static uint32_t class_of(enum virtio_type type)
{
    switch (type) {
    case VIRTIO_NET:
        return 0x020000;
    case VIRTIO_BLOCK:
    case VIRTIO_FS:
        return 0x018000;
    case VIRTIO_CONSOLE:
        return 0x078000;
    case VIRTIO_BALLOON:
        return 0x050000;
    case VIRTIO_ENTROPY:
    case VIRTIO_VSOCK:
        break;
    }
    return 0xff0000;
}

static unsigned add_capability(struct virtio_pci *p, uint8_t type, uint32_t offset, uint32_t length,
                               unsigned extra)
{
    unsigned at = pci_function_add_capability(&p->function, CAP_VENDOR, CAP_SIZE + extra);
    uint8_t *cap = p->function.config + at;
    cap[2] = (uint8_t)(CAP_SIZE + extra);
    cap[3] = type;
    cap[CAP_BAR] = REGION;
    store_le32(cap + CAP_OFFSET, offset);
    store_le32(cap + CAP_LENGTH, length);
    return at;
}

static void add_capabilities(struct virtio_pci *p)
{
    struct pci_function *f = &p->function;
    uint32_t queues = p->virtio->queue_count;
    (void)add_capability(p, CFG_COMMON, AT_COMMON, COMMON_SIZE, 0);
    unsigned notify = add_capability(p, CFG_NOTIFY, AT_NOTIFY, queues * NOTIFY_MULTIPLIER, 4);
    store_le32(f->config + notify + CAP_DATA, NOTIFY_MULTIPLIER);
    (void)add_capability(p, CFG_ISR, AT_ISR, 1, 0);
    if (p->virtio->ops->config_size > 0) {
        (void)add_capability(p, CFG_DEVICE, AT_CONFIG, p->virtio->ops->config_size, 0);
    }
    p->window_cap = add_capability(p, CFG_PCI, 0, 0, 4);
    f->mask[p->window_cap + CAP_BAR] = 0xff;
    memset(f->mask + p->window_cap + CAP_OFFSET, 0xff, 12);
    p->msix_cap = pci_function_add_capability(f, CAP_MSIX, 12);
    uint8_t *msix = f->config + p->msix_cap;
    store_le16(msix + 2, (uint16_t)(p->msix.count - 1));
    store_le32(msix + 4, AT_TABLE | REGION);
    store_le32(msix + 8, AT_PENDING | REGION);
    store_le16(f->mask + p->msix_cap + 2, MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASK);
}

int virtio_pci_new(const char *instance, struct virtio *v, struct pci *bus,
                   struct cpu_engine *engine, struct virtio_pci **ret, struct err *err)
{
    struct pci_ids ids = {
        .vendor = VENDOR,
        .device = (uint16_t)(DEVICE_BASE + v->ops->type),
        .subsystem_vendor = VENDOR,
        .subsystem = (uint16_t)(DEVICE_BASE + v->ops->type),
        .revision = 1,
        .class_code = class_of(v->ops->type),
    };
    AUTO(virtio_pci_freep) struct virtio_pci *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return err_set(err, ENOMEM, "add '%s'", instance);
    }
    device_init(&p->device, &device_ops, &virtio_pci_state_table, instance);
    p->virtio = v;
    msix_init(&p->msix, engine, &v->device, v->queue_count + 1);
    pci_function_init(&p->function, &function_ops, &ids, &v->device.lock, &v->device);
    pci_function_set_bar(&p->function, REGION, REGION_SIZE, true, &region_ops, p);
    add_capabilities(p);
    pci_transport_reset(p);
    int r = pci_add(bus, &p->function, err);
    if (r < 0) {
        return err_wrap(err, -r, "add '%s'", instance);
    }
    v->transport_ops = &transport_ops;
    v->transport = p;
    *ret = TAKE_PTR(p);
    return 0;
}

void virtio_pci_free(struct virtio_pci *p)
{
    if (p == NULL) {
        return;
    }
    pci_remove(&p->function);
    msix_done(&p->msix);
    if (p->virtio->transport == p) {
        p->virtio->transport_ops = NULL;
        p->virtio->transport = NULL;
    }
    device_done(&p->device);
    free(p);
}

struct device *virtio_pci_device(struct virtio_pci *p)
{
    return &p->device;
}
