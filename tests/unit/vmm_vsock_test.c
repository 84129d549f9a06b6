#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/unix_socket.h"
#include "freestanding/byteorder.h"
#include "unit.h"
#include "vmm/virtio/vsock.h"
#include "vmm_mmio.h"

#define CID 7
#define HEADER 44
#define RX_ROOM 4096U
#define RX_COUNT 64U
#define RX_BUFFERS 0x100000ULL
#define TX_BUFFERS 0x80000ULL
#define TX_ROOM 0x10000ULL
#define EVENT_BUFFER 0x180000ULL

enum { RX, TX, EVENT };
enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, UPDATE, ASK };

/* A guest with one socket at a time that looks at what comes. */
struct guest {
    struct bed bed;
    char dir[64];
    char uds[256];
    uint64_t rx_buffer[DRIVER_SIZE_MAX]; /* of chain id */
    unsigned posted;
    /* The last packet */
    uint64_t src, dst;
    uint32_t src_port, dst_port, len, flags, alloc, forwarded;
    uint16_t type, op;
    uint8_t data[RX_ROOM];
    /* What the guest says of itself */
    uint32_t my_alloc, my_forwarded;
};

static void post(struct guest *g, uint64_t gpa)
{
    struct driver_piece piece = {.gpa = gpa, .len = RX_ROOM};
    int id = bed_send(&g->bed, RX, &piece, 0, 1);
    MUST(id >= 0);
    g->rx_buffer[id] = gpa;
}

static void up(struct guest *g, uint64_t features, unsigned rx_count)
{
    bed_start(&g->bed, features, 3, 128);
    for (unsigned i = 0; i < rx_count; i++) {
        post(g, RX_BUFFERS + i * RX_ROOM);
    }
}

/* below: a directory in g->dir that is made for the socket, "" for none. */
static void start_below(struct guest *g, const char *below, uint64_t features, unsigned rx_count)
{
    *g = (struct guest){.my_alloc = 1U << 20};
    (void)signal(SIGPIPE, SIG_IGN);
    (void)snprintf(g->dir, sizeof(g->dir), "/tmp/isola-vsock-XXXXXX");
    MUST(mkdtemp(g->dir) != NULL);
    (void)snprintf(g->uds, sizeof(g->uds), "%s%s", g->dir, below);
    MUST(below[0] == '\0' || mkdir(g->uds, 0700) == 0);
    (void)snprintf(g->uds, sizeof(g->uds), "%s%s/v", g->dir, below);
    bed_open(&g->bed);
    ck_assert_int_eq(
        vsock_new("vsock", CID, g->uds, g->bed.memory, g->bed.loop, &g->bed.virtio, NULL), 0);
    bed_connect(&g->bed);
    up(g, features, rx_count);
}

static void start_with(struct guest *g, uint64_t features, unsigned rx_count)
{
    start_below(g, "", features, rx_count);
}

static void start(struct guest *g)
{
    start_with(g, VIRTIO_F_EVENT_IDX, RX_COUNT);
}

static void stop(struct guest *g)
{
    bed_close(&g->bed);
    ck_assert_int_eq(rmdir(g->dir), 0); /* the device removed its socket */
}

/* Takes the next packet, if there is one, and gives the buffer back. */
static bool receive(struct guest *g)
{
    unsigned id = 0;
    uint32_t len = 0;
    uint8_t raw[HEADER];
    if (!driver_get(&g->bed.driver[RX], &id, &len)) {
        return false;
    }
    uint64_t gpa = g->rx_buffer[id];
    MUST(len >= HEADER && len <= RX_ROOM);
    MUST(memory_read(g->bed.memory, gpa, raw, HEADER) == 0);
    MUST(memory_read(g->bed.memory, gpa + HEADER, g->data, len - HEADER) == 0);
    g->src = load_le64(raw);
    g->dst = load_le64(raw + 8);
    g->src_port = load_le32(raw + 16);
    g->dst_port = load_le32(raw + 20);
    g->len = load_le32(raw + 24);
    g->type = load_le16(raw + 28);
    g->op = load_le16(raw + 30);
    g->flags = load_le32(raw + 32);
    g->alloc = load_le32(raw + 36);
    g->forwarded = load_le32(raw + 40);
    MUST(g->src == 2 && g->dst == CID && g->type == 1 && g->len == len - HEADER);
    post(g, gpa);
    return true;
}

/* Waits for a packet of this kind; others than credit updates must not come before. */
static void expect(struct guest *g, uint16_t op)
{
    do {
        BED_UNTIL(&g->bed, receive(g));
    } while (g->op == UPDATE && op != UPDATE);
    ck_assert_uint_eq(g->op, op);
}

static void put(uint8_t *raw, const struct guest *g, uint16_t op, uint32_t guest_port,
                uint32_t host_port, uint32_t len, uint32_t flags)
{
    store_le64(raw, CID);
    store_le64(raw + 8, 2);
    store_le32(raw + 16, guest_port);
    store_le32(raw + 20, host_port);
    store_le32(raw + 24, len);
    store_le16(raw + 28, 1);
    store_le16(raw + 30, op);
    store_le32(raw + 32, flags);
    store_le32(raw + 36, g->my_alloc);
    store_le32(raw + 40, g->my_forwarded);
}

static unsigned collect(struct guest *g)
{
    unsigned id = 0;
    uint32_t len = 0;
    unsigned count = 0;
    while (driver_get(&g->bed.driver[TX], &id, &len)) {
        MUST(len == 0);
        count++;
    }
    return count;
}

/* A packet as raw bytes, header and data in pieces of their own. Queued; the loop must run. */
static void send_raw(struct guest *g, const uint8_t *raw, size_t raw_len, const void *data,
                     uint32_t len)
{
    static unsigned slot;
    uint64_t gpa = TX_BUFFERS + slot++ % 4 * (TX_ROOM * 2);
    struct driver_piece piece[2] = {
        {.gpa = gpa, .len = (uint32_t)raw_len},
        {.gpa = gpa + 0x100, .len = len},
    };
    MUST(memory_write(g->bed.memory, gpa, raw, raw_len) == 0);
    MUST(len == 0 || memory_write(g->bed.memory, gpa + 0x100, data, len) == 0);
    MUST(bed_send(&g->bed, TX, piece, len > 0 ? 2 : 1, 0) >= 0);
}

static void send_op(struct guest *g, uint16_t op, uint32_t guest_port, uint32_t host_port,
                    const void *data, uint32_t len, uint32_t flags)
{
    uint8_t raw[HEADER];
    put(raw, g, op, guest_port, host_port, len, flags);
    send_raw(g, raw, sizeof(raw), data, len);
    BED_UNTIL(&g->bed, collect(g) > 0);
}

static void say(struct guest *g, int fd, const char *text)
{
    (void)g;
    ck_assert_int_eq(write_full(fd, text, strlen(text)), 0);
}

/* Reads exactly what is expected while the loop runs. */
static void hear(struct guest *g, int fd, const char *want)
{
    char text[256] = "";
    size_t len = 0;
    int64_t end = clock_monotonic_ns() + 5 * NS_PER_SEC;
    while (len < strlen(want)) {
        ck_assert_msg(clock_monotonic_ns() < end, "heard only '%s' of '%s'", text, want);
        bed_run(&g->bed, NS_PER_MS);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 0) == 1) {
            ssize_t n = read(fd, text + len, strlen(want) - len);
            ck_assert_int_gt(n, 0);
            len += (size_t)n;
        }
    }
    ck_assert_str_eq(text, want);
}

/* The next read says that there is no more. */
static void hear_end(struct guest *g, int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char byte = 0;
    BED_UNTIL(&g->bed, poll(&p, 1, 0) == 1);
    ck_assert_int_le(read(fd, &byte, 1), 0);
}

/* A program of the host that asked for port 1024 of the guest, and the guest has accepted. */
static int host_program(struct guest *g)
{
    int fd = unix_connect(g->uds, SOCK_STREAM);
    ck_assert_int_ge(fd, 0);
    say(g, fd, "CONNECT 1024\n");
    expect(g, REQUEST);
    ck_assert_uint_eq(g->dst_port, 1024);
    ck_assert_uint_ge(g->alloc, 4096);
    uint32_t port = g->src_port;
    send_op(g, RESPONSE, 1024, port, NULL, 0, 0);
    char ok[32];
    (void)snprintf(ok, sizeof(ok), "OK %u\n", port);
    hear(g, fd, ok);
    g->src_port = port;
    return fd;
}

/* The guest connects to port of the host. The answer is in g. */
static void guest_connects(struct guest *g, uint32_t guest_port, uint32_t host_port)
{
    send_op(g, REQUEST, guest_port, host_port, NULL, 0, 0);
    do { /* others may have something to say too */
        BED_UNTIL(&g->bed, receive(g));
    } while (g->dst_port != guest_port || g->src_port != host_port ||
             (g->op != RESPONSE && g->op != RST));
}

static void talk(uint64_t features)
{
    struct guest g;
    start_with(&g, features, RX_COUNT);
    int fd = host_program(&g);
    uint32_t port = g.src_port;
    say(&g, fd, "hello");
    expect(&g, RW);
    ck_assert_uint_eq(g.len, 5);
    ck_assert_int_eq(memcmp(g.data, "hello", 5), 0);
    send_op(&g, RW, 1024, port, "good day", 8, 0);
    hear(&g, fd, "good day");
    /* Both halves, one after the other. */
    ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
    expect(&g, SHUTDOWN);
    ck_assert_uint_eq(g.flags, 2);
    send_op(&g, RW, 1024, port, "still", 5, 0);
    hear(&g, fd, "still");
    send_op(&g, SHUTDOWN, 1024, port, NULL, 0, 3);
    hear_end(&g, fd);
    expect(&g, RST);
    (void)close(fd);
    stop(&g);
}

START_TEST(a_host_program_talks_with_the_guest)
{
    talk(0);
    talk(VIRTIO_F_EVENT_IDX);
    talk(VIRTIO_F_RING_PACKED);
    talk(VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX);
}
END_TEST

START_TEST(what_follows_connect_at_once_is_data)
{
    struct guest g;
    start(&g);
    int fd = unix_connect(g.uds, SOCK_STREAM);
    say(&g, fd, "CONN");
    bed_run(&g.bed, 5 * NS_PER_MS);
    say(&g, fd, "ECT 99\nearly");
    expect(&g, REQUEST);
    ck_assert_uint_eq(g.dst_port, 99);
    send_op(&g, RESPONSE, 99, g.src_port, NULL, 0, 0);
    expect(&g, RW);
    ck_assert_uint_eq(g.len, 5);
    ck_assert_int_eq(memcmp(g.data, "early", 5), 0);
    (void)close(fd);
    stop(&g);
}
END_TEST

START_TEST(a_bad_first_line_is_the_end)
{
    static const char *const lines[] = {
        "connect 5\n", "CONNECT\n",    "CONNECT x\n",  "CONNECT 4294967295\n",
        "CONNECT \n",  "CONNECT -1\n", "CONNECT 5 \n", "CONNECT 99999999999999999999999999999",
    };
    struct guest g;
    start(&g);
    for (size_t i = 0; i < COUNT(lines); i++) {
        int fd = unix_connect(g.uds, SOCK_STREAM);
        say(&g, fd, lines[i]);
        hear_end(&g, fd);
        (void)close(fd);
    }
    /* Whom the guest refuses sees the end too. */
    int fd = unix_connect(g.uds, SOCK_STREAM);
    say(&g, fd, "CONNECT 5\n");
    expect(&g, REQUEST);
    send_op(&g, RST, 5, g.src_port, NULL, 0, 0);
    hear_end(&g, fd);
    (void)close(fd);
    stop(&g);
}
END_TEST

START_TEST(the_guest_reaches_a_socket_named_after_the_port)
{
    struct guest g;
    char path[sizeof(g.uds) + 16];
    start(&g);
    guest_connects(&g, 500, 52);
    ck_assert_uint_eq(g.op, RST); /* nobody listens */
    (void)snprintf(path, sizeof(path), "%s_52", g.uds);
    int listener = unix_listen(path, SOCK_STREAM, 0600);
    ck_assert_int_ge(listener, 0);
    guest_connects(&g, 500, 52);
    ck_assert_uint_eq(g.op, RESPONSE);
    int fd = accept(listener, NULL, NULL);
    send_op(&g, RW, 500, 52, "ping", 4, 0);
    hear(&g, fd, "ping");
    say(&g, fd, "pong");
    (void)close(fd);
    expect(&g, RW);
    ck_assert_int_eq(memcmp(g.data, "pong", 4), 0);
    expect(&g, SHUTDOWN);
    if (g.flags != 3) {
        expect(&g, SHUTDOWN);
    }
    ck_assert_uint_eq(g.flags, 3);
    (void)close(listener);
    ck_assert_int_eq(unlink(path), 0);
    stop(&g);
}
END_TEST

/* In the monitor's jail no directory can be opened: it is held, wherever it is by then. */
START_TEST(the_directory_of_a_long_path_is_held)
{
    struct guest g;
    char below[120] = "/";
    char path[sizeof(g.uds) + 16];
    memset(below + 1, 'd', sizeof(below) - 2);
    start_below(&g, below, VIRTIO_F_EVENT_IDX, RX_COUNT);
    char *end = strrchr(g.uds, '/');
    *end = '\0';
    (void)snprintf(path, sizeof(path), "%s/moved", g.dir);
    ck_assert_int_eq(rename(g.uds, path), 0);
    (void)snprintf(path, sizeof(path), "%s/moved/v_4000000000", g.dir);
    int listener = unix_listen(path, SOCK_STREAM, 0600);
    ck_assert_int_ge(listener, 0);
    guest_connects(&g, 500, 4000000000);
    ck_assert_uint_eq(g.op, RESPONSE);
    (void)close(listener);
    ck_assert_int_eq(unlink(path), 0);
    bed_close(&g.bed);
    (void)snprintf(path, sizeof(path), "%s/moved", g.dir);
    ck_assert_int_eq(rmdir(path), 0); /* the device removed its socket */
    ck_assert_int_eq(rmdir(g.dir), 0);
}
END_TEST

START_TEST(bound_ports_carry_stdin_and_stdout)
{
    struct guest g;
    int in[2];
    int out[2];
    start(&g);
    ck_assert_int_eq(pipe(in), 0);
    ck_assert_int_eq(pipe(out), 0);
    ck_assert_int_eq(vsock_bind_port(g.bed.virtio, 1, in[0], -1, NULL), 0);
    ck_assert_int_eq(vsock_bind_port(g.bed.virtio, 2, -1, out[1], NULL), 0);
    guest_connects(&g, 101, 1);
    ck_assert_uint_eq(g.op, RESPONSE);
    expect(&g, SHUTDOWN);
    ck_assert_uint_eq(g.flags, 1); /* stdin takes nothing */
    guest_connects(&g, 102, 2);
    ck_assert_uint_eq(g.op, RESPONSE);
    say(&g, in[1], "line\n");
    (void)close(in[1]);
    expect(&g, RW);
    ck_assert_uint_eq(g.dst_port, 101);
    ck_assert_int_eq(memcmp(g.data, "line\n", 5), 0);
    expect(&g, SHUTDOWN);
    ck_assert_uint_eq(g.flags, 3);
    /* A port is there once. */
    guest_connects(&g, 103, 2);
    ck_assert_uint_eq(g.op, RST);
    send_op(&g, RW, 102, 2, "answer", 6, 0);
    send_op(&g, SHUTDOWN, 102, 2, NULL, 0, 2);
    hear(&g, out[0], "answer");
    hear_end(&g, out[0]);
    expect(&g, SHUTDOWN); /* the sign that all has arrived */
    ck_assert_uint_eq(g.dst_port, 102);
    ck_assert_uint_eq(g.flags, 3);
    send_op(&g, RST, 102, 2, NULL, 0, 0);
    (void)close(out[0]);
    stop(&g);
}
END_TEST

START_TEST(a_file_and_the_null_device_serve_as_stdio)
{
    struct guest g;
    char path[sizeof(g.uds) + 16];
    start(&g);
    (void)snprintf(path, sizeof(path), "%s/in", g.dir);
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    AUTO(freep) char *big = calloc(1, 600000);
    ck_assert_int_eq(write_full(file, big, 600000), 0);
    ck_assert_int_eq(lseek(file, 0, SEEK_SET), 0);
    ck_assert_int_eq(
        vsock_bind_port(g.bed.virtio, 1, file, open("/dev/null", O_WRONLY | O_CLOEXEC), NULL), 0);
    guest_connects(&g, 101, 1);
    ck_assert_uint_eq(g.op, RESPONSE);
    for (uint32_t got = 0; got < 600000; got += g.len) {
        expect(&g, RW);
    }
    expect(&g, SHUTDOWN);
    ck_assert_uint_eq(g.flags, 2);
    send_op(&g, RW, 101, 1, "away", 4, 0);
    ck_assert_int_eq(unlink(path), 0);
    stop(&g);
}
END_TEST

/* More than 1 MiB each way with a guest that has little room, byte by byte right. */
START_TEST(a_guest_with_little_credit_gets_everything)
{
    struct guest g;
    start_with(&g, VIRTIO_F_EVENT_IDX, 3);
    g.my_alloc = 1000;
    int fd = host_program(&g);
    uint32_t port = g.src_port;
    AUTO(freep) uint8_t *data = malloc(1U << 16);
    for (unsigned i = 0; i < 1U << 16; i++) {
        data[i] = (uint8_t)(i * 7 + i / 251);
    }
    ck_assert_int_eq(write_full(fd, data, 1U << 16), 0);
    ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
    uint32_t got = 0;
    uint32_t unread = 0;
    while (got < 1U << 16) {
        BED_UNTIL(&g.bed, receive(&g));
        if (g.op == ASK) {
            ck_assert_uint_eq(unread, 1000);
            g.my_forwarded += unread;
            unread = 0;
            send_op(&g, UPDATE, 1024, port, NULL, 0, 0);
            continue;
        }
        ck_assert_uint_eq(g.op, RW);
        ck_assert_int_eq(memcmp(g.data, data + got, g.len), 0);
        got += g.len;
        unread += g.len;
        ck_assert_uint_le(unread, 1000);
    }
    (void)close(fd);
    stop(&g);
}
END_TEST

START_TEST(credit_that_is_taken_back_or_nonsense_is_none)
{
    static const struct {
        uint32_t alloc, forwarded;
    } cases[] = {{500, 0}, {0, 0}, {1000, 1001}, {1000, 0x80000000}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct guest g;
        start(&g);
        g.my_alloc = 1000;
        int fd = host_program(&g);
        uint32_t port = g.src_port;
        char data[3000] = {0};
        ck_assert_int_eq(write_full(fd, data, sizeof(data)), 0);
        expect(&g, RW);
        ck_assert_uint_eq(g.len, 1000);
        expect(&g, ASK);
        g.my_alloc = cases[i].alloc;
        g.my_forwarded = cases[i].forwarded;
        send_op(&g, UPDATE, 1024, port, NULL, 0, 0);
        bed_run(&g.bed, 5 * NS_PER_MS);
        ck_assert(!receive(&g));
        g.my_alloc = 2000;
        g.my_forwarded = 500;
        send_op(&g, UPDATE, 1024, port, NULL, 0, 0);
        expect(&g, RW);
        ck_assert_uint_eq(g.len, 1500);
        (void)close(fd);
        stop(&g);
    }
}
END_TEST

START_TEST(a_slow_reader_holds_the_guest_back_by_credit)
{
    struct guest g;
    start(&g);
    int fd = host_program(&g);
    uint32_t port = g.src_port;
    uint32_t room = g.alloc;
    AUTO(freep) char *data = malloc(room);
    memset(data, 'x', room);
    uint32_t sent = 0;
    uint32_t forwarded = 0;
    /* Until the socket is full and the promise is used up. */
    for (unsigned idle = 0; idle < 20;) {
        uint32_t n = MIN(room - (sent - forwarded), 32768U);
        if (n > 0) {
            send_op(&g, RW, 1024, port, data, n, 0);
            sent += n;
            idle = 0;
        } else {
            bed_run(&g.bed, NS_PER_MS);
            idle++;
        }
        while (receive(&g)) {
            ck_assert_uint_eq(g.op, UPDATE);
            forwarded = g.forwarded;
        }
    }
    ck_assert_uint_eq(sent - forwarded, room);
    /* One reads, the other hears of it, and not a byte is missing. */
    uint32_t got = 0;
    while (got < sent) {
        ssize_t n = recv(fd, data, room, MSG_DONTWAIT);
        got += n > 0 ? (uint32_t)n : 0;
        bed_run(&g.bed, NS_PER_MS / 10);
    }
    ck_assert_uint_eq(got, sent);
    expect(&g, UPDATE);
    /* A guest that sends more than it may is thrown out. */
    send_op(&g, RW, 1024, port, data, 1, 0);
    for (unsigned i = 0; i < room / 32768 + 8; i++) {
        send_op(&g, RW, 1024, port, data, 32768, 0);
    }
    expect(&g, RST);
    (void)close(fd);
    stop(&g);
}
END_TEST

/* Reads everything to the end, slowly; exits with 0 when it was that much. */
static pid_t slow_reader(int fd, size_t want)
{
    pid_t pid = fork();
    if (pid == 0) {
        char data[8192];
        (void)dup2(fd, 0);
        (void)close_range(3, ~0U, 0);
        size_t got = 0;
        ssize_t n = 0;
        (void)alarm(20);
        while ((n = read(0, data, sizeof(data))) > 0) {
            got += (size_t)n;
            (void)usleep(500);
        }
        _exit(got == want ? 0 : 1);
    }
    return pid;
}

static void ends_well(pid_t pid)
{
    int status = -1;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}

/* Fills a pipe with stdout of the guest, 200 KiB in the end of which the device has not looked at.
 */
static void fill_stdout(struct guest *g, int out[2])
{
    static const char data[40000];
    uint8_t raw[HEADER];
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    ck_assert_int_eq(vsock_bind_port(g->bed.virtio, 2, -1, out[1], NULL), 0);
    guest_connects(g, 102, 2);
    ck_assert_uint_eq(g->op, RESPONSE);
    for (unsigned i = 0; i < 4; i++) {
        send_op(g, RW, 102, 2, data, sizeof(data), 0);
    }
    put(raw, g, RW, 102, 2, sizeof(data), 0);
    send_raw(g, raw, sizeof(raw), data, sizeof(data));
}

START_TEST(a_drain_writes_the_last_bytes_for_a_slow_reader)
{
    struct guest g;
    int out[2];
    uint8_t raw[HEADER];
    start(&g);
    fill_stdout(&g, out);
    put(raw, &g, SHUTDOWN, 102, 2, 0, 3);
    send_raw(&g, raw, sizeof(raw), NULL, 0);
    /* Nobody reads. */
    ck_assert_int_eq(vsock_drain(g.bed.virtio, 20 * NS_PER_MS), -ETIMEDOUT);
    pid_t pid = slow_reader(out[0], 200000);
    ck_assert_int_eq(vsock_drain(g.bed.virtio, 10 * NS_PER_SEC), 0);
    ends_well(pid); /* the end too, without any help of the loop */
    (void)close(out[0]);
    stop(&g);
}
END_TEST

START_TEST(a_reset_loses_nothing_that_the_guest_had_sent)
{
    struct guest g;
    int out[2];
    start(&g);
    fill_stdout(&g, out);
    BED_UNTIL(&g.bed, collect(&g) > 0);
    bed_set(&g.bed, 0x70, 0); /* as drivers do at power-off */
    pid_t pid = slow_reader(out[0], 200000);
    ck_assert_int_eq(vsock_drain(g.bed.virtio, 10 * NS_PER_SEC), 0);
    /* The port has its descriptor again, for the next driver; its end comes with the device. */
    up(&g, 0, RX_COUNT);
    guest_connects(&g, 102, 2);
    ck_assert_uint_eq(g.op, RESPONSE);
    bed_set(&g.bed, 0x70, 0);
    stop(&g);
    ends_well(pid);
    (void)close(out[0]);
}
END_TEST

START_TEST(a_rst_of_the_guest_loses_nothing_either)
{
    struct guest g;
    int out[2];
    start(&g);
    fill_stdout(&g, out);
    send_op(&g, RST, 102, 2, NULL, 0, 0);
    pid_t pid = slow_reader(out[0], 200000);
    BED_UNTIL(&g.bed, waitpid(pid, &(int){0}, WNOHANG) == pid);
    (void)close(out[0]);
    stop(&g);
}
END_TEST

START_TEST(a_reader_that_goes_away_stops_the_guest)
{
    struct guest g;
    int out[2];
    start(&g);
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    ck_assert_int_eq(vsock_bind_port(g.bed.virtio, 2, -1, out[1], NULL), 0);
    guest_connects(&g, 102, 2);
    (void)close(out[0]);
    expect(&g, SHUTDOWN); /* without a byte being sent */
    ck_assert_uint_eq(g.flags, 3);
    send_op(&g, RW, 102, 2, "lost", 4, 0);
    send_op(&g, SHUTDOWN, 102, 2, NULL, 0, 3);
    expect(&g, RST);
    stop(&g);
}
END_TEST

/* Table of single packets of a hostile guest; want: RST, or silence (0). */
START_TEST(wrong_packets_are_counted_and_answered)
{
    static const struct {
        size_t at; /* in the header */
        uint32_t value;
        uint16_t op;
        size_t raw_len;
        uint16_t want;
    } cases[] = {
        {0, 8, REQUEST, HEADER, 0},                    /* from someone else */
        {4, 1, REQUEST, HEADER, 0},                    /* upper half of the CID */
        {8, 3, REQUEST, HEADER, 0},                    /* to another guest */
        {28, 2 | REQUEST << 16, REQUEST, HEADER, RST}, /* no stream */
        {24, 0xffffffff, RW, HEADER, RST},             /* longer than the chain */
        {24, 1, RW, HEADER, RST},
        {24, 0, RW, HEADER, RST}, /* no such connection */
        {24, 0, 0, HEADER, RST},  /* operations that do not exist */
        {24, 0, 8, HEADER, RST},
        {24, 0, 0xffff, HEADER, RST},
        {24, 0, RST, HEADER, 0}, /* no RST for a RST */
        {24, 0, REQUEST, HEADER - 1, 0},
        {24, 0, REQUEST, 1, 0},
    };
    struct guest g;
    start(&g);
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint8_t raw[HEADER];
        put(raw, &g, cases[i].op, 500, 600, 0, 0);
        store_le32(raw + cases[i].at, cases[i].value);
        send_raw(&g, raw, cases[i].raw_len, NULL, 0);
        BED_UNTIL(&g.bed, collect(&g) == 1);
        bed_run(&g.bed, 2 * NS_PER_MS);
        bool answered = receive(&g);
        ck_assert_msg(answered == (cases[i].want != 0), "case %zu", i);
        ck_assert_uint_eq(answered ? g.op : 0, cases[i].want);
    }
    ck_assert_uint_gt(g.bed.virtio->device.guest_errors, 6);
    ck_assert_uint_eq(bed_get(&g.bed, 0x70) & VIRTIO_NEEDS_RESET, 0);
    stop(&g);
}
END_TEST

/* The same for a connection that is open: each ends it. */
START_TEST(wrong_packets_end_their_connection)
{
    static const struct {
        uint16_t op;
        size_t at;
        uint32_t value;
    } cases[] = {
        {REQUEST, 24, 0}, {RESPONSE, 24, 0},      {RW, 24, 1}, {RW, 24, 0xffffffff}, {0, 24, 0},
        {99, 24, 0},      {RW, 28, 2 | RW << 16},
    };
    struct guest g;
    start(&g);
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint8_t raw[HEADER];
        int fd = host_program(&g);
        put(raw, &g, cases[i].op, 1024, g.src_port, 0, 0);
        store_le32(raw + cases[i].at, cases[i].value);
        send_raw(&g, raw, sizeof(raw), NULL, 0);
        expect(&g, RST);
        (void)collect(&g);
        hear_end(&g, fd);
        (void)close(fd);
    }
    stop(&g);
}
END_TEST

static size_t descriptors(void)
{
    size_t count = 0;
    for (int fd = 0; fd < 1024; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

START_TEST(thousands_of_connections_are_refused_not_kept)
{
    struct guest g;
    char path[sizeof(g.uds) + 16];
    start(&g);
    (void)snprintf(path, sizeof(path), "%s_52", g.uds);
    int listener = unix_listen(path, SOCK_STREAM | SOCK_NONBLOCK, 0600);
    size_t before = descriptors();
    unsigned open = 0;
    unsigned refused = 0;
    for (uint32_t i = 0; i < 3000; i++) {
        guest_connects(&g, 10000 + i, 52);
        open += g.op == RESPONSE;
        refused += g.op == RST;
        (void)close(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
        if (i == 1500) {
            /* Without a buffer for their answers the requests cost nothing either. */
            uint8_t raw[HEADER];
            for (uint32_t k = 0; k < 100; k++) {
                put(raw, &g, REQUEST, 20000 + k, 52, 0, 0);
                send_raw(&g, raw, sizeof(raw), NULL, 0);
            }
            bed_run(&g.bed, 5 * NS_PER_MS);
            (void)collect(&g);
        }
        while (receive(&g)) {
        }
    }
    ck_assert_uint_le(open, VSOCK_CONNECTIONS_MAX);
    ck_assert_uint_gt(open, 200);
    ck_assert_uint_gt(refused, 2000);
    ck_assert_uint_le(descriptors() - before, VSOCK_CONNECTIONS_MAX);
    /* And they end. */
    for (uint32_t i = 0; i < 3000; i++) {
        send_op(&g, RST, 10000 + i, 52, NULL, 0, 0);
        while (receive(&g)) {
        }
    }
    ck_assert_uint_eq(descriptors(), before);
    int fd = host_program(&g);
    (void)close(fd);
    (void)close(listener);
    ck_assert_int_eq(unlink(path), 0);
    stop(&g);
}
END_TEST

static int64_t cpu_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * NS_PER_SEC + t.tv_nsec;
}

START_TEST(who_does_not_go_on_is_dropped_after_ten_seconds)
{
    struct guest g;
    start(&g);
    int silent = unix_connect(g.uds, SOCK_STREAM);
    say(&g, silent, "CONNE");
    int unanswered = unix_connect(g.uds, SOCK_STREAM);
    say(&g, unanswered, "CONNECT 5\n");
    expect(&g, REQUEST);
    uint32_t port = g.src_port;
    int talking = host_program(&g);
    uint32_t other = g.src_port;
    bed_run(&g.bed, 9 * NS_PER_SEC);
    struct pollfd p[2] = {{.fd = silent, .events = POLLIN}, {.fd = unanswered, .events = POLLIN}};
    ck_assert_int_eq(poll(p, 2, 0), 0);
    bed_run(&g.bed, 2 * NS_PER_SEC);
    hear_end(&g, silent);
    hear_end(&g, unanswered);
    expect(&g, RST);
    ck_assert_uint_eq(g.src_port, port);
    send_op(&g, RW, 1024, other, "alive", 5, 0);
    hear(&g, talking, "alive");
    (void)close(silent);
    (void)close(unanswered);
    (void)close(talking);
    stop(&g);
}
END_TEST

/* Firecracker's issue 6031: a connection that hangs up while nothing can be delivered. */
START_TEST(nothing_makes_the_loop_spin)
{
    struct guest g;
    int out[2];
    start_with(&g, 0, 3);
    g.my_alloc = 0; /* no credit */
    int hung_up = host_program(&g);
    say(&g, hung_up, "waiting");
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    ck_assert_int_eq(vsock_bind_port(g.bed.virtio, 2, out[0], -1, NULL), 0);
    guest_connects(&g, 102, 2);
    say(&g, out[1], "waiting");
    (void)close(out[1]);
    (void)close(hung_up);
    /* No buffer any more for the guest. */
    int more = unix_connect(g.uds, SOCK_STREAM);
    say(&g, more, "CONNECT 5\n");
    bed_run(&g.bed, 50 * NS_PER_MS);
    int64_t before = cpu_ns();
    bed_run(&g.bed, 500 * NS_PER_MS);
    ck_assert_int_lt(cpu_ns() - before, 50 * NS_PER_MS);
    (void)close(more);
    stop(&g);
}
END_TEST

START_TEST(buffers_too_small_are_given_back)
{
    struct guest g;
    start_with(&g, 0, 0);
    struct driver_piece piece = {.gpa = RX_BUFFERS, .len = HEADER};
    for (unsigned i = 0; i < 10; i++) {
        MUST(bed_send(&g.bed, RX, &piece, 0, 1) >= 0);
    }
    send_op(&g, RW, 1, 1, NULL, 0, 0);
    unsigned id = 0;
    uint32_t len = 1;
    for (unsigned i = 0; i < 10; i++) {
        BED_UNTIL(&g.bed, driver_get(&g.bed.driver[RX], &id, &len));
        ck_assert_uint_eq(len, 0);
    }
    post(&g, RX_BUFFERS);
    expect(&g, RST); /* it was not lost */
    stop(&g);
}
END_TEST

START_TEST(a_restored_guest_is_told_that_its_connections_are_gone)
{
    struct guest g;
    AUTO(buf_donep) struct buf saved = {0};
    struct err err = ERR_NONE;
    start(&g);
    int fd = host_program(&g);
    struct driver_piece piece = {.gpa = EVENT_BUFFER, .len = 8};
    MUST(bed_send(&g.bed, EVENT, &piece, 0, 1) >= 0);
    bed_run(&g.bed, NS_PER_MS);
    struct device *device = &g.bed.virtio->device;
    (void)pthread_mutex_lock(&device->lock);
    ck_assert_int_eq(device->ops->quiesce(device, NULL), 0);
    (void)pthread_mutex_unlock(&device->lock);
    say(&g, fd, "while paused");
    bed_run(&g.bed, 5 * NS_PER_MS);
    ck_assert(!receive(&g));
    ck_assert_int_eq(state_write(&saved, device->state, "vsock", device, &err), 0);

    /* The first machine goes on as if nothing had been. */
    (void)pthread_mutex_lock(&device->lock);
    device->ops->resume(device);
    (void)pthread_mutex_unlock(&device->lock);
    expect(&g, RW);
    ck_assert_uint_eq(g.len, 12);
    unsigned id = 0;
    uint32_t len = 0;
    ck_assert(!driver_get(&g.bed.driver[EVENT], &id, &len));

    /* A second one with the same memory: its queues are where they were. */
    virtio_mmio_free(g.bed.mmio);
    g.bed.mmio = NULL;
    virtio_free(g.bed.virtio);
    g.bed.virtio = NULL;
    hear_end(&g, fd);
    ck_assert_int_eq(
        vsock_new("vsock", CID + 1, g.uds, g.bed.memory, g.bed.loop, &g.bed.virtio, NULL), 0);
    bed_connect(&g.bed);
    device = &g.bed.virtio->device;
    struct state_reader reader = {.data = (uint8_t *)saved.data, .len = saved.len};
    ck_assert_msg(state_read(&reader, device->state, "vsock", device, &err) == 0, "%s",
                  err_text(&err));
    (void)pthread_mutex_lock(&device->lock);
    device->ops->resume(device);
    (void)pthread_mutex_unlock(&device->lock);
    BED_UNTIL(&g.bed, driver_get(&g.bed.driver[EVENT], &id, &len));
    ck_assert_uint_eq(len, 4);
    uint32_t event = 1;
    MUST(memory_read(g.bed.memory, EVENT_BUFFER, &event, 4) == 0);
    ck_assert_uint_eq(event, 0);
    ck_assert_uint_eq(bed_get(&g.bed, 0x100), CID + 1);
    (void)close(fd);
    stop(&g);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_host_program_talks_with_the_guest,
        what_follows_connect_at_once_is_data,
        a_bad_first_line_is_the_end,
        the_guest_reaches_a_socket_named_after_the_port,
        the_directory_of_a_long_path_is_held,
        bound_ports_carry_stdin_and_stdout,
        a_file_and_the_null_device_serve_as_stdio,
        a_guest_with_little_credit_gets_everything,
        credit_that_is_taken_back_or_nonsense_is_none,
        a_slow_reader_holds_the_guest_back_by_credit,
        a_drain_writes_the_last_bytes_for_a_slow_reader,
        a_reset_loses_nothing_that_the_guest_had_sent,
        a_rst_of_the_guest_loses_nothing_either,
        a_reader_that_goes_away_stops_the_guest,
        wrong_packets_are_counted_and_answered,
        wrong_packets_end_their_connection,
        thousands_of_connections_are_refused_not_kept,
        who_does_not_go_on_is_dropped_after_ten_seconds,
        nothing_makes_the_loop_spin,
        buffers_too_small_are_given_back,
        a_restored_guest_is_told_that_its_connections_are_gone,
        NULL,
    };
    return unit_run("vmm_vsock", tests);
}
