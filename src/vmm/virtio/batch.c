#include "vmm/virtio/batch.h"

#include "base/clock.h"
#include "base/loop.h"
#include "base/macros.h"
#include "vmm/virtio/virtio.h"

/*
 * Calls between tries. While the guest computes, a patient loop waits for the scheduler's tick: a
 * try in vain costs some milliseconds, and a thousand calls later that is no matter.
 */
#define EVERY_MIN 32
#define EVERY_MAX 1024
/* Calls of a try, and of each judgement after it; requests a call that make it worth while. */
#define TRY 4
#define KEEP 64
#define WORTH 3

void virtio_share_cpus(struct virtio *v)
{
    v->shares_cpus = true;
    for (unsigned i = 0; i < v->queue_count; i++) {
        v->doorbell[i].batch = (struct virtio_batch){.until = EVERY_MIN, .every = EVERY_MIN};
    }
}

static void be_patient(struct virtio *v, struct virtio_batch *batch, bool patient)
{
    if (batch->patient != patient) {
        batch->patient = patient;
        loop_be_patient(v->loop, patient);
    }
}

static void judge(struct virtio *v, struct virtio_batch *batch, uint64_t rate)
{
    if (!batch->patient) {
        batch->rate = rate;
        batch->until = TRY;
        be_patient(v, batch, true);
    } else if (batch->requests >= WORTH * batch->calls && rate >= batch->rate - batch->rate / 8) {
        batch->until = KEEP;
        batch->every = EVERY_MIN;
    } else {
        be_patient(v, batch, false);
        batch->every = MIN(batch->every * 2, (uint32_t)EVERY_MAX);
        batch->until = batch->every;
    }
}

void virtio_batch_note(struct virtio *v, unsigned queue, unsigned requests)
{
    struct virtio_batch *batch = &v->doorbell[queue].batch;
    if (!v->shares_cpus || !v->active) {
        return;
    }
    if (batch->since_ns == 0) {
        batch->since_ns = clock_monotonic_ns(); /* what this call brought was before */
        return;
    }
    batch->requests += requests;
    if (++batch->calls < batch->until) {
        return;
    }
    int64_t now = clock_monotonic_ns();
    judge(v, batch,
          batch->requests * (uint64_t)NS_PER_SEC / (uint64_t)MAX(now - batch->since_ns, 1));
    batch->calls = batch->requests = 0;
    batch->since_ns = now;
}

void virtio_batch_reset(struct virtio *v, unsigned queue)
{
    struct virtio_batch *batch = &v->doorbell[queue].batch;
    be_patient(v, batch, false);
    *batch = (struct virtio_batch){.until = EVERY_MIN, .every = EVERY_MIN};
}
