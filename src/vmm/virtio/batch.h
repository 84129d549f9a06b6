/*
 * batch.h - requests in batches where guest and loop share CPUs (virtio_share_cpus()).
 *
 * The device's lock is held in both.
 */
#ifndef VMM_VIRTIO_BATCH_H
#define VMM_VIRTIO_BATCH_H

struct virtio;

/* A call served so many requests of the queue; on the loop's thread. */
void virtio_batch_note(struct virtio *v, unsigned queue, unsigned requests);
/* Any thread. The loop is not patient for this queue any more. */
void virtio_batch_reset(struct virtio *v, unsigned queue);

#endif
