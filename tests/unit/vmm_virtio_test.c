#include "vmm/virtio/virtio.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/macros.h"
#include "unit.h"
#include "vmm/virtio/rng.h"
#include "vmm_mmio.h"

static void open_rng(struct bed *bed)
{
    bed_open(bed);
    ck_assert_int_eq(virtio_rng_new("rng", bed->memory, bed->loop, &bed->virtio, NULL), 0);
    bed_connect(bed);
}

/* Asks for len bytes at BED_BUFFERS; how many came. */
static uint32_t ask(struct bed *bed, uint32_t len)
{
    struct driver_piece piece = {.gpa = BED_BUFFERS, .len = len};
    unsigned id = 0;
    uint32_t got = UINT32_MAX;
    ck_assert_int_ge(bed_send(bed, 0, &piece, 0, 1), 0);
    bed_pump(bed);
    ck_assert(driver_get(&bed->driver[0], &id, &got));
    return got;
}

START_TEST(a_driver_gets_random_bytes_and_one_interrupt_in_every_layout)
{
    for (unsigned kind = 0; kind < 8; kind++) {
        struct bed bed;
        open_rng(&bed);
        bed_start(&bed,
                  ((kind & 1) != 0 ? VIRTIO_F_RING_PACKED : 0) |
                      ((kind & 2) != 0 ? VIRTIO_F_EVENT_IDX : 0) |
                      ((kind & 4) != 0 ? VIRTIO_F_INDIRECT_DESC : 0),
                  1, 8);
        for (unsigned i = 0; i < 40; i++) {
            (void)driver_want_interrupt(&bed.driver[0]);
            (void)bed_interrupts(&bed);
            ck_assert_uint_eq(ask(&bed, 64), 64);
            ck_assert_uint_eq(bed_interrupts(&bed), 1);
            ck_assert_uint_eq(bed_get(&bed, 0x60), 1);
            bed_set(&bed, 0x64, 1);
            ck_assert_uint_eq(bed_get(&bed, 0x60), 0);
        }
        uint8_t zeros[64] = {0};
        ck_assert_mem_ne(memory_at(bed.memory, BED_BUFFERS, 64), zeros, 64);
        ck_assert_uint_eq(ask(&bed, 0x80000), 4096); /* bounded, and what it says was written */
        ck_assert_uint_eq(ask(&bed, 0), 0);
        bed_close(&bed);
    }
}
END_TEST

START_TEST(registers_say_what_the_device_is)
{
    struct bed bed;
    open_rng(&bed);
    ck_assert_uint_eq(bed_get(&bed, 0x00), 0x74726976);
    ck_assert_uint_eq(bed_get(&bed, 0x04), 2);
    ck_assert_uint_eq(bed_get(&bed, 0x08), VIRTIO_ENTROPY);
    ck_assert_uint_eq(bed_get(&bed, 0x34), 64);
    bed_set(&bed, 0x30, 1);
    ck_assert_uint_eq(bed_get(&bed, 0x34), 0);
    bed_set(&bed, 0x30, UINT32_MAX);
    ck_assert_uint_eq(bed_get(&bed, 0x34), 0);
    bed_set(&bed, 0xac, 0);
    ck_assert_uint_eq(bed_get(&bed, 0xb0), UINT32_MAX);
    ck_assert_uint_eq(bed_get(&bed, 0xb4), UINT32_MAX);
    bed_set(&bed, 0x14, 2);
    ck_assert_uint_eq(bed_get(&bed, 0x10), 0);
    ck_assert((bed_features(&bed) & VIRTIO_F_VERSION_1) != 0);
    uint64_t errors = bed.virtio->device.guest_errors;
    ck_assert_uint_eq(bus_read(bed.bus, BED_BASE, 2), 0);
    ck_assert_uint_eq(bus_read(bed.bus, BED_BASE + 2, 4), 0);
    ck_assert_uint_eq(bus_read(bed.bus, BED_BASE, 8), 0);
    ck_assert_uint_eq(bed_get(&bed, 0x100), 0); /* no configuration space */
    ck_assert_uint_eq(bus_read(bed.bus, BED_BASE + 0xff8, 8), 0);
    bed_set(&bed, 0x50, 7);
    ck_assert_uint_eq(bed.virtio->device.guest_errors, errors + 6);
    bed_close(&bed);
}
END_TEST

#define V1 VIRTIO_F_VERSION_1

START_TEST(status_moves_forward_only_and_features_are_checked)
{
    static const struct {
        const char *name;
        uint8_t write[6];  /* until 0xff */
        uint64_t features; /* written before the third */
        uint8_t want;
        unsigned errors; /* at least */
    } cases[] = {
        {"in order", {1, 3, 11, 15, 0xff}, V1, 15, 0},
        {"two at once", {3, 3, 11, 15, 0xff}, V1, 15, 0},
        {"driver first", {2, 0xff}, V1, 0, 1},
        {"nothing agreed", {1, 3, 3, 7, 0xff}, V1, 3, 1},
        {"without version 1", {1, 3, 11, 0xff}, VIRTIO_F_EVENT_IDX, 3, 1},
        {"not offered", {1, 3, 11, 0xff}, V1 | 1ULL << 33, 3, 1},
        {"not offered, and then ok", {1, 3, 11, 15, 0xff}, V1 | 1, 3, 2},
        {"all at once", {1, 3, 15, 0xff}, V1, 15, 0},
        {"a bit taken back", {1, 3, 11, 3, 0xff}, V1, 11, 1},
        {"acknowledge taken back", {1, 3, 11, 15, 14, 0xff}, V1, 15, 1},
        {"unknown bits", {1, 3, 11, 31, 0xff}, V1, 11, 1},
        {"failed", {1, 3, 131, 139, 0xff}, V1, 131, 1},
        {"needs reset is ours", {1, 3, 3 | 64, 0xff}, V1, 3, 0},
        {"reset", {1, 3, 11, 15, 0, 0xff}, V1, 0, 0},
        {"after a reset", {1, 3, 11, 0, 3, 0xff}, V1, 3, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct bed bed;
        open_rng(&bed);
        for (unsigned n = 0; n < 6 && cases[i].write[n] != 0xff; n++) {
            if (n == 2) {
                bed_accept(&bed, cases[i].features);
            }
            bed_set(&bed, 0x70, cases[i].write[n]);
        }
        uint64_t errors = bed.virtio->device.guest_errors;
        ck_assert_msg(bed_get(&bed, 0x70) == cases[i].want, "%s: 0x%x", cases[i].name,
                      bed_get(&bed, 0x70));
        ck_assert_msg(cases[i].errors == 0 ? errors == 0 : errors >= cases[i].errors, "%s: %u",
                      cases[i].name, (unsigned)errors);
        ck_assert(bed.virtio->active == (cases[i].want == 15));
        bed_close(&bed);
    }
}
END_TEST

START_TEST(features_do_not_change_after_they_were_agreed_on)
{
    struct bed bed;
    open_rng(&bed);
    bed_start(&bed, VIRTIO_F_RING_PACKED, 1, 8);
    bed_accept(&bed, VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX);
    ck_assert_uint_eq(bed.virtio->acked, VIRTIO_F_VERSION_1 | VIRTIO_F_RING_PACKED);
    ck_assert_uint_eq(ask(&bed, 16), 16);
    bed_close(&bed);
}
END_TEST

START_TEST(queues_are_enabled_between_features_and_driver_ok_only)
{
    struct bed bed;
    open_rng(&bed);
    bed_set(&bed, 0x70, 3);
    bed_accept(&bed, V1);
    bed_set(&bed, 0x30, 0);
    bed_set(&bed, 0x38, 8);
    bed_set(&bed, 0x80, BED_RINGS);
    bed_set(&bed, 0x90, BED_RINGS + 0x2000);
    bed_set(&bed, 0xa0, BED_RINGS + 0x3000);
    bed_set(&bed, 0x44, 1);
    ck_assert_uint_eq(bed_get(&bed, 0x44), 0);
    ck_assert_uint_eq(bed.virtio->device.guest_errors, 1);
    bed_set(&bed, 0x70, 11);
    bed_set(&bed, 0x44, 1);
    ck_assert_uint_eq(bed_get(&bed, 0x44), 1);
    /* While it is enabled nothing moves. */
    bed_set(&bed, 0x80, 0x1000);
    bed_set(&bed, 0x38, 4);
    ck_assert_uint_eq(bed.virtio->queue[0].desc, BED_RINGS);
    ck_assert_uint_eq(bed.virtio->queue[0].size, 8);
    ck_assert_uint_eq(bed.virtio->device.guest_errors, 3);
    bed_set(&bed, 0x44, 0);
    ck_assert_uint_eq(bed_get(&bed, 0x44), 0);
    bed_set(&bed, 0x38, 65);
    bed_set(&bed, 0x44, 1); /* larger than offered */
    ck_assert_uint_eq(bed_get(&bed, 0x44), 0);
    bed_set(&bed, 0x38, 0x10008);
    bed_set(&bed, 0x44, 1); /* not cut to 16 bits */
    ck_assert_uint_eq(bed_get(&bed, 0x44), 0);
    bed_set(&bed, 0x70, 15);
    bed_set(&bed, 0x38, 8);
    bed_set(&bed, 0x44, 1);
    ck_assert_uint_eq(bed_get(&bed, 0x44), 0);
    bed_close(&bed);
}
END_TEST

START_TEST(a_hostile_ring_asks_for_a_reset_and_works_after_it)
{
    for (unsigned packed = 0; packed < 2; packed++) {
        struct bed bed;
        struct driver_piece bad = {.gpa = 1ULL << 40, .len = 8};
        uint64_t features = packed != 0 ? VIRTIO_F_RING_PACKED : 0;
        open_rng(&bed);
        bed_start(&bed, features, 1, 8);
        (void)bed_interrupts(&bed);
        ck_assert_int_ge(bed_send(&bed, 0, &bad, 0, 1), 0);
        bed_pump(&bed);
        ck_assert_uint_eq(bed_get(&bed, 0x70), 15 | VIRTIO_NEEDS_RESET);
        ck_assert_uint_eq(bed_interrupts(&bed), 1);
        ck_assert_uint_eq(bed_get(&bed, 0x60), 2); /* told as a change of the configuration */
        uint64_t errors = bed.virtio->device.guest_errors;
        bed_set(&bed, 0x50, 0);
        bed_pump(&bed);
        ck_assert_uint_eq(bed_interrupts(&bed), 0);
        ck_assert_uint_eq(bed.virtio->device.guest_errors, errors);
        bed_set(&bed, 0x70, 15);
        ck_assert_uint_eq(bed_get(&bed, 0x70), 15 | VIRTIO_NEEDS_RESET);
        bed_set(&bed, 0x70, 0);
        ck_assert_uint_eq(bed_get(&bed, 0x70), 0);
        ck_assert_uint_eq(bed_get(&bed, 0x60), 0);
        ck_assert_uint_eq(bed_get(&bed, 0x44), 0);
        bed_start(&bed, features, 1, 8);
        ck_assert_uint_eq(ask(&bed, 16), 16);
        bed_close(&bed);
    }
}
END_TEST

static void save(struct bed *bed, struct buf *out)
{
    struct device *device = &bed->virtio->device;
    ck_assert_int_eq(device->ops->quiesce(device, NULL), 0);
    ck_assert_int_eq(state_write(out, device->state, device->instance, bed->virtio, NULL), 0);
}

static int restore(struct bed *bed, const struct buf *in)
{
    struct device *device = &bed->virtio->device;
    struct state_reader reader = {.data = (const uint8_t *)in->data, .len = in->len};
    return state_read(&reader, device->state, device->instance, bed->virtio, NULL);
}

START_TEST(a_device_restored_in_the_middle_of_work_goes_on)
{
    for (unsigned kind = 0; kind < 4; kind++) {
        AUTO(buf_donep) struct buf saved = {0};
        struct bed one;
        struct bed two;
        struct driver_piece piece = {.gpa = BED_BUFFERS, .len = 32};
        unsigned id = 0;
        uint32_t len = 0;
        open_rng(&one);
        bed_start(&one,
                  ((kind & 1) != 0 ? VIRTIO_F_RING_PACKED : 0) |
                      ((kind & 2) != 0 ? VIRTIO_F_EVENT_IDX : 0),
                  1, 8);
        for (unsigned i = 0; i < 13; i++) {
            ck_assert_uint_eq(ask(&one, 5), 5);
        }
        /* Rung and not yet seen. */
        ck_assert_int_ge(bed_send(&one, 0, &piece, 0, 1), 0);
        save(&one, &saved);
        open_rng(&two);
        for (uint64_t at = 0; at < BED_REGION; at += 4096) {
            ck_assert_int_eq(memory_write(two.memory, at, memory_at(one.memory, at, 4096), 4096),
                             0);
        }
        two.driver[0] = one.driver[0];
        two.driver[0].memory = two.memory;
        ck_assert_int_eq(restore(&two, &saved), 0);
        two.virtio->device.ops->resume(&two.virtio->device);
        bed_pump(&two);
        ck_assert(driver_get(&two.driver[0], &id, &len));
        ck_assert_uint_eq(len, 32);
        for (unsigned i = 0; i < 13; i++) {
            ck_assert_uint_eq(ask(&two, 7), 7);
        }
        bed_close(&one);
        bed_close(&two);
    }
}
END_TEST

START_TEST(saved_state_that_no_guest_can_bring_about_is_refused)
{
    AUTO(buf_donep) struct buf saved = {0};
    struct bed bed;
    unsigned refused = 0;
    open_rng(&bed);
    bed_start(&bed, VIRTIO_F_RING_PACKED, 1, 8);
    save(&bed, &saved);
    bed_close(&bed);
    /* Each byte in turn: read or refused, and never followed out of memory. */
    for (size_t i = 0; i < saved.len; i++) {
        for (unsigned bit = 0; bit < 8; bit += 7) {
            struct driver_piece piece = {.gpa = BED_BUFFERS, .len = 32};
            saved.data[i] = (char)(saved.data[i] ^ (1 << bit));
            open_rng(&bed);
            int r = restore(&bed, &saved);
            refused += r < 0;
            if (r == 0) {
                driver_init(&bed.driver[0], bed.memory, BED_RINGS, 8, true, false);
                bed.virtio->device.ops->resume(&bed.virtio->device);
                (void)bed_send(&bed, 0, &piece, 0, 1);
                bed_pump(&bed);
            }
            bed_close(&bed);
            saved.data[i] = (char)(saved.data[i] ^ (1 << bit));
        }
    }
    ck_assert_uint_gt(refused, 40);
}
END_TEST

/* Puts out requests. Returns how often the device wants to hear of one. */
static unsigned put(struct bed *bed, unsigned count)
{
    struct driver_piece piece = {.gpa = BED_BUFFERS, .len = 8};
    unsigned rings = 0;
    for (unsigned i = 0; i < count; i++) {
        ck_assert_int_ge(driver_add(&bed->driver[0], &piece, 0, 1, 0), 0);
        if (driver_must_notify(&bed->driver[0])) {
            rings++;
            virtio_kick(bed->virtio, 0);
        }
    }
    return rings;
}

/* Lets the loop run until so many requests are done. */
static void finish(struct bed *bed, unsigned count)
{
    unsigned id = 0;
    uint32_t len = 0;
    for (unsigned i = 0; i < count; i++) {
        BED_UNTIL(bed, driver_get(&bed->driver[0], &id, &len));
    }
}

/* Rounds in which the device finds so many requests at once. */
static void rounds(struct bed *bed, unsigned count, unsigned requests)
{
    for (unsigned i = 0; i < count; i++) {
        (void)put(bed, requests);
        finish(bed, requests);
    }
}

/* The loop's thread is this one; a run takes over what was decided in the one before. */
static bool is_patient(struct bed *bed)
{
    bed_pump(bed);
    return sched_getscheduler(0) == SCHED_BATCH;
}

static unsigned rounds_until(struct bed *bed, bool patient, unsigned requests)
{
    unsigned count = 0;
    while (is_patient(bed) != patient) {
        rounds(bed, 1, requests);
        ck_assert_uint_lt(++count, 1000);
    }
    return count;
}

START_TEST(where_cpus_are_shared_the_loop_is_patient_while_that_brings_several_requests)
{
    for (unsigned kind = 0; kind < 4; kind++) {
        struct bed bed;
        open_rng(&bed);
        virtio_share_cpus(bed.virtio);
        bed_start(&bed,
                  ((kind & 1) != 0 ? VIRTIO_F_RING_PACKED : 0) |
                      ((kind & 2) != 0 ? VIRTIO_F_EVENT_IDX : 0),
                  1, 16);
        ck_assert_uint_ge(rounds_until(&bed, true, 1), 30); /* a try */
        ck_assert_uint_le(rounds_until(&bed, false, 1), 6); /* which brought one each */
        ck_assert_uint_ge(rounds_until(&bed, true, 1), 60); /* the next comes later */
        bed.virtio->doorbell[0].batch.rate = 0; /* whatever else runs here: it is no slower */
        rounds(&bed, 200, 12);
        ck_assert(is_patient(&bed)); /* several each: it goes on */
        ck_assert_uint_le(rounds_until(&bed, false, 1), 140);
        bed_close(&bed);
    }
}
END_TEST

START_TEST(a_device_that_is_reset_leaves_no_patient_loop)
{
    struct bed bed;
    open_rng(&bed);
    virtio_share_cpus(bed.virtio);
    bed_start(&bed, 0, 1, 16);
    rounds(&bed, 35, 1);
    ck_assert(is_patient(&bed));
    bed.virtio->device.ops->reset(&bed.virtio->device);
    ck_assert(!is_patient(&bed));
    bed_close(&bed);
}
END_TEST

struct stress {
    struct bed bed;
    unsigned done;
    bool lost;
};

/* A CPU that keeps its queue full and sleeps until it is interrupted. */
static void *drive(void *data)
{
    struct stress *s = data;
    struct driver *d = &s->bed.driver[0];
    struct driver_piece piece = {.gpa = BED_BUFFERS, .len = 8};
    while (s->done < 30000 && !s->lost) {
        unsigned id = 0;
        uint32_t len = 0;
        while (bed_send(&s->bed, 0, &piece, 0, 1) >= 0) {
        }
        struct pollfd p = {.fd = s->bed.irq, .events = POLLIN};
        if (!driver_want_interrupt(d) && poll(&p, 1, 20000) != 1) {
            s->lost = true;
        }
        (void)bed_interrupts(&s->bed);
        while (driver_get(d, &id, &len)) {
            s->done++;
        }
    }
    loop_quit(s->bed.loop, 0);
    virtio_kick(s->bed.virtio, 0); /* the loop wakes up and sees it */
    return NULL;
}

START_TEST(a_cpu_and_the_loop_at_once_lose_neither_doorbell_nor_interrupt)
{
    for (unsigned kind = 0; kind < 8; kind++) {
        struct stress s = {0};
        pthread_t cpu;
        open_rng(&s.bed);
        if ((kind & 4) != 0) {
            virtio_share_cpus(s.bed.virtio);
        }
        bed_start(&s.bed,
                  ((kind & 1) != 0 ? VIRTIO_F_RING_PACKED : 0) |
                      ((kind & 2) != 0 ? VIRTIO_F_EVENT_IDX : 0),
                  1, 4);
        ck_assert_int_eq(pthread_create(&cpu, NULL, drive, &s), 0);
        ck_assert_int_eq(loop_run(s.bed.loop), 0);
        ck_assert_int_eq(pthread_join(cpu, NULL), 0);
        ck_assert(!s.lost);
        ck_assert_uint_ge(s.done, 30000);
        bed_close(&s.bed);
    }
}
END_TEST

int main(void)
{
    return unit_run(
        "vmm_virtio",
        (const TTest *const[]){
            a_driver_gets_random_bytes_and_one_interrupt_in_every_layout,
            registers_say_what_the_device_is,
            status_moves_forward_only_and_features_are_checked,
            features_do_not_change_after_they_were_agreed_on,
            queues_are_enabled_between_features_and_driver_ok_only,
            a_hostile_ring_asks_for_a_reset_and_works_after_it,
            a_device_restored_in_the_middle_of_work_goes_on,
            saved_state_that_no_guest_can_bring_about_is_refused,
            where_cpus_are_shared_the_loop_is_patient_while_that_brings_several_requests,
            a_device_that_is_reset_leaves_no_patient_loop,
            a_cpu_and_the_loop_at_once_lose_neither_doorbell_nor_interrupt,
            NULL,
        });
}
