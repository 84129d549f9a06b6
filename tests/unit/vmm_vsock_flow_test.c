/* Credit, slow readers, and what is left when a guest or a machine ends. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/err.h"
#include "freestanding/byteorder.h"
#include "vmm_vsock_guest.h"

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

int main(void)
{
    const TTest *const tests[] = {
        a_guest_with_little_credit_gets_everything,
        credit_that_is_taken_back_or_nonsense_is_none,
        a_slow_reader_holds_the_guest_back_by_credit,
        a_drain_writes_the_last_bytes_for_a_slow_reader,
        a_reset_loses_nothing_that_the_guest_had_sent,
        a_rst_of_the_guest_loses_nothing_either,
        a_reader_that_goes_away_stops_the_guest,
        NULL,
    };
    return unit_run("vmm_vsock_flow", tests);
}
