/*
 * queue.h - a virtqueue, split or packed, as the device sees it (virtio 1.2, 2.7 and 2.8).
 *
 * Everything in the rings is the guest's: each descriptor is copied once and the copy checked. What
 * breaks the rules breaks the queue (-EPROTO, for good until reset); the device then asks for a
 * reset (DEVICE_NEEDS_RESET) and touches the queue no more. Work a call is bounded by the queue's
 * size, or by VIRTQ_CHAIN_MAX where the guest gives a table of its own (indirect descriptors).
 *
 * Used with the device's lock held.
 */
#ifndef VMM_VIRTIO_QUEUE_H
#define VMM_VIRTIO_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/state.h"

struct memory;

#define VIRTQ_SIZE_MAX 1024
/* Pieces of one chain, of both directions together, after splitting at memory regions. */
#define VIRTQ_CHAIN_MAX 1024

struct virtq {
    /* As the driver set it up */
    uint16_t size;     /* descriptors; split: a power of two */
    uint16_t size_max; /* what the device offers */
    bool ready;
    uint64_t desc;   /* guest physical; packed: descriptor ring */
    uint64_t driver; /* split: available ring; packed: driver event suppression */
    uint64_t device; /* split: used ring; packed: device event suppression */
    /* Negotiated */
    bool packed, event_idx, indirect;
    /* Position */
    uint16_t next_avail; /* packed: index in the ring */
    uint16_t next_used;
    bool avail_wrap, used_wrap; /* packed */
    bool broken;
    uint32_t
        unsignalled;    /* used entries (packed: descriptors) since the last look for interrupts */
    uint32_t in_flight; /* chains popped and not pushed */
    /* Where the rings are in this process: derived by virtq_enable(), not saved. */
    uint8_t *desc_host, *driver_host, *device_host;
};

extern const struct state_table virtq_state_table;

/* A request: buffers to read from, then buffers to write to. Points into guest memory. */
struct virtq_chain {
    uint16_t id;    /* to be given back */
    uint16_t count; /* packed: descriptors taken from the ring */
    uint32_t readable_count, writable_count;
    uint64_t readable_len, writable_len; /* bytes */
    struct iovec *readable;              /* into iov */
    struct iovec *writable;
    struct iovec iov[VIRTQ_CHAIN_MAX];
    uint64_t gpa[VIRTQ_CHAIN_MAX]; /* of each, for memory_mark() */
};

/* As at power-on; keeps size_max. */
void virtq_reset(struct virtq *q);
/*
 * When the driver enables the queue, and when saved state was read: -EINVAL when the size is not
 * allowed, or the rings do not lie in memory or are misaligned. Changes no position.
 */
int virtq_enable(struct virtq *q, const struct memory *memory);

/* 0: chain filled. -EAGAIN: nothing there. -EPROTO: broken. */
int virtq_pop(struct virtq *q, const struct memory *memory, struct virtq_chain *chain);
/* Takes back the last pop: the chain comes again (no room to serve it now). */
void virtq_unpop(struct virtq *q, const struct virtq_chain *chain);
/*
 * Hands the chain back with written bytes at the front of its writable part, and marks them.
 * -EPROTO: the queue was broken or stopped meanwhile; the chain is gone.
 */
int virtq_push(struct virtq *q, struct memory *memory, const struct virtq_chain *chain,
               uint32_t written);
/* For requests that are served later: what push needs of a chain. */
struct virtq_token {
    uint16_t id, count;
};
/* The caller marks what was written. */
int virtq_push_token(struct virtq *q, struct memory *memory, struct virtq_token token,
                     uint32_t written);
/* Several at once: the driver sees all of them or none. -EPROTO: none was pushed. */
int virtq_push_tokens(struct virtq *q, struct memory *memory, const struct virtq_token *token,
                      const uint32_t *written, unsigned count);

/* After pushing: does the driver want an interrupt? Answers once for what was pushed so far. */
bool virtq_wants_interrupt(struct virtq *q, const struct memory *memory);
/*
 * Doorbells: off while the device looks at the queue anyway. Switching on returns true when
 * something came meanwhile, and the device must look again.
 */
void virtq_doorbell_off(struct virtq *q, struct memory *memory);
bool virtq_doorbell_on(struct virtq *q, struct memory *memory);

/* Copies between a chain's pieces and one buffer. Return the bytes copied: at most what is there.
 */
size_t virtq_read(const struct virtq_chain *chain, uint64_t offset, void *data, size_t len);
size_t virtq_write(const struct virtq_chain *chain, uint64_t offset, const void *data, size_t len);

#endif
