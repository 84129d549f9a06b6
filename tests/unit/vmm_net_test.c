#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "unit.h"
#include "vmm/virtio/net_internal.h"
#include "vmm_net_guest.h"

START_TEST(a_guest_talks_through_a_tap)
{
    static const uint64_t features[] = {
        0,
        VIRTIO_F_EVENT_IDX | VIRTIO_NET_F_MRG_RXBUF,
        VIRTIO_F_RING_PACKED | VIRTIO_NET_F_MRG_RXBUF,
        VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX | NET_GUEST_OFFLOADS | VIRTIO_NET_F_MRG_RXBUF,
    };
    struct guest *g = malloc(sizeof(*g));
    start(g, open_tap(1, 1500), 1500);
    g->udp = udp_socket();
    for (size_t i = 0; i < COUNT(features); i++) {
        uint64_t wanted = features[i] & bed_features(&g->bed);
        up(g, wanted, 2048, 60);
        for (unsigned k = 0; k < 100; k++) {
            char text[32];
            (void)snprintf(text, sizeof(text), "number %zu.%u", i, k);
            send_udp(g, 1, text);
            hear_udp(g, text);
            ck_assert_int_eq(to_guest(g, text, strlen(text)), 0);
            ck_assert_int_eq(memcmp(expect_udp(g, (uint32_t)strlen(text)), text, strlen(text)), 0);
            ck_assert_uint_eq(g->buffers, 1);
        }
    }
    ck_assert_uint_eq(g->bed.virtio->device.guest_errors, 0);
    stop(g);
    free(g);
}
END_TEST

START_TEST(the_configuration_says_address_link_and_mtu)
{
    struct guest *g = malloc(sizeof(*g));
    start(g, open_tap(3, 1400), 1400);
    ck_assert_uint_eq(bed_get(&g->bed, 0x100), 0x00000002);
    ck_assert_uint_eq(bed_get(&g->bed, 0x104), 0x00010200); /* 00 02, link up */
    ck_assert_uint_eq(bed_get(&g->bed, 0x108), 3 | 1400 << 16);
    uint64_t want = VIRTIO_NET_F_MAC | VIRTIO_NET_F_MTU | VIRTIO_NET_F_MQ | VIRTIO_NET_F_HOST_TSO4;
    ck_assert_uint_eq(bed_features(&g->bed) & want, want);
    stop(g);
    free(g);
}
END_TEST

START_TEST(a_long_frame_lies_in_several_buffers)
{
    struct guest *g = malloc(sizeof(*g));
    AUTO(freep) uint8_t *data = malloc(60000);
    for (unsigned i = 0; i < 60000; i++) {
        data[i] = (uint8_t)(i * 31 + i / 253);
    }
    start(g, open_tap(1, 65521), 65521);
    g->udp = udp_socket();
    int room = 4 << 20;
    (void)setsockopt(g->udp, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    up(g, VIRTIO_NET_F_MRG_RXBUF | VIRTIO_F_EVENT_IDX, 1536, 120);
    for (unsigned i = 0; i < 20; i++) {
        ck_assert_int_eq(to_guest(g, data, 60000 - i), 0);
        ck_assert_int_eq(memcmp(expect_udp(g, 60000 - i), data, 60000 - i), 0);
        ck_assert_uint_eq(g->buffers, (60000 - i + 42 + HEADER + 1535) / 1536);
    }
    stop(g);
    free(g);
}
END_TEST

/* Fewer buffers than the longest frame needs: what fits comes, what does not waits for more. */
START_TEST(a_guest_with_few_buffers_loses_no_frame)
{
    struct guest *g = malloc(sizeof(*g));
    AUTO(freep) uint8_t *data = malloc(9000);
    memset(data, 0x5a, 9000);
    start(g, open_tap(1, 65521), 65521);
    g->udp = udp_socket();
    up(g, VIRTIO_NET_F_MRG_RXBUF | VIRTIO_F_EVENT_IDX, 1536, 2);
    for (unsigned i = 0; i < 10; i++) {
        ck_assert_int_eq(to_guest(g, data, 100 + i), 0);
    }
    for (unsigned i = 0; i < 10; i++) {
        ck_assert_int_eq(memcmp(expect_udp(g, 100 + i), data, 100 + i), 0);
    }
    ck_assert_int_eq(to_guest(g, data, 9000), 0);
    bed_run(&g->bed, 20 * NS_PER_MS);
    ck_assert(!receive(g));
    for (unsigned i = 0; i < 4; i++) {
        post(g, 0, RX_BUFFERS + (2ULL + i) * 1536);
    }
    ck_assert_int_eq(memcmp(expect_udp(g, 9000), data, 9000), 0);
    ck_assert_uint_eq(g->buffers, 6);
    stop(g);
    free(g);
}
END_TEST

static int64_t cpu_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * NS_PER_SEC + t.tv_nsec;
}

START_TEST(frames_wait_while_the_guest_has_no_buffer)
{
    struct guest *g = malloc(sizeof(*g));
    start(g, open_tap(1, 1500), 1500);
    g->udp = udp_socket();
    up(g, VIRTIO_F_EVENT_IDX, 2048, 0);
    for (unsigned i = 0; i < 50; i++) {
        ck_assert_int_eq(to_guest(g, &i, sizeof(i)), 0);
    }
    bed_run(&g->bed, 20 * NS_PER_MS);
    int64_t before = cpu_ns();
    bed_run(&g->bed, 300 * NS_PER_MS);
    ck_assert_int_lt(cpu_ns() - before, 30 * NS_PER_MS);
    (void)bed_interrupts(&g->bed);
    (void)driver_want_interrupt(&g->bed.driver[0]);
    for (unsigned i = 0; i < 100; i++) {
        post(g, 0, RX_BUFFERS + i * 2048ULL);
    }
    bed_run(&g->bed, 20 * NS_PER_MS);
    ck_assert_uint_le(bed_interrupts(&g->bed), 2); /* one for the lot */
    for (unsigned i = 0; i < 50; i++) {
        unsigned got = 0;
        memcpy(&got, expect_udp(g, sizeof(got)), sizeof(got));
        ck_assert_uint_eq(got, i);
    }
    stop(g);
    free(g);
}
END_TEST

static void slow_start(struct guest *g, const struct limit_options *in,
                       const struct limit_options *out)
{
    memset(g, 0, sizeof(*g));
    g->receive_limit = *in;
    g->send_limit = *out;
    bed_open(&g->bed);
    attach(g, open_tap(1, 1500), 1500);
    g->udp = udp_socket();
    up(g, VIRTIO_F_EVENT_IDX | VIRTIO_NET_F_MRG_RXBUF, 2048, 60);
}

/* 1,000 bytes each: what the bucket does not hold at the beginning takes its time. */
START_TEST(limits_slow_both_directions_down_and_lose_nothing)
{
    static const struct limit_options none;
    static const struct limit_options few = {.operations = {.size = 5, .refill_ms = 100}};
    static const struct limit_options bytes = {.bytes = {.size = 6000, .refill_ms = 120}};
    static const uint8_t header[HEADER];
    uint8_t data[1000] = {1};
    uint8_t frame[1100];
    struct guest *g = malloc(sizeof(*g));
    for (unsigned i = 0; i < 2; i++) {
        const struct limit_options *limit = i == 0 ? &few : &bytes;
        slow_start(g, &none, limit);
        int64_t begin = clock_monotonic_ns();
        for (unsigned k = 0; k < 15; k++) {
            data[1] = (uint8_t)k;
            transmit(g, 1, header, frame, udp_frame(frame, data, sizeof(data)), true);
            ssize_t n = 0;
            BED_UNTIL(&g->bed, (n = recv(g->udp, frame, sizeof(frame), 0)) > 0);
            ck_assert_int_eq(n, 1000);
            ck_assert_uint_eq(frame[1], k);
        }
        ck_assert_int_ge(clock_monotonic_ns() - begin, 150 * NS_PER_MS);
        stop(g);
        slow_start(g, limit, &none);
        begin = clock_monotonic_ns();
        for (unsigned k = 0; k < 15; k++) {
            data[1] = (uint8_t)k;
            ck_assert_int_eq(to_guest(g, data, sizeof(data)), 0);
        }
        for (unsigned k = 0; k < 15; k++) {
            ck_assert_uint_eq(expect_udp(g, sizeof(data))[1], k);
        }
        ck_assert_int_ge(clock_monotonic_ns() - begin, 150 * NS_PER_MS);
        stop(g);
    }
    free(g);
}
END_TEST

static int packet_socket(void)
{
    int on = 1;
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));
    struct sockaddr_ll addr = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(ETH_P_ALL),
        .sll_ifindex = (int)if_nametoindex(TAP),
    };
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)), 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

/* A segment of 20,000 bytes that the host's kernel is to cut. */
static size_t tcp_frame(uint8_t *frame, uint8_t header[HEADER])
{
    put_ip(frame, 6, 20020);
    memset(frame + 34, 0, 20020);
    put_be16(frame + 34, 6000);
    put_be16(frame + 36, 7000);
    frame[46] = 5 << 4;
    frame[47] = 0x10;
    memset(header, 0, HEADER);
    header[0] = 1;
    header[1] = 1;
    store_le16(header + 2, 54);
    store_le16(header + 4, 1448);
    store_le16(header + 6, 34);
    store_le16(header + 8, 16);
    return 34 + 20020;
}

START_TEST(segments_to_be_cut_reach_the_kernel_as_such)
{
    struct guest *g = malloc(sizeof(*g));
    uint8_t header[HEADER];
    AUTO(freep) uint8_t *frame = malloc(65536);
    AUTO(freep) uint8_t *got = malloc(65536);
    start(g, open_tap(1, 1500), 1500);
    AUTO(closep) int fd = packet_socket();
    size_t len = tcp_frame(frame, header);
    uint64_t wanted = VIRTIO_NET_F_CSUM | VIRTIO_NET_F_HOST_TSO4;
    up(g, wanted, 2048, 4);
    transmit(g, 1, header, frame, len, true);
    ssize_t n = 0;
    do {
        BED_UNTIL(&g->bed, (n = recv(fd, got, 65536, 0)) > 0);
    } while (n < 20000);
    ck_assert_int_eq(n, 10 + (ssize_t)len);
    ck_assert_uint_eq(got[1], 1);
    ck_assert_uint_eq(load_le16(got + 4), 1448);
    ck_assert_int_eq(memcmp(got + 10, frame, len), 0);
    /* Who did not agree on it may not use it. */
    up(g, VIRTIO_NET_F_CSUM, 2048, 4);
    transmit(g, 1, header, frame, len, true);
    bed_run(&g->bed, 20 * NS_PER_MS);
    while ((n = recv(fd, got, 65536, 0)) > 0) {
        ck_assert_int_lt(n, 20000);
    }
    ck_assert_uint_eq(g->bed.virtio->device.guest_errors, 1);
    stop(g);
    free(g);
}
END_TEST

START_TEST(headers_are_checked_and_cleaned)
{
    static const uint64_t all = VIRTIO_NET_F_CSUM | VIRTIO_NET_F_HOST_TSO4 | VIRTIO_NET_F_HOST_ECN;
    static const struct {
        uint64_t features;
        uint8_t flags, gso;
        uint16_t hdr_len, gso_size, start, offset;
        uint64_t len;
        bool want;
    } cases[] = {
        {0, 0, 0, 0, 0, 0, 0, 60, true},
        {0, 0, 0, 0, 0, 0, 0, 13, false},
        {0, 0, 0, 0, 0, 0, 0, 65535 + 18, true},
        {0, 0, 0, 0, 0, 0, 0, 65535 + 19, false},
        {0, 0, 0, 0, 0, 0, 0, UINT64_MAX, false},
        {0, 1, 0, 0, 0, 34, 16, 60, false}, /* not agreed on */
        {all, 1, 0, 0, 0, 34, 16, 60, true},
        {all, 1, 0, 0, 0, 34, 24, 60, true},
        {all, 1, 0, 0, 0, 34, 25, 60, false},
        {all, 1, 0, 0, 0, 60, 0, 60, false},
        {all, 1, 0, 0, 0, 59, 0, 60, false},
        {all, 1, 0, 0, 0, 61, 0, 60, false},
        {all, 1, 0, 0, 0, 65535, 65535, 60, false},
        {all, 0, 0, 99, 99, 65535, 65535, 60, true}, /* fields that say nothing */
        {all, 0xfe, 0, 0, 0, 0, 0, 60, true},
        {all, 1, 1, 54, 1448, 34, 16, 3000, true},
        {all, 1, 0x81, 54, 1448, 34, 16, 3000, true},
        {all, 0, 1, 54, 1448, 34, 16, 3000, false}, /* without a checksum to fill in */
        {all, 1, 1, 54, 0, 34, 16, 3000, false},
        {all, 1, 1, 3001, 1448, 34, 16, 3000, false},
        {all, 1, 2, 54, 1448, 34, 16, 3000, false},
        {all, 1, 3, 54, 1448, 34, 16, 3000, false},
        {all, 1, 4, 54, 1448, 34, 16, 3000, false},
        {all, 1, 5, 54, 1448, 34, 16, 3000, false},
        {all, 1, 0x80, 54, 1448, 34, 16, 3000, false},
        {all, 1, 0xff, 54, 1448, 34, 16, 3000, false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct net *net = calloc(1, sizeof(*net));
        uint8_t h[HEADER] = {cases[i].flags, cases[i].gso};
        net->virtio.acked = cases[i].features;
        store_le16(h + 2, cases[i].hdr_len);
        store_le16(h + 4, cases[i].gso_size);
        store_le16(h + 6, cases[i].start);
        store_le16(h + 8, cases[i].offset);
        ck_assert_msg(net_header_check(net, h, cases[i].len) == cases[i].want, "case %zu", i);
        ck_assert_msg(!cases[i].want || h[0] <= 1, "case %zu", i);
        ck_assert_msg(!cases[i].want || h[1] != 0 || load_le32(h + 2) == 0, "case %zu", i);
        free(net);
    }
}
END_TEST

START_TEST(hostile_frames_are_lost_alone)
{
    static const struct driver_piece bad[] = {
        {.gpa = TX_BUFFERS, .len = 0},       {.gpa = TX_BUFFERS, .len = 11},
        {.gpa = TX_BUFFERS, .len = 12},      {.gpa = TX_BUFFERS, .len = 25},
        {.gpa = TX_BUFFERS, .len = 0x70000},
    };
    static const struct driver_piece empty = {.gpa = TX_BUFFERS, .len = 10};
    struct guest *g = malloc(sizeof(*g));
    start(g, open_tap(1, 1500), 1500);
    g->udp = udp_socket();
    up(g, 0, 2048, 4);
    for (size_t i = 0; i < COUNT(bad); i++) {
        MUST(bed_send(&g->bed, 1, &bad[i], 1, 0) >= 0);
        BED_UNTIL(&g->bed, collect(g, 1) == 1);
        ck_assert_uint_eq(g->bed.virtio->device.guest_errors, i + 1);
    }
    /* A buffer too small for a frame, and a chain that is all the wrong way round. */
    MUST(bed_send(&g->bed, 0, &empty, 0, 1) >= 0);
    MUST(bed_send(&g->bed, 0, &empty, 1, 0) >= 0);
    for (unsigned i = 0; i < 8; i++) {
        ck_assert_int_eq(to_guest(g, "x", 1), 0);
    }
    unsigned got = 0;
    for (unsigned i = 0; i < 10; i++) {
        unsigned id = 0;
        uint32_t len = 0;
        BED_UNTIL(&g->bed, driver_get(&g->bed.driver[0], &id, &len));
        got += len > 0;
        if (len > 0) {
            post(g, 0, g->rx_buffer[0][id]);
        }
    }
    ck_assert_uint_eq(got, 8);
    send_udp(g, 1, "still here");
    hear_udp(g, "still here");
    ck_assert_uint_eq(bed_get(&g->bed, 0x70) & VIRTIO_NEEDS_RESET, 0);
    stop(g);
    free(g);
}
END_TEST

/* Chains without a byte to write to, between the buffers of one frame. */
START_TEST(useless_buffers_come_back_once_and_cost_no_frame)
{
    struct guest *g = malloc(sizeof(*g));
    uint8_t data[1400];
    memset(data, 0x77, sizeof(data));
    start(g, open_tap(1, 1500), 1500);
    g->udp = udp_socket();
    up(g, VIRTIO_NET_F_MRG_RXBUF | VIRTIO_F_EVENT_IDX, 512, 0);
    for (unsigned i = 0; i < 40; i++) {
        struct driver_piece useless = {.gpa = TX_BUFFERS, .len = 8};
        MUST(i % 2 != 0 || bed_send(&g->bed, 0, &useless, 1, 0) >= 0);
        post(g, 0, RX_BUFFERS + i * 512ULL);
    }
    for (unsigned i = 0; i < 12; i++) {
        ck_assert_int_eq(to_guest(g, data, sizeof(data) - i), 0);
        bed_run(&g->bed, 2 * NS_PER_MS); /* each time what was taken ahead is put back */
    }
    unsigned frames = 0;
    unsigned empty = 0;
    unsigned parts = 0;
    for (unsigned id = 0, len = 0; driver_get(&g->bed.driver[0], &id, &len);) {
        uint8_t header[HEADER];
        MUST(memory_read(g->bed.memory, g->rx_buffer[0][id], header, HEADER) == 0);
        empty += len == 0;
        parts += len > 0;
        frames += len == 512 && load_le16(header + 10) == 3;
    }
    ck_assert_uint_eq(frames, 12);
    ck_assert_uint_eq(parts, 36);
    ck_assert_uint_ge(empty, 17);
    stop(g);
    free(g);
}
END_TEST

START_TEST(commands_are_answered_by_what_was_agreed_on)
{
    static const uint64_t features = VIRTIO_NET_F_CTRL_VQ | VIRTIO_NET_F_CTRL_RX |
                                     VIRTIO_NET_F_CTRL_MAC_ADDR | VIRTIO_NET_F_CTRL_VLAN |
                                     VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_GUEST_TSO4 |
                                     VIRTIO_NET_F_CTRL_GUEST_OFFLOADS;
    static const struct {
        uint8_t class, cmd;
        uint32_t len;
        uint8_t data[24];
        uint8_t want;
    } cases[] = {
        {0, 0, 1, {1}, 0},
        {0, 1, 1, {0}, 0},
        {0, 0, 1, {2}, 1},
        {0, 0, 2, {1, 1}, 1},
        {0, 0, 0, {0}, 1},
        {0, 2, 1, {1}, 1}, /* RX_EXTRA is not offered */
        {1, 0, 8, {0}, 0},
        {1, 0, 14, {1, 0, 0, 0, 2, 3, 4, 5, 6, 7}, 0},
        {1, 0, 14, {0, 0, 0, 0, 1, 0, 0, 0}, 0},
        {1, 0, 14, {2, 0, 0, 0}, 1},
        {1, 0, 8, {0xff, 0xff, 0xff, 0xff}, 1},
        {1, 0, 8, {0, 0, 0, 0x80}, 1}, /* times six is nothing in 32 bits */
        {1, 0, 9, {0}, 1},
        {1, 0, 4, {0}, 1},
        {1, 1, 6, {2, 9, 9, 9, 9, 9}, 0},
        {1, 1, 6, {1, 9, 9, 9, 9, 9}, 1},
        {1, 1, 5, {2, 9, 9, 9, 9}, 1},
        {2, 0, 2, {0xff, 0x0f}, 0},
        {2, 1, 2, {0x00, 0x10}, 1},
        {3, 0, 0, {0}, 1}, /* not agreed on */
        {4, 0, 2, {1, 0}, 1},
        {5, 0, 8, {0x82}, 0},
        {5, 0, 8, {0x02}, 0},
        {5, 0, 8, {0x82, 1}, 1},
        {5, 0, 8, {0, 0, 0, 0, 0, 0, 0, 0x80}, 1},
        {5, 0, 7, {0}, 1},
        {9, 0, 1, {0}, 1},
        {255, 255, 24, {0}, 1},
    };
    struct guest *g = malloc(sizeof(*g));
    start(g, open_tap(1, 1500), 1500);
    up(g, features, 2048, 4);
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint8_t got = command(g, 2, cases[i].class, cases[i].cmd, cases[i].data, cases[i].len);
        ck_assert_msg(got == cases[i].want, "case %zu: %u", i, got);
    }
    ck_assert_uint_eq(bed_get(&g->bed, 0x100), 0x09090902);
    bed_set(&g->bed, 0x70, 0);
    ck_assert_uint_eq(bed_get(&g->bed, 0x100), 0x00000002);
    stop(g);
    free(g);
}
END_TEST

START_TEST(two_pairs_carry_their_own_flows)
{
    uint64_t features = VIRTIO_NET_F_CTRL_VQ | VIRTIO_NET_F_MQ;
    uint8_t two[2] = {2, 0};
    uint8_t three[2] = {3, 0};
    uint8_t none[2] = {0, 0};
    struct guest *g = malloc(sizeof(*g));
    start(g, open_tap(2, 1500), 1500);
    g->udp = udp_socket();
    up(g, features, 2048, 30);
    for (unsigned i = 0; i < 30; i++) {
        post(g, 1, RX_BUFFERS + 0x40000 + i * 2048ULL);
    }
    ck_assert_uint_eq(command(g, 4, 4, 0, three, 2), 1);
    ck_assert_uint_eq(command(g, 4, 4, 0, none, 2), 1);
    /* Not in use yet. */
    uint8_t header[HEADER] = {0};
    uint8_t frame[100];
    transmit(g, 3, header, frame, udp_frame(frame, "early", 5), false);
    bed_run(&g->bed, 10 * NS_PER_MS);
    ck_assert_uint_eq(collect(g, 3), 0);
    ck_assert_uint_eq(command(g, 4, 4, 0, two, 2), 0);
    hear_udp(g, "early");
    BED_UNTIL(&g->bed, collect(g, 3) == 1);
    send_udp(g, 3, "from the second");
    hear_udp(g, "from the second");
    /* The kernel sends a flow's answers where the flow came from. */
    ck_assert_int_eq(to_guest(g, "back", 4), 0);
    do {
        BED_UNTIL(&g->bed, receive_pair(g, 1, true));
    } while (!is_udp(g));
    ck_assert_int_eq(memcmp(g->frame + 42, "back", 4), 0);
    /* Without multiqueue the control queue is the third. */
    up(g, VIRTIO_NET_F_CTRL_VQ | VIRTIO_NET_F_CTRL_RX, 2048, 4);
    ck_assert_uint_eq(command(g, 2, 0, 0, "\1", 1), 0);
    send_udp(g, 1, "one pair");
    hear_udp(g, "one pair");
    ck_assert_int_eq(to_guest(g, "and back", 8), 0);
    ck_assert_int_eq(memcmp(expect_udp(g, 8), "and back", 8), 0);
    /* Nothing goes to the queue that is not in use, whatever the flow. */
    for (unsigned i = 0; i < 16; i++) {
        (void)close_fd(g->udp);
        g->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        ck_assert_int_eq(to_guest(g, "flow", 4), 0);
        ck_assert_int_eq(memcmp(expect_udp(g, 4), "flow", 4), 0);
    }
    stop(g);
    free(g);
}
END_TEST

START_TEST(an_inherited_tap_must_be_of_the_right_kind)
{
    struct err err = ERR_NONE;
    struct net_backend *b = open_tap(1, 1500);
    struct net_backend *other = NULL;
    char name[16];
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    ck_assert_int_lt(net_tap_adopt(&null, 1, &other, &err), 0);
    ck_assert_int_eq(fcntl(null, F_GETFD) >= 0, 1); /* still ours */
    (void)close(null);
    int fd = dup(b->fd[0]);
    int twice[2] = {fd, fd};
    ck_assert_int_lt(net_tap_adopt(twice, 2, &other, &err), 0);
    net_backend_free(b);
    ck_assert_int_eq(net_tap_adopt(&fd, 1, &b, &err), 0);
    net_tap_name(b, name);
    ck_assert_str_eq(name, TAP);
    struct guest *g = malloc(sizeof(*g));
    start(g, b, 1500);
    g->udp = udp_socket();
    up(g, 0, 2048, 4);
    send_udp(g, 1, "inherited");
    hear_udp(g, "inherited");
    stop(g);
    free(g);
    ck_assert_uint_eq(if_nametoindex(TAP), 0); /* it went with its last descriptor */
}
END_TEST

START_TEST(a_tap_that_goes_away_is_a_link_down)
{
    struct guest *g = malloc(sizeof(*g));
    start(g, open_tap(1, 1500), 1500);
    up(g, VIRTIO_NET_F_STATUS, 2048, 4);
    ck_assert_uint_eq(bed_get(&g->bed, 0x104) >> 16, 1);
    run("ip link delete " TAP);
    BED_UNTIL(&g->bed, bed_get(&g->bed, 0x104) >> 16 == 0);
    uint8_t header[HEADER] = {0};
    uint8_t frame[100];
    transmit(g, 1, header, frame, udp_frame(frame, "lost", 4), true);
    int64_t before = cpu_ns();
    bed_run(&g->bed, 200 * NS_PER_MS);
    ck_assert_int_lt(cpu_ns() - before, 20 * NS_PER_MS);
    stop(g);
    free(g);
}
END_TEST

static void lock_and(struct virtio *v, void (*fn)(struct device *device))
{
    (void)pthread_mutex_lock(&v->device.lock);
    fn(&v->device);
    (void)pthread_mutex_unlock(&v->device.lock);
}

/* Firecracker's issue 5958: what the guest had put out before the snapshot goes out after it. */
START_TEST(a_restored_guest_goes_on_where_it_was)
{
    struct guest *g = malloc(sizeof(*g));
    AUTO(buf_donep) struct buf saved = {0};
    struct err err = ERR_NONE;
    uint8_t header[HEADER] = {0};
    uint8_t frame[100];
    uint64_t features = VIRTIO_NET_F_STATUS | VIRTIO_NET_F_GUEST_ANNOUNCE | VIRTIO_NET_F_CTRL_VQ |
                        VIRTIO_NET_F_CTRL_MAC_ADDR | VIRTIO_NET_F_MRG_RXBUF;
    start(g, open_tap(1, 1500), 1500);
    g->udp = udp_socket();
    up(g, features, 2048, 60);
    send_udp(g, 1, "before");
    hear_udp(g, "before");
    ck_assert_uint_eq(command(g, 2, 1, 1, guest_mac, 6), 0);
    struct device *device = &g->bed.virtio->device;
    (void)pthread_mutex_lock(&device->lock);
    ck_assert_int_eq(device->ops->quiesce(device, NULL), 0);
    (void)pthread_mutex_unlock(&device->lock);
    transmit(g, 1, header, frame, udp_frame(frame, "in between", 10), false);
    bed_run(&g->bed, 5 * NS_PER_MS);
    ck_assert_uint_eq(collect(g, 1), 0);
    ck_assert_int_eq(state_write(&saved, device->state, "net", device, &err), 0);
    virtio_mmio_free(g->bed.mmio);
    virtio_free(g->bed.virtio);
    g->bed.mmio = NULL;
    g->bed.virtio = NULL;
    (void)close_fd(g->udp);

    attach(g, open_tap(1, 1500), 1500);
    g->udp = udp_socket();
    device = &g->bed.virtio->device;
    struct state_reader reader = {.data = (uint8_t *)saved.data, .len = saved.len};
    ck_assert_msg(state_read(&reader, device->state, "net", device, &err) == 0, "%s",
                  err_text(&err));
    lock_and(g->bed.virtio, device->ops->resume);
    hear_udp(g, "in between");
    BED_UNTIL(&g->bed, collect(g, 1) == 1);
    ck_assert_int_eq(to_guest(g, "after", 5), 0);
    ck_assert_int_eq(memcmp(expect_udp(g, 5), "after", 5), 0);
    ck_assert_uint_eq(bed_get(&g->bed, 0x104) >> 16, 3); /* up, and to be announced */
    ck_assert_uint_eq(command(g, 2, 3, 0, NULL, 0), 0);
    ck_assert_uint_eq(bed_get(&g->bed, 0x104) >> 16, 1);
    stop(g);
    free(g);
}
END_TEST

START_TEST(state_that_no_guest_could_bring_about_is_refused)
{
    struct guest *g = malloc(sizeof(*g));
    struct err err = ERR_NONE;
    start(g, open_tap(2, 1500), 1500);
    up(g, 0, 2048, 4);
    struct device *device = &g->bed.virtio->device;
    struct net *net = CONTAINER_OF(g->bed.virtio, struct net, virtio);
    static const struct {
        uint32_t pairs;
        uint64_t offloads;
    } cases[] = {{0, 0}, {2, 0}, {3, 0}, {1, 1}, {1, VIRTIO_NET_F_GUEST_TSO4}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        AUTO(buf_donep) struct buf saved = {0};
        net->pairs = cases[i].pairs;
        net->offloads = cases[i].offloads;
        ck_assert_int_eq(state_write(&saved, device->state, "net", device, &err), 0);
        struct state_reader reader = {.data = (uint8_t *)saved.data, .len = saved.len};
        ck_assert_int_lt(state_read(&reader, device->state, "net", device, &err), 0);
    }
    net->pairs = 1;
    net->offloads = 0;
    stop(g);
    free(g);
}
END_TEST

/* A guest behind passt's end of a socket; *ret_fd is passt's. */
static void start_stream(struct guest *g, int *ret_fd)
{
    int fd[2];
    struct net_backend *b = NULL;
    (void)signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
    int room = 4096;
    (void)setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    ck_assert_int_eq(net_passt_adopt(fd[0], &b, NULL), 0);
    start(g, b, 1500);
    *ret_fd = fd[1];
}

START_TEST(a_stream_carries_frames_whole_in_both_directions)
{
    struct guest *g = malloc(sizeof(*g));
    static const uint8_t header[HEADER];
    AUTO(freep) uint8_t *frame = malloc(65536);
    AUTO(freep) uint8_t *got = malloc(65536);
    int fd = -1;
    start_stream(g, &fd);
    ck_assert_uint_eq(bed_features(&g->bed) & (NET_GUEST_OFFLOADS | NET_HOST_OFFLOADS), 0);
    up(g, VIRTIO_NET_F_MRG_RXBUF | VIRTIO_F_EVENT_IDX, 1536, 100);
    for (unsigned i = 0; i < 65536; i++) {
        frame[i] = (uint8_t)(i * 13 + i / 241);
    }
    /* Longer than the socket's room: in parts, while others wait behind. */
    size_t len[] = {9000, 14, 1514, 60000, 60};
    for (size_t i = 0; i < COUNT(len); i++) {
        transmit(g, 1, header, frame, len[i], false);
    }
    bed_run(&g->bed, 5 * NS_PER_MS);
    for (size_t i = 0; i < COUNT(len); i++) {
        size_t have = 0;
        while (have < 4 + len[i]) {
            ssize_t n = recv(fd, got + have, MIN(4 + len[i] - have, (size_t)3000), MSG_DONTWAIT);
            have += n > 0 ? (size_t)n : 0;
            bed_run(&g->bed, NS_PER_MS / 10);
        }
        ck_assert_uint_eq(load_be32(got), len[i]);
        ck_assert_int_eq(memcmp(got + 4, frame, len[i]), 0);
    }
    BED_UNTIL(&g->bed, collect(g, 1) > 0);
    /* The other way, cut anywhere. */
    for (size_t i = 0; i < COUNT(len); i++) {
        store_be32(got, (uint32_t)len[i]);
        memcpy(got + 4, frame, len[i]);
        size_t cut = i % 2 == 0 ? 2 : 7;
        ck_assert_int_eq(write_full(fd, got, cut), 0);
        bed_run(&g->bed, NS_PER_MS);
        ck_assert(!receive(g));
        ck_assert_int_eq(write_full(fd, got + cut, 4 + len[i] - cut), 0);
        BED_UNTIL(&g->bed, receive(g));
        ck_assert_uint_eq(g->len, len[i]);
        ck_assert_int_eq(memcmp(g->frame, frame, len[i]), 0);
    }
    (void)close(fd);
    BED_UNTIL(&g->bed, bed_get(&g->bed, 0x104) >> 16 == 0);
    stop(g);
    free(g);
}
END_TEST

START_TEST(a_stream_that_makes_no_sense_is_a_link_down)
{
    static const uint32_t lengths[] = {0, 13, 65535 + 19, 0x80000000, 0xffffffff};
    for (size_t i = 0; i < COUNT(lengths); i++) {
        struct guest *g = malloc(sizeof(*g));
        uint8_t raw[100] = {0};
        int fd = -1;
        start_stream(g, &fd);
        up(g, 0, 2048, 10);
        store_be32(raw, 60);
        store_be32(raw + 64, lengths[i]);
        ck_assert_int_eq(write_full(fd, raw, sizeof(raw)), 0);
        BED_UNTIL(&g->bed, receive_pair(g, 0, true)); /* what was before it still comes */
        ck_assert_uint_eq(g->len, 60);
        BED_UNTIL(&g->bed, bed_get(&g->bed, 0x104) >> 16 == 0);
        (void)close(fd);
        stop(g);
        free(g);
    }
}
END_TEST

/* The real passt, which answers for the gateway. */
START_TEST(passt_answers_the_guest)
{
    static const uint8_t header[HEADER];
    struct guest *g = malloc(sizeof(*g));
    int fd[2];
    struct net_backend *b = NULL;
    char number[16];
    own_network();
    run("ip link add up0 type veth peer name up1 && ip address add 10.8.0.5/24 dev up0 &&ip link "
        "set up1 up && ip link set up0 up &&"
        "ip route add default via 10.8.0.1");
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    (void)snprintf(number, sizeof(number), "%d", fd[1]);
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)close(fd[0]);
        int null = open("/dev/null", O_RDWR);
        (void)dup2(null, 1);
        (void)dup2(null, 2);
        (void)execlp("passt", "passt", "-f", "-4", "-F", number, (char *)NULL);
        _exit(127);
    }
    (void)close(fd[1]);
    ck_assert_int_eq(net_passt_adopt(fd[0], &b, NULL), 0);
    start(g, b, 1500);
    up(g, VIRTIO_NET_F_MRG_RXBUF, 2048, 60);
    uint8_t arp[42] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0,  2, 8, 6,
                       0,    1,    8,    0,    6,    4,    0, 1, 2, 0, 0,  0, 0, 2,
                       10,   8,    0,    5,    0,    0,    0, 0, 0, 0, 10, 8, 0, 1};
    transmit(g, 1, header, arp, sizeof(arp), true);
    do {
        BED_UNTIL(&g->bed, receive(g));
    } while (g->frame[12] != 8 || g->frame[13] != 6);
    ck_assert_uint_eq(g->frame[21], 2); /* a reply */
    ck_assert_int_eq(memcmp(g->frame + 28, arp + 38, 4), 0);
    stop(g);
    free(g);
    int status = 0;
    int64_t end = clock_monotonic_ns() + 3 * NS_PER_SEC;
    while (waitpid(pid, &status, WNOHANG) == 0) { /* it leaves with its only client */
        if (clock_monotonic_ns() > end) {
            (void)kill(pid, SIGKILL);
            (void)waitpid(pid, &status, 0);
            break;
        }
        (void)usleep(10000);
    }
}
END_TEST

int main(void)
{
    return unit_run("vmm_net", (const TTest *const[]){
                                   a_guest_talks_through_a_tap,
                                   the_configuration_says_address_link_and_mtu,
                                   a_long_frame_lies_in_several_buffers,
                                   a_guest_with_few_buffers_loses_no_frame,
                                   frames_wait_while_the_guest_has_no_buffer,
                                   limits_slow_both_directions_down_and_lose_nothing,
                                   segments_to_be_cut_reach_the_kernel_as_such,
                                   headers_are_checked_and_cleaned,
                                   hostile_frames_are_lost_alone,
                                   useless_buffers_come_back_once_and_cost_no_frame,
                                   commands_are_answered_by_what_was_agreed_on,
                                   two_pairs_carry_their_own_flows,
                                   an_inherited_tap_must_be_of_the_right_kind,
                                   a_tap_that_goes_away_is_a_link_down,
                                   a_restored_guest_goes_on_where_it_was,
                                   state_that_no_guest_could_bring_about_is_refused,
                                   a_stream_carries_frames_whole_in_both_directions,
                                   a_stream_that_makes_no_sense_is_a_link_down,
                                   passt_answers_the_guest,
                                   NULL,
                               });
}
