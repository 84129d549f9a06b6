/*
 * vmm_net_guest.h - a guest with a network card, for tests: frames in and out, commands; and the
 * host's end of a tap in a network namespace of the test's own.
 */
#ifndef UNIT_VMM_NET_GUEST_H
#define UNIT_VMM_NET_GUEST_H

#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/virtio/net.h"
#include "vmm_mmio.h"

#define HEADER 12
#define RX_BUFFERS 0x100000ULL
#define TX_BUFFERS 0x80000ULL
#define TX_ROOM 0x11000ULL
#define CTRL_BUFFER 0xf0000ULL
#define TAP "isolatest0"

static const uint8_t guest_mac[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t host_mac[6] = {2, 0, 0, 0, 0, 1};

struct guest {
    struct bed bed;
    unsigned queues;
    uint32_t rx_room;
    uint64_t rx_buffer[4][DRIVER_SIZE_MAX]; /* of chain id, by pair */
    struct limit_options receive_limit, send_limit;
    unsigned sent;
    int udp;      /* the host's socket */
    uint32_t len; /* of the last frame, without header */
    unsigned buffers;
    uint8_t header[HEADER];
    uint8_t frame[70000];
};

static inline void run(const char *command)
{
    int status = system(command);
    ck_assert_msg(status == 0, "%s: status %d", command, status);
}

/* A network of this test's own. */
static inline void own_network(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    run("ip link set lo up");
}

static inline struct net_backend *open_tap(unsigned pairs, unsigned mtu)
{
    struct net_backend *b = NULL;
    struct err err = ERR_NONE;
    char command[512];
    own_network();
    ck_assert_msg(net_tap_open(TAP, pairs, &b, &err) == 0, "%s", err_text(&err));
    (void)snprintf(command, sizeof(command),
                   "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 2>/dev/null;"
                   "ip link set " TAP " address 02:00:00:00:00:01 mtu %u up &&"
                   "ip address add 10.9.0.1/24 dev " TAP " &&"
                   "ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev " TAP,
                   mtu);
    run(command);
    return b;
}

static inline int udp_socket(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in addr = {
        .sin_family = AF_INET,
        .sin_port = htons(5000),
        .sin_addr.s_addr = inet_addr("10.9.0.1"),
    };
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

static inline int to_guest(struct guest *g, const void *data, size_t len)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET,
        .sin_port = htons(6000),
        .sin_addr.s_addr = inet_addr("10.9.0.2"),
    };
    return sendto(g->udp, data, len, 0, (struct sockaddr *)&addr, sizeof(addr)) == (ssize_t)len
               ? 0
               : -errno;
}

static inline void post(struct guest *g, unsigned pair, uint64_t gpa)
{
    struct driver_piece piece = {.gpa = gpa, .len = g->rx_room};
    int id = bed_send(&g->bed, 2 * pair, &piece, 0, 1);
    MUST(id >= 0);
    g->rx_buffer[pair][id] = gpa;
}

static inline void attach(struct guest *g, struct net_backend *b, uint16_t mtu)
{
    struct net_options options = {.mtu = mtu};
    struct err err = ERR_NONE;
    options.receive_limit = g->receive_limit;
    options.send_limit = g->send_limit;
    memcpy(options.mac, guest_mac, sizeof(guest_mac));
    ck_assert_msg(net_new("net", &options, b, g->bed.memory, g->bed.loop, &g->bed.virtio, &err) ==
                      0,
                  "%s", err_text(&err));
    g->queues = g->bed.virtio->queue_count;
    bed_connect(&g->bed);
}

static inline void up(struct guest *g, uint64_t features, uint32_t room, unsigned count)
{
    g->rx_room = room;
    bed_start(&g->bed, features, g->queues, 128);
    for (unsigned i = 0; i < count; i++) {
        post(g, 0, RX_BUFFERS + (uint64_t)i * room);
    }
}

static inline void start(struct guest *g, struct net_backend *b, uint16_t mtu)
{
    memset(g, 0, sizeof(*g));
    g->udp = -1;
    bed_open(&g->bed);
    attach(g, b, mtu);
}

static inline void stop(struct guest *g)
{
    (void)close_fd(g->udp);
    bed_close(&g->bed);
}

/* Takes one frame and gives its buffers back when again is set. */
static inline bool receive_pair(struct guest *g, unsigned pair, bool again)
{
    unsigned id = 0;
    uint32_t len = 0;
    uint64_t done[64];
    uint32_t at = 0;
    static uint8_t raw[80000];
    unsigned count = 1;
    for (g->buffers = 0; g->buffers < count; g->buffers++) {
        bool there = driver_get(&g->bed.driver[2 * pair], &id, &len);
        if (g->buffers == 0 && !there) {
            return false;
        }
        MUST(there); /* all buffers of a frame at once (5.1.6.4) */
        MUST(len <= g->rx_room && at + len <= sizeof(raw));
        done[g->buffers] = g->rx_buffer[pair][id];
        MUST(memory_read(g->bed.memory, done[g->buffers], raw + at, len) == 0);
        at += len;
        if (g->buffers == 0) {
            MUST(len >= HEADER);
            count = load_le16(raw + 10);
            MUST(count >= 1 && count <= 64);
        }
    }
    memcpy(g->header, raw, HEADER);
    g->len = at - HEADER;
    memcpy(g->frame, raw + HEADER, g->len);
    for (unsigned i = 0; again && i < count; i++) {
        post(g, pair, done[i]);
    }
    return true;
}

static inline bool receive(struct guest *g)
{
    return receive_pair(g, 0, true);
}

static inline bool is_udp(const struct guest *g)
{
    return g->len >= 42 && g->frame[12] == 8 && g->frame[13] == 0 && g->frame[23] == 17;
}

/* The next datagram to the guest: its content. */
static const uint8_t *expect_udp(struct guest *g, uint32_t len)
{
    do {
        BED_UNTIL(&g->bed, receive(g));
    } while (!is_udp(g));
    ck_assert_uint_eq(g->len, 42 + len);
    ck_assert_int_eq(memcmp(g->frame, guest_mac, 6), 0);
    return g->frame + 42;
}

static inline uint16_t ip_sum(const uint8_t *p, size_t len)
{
    uint32_t sum = 0;
    for (size_t i = 0; i + 1 < len; i += 2) {
        sum += (uint32_t)p[i] << 8 | p[i + 1];
    }
    while (sum >> 16 != 0) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)~sum;
}

static inline void put_be16(uint8_t *p, unsigned value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

/* Ethernet and IP from the guest to the host, with len bytes behind them. */
static inline void put_ip(uint8_t *frame, uint8_t protocol, size_t len)
{
    static const uint8_t addresses[8] = {10, 9, 0, 2, 10, 9, 0, 1};
    memcpy(frame, host_mac, 6);
    memcpy(frame + 6, guest_mac, 6);
    put_be16(frame + 12, 0x0800);
    memset(frame + 14, 0, 20);
    frame[14] = 0x45;
    put_be16(frame + 16, (unsigned)(20 + len));
    frame[22] = 64;
    frame[23] = protocol;
    memcpy(frame + 26, addresses, 8);
    put_be16(frame + 24, ip_sum(frame + 14, 20));
}

static inline size_t udp_frame(uint8_t *frame, const void *data, size_t len)
{
    put_ip(frame, 17, 8 + len);
    put_be16(frame + 34, 6000);
    put_be16(frame + 36, 5000);
    put_be16(frame + 38, (unsigned)(8 + len));
    put_be16(frame + 40, 0);
    memcpy(frame + 42, data, len);
    return 42 + len;
}

static inline unsigned collect(struct guest *g, unsigned queue)
{
    unsigned id = 0;
    uint32_t len = 0;
    unsigned count = 0;
    while (driver_get(&g->bed.driver[queue], &id, &len)) {
        MUST(len == 0);
        count++;
    }
    return count;
}

/* Header and frame, cut at several places. */
static inline void transmit(struct guest *g, unsigned queue, const uint8_t *header,
                            const uint8_t *frame, size_t len, bool wait)
{
    uint64_t gpa = TX_BUFFERS + g->sent++ % 6 * TX_ROOM;
    uint32_t head = (uint32_t)MIN(len, (size_t)20);
    struct driver_piece piece[3] = {
        {.gpa = gpa, .len = 5},
        {.gpa = gpa + 5, .len = HEADER - 5 + head},
        {.gpa = gpa + HEADER + head, .len = (uint32_t)len - head},
    };
    MUST(memory_write(g->bed.memory, gpa, header, HEADER) == 0);
    MUST(memory_write(g->bed.memory, gpa + HEADER, frame, len) == 0);
    MUST(bed_send(&g->bed, queue, piece, piece[2].len > 0 ? 3 : 2, 0) >= 0);
    if (wait) {
        BED_UNTIL(&g->bed, collect(g, queue) == 1);
    }
}

static inline void send_udp(struct guest *g, unsigned queue, const char *text)
{
    static const uint8_t header[HEADER];
    uint8_t frame[200];
    transmit(g, queue, header, frame, udp_frame(frame, text, strlen(text)), true);
}

static inline void hear_udp(struct guest *g, const char *want)
{
    char text[200] = "";
    ssize_t n = -1;
    BED_UNTIL(&g->bed, (n = recv(g->udp, text, sizeof(text) - 1, 0)) > 0);
    text[n] = 0;
    ck_assert_str_eq(text, want);
}

/* A command of the control queue. */
static inline uint8_t command(struct guest *g, unsigned queue, unsigned class, unsigned cmd,
                              const void *data, uint32_t len)
{
    uint8_t head[2] = {(uint8_t) class, (uint8_t)cmd};
    uint8_t answer = 0xee;
    unsigned id = 0;
    uint32_t written = 0;
    struct driver_piece piece[3] = {
        {.gpa = CTRL_BUFFER, .len = 2},
        {.gpa = CTRL_BUFFER + 16, .len = len},
        {.gpa = CTRL_BUFFER + 4096, .len = 1},
    };
    MUST(memory_write(g->bed.memory, CTRL_BUFFER, head, 2) == 0);
    MUST(len == 0 || memory_write(g->bed.memory, CTRL_BUFFER + 16, data, len) == 0);
    if (len == 0) {
        piece[1] = piece[2];
    }
    MUST(bed_send(&g->bed, queue, piece, len > 0 ? 2 : 1, 1) >= 0);
    BED_UNTIL(&g->bed, driver_get(&g->bed.driver[queue], &id, &written));
    ck_assert_uint_eq(written, 1);
    MUST(memory_read(g->bed.memory, CTRL_BUFFER + 4096, &answer, 1) == 0);
    return answer;
}

#endif
