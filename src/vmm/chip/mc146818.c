/*
 * The PC's real-time clock (Motorola MC146818A): the host's time, as the guest last set it, an
 * alarm, periodic interrupts, and 114 bytes of memory that a board would keep by a battery.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/macros.h"
#include "vmm/bus.h"
#include "vmm/chip/board.h"
#include "vmm/device.h"
#include "vmm/irq.h"

enum {
    REG_SECONDS = 0,
    REG_SECONDS_ALARM = 1,
    REG_MINUTES = 2,
    REG_MINUTES_ALARM = 3,
    REG_HOURS = 4,
    REG_HOURS_ALARM = 5,
    REG_WEEKDAY = 6,
    REG_DAY = 7,
    REG_MONTH = 8,
    REG_YEAR = 9,
    REG_A = 10,
    REG_B = 11,
    REG_C = 12,
    REG_D = 13,
    REG_CENTURY = 0x32,
    REGS = 128,
};

enum {
    A_UPDATE = 0x80,
    A_RATE = 0x0f,
    A_DEFAULT = 0x26, /* 32,768 Hz, 1,024 interrupts a second */
    B_SET = 0x80,
    B_PERIODIC = 0x40,
    B_ALARM = 0x20,
    B_UPDATED = 0x10,
    B_BINARY = 4,
    B_24_HOURS = 2,
    C_INTERRUPT = 0x80,
    D_VALID = 0x80,
    ALARM_ANY = 0xc0, /* both bits: every value matches */
};

struct rtc {
    struct device device;
    struct board *board;
    struct irq irq;
    int timer_fd; /* CPU threads set it, the loop hears it */
    struct loop_source *timer;
    uint16_t port;
    int64_t next_second_ns, next_period_ns; /* monotonic */
    /* Saved */
    uint8_t index;
    uint8_t reg[REGS];
    uint64_t offset_s; /* the guest's time less the host's, modulo 2^64 */
};

static int64_t guest_seconds(const struct rtc *rtc)
{
    return clock_realtime_ns() / NS_PER_SEC + (int64_t)rtc->offset_s;
}

static uint8_t encode(const struct rtc *rtc, int value)
{
    bool binary = (rtc->reg[REG_B] & B_BINARY) != 0;
    return (uint8_t)(binary ? value : value / 10 * 16 + value % 10);
}

static int decode(const struct rtc *rtc, uint8_t value)
{
    return (rtc->reg[REG_B] & B_BINARY) != 0 ? value : (value >> 4) * 10 + (value & 15);
}

static uint8_t encode_hour(const struct rtc *rtc, int hour)
{
    if ((rtc->reg[REG_B] & B_24_HOURS) != 0) {
        return encode(rtc, hour);
    }
    return (uint8_t)(encode(rtc, hour % 12 == 0 ? 12 : hour % 12) | (hour >= 12 ? 0x80 : 0));
}

static int decode_hour(const struct rtc *rtc, uint8_t value)
{
    if ((rtc->reg[REG_B] & B_24_HOURS) != 0) {
        return decode(rtc, value);
    }
    return decode(rtc, value & 0x7f) % 12 + ((value & 0x80) != 0 ? 12 : 0);
}

/* Puts the time into the registers, unless the guest is setting them. */
static void update_time(struct rtc *rtc)
{
    if ((rtc->reg[REG_B] & B_SET) != 0) {
        return;
    }
    time_t now = (time_t)guest_seconds(rtc);
    struct tm tm;
    if (gmtime_r(&now, &tm) == NULL) {
        return;
    }
    rtc->reg[REG_SECONDS] = encode(rtc, tm.tm_sec);
    rtc->reg[REG_MINUTES] = encode(rtc, tm.tm_min);
    rtc->reg[REG_HOURS] = encode_hour(rtc, tm.tm_hour);
    rtc->reg[REG_WEEKDAY] = encode(rtc, tm.tm_wday + 1);
    rtc->reg[REG_DAY] = encode(rtc, tm.tm_mday);
    rtc->reg[REG_MONTH] = encode(rtc, tm.tm_mon + 1);
    rtc->reg[REG_YEAR] = encode(rtc, (tm.tm_year + 1900) % 100);
    rtc->reg[REG_CENTURY] = encode(rtc, (tm.tm_year + 1900) / 100 % 100);
}

/* What the guest wrote becomes the offset to the host's clock. */
static void set_time(struct rtc *rtc)
{
    struct tm tm = {
        .tm_sec = decode(rtc, rtc->reg[REG_SECONDS]),
        .tm_min = decode(rtc, rtc->reg[REG_MINUTES]),
        .tm_hour = decode_hour(rtc, rtc->reg[REG_HOURS]),
        .tm_mday = decode(rtc, rtc->reg[REG_DAY]),
        .tm_mon = decode(rtc, rtc->reg[REG_MONTH]) - 1,
        .tm_year =
            decode(rtc, rtc->reg[REG_CENTURY]) * 100 + decode(rtc, rtc->reg[REG_YEAR]) - 1900,
    };
    rtc->offset_s = (uint64_t)(timegm(&tm) - clock_realtime_ns() / NS_PER_SEC);
}

static void raise_cause(struct rtc *rtc, uint8_t cause)
{
    rtc->reg[REG_C] |= cause;
    if ((rtc->reg[REG_B] & cause) != 0 && (rtc->reg[REG_C] & C_INTERRUPT) == 0) {
        rtc->reg[REG_C] |= C_INTERRUPT;
        irq_raise(&rtc->irq);
    }
}

static bool alarm_matches(const struct rtc *rtc, unsigned alarm, unsigned now)
{
    return (rtc->reg[alarm] & ALARM_ANY) == ALARM_ANY || rtc->reg[alarm] == rtc->reg[now];
}

/* Nanoseconds between periodic interrupts (table 5 of the data sheet); 0: none. */
static int64_t period_of(const struct rtc *rtc)
{
    unsigned rate = rtc->reg[REG_A] & A_RATE;
    if (rate == 0) {
        return 0;
    }
    rate = rate <= 2 ? rate + 7 : rate;
    return NS_PER_SEC / (32768 >> (rate - 1));
}

/* Only what somebody asked for costs a timer. */
static void arm(struct rtc *rtc)
{
    int64_t now = clock_monotonic_ns();
    int64_t next = -1;
    if ((rtc->reg[REG_B] & (B_ALARM | B_UPDATED)) != 0) {
        if (rtc->next_second_ns < 0) {
            rtc->next_second_ns = now + NS_PER_SEC - clock_realtime_ns() % NS_PER_SEC;
        }
        next = rtc->next_second_ns;
    } else {
        rtc->next_second_ns = -1;
    }
    if ((rtc->reg[REG_B] & B_PERIODIC) != 0 && period_of(rtc) > 0) {
        if (rtc->next_period_ns < 0) {
            rtc->next_period_ns = now + period_of(rtc);
        }
        next = next < 0 ? rtc->next_period_ns : MIN(next, rtc->next_period_ns);
    } else {
        rtc->next_period_ns = -1;
    }
    struct itimerspec at = {0};
    if (next >= 0) {
        at.it_value.tv_sec = (time_t)(next / NS_PER_SEC);
        at.it_value.tv_nsec = (long)(next % NS_PER_SEC);
    }
    (void)timerfd_settime(rtc->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static void on_timer(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)events;
    struct rtc *rtc = data;
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof(count));
    (void)n;
    int64_t now = clock_monotonic_ns();
    (void)pthread_mutex_lock(&rtc->device.lock);
    if (rtc->next_second_ns >= 0 && now >= rtc->next_second_ns) {
        rtc->next_second_ns = -1;
        update_time(rtc);
        raise_cause(rtc, B_UPDATED);
        if (alarm_matches(rtc, REG_SECONDS_ALARM, REG_SECONDS) &&
            alarm_matches(rtc, REG_MINUTES_ALARM, REG_MINUTES) &&
            alarm_matches(rtc, REG_HOURS_ALARM, REG_HOURS)) {
            raise_cause(rtc, B_ALARM);
        }
    }
    if (rtc->next_period_ns >= 0 && now >= rtc->next_period_ns) {
        rtc->next_period_ns = -1;
        raise_cause(rtc, B_PERIODIC);
    }
    arm(rtc);
    (void)pthread_mutex_unlock(&rtc->device.lock);
}

static uint64_t rtc_read(void *data, uint64_t offset, unsigned size)
{
    struct rtc *rtc = data;
    (void)size;
    if (offset == 0) {
        return 0xff; /* the index cannot be read back */
    }
    uint8_t index = rtc->index;
    if (index < REG_A || index == REG_CENTURY) {
        update_time(rtc);
    }
    uint8_t value = rtc->reg[index];
    if (index == REG_C) {
        rtc->reg[REG_C] = 0;
    }
    return value;
}

static void write_register(struct rtc *rtc, uint8_t index, uint8_t value)
{
    switch (index) {
    case REG_A:
        rtc->reg[REG_A] = value & (uint8_t)~A_UPDATE;
        rtc->next_period_ns = -1;
        break;
    case REG_B: {
        uint8_t old = rtc->reg[REG_B];
        if ((value & B_SET) != 0 && (old & B_SET) == 0) {
            update_time(rtc); /* what is not written keeps its value */
        }
        rtc->reg[REG_B] = value;
        if ((old & B_SET) != 0 && (value & B_SET) == 0) {
            set_time(rtc);
        }
        break;
    }
    case REG_C:
    case REG_D:
        device_guest_error(&rtc->device, "register %u is read-only", index);
        break;
    default:
        rtc->reg[index] = value;
        if ((index < REG_A || index == REG_CENTURY) && index != REG_SECONDS_ALARM &&
            index != REG_MINUTES_ALARM && index != REG_HOURS_ALARM &&
            (rtc->reg[REG_B] & B_SET) == 0) {
            set_time(rtc);
        }
        break;
    }
}

static void rtc_write(void *data, uint64_t offset, unsigned size, uint64_t value)
{
    struct rtc *rtc = data;
    (void)size;
    if (offset == 0) {
        rtc->index = (uint8_t)value & (REGS - 1);
        return;
    }
    if (rtc->index < REG_A) {
        update_time(rtc);
    }
    write_register(rtc, rtc->index, (uint8_t)value);
    if (rtc->index == REG_A || rtc->index == REG_B) {
        arm(rtc);
    }
}

static const struct bus_ops rtc_bus_ops = {rtc_read, rtc_write};

static void rtc_reset(struct device *device)
{
    struct rtc *rtc = CONTAINER_OF(device, struct rtc, device);
    rtc->index = 0;
    rtc->reg[REG_A] = A_DEFAULT;
    rtc->reg[REG_B] = B_24_HOURS;
    rtc->reg[REG_C] = 0;
    rtc->reg[REG_D] = D_VALID;
    rtc->next_second_ns = rtc->next_period_ns = -1;
}

static void rtc_free(struct device *device)
{
    struct rtc *rtc = CONTAINER_OF(device, struct rtc, device);
    bus_remove(rtc->board->ports, rtc->port);
    loop_remove(rtc->timer);
    (void)close_fd(rtc->timer_fd);
    irq_done(&rtc->irq);
    device_done(device);
    free(rtc);
}

static void rtc_resume(struct device *device)
{
    const struct rtc *rtc = CONTAINER_OF(device, struct rtc, device);
    if ((rtc->reg[REG_C] & C_INTERRUPT) != 0) {
        irq_raise(&rtc->irq);
    }
}

static const struct device_ops rtc_ops = {
    .reset = rtc_reset,
    .resume = rtc_resume,
    .free = rtc_free,
};

static int rtc_check(void *object, struct err *err)
{
    struct rtc *rtc = object;
    if (rtc->index >= REGS) {
        return err_say(err, EINVAL, "register %u is none", rtc->index);
    }
    arm(rtc);
    return 0;
}

static const struct state_table rtc_state = {
    .name = "mc146818",
    .version = 1,
    .oldest = 1,
    .check = rtc_check,
    .fields =
        (const struct state_field[]){
            STATE(U8, struct rtc, index),
            STATE_ARRAY(BYTES, struct rtc, reg),
            STATE(U64, struct rtc, offset_s),
            STATE_DONE,
        },
};

int mc146818_new(struct board *board, uint16_t port, uint32_t gsi, struct device **ret,
                 struct err *err)
{
    struct rtc *rtc = calloc(1, sizeof(*rtc));
    if (rtc == NULL) {
        return err_set(err, ENOMEM, "make the clock");
    }
    device_init(&rtc->device, &rtc_ops, &rtc_state, "rtc");
    AUTO(device_freep) struct device *device = &rtc->device;
    rtc->board = board;
    rtc->port = port;
    rtc->irq = IRQ_NONE;
    rtc->timer_fd = -1;
    tzset(); /* opens a file of the host's, which the C library would do later, in the jail */
    rtc_reset(device);
    int r = irq_init_line(&rtc->irq, board->engine, gsi, err);
    rtc->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    r = r < 0 || rtc->timer_fd >= 0 ? r : -errno;
    r = r < 0 ? r : loop_add_fd(board->loop, rtc->timer_fd, EPOLLIN, on_timer, rtc, &rtc->timer);
    struct bus_range range = {port, 2, &rtc_bus_ops, rtc, &device->lock};
    r = r < 0 ? r : bus_add(board->ports, &range);
    if (r < 0) {
        return err_wrap(err, -r, "make the clock");
    }
    *ret = TAKE_PTR(device);
    return 0;
}
