#include "vmm/pci/pci.h"

#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "base/macros.h"
#include "unit.h"
#include "vmm/cpu.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/pci.h"
#include "vmm/virtio/rng.h"
#include "vmm_mmio.h"

#define ECAM 0xec000000ULL
#define LOW 0xe0000000ULL
#define PORT 0xcf8
#define MESSAGES 64

/* An engine that runs nothing: it keeps what a real one would turn into messages. */
struct post {
    struct cpu_engine engine;
    struct {
        int fd; /* ours; -1: none */
        uint64_t address;
        uint32_t data;
    } route[MESSAGES];
    unsigned changes;
    int fail;
};

static int post_attach(struct cpu_engine *engine, int fd, uint64_t address, uint32_t data,
                       uint32_t *ret_id)
{
    struct post *p = CONTAINER_OF(engine, struct post, engine);
    uint32_t i = 0;
    while (i < MESSAGES && p->route[i].fd >= 0) {
        i++;
    }
    if (p->fail != 0 || i == MESSAGES) {
        return -ENOSPC;
    }
    p->route[i].fd = dup(fd);
    p->route[i].address = address;
    p->route[i].data = data;
    p->changes++;
    *ret_id = i;
    return 0;
}

static int post_change(struct cpu_engine *engine, uint32_t id, uint64_t address, uint32_t data)
{
    struct post *p = CONTAINER_OF(engine, struct post, engine);
    p->route[id].address = address;
    p->route[id].data = data;
    p->changes++;
    return 0;
}

static void post_detach(struct cpu_engine *engine, uint32_t id, int fd)
{
    struct post *p = CONTAINER_OF(engine, struct post, engine);
    (void)fd;
    (void)close(p->route[id].fd);
    p->route[id].fd = -1;
}

static int post_doorbell(struct cpu_engine *engine, bool port, uint64_t address, uint32_t size,
                         uint64_t value, int fd, bool on)
{
    (void)engine, (void)port, (void)address, (void)size, (void)value, (void)fd, (void)on;
    return -EOPNOTSUPP;
}

static const struct cpu_engine_ops post_ops = {
    .name = "post",
    .message_attach = post_attach,
    .message_change = post_change,
    .message_detach = post_detach,
    .doorbell = post_doorbell,
};

/* Messages with data that were sent since the last call; 0 when none. */
static uint64_t post_get(struct post *p, uint64_t address, uint32_t data)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < MESSAGES; i++) {
        uint64_t count = 0;
        if (p->route[i].fd >= 0 && p->route[i].address == address && p->route[i].data == data &&
            read(p->route[i].fd, &count, sizeof(count)) == (ssize_t)sizeof(count)) {
            sum += count;
        }
    }
    return sum;
}

struct rig {
    struct bed bed; /* its virtio device is the one in slot 1 */
    struct post post;
    struct bus *ports;
    struct pci *pci;
    struct virtio_pci *function;
    struct virtio *second; /* in slot 2: a balloon */
    struct virtio_pci *second_function;
};

static void rig_open(struct rig *rig)
{
    struct virtio_balloon_config balloon = {.report_free = true};
    *rig = (struct rig){.post.engine.ops = &post_ops};
    for (unsigned i = 0; i < MESSAGES; i++) {
        rig->post.route[i].fd = -1;
    }
    bed_open(&rig->bed);
    struct bed *bed = &rig->bed;
    ck_assert_int_eq(bus_new(NULL, true, &rig->ports), 0);
    struct pci_options options = {
        .mmio = bed->bus,
        .ports = rig->ports,
        .ecam = ECAM,
        .config_port = PORT,
        .low_base = LOW,
        .low_size = 0x40000,
    };
    ck_assert_int_eq(pci_new(&options, &rig->pci, NULL), 0);
    ck_assert_int_eq(virtio_rng_new("rng", bed->memory, bed->loop, &bed->virtio, NULL), 0);
    ck_assert_int_eq(
        virtio_pci_new("rng-pci", bed->virtio, rig->pci, &rig->post.engine, &rig->function, NULL),
        0);
    ck_assert_int_eq(
        virtio_balloon_new("balloon", &balloon, bed->memory, bed->loop, &rig->second, NULL), 0);
    ck_assert_int_eq(virtio_pci_new("balloon-pci", rig->second, rig->pci, &rig->post.engine,
                                    &rig->second_function, NULL),
                     0);
}

static void rig_close(struct rig *rig)
{
    virtio_pci_free(rig->second_function);
    virtio_pci_free(rig->function);
    for (unsigned i = 0; i < MESSAGES; i++) {
        ck_assert_int_eq(rig->post.route[i].fd, -1); /* all were given back */
    }
    virtio_free(rig->second);
    pci_free(rig->pci);
    bus_free(rig->ports);
    bed_close(&rig->bed);
}

static uint32_t cfg_get(struct rig *rig, unsigned slot, unsigned reg, unsigned size)
{
    return (uint32_t)bus_read(rig->bed.bus, ECAM + slot * 0x8000 + reg, size);
}

static void cfg_set(struct rig *rig, unsigned slot, unsigned reg, unsigned size, uint32_t value)
{
    bus_write(rig->bed.bus, ECAM + slot * 0x8000 + reg, size, value);
}

/* A vendor capability of type, or with another id; 0: none. */
static unsigned find_cap(struct rig *rig, unsigned slot, uint8_t id, uint8_t type)
{
    unsigned at = cfg_get(rig, slot, 0x34, 1);
    for (unsigned i = 0; at != 0 && i < 48; i++) {
        if (cfg_get(rig, slot, at, 1) == id && (id != 9 || cfg_get(rig, slot, at + 3, 1) == type)) {
            return at;
        }
        at = cfg_get(rig, slot, at + 1, 1);
    }
    return 0;
}

static uint64_t bar_of(struct rig *rig, unsigned slot)
{
    return (cfg_get(rig, slot, 0x10, 4) & ~0xfu) | (uint64_t)cfg_get(rig, slot, 0x14, 4) << 32;
}

/* Where the structure of a type is. */
static uint64_t structure(struct rig *rig, unsigned slot, uint8_t type)
{
    unsigned cap = find_cap(rig, slot, 9, type);
    ck_assert_uint_ne(cap, 0);
    ck_assert_uint_eq(cfg_get(rig, slot, cap + 4, 1), 0);
    return bar_of(rig, slot) + cfg_get(rig, slot, cap + 8, 4);
}

static uint64_t table_of(struct rig *rig, unsigned slot)
{
    unsigned cap = find_cap(rig, slot, 0x11, 0);
    return bar_of(rig, slot) + (cfg_get(rig, slot, cap + 4, 4) & ~7u);
}

static void set_vector(struct rig *rig, unsigned slot, unsigned i, uint64_t address, uint32_t data,
                       bool masked)
{
    uint64_t at = table_of(rig, slot) + i * 16;
    bus_write(rig->bed.bus, at, 4, (uint32_t)address);
    bus_write(rig->bed.bus, at + 4, 4, address >> 32);
    bus_write(rig->bed.bus, at + 8, 4, data);
    bus_write(rig->bed.bus, at + 12, 4, masked);
}

#define ADDRESS 0xfee01000ULL

/* What Linux does: memory on, vectors, the device from reset to DRIVER_OK with one queue. */
static void start(struct rig *rig, uint64_t features)
{
    struct bus *bus = rig->bed.bus;
    cfg_set(rig, 1, 4, 2, 6);
    unsigned msix = find_cap(rig, 1, 0x11, 0);
    ck_assert_uint_eq(cfg_get(rig, 1, msix + 2, 2) & 0x7ff, 1); /* 2 vectors */
    cfg_set(rig, 1, msix + 2, 2, 0xc000);
    set_vector(rig, 1, 0, ADDRESS, 0x40, false);
    set_vector(rig, 1, 1, ADDRESS, 0x41, false);
    cfg_set(rig, 1, msix + 2, 2, 0x8000);
    uint64_t c = structure(rig, 1, 1);
    bus_write(bus, c + 20, 1, 0);
    bus_write(bus, c + 20, 1, 1);
    bus_write(bus, c + 20, 1, 3);
    features |= VIRTIO_F_VERSION_1;
    for (unsigned i = 0; i < 2; i++) {
        bus_write(bus, c, 4, i);
        uint32_t offered = (uint32_t)bus_read(bus, c + 4, 4);
        ck_assert_uint_eq((uint32_t)(features >> 32 * i) & ~offered, 0);
        bus_write(bus, c + 8, 4, i);
        bus_write(bus, c + 12, 4, (uint32_t)(features >> 32 * i));
    }
    bus_write(bus, c + 20, 1, 11);
    ck_assert_uint_eq(bus_read(bus, c + 20, 1), 11);
    bus_write(bus, c + 16, 2, 0);
    ck_assert_uint_eq(bus_read(bus, c + 16, 2), 0);
    struct driver *d = &rig->bed.driver[0];
    driver_init(d, rig->bed.memory, BED_RINGS, 8, (features & VIRTIO_F_RING_PACKED) != 0,
                (features & VIRTIO_F_EVENT_IDX) != 0);
    bus_write(bus, c + 22, 2, 0);
    ck_assert_uint_eq(bus_read(bus, c + 24, 2), 64);
    bus_write(bus, c + 24, 2, 8);
    bus_write(bus, c + 26, 2, 1);
    ck_assert_uint_eq(bus_read(bus, c + 26, 2), 1);
    bus_write(bus, c + 32, 8, d->desc);
    bus_write(bus, c + 40, 4, (uint32_t)d->driver);
    bus_write(bus, c + 44, 4, d->driver >> 32);
    bus_write(bus, c + 48, 8, d->device);
    bus_write(bus, c + 28, 2, 1);
    ck_assert_uint_eq(bus_read(bus, c + 28, 2), 1);
    bus_write(bus, c + 20, 1, 15);
    bed_pump(&rig->bed);
}

/* Asks for random bytes; true when they came. */
static bool ask(struct rig *rig, uint32_t len)
{
    struct driver *d = &rig->bed.driver[0];
    struct driver_piece piece = {.gpa = BED_BUFFERS, .len = len};
    unsigned id = 0;
    uint32_t got = 0;
    (void)driver_want_interrupt(d);
    ck_assert_int_ge(driver_add(d, &piece, 0, 1, 0), 0);
    if (driver_must_notify(d)) {
        bus_write(rig->bed.bus, structure(rig, 1, 2), 2, 0);
    }
    bed_pump(&rig->bed);
    return driver_get(d, &id, &got) && got == len;
}

START_TEST(a_driver_finds_the_device_and_gets_its_interrupts_as_messages)
{
    for (unsigned kind = 0; kind < 4; kind++) {
        struct rig rig;
        rig_open(&rig);
        ck_assert_uint_eq(cfg_get(&rig, 1, 0, 4), 0x10441af4);
        ck_assert_uint_eq(cfg_get(&rig, 2, 0, 4), 0x10451af4);
        start(&rig, ((kind & 1) != 0 ? VIRTIO_F_RING_PACKED : 0) |
                        ((kind & 2) != 0 ? VIRTIO_F_EVENT_IDX : 0));
        for (unsigned i = 0; i < 30; i++) {
            ck_assert(ask(&rig, 16));
            ck_assert_uint_eq(post_get(&rig.post, ADDRESS, 0x41), 1);
            ck_assert_uint_eq(post_get(&rig.post, ADDRESS, 0x40), 0);
        }
        virtio_config_changed(rig.bed.virtio);
        ck_assert_uint_eq(post_get(&rig.post, ADDRESS, 0x40), 1);
        ck_assert_uint_eq(bus_read(rig.bed.bus, structure(&rig, 1, 3), 1), 3);
        ck_assert_uint_eq(bus_read(rig.bed.bus, structure(&rig, 1, 3), 1), 0);
        ck_assert_uint_eq(rig.bed.virtio->device.guest_errors, 0);
        rig_close(&rig);
    }
}
END_TEST

START_TEST(masked_messages_are_sent_when_unmasked_and_changed_ones_go_to_the_new_address)
{
    struct rig rig;
    rig_open(&rig);
    start(&rig, 0);
    uint64_t table = table_of(&rig, 1);
    unsigned msix = find_cap(&rig, 1, 0x11, 0);
    uint64_t pending = bar_of(&rig, 1) + (cfg_get(&rig, 1, msix + 8, 4) & ~7u);
    bus_write(rig.bed.bus, table + 16 + 12, 4, 1);
    ck_assert(ask(&rig, 16));
    ck_assert(ask(&rig, 16));
    ck_assert_uint_eq(post_get(&rig.post, ADDRESS, 0x41), 0);
    ck_assert_uint_eq(bus_read(rig.bed.bus, pending, 8), 2);
    ck_assert_uint_eq(bus_read(rig.bed.bus, pending, 4), 2);
    bus_write(rig.bed.bus, table + 16 + 8, 4, 0x51);
    bus_write(rig.bed.bus, table + 16 + 12, 4, 0);
    ck_assert_uint_eq(bus_read(rig.bed.bus, pending, 8), 0);
    ck_assert_uint_eq(post_get(&rig.post, ADDRESS, 0x51), 1);
    /* All at once. */
    cfg_set(&rig, 1, msix + 2, 2, 0xc000);
    ck_assert(ask(&rig, 16));
    ck_assert_uint_eq(post_get(&rig.post, ADDRESS, 0x51), 0);
    unsigned changes = rig.post.changes;
    cfg_set(&rig, 1, msix + 2, 2, 0x8000);
    ck_assert_uint_eq(post_get(&rig.post, ADDRESS, 0x51), 1);
    ck_assert_uint_eq(rig.post.changes, changes); /* nothing is told twice */
    /* Off: neither sent nor kept. */
    cfg_set(&rig, 1, msix + 2, 2, 0);
    ck_assert(ask(&rig, 16));
    ck_assert_uint_eq(bus_read(rig.bed.bus, pending, 8), 0);
    rig_close(&rig);
}
END_TEST

START_TEST(a_region_tells_its_size_and_moves_with_its_doorbells)
{
    struct rig rig;
    rig_open(&rig);
    ck_assert_uint_eq(cfg_get(&rig, 1, 0x10, 4), LOW | 4);
    ck_assert_uint_eq(bus_read(rig.bed.bus, LOW, 4), UINT32_MAX); /* memory is off */
    cfg_set(&rig, 1, 0x10, 4, UINT32_MAX);
    cfg_set(&rig, 1, 0x14, 4, UINT32_MAX);
    ck_assert_uint_eq(cfg_get(&rig, 1, 0x10, 4), ~0x7fffu | 4);
    ck_assert_uint_eq(cfg_get(&rig, 1, 0x14, 4), UINT32_MAX);
    cfg_set(&rig, 1, 0x10, 4, LOW);
    cfg_set(&rig, 1, 0x14, 4, 0);
    start(&rig, 0);
    ck_assert(ask(&rig, 16));
    uint64_t old = structure(&rig, 1, 1);
    uint64_t old_notify = structure(&rig, 1, 2);
    cfg_set(&rig, 1, 0x14, 4, 0x12);
    ck_assert_uint_eq(bar_of(&rig, 1), 0x12e0000000ULL);
    ck_assert_uint_eq(bus_read(rig.bed.bus, old + 20, 1), 0xff);
    uint64_t rung = 0; /* what rang before is never read back */
    ck_assert_int_eq(read(rig.bed.virtio->doorbell[0].fd, &rung, sizeof(rung)), sizeof(rung));
    bus_write(rig.bed.bus, old_notify, 2, 0);
    ck_assert_int_eq(read(rig.bed.virtio->doorbell[0].fd, &rung, sizeof(rung)), -1);
    ck_assert_uint_eq(bus_read(rig.bed.bus, structure(&rig, 1, 1) + 20, 1), 15);
    ck_assert(ask(&rig, 16));
    /* Over a neighbour: it stays where it is, and ours answers nowhere until moved on. */
    cfg_set(&rig, 2, 4, 2, 2);
    uint64_t neighbour = structure(&rig, 2, 1);
    ck_assert_uint_eq(bus_read(rig.bed.bus, neighbour + 18, 2), 5);
    uint64_t errors = rig.bed.virtio->device.guest_errors;
    cfg_set(&rig, 1, 0x14, 4, 0);
    cfg_set(&rig, 1, 0x10, 4, (uint32_t)bar_of(&rig, 2));
    ck_assert_uint_eq(bus_read(rig.bed.bus, neighbour + 18, 2), 5);
    ck_assert_uint_gt(rig.bed.virtio->device.guest_errors, errors);
    cfg_set(&rig, 1, 0x10, 4, LOW);
    ck_assert(ask(&rig, 16));
    cfg_set(&rig, 1, 4, 2, 0);
    ck_assert_uint_eq(bus_read(rig.bed.bus, LOW, 4), UINT32_MAX);
    rig_close(&rig);
}
END_TEST

START_TEST(ports_and_memory_show_the_same_configuration_and_empty_slots_nothing)
{
    struct rig rig;
    rig_open(&rig);
    for (unsigned slot = 0; slot < 4; slot++) {
        for (unsigned reg = 0; reg < 256; reg += 4) {
            bus_write(rig.ports, PORT, 4, 0x80000000u | slot << 11 | reg);
            ck_assert_uint_eq(bus_read(rig.ports, PORT + 4, 4), cfg_get(&rig, slot, reg, 4));
            ck_assert_uint_eq(bus_read(rig.ports, PORT + 7, 1), cfg_get(&rig, slot, reg + 3, 1));
            ck_assert_uint_eq(bus_read(rig.ports, PORT + 6, 2), cfg_get(&rig, slot, reg + 2, 2));
        }
    }
    ck_assert_uint_eq(cfg_get(&rig, 0, 0x0a, 2), 0x0600);
    ck_assert_uint_eq(cfg_get(&rig, 3, 0, 4), UINT32_MAX);
    ck_assert_uint_eq(cfg_get(&rig, 1, 0x100, 4), 0);
    ck_assert_uint_eq(cfg_get(&rig, 1, 0x1000, 4), UINT32_MAX); /* function 1 */
    bus_write(rig.ports, PORT, 4, 0x80010000u);
    ck_assert_uint_eq(bus_read(rig.ports, PORT + 4, 4), UINT32_MAX); /* bus 1 */
    bus_write(rig.ports, PORT, 4, 1u << 11);
    ck_assert_uint_eq(bus_read(rig.ports, PORT + 4, 4), UINT32_MAX); /* not enabled */
    /* What is read-only stays. */
    for (unsigned reg = 0; reg < 64; reg += 4) {
        uint32_t before = cfg_get(&rig, 0, reg, 4);
        cfg_set(&rig, 0, reg, 4, ~before);
        ck_assert_uint_eq(cfg_get(&rig, 0, reg, 4), reg == 4 ? before | 0x406 : before);
    }
    rig_close(&rig);
}
END_TEST

START_TEST(the_window_in_the_configuration_reaches_the_region)
{
    struct rig rig;
    rig_open(&rig);
    unsigned cap = find_cap(&rig, 1, 9, 5);
    ck_assert_uint_ne(cap, 0);
    cfg_set(&rig, 1, cap + 4, 1, 0);
    cfg_set(&rig, 1, cap + 8, 4, 20);
    cfg_set(&rig, 1, cap + 12, 4, 1);
    ck_assert_uint_eq(cfg_get(&rig, 1, cap + 16, 1), 0);
    cfg_set(&rig, 1, cap + 16, 1, 3);
    ck_assert_uint_eq(rig.bed.virtio->status, 3);
    ck_assert_uint_eq(cfg_get(&rig, 1, cap + 16, 1), 3);
    static const struct {
        uint8_t bar;
        uint32_t offset, length;
    } nowhere[] = {{1, 20, 1},
                   {0, 20, 3},
                   {0, 20, 0},
                   {0, 21, 2},
                   {0, 0x8000, 4},
                   {0, UINT32_MAX, 1},
                   {0, UINT32_MAX - 3, 4},
                   {0, 20, UINT32_MAX}};
    for (size_t i = 0; i < COUNT(nowhere); i++) {
        cfg_set(&rig, 1, cap + 4, 1, nowhere[i].bar);
        cfg_set(&rig, 1, cap + 8, 4, nowhere[i].offset);
        cfg_set(&rig, 1, cap + 12, 4, nowhere[i].length);
        cfg_set(&rig, 1, cap + 16, 4, 0);
        (void)cfg_get(&rig, 1, cap + 16, 4);
        ck_assert_uint_eq(rig.bed.virtio->status, 3);
    }
    rig_close(&rig);
}
END_TEST

START_TEST(a_message_without_room_is_the_guests_loss_alone)
{
    struct rig rig;
    rig_open(&rig);
    rig.post.fail = 1;
    start(&rig, 0);
    ck_assert(ask(&rig, 16));
    ck_assert_uint_ge(rig.bed.virtio->device.guest_errors, 1);
    rig.post.fail = 0;
    set_vector(&rig, 1, 1, ADDRESS, 0x41, false);
    ck_assert(ask(&rig, 16));
    ck_assert_uint_ge(post_get(&rig.post, ADDRESS, 0x41), 1);
    rig_close(&rig);
}
END_TEST

static void save(struct buf *out, struct device *device, void *object)
{
    ck_assert_int_eq(state_write(out, device->state, device->instance, object, NULL), 0);
}

/* Both functions changed places, and a message waits behind a mask. */
START_TEST(a_restored_bus_has_its_regions_and_messages_where_they_were)
{
    AUTO(buf_donep) struct buf saved = {0};
    struct rig one;
    struct rig two;
    rig_open(&one);
    uint32_t first = (uint32_t)bar_of(&one, 1);
    uint32_t second = (uint32_t)bar_of(&one, 2);
    cfg_set(&one, 1, 0x10, 4, second);
    cfg_set(&one, 2, 0x10, 4, first);
    cfg_set(&one, 2, 4, 2, 2);
    start(&one, 0);
    bus_write(one.bed.bus, table_of(&one, 1) + 16 + 12, 4, 1);
    ck_assert(ask(&one, 16));
    save(&saved, &one.bed.virtio->device, one.bed.virtio);
    save(&saved, virtio_pci_device(one.function), one.function);
    save(&saved, virtio_pci_device(one.second_function), one.second_function);
    rig_open(&two);
    cfg_set(&two, 1, 4, 2, 2); /* mapped where the other one belongs */
    cfg_set(&two, 2, 4, 2, 2);
    for (uint64_t at = 0; at < BED_REGION; at += 4096) {
        MUST(memory_write(two.bed.memory, at, memory_at(one.bed.memory, at, 4096), 4096) == 0);
    }
    two.bed.driver[0] = one.bed.driver[0];
    two.bed.driver[0].memory = two.bed.memory;
    struct state_reader reader = {.data = (const uint8_t *)saved.data, .len = saved.len};
    struct device *devices[] = {&two.bed.virtio->device, virtio_pci_device(two.function),
                                virtio_pci_device(two.second_function)};
    void *objects[] = {two.bed.virtio, two.function, two.second_function};
    for (size_t i = 0; i < COUNT(devices); i++) {
        ck_assert_int_eq(
            state_read(&reader, devices[i]->state, devices[i]->instance, objects[i], NULL), 0);
    }
    for (size_t i = 0; i < COUNT(devices); i++) {
        devices[i]->ops->resume(devices[i]);
    }
    ck_assert_uint_eq(bar_of(&two, 1), second);
    ck_assert_uint_eq(bus_read(two.bed.bus, first + 18, 2), 5);
    bus_write(two.bed.bus, table_of(&two, 1) + 16 + 12, 4, 0);
    ck_assert_uint_eq(post_get(&two.post, ADDRESS, 0x41), 1);
    ck_assert(ask(&two, 16));
    ck_assert_uint_eq(post_get(&two.post, ADDRESS, 0x41), 1);
    rig_close(&one);
    rig_close(&two);
}
END_TEST

START_TEST(a_reset_of_the_machine_puts_everything_back)
{
    struct rig rig;
    rig_open(&rig);
    start(&rig, 0);
    struct device *function = virtio_pci_device(rig.function);
    (void)pthread_mutex_lock(&rig.bed.virtio->device.lock);
    rig.bed.virtio->device.ops->reset(&rig.bed.virtio->device);
    (void)pthread_mutex_unlock(&rig.bed.virtio->device.lock);
    (void)pthread_mutex_lock(&function->lock);
    function->ops->reset(function);
    (void)pthread_mutex_unlock(&function->lock);
    ck_assert_uint_eq(bus_read(rig.bed.bus, LOW, 4), UINT32_MAX);
    ck_assert_uint_eq(cfg_get(&rig, 1, find_cap(&rig, 1, 0x11, 0) + 2, 2), 1);
    start(&rig, VIRTIO_F_RING_PACKED);
    ck_assert(ask(&rig, 16));
    ck_assert_uint_eq(post_get(&rig.post, ADDRESS, 0x41), 1);
    rig_close(&rig);
}
END_TEST

int main(void)
{
    return unit_run(
        "vmm_pci",
        (const TTest *const[]){
            a_driver_finds_the_device_and_gets_its_interrupts_as_messages,
            masked_messages_are_sent_when_unmasked_and_changed_ones_go_to_the_new_address,
            a_region_tells_its_size_and_moves_with_its_doorbells,
            ports_and_memory_show_the_same_configuration_and_empty_slots_nothing,
            the_window_in_the_configuration_reaches_the_region,
            a_message_without_room_is_the_guests_loss_alone,
            a_restored_bus_has_its_regions_and_messages_where_they_were,
            a_reset_of_the_machine_puts_everything_back,
            NULL,
        });
}
