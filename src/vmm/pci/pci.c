#include "vmm/pci/pci.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/macros.h"
#include "freestanding/byteorder.h"

#define ECAM_SIZE ((uint64_t)1 << 20)
#define ECAM_FUNCTION ((uint64_t)4096)
#define CONFIG_PORTS 8
#define CONFIG_ENABLE 0x80000000u
#define COMMAND_MASK 0x0406u /* memory, bus master, no INTx */
#define STATUS_CAPABILITIES 0x10
#define BAR_WIDE 4u /* 64 bits */
#define FIRST_CAPABILITY 0x40

struct pci {
    struct device device; /* its lock is that of the bus */
    struct pci_options options;
    struct pci_function *slot[PCI_SLOTS];
    uint64_t low_used; /* of the window, from its start */
    uint32_t address;  /* port 0xcf8 */
    bool on_mmio, on_ports;
    struct pci_function bridge;
    pthread_mutex_t bridge_lock;
};

static const struct state_field function_fields[] = {
    STATE_ARRAY(BYTES, struct pci_function, config),
    STATE_DONE,
};

static void set_mapped(struct pci_function *f, unsigned index, bool on, uint64_t base)
{
    struct pci_bar *bar = &f->bar[index];
    struct bus *bus = f->pci->options.mmio;
    if (!on) {
        if (f->ops->mapped != NULL) {
            f->ops->mapped(f, index, bar->base, false);
        }
        bus_remove(bus, bar->base);
        bar->mapped = false;
        return;
    }
    struct bus_range range = {
        .base = base,
        .size = bar->size,
        .ops = bar->ops,
        .device = bar->device,
        .lock = f->lock,
    };
    int r = bus_add(bus, &range);
    if (r < 0) {
        device_guest_error(f->device, "region %u moved to 0x%llx, which is taken", index,
                           (unsigned long long)base);
        return;
    }
    bar->mapped = true;
    bar->base = base;
    if (f->ops->mapped != NULL) {
        f->ops->mapped(f, index, base, true);
    }
}

static uint64_t bar_address(const struct pci_function *f, unsigned index)
{
    const uint8_t *at = f->config + PCI_BAR + 4 * index;
    uint64_t address = load_le32(at) & ~0xfu;
    return f->bar[index].wide ? address | (uint64_t)load_le32(at + 4) << 32 : address;
}

/* Puts regions where the configuration says. */
static void update_bars(struct pci_function *f)
{
    bool on = (f->config[PCI_COMMAND] & PCI_COMMAND_MEMORY) != 0;
    for (unsigned i = 0; f->pci != NULL && i < PCI_BARS; i++) {
        struct pci_bar *bar = &f->bar[i];
        uint64_t base = bar_address(f, i);
        if (bar->mapped && (!on || bar->base != base)) {
            set_mapped(f, i, false, 0);
        }
        if (bar->size != 0 && on && !bar->mapped) {
            set_mapped(f, i, true, base);
        }
    }
}

static void unmap_all(struct pci_function *f)
{
    for (unsigned i = 0; i < PCI_BARS; i++) {
        if (f->bar[i].mapped) {
            set_mapped(f, i, false, 0);
        }
    }
}

/* What was read may differ where the guest may write. Regions move when all functions were read:
 * one may now lie where another was. */
static int check_function(void *object, struct err *err)
{
    struct pci_function *f = object;
    for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++) {
        if (((f->config[i] ^ f->power_on[i]) & (uint8_t)~f->mask[i]) != 0) {
            return err_say(err, EINVAL, "byte 0x%x of the configuration of slot %u", i, f->slot);
        }
    }
    unmap_all(f);
    return 0;
}

const struct state_table pci_function_state_table = {
    .name = "pci-function",
    .version = 1,
    .oldest = 1,
    .fields = function_fields,
    .check = check_function,
};

static const struct state_field pci_fields[] = {
    STATE(U32, struct pci, address),
    STATE_OBJECTS(struct pci, bridge, 1, &pci_function_state_table),
    STATE_DONE,
};

static const struct state_table pci_state_table = {
    .name = "pci",
    .version = 1,
    .oldest = 1,
    .fields = pci_fields,
};

static uint32_t all_ones(unsigned size)
{
    return size >= 4 ? UINT32_MAX : (1u << 8 * size) - 1;
}

/* size 1, 2 or 4, aligned; offset below 4096. The bus's lock is held. */
static uint32_t config_read(struct pci *pci, unsigned slot, unsigned offset, unsigned size)
{
    struct pci_function *f = pci->slot[slot];
    uint8_t raw[4] = {0};
    if (f == NULL) {
        return all_ones(size);
    }
    if (offset >= PCI_CONFIG_SIZE) {
        return 0; /* no extended capabilities */
    }
    (void)pthread_mutex_lock(f->lock);
    if (f->ops->reading != NULL) {
        f->ops->reading(f, offset, size);
    }
    memcpy(raw, f->config + offset, size);
    (void)pthread_mutex_unlock(f->lock);
    return load_le32(raw);
}

static void config_write(struct pci *pci, unsigned slot, unsigned offset, unsigned size,
                         uint32_t value)
{
    struct pci_function *f = pci->slot[slot];
    if (f == NULL || offset >= PCI_CONFIG_SIZE) {
        return;
    }
    (void)pthread_mutex_lock(f->lock);
    for (unsigned i = 0; i < size; i++) {
        uint8_t mask = f->mask[offset + i];
        uint8_t byte = (uint8_t)(value >> (8 * i));
        f->config[offset + i] = (uint8_t)((f->config[offset + i] & ~mask) | (byte & mask));
    }
    if (offset < PCI_BAR + 4 * PCI_BARS) {
        update_bars(f);
    }
    if (f->ops->written != NULL) {
        f->ops->written(f, offset, size);
    }
    (void)pthread_mutex_unlock(f->lock);
}

static bool is_access(uint64_t offset, unsigned size)
{
    return (size == 1 || size == 2 || size == 4) && offset % size == 0;
}

static uint64_t ecam_read(void *device, uint64_t offset, unsigned size)
{
    struct pci *pci = device;
    unsigned function = (unsigned)(offset / ECAM_FUNCTION);
    if (!is_access(offset, size) || function % 8 != 0) {
        return UINT64_MAX;
    }
    return config_read(pci, function / 8, (unsigned)(offset % ECAM_FUNCTION), size);
}

static void ecam_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci *pci = device;
    unsigned function = (unsigned)(offset / ECAM_FUNCTION);
    if (is_access(offset, size) && function % 8 == 0) {
        config_write(pci, function / 8, (unsigned)(offset % ECAM_FUNCTION), size, (uint32_t)value);
    }
}

static const struct bus_ops ecam_ops = {.read = ecam_read, .write = ecam_write};

/* Does the address register (PCI 3.0, 3.2.2.3.2) name function 0 of a slot of ours? */
static bool selected(const struct pci *pci, uint64_t offset, unsigned *ret_slot,
                     unsigned *ret_register)
{
    uint32_t a = pci->address;
    *ret_slot = a >> 11 & 31;
    *ret_register = (a & 0xfc) | (unsigned)(offset & 3);
    return (a & CONFIG_ENABLE) != 0 && (a >> 16 & 0xff) == 0 && (a >> 8 & 7) == 0;
}

static uint64_t port_read(void *device, uint64_t offset, unsigned size)
{
    struct pci *pci = device;
    unsigned slot = 0;
    unsigned reg = 0;
    if (offset == 0 && size == 4) {
        return pci->address;
    }
    if (offset < 4 || !is_access(offset, size) || !selected(pci, offset, &slot, &reg)) {
        return UINT64_MAX;
    }
    return config_read(pci, slot, reg, size);
}

static void port_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci *pci = device;
    unsigned slot = 0;
    unsigned reg = 0;
    if (offset == 0 && size == 4) {
        pci->address = (uint32_t)value & (CONFIG_ENABLE | 0x00fffffcu);
    } else if (offset >= 4 && is_access(offset, size) && selected(pci, offset, &slot, &reg)) {
        config_write(pci, slot, reg, size, (uint32_t)value);
    }
}

static const struct bus_ops port_ops = {.read = port_read, .write = port_write};

static void on_reset(struct device *device)
{
    struct pci *pci = CONTAINER_OF(device, struct pci, device);
    pci->address = 0;
    (void)pthread_mutex_lock(&pci->bridge_lock);
    pci_function_reset(&pci->bridge);
    (void)pthread_mutex_unlock(&pci->bridge_lock);
}

static void on_free(struct device *device)
{
    pci_free(CONTAINER_OF(device, struct pci, device));
}

static const struct device_ops pci_ops = {.reset = on_reset, .free = on_free};

static const struct pci_function_ops bridge_ops = {.mapped = NULL};

static int connect(struct pci *pci)
{
    struct bus_range ecam = {
        .base = pci->options.ecam,
        .size = ECAM_SIZE,
        .ops = &ecam_ops,
        .device = pci,
        .lock = &pci->device.lock,
    };
    struct bus_range ports = {
        .base = pci->options.config_port,
        .size = CONFIG_PORTS,
        .ops = &port_ops,
        .device = pci,
        .lock = &pci->device.lock,
    };
    int r = bus_add(pci->options.mmio, &ecam);
    pci->on_mmio = r == 0;
    r = r < 0 ? r : bus_add(pci->options.ports, &ports);
    pci->on_ports = r == 0;
    return r;
}

int pci_new(const struct pci_options *options, struct pci **ret, struct err *err)
{
    static const struct pci_ids bridge = {
        .vendor = 0x1b36, .device = 0x0008, .class_code = 0x060000};
    AUTO(pci_freep) struct pci *pci = calloc(1, sizeof(*pci));
    if (pci == NULL) {
        return err_set(err, ENOMEM, "make the PCI bus");
    }
    device_init(&pci->device, &pci_ops, &pci_state_table, "pci");
    (void)pthread_mutex_init(&pci->bridge_lock, NULL);
    pci->options = *options;
    pci_function_init(&pci->bridge, &bridge_ops, &bridge, &pci->bridge_lock, &pci->device);
    int r = connect(pci);
    if (r < 0) {
        return err_set(err, -r, "make the PCI bus");
    }
    r = pci_add(pci, &pci->bridge, err);
    if (r < 0) {
        return r;
    }
    *ret = TAKE_PTR(pci);
    return 0;
}

void pci_free(struct pci *pci)
{
    if (pci == NULL) {
        return;
    }
    pci_remove(&pci->bridge);
    if (pci->on_mmio) {
        bus_remove(pci->options.mmio, pci->options.ecam);
    }
    if (pci->on_ports) {
        bus_remove(pci->options.ports, pci->options.config_port);
    }
    (void)pthread_mutex_destroy(&pci->bridge_lock);
    device_done(&pci->device);
    free(pci);
}

struct device *pci_device(struct pci *pci)
{
    return &pci->device;
}

struct bus *pci_mmio_bus(struct pci *pci)
{
    return pci->options.mmio;
}

void pci_function_init(struct pci_function *f, const struct pci_function_ops *ops,
                       const struct pci_ids *ids, pthread_mutex_t *lock, struct device *device)
{
    f->ops = ops;
    f->lock = lock;
    f->device = device;
    f->capabilities_end = FIRST_CAPABILITY;
    store_le16(f->config + PCI_VENDOR, ids->vendor);
    store_le16(f->config + PCI_DEVICE, ids->device);
    f->config[PCI_REVISION] = ids->revision;
    store_le16(f->config + PCI_CLASS, (uint16_t)ids->class_code);
    f->config[PCI_CLASS + 2] = (uint8_t)(ids->class_code >> 16);
    store_le16(f->config + PCI_SUBSYSTEM_VENDOR, ids->subsystem_vendor);
    store_le16(f->config + PCI_SUBSYSTEM, ids->subsystem);
    store_le16(f->mask + PCI_COMMAND, COMMAND_MASK);
}

void pci_function_set_bar(struct pci_function *f, unsigned bar, uint64_t size, bool wide,
                          const struct bus_ops *ops, void *device)
{
    assert(bar < PCI_BARS && size >= 16 && (size & (size - 1)) == 0 && size <= UINT32_MAX);
    f->bar[bar] = (struct pci_bar){.size = size, .wide = wide, .ops = ops, .device = device};
    uint8_t *mask = f->mask + PCI_BAR + 4 * bar;
    store_le32(mask, ~(uint32_t)(size - 1));
    if (wide) {
        assert(bar + 1 < PCI_BARS);
        f->config[PCI_BAR + 4 * bar] = BAR_WIDE;
        store_le32(mask + 4, UINT32_MAX);
    }
}

unsigned pci_function_add_capability(struct pci_function *f, uint8_t id, unsigned len)
{
    unsigned at = f->capabilities_end;
    assert(len >= 2 && len <= PCI_CONFIG_SIZE - at);
    f->config[at] = id;
    f->config[f->last_capability == 0 ? PCI_CAPABILITIES : f->last_capability + 1] = (uint8_t)at;
    f->config[PCI_STATUS] |= STATUS_CAPABILITIES;
    f->last_capability = (uint8_t)at;
    f->capabilities_end = (at + len + 3) & ~3u;
    return at;
}

static int place_bars(struct pci *pci, struct pci_function *f)
{
    for (unsigned i = 0; i < PCI_BARS; i++) {
        uint64_t size = f->bar[i].size;
        uint64_t at = size == 0 ? 0 : (pci->low_used + size - 1) & ~(size - 1);
        if (size == 0) {
            continue;
        }
        if (at > pci->options.low_size || size > pci->options.low_size - at ||
            pci->options.low_base % size != 0) {
            return -ENOSPC;
        }
        uint8_t *bar = f->config + PCI_BAR + 4 * i;
        store_le32(bar, (uint32_t)(pci->options.low_base + at) | (load_le32(bar) & 0xf));
        pci->low_used = at + size;
    }
    return 0;
}

int pci_add(struct pci *pci, struct pci_function *f, struct err *err)
{
    unsigned slot = 0;
    while (slot < PCI_SLOTS && pci->slot[slot] != NULL) {
        slot++;
    }
    int r = slot == PCI_SLOTS ? -ENOSPC : place_bars(pci, f);
    if (r < 0) {
        return err_say(err, -r, "the PCI bus has no room for more devices");
    }
    f->slot = (uint8_t)slot;
    f->pci = pci;
    memcpy(f->power_on, f->config, sizeof(f->power_on));
    (void)pthread_mutex_lock(&pci->device.lock);
    pci->slot[slot] = f;
    (void)pthread_mutex_unlock(&pci->device.lock);
    return 0;
}

void pci_remove(struct pci_function *f)
{
    struct pci *pci = f->pci;
    if (pci == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&pci->device.lock);
    pci->slot[f->slot] = NULL;
    (void)pthread_mutex_unlock(&pci->device.lock);
    unmap_all(f);
    f->pci = NULL;
}

void pci_function_reset(struct pci_function *f)
{
    memcpy(f->config, f->power_on, sizeof(f->config));
    update_bars(f);
}

void pci_function_resume(struct pci_function *f)
{
    update_bars(f);
}
