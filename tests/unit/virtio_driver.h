/*
 * virtio_driver.h - a driver that brings up a virtio device without a transport, and runs its loop.
 */
#ifndef UNIT_VIRTIO_DRIVER_H
#define UNIT_VIRTIO_DRIVER_H

#include <signal.h>

#include "base/clock.h"
#include "base/loop.h"
#include "vmm/virtio/virtio.h"
#include "vmm_driver.h"

#define VDRIVER_QUEUES 8
#define VDRIVER_MEMORY (8ULL << 20)
#define VDRIVER_RINGS 0x10000ULL
#define VDRIVER_BUFFERS 0x100000ULL /* free for the test from here on */

struct vdriver {
    struct memory *memory;
    struct loop *loop;
    struct virtio *v;
    struct driver q[VDRIVER_QUEUES];
    unsigned interrupts[VDRIVER_QUEUES]; /* of each queue */
    unsigned config_interrupts;
};

static inline void vdriver_interrupt(void *transport, int queue)
{
    struct vdriver *d = transport;
    if (queue < 0) {
        d->config_interrupts++;
    } else {
        d->interrupts[queue]++;
    }
}

static inline void vdriver_start(struct vdriver *d)
{
    struct memory_options options = {.kind = MEMORY_PRIVATE, .fd = -1};
    *d = (struct vdriver){0};
    (void)signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(memory_new(&options, &d->memory), 0);
    ck_assert_int_eq(memory_add(d->memory, 0, VDRIVER_MEMORY, NULL), 0);
    ck_assert_int_eq(loop_new(&d->loop), 0);
}

static inline void vdriver_done(struct vdriver *d)
{
    virtio_free(d->v);
    loop_free(d->loop);
    memory_free(d->memory);
}

/* From power-on to DRIVER_OK. The device must take all the features. */
static inline void vdriver_up(struct vdriver *d, struct virtio *v, uint64_t features, uint16_t size)
{
    static const struct virtio_transport_ops ops = {.interrupt = vdriver_interrupt};
    bool packed = (features & VIRTIO_F_RING_PACKED) != 0;
    bool event_idx = (features & VIRTIO_F_EVENT_IDX) != 0;
    MUST(v->queue_count <= VDRIVER_QUEUES);
    d->v = v;
    v->transport_ops = &ops;
    v->transport = d;
    (void)pthread_mutex_lock(&v->device.lock);
    virtio_set_status(v, 0);
    virtio_set_status(v, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
    virtio_set_features(v, features | VIRTIO_F_VERSION_1);
    virtio_set_status(v, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
    MUST((v->status & VIRTIO_FEATURES_OK) != 0);
    for (unsigned i = 0; i < v->queue_count; i++) {
        driver_init(&d->q[i], d->memory, VDRIVER_RINGS + i * 0x4000ULL, size, packed, event_idx);
        v->queue[i].size = size;
        v->queue[i].desc = d->q[i].desc;
        v->queue[i].driver = d->q[i].driver;
        v->queue[i].device = d->q[i].device;
        virtio_queue_set_ready(v, i, true);
        MUST(v->queue[i].ready);
    }
    virtio_set_status(v, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK |
                             VIRTIO_DRIVER_OK);
    (void)pthread_mutex_unlock(&v->device.lock);
    MUST(v->active);
}

static inline void vdriver_kick(struct vdriver *d, unsigned queue)
{
    if (driver_must_notify(&d->q[queue])) {
        virtio_kick(d->v, queue);
    }
}

static inline void vdriver_quit(struct loop_source *source, void *data)
{
    (void)source;
    loop_quit(data, 0);
}

/* Lets the loop run for some time. */
static inline void vdriver_run(struct vdriver *d, int64_t ns)
{
    struct loop_source *timer = NULL;
    MUST(loop_add_timer(d->loop, ns, vdriver_quit, d->loop, &timer) == 0);
    MUST(loop_run(d->loop) == 0);
    loop_remove(timer);
}

/* Runs the loop until the condition holds; five seconds at most. */
#define VDRIVER_UNTIL(d, cond)                                                                     \
    do {                                                                                           \
        int64_t end_ = clock_monotonic_ns() + 5 * NS_PER_SEC;                                      \
        while (!(cond)) {                                                                          \
            ck_assert_msg(clock_monotonic_ns() < end_, "never: %s", #cond);                        \
            vdriver_run(d, NS_PER_MS / 2);                                                         \
        }                                                                                          \
    } while (0)

#endif
