/*
 * blk.h - the block device (virtio 1.2, 5.2) in front of a disk image.
 */
#ifndef VMM_VIRTIO_BLK_H
#define VMM_VIRTIO_BLK_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/disk/limit.h"

struct disk;
struct err;
struct loop;
struct memory;
struct virtio;

#define VIRTIO_BLK_QUEUES_MAX 8
#define VIRTIO_BLK_SERIAL_MAX 20

struct virtio_blk_config {
    struct disk *disk;  /* opened with the same loop; the device's, once it exists */
    const char *serial; /* at most VIRTIO_BLK_SERIAL_MAX bytes count; NULL: none */
    uint32_t queues;    /* 1 to VIRTIO_BLK_QUEUES_MAX */
    bool write_through; /* at power-on: each write is on stable storage when it completes */
    /* Requests, and bytes read and written, a second. Zeros: no limit. */
    struct limit_options limit;
};

/*
 * To be freed with virtio_free(), on the loop's thread or after it. A reset by the guest waits for
 * requests that are under way, which the loop's thread completes: that thread must not wait for a
 * CPU meanwhile (the wait ends after some seconds all the same).
 */
int virtio_blk_new(const char *instance, const struct virtio_blk_config *config,
                   struct memory *memory, struct loop *loop, struct virtio **ret, struct err *err);

/*
 * New limits from now on, with full buckets. On the loop's thread, lock not held. -EINVAL: a value
 * is too large, the old ones stay.
 */
int virtio_blk_set_limit(struct virtio *v, const struct limit_options *limit);

#endif
