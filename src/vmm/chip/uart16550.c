/*
 * A 16550A serial port (National Semiconductor PC16550D), its wire a pair of descriptors.
 *
 * A CPU thread only puts bytes into a ring; the loop writes them. A full ring is a transmitter that
 * is busy: the guest waits, nothing is lost. Its interrupt line is level by nature and an edge on
 * the bus: each change from none to some cause raises it.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/loop.h"
#include "base/macros.h"
#include "vmm/bus.h"
#include "vmm/chip/board.h"
#include "vmm/device.h"
#include "vmm/irq.h"

#define FIFO_SIZE 16u
#define RING_SIZE 4096u /* a power of two */

enum {
    IER_RECEIVE = 1,
    IER_TRANSMIT = 2,
    IER_LINE = 4,
    IER_MASK = 0xf,
    IIR_NONE = 1,
    IIR_TRANSMIT = 2,
    IIR_RECEIVE = 4,
    IIR_LINE = 6,
    IIR_TIMEOUT = 0xc,
    IIR_FIFO = 0xc0,
    FCR_ENABLE = 1,
    FCR_CLEAR_RECEIVE = 2,
    FCR_CLEAR_TRANSMIT = 4,
    LCR_DIVISOR = 0x80,
    MCR_LOOP = 0x10,
    MCR_MASK = 0x1f,
    LSR_READY = 1,
    LSR_OVERRUN = 2,
    LSR_EMPTY = 0x20,
    LSR_IDLE = 0x40,
    MSR_CONNECTED = 0xb0, /* CTS, DSR, DCD */
};

struct uart {
    struct device device;
    struct board *board;
    uint16_t port;
    struct irq irq;
    struct loop_source *wake_source, *in_source, *out_source;
    int wake_fd; /* the loop is to look at ring and FIFO */
    int in_fd, out_fd;
    bool in_waits;  /* the input is not watched: the FIFO is full */
    bool out_waits; /* the output takes nothing just now */
    /* Saved */
    uint8_t ier, fcr, lcr, mcr, scr, lsr_errors;
    uint16_t divisor;
    bool transmit_pending; /* "transmitter empty" was not yet told */
    uint32_t fifo_count;
    uint8_t fifo[FIFO_SIZE];
    struct buf unsent; /* of the ring, while saved */
    bool line;
    /* Ring of what is to be written */
    uint32_t head, tail;
    uint8_t ring[RING_SIZE];
};

static uint32_t ring_used(const struct uart *uart)
{
    return uart->head - uart->tail;
}

static uint8_t cause(const struct uart *uart)
{
    if ((uart->ier & IER_LINE) != 0 && uart->lsr_errors != 0) {
        return IIR_LINE;
    }
    if ((uart->ier & IER_RECEIVE) != 0 && uart->fifo_count > 0) {
        /* Below the trigger level it is the timeout that tells of what has come: we do not wait. */
        return (uart->fcr & FCR_ENABLE) != 0 ? IIR_TIMEOUT : IIR_RECEIVE;
    }
    if ((uart->ier & IER_TRANSMIT) != 0 && uart->transmit_pending) {
        return IIR_TRANSMIT;
    }
    return IIR_NONE;
}

static void update_line(struct uart *uart)
{
    bool line = cause(uart) != IIR_NONE;
    if (line && !uart->line) {
        irq_raise(&uart->irq);
    }
    uart->line = line;
}

static uint8_t line_status(const struct uart *uart)
{
    uint8_t status = uart->lsr_errors;
    status |= uart->fifo_count > 0 ? LSR_READY : 0;
    status |= ring_used(uart) < RING_SIZE ? LSR_EMPTY : 0;
    status |= ring_used(uart) == 0 ? LSR_IDLE : 0;
    return status;
}

static void wake_loop(struct uart *uart)
{
    uint64_t one = 1;
    ssize_t n = write(uart->wake_fd, &one, sizeof(one));
    (void)n;
}

static void receive(struct uart *uart, uint8_t byte)
{
    uint32_t size = (uart->fcr & FCR_ENABLE) != 0 ? FIFO_SIZE : 1;
    if (uart->fifo_count >= size) {
        uart->lsr_errors |= LSR_OVERRUN;
        return;
    }
    uart->fifo[uart->fifo_count++] = byte;
}

static void transmit(struct uart *uart, uint8_t byte)
{
    uart->transmit_pending = false;
    if ((uart->mcr & MCR_LOOP) != 0) {
        receive(uart, byte);
    } else if (ring_used(uart) < RING_SIZE) {
        uart->ring[uart->head++ % RING_SIZE] = byte;
        if (ring_used(uart) == 1) {
            wake_loop(uart);
        }
    } else {
        device_guest_error(&uart->device, "sent while the transmitter was busy");
    }
    uart->transmit_pending = ring_used(uart) < RING_SIZE;
}

static uint8_t take_byte(struct uart *uart)
{
    if (uart->fifo_count == 0) {
        return 0;
    }
    uint8_t byte = uart->fifo[0];
    memmove(uart->fifo, uart->fifo + 1, --uart->fifo_count);
    if (uart->in_waits) {
        wake_loop(uart);
    }
    return byte;
}

static uint8_t modem_status(const struct uart *uart)
{
    if ((uart->mcr & MCR_LOOP) == 0) {
        return MSR_CONNECTED;
    }
    /* Outputs come back as inputs: RTS to CTS, DTR to DSR, OUT1 to RI, OUT2 to DCD. */
    uint8_t mcr = uart->mcr;
    return (uint8_t)((mcr & 2) << 3 | (mcr & 1) << 5 | (mcr & 4) << 4 | (mcr & 8) << 4);
}

static uint8_t read_interrupt(struct uart *uart)
{
    uint8_t now = cause(uart);
    if (now == IIR_TRANSMIT) {
        uart->transmit_pending = false; /* reading is what acknowledges it */
    }
    return (uint8_t)(now | ((uart->fcr & FCR_ENABLE) != 0 ? IIR_FIFO : 0));
}

static uint64_t uart_read(void *data, uint64_t offset, unsigned size)
{
    struct uart *uart = data;
    uint8_t value = 0xff;
    bool divisor = (uart->lcr & LCR_DIVISOR) != 0;
    if (size != 1) {
        return UINT64_MAX;
    }
    switch (offset) {
    case 0:
        value = divisor ? (uint8_t)uart->divisor : take_byte(uart);
        break;
    case 1:
        value = divisor ? (uint8_t)(uart->divisor >> 8) : uart->ier;
        break;
    case 2:
        value = read_interrupt(uart);
        break;
    case 3:
        value = uart->lcr;
        break;
    case 4:
        value = uart->mcr;
        break;
    case 5:
        value = line_status(uart);
        uart->lsr_errors = 0;
        break;
    case 6:
        value = modem_status(uart);
        break;
    case 7:
        value = uart->scr;
        break;
    default:
        break;
    }
    update_line(uart);
    return value;
}

static void write_fifo_control(struct uart *uart, uint8_t value)
{
    bool changed = ((uart->fcr ^ value) & FCR_ENABLE) != 0;
    if (changed || (value & FCR_CLEAR_RECEIVE) != 0) {
        uart->fifo_count = 0;
    }
    uart->fcr = value & (uint8_t) ~(FCR_CLEAR_RECEIVE | FCR_CLEAR_TRANSMIT);
    if (uart->in_waits) {
        wake_loop(uart);
    }
}

static void uart_write(void *data, uint64_t offset, unsigned size, uint64_t wide)
{
    struct uart *uart = data;
    uint8_t value = (uint8_t)wide;
    bool divisor = (uart->lcr & LCR_DIVISOR) != 0;
    if (size != 1) {
        device_guest_error(&uart->device, "access of %u bytes", size);
        return;
    }
    switch (offset) {
    case 0:
        if (divisor) {
            uart->divisor = (uint16_t)((uart->divisor & 0xff00) | value);
        } else {
            transmit(uart, value);
        }
        break;
    case 1:
        if (divisor) {
            uart->divisor = (uint16_t)((uart->divisor & 0xff) | value << 8);
        } else {
            /* Enabling it with an empty transmitter is a cause at once. */
            uart->transmit_pending |= (value & ~uart->ier & IER_TRANSMIT) != 0;
            uart->ier = value & IER_MASK;
        }
        break;
    case 2:
        write_fifo_control(uart, value);
        break;
    case 3:
        uart->lcr = value;
        break;
    case 4:
        uart->mcr = value & MCR_MASK;
        break;
    case 7:
        uart->scr = value;
        break;
    default:
        break;
    }
    update_line(uart);
}

static const struct bus_ops uart_bus_ops = {.read = uart_read, .write = uart_write};

/* The guest reads no more for now, or the other end is gone. */
static void stop_input(struct uart *uart)
{
    loop_remove(uart->in_source);
    uart->in_source = NULL;
}

static void on_input(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)events;
    struct uart *uart = data;
    uint8_t bytes[FIFO_SIZE];
    (void)pthread_mutex_lock(&uart->device.lock);
    uint32_t size = (uart->fcr & FCR_ENABLE) != 0 ? FIFO_SIZE : 1;
    uint32_t room = size - MIN(size, uart->fifo_count);
    if (room == 0) {
        uart->in_waits = true;
        stop_input(uart);
    } else {
        ssize_t n = read(fd, bytes, room);
        for (ssize_t i = 0; i < n; i++) {
            receive(uart, bytes[i]);
        }
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            stop_input(uart);
            uart->in_fd = -1;
        }
        update_line(uart);
    }
    (void)pthread_mutex_unlock(&uart->device.lock);
}

/*
 * The descriptor may be another's terminal, which is not ours to make non-blocking: what poll says
 * can be written is at least PIPE_BUF.
 */
static ssize_t write_some(int fd, const uint8_t *data, uint32_t len)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
    if (fd < 0) {
        return (ssize_t)len;
    }
    if (poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLOUT) == 0) {
        return (poll_fd.revents & (POLLERR | POLLNVAL)) != 0 ? (ssize_t)len : 0;
    }
    if (poll_fd.revents == 0) {
        return 0;
    }
    ssize_t n = write(fd, data, MIN(len, (uint32_t)PIPE_BUF));
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    /* The other end is gone: a wire that nobody listens to swallows what is sent. */
    return n < 0 ? (ssize_t)len : n;
}

static void on_writable(struct loop_source *source, int fd, uint32_t events, void *data);

static void send_ring(struct uart *uart)
{
    bool was_full = ring_used(uart) == RING_SIZE;
    ssize_t n = 1;
    while (n > 0 && ring_used(uart) > 0) {
        uint32_t at = uart->tail % RING_SIZE;
        n = write_some(uart->out_fd, uart->ring + at, MIN(ring_used(uart), RING_SIZE - at));
        uart->tail += (uint32_t)n;
    }
    if (was_full && ring_used(uart) < RING_SIZE) {
        uart->transmit_pending = true;
        update_line(uart);
    }
    if (n == 0 && uart->out_source == NULL &&
        loop_add_fd(uart->board->loop, uart->out_fd, EPOLLOUT, on_writable, uart,
                    &uart->out_source) < 0) {
        uart->out_fd = -1;
    }
}

static void on_writable(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)fd;
    (void)events;
    struct uart *uart = data;
    (void)pthread_mutex_lock(&uart->device.lock);
    loop_remove(source);
    uart->out_source = NULL;
    send_ring(uart);
    (void)pthread_mutex_unlock(&uart->device.lock);
}

static void on_wake(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)events;
    struct uart *uart = data;
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof(count));
    (void)n;
    (void)pthread_mutex_lock(&uart->device.lock);
    if (uart->out_source == NULL) {
        send_ring(uart);
    }
    uart->in_waits = false;
    if (uart->in_fd >= 0 && uart->in_source == NULL &&
        loop_add_fd(uart->board->loop, uart->in_fd, EPOLLIN, on_input, uart, &uart->in_source) <
            0) {
        uart->in_fd = -1; /* a plain file cannot be waited for */
    }
    (void)pthread_mutex_unlock(&uart->device.lock);
}

static void uart_reset(struct device *device)
{
    struct uart *uart = CONTAINER_OF(device, struct uart, device);
    uart->ier = uart->fcr = uart->lcr = uart->mcr = uart->scr = uart->lsr_errors = 0;
    uart->divisor = 12; /* 9600 baud */
    uart->transmit_pending = false;
    uart->fifo_count = 0;
    uart->line = false;
}

static void uart_free(struct device *device)
{
    struct uart *uart = CONTAINER_OF(device, struct uart, device);
    if (uart->out_source == NULL) {
        send_ring(uart);
    }
    loop_remove(uart->wake_source);
    loop_remove(uart->in_source);
    loop_remove(uart->out_source);
    bus_remove(uart->board->ports, uart->port);
    irq_done(&uart->irq);
    (void)close_fd(uart->wake_fd);
    buf_done(&uart->unsent);
    device_done(device);
    free(uart);
}

static void uart_resume(struct device *device)
{
    const struct uart *uart = CONTAINER_OF(device, struct uart, device);
    if (uart->line) {
        irq_raise(&uart->irq);
    }
}

static const struct device_ops uart_device_ops = {
    .reset = uart_reset,
    .resume = uart_resume,
    .free = uart_free,
};

static int uart_prepare(void *object, struct err *err)
{
    struct uart *uart = object;
    buf_clear(&uart->unsent);
    for (uint32_t i = uart->tail; i != uart->head; i++) {
        if (buf_add_char(&uart->unsent, (char)uart->ring[i % RING_SIZE]) < 0) {
            return err_set(err, ENOMEM, "save a serial port");
        }
    }
    return 0;
}

static int uart_check(void *object, struct err *err)
{
    struct uart *uart = object;
    if (uart->fifo_count > FIFO_SIZE || uart->unsent.len > RING_SIZE) {
        return err_say(err, EINVAL, "more bytes than the port holds");
    }
    if (uart->unsent.len > 0) {
        memcpy(uart->ring, uart->unsent.data, uart->unsent.len);
    }
    uart->tail = 0;
    uart->head = (uint32_t)uart->unsent.len;
    wake_loop(uart);
    return 0;
}

static const struct state_table uart_state = {
    .name = "uart16550",
    .version = 1,
    .oldest = 1,
    .prepare = uart_prepare,
    .check = uart_check,
    .fields =
        (const struct state_field[]){
            STATE(U8, struct uart, ier),
            STATE(U8, struct uart, fcr),
            STATE(U8, struct uart, lcr),
            STATE(U8, struct uart, mcr),
            STATE(U8, struct uart, scr),
            STATE(U8, struct uart, lsr_errors),
            STATE(U16, struct uart, divisor),
            STATE(BOOL, struct uart, transmit_pending),
            STATE(U32, struct uart, fifo_count),
            STATE_ARRAY(BYTES, struct uart, fifo),
            STATE_BUFFER(struct uart, unsent, RING_SIZE),
            STATE(BOOL, struct uart, line),
            STATE_DONE,
        },
};

int uart16550_new(struct board *board, const char *instance, uint16_t port, uint32_t gsi, int in_fd,
                  int out_fd, struct device **ret, struct err *err)
{
    struct uart *uart = calloc(1, sizeof(*uart));
    if (uart == NULL) {
        return err_set(err, ENOMEM, "make serial port '%s'", instance);
    }
    device_init(&uart->device, &uart_device_ops, &uart_state, instance);
    AUTO(device_freep) struct device *device = &uart->device;
    uart->board = board;
    uart->port = port;
    uart->irq = IRQ_NONE;
    uart->in_fd = in_fd;
    uart->out_fd = out_fd;
    uart_reset(device);
    uart->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (uart->wake_fd < 0) {
        return err_set(err, errno, "make serial port '%s'", instance);
    }
    int r = irq_init_line(&uart->irq, board->engine, gsi, err);
    r = r < 0 ? r
              : loop_add_fd(board->loop, uart->wake_fd, EPOLLIN, on_wake, uart, &uart->wake_source);
    struct bus_range range = {port, 8, &uart_bus_ops, uart, &device->lock};
    r = r < 0 ? r : bus_add(board->ports, &range);
    if (r < 0) {
        return err_wrap(err, -r, "make serial port '%s'", instance);
    }
    wake_loop(uart);
    *ret = TAKE_PTR(device);
    return 0;
}
