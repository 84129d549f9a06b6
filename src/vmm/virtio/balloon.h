/*
 * balloon.h - the memory balloon (virtio 1.2, 5.5): takes memory back from a running guest.
 *
 * Two ways: the host sets a target and the guest gives pages up (the balloon), or the guest reports
 * pages that are free at the moment, by itself.
 */
#ifndef VMM_VIRTIO_BALLOON_H
#define VMM_VIRTIO_BALLOON_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct loop;
struct memory;
struct virtio;

struct virtio_balloon_config {
    bool deflate_on_oom; /* the guest may take pages back before it kills a process */
    bool report_free;    /* offer free page reporting */
};

/* What a guest may tell (5.5.6.3), by the numbers of the specification. */
enum virtio_balloon_stat {
    VIRTIO_BALLOON_SWAP_IN, /* bytes */
    VIRTIO_BALLOON_SWAP_OUT,
    VIRTIO_BALLOON_MAJOR_FAULTS,
    VIRTIO_BALLOON_MINOR_FAULTS,
    VIRTIO_BALLOON_FREE,
    VIRTIO_BALLOON_TOTAL,
    VIRTIO_BALLOON_AVAILABLE,
    VIRTIO_BALLOON_CACHES,
    VIRTIO_BALLOON_HUGE_ALLOCATIONS,
    VIRTIO_BALLOON_HUGE_FAILURES,
    VIRTIO_BALLOON_STATS,
};

struct virtio_balloon_info {
    uint64_t target, actual; /* bytes in the balloon: wished, and what the guest says */
    uint64_t discarded;      /* bytes given back to the host since the start, both ways */
    uint32_t known;          /* which of stat the guest gave, one bit each */
    uint64_t stat[VIRTIO_BALLOON_STATS];
};

/* To be freed with virtio_free(). */
int virtio_balloon_new(const char *instance, const struct virtio_balloon_config *config,
                       struct memory *memory, struct loop *loop, struct virtio **ret,
                       struct err *err);

/* The following take the device's lock; any thread. */
/* How much the guest is to give up, rounded down to pages. */
void virtio_balloon_set_target(struct virtio *v, uint64_t bytes);
/* What is known now, and asks the guest for fresh figures, which a later call finds. */
void virtio_balloon_get(struct virtio *v, struct virtio_balloon_info *ret);

#endif
