/*
 * A guest on /dev/kvm that does anything to every device: random accesses to all their registers,
 * drivers that start devices with random features, and rings full of nonsense. ISOLA_SEED=N repeats
 * a run as far as threads allow; ISOLA_SECONDS=N goes on for longer.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/clock.h"
#include "base/macros.h"
#include "base/unix_socket.h"
#include "unit.h"
#include "vmm/bus.h"
#include "vmm/config.h"
#include "vmm/disk/create.h"
#include "vmm/jail.h"
#include "vmm/layout.h"
#include "vmm/machine_devices.h"
#include "vmm_guests.h"

#define AT_SEED 0x5010ULL
#define AT_WINDOWS 0x6000ULL
#define AT_VALUES 0x6800ULL
#define AT_LISTS 0x20000ULL
#define LIST_SIZE 0x800ULL
#define AT_RINGS 0x100000ULL
#define RING_SIZE 0x1000ULL /* descriptors, then the driver's and the device's part */
#define QUEUES 6ULL
#define MEMORY_END ((uint64_t)2 << 20)
#define SIDES_SIZE ((size_t)64 << 10)
#define TICK_NS (10 * NS_PER_MS)
#define MACHINE_NS (400 * NS_PER_MS)
/* Far above what an access may take, for a host that has other things to do. */
#define LATE_NS (5 * NS_PER_SEC)
#define FILE_SIZE ((size_t)256 << 10)

enum window_kind { WINDOW_MEMORY, WINDOW_PORTS, WINDOW_LIST };

struct hostile {
    uint64_t random;
    char dir[64];
    struct guest guest;
    bool pci, jailed, tap;
    unsigned devices; /* that open_machine() made */
    unsigned windows;
    int passt_fd, passt_peer; /* the listener, and our end of the connection */
    int host_fd[4];           /* programs at the vsock's socket */
    unsigned tick;
    int64_t last_ns, end_ns;
    void *side[2]; /* in front of and behind guest memory, NULL: something else is there */
};

static uint64_t draw(struct hostile *h)
{
    h->random ^= h->random << 13;
    h->random ^= h->random >> 7;
    h->random ^= h->random << 17;
    return h->random;
}

static void put(struct hostile *h, uint64_t gpa, uint64_t value, unsigned size)
{
    uint8_t raw[8];
    store_le64(raw, value);
    /* Each ck_assert() costs a write to check's pipe: this is called too often for that. */
    if (memory_write(machine_memory(h->guest.machine), gpa, raw, size) != 0) {
        ck_abort_msg("0x%llx lies outside memory", (unsigned long long)gpa);
    }
}

static bool are_all(const uint8_t *bytes, size_t len, uint8_t wanted)
{
    size_t i = 0;
    while (i < len && bytes[i] == wanted) {
        i++;
    }
    return i == len;
}

static const char *path_of(const struct hostile *h, const char *name, char path[128])
{
    (void)snprintf(path, 128, "%s/%s", h->dir, name);
    return path;
}

static void make_file(const struct hostile *h, const char *name)
{
    char path[128];
    static uint8_t bytes[FILE_SIZE];
    memset(bytes, 0x5a, sizeof(bytes));
    int fd = open(path_of(h, name, path), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_eq(write(fd, bytes, sizeof(bytes)), (ssize_t)sizeof(bytes));
    (void)close(fd);
}

static void make_files(struct hostile *h)
{
    char path[128];
    struct err err = ERR_NONE;
    (void)snprintf(h->dir, sizeof(h->dir), "/tmp/isola-hostile-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(h->dir));
    make_file(h, "raw");
    make_file(h, "kept");
    int dir = open(h->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    const struct disk_create_options qcow2 = {.format = "qcow2", .size = FILE_SIZE};
    int r = disk_create(dir, "qcow2", &qcow2, &err);
    ck_assert_msg(r == 0, "%s", err_text(&err));
    (void)close(dir);
    h->passt_fd = unix_listen(path_of(h, "passt", path), SOCK_STREAM, 0600);
    ck_assert_int_ge(h->passt_fd, 0);
}

static void remove_files(const struct hostile *h)
{
    static const char *const names[] = {"raw", "kept", "qcow2", "passt", "vsock"};
    char path[128];
    for (size_t i = 0; i < COUNT(names); i++) {
        (void)unlink(path_of(h, names[i], path));
    }
    ck_assert_msg(rmdir(h->dir) == 0, "%s is not empty", h->dir);
}

static void check_kept_file(const struct hostile *h)
{
    char path[128];
    static uint8_t bytes[FILE_SIZE];
    int fd = open(path_of(h, "kept", path), O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(read(fd, bytes, sizeof(bytes)), (ssize_t)sizeof(bytes));
    (void)close(fd);
    ck_assert_msg(are_all(bytes, sizeof(bytes), 0x5a), "a read-only image was written");
}

static void put_sides(struct hostile *h)
{
    size_t count;
    const struct memory_region *region = memory_regions(machine_memory(h->guest.machine), &count);
    uint8_t *at[] = {(uint8_t *)region->host - SIDES_SIZE, (uint8_t *)region->host + region->size};
    for (size_t i = 0; i < COUNT(at); i++) {
        void *p = mmap(at[i], SIDES_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        h->side[i] = p == MAP_FAILED ? NULL : p;
        if (h->side[i] != NULL) {
            memset(p, 0xa5, SIDES_SIZE);
        }
    }
}

static void check_sides(struct hostile *h)
{
    for (size_t i = 0; i < COUNT(h->side); i++) {
        if (h->side[i] != NULL) {
            ck_assert_msg(are_all(h->side[i], SIDES_SIZE, 0xa5), "memory of others was written");
            (void)munmap(h->side[i], SIDES_SIZE);
        }
    }
}

static void open_machine(struct hostile *h)
{
    char raw[128];
    char kept[128];
    char qcow2[128];
    char passt[128];
    char vsock[128];
    struct machine_options options = guest_options();
    options.memory = MEMORY_END;
    options.debug_exit = false;
    options.rtc = options.i8042 = options.serial = true;
    options.pci = h->pci;
    options.jail = h->jailed;
    options.serial_out_fd = 1;
    guest_open(&h->guest, &options);
    struct vmm_config config = {
        .drive = {{.id = "raw", .path = path_of(h, "raw", raw), .queues = 2},
                  {.id = "kept", .path = path_of(h, "kept", kept), .queues = 1, .read_only = true},
                  {.id = "qcow2",
                   .path = path_of(h, "qcow2", qcow2),
                   .queues = 1,
                   .format = "qcow2",
                   .io_thread = h->pci}},
        .drive_count = 3,
        .net = {{.id = "net",
                 .passt = path_of(h, "passt", passt),
                 .fd = -1,
                 .queues = 1,
                 .io_thread = h->pci},
                {.id = "tap", .tap = "hostile", .fd = -1, .queues = 2, .io_thread = h->pci}},
        .net_count = h->tap ? 2 : 1,
        .vsock = {.present = true, .cid = 3, .path = path_of(h, "vsock", vsock)},
        .balloon = {.present = true, .deflate_on_oom = true, .report_free = true, .bytes = 65536},
        .entropy = true,
        .stdio = CONFIG_STDIO_CONSOLE,
    };
    int r = machine_add_devices(h->guest.machine, &config, &h->guest.err);
    ck_assert_msg(r == 0, "%s", err_text(&h->guest.err));
    h->devices = (unsigned)(config.drive_count + config.net_count) + 4;
    h->passt_peer = accept4(h->passt_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    ck_assert_int_ge(h->passt_peer, 0);
}

static void add_window(struct hostile *h, uint64_t base, uint64_t mask, enum window_kind kind)
{
    uint64_t at = AT_WINDOWS + 24ULL * h->windows++;
    ck_assert_uint_le(h->windows, 64);
    put(h, at, base, 8);
    put(h, at + 8, mask, 8);
    put(h, at + 16, kind, 8);
}

static uint64_t ring_of(unsigned device, uint64_t queue)
{
    return AT_RINGS + (device * QUEUES + queue) * RING_SIZE;
}

static uint64_t add_write(struct hostile *h, uint64_t at, uint64_t address, unsigned size,
                          uint64_t value)
{
    put(h, at, address, 8);
    put(h, at + 8, size, 4);
    put(h, at + 12, value, 4);
    put(h, at + 24, 0, 4); /* the end, so far */
    return at + 16;
}

/* One size for all queues; a device refuses what is above its own. */
static uint64_t draw_size(struct hostile *h)
{
    return 1ULL << (draw(h) % 7);
}

static uint64_t draw_features(struct hostile *h, bool high)
{
    /* VERSION_1 always, packed rings now and then; of the lower ones any. */
    return high ? 1 | (draw(h) % 4 == 0 ? 4 : 0) | (draw(h) % 8 == 0 ? 0x38 : 0) : draw(h);
}

/* The driver's part of virtio 1.2, 3.1.1 at the registers of 4.2.2. */
static void make_mmio_list(struct hostile *h, uint64_t list, unsigned device)
{
    uint64_t base = LAYOUT_VIRTIO_MMIO + device * LAYOUT_VIRTIO_MMIO_SIZE;
    struct bus *bus = machine_board(h->guest.machine)->mmio;
    static const uint64_t before[] = {0, 1, 3};
    for (size_t i = 0; i < COUNT(before); i++) {
        list = add_write(h, list, base + 0x70, 4, before[i]);
    }
    for (unsigned high = 0; high < 2; high++) {
        bus_write(bus, base + 0x14, 4, high);
        list = add_write(h, list, base + 0x24, 4, high);
        list = add_write(h, list, base + 0x20, 4,
                         draw_features(h, high) & bus_read(bus, base + 0x10, 4));
    }
    list = add_write(h, list, base + 0x70, 4, 11);
    for (uint64_t queue = 0; queue < QUEUES; queue++) {
        uint64_t ring = ring_of(device, queue);
        list = add_write(h, list, base + 0x30, 4, queue);
        list = add_write(h, list, base + 0x38, 4, draw_size(h));
        list = add_write(h, list, base + 0x80, 4, ring);
        list = add_write(h, list, base + 0x90, 4, ring + 0x800);
        list = add_write(h, list, base + 0xa0, 4, ring + 0xa00);
        list = add_write(h, list, base + 0x44, 4, 1);
    }
    list = add_write(h, list, base + 0x70, 4, 15);
    for (uint64_t queue = 0; queue < QUEUES; queue++) {
        list = add_write(h, list, base + 0x50, 4, queue);
    }
}

/* The same at the common structure of 4.1.4.3; virtio/pci.c has it at the region's start. */
static void make_pci_list(struct hostile *h, uint64_t list, unsigned device)
{
    uint64_t config = LAYOUT_ECAM + 0x8000ULL * (device + 1);
    struct bus *bus = machine_board(h->guest.machine)->mmio;
    bus_write(bus, config + 4, 2, 6);
    uint64_t base = bus_read(bus, config + 0x10, 4) & ~0xfULL;
    list = add_write(h, list, config + 4, 2, 6);
    list = add_write(h, list, base + 0x14, 1, 0);
    list = add_write(h, list, base + 0x14, 1, 3);
    for (unsigned high = 0; high < 2; high++) {
        bus_write(bus, base, 4, high);
        list = add_write(h, list, base + 8, 4, high);
        list =
            add_write(h, list, base + 12, 4, draw_features(h, high) & bus_read(bus, base + 4, 4));
    }
    list = add_write(h, list, base + 0x14, 1, 11);
    for (uint64_t queue = 0; queue < QUEUES; queue++) {
        uint64_t ring = ring_of(device, queue);
        list = add_write(h, list, base + 0x16, 2, queue);
        list = add_write(h, list, base + 0x18, 2, draw_size(h));
        list = add_write(h, list, base + 0x1a, 2, queue);
        list = add_write(h, list, base + 0x20, 4, ring);
        list = add_write(h, list, base + 0x28, 4, ring + 0x800);
        list = add_write(h, list, base + 0x30, 4, ring + 0xa00);
        list = add_write(h, list, base + 0x1c, 2, 1);
    }
    list = add_write(h, list, base + 0x14, 1, 15);
    for (uint64_t queue = 0; queue < QUEUES; queue++) {
        list = add_write(h, list, base + 0x3000 + queue * 4, 2, queue);
    }
    add_window(h, base, 0x3f, WINDOW_MEMORY);
    add_window(h, base, 0x7fff, WINDOW_MEMORY);
    add_window(h, config, 0xff, WINDOW_MEMORY);
}

/* Descriptors that mostly make sense to one who does not look closely. */
static void fill_ring(struct hostile *h, uint64_t ring)
{
    for (unsigned i = 0; i < 64; i++) {
        uint64_t kind = draw(h) % 16;
        uint64_t address = kind == 0   ? draw(h)
                           : kind == 1 ? MEMORY_END - draw(h) % 64
                           : kind == 2 ? ring + draw(h) % RING_SIZE
                                       : 0x180000 + draw(h) % 0x70000;
        uint64_t len = draw(h) % 8 == 0 ? draw(h) : draw(h) % 2 == 0 ? draw(h) % 64 : 512;
        put(h, ring + i * 16, address, 8);
        put(h, ring + i * 16 + 8, len, 4);
        put(h, ring + i * 16 + 12, draw(h) % 16 == 0 ? draw(h) : draw(h) % 4, 2);
        put(h, ring + i * 16 + 14, draw(h) % 16 == 0 ? draw(h) : draw(h) % 64, 2);
    }
    put(h, ring + 0x800, draw(h) % 64 << 16, 4);
    for (unsigned i = 0; i < 64; i++) {
        put(h, ring + 0x804 + 2 * i, draw(h) % 32 == 0 ? draw(h) : draw(h) % 64, 2);
    }
}

static void fill_memory(struct hostile *h)
{
    static const uint64_t values[] = {
        0,        1,          2,          3,          4,          5,    6,
        7,        8,          0xb,        0xf,        0x10,       0x40, 0x7f,
        0x80,     0xff,       0x100,      0xffff,     0x10000,    0,    1,
        2,        0xffffffff, 0x7fffffff, 0x80000000, UINT64_MAX, 0xf,  AT_RINGS,
        0x180000, 0x1ffff0,   0x1ffffe,   MEMORY_END, 0xd0000000, 0,    1};
    for (unsigned i = 0; i < 64; i++) {
        put(h, AT_VALUES + 8 * i, i < COUNT(values) ? values[i] : draw(h) >> (draw(h) % 64), 8);
    }
    put(h, AT_SEED, draw(h), 8);
    for (uint64_t gpa = 0x180000; gpa < MEMORY_END; gpa += 8) {
        put(h, gpa, draw(h) >> (draw(h) % 64), 8);
    }
    h->windows = 0;
    for (unsigned device = 0; device < h->devices; device++) {
        uint64_t list = AT_LISTS + device * LIST_SIZE;
        for (uint64_t queue = 0; queue < QUEUES; queue++) {
            fill_ring(h, ring_of(device, queue));
        }
        add_window(h, list, 0, WINDOW_LIST);
        if (h->pci) {
            make_pci_list(h, list, device);
        } else {
            make_mmio_list(h, list, device);
            add_window(h, LAYOUT_VIRTIO_MMIO + device * LAYOUT_VIRTIO_MMIO_SIZE, 0x1ff,
                       WINDOW_MEMORY);
        }
    }
    add_window(h, LAYOUT_PORT_COM1, 7, WINDOW_PORTS);
    add_window(h, LAYOUT_PORT_RTC, 1, WINDOW_PORTS);
    add_window(h, LAYOUT_PORT_I8042, 7, WINDOW_PORTS);
    add_window(h, LAYOUT_EVENTS, 0xff, WINDOW_MEMORY);
    add_window(h, LAYOUT_PORT_POWER, 0xf, WINDOW_PORTS);
    add_window(h, LAYOUT_PORT_PCI_CONFIG, 7, WINDOW_PORTS);
    /* The rest of the table: rings and buffers. */
    while (h->windows < 64) {
        add_window(h, AT_RINGS, 0x3ffff, WINDOW_MEMORY);
    }
}

/* What is outside is no better: a network and programs that send nonsense. */
static void on_tick(struct loop_source *source, void *data)
{
    struct hostile *h = data;
    char path[128];
    uint8_t bytes[4096];
    int64_t now = clock_monotonic_ns();
    ck_assert_msg(now - h->last_ns < LATE_NS, "the loop was away for %lld ms",
                  (long long)((now - h->last_ns) / NS_PER_MS));
    h->last_ns = now;
    if (now >= h->end_ns) {
        loop_quit(h->guest.loop, 1);
        return;
    }
    (void)loop_timer_set(source, TICK_NS);
    while (read(h->passt_peer, bytes, sizeof(bytes)) == (ssize_t)sizeof(bytes)) {
    }
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)draw(h);
    }
    store_be32(bytes, 14 + (uint32_t)draw(h) % 1500);
    (void)send(h->passt_peer, bytes, 4 + load_be32(bytes), MSG_NOSIGNAL);
    int *fd = &h->host_fd[h->tick++ % COUNT(h->host_fd)];
    if (*fd >= 0) {
        (void)send(*fd, bytes, draw(h) % sizeof(bytes), MSG_NOSIGNAL);
        (void)close(*fd);
    }
    *fd = unix_connect(path_of(h, "vsock", path), SOCK_STREAM | SOCK_NONBLOCK);
    (void)send(*fd, "CONNECT 5\n", 10, MSG_NOSIGNAL);
}

/* Whether the guest did anything. */
static bool run_machine(struct hostile *h)
{
    struct loop_source *timer = NULL;
    open_machine(h);
    put_sides(h);
    guest_load_long(&h->guest, fuzz);
    fill_memory(h);
    for (size_t i = 0; i < COUNT(h->host_fd); i++) {
        h->host_fd[i] = -1;
    }
    h->last_ns = clock_monotonic_ns();
    h->end_ns = h->last_ns + MACHINE_NS;
    ck_assert_int_eq(loop_add_timer(h->guest.loop, TICK_NS, on_tick, h, &timer), 0);
    if (h->jailed) {
        const struct jail_options jail = {.socket_dir = h->dir};
        int entered = jail_enter(&jail, &h->guest.err);
        ck_assert_msg(entered == 0, "%s", err_text(&h->guest.err));
    }
    guest_start(&h->guest);
    ck_assert_int_ge(loop_run(h->guest.loop), 0); /* the time is over, or the guest has ended */
    int64_t begin = clock_monotonic_ns();
    int r = machine_pause(h->guest.machine, &h->guest.err);
    /* What has ended by itself stands still already. */
    bool ended = machine_ending(h->guest.machine)->why != BOARD_RUNS;
    ck_assert_msg(r == (ended ? -ESRCH : 0), "%s", err_text(&h->guest.err));
    uint64_t steps = 0;
    ck_assert_int_eq(memory_read(machine_memory(h->guest.machine), 0x5000, &steps, 8), 0);
    check_sides(h);
    loop_remove(timer);
    guest_close(&h->guest);
    int64_t took = clock_monotonic_ns() - begin;
    ck_assert_msg(took < 2 * LATE_NS, "the end took %lld ms", (long long)(took / NS_PER_MS));
    for (size_t i = 0; i < COUNT(h->host_fd); i++) {
        (void)close_fd(h->host_fd[i]);
    }
    (void)close(h->passt_peer);
    return steps > 0;
}

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text == NULL ? otherwise : strtoull(text, NULL, 0);
}

/* In a process of its own, for there is no way back; one that makes a forbidden call ends by
 * SIGSYS. */
static bool run_jailed_machine(struct hostile *h)
{
    int status = 0;
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        _exit(run_machine(h) ? 0 : 2);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) != 1, "the monitor ended by signal %d",
                  WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    return WEXITSTATUS(status) == 0;
}

static void be_attacked(bool pci, bool jailed)
{
    struct hostile h = {.pci = pci, .jailed = jailed};
    uint64_t seed = number("ISOLA_SEED", (uint64_t)time(NULL));
    int64_t end = clock_monotonic_ns() + (int64_t)number("ISOLA_SECONDS", 4) * NS_PER_SEC;
    unsigned machines = 0;
    unsigned worked = 0;
    make_files(&h);
    /* A tap needs a network of its own, and rights. */
    h.tap = access("/dev/net/tun", R_OK | W_OK) == 0 && unshare(CLONE_NEWNET) == 0;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(dup2(null, 0), 0);
    ck_assert_int_eq(dup2(null, 1), 1);
    do {
        uint64_t this = seed + machines;
        (void)fprintf(stderr, "# %s: ISOLA_SEED=%llu\n", pci ? "pci" : "mmio",
                      (unsigned long long)this);
        h.random = (this + 1) * 0x9e3779b97f4a7c15ULL;
        worked += (jailed ? run_jailed_machine(&h) : run_machine(&h)) ? 1 : 0;
        machines++;
    } while (clock_monotonic_ns() < end);
    /* A device may have written over the counter. */
    ck_assert_uint_gt(2 * worked, machines);
    check_kept_file(&h);
    (void)close(h.passt_fd);
    remove_files(&h);
}

START_TEST(a_guest_that_does_anything_to_registers_in_memory_harms_nobody)
{
    be_attacked(false, false);
}
END_TEST

START_TEST(a_guest_that_does_anything_to_pci_functions_harms_nobody)
{
    be_attacked(true, false);
}
END_TEST

START_TEST(all_that_devices_do_is_allowed_in_the_jail)
{
    be_attacked(false, true);
    be_attacked(true, true);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_guest_that_does_anything_to_registers_in_memory_harms_nobody,
        a_guest_that_does_anything_to_pci_functions_harms_nobody,
        all_that_devices_do_is_allowed_in_the_jail,
        NULL,
    };
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        (void)printf("1..0 # SKIP this host has no /dev/kvm\n");
        return 0;
    }
    return unit_run("vmm_hostile", tests);
}
