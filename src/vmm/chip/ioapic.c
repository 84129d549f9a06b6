#include "vmm/chip/ioapic.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/macros.h"
#include "vmm/bus.h"
#include "vmm/chip/board.h"
#include "vmm/cpu.h"
#include "vmm/device.h"

/* Registers in memory (3.1) */
#define IOREGSEL 0x00
#define IOWIN 0x10
#define SIZE 0x20

/* Registers behind IOWIN (3.2) */
#define INDEX_ID 0x00
#define INDEX_VERSION 0x01
#define INDEX_ARBITRATION 0x02
#define INDEX_TABLE 0x10

#define VERSION (0x11u | (IOAPIC_PINS - 1) << 16)
#define ID_MASK 0x0f000000u

/* An entry of the redirection table (3.2.4) */
#define ENTRY_VECTOR 0xffull
#define ENTRY_DELIVERY 0x700ull /* mode */
#define ENTRY_LOGICAL (1ull << 11)
#define ENTRY_POLARITY (1ull << 13)
#define ENTRY_REMOTE_IRR (1ull << 14) /* read only: a local APIC serves it */
#define ENTRY_LEVEL (1ull << 15)
#define ENTRY_MASKED (1ull << 16)
#define ENTRY_DESTINATION_SHIFT 56
#define ENTRY_WRITABLE                                                                             \
    (ENTRY_VECTOR | ENTRY_DELIVERY | ENTRY_LOGICAL | ENTRY_POLARITY | ENTRY_LEVEL | ENTRY_MASKED | \
     0xffull << ENTRY_DESTINATION_SHIFT)
#define DELIVERY_EXTINT 0x700ull /* of an 8259, which is not there */

/* Messages to local APICs (SDM vol. 3, 11.11) */
#define MESSAGE_ADDRESS 0xfee00000ull
#define MESSAGE_DESTINATION_SHIFT 12
#define MESSAGE_LOGICAL (1ull << 2)
#define MESSAGE_LEVEL (1u << 15)
#define MESSAGE_ASSERT (1u << 14)

struct pin {
    struct ioapic *chip;
    int fd; /* of the device, borrowed; -1: nothing is connected */
    struct loop_source *source;
    bool watched; /* by the loop; otherwise by the engine */
    bool routed;  /* what the engine was told: */
    struct cpu_message message;
};

struct ioapic {
    struct device device;
    struct cpu_lines lines;
    struct board *board;
    uint64_t base;
    uint8_t select;
    uint32_t id;
    uint64_t entry[IOAPIC_PINS];
    struct pin pin[IOAPIC_PINS];
};

static struct cpu_message message_of(uint64_t entry)
{
    return (struct cpu_message){
        .address = MESSAGE_ADDRESS |
                   (entry >> ENTRY_DESTINATION_SHIFT) << MESSAGE_DESTINATION_SHIFT |
                   ((entry & ENTRY_LOGICAL) != 0 ? MESSAGE_LOGICAL : 0),
        .data = (uint32_t)(entry & (ENTRY_VECTOR | ENTRY_DELIVERY)) |
                ((entry & ENTRY_LEVEL) != 0 ? MESSAGE_LEVEL | MESSAGE_ASSERT : 0),
    };
}

static bool is_open(uint64_t entry)
{
    return (entry & ENTRY_MASKED) == 0 && (entry & ENTRY_DELIVERY) != DELIVERY_EXTINT;
}

/* Who waits for the device's edges: the engine, or the loop. */
static int set_watched(struct pin *pin, uint32_t gsi, bool watched)
{
    struct cpu_engine *engine = pin->chip->board->engine;
    if (pin->fd < 0 || pin->watched == watched) {
        return 0;
    }
    int r = 0;
    if (watched) {
        engine->ops->line_detach(engine, gsi, pin->fd);
        r = loop_source_set_events(pin->source, EPOLLIN);
    } else {
        r = loop_source_set_events(pin->source, 0);
        r = r < 0 ? r : engine->ops->line_attach(engine, gsi, pin->fd);
    }
    pin->watched = watched;
    return r;
}

/* Tells the engine what the entry says. With the lock held. */
static void apply(struct ioapic *chip, uint32_t gsi)
{
    struct cpu_engine *engine = chip->board->engine;
    struct pin *pin = &chip->pin[gsi];
    uint64_t entry = chip->entry[gsi];
    bool open = is_open(entry);
    struct cpu_message message = message_of(entry);
    int r = 0;
    /* Of a level as well: the engine tells the end of interrupts that it knows as such. */
    if (open != pin->routed ||
        (open && (message.address != pin->message.address || message.data != pin->message.data))) {
        r = engine->ops->line_route(engine, gsi, open ? &message : NULL);
        pin->routed = r == 0 && open;
        pin->message = message;
    }
    r = r < 0 ? r : set_watched(pin, gsi, open && (entry & ENTRY_LEVEL) != 0);
    if (r < 0) {
        device_guest_error(&chip->device, "pin %u cannot be connected: %d", gsi, r);
    }
}

/* An edge on a pin that is level-triggered: one that is being served takes no other. */
static void on_line(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source, (void)events;
    struct pin *pin = data;
    struct ioapic *chip = pin->chip;
    uint32_t gsi = (uint32_t)(pin - chip->pin);
    uint64_t count = 0;
    struct cpu_engine *engine = chip->board->engine;
    (void)pthread_mutex_lock(&chip->device.lock);
    uint64_t entry = chip->entry[gsi];
    if (pin->watched && read(fd, &count, sizeof(count)) == (ssize_t)sizeof(count) &&
        is_open(entry) && (entry & ENTRY_REMOTE_IRR) == 0) {
        struct cpu_message message = message_of(entry);
        if (engine->ops->send(engine, &message) >= 0) {
            chip->entry[gsi] |= ENTRY_REMOTE_IRR;
        }
    }
    (void)pthread_mutex_unlock(&chip->device.lock);
}

static int attach(struct cpu_lines *lines, uint32_t gsi, int fd)
{
    struct ioapic *chip = CONTAINER_OF(lines, struct ioapic, lines);
    if (gsi >= IOAPIC_PINS || chip->pin[gsi].fd >= 0) {
        return -EINVAL;
    }
    struct cpu_engine *engine = chip->board->engine;
    struct pin *pin = &chip->pin[gsi];
    int r = loop_add_fd(chip->board->loop, fd, 0, on_line, pin, &pin->source);
    r = r < 0 ? r : engine->ops->line_attach(engine, gsi, fd);
    if (r == 0) {
        pin->fd = fd;
    }
    return r;
}

static uint32_t read_register(struct ioapic *chip)
{
    uint32_t index = chip->select;
    if (index >= INDEX_TABLE && index < INDEX_TABLE + 2 * IOAPIC_PINS) {
        uint64_t entry = chip->entry[(index - INDEX_TABLE) / 2];
        return (uint32_t)(index % 2 == 0 ? entry : entry >> 32);
    }
    switch (index) {
    case INDEX_ID:
    case INDEX_ARBITRATION: /* loaded with the id; there is no bus to arbitrate for */
        return chip->id;
    case INDEX_VERSION:
        return VERSION;
    default:
        device_guest_error(&chip->device, "register 0x%x is reserved", index);
        return 0;
    }
}

static void write_entry(struct ioapic *chip, uint32_t gsi, bool high, uint32_t value)
{
    uint64_t old = chip->entry[gsi];
    uint64_t whole =
        high ? (old & UINT32_MAX) | (uint64_t)value << 32 : (old & ~(uint64_t)UINT32_MAX) | value;
    uint64_t entry = whole & ENTRY_WRITABLE;
    /* It belongs to a level: systems clear it by making the pin an edge for a moment. */
    entry |= (entry & ENTRY_LEVEL) != 0 ? old & ENTRY_REMOTE_IRR : 0;
    chip->entry[gsi] = entry;
    apply(chip, gsi);
}

static uint64_t ioapic_read(void *data, uint64_t offset, unsigned size)
{
    struct ioapic *chip = data;
    if (size != 4) {
        device_guest_error(&chip->device, "read of %u bytes at 0x%llx", size,
                           (unsigned long long)offset);
        return UINT64_MAX;
    }
    switch (offset) {
    case IOREGSEL:
        return chip->select;
    case IOWIN:
        return read_register(chip);
    default:
        return 0;
    }
}

static void ioapic_write(void *data, uint64_t offset, unsigned size, uint64_t value)
{
    struct ioapic *chip = data;
    uint32_t index = chip->select;
    if (size != 4 || (offset != IOREGSEL && offset != IOWIN)) {
        device_guest_error(&chip->device, "write of %u bytes at 0x%llx", size,
                           (unsigned long long)offset);
    } else if (offset == IOREGSEL) {
        chip->select = (uint8_t)value;
    } else if (index == INDEX_ID) {
        chip->id = (uint32_t)value & ID_MASK;
    } else if (index >= INDEX_TABLE && index < INDEX_TABLE + 2 * IOAPIC_PINS) {
        write_entry(chip, (index - INDEX_TABLE) / 2, index % 2 != 0, (uint32_t)value);
    } else {
        device_guest_error(&chip->device, "register 0x%x cannot be written", index);
    }
}

static const struct bus_ops ioapic_bus_ops = {ioapic_read, ioapic_write};

void ioapic_eoi(struct device *device, uint8_t vector)
{
    struct ioapic *chip = CONTAINER_OF(device, struct ioapic, device);
    (void)pthread_mutex_lock(&device->lock);
    for (uint32_t i = 0; i < IOAPIC_PINS; i++) {
        if ((chip->entry[i] & ENTRY_LEVEL) != 0 && (chip->entry[i] & ENTRY_VECTOR) == vector) {
            chip->entry[i] &= ~ENTRY_REMOTE_IRR;
        }
    }
    (void)pthread_mutex_unlock(&device->lock);
}

static void ioapic_reset(struct device *device)
{
    struct ioapic *chip = CONTAINER_OF(device, struct ioapic, device);
    chip->select = 0;
    chip->id = 0;
    for (uint32_t i = 0; i < IOAPIC_PINS; i++) {
        chip->entry[i] = ENTRY_MASKED;
        apply(chip, i);
    }
}

/* What was saved is told to the engine before the devices behind us raise their lines again. */
static void ioapic_resume(struct device *device)
{
    struct ioapic *chip = CONTAINER_OF(device, struct ioapic, device);
    for (uint32_t i = 0; i < IOAPIC_PINS; i++) {
        apply(chip, i);
    }
}

static void ioapic_free(struct device *device)
{
    struct ioapic *chip = CONTAINER_OF(device, struct ioapic, device);
    for (uint32_t i = 0; i < IOAPIC_PINS; i++) {
        loop_remove(chip->pin[i].source);
    }
    chip->board->engine->lines = NULL;
    bus_remove(chip->board->mmio, chip->base);
    device_done(device);
    free(chip);
}

static const struct device_ops ioapic_ops = {
    .reset = ioapic_reset,
    .resume = ioapic_resume,
    .free = ioapic_free,
};

static int check(void *object, struct err *err)
{
    const struct ioapic *chip = object;
    if ((chip->id & ~ID_MASK) != 0) {
        return err_say(err, EINVAL, "id 0x%x", chip->id);
    }
    for (uint32_t i = 0; i < IOAPIC_PINS; i++) {
        uint64_t entry = chip->entry[i];
        if ((entry & ~(ENTRY_WRITABLE | ENTRY_REMOTE_IRR)) != 0 ||
            (entry & (ENTRY_REMOTE_IRR | ENTRY_LEVEL)) == ENTRY_REMOTE_IRR) {
            return err_say(err, EINVAL, "entry %u is 0x%llx", i, (unsigned long long)entry);
        }
    }
    return 0;
}

static const struct state_table ioapic_state = {
    .name = "ioapic",
    .version = 1,
    .oldest = 1,
    .check = check,
    .fields =
        (const struct state_field[]){
            STATE(U8, struct ioapic, select),
            STATE(U32, struct ioapic, id),
            STATE_ARRAY(U64, struct ioapic, entry),
            STATE_DONE,
        },
};

int ioapic_new(struct board *board, uint64_t base, struct device **ret, struct err *err)
{
    struct ioapic *chip = calloc(1, sizeof(*chip));
    if (chip == NULL) {
        return err_set(err, ENOMEM, "make the I/O APIC");
    }
    device_init(&chip->device, &ioapic_ops, &ioapic_state, "ioapic");
    AUTO(device_freep) struct device *device = &chip->device;
    chip->board = board;
    chip->base = base;
    chip->lines = (struct cpu_lines){.attach = attach};
    for (uint32_t i = 0; i < IOAPIC_PINS; i++) {
        chip->entry[i] = ENTRY_MASKED;
        chip->pin[i] = (struct pin){.chip = chip, .fd = -1};
    }
    struct bus_range range = {base, SIZE, &ioapic_bus_ops, chip, &device->lock};
    int r = bus_add(board->mmio, &range);
    if (r < 0) {
        return err_set(err, -r, "make the I/O APIC");
    }
    board->engine->lines = &chip->lines;
    *ret = TAKE_PTR(device);
    return 0;
}
