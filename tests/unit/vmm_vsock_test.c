#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/unix_socket.h"
#include "freestanding/byteorder.h"
#include "vmm_vsock_guest.h"

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

START_TEST(a_host_program_waits_while_the_guest_is_not_ready)
{
    struct guest g;
    start(&g);
    vsock_hold(g.bed.virtio, true);
    int fd = unix_connect(g.uds, SOCK_STREAM);
    ck_assert_int_ge(fd, 0);
    say(&g, fd, "CONNECT 1024\n");
    struct pollfd p = {.fd = fd, .events = POLLIN};
    bed_run(&g.bed, 20 * NS_PER_MS);
    ck_assert(!receive(&g));
    ck_assert_int_eq(poll(&p, 1, 0), 0);
    vsock_hold(g.bed.virtio, false);
    expect(&g, REQUEST);
    ck_assert_uint_eq(g.dst_port, 1024);
    send_op(&g, RST, 1024, g.src_port, NULL, 0, 0);
    hear_end(&g, fd);
    (void)close(fd);
    stop(&g);
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
        a_host_program_waits_while_the_guest_is_not_ready,
        what_follows_connect_at_once_is_data,
        a_bad_first_line_is_the_end,
        the_guest_reaches_a_socket_named_after_the_port,
        the_directory_of_a_long_path_is_held,
        bound_ports_carry_stdin_and_stdout,
        a_file_and_the_null_device_serve_as_stdio,
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
