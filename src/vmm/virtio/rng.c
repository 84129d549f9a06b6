#include "vmm/virtio/rng.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/err.h"
#include "base/macros.h"
#include "vmm/virtio/virtio.h"

#define QUEUE_SIZE 64
/* Of one request: the guest may ask for gigabytes, and one answer may be shorter than its buffer
 * (5.4.6.1). */
#define ANSWER_MAX ((size_t)4096)

struct rng {
    struct virtio virtio;
};

static const struct state_field rng_fields[] = {
    STATE_OBJECTS(struct rng, virtio, 1, &virtio_state_table),
    STATE_DONE,
};

static const struct state_table rng_state_table = {
    .name = "virtio-rng",
    .version = 1,
    .oldest = 1,
    .fields = rng_fields,
};

static bool serve(struct virtio *v, unsigned queue, const struct virtq_chain *chain)
{
    uint8_t random[ANSWER_MAX];
    size_t wanted = (size_t)MIN(chain->writable_len, (uint64_t)sizeof(random));
    if (wanted == 0) {
        device_guest_error(&v->device, "no room for random bytes");
    }
    ssize_t n = wanted == 0 ? 0 : getrandom(random, wanted, 0);
    size_t got = n < 0 ? 0 : virtq_write(chain, 0, random, (size_t)n);
    (void)virtq_push(&v->queue[queue], v->memory, chain, (uint32_t)got);
    explicit_bzero(random, sizeof(random));
    return true;
}

static void rng_queue(struct virtio *v, unsigned index)
{
    virtio_serve(v, index, serve);
}

static void rng_free(struct virtio *v)
{
    virtio_done(v);
    free(CONTAINER_OF(v, struct rng, virtio));
}

static const struct virtio_ops rng_ops = {
    .type = VIRTIO_ENTROPY,
    .name = "rng",
    .queue = rng_queue,
    .free = rng_free,
};

int virtio_rng_new(const char *instance, struct memory *memory, struct loop *loop,
                   struct virtio **ret, struct err *err)
{
    struct rng *rng = calloc(1, sizeof(*rng));
    if (rng == NULL) {
        return err_set(err, ENOMEM, "add '%s'", instance);
    }
    int r = virtio_init(&rng->virtio, &rng_ops, &rng_state_table, instance, 1, QUEUE_SIZE, memory,
                        loop);
    if (r < 0) {
        rng_free(&rng->virtio);
        return err_set(err, -r, "add '%s'", instance);
    }
    *ret = &rng->virtio;
    return 0;
}
