/*
 * rng.h - the entropy device (virtio 1.2, 5.4): the host's random bytes.
 */
#ifndef VMM_VIRTIO_RNG_H
#define VMM_VIRTIO_RNG_H

struct err;
struct loop;
struct memory;
struct virtio;

/* To be freed with virtio_free(). */
int virtio_rng_new(const char *instance, struct memory *memory, struct loop *loop,
                   struct virtio **ret, struct err *err);

#endif
