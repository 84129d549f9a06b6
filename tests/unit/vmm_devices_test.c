#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/macros.h"
#include "unit.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/console.h"
#include "vmm_mmio.h"

#define F_STATS (1ULL << 1)
#define F_REPORTING (1ULL << 5)

static void open_console(struct bed *bed, int in_fd, int out_fd)
{
    struct virtio_console_config config = {
        .in_fd = in_fd, .out_fd = out_fd, .columns = 80, .rows = 25};
    bed_open(bed);
    ck_assert_int_eq(
        virtio_console_new("hvc0", &config, bed->memory, bed->loop, &bed->virtio, NULL), 0);
    bed_connect(bed);
}

static uint8_t pattern(uint32_t i)
{
    return (uint8_t)(i * 7 + (i >> 8));
}

/* Puts the next len bytes of the pattern into slot and sends them in two pieces. */
static int send_pattern(struct bed *bed, unsigned slot, uint32_t at, uint32_t len)
{
    uint64_t gpa = BED_BUFFERS + slot * 8192ULL;
    struct driver_piece pieces[] = {{gpa, len / 3}, {gpa + len / 3, len - len / 3}};
    uint8_t *p = memory_at(bed->memory, gpa, len);
    for (uint32_t i = 0; i < len; i++) {
        p[i] = pattern(at + i);
    }
    return bed_send(bed, 1, pieces, 2, 0);
}

static uint32_t drain(int fd, uint32_t at)
{
    uint8_t data[4096];
    ssize_t n = 0;
    while ((n = read(fd, data, sizeof(data))) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            MUST(data[i] == pattern(at + (uint32_t)i));
        }
        at += (uint32_t)n;
    }
    return at;
}

/* A slow reader: far more is sent than the pipe holds; kind 2 is a blocking pipe, 1 a socket. */
START_TEST(output_waits_in_the_queue_for_a_slow_reader_and_none_is_lost)
{
    for (unsigned kind = 0; kind < 3; kind++) {
        struct bed bed;
        int fds[2];
        unsigned id = 0;
        uint32_t len = 0;
        uint32_t sent = 0;
        uint32_t seen = 0;
        unsigned slots = 0;
        unsigned stalls = 0;
        ck_assert_int_eq(kind == 1 ? socketpair(AF_UNIX, SOCK_STREAM, 0, fds)
                                   : pipe2(fds, kind == 0 ? O_NONBLOCK : 0),
                         0);
        ck_assert_int_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
        int small = 4096;
        (void)fcntl(fds[1], F_SETPIPE_SZ, small);
        (void)setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
        open_console(&bed, -1, fds[1]);
        (void)close(fds[1]);
        bed_start(&bed, VIRTIO_F_EVENT_IDX, 2, 16);
        while (seen < 2000000) {
            while (bed.driver[1].free_count >= 2) {
                uint32_t n = 5000 + slots % 1000;
                ck_assert_int_ge(send_pattern(&bed, slots % 24, sent, n), 0);
                sent += n;
                slots++;
            }
            bed_pump(&bed);
            stalls += bed.driver[1].free_count < 2 && !driver_get(&bed.driver[1], &id, &len);
            seen = drain(fds[0], seen);
            bed_pump(&bed);
            while (driver_get(&bed.driver[1], &id, &len)) {
                ck_assert_uint_eq(len, 0);
            }
        }
        ck_assert_uint_gt(stalls, 1);
        (void)close(fds[0]);
        bed_close(&bed);
    }
}
END_TEST

START_TEST(output_is_thrown_away_when_the_reader_has_gone)
{
    struct bed bed;
    int fds[2];
    unsigned id = 0;
    uint32_t len = 0;
    (void)signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(pipe2(fds, 0), 0);
    open_console(&bed, -1, fds[1]);
    (void)close(fds[1]);
    (void)close(fds[0]);
    bed_start(&bed, 0, 2, 16);
    for (unsigned i = 0; i < 100; i++) {
        ck_assert_int_ge(send_pattern(&bed, 0, 0, 5000), 0);
        bed_pump(&bed);
        ck_assert(driver_get(&bed.driver[1], &id, &len));
    }
    bed_close(&bed);
}
END_TEST

START_TEST(input_waits_for_buffers_and_none_is_lost)
{
    for (unsigned kind = 0; kind < 2; kind++) {
        struct bed bed;
        int fds[2];
        unsigned id = 0;
        uint32_t len = 0;
        uint32_t sent = 0;
        uint32_t seen = 0;
        ck_assert_int_eq(kind == 1 ? socketpair(AF_UNIX, SOCK_STREAM, 0, fds) : pipe2(fds, 0), 0);
        ck_assert_int_eq(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
        open_console(&bed, fds[0], -1);
        bed_start(&bed, VIRTIO_F_RING_PACKED, 2, 16);
        for (unsigned round = 0; seen < 300000; round++) {
            uint8_t data[3000];
            for (uint32_t i = 0; i < sizeof(data); i++) {
                data[i] = pattern(sent + i);
            }
            ssize_t n = write(fds[1], data, sizeof(data));
            sent += n < 0 ? 0 : (uint32_t)n;
            bed_pump(&bed);
            /* Buffers come late, and one at a time. */
            uint64_t gpa = BED_BUFFERS;
            struct driver_piece pieces[] = {{gpa, 700}, {gpa + 700, 1 + round % 800}};
            ck_assert_int_ge(bed_send(&bed, 0, pieces, 0, 2), 0);
            bed_pump(&bed);
            if (!driver_get(&bed.driver[0], &id, &len)) {
                ck_abort_msg("no input");
            }
            const uint8_t *got = memory_at(bed.memory, gpa, 1501);
            for (uint32_t i = 0; i < len; i++) {
                MUST(got[i] == pattern(seen + i));
            }
            seen += len;
        }
        /* The writer goes; what he wrote still comes, then nothing. */
        (void)close(fds[1]);
        while (seen < sent) {
            struct driver_piece piece = {BED_BUFFERS, 4096};
            ck_assert_int_ge(bed_send(&bed, 0, &piece, 0, 1), 0);
            bed_pump(&bed);
            ck_assert(driver_get(&bed.driver[0], &id, &len));
            seen += len;
        }
        ck_assert_uint_eq(seen, sent);
        struct driver_piece piece = {BED_BUFFERS, 4096};
        ck_assert_int_ge(bed_send(&bed, 0, &piece, 0, 1), 0);
        bed_pump(&bed);
        ck_assert(!driver_get(&bed.driver[0], &id, &len));
        (void)close(fds[0]);
        bed_close(&bed);
    }
}
END_TEST

START_TEST(a_buffer_that_waits_is_filled_when_somebody_types)
{
    struct bed bed;
    int fds[2];
    unsigned id = 0;
    uint32_t len = 0;
    struct driver_piece piece = {BED_BUFFERS, 100};
    ck_assert_int_eq(pipe2(fds, 0), 0);
    open_console(&bed, fds[0], -1);
    bed_start(&bed, VIRTIO_F_EVENT_IDX, 2, 16);
    for (unsigned i = 0; i < 20; i++) {
        ck_assert_int_ge(bed_send(&bed, 0, &piece, 0, 1), 0);
        bed_pump(&bed);
        ck_assert(!driver_get(&bed.driver[0], &id, &len));
        ck_assert_int_eq(write(fds[1], "typed", 5), 5);
        bed_pump(&bed);
        ck_assert(driver_get(&bed.driver[0], &id, &len));
        ck_assert_uint_eq(len, 5);
        ck_assert_mem_eq(memory_at(bed.memory, BED_BUFFERS, 5), "typed", 5);
    }
    (void)close(fds[0]);
    (void)close(fds[1]);
    bed_close(&bed);
}
END_TEST

START_TEST(the_descriptors_of_a_console_keep_their_flags)
{
    struct bed bed;
    int fds[2];
    ck_assert_int_eq(pipe2(fds, 0), 0);
    open_console(&bed, fds[0], fds[1]);
    ck_assert_int_eq(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0);
    ck_assert_int_eq(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
    bed_close(&bed);
    ck_assert_int_ge(fcntl(fds[0], F_GETFL), 0);
    ck_assert_int_ge(fcntl(fds[1], F_GETFL), 0);
    (void)close(fds[0]);
    (void)close(fds[1]);
}
END_TEST

START_TEST(a_console_writes_to_a_file_and_ends_with_it)
{
    struct bed bed;
    unsigned id = 0;
    uint32_t len = 0;
    int fd = memfd_create("console-test", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    open_console(&bed, fd, fd);
    bed_start(&bed, 0, 2, 16);
    for (unsigned i = 0; i < 50; i++) {
        ck_assert_int_ge(send_pattern(&bed, 0, i * 6000, 6000), 0);
        bed_pump(&bed);
        ck_assert(driver_get(&bed.driver[1], &id, &len));
    }
    ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
    ck_assert_uint_eq(drain(fd, 0), 300000);
    (void)close(fd);
    bed_close(&bed);
}
END_TEST

START_TEST(a_new_size_is_told_and_read)
{
    struct bed bed;
    open_console(&bed, -1, -1);
    bed_start(&bed, 1, 2, 16);
    (void)bed_interrupts(&bed);
    uint32_t generation = bed_get(&bed, 0xfc);
    ck_assert_uint_eq(bed_get(&bed, 0x100), 80 | 25u << 16);
    virtio_console_resize(bed.virtio, 132, 50);
    ck_assert_uint_eq(bed_interrupts(&bed), 1);
    ck_assert_uint_eq(bed_get(&bed, 0x60), 2);
    ck_assert_uint_ne(bed_get(&bed, 0xfc), generation);
    ck_assert_uint_eq(bus_read(bed.bus, BED_BASE + 0x100, 2), 132);
    ck_assert_uint_eq(bus_read(bed.bus, BED_BASE + 0x102, 2), 50);
    virtio_console_resize(bed.virtio, 132, 50);
    ck_assert_uint_eq(bed_interrupts(&bed), 0);
    bed_close(&bed);
}
END_TEST

START_TEST(half_written_output_goes_on_after_a_restore)
{
    AUTO(buf_donep) struct buf saved = {0};
    struct bed one;
    struct bed two;
    int fds[2];
    unsigned id = 0;
    uint32_t len = 0;
    ck_assert_int_eq(pipe2(fds, O_NONBLOCK), 0);
    open_console(&one, -1, fds[1]);
    bed_start(&one, 0, 2, 16);
    struct driver_piece piece = {.gpa = BED_BUFFERS, .len = 200000};
    uint8_t *p = memory_at(one.memory, BED_BUFFERS, piece.len);
    for (uint32_t i = 0; i < piece.len; i++) {
        p[i] = pattern(i);
    }
    ck_assert_int_ge(bed_send(&one, 1, &piece, 1, 0), 0);
    bed_pump(&one);
    ck_assert(!driver_get(&one.driver[1], &id, &len));
    struct device *device = &one.virtio->device;
    ck_assert_int_eq(device->ops->quiesce(device, NULL), 0);
    uint32_t seen = drain(fds[0], 0);
    ck_assert_uint_gt(seen, 1000);
    bed_pump(&one); /* paused: nothing more comes */
    ck_assert_uint_eq(drain(fds[0], seen), seen);
    ck_assert_int_eq(state_write(&saved, device->state, device->instance, one.virtio, NULL), 0);

    open_console(&two, -1, fds[1]);
    for (uint64_t at = 0; at < BED_REGION; at += 4096) {
        MUST(memory_write(two.memory, at, memory_at(one.memory, at, 4096), 4096) == 0);
    }
    two.driver[1] = one.driver[1];
    two.driver[1].memory = two.memory;
    bed_close(&one);
    device = &two.virtio->device;
    struct state_reader reader = {.data = (const uint8_t *)saved.data, .len = saved.len};
    ck_assert_int_eq(state_read(&reader, device->state, device->instance, two.virtio, NULL), 0);
    device->ops->resume(device);
    while (!driver_get(&two.driver[1], &id, &len)) {
        bed_pump(&two);
        seen = drain(fds[0], seen);
    }
    seen = drain(fds[0], seen);
    ck_assert_uint_eq(seen, piece.len);
    (void)close(fds[0]);
    (void)close(fds[1]);
    bed_close(&two);
}
END_TEST

static void open_balloon(struct bed *bed)
{
    struct virtio_balloon_config config = {.report_free = true};
    bed_open(bed);
    ck_assert_int_eq(
        virtio_balloon_new("balloon", &config, bed->memory, bed->loop, &bed->virtio, NULL), 0);
    bed_connect(bed);
}

static bool page_is_there(struct bed *bed, uint64_t gpa)
{
    return *(uint8_t *)memory_at(bed->memory, gpa, 1) == 0xaa;
}

static void fill_pages(struct bed *bed, uint64_t gpa, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        memset(memory_at(bed->memory, gpa + i * 4096ULL, 4096), 0xaa, 4096);
    }
}

#define PAGES 0xc0000ULL

START_TEST(pages_given_up_are_given_back_and_others_are_not_touched)
{
    static const uint32_t numbers[] = {
        0xc5, 0xc3, 0xc4, 0xc3, 0xc8, 0xfffffff, 0x200, 0x1ff, 0xffffffff,
    };
    struct bed bed;
    struct virtio_balloon_info info;
    unsigned id = 0;
    uint32_t len = 0;
    open_balloon(&bed);
    bed_start(&bed, 0, 2, 16);
    fill_pages(&bed, PAGES, 10);
    fill_pages(&bed, 0x1ff000, 1);
    ck_assert_int_eq(memory_write(bed.memory, BED_BUFFERS, numbers, sizeof(numbers)), 0);
    struct driver_piece pieces[] = {{BED_BUFFERS, 6}, {BED_BUFFERS + 6, sizeof(numbers) - 6}};
    ck_assert_int_ge(bed_send(&bed, 0, pieces, 2, 0), 0);
    bed_pump(&bed);
    ck_assert(driver_get(&bed.driver[0], &id, &len));
    for (unsigned i = 0; i < 10; i++) {
        bool gone = (i >= 3 && i <= 5) || i == 8;
        ck_assert(page_is_there(&bed, PAGES + i * 4096ULL) == !gone);
    }
    ck_assert(!page_is_there(&bed, 0x1ff000));
    virtio_balloon_get(bed.virtio, &info);
    ck_assert_uint_eq(info.discarded, 5 * 4096);
    ck_assert_uint_eq(bed.virtio->device.guest_errors, 3);
    bed_close(&bed);
}
END_TEST

START_TEST(a_request_of_endless_pages_ends)
{
    struct bed bed;
    struct driver_piece pieces[8];
    unsigned id = 0;
    uint32_t len = 0;
    open_balloon(&bed);
    bed_start(&bed, 0, 2, 16);
    for (unsigned i = 0; i < COUNT(pieces); i++) {
        pieces[i] = (struct driver_piece){.gpa = BED_REGION, .len = BED_REGION};
    }
    ck_assert_int_ge(bed_send(&bed, 0, pieces, 8, 0), 0);
    bed_pump(&bed);
    ck_assert(driver_get(&bed.driver[0], &id, &len));
    ck_assert_uint_eq(bed.virtio->device.guest_errors, 1);
    bed_close(&bed);
}
END_TEST

/* Linux numbers the queues that are there; the specification leaves gaps. */
START_TEST(free_pages_that_are_reported_are_given_back)
{
    static const struct {
        uint64_t features;
        unsigned queue;
    } cases[] = {{F_REPORTING | F_STATS, 3}, {F_REPORTING | F_STATS, 4}, {F_REPORTING, 2}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct bed bed;
        unsigned id = 0;
        uint32_t len = 0;
        open_balloon(&bed);
        bed_start(&bed, cases[i].features, 5, 16);
        fill_pages(&bed, PAGES, 10);
        struct driver_piece pieces[] = {
            {PAGES, 8192}, {PAGES + 3 * 4096, 4096}, {PAGES + 5 * 4096 + 8, 4096}};
        ck_assert_int_ge(bed_send(&bed, cases[i].queue, pieces, 0, 3), 0);
        bed_pump(&bed);
        ck_assert(driver_get(&bed.driver[cases[i].queue], &id, &len));
        for (unsigned n = 0; n < 10; n++) {
            ck_assert(page_is_there(&bed, PAGES + n * 4096ULL) == !(n < 2 || n == 3));
        }
        ck_assert_uint_eq(bed.virtio->device.guest_errors, 1);
        bed_close(&bed);
    }
}
END_TEST

START_TEST(a_target_is_told_and_figures_are_fetched)
{
    struct bed bed;
    struct virtio_balloon_info info;
    unsigned id = 0;
    uint32_t len = 0;
    uint8_t stats[] = {4, 0, 1, 2, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 99, 0};
    open_balloon(&bed);
    bed_start(&bed, F_STATS, 3, 16);
    (void)bed_interrupts(&bed);
    virtio_balloon_set_target(bed.virtio, 10 * 4096 + 5);
    ck_assert_uint_eq(bed_interrupts(&bed), 1);
    ck_assert_uint_eq(bed_get(&bed, 0x100), 10);
    bed_set(&bed, 0x104, 7);
    bed_set(&bed, 0x100, 7); /* the target is ours */
    ck_assert_uint_eq(bed_get(&bed, 0x100), 10);
    ck_assert_int_eq(memory_write(bed.memory, BED_BUFFERS, stats, sizeof(stats)), 0);
    struct driver_piece piece = {BED_BUFFERS, sizeof(stats)};
    ck_assert_int_ge(bed_send(&bed, 2, &piece, 1, 0), 0);
    bed_pump(&bed);
    ck_assert(!driver_get(&bed.driver[2], &id, &len)); /* kept */
    virtio_balloon_get(bed.virtio, &info);
    ck_assert_uint_eq(info.actual, 7 * 4096);
    ck_assert_uint_eq(info.target, 10 * 4096);
    ck_assert_uint_eq(info.known, 1u << VIRTIO_BALLOON_FREE | 1u << VIRTIO_BALLOON_TOTAL);
    ck_assert_uint_eq(info.stat[VIRTIO_BALLOON_FREE], 0x201);
    ck_assert_uint_eq(info.stat[VIRTIO_BALLOON_TOTAL], 0x10000);
    ck_assert(driver_get(&bed.driver[2], &id, &len)); /* and asked for again */
    bed_close(&bed);
}
END_TEST

int main(void)
{
    return unit_run("vmm_devices", (const TTest *const[]){
                                       output_waits_in_the_queue_for_a_slow_reader_and_none_is_lost,
                                       output_is_thrown_away_when_the_reader_has_gone,
                                       input_waits_for_buffers_and_none_is_lost,
                                       a_buffer_that_waits_is_filled_when_somebody_types,
                                       the_descriptors_of_a_console_keep_their_flags,
                                       a_console_writes_to_a_file_and_ends_with_it,
                                       a_new_size_is_told_and_read,
                                       half_written_output_goes_on_after_a_restore,
                                       pages_given_up_are_given_back_and_others_are_not_touched,
                                       a_request_of_endless_pages_ends,
                                       free_pages_that_are_reported_are_given_back,
                                       a_target_is_told_and_figures_are_fetched,
                                       NULL,
                                   });
}
