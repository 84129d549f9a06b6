/*
 * vmm_vsock_guest.h - a guest with a socket, for tests: packets in and out, both ends of a
 * connection.
 */
#ifndef UNIT_VMM_VSOCK_GUEST_H
#define UNIT_VMM_VSOCK_GUEST_H

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

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

static inline void post(struct guest *g, uint64_t gpa)
{
    struct driver_piece piece = {.gpa = gpa, .len = RX_ROOM};
    int id = bed_send(&g->bed, RX, &piece, 0, 1);
    MUST(id >= 0);
    g->rx_buffer[id] = gpa;
}

static inline void up(struct guest *g, uint64_t features, unsigned rx_count)
{
    bed_start(&g->bed, features, 3, 128);
    for (unsigned i = 0; i < rx_count; i++) {
        post(g, RX_BUFFERS + i * RX_ROOM);
    }
}

/* below: a directory in g->dir that is made for the socket, "" for none. */
static inline void start_below(struct guest *g, const char *below, uint64_t features,
                               unsigned rx_count)
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

static inline void start_with(struct guest *g, uint64_t features, unsigned rx_count)
{
    start_below(g, "", features, rx_count);
}

static inline void start(struct guest *g)
{
    start_with(g, VIRTIO_F_EVENT_IDX, RX_COUNT);
}

static inline void stop(struct guest *g)
{
    bed_close(&g->bed);
    ck_assert_int_eq(rmdir(g->dir), 0); /* the device removed its socket */
}

/* Takes the next packet, if there is one, and gives the buffer back. */
static inline bool receive(struct guest *g)
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
static inline void expect(struct guest *g, uint16_t op)
{
    do {
        BED_UNTIL(&g->bed, receive(g));
    } while (g->op == UPDATE && op != UPDATE);
    ck_assert_uint_eq(g->op, op);
}

static inline void put(uint8_t *raw, const struct guest *g, uint16_t op, uint32_t guest_port,
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

static inline unsigned collect(struct guest *g)
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
static inline void send_raw(struct guest *g, const uint8_t *raw, size_t raw_len, const void *data,
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

static inline void send_op(struct guest *g, uint16_t op, uint32_t guest_port, uint32_t host_port,
                           const void *data, uint32_t len, uint32_t flags)
{
    uint8_t raw[HEADER];
    put(raw, g, op, guest_port, host_port, len, flags);
    send_raw(g, raw, sizeof(raw), data, len);
    BED_UNTIL(&g->bed, collect(g) > 0);
}

static inline void say(struct guest *g, int fd, const char *text)
{
    (void)g;
    ck_assert_int_eq(write_full(fd, text, strlen(text)), 0);
}

/* Reads exactly what is expected while the loop runs. */
static inline void hear(struct guest *g, int fd, const char *want)
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
static inline void hear_end(struct guest *g, int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char byte = 0;
    BED_UNTIL(&g->bed, poll(&p, 1, 0) == 1);
    ck_assert_int_le(read(fd, &byte, 1), 0);
}

/* A program of the host that asked for port 1024 of the guest, and the guest has accepted. */
static inline int host_program(struct guest *g)
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
static inline void guest_connects(struct guest *g, uint32_t guest_port, uint32_t host_port)
{
    send_op(g, REQUEST, guest_port, host_port, NULL, 0, 0);
    do { /* others may have something to say too */
        BED_UNTIL(&g->bed, receive(g));
    } while (g->dst_port != guest_port || g->src_port != host_port ||
             (g->op != RESPONSE && g->op != RST));
}

#endif
