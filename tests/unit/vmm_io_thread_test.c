/* Threads with a loop of their own, and machines whose drives have one. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>

#include "unit.h"
#include "vmm/config.h"
#include "vmm/io_thread.h"
#include "vmm/machine_devices.h"
#include "vmm_guests.h"
#include "vmm_mmio.h"

struct seen {
    _Atomic unsigned calls;
    pthread_t by;
};

static void note(void *data)
{
    struct seen *seen = data;
    seen->by = pthread_self();
    atomic_fetch_add(&seen->calls, 1);
}

static void on_timer(struct loop_source *source, void *data)
{
    (void)source;
    note(data);
}

START_TEST(a_call_runs_on_the_thread_while_there_is_one)
{
    struct io_thread *thread = NULL;
    struct seen seen = {0};
    ck_assert_int_eq(io_thread_new(&thread, NULL), 0);
    io_thread_call(NULL, note, &seen);
    ck_assert(pthread_equal(seen.by, pthread_self()));
    io_thread_call(thread, note, &seen);
    ck_assert(pthread_equal(seen.by, pthread_self()));
    ck_assert_int_eq(io_thread_start(thread), 0);
    for (unsigned i = 3; i <= 1000; i++) {
        io_thread_call(thread, note, &seen);
        ck_assert_uint_eq(seen.calls, i); /* it waited */
        ck_assert(!pthread_equal(seen.by, pthread_self()));
    }
    io_thread_stop(thread);
    io_thread_call(thread, note, &seen);
    ck_assert(pthread_equal(seen.by, pthread_self()));
    io_thread_free(thread);
}
END_TEST

START_TEST(its_loop_runs_between_start_and_stop)
{
    struct io_thread *thread = NULL;
    struct loop_source *timer = NULL;
    struct seen seen = {0};
    ck_assert_int_eq(io_thread_new(&thread, NULL), 0);
    ck_assert_int_eq(loop_add_timer(io_thread_loop(thread), 0, on_timer, &seen, &timer), 0);
    (void)usleep(5000);
    ck_assert_uint_eq(seen.calls, 0);
    ck_assert_int_eq(io_thread_start(thread), 0);
    for (unsigned i = 0; i < 2000 && seen.calls == 0; i++) {
        (void)usleep(1000);
    }
    ck_assert_uint_eq(seen.calls, 1);
    ck_assert(!pthread_equal(seen.by, pthread_self()));
    io_thread_free(thread); /* stops it */
}
END_TEST

#define SECTOR 512U

/* A machine that counts, with a disk that has a thread of its own; the test is its driver. */
static void open_machine(struct guest *guest, struct bed *bed, char *path)
{
    struct machine_options options = guest_options();
    struct vmm_config config = {.stdio = CONFIG_STDIO_NONE};
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, 64 * SECTOR), 0);
    (void)close(fd);
    config.drive[config.drive_count++] =
        (struct config_drive){.id = "disk", .path = path, .queues = 1, .io_thread = true};
    guest_open(guest, &options);
    int r = machine_add_devices(guest->machine, &config, &guest->err);
    ck_assert_msg(r == 0, "%s", err_text(&guest->err));
    *bed = (struct bed){
        .memory = machine_memory(guest->machine),
        .loop = guest->loop,
        .bus = machine_board(guest->machine)->mmio,
    };
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        bed->driver[i].memory = bed->memory;
    }
    guest_load(guest, guest_count, guest_count_end, true);
}

/* A write of one sector; it is on its way when this returns. */
static void begin_write(struct bed *bed, uint64_t sector, uint8_t with)
{
    const uint64_t at = BED_BUFFERS + sector * 0x1000;
    const struct driver_piece piece[] = {{at, 16}, {at + 512, SECTOR}, {at + 256, 1}};
    uint8_t *p = memory_at(bed->memory, at, 0x1000);
    memset(p, 0, 512);
    store_le32(p, 1); /* VIRTIO_BLK_T_OUT */
    store_le64(p + 8, sector);
    p[256] = 0xee;
    memset(p + 512, with, SECTOR);
    ck_assert_int_ge(bed_send(bed, 0, piece, 2, 1), 0);
}

static bool is_done(struct bed *bed)
{
    unsigned id;
    uint32_t len;
    return driver_get(&bed->driver[0], &id, &len);
}

START_TEST(a_paused_machine_stands_with_all_its_threads)
{
    struct guest guest;
    struct bed bed;
    char path[] = "/tmp/isola-io-thread-XXXXXX";
    open_machine(&guest, &bed, path);
    ck_assert_int_eq(machine_start(guest.machine, guest_on_end, guest.loop, &guest.err), 0);
    bed_start(&bed, 0, 1, 16);
    for (unsigned i = 1; i <= 200; i++) {
        begin_write(&bed, i % 8, (uint8_t)i);
        ck_assert_int_eq(machine_pause(guest.machine, &guest.err), 0);
        /* Done, or not looked at: in between there is nothing while it stands. */
        bool done = is_done(&bed);
        (void)usleep(i % 16 == 0 ? 2000 : 0);
        ck_assert(done || !is_done(&bed));
        ck_assert_int_eq(machine_resume(guest.machine, &guest.err), 0);
        BED_UNTIL(&bed, done || is_done(&bed));
        const uint8_t *status =
            memory_at(bed.memory, BED_BUFFERS + (uint64_t)(i % 8) * 0x1000 + 256, 1);
        ck_assert_uint_eq(*status, 0);
    }
    guest_close(&guest);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    for (unsigned i = 193; i <= 200; i++) {
        uint8_t byte = 0;
        ck_assert_int_eq(pread(fd, &byte, 1, (off_t)(i % 8) * SECTOR + 511), 1);
        ck_assert_uint_eq(byte, (uint8_t)i);
    }
    (void)close(fd);
    (void)unlink(path);
}
END_TEST

START_TEST(a_machine_ends_with_requests_under_way)
{
    for (unsigned round = 0; round < 20; round++) {
        struct guest guest;
        struct bed bed;
        char path[] = "/tmp/isola-io-thread-XXXXXX";
        open_machine(&guest, &bed, path);
        ck_assert_int_eq(machine_start(guest.machine, guest_on_end, guest.loop, &guest.err), 0);
        bed_start(&bed, 0, 1, 16);
        for (unsigned i = 0; i < 4; i++) {
            begin_write(&bed, i, 1);
        }
        guest_close(&guest);
        (void)unlink(path);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_call_runs_on_the_thread_while_there_is_one,
        its_loop_runs_between_start_and_stop,
        a_paused_machine_stands_with_all_its_threads,
        a_machine_ends_with_requests_under_way,
        NULL,
    };
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        (void)printf("1..0 # SKIP this host has no /dev/kvm\n");
        return 0;
    }
    return unit_run("vmm_io_thread", tests);
}
