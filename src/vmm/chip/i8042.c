/*
 * A keyboard controller (Intel 8042 as the PC/AT has it), as far as systems without a keyboard ask
 * it: self tests, the configuration byte, the reset line, and keys that we press.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/macros.h"
#include "vmm/bus.h"
#include "vmm/chip/board.h"
#include "vmm/device.h"
#include "vmm/irq.h"

#define PORT_DATA 0
#define PORT_COMMAND 4
#define QUEUE_SIZE 16u

enum {
    STATUS_OUTPUT = 1, /* a byte waits for the system */
    STATUS_SYSTEM = 4,
    STATUS_COMMAND = 8,
    STATUS_UNLOCKED = 0x10,
    CONFIG_KEY_INTERRUPT = 1,
    CONFIG_SYSTEM = 4,
    CONFIG_KEY_OFF = 0x10,
    CONFIG_MOUSE_OFF = 0x20,
};

struct i8042 {
    struct device device;
    struct board *board;
    struct irq irq;
    uint16_t port;
    /* Saved */
    uint8_t config;
    uint8_t command; /* waits for its byte at the data port; 0: none */
    bool last_was_command;
    uint32_t count;
    uint8_t queue[QUEUE_SIZE];
};

static void answer(struct i8042 *chip, uint8_t byte)
{
    if (chip->count < QUEUE_SIZE) {
        chip->queue[chip->count++] = byte;
    }
    if ((chip->config & CONFIG_KEY_INTERRUPT) != 0) {
        irq_raise(&chip->irq);
    }
}

static uint64_t i8042_read(void *data, uint64_t offset, unsigned size)
{
    struct i8042 *chip = data;
    (void)size;
    if (offset == PORT_COMMAND) {
        return (uint64_t)(STATUS_UNLOCKED | (chip->config & CONFIG_SYSTEM) |
                          (chip->last_was_command ? STATUS_COMMAND : 0) |
                          (chip->count > 0 ? STATUS_OUTPUT : 0));
    }
    if (offset != PORT_DATA || chip->count == 0) {
        return 0;
    }
    uint8_t byte = chip->queue[0];
    memmove(chip->queue, chip->queue + 1, --chip->count);
    if (chip->count > 0 && (chip->config & CONFIG_KEY_INTERRUPT) != 0) {
        irq_raise(&chip->irq);
    }
    return byte;
}

static void do_command(struct i8042 *chip, uint8_t command)
{
    chip->command = 0;
    switch (command) {
    case 0x20: /* read the configuration */
        answer(chip, chip->config);
        break;
    case 0x60: /* write it */
    case 0xd1: /* write the output port */
    case 0xd2: /* answer with a byte as if from the keyboard */
    case 0xd4: /* a byte for the mouse */
        chip->command = command;
        break;
    case 0xa7:
        chip->config |= CONFIG_MOUSE_OFF;
        break;
    case 0xa8:
        chip->config &= (uint8_t)~CONFIG_MOUSE_OFF;
        break;
    case 0xa9: /* test of the mouse's interface: nothing there */
        answer(chip, 4);
        break;
    case 0xaa: /* self test */
        chip->config |= CONFIG_SYSTEM;
        answer(chip, 0x55);
        break;
    case 0xab:
        answer(chip, 0);
        break;
    case 0xad:
        chip->config |= CONFIG_KEY_OFF;
        break;
    case 0xae:
        chip->config &= (uint8_t)~CONFIG_KEY_OFF;
        break;
    case 0xd0: /* read the output port: reset line high, A20 open */
        answer(chip, 3);
        break;
    case 0xfe: /* pulse the reset line */
        chip->board->end(chip->board, BOARD_RESET, 0);
        break;
    default:
        device_guest_error(&chip->device, "command 0x%02x", command);
        break;
    }
}

static void do_data(struct i8042 *chip, uint8_t byte)
{
    uint8_t command = chip->command;
    chip->command = 0;
    switch (command) {
    case 0x60:
        chip->config = byte;
        break;
    case 0xd1:
        if ((byte & 1) == 0) {
            chip->board->end(chip->board, BOARD_RESET, 0);
        }
        break;
    case 0xd2:
        answer(chip, byte);
        break;
    case 0xd4:
        break; /* nobody hears it */
    default:
        /* For the keyboard: it acknowledges, and after a reset command tells that it is well. */
        answer(chip, 0xfa);
        if (byte == 0xff) {
            answer(chip, 0xaa);
        }
        break;
    }
}

static void i8042_write(void *data, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8042 *chip = data;
    (void)size;
    if (offset == PORT_COMMAND) {
        chip->last_was_command = true;
        do_command(chip, (uint8_t)value);
    } else if (offset == PORT_DATA) {
        chip->last_was_command = false;
        do_data(chip, (uint8_t)value);
    }
}

static const struct bus_ops i8042_bus_ops = {i8042_read, i8042_write};

void i8042_press_ctrl_alt_del(struct device *device)
{
    /* Scan codes of set 1, as the controller translates them. */
    static const uint8_t keys[] = {0x1d, 0x38, 0x53, 0xd3, 0xb8, 0x9d};
    struct i8042 *chip = CONTAINER_OF(device, struct i8042, device);
    (void)pthread_mutex_lock(&device->lock);
    for (size_t i = 0; i < COUNT(keys) && (chip->config & CONFIG_KEY_OFF) == 0; i++) {
        answer(chip, keys[i]);
    }
    (void)pthread_mutex_unlock(&device->lock);
}

static void i8042_reset(struct device *device)
{
    struct i8042 *chip = CONTAINER_OF(device, struct i8042, device);
    chip->config = CONFIG_SYSTEM | CONFIG_MOUSE_OFF;
    chip->command = 0;
    chip->last_was_command = false;
    chip->count = 0;
}

static void i8042_free(struct device *device)
{
    struct i8042 *chip = CONTAINER_OF(device, struct i8042, device);
    bus_remove(chip->board->ports, chip->port);
    bus_remove(chip->board->ports, chip->port + PORT_COMMAND);
    irq_done(&chip->irq);
    device_done(device);
    free(chip);
}

static void i8042_resume(struct device *device)
{
    const struct i8042 *chip = CONTAINER_OF(device, struct i8042, device);
    if (chip->count > 0 && (chip->config & CONFIG_KEY_INTERRUPT) != 0) {
        irq_raise(&chip->irq);
    }
}

static const struct device_ops i8042_ops = {
    .reset = i8042_reset,
    .resume = i8042_resume,
    .free = i8042_free,
};

static int i8042_check(void *object, struct err *err)
{
    const struct i8042 *chip = object;
    return chip->count <= QUEUE_SIZE ? 0 : err_say(err, EINVAL, "more keys than the chip holds");
}

static const struct state_table i8042_state = {
    .name = "i8042",
    .version = 1,
    .oldest = 1,
    .check = i8042_check,
    .fields =
        (const struct state_field[]){
            STATE(U8, struct i8042, config),
            STATE(U8, struct i8042, command),
            STATE(BOOL, struct i8042, last_was_command),
            STATE(U32, struct i8042, count),
            STATE_ARRAY(BYTES, struct i8042, queue),
            STATE_DONE,
        },
};

/* The ports between the two belong to others (0x61: the speaker and timer 2). */
static uint64_t command_read(void *data, uint64_t offset, unsigned size)
{
    return i8042_read(data, offset + PORT_COMMAND, size);
}

static void command_write(void *data, uint64_t offset, unsigned size, uint64_t value)
{
    i8042_write(data, offset + PORT_COMMAND, size, value);
}

static const struct bus_ops command_ops = {command_read, command_write};

int i8042_new(struct board *board, uint16_t port, uint32_t gsi, struct device **ret,
              struct err *err)
{
    struct i8042 *chip = calloc(1, sizeof(*chip));
    if (chip == NULL) {
        return err_set(err, ENOMEM, "make the keyboard controller");
    }
    device_init(&chip->device, &i8042_ops, &i8042_state, "i8042");
    AUTO(device_freep) struct device *device = &chip->device;
    chip->board = board;
    chip->port = port;
    chip->irq = IRQ_NONE;
    i8042_reset(device);
    int r = irq_init_line(&chip->irq, board->engine, gsi, err);
    struct bus_range bytes = {port, 1, &i8042_bus_ops, chip, &device->lock};
    struct bus_range commands = {(uint64_t)port + PORT_COMMAND, 1, &command_ops, chip,
                                 &device->lock};
    r = r < 0 ? r : bus_add(board->ports, &bytes);
    r = r < 0 ? r : bus_add(board->ports, &commands);
    if (r < 0) {
        return err_wrap(err, -r, "make the keyboard controller");
    }
    *ret = TAKE_PTR(device);
    return 0;
}
