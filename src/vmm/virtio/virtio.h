/*
 * virtio.h - what every virtio device is, whatever bus it sits on (virtio 1.2, chapter 2).
 *
 * A device kind fills struct virtio_ops and embeds struct virtio first. A transport (mmio.h, pci.h)
 * turns registers into calls here. The doorbell of queue i is an eventfd that the machine's loop
 * watches; ops->queue() then runs on that thread with the device's lock held.
 */
#ifndef VMM_VIRTIO_VIRTIO_H
#define VMM_VIRTIO_VIRTIO_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "vmm/device.h"
#include "vmm/virtio/queue.h"

struct loop;
struct loop_source;
struct memory;
struct virtio;

#define VIRTIO_QUEUES_MAX 32

/* Device ids (virtio 1.2, chapter 5). */
enum virtio_type {
    VIRTIO_NET = 1,
    VIRTIO_BLOCK = 2,
    VIRTIO_CONSOLE = 3,
    VIRTIO_ENTROPY = 4,
    VIRTIO_BALLOON = 5,
    VIRTIO_VSOCK = 19,
    VIRTIO_FS = 26,
};

/* Device status bits (2.1). */
enum {
    VIRTIO_ACKNOWLEDGE = 1,
    VIRTIO_DRIVER = 2,
    VIRTIO_DRIVER_OK = 4,
    VIRTIO_FEATURES_OK = 8,
    VIRTIO_NEEDS_RESET = 64,
    VIRTIO_FAILED = 128,
};

/* Feature bits that belong to no kind (6). */
#define VIRTIO_F_INDIRECT_DESC (1ULL << 28)
#define VIRTIO_F_EVENT_IDX (1ULL << 29)
#define VIRTIO_F_VERSION_1 (1ULL << 32)
#define VIRTIO_F_RING_PACKED (1ULL << 34)

/* Bits of struct virtio's isr (4.1.4.5, 4.2.2). */
#define VIRTIO_ISR_QUEUE 1u
#define VIRTIO_ISR_CONFIG 2u

struct virtio_ops {
    enum virtio_type type;
    const char *name;  /* "block" */
    uint64_t features; /* of the kind, beside those above; a device may clear some in offered */
    uint32_t config_size;
    /* Configuration space; offset + len lie inside config_size. write may be NULL: read-only. */
    void (*config_read)(struct virtio *v, uint32_t offset, void *data, uint32_t len);
    void (*config_write)(struct virtio *v, uint32_t offset, const void *data, uint32_t len);
    /* All below: the lock is held. activate and reset may run on any thread, the others on the
     * loop's. */
    /* The driver is ready (DRIVER_OK): features are final, queues are enabled. May be NULL. */
    void (*activate)(struct virtio *v);
    /* Something may be in queue index. */
    void (*queue)(struct virtio *v, unsigned index);
    /*
     * From virtio_serve(): the queue is empty, what was taken is to go on its way before doorbells
     * ring again: whatever comes meanwhile needs none. May be NULL.
     */
    void (*flush)(struct virtio *v, unsigned index);
    /*
     * Back to power-on: what is under way is finished or dropped when this returns. It may wait
     * and let go of the lock meanwhile: nothing is pushed or popped any more. May be NULL.
     */
    void (*reset)(struct virtio *v);
    /* See device_ops; in flight requests are finished or put back in quiesce. May be NULL. */
    int (*quiesce)(struct virtio *v, struct err *err);
    /* All queues are looked at afterwards. Also the first call after saved state was read. */
    void (*resume)(struct virtio *v);
    void (*free)(struct virtio *v);
};

/* How a transport tells the driver. */
struct virtio_transport_ops {
    /* queue < 0: the configuration changed. Any thread, lock held. */
    void (*interrupt)(void *transport, int queue);
    /* The driver or the machine reset the device. Lock held. */
    void (*reset)(void *transport);
};

/* Of one queue, see virtio_share_cpus(): what a number of calls in a row brought. */
struct virtio_batch {
    bool patient;      /* the loop is, for this queue */
    uint32_t calls;    /* so far */
    uint32_t requests; /* in them */
    uint32_t until;    /* so many calls are there to be judged */
    uint32_t every;    /* calls from one try to the next */
    int64_t since_ns;  /* when the first came, monotonic */
    uint64_t rate;     /* requests a second before the loop was patient */
};

struct virtio_doorbell {
    struct virtio *owner;
    int fd; /* eventfd */
    struct loop_source *source;
    struct virtio_batch batch;
};

struct virtio {
    struct device device; /* instance, lock, saved state */
    const struct virtio_ops *ops;
    struct memory *memory;
    struct loop *loop;
    uint64_t offered, acked;
    uint8_t status;
    uint32_t config_generation;
    uint32_t queue_count;
    struct virtq queue[VIRTIO_QUEUES_MAX];
    struct virtio_doorbell doorbell[VIRTIO_QUEUES_MAX];
    bool active;      /* DRIVER_OK and not broken */
    bool paused;      /* between quiesce and resume */
    bool resetting;   /* the kind's reset may wait */
    bool shares_cpus; /* virtio_share_cpus() */
    const struct virtio_transport_ops *transport_ops;
    void *transport;
    _Atomic uint32_t isr;
};

/*
 * For a device kind's constructor, on zeroed memory. queue_size bounds every queue; state is the
 * kind's own table, whose first field should be STATE_OBJECTS(struct KIND, virtio, 1,
 * &virtio_state_table). The loop must not run yet, or be the caller's. On failure virtio_done() is
 * still to be called.
 */
int virtio_init(struct virtio *v, const struct virtio_ops *ops, const struct state_table *state,
                const char *instance, uint32_t queue_count, uint16_t queue_size,
                struct memory *memory, struct loop *loop);
/* On the loop's thread, or when it does not run any more. */
void virtio_done(struct virtio *v);
/*
 * For a machine whose guest and loop have the same CPUs: there each ring takes the CPU from the
 * guest before it has put out its next request. So now and then the loop is patient, and stays so
 * while that brings several requests at once and more of them (batch.h). Before the driver comes.
 */
void virtio_share_cpus(struct virtio *v);
/* The device itself, by ops->free; accepts NULL. */
void virtio_free(struct virtio *v);
DEFINE_FREEP(struct virtio *, virtio_free)

extern const struct state_table virtio_state_table;

static inline bool virtio_has(const struct virtio *v, uint64_t feature)
{
    return (v->acked & feature) != 0;
}

/* For device kinds; the lock is held. */
/*
 * Takes chain: pushes it (virtq_push), or keeps a token of it. false: there is no room now; the
 * chain is put back and the device calls virtio_serve() again when there is.
 */
typedef bool virtio_serve_fn(struct virtio *v, unsigned queue, const struct virtq_chain *chain);
/*
 * Gives the chains of a queue to fn, as many as the queue is long at most (the rest follows from
 * the loop, so that one queue cannot keep all others waiting), then interrupts once.
 */
void virtio_serve(struct virtio *v, unsigned queue, virtio_serve_fn *fn);
/* Pushes and interrupts when the driver wants it: the usual end of a request. */
void virtio_complete(struct virtio *v, unsigned queue, const struct virtq_chain *chain,
                     uint32_t written);
void virtio_interrupt_if_wanted(struct virtio *v, unsigned queue);
/* The guest broke a rule: counts it, sets NEEDS_RESET, stops all queues. */
void virtio_break(struct virtio *v, const char *why);
/* The configuration changed: new generation and an interrupt. */
void virtio_config_changed(struct virtio *v);

/* For transports; the lock is held. */
uint64_t virtio_features(const struct virtio *v);              /* offered to the driver */
void virtio_set_features(struct virtio *v, uint64_t features); /* before FEATURES_OK only */
void virtio_set_status(struct virtio *v, uint8_t status);      /* 0 resets */
/* Before FEATURES_OK, and after DRIVER_OK, enabling is ignored and counted. */
void virtio_queue_set_ready(struct virtio *v, unsigned index, bool ready);
/* What lies outside the kind's space reads as zeros and is not written. */
void virtio_config_access(struct virtio *v, bool write, uint32_t offset, void *data, uint32_t len);
/* Doorbell written where no engine took it: any thread. */
void virtio_kick(struct virtio *v, unsigned index);

#endif
