#include "vmm/virtio/blk.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/macros.h"
#include "unit.h"
#include "vmm/disk/disk.h"
#include "vmm_mmio.h"

#define SECTORS 4096ULL
#define F_RO (1ULL << 5)
#define F_FLUSH (1ULL << 9)
#define F_CONFIG_WCE (1ULL << 11)
#define F_MQ (1ULL << 12)
#define F_DISCARD (1ULL << 13)
#define F_WRITE_ZEROES (1ULL << 14)

enum { READ = 0, WRITE = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };

/* What open_blk() makes disks with. */
static struct limit_options limit_of_disk;

/* The image is a file in memory; the test keeps a descriptor of it and looks at its bytes. */
static int open_blk(struct bed *bed, uint32_t queues, bool read_only)
{
    struct disk_options options = {.format = "raw", .read_only = read_only, .dir_fd = -1};
    struct disk *disk = NULL;
    struct err err = ERR_NONE;
    int fd = memfd_create("blk-test", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, SECTORS * 512), 0);
    bed_open(bed);
    ck_assert_msg(disk_open("blk-test", dup(fd), &options, bed->loop, &disk, &err) == 0, "%s",
                  err_text(&err));
    struct virtio_blk_config config = {
        .disk = disk,
        .serial = "serial-0123456789abcdefgh",
        .queues = queues,
        .limit = limit_of_disk,
    };
    ck_assert_int_eq(virtio_blk_new("disk", &config, bed->memory, bed->loop, &bed->virtio, NULL),
                     0);
    bed_connect(bed);
    return fd;
}

/* Each request has a slot: header, status, then data. */
#define SLOT 0x4000ULL
static uint64_t slot_at(unsigned slot)
{
    return BED_BUFFERS + slot * SLOT;
}

static void put_header(struct bed *bed, unsigned slot, uint32_t type, uint64_t sector)
{
    uint8_t *p = memory_at(bed->memory, slot_at(slot), 32);
    memset(p, 0, 32);
    memcpy(p, &type, 4);
    memcpy(p + 8, &sector, 8);
    p[16] = 0xee;
}

static uint8_t status_of(struct bed *bed, unsigned slot)
{
    return *(uint8_t *)memory_at(bed->memory, slot_at(slot) + 16, 1);
}

static uint8_t *data_of(struct bed *bed, unsigned slot)
{
    return memory_at(bed->memory, slot_at(slot) + 512, SLOT - 512);
}

/* len bytes of data, in pieces of crooked size. The id. */
static int submit(struct bed *bed, unsigned queue, unsigned slot, uint32_t type, uint64_t sector,
                  uint32_t len)
{
    struct driver_piece piece[6] = {{slot_at(slot), 16}};
    unsigned n = 1;
    bool in = type == READ || type == GET_ID;
    put_header(bed, slot, type, sector);
    uint64_t at = slot_at(slot) + 512;
    uint32_t first = len > 700 ? 700 : len;
    if (len > 0) {
        piece[n++] = (struct driver_piece){at, first};
    }
    if (len > first) {
        piece[n++] = (struct driver_piece){at + first, len - first};
    }
    unsigned out = in ? 1 : n;
    piece[n++] = (struct driver_piece){slot_at(slot) + 16, 1};
    return bed_send(bed, queue, piece, out, n - out);
}

/* Waits for one completion; its id. */
static unsigned wait_one(struct bed *bed, unsigned queue, uint32_t *ret_len)
{
    unsigned id = 0;
    for (unsigned i = 0; i < 20000; i++) {
        bed_pump(bed);
        if (driver_get(&bed->driver[queue], &id, ret_len)) {
            return id;
        }
        (void)usleep(i < 100 ? 0 : 500);
    }
    ck_abort_msg("no completion");
    return 0;
}

static uint8_t run_one(struct bed *bed, uint32_t type, uint64_t sector, uint32_t len)
{
    uint32_t got = 0;
    ck_assert_int_ge(submit(bed, 0, 0, type, sector, len), 0);
    (void)wait_one(bed, 0, &got);
    uint8_t status = status_of(bed, 0);
    ck_assert_uint_le(status, 2);
    ck_assert_uint_eq(got, type == READ || type == GET_ID ? len + 1 : 1);
    return status;
}

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(*state >> 33);
}

struct slot {
    bool used;
    int id;
    unsigned queue;
    uint32_t type, len;
    uint64_t sector;
};

static bool overlaps(const struct slot *slots, unsigned count, uint64_t sector, uint32_t sectors)
{
    for (unsigned i = 0; i < count; i++) {
        if (slots[i].used && sector < slots[i].sector + slots[i].len / 512 &&
            slots[i].sector < sector + sectors) {
            return true;
        }
    }
    return false;
}

#define SLOTS 24
START_TEST(random_requests_on_four_queues_read_what_was_written)
{
    for (unsigned kind = 0; kind < 2; kind++) {
        struct bed bed;
        struct slot slots[SLOTS] = {0};
        AUTO(freep) uint8_t *image = calloc(SECTORS, 512);
        uint64_t random = kind + 1;
        unsigned done = 0;
        int fd = open_blk(&bed, 4, false);
        bed_start(&bed,
                  F_MQ | F_FLUSH | (kind != 0 ? VIRTIO_F_RING_PACKED : 0) | VIRTIO_F_EVENT_IDX, 4,
                  64);
        while (done < 1500) {
            for (unsigned n = next_random(&random) % SLOTS; n > 0; n--) {
                unsigned i = next_random(&random) % SLOTS;
                struct slot s = {.used = true, .queue = next_random(&random) % 4};
                s.type = next_random(&random) % 2;
                s.len = 512 * (1 + next_random(&random) % 20);
                s.sector = next_random(&random) % (SECTORS - 20);
                if (slots[i].used || overlaps(slots, SLOTS, s.sector, s.len / 512)) {
                    continue;
                }
                uint8_t *data = data_of(&bed, i);
                for (uint32_t k = 0; k < s.len; k++) {
                    data[k] = (uint8_t)next_random(&random);
                }
                if (s.type == WRITE) {
                    memcpy(image + s.sector * 512, data, s.len);
                }
                s.id = submit(&bed, s.queue, i, s.type, s.sector, s.len);
                ck_assert_int_ge(s.id, 0);
                slots[i] = s;
            }
            bed_pump(&bed);
            for (unsigned q = 0; q < 4; q++) {
                unsigned id = 0;
                uint32_t len = 0;
                while (driver_get(&bed.driver[q], &id, &len)) {
                    unsigned i = 0;
                    while (!slots[i].used || slots[i].queue != q || slots[i].id != (int)id) {
                        i++;
                        MUST(i < SLOTS);
                    }
                    MUST(status_of(&bed, i) == 0);
                    MUST(len == (slots[i].type == READ ? slots[i].len + 1 : 1));
                    MUST(slots[i].type == WRITE ||
                         memcmp(data_of(&bed, i), image + slots[i].sector * 512, slots[i].len) ==
                             0);
                    slots[i].used = false;
                    done++;
                }
            }
        }
        ck_assert_int_eq(bed.virtio->device.ops->quiesce(&bed.virtio->device, NULL), 0);
        AUTO(freep) uint8_t *file = malloc(SECTORS * 512);
        ck_assert_int_eq(pread(fd, file, SECTORS * 512, 0), SECTORS * 512);
        ck_assert_mem_eq(file, image, SECTORS * 512);
        (void)close(fd);
        bed_close(&bed);
    }
}
END_TEST

START_TEST(bad_requests_end_with_their_status_and_change_nothing)
{
    static const struct {
        const char *name;
        uint32_t type;
        uint64_t sector;
        uint32_t len;
        uint8_t want;
    } cases[] = {
        {"read", READ, 0, 512, 0},
        {"last sector", READ, SECTORS - 1, 512, 0},
        {"past the end", READ, SECTORS - 1, 1024, 1},
        {"behind the end", READ, SECTORS, 512, 1},
        {"far away", READ, UINT64_MAX, 512, 1},
        {"sector that wraps", READ, 1ULL << 55, 512, 1},
        {"half a sector", READ, 0, 256, 1},
        {"nothing", READ, 0, 0, 1},
        {"write past the end", WRITE, SECTORS - 1, 1024, 1},
        {"write half a sector", WRITE, 0, 700, 1},
        {"flush", FLUSH, 0, 0, 0},
        {"short id", GET_ID, 0, 19, 1},
        {"id", GET_ID, 0, 20, 0},
        {"unknown", 2, 0, 512, 2},
        {"far unknown", UINT32_MAX, 0, 512, 2},
        {"discard that was not agreed on", DISCARD, 0, 16, 2},
    };
    struct bed bed;
    int fd = open_blk(&bed, 1, false);
    bed_start(&bed, F_FLUSH | F_WRITE_ZEROES, 1, 64);
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint8_t status = run_one(&bed, cases[i].type, cases[i].sector, cases[i].len);
        ck_assert_msg(status == cases[i].want, "%s: %u", cases[i].name, status);
    }

    ck_assert_uint_eq(run_one(&bed, GET_ID, 0, 20), 0);
    ck_assert_mem_eq(data_of(&bed, 0), "serial-0123456789abc", 20);
    (void)close(fd);
    bed_close(&bed);
}
END_TEST

START_TEST(chains_without_room_for_a_header_or_a_status_do_no_harm)
{
    struct bed bed;
    uint32_t len = 0;
    int fd = open_blk(&bed, 1, false);
    bed_start(&bed, 0, 1, 64);
    put_header(&bed, 0, READ, 0);
    struct driver_piece no_status[] = {{slot_at(0), 16}, {slot_at(0) + 512, 512}};
    ck_assert_int_ge(bed_send(&bed, 0, no_status, 2, 0), 0);
    (void)wait_one(&bed, 0, &len);
    ck_assert_uint_eq(len, 0);
    struct driver_piece short_header[] = {{slot_at(0), 15}, {slot_at(0) + 16, 1}};
    ck_assert_int_ge(bed_send(&bed, 0, short_header, 1, 1), 0);
    (void)wait_one(&bed, 0, &len);
    ck_assert_uint_eq(status_of(&bed, 0), 1);
    struct driver_piece no_header[] = {{slot_at(0) + 16, 1}};
    put_header(&bed, 0, READ, 0);
    ck_assert_int_ge(bed_send(&bed, 0, no_header, 0, 1), 0);
    (void)wait_one(&bed, 0, &len);
    ck_assert_uint_eq(status_of(&bed, 0), 1);
    /* Header, data and status in one piece each way, as VERSION_1 allows. */
    put_header(&bed, 0, WRITE, 3);
    uint8_t *whole = memory_at(bed.memory, slot_at(1), 528);
    memcpy(whole, memory_at(bed.memory, slot_at(0), 16), 16);
    memset(whole + 16, 0x5a, 512);
    struct driver_piece one_piece[] = {{slot_at(1), 528}, {slot_at(0) + 16, 1}};
    ck_assert_int_ge(bed_send(&bed, 0, one_piece, 1, 1), 0);
    (void)wait_one(&bed, 0, &len);
    ck_assert_uint_eq(status_of(&bed, 0), 0);
    uint8_t sector[512];
    ck_assert_int_eq(pread(fd, sector, 512, 3 * 512), 512);
    ck_assert_mem_eq(sector, whole + 16, 512);
    (void)close(fd);
    bed_close(&bed);
}
END_TEST

/* More pieces than the driver was told are refused, and as many are not. */
START_TEST(as_many_segments_as_promised_are_served_and_more_are_refused)
{
    struct bed bed;
    uint32_t len = 0;
    struct driver_piece piece[140] = {{slot_at(0), 16}};
    int fd = open_blk(&bed, 1, false);
    bed_start(&bed, 0, 1, 256);
    uint32_t promised = bed_get(&bed, 0x10c);
    ck_assert_uint_eq(promised, 126);
    for (unsigned over = 0; over < 2; over++) {
        unsigned n = over != 0 ? 129 : promised;
        put_header(&bed, 0, READ, 0);
        for (unsigned i = 0; i < n; i++) {
            piece[1 + i] = (struct driver_piece){slot_at(1) + 512ULL * i, 512};
        }
        piece[1 + n] = (struct driver_piece){slot_at(0) + 16, 1};
        ck_assert_int_ge(bed_send(&bed, 0, piece, 1, n + 1), 0);
        (void)wait_one(&bed, 0, &len);
        ck_assert_uint_eq(status_of(&bed, 0), over);
    }
    (void)close(fd);
    bed_close(&bed);
}
END_TEST

static uint8_t run_range(struct bed *bed, uint32_t type, uint64_t sector, uint32_t sectors,
                         uint32_t flags)
{
    uint8_t *data = data_of(bed, 0);
    memcpy(data, &sector, 8);
    memcpy(data + 8, &sectors, 4);
    memcpy(data + 12, &flags, 4);
    return run_one(bed, type, 0, 16);
}

START_TEST(zeros_are_written_and_ranges_are_checked)
{
    struct bed bed;
    uint8_t sector[512];
    int fd = open_blk(&bed, 1, false);
    bed_start(&bed, F_DISCARD | F_WRITE_ZEROES, 1, 64);
    memset(data_of(&bed, 0), 0x77, 8192);
    ck_assert_uint_eq(run_one(&bed, WRITE, 8, 8192), 0);
    ck_assert_uint_eq(run_range(&bed, ZEROES, 10, 3, 0), 0);
    ck_assert_uint_eq(run_range(&bed, ZEROES, 16, 1, 1), 0);
    for (unsigned i = 8; i < 24; i++) {
        ck_assert_int_eq(pread(fd, sector, 512, i * 512), 512);
        ck_assert_uint_eq(sector[5], (i >= 10 && i < 13) || i == 16 ? 0 : 0x77);
    }
    ck_assert_uint_eq(run_range(&bed, ZEROES, SECTORS - 1, 2, 0), 1);
    ck_assert_uint_eq(run_range(&bed, ZEROES, UINT64_MAX, 2, 0), 1);
    ck_assert_uint_eq(run_range(&bed, ZEROES, 0, UINT32_MAX, 0), 1);
    ck_assert_uint_eq(run_range(&bed, ZEROES, 0, 1, 2), 2);
    ck_assert_uint_eq(run_range(&bed, ZEROES, 0, 0, 0), 0);
    ck_assert_uint_eq(run_range(&bed, DISCARD, 0, 1, 1), 2);
    ck_assert_uint_eq(run_range(&bed, DISCARD, SECTORS, 1, 0), 1);
    ck_assert_uint_eq(run_range(&bed, DISCARD, 8, 8, 0), 0);
    ck_assert_uint_eq(run_one(&bed, ZEROES, 0, 15), 1);
    ck_assert_uint_eq(run_one(&bed, ZEROES, 0, 32), 1);
    (void)close(fd);
    bed_close(&bed);
}
END_TEST

START_TEST(a_read_only_disk_says_so_and_is_not_written)
{
    struct bed bed;
    uint8_t sector[512];
    int fd = open_blk(&bed, 1, true);
    uint64_t features = bed_features(&bed);
    ck_assert((features & F_RO) != 0);
    ck_assert((features & (F_DISCARD | F_WRITE_ZEROES)) == 0);
    bed_start(&bed, F_RO, 1, 64);
    memset(data_of(&bed, 0), 0x77, 512);
    ck_assert_uint_eq(run_one(&bed, WRITE, 0, 512), 1);
    ck_assert_int_eq(pread(fd, sector, 512, 0), 512);
    ck_assert_uint_eq(sector[0], 0);
    ck_assert_uint_eq(run_one(&bed, READ, 0, 512), 0);
    (void)close(fd);
    bed_close(&bed);
}
END_TEST

START_TEST(the_configuration_tells_the_disk_and_the_cache_can_be_switched)
{
    struct bed bed;
    int fd = open_blk(&bed, 4, false);
    ck_assert_uint_eq(bus_read(bed.bus, BED_BASE + 0x100, 8), SECTORS);
    ck_assert_uint_eq(bed_get(&bed, 0x114), 512);
    ck_assert_uint_eq(bus_read(bed.bus, BED_BASE + 0x122, 2), 4);
    ck_assert_uint_eq(bus_read(bed.bus, BED_BASE + 0x13b, 1), 0);
    bed_start(&bed, F_FLUSH | F_CONFIG_WCE, 1, 64);
    ck_assert_uint_eq(bus_read(bed.bus, BED_BASE + 0x120, 1), 1);
    bus_write(bed.bus, BED_BASE + 0x120, 1, 0);
    ck_assert_uint_eq(bus_read(bed.bus, BED_BASE + 0x120, 1), 0);
    ck_assert_uint_eq(run_one(&bed, WRITE, 0, 512), 0); /* and a flush behind it */
    bus_write(bed.bus, BED_BASE + 0x120, 1, 2);
    bus_write(bed.bus, BED_BASE + 0x100, 1, 1);
    ck_assert_uint_eq(bus_read(bed.bus, BED_BASE + 0x120, 1), 0);
    ck_assert_uint_eq(bus_read(bed.bus, BED_BASE + 0x100, 8), SECTORS);
    bed_set(&bed, 0x70, 0);
    ck_assert_uint_eq(bus_read(bed.bus, BED_BASE + 0x120, 1), 1);
    (void)close(fd);
    bed_close(&bed);
}
END_TEST

/* More requests than the device keeps under way: the rest waits in the queues. */
START_TEST(more_requests_than_the_pool_holds_are_all_served)
{
    struct bed bed;
    uint32_t len = 0;
    int fd = open_blk(&bed, 2, false);
    bed_start(&bed, F_MQ, 2, 256);
    for (unsigned i = 0; i < 160; i++) {
        ck_assert_int_ge(submit(&bed, i % 2, i % 20, WRITE, i, 512), 0);
    }
    for (unsigned i = 0; i < 160; i++) {
        (void)wait_one(&bed, i % 2, &len);
    }
    (void)close(fd);
    bed_close(&bed);
}
END_TEST

/* Lets the loop run for ms; how many requests of the queue were done. */
static unsigned done_within(struct bed *bed, unsigned queue, int64_t ms)
{
    unsigned count = 0;
    unsigned id = 0;
    uint32_t len = 0;
    bed_run(bed, ms * NS_PER_MS);
    while (driver_get(&bed->driver[queue], &id, &len)) {
        count++;
    }
    return count;
}

START_TEST(a_limit_holds_requests_back_and_none_is_lost)
{
    static const struct {
        struct limit_options limit;
        uint32_t type, len;
        unsigned at_once;
    } cases[] = {
        {{.operations = {.size = 4, .refill_ms = 400}}, READ, 512, 4},
        {{.operations = {.size = 4, .refill_ms = 400}}, FLUSH, 0, 4},
        {{.operations = {.size = 4, .refill_ms = 400, .one_time_burst = 2}}, WRITE, 512, 6},
        {{.bytes = {.size = 4096, .refill_ms = 400}}, WRITE, 1024, 4},
        {{.bytes = {.size = 4096, .refill_ms = 400}}, FLUSH, 0, 12},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct bed bed;
        uint32_t len = 0;
        limit_of_disk = cases[i].limit;
        int fd = open_blk(&bed, 1, false);
        bed_start(&bed, F_FLUSH, 1, 64);
        int64_t begin = clock_monotonic_ns();
        for (unsigned n = 0; n < 12; n++) {
            ck_assert_int_ge(submit(&bed, 0, n, cases[i].type, n * 8, cases[i].len), 0);
        }
        unsigned done = done_within(&bed, 0, 20);
        /* One more for each 100 ms that this took. */
        int64_t grown = (clock_monotonic_ns() - begin) / (100 * NS_PER_MS);
        ck_assert_uint_ge(done, cases[i].at_once);
        ck_assert_uint_le(done, cases[i].at_once + (unsigned)grown);
        for (; done < 12; done++) {
            (void)wait_one(&bed, 0, &len);
        }
        ck_assert_int_ge(clock_monotonic_ns() - begin,
                         (12 - (int64_t)cases[i].at_once) * 100 * NS_PER_MS - 2 * NS_PER_MS);
        for (unsigned n = 0; n < 12; n++) {
            ck_assert_uint_eq(status_of(&bed, n), 0);
        }
        (void)close(fd);
        bed_close(&bed);
    }
}
END_TEST

/* The processor time of this process. */
static int64_t cpu_ns(void)
{
    struct timespec t;
    ck_assert_int_eq(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t), 0);
    return t.tv_sec * NS_PER_SEC + t.tv_nsec;
}

START_TEST(what_a_limit_holds_back_costs_nothing_and_outlives_pause_reset_and_a_new_limit)
{
    const struct limit_options none = {{0}, {0}};
    struct bed bed;
    uint32_t len = 0;
    limit_of_disk = (struct limit_options){.operations = {.size = 1, .refill_ms = 60000}};
    int fd = open_blk(&bed, 2, false);
    bed_start(&bed, F_MQ, 2, 64);
    ck_assert_int_eq(run_one(&bed, WRITE, 0, 512), 0);
    ck_assert_int_ge(submit(&bed, 0, 1, READ, 0, 512), 0);
    ck_assert_int_ge(submit(&bed, 1, 2, READ, 0, 512), 0);
    int64_t before = cpu_ns();
    ck_assert_uint_eq(done_within(&bed, 0, 300) + done_within(&bed, 1, 0), 0);
    ck_assert_int_lt(cpu_ns() - before, 50 * NS_PER_MS);

    struct device *device = &bed.virtio->device;
    (void)pthread_mutex_lock(&device->lock);
    ck_assert_int_eq(device->ops->quiesce(device, NULL), 0);
    ck_assert_uint_eq(bed.virtio->queue[0].in_flight + bed.virtio->queue[1].in_flight, 0);
    device->ops->resume(device);
    (void)pthread_mutex_unlock(&device->lock);
    ck_assert_uint_eq(done_within(&bed, 0, 20), 0);

    ck_assert_int_eq(virtio_blk_set_limit(bed.virtio, &none), 0);
    (void)wait_one(&bed, 0, &len);
    (void)wait_one(&bed, 1, &len);

    ck_assert_int_eq(virtio_blk_set_limit(bed.virtio, &limit_of_disk), 0);
    ck_assert_int_eq(run_one(&bed, WRITE, 0, 512), 0);
    ck_assert_int_ge(submit(&bed, 0, 1, READ, 0, 512), 0);
    ck_assert_uint_eq(done_within(&bed, 0, 20), 0);
    bed_set(&bed, 0x70, 0); /* a reset */
    bed_start(&bed, F_MQ, 2, 64);
    ck_assert_int_eq(virtio_blk_set_limit(bed.virtio, &none), 0);
    ck_assert_int_eq(run_one(&bed, READ, 0, 512), 0);
    (void)close(fd);
    bed_close(&bed);
}
END_TEST

/*
 * A device with requests that were submitted and did not end so far. Zeros are written by threads
 * of the kernel; that they all end before we look is possible, and then we try again.
 */
static void start_with_requests_under_way(struct bed *bed)
{
    for (unsigned i = 0; i < 1000; i++) {
        bed_start(bed, F_WRITE_ZEROES, 1, 128);
        for (unsigned n = 0; n < 20; n++) {
            uint64_t sector = n * 100;
            uint32_t sectors = 100;
            memset(data_of(bed, n), 0, 16);
            memcpy(data_of(bed, n), &sector, 8);
            memcpy(data_of(bed, n) + 8, &sectors, 4);
            ck_assert_int_ge(submit(bed, 0, n, ZEROES, 0, 16), 0);
        }
        (void)pthread_mutex_lock(&bed->virtio->device.lock);
        bed->virtio->ops->queue(bed->virtio, 0);
        (void)pthread_mutex_unlock(&bed->virtio->device.lock);
        if (bed->virtio->queue[0].in_flight > 0) {
            return;
        }
    }
    ck_abort_msg("requests end at once");
}

START_TEST(a_reset_with_requests_under_way_drops_them_and_the_device_works_on)
{
    struct bed bed;
    unsigned id = 0;
    uint32_t len = 0;
    int fd = open_blk(&bed, 1, false);
    for (unsigned round = 0; round < 20; round++) {
        start_with_requests_under_way(&bed);
        bed_set(&bed, 0x70, 0);
        ck_assert_uint_eq(bed_get(&bed, 0x70), 0);
        /* After it the memory is the guest's alone. */
        memset(memory_at(bed.memory, BED_BUFFERS, 20 * SLOT), 0xcc, 20 * SLOT);
        memset(memory_at(bed.memory, BED_RINGS, 0x4000), 0xcc, 0x4000);
        bed_pump(&bed);
        const uint8_t *p = memory_at(bed.memory, BED_BUFFERS, 20 * SLOT);
        for (size_t i = 0; i < 20 * SLOT; i++) {
            MUST(p[i] == 0xcc);
        }
        p = memory_at(bed.memory, BED_RINGS, 0x4000);
        for (size_t i = 0; i < 0x4000; i++) {
            MUST(p[i] == 0xcc);
        }
    }
    bed_start(&bed, 0, 1, 128);
    ck_assert_uint_eq(run_one(&bed, READ, 0, 512), 0);
    ck_assert(!driver_get(&bed.driver[0], &id, &len));
    (void)close(fd);
    bed_close(&bed);
}
END_TEST

static void *reset_from_a_cpu(void *data)
{
    struct bed *bed = data;
    bed_set(bed, 0x70, 0);
    return NULL;
}

START_TEST(a_cpu_that_resets_the_device_waits_for_the_loop)
{
    struct bed bed;
    int fd = open_blk(&bed, 1, false);
    for (unsigned round = 0; round < 5; round++) {
        pthread_t cpu;
        start_with_requests_under_way(&bed);
        ck_assert_int_eq(pthread_create(&cpu, NULL, reset_from_a_cpu, &bed), 0);
        (void)usleep(30000);
        ck_assert_int_eq(pthread_tryjoin_np(cpu, NULL), EBUSY);
        while (pthread_tryjoin_np(cpu, NULL) != 0) {
            bed_pump(&bed);
        }
        ck_assert_uint_eq(bed.virtio->status, 0);
    }
    bed_start(&bed, 0, 1, 128);
    ck_assert_uint_eq(run_one(&bed, READ, 0, 512), 0);
    (void)close(fd);
    bed_close(&bed);
}
END_TEST

/* The loop does not come: the CPU goes on after a while, and what ends later is not its own. */
START_TEST(a_reset_that_waited_long_enough_leaves_old_requests_behind)
{
    struct bed bed;
    unsigned id = 0;
    uint32_t len = 0;
    pthread_t cpu;
    int fd = open_blk(&bed, 1, false);
    start_with_requests_under_way(&bed);
    ck_assert_int_eq(pthread_create(&cpu, NULL, reset_from_a_cpu, &bed), 0);
    ck_assert_int_eq(pthread_join(cpu, NULL), 0);
    bed_set(&bed, 0x70, 3);
    bed_accept(&bed, VIRTIO_F_VERSION_1);
    bed_set(&bed, 0x70, 11);
    bed_queue(&bed, 0, 128, VIRTIO_F_VERSION_1);
    bed_set(&bed, 0x70, 15);
    int want = submit(&bed, 0, 21, READ, 0, 512);
    (void)pthread_mutex_lock(&bed.virtio->device.lock);
    bed.virtio->ops->queue(bed.virtio, 0);
    (void)pthread_mutex_unlock(&bed.virtio->device.lock);
    ck_assert_int_eq((int)wait_one(&bed, 0, &len), want);
    ck_assert_uint_eq(status_of(&bed, 21), 0);
    bed_pump(&bed);
    ck_assert(!driver_get(&bed.driver[0], &id, &len));
    (void)close(fd);
    bed_close(&bed);
}
END_TEST

START_TEST(a_quiesced_disk_has_nothing_under_way_and_goes_on_restored)
{
    AUTO(buf_donep) struct buf saved = {0};
    struct bed one;
    struct bed two;
    uint32_t len = 0;
    unsigned got = 0;
    unsigned id = 0;
    int fd = open_blk(&one, 1, false);
    bed_start(&one, F_FLUSH | F_CONFIG_WCE | VIRTIO_F_RING_PACKED, 1, 128);
    bus_write(one.bus, BED_BASE + 0x120, 1, 0);
    for (unsigned i = 0; i < 40; i++) {
        ck_assert_int_ge(submit(&one, 0, i % 20, READ, i, 512), 0);
        if (i == 20) {
            (void)pthread_mutex_lock(&one.virtio->device.lock);
            one.virtio->ops->queue(one.virtio, 0);
            (void)pthread_mutex_unlock(&one.virtio->device.lock);
        }
    }
    struct device *device = &one.virtio->device;
    (void)pthread_mutex_lock(&device->lock);
    ck_assert_int_eq(device->ops->quiesce(device, NULL), 0);
    (void)pthread_mutex_unlock(&device->lock);
    ck_assert_uint_eq(one.virtio->queue[0].in_flight, 0);
    ck_assert_int_eq(state_write(&saved, device->state, device->instance, one.virtio, NULL), 0);
    int fd2 = open_blk(&two, 1, false);
    for (uint64_t at = 0; at < 2 * BED_REGION; at += 4096) {
        MUST(memory_write(two.memory, at, memory_at(one.memory, at, 4096), 4096) == 0);
    }
    two.driver[0] = one.driver[0];
    two.driver[0].memory = two.memory;
    device = &two.virtio->device;
    struct state_reader reader = {.data = (const uint8_t *)saved.data, .len = saved.len};
    ck_assert_int_eq(state_read(&reader, device->state, device->instance, two.virtio, NULL), 0);
    device->ops->resume(device);
    ck_assert_uint_eq(bus_read(two.bus, BED_BASE + 0x120, 1), 0);
    while (driver_get(&two.driver[0], &id, &len)) {
        got++;
    }
    ck_assert_uint_ge(got, 21);
    for (; got < 40; got++) {
        (void)wait_one(&two, 0, &len);
    }
    (void)close(fd);
    (void)close(fd2);
    bed_close(&one);
    bed_close(&two);
}
END_TEST

int main(void)
{
    return unit_run(
        "vmm_blk",
        (const TTest *const[]){
            random_requests_on_four_queues_read_what_was_written,
            bad_requests_end_with_their_status_and_change_nothing,
            chains_without_room_for_a_header_or_a_status_do_no_harm,
            as_many_segments_as_promised_are_served_and_more_are_refused,
            zeros_are_written_and_ranges_are_checked,
            a_read_only_disk_says_so_and_is_not_written,
            the_configuration_tells_the_disk_and_the_cache_can_be_switched,
            more_requests_than_the_pool_holds_are_all_served,
            a_limit_holds_requests_back_and_none_is_lost,
            what_a_limit_holds_back_costs_nothing_and_outlives_pause_reset_and_a_new_limit,
            a_reset_with_requests_under_way_drops_them_and_the_device_works_on,
            a_cpu_that_resets_the_device_waits_for_the_loop,
            a_reset_that_waited_long_enough_leaves_old_requests_behind,
            a_quiesced_disk_has_nothing_under_way_and_goes_on_restored,
            NULL,
        });
}
