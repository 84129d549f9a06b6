#include "vmm/virtio/virtio.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/macros.h"
#include "vmm/virtio/batch.h"

#define FEATURES_ALL                                                                               \
    (VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1 | VIRTIO_F_RING_PACKED)

#define STATUS_DRIVER_BITS                                                                         \
    (VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_DRIVER_OK | VIRTIO_FEATURES_OK | VIRTIO_FAILED)

static const struct state_field virtio_fields[] = {
    STATE(U64, struct virtio, acked),
    STATE(U8, struct virtio, status),
    STATE(U32, struct virtio, config_generation),
    STATE(U32, struct virtio, isr),
    {
        .kind = STATE_STRUCT,
        .name = "queue",
        .offset = offsetof(struct virtio, queue),
        .count = VIRTIO_QUEUES_MAX,
        .stride = sizeof(struct virtq),
        .table = &virtq_state_table,
        .used = offsetof(struct virtio, queue_count),
    },
    STATE_DONE,
};

static bool status_is_active(uint8_t status)
{
    return (status & (VIRTIO_DRIVER_OK | VIRTIO_NEEDS_RESET | VIRTIO_FAILED)) == VIRTIO_DRIVER_OK;
}

static bool status_in_order(unsigned status)
{
    bool driver = (status & VIRTIO_DRIVER) != 0;
    bool features = (status & VIRTIO_FEATURES_OK) != 0;
    return (!driver || (status & VIRTIO_ACKNOWLEDGE) != 0) && (!features || driver) &&
           ((status & VIRTIO_DRIVER_OK) == 0 || features);
}

static bool features_ok(const struct virtio *v)
{
    return (v->acked & ~v->offered) == 0 && virtio_has(v, VIRTIO_F_VERSION_1);
}

/* Negotiation decides what the rings look like. */
static void set_layout(struct virtio *v)
{
    for (uint32_t i = 0; i < v->queue_count; i++) {
        v->queue[i].packed = virtio_has(v, VIRTIO_F_RING_PACKED);
        v->queue[i].event_idx = virtio_has(v, VIRTIO_F_EVENT_IDX);
        v->queue[i].indirect = virtio_has(v, VIRTIO_F_INDIRECT_DESC);
    }
}

static int check_queue(const struct virtio *v, struct virtq *q)
{
    bool negotiated = (v->status & VIRTIO_FEATURES_OK) != 0;
    if (q->size > q->size_max || q->packed != (negotiated && virtio_has(v, VIRTIO_F_RING_PACKED)) ||
        q->event_idx != (negotiated && virtio_has(v, VIRTIO_F_EVENT_IDX)) ||
        q->indirect != (negotiated && virtio_has(v, VIRTIO_F_INDIRECT_DESC)) ||
        (q->ready && !negotiated)) {
        return -EINVAL;
    }
    return q->ready ? virtq_enable(q, v->memory) : 0;
}

static int check_virtio(void *object, struct err *err)
{
    struct virtio *v = object;
    if ((v->status & ~(STATUS_DRIVER_BITS | VIRTIO_NEEDS_RESET)) != 0 ||
        !status_in_order(v->status) || ((v->status & VIRTIO_FEATURES_OK) != 0 && !features_ok(v))) {
        return err_say(err, EINVAL, "status 0x%x with features 0x%llx", v->status,
                       (unsigned long long)v->acked);
    }
    for (uint32_t i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        if ((v->doorbell[i].owner != NULL) != (i < v->queue_count)) {
            return err_say(err, EINVAL, "%u queues", v->queue_count);
        }
    }
    for (uint32_t i = 0; i < v->queue_count; i++) {
        if (check_queue(v, &v->queue[i]) < 0) {
            return err_say(err, EINVAL, "queue %u does not fit what was negotiated", i);
        }
    }
    v->active = status_is_active(v->status);
    return 0;
}

const struct state_table virtio_state_table = {
    .name = "virtio",
    .version = 1,
    .oldest = 1,
    .fields = virtio_fields,
    .check = check_virtio,
};

/* Edge-triggered: each ring wakes the loop, nothing needs to be read back. */
static void on_doorbell(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)fd;
    (void)events;
    struct virtio_doorbell *bell = data;
    struct virtio *v = bell->owner;
    (void)pthread_mutex_lock(&v->device.lock);
    unsigned index = (unsigned)(bell - v->doorbell);
    /* What rings while paused is found by the look that follows resume. */
    if (v->active && !v->paused && v->queue[index].ready) {
        v->ops->queue(v, index);
    }
    (void)pthread_mutex_unlock(&v->device.lock);
}

static void reset(struct virtio *v)
{
    if (v->resetting) {
        return;
    }
    v->resetting = true;
    v->active = false;
    for (uint32_t i = 0; i < v->queue_count; i++) {
        virtio_batch_reset(v, i);
        v->queue[i].broken = true; /* requests that end meanwhile go nowhere */
    }
    if (v->ops->reset != NULL) {
        v->ops->reset(v);
    }
    for (uint32_t i = 0; i < v->queue_count; i++) {
        virtq_reset(&v->queue[i]);
    }
    v->acked = 0;
    v->status = 0;
    v->isr = 0;
    if (v->transport_ops != NULL && v->transport_ops->reset != NULL) {
        v->transport_ops->reset(v->transport);
    }
    v->resetting = false;
}

static void on_reset(struct device *device)
{
    reset(CONTAINER_OF(device, struct virtio, device));
}

static int on_quiesce(struct device *device, struct err *err)
{
    struct virtio *v = CONTAINER_OF(device, struct virtio, device);
    v->paused = true;
    int r = v->ops->quiesce == NULL ? 0 : v->ops->quiesce(v, err);
    if (r < 0) {
        v->paused = false;
    }
    return r;
}

static void kick_all(struct virtio *v)
{
    for (uint32_t i = 0; i < v->queue_count; i++) {
        if (v->queue[i].ready) {
            virtio_kick(v, i);
        }
    }
}

static void on_resume(struct device *device)
{
    struct virtio *v = CONTAINER_OF(device, struct virtio, device);
    v->paused = false;
    if (v->ops->resume != NULL) {
        v->ops->resume(v);
    }
    kick_all(v);
    uint32_t isr = atomic_load(&v->isr);
    if (isr != 0 && v->transport_ops != NULL) {
        for (uint32_t i = 0; i < v->queue_count; i++) {
            if (v->queue[i].ready && (isr & VIRTIO_ISR_QUEUE) != 0) {
                v->transport_ops->interrupt(v->transport, (int)i);
            }
        }
        if ((isr & VIRTIO_ISR_CONFIG) != 0) {
            v->transport_ops->interrupt(v->transport, -1);
        }
    }
}

static void on_free(struct device *device)
{
    virtio_free(CONTAINER_OF(device, struct virtio, device));
}

static const struct device_ops device_ops = {
    .reset = on_reset,
    .quiesce = on_quiesce,
    .resume = on_resume,
    .free = on_free,
};

int virtio_init(struct virtio *v, const struct virtio_ops *ops, const struct state_table *state,
                const char *instance, uint32_t queue_count, uint16_t queue_size,
                struct memory *memory, struct loop *loop)
{
    device_init(&v->device, &device_ops, state, instance);
    v->ops = ops;
    v->memory = memory;
    v->loop = loop;
    v->offered = ops->features | FEATURES_ALL;
    if (queue_count > VIRTIO_QUEUES_MAX || queue_size > VIRTQ_SIZE_MAX) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < queue_count; i++) {
        struct virtio_doorbell *bell = &v->doorbell[i];
        v->queue[i].size_max = queue_size;
        virtq_reset(&v->queue[i]);
        bell->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (bell->fd < 0) {
            return -errno;
        }
        bell->owner = v;
        v->queue_count = i + 1;
        int r = loop_add_fd(loop, bell->fd, EPOLLIN | EPOLLET, on_doorbell, bell, &bell->source);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

void virtio_done(struct virtio *v)
{
    for (uint32_t i = 0; i < VIRTIO_QUEUES_MAX; i++) { /* saved state may have changed the count */
        if (v->doorbell[i].owner != NULL) {
            virtio_batch_reset(v, i);
            loop_remove(v->doorbell[i].source);
            (void)close_fd(v->doorbell[i].fd);
        }
    }
    device_done(&v->device);
}

void virtio_free(struct virtio *v)
{
    if (v != NULL) {
        v->ops->free(v);
    }
}

static void interrupt(struct virtio *v, uint32_t why, int queue)
{
    (void)atomic_fetch_or(&v->isr, why);
    if (v->transport_ops != NULL) {
        v->transport_ops->interrupt(v->transport, queue);
    }
}

void virtio_interrupt_if_wanted(struct virtio *v, unsigned queue)
{
    if (virtq_wants_interrupt(&v->queue[queue], v->memory) && v->active) {
        interrupt(v, VIRTIO_ISR_QUEUE, (int)queue);
    }
}

void virtio_complete(struct virtio *v, unsigned queue, const struct virtq_chain *chain,
                     uint32_t written)
{
    if (virtq_push(&v->queue[queue], v->memory, chain, written) == 0) {
        virtio_interrupt_if_wanted(v, queue);
    }
}

void virtio_serve(struct virtio *v, unsigned queue, virtio_serve_fn *fn)
{
    struct virtq *q = &v->queue[queue];
    struct virtq_chain chain;
    unsigned count = 0;
    unsigned flushed = 0;
    virtq_doorbell_off(q, v->memory);
    for (unsigned left = q->size; v->active; left--) {
        if (left == 0) {
            virtio_kick(v, queue);
            break;
        }
        int r = virtq_pop(q, v->memory, &chain);
        if (r == -EAGAIN && flushed < count && v->ops->flush != NULL) {
            flushed = count;
            v->ops->flush(v, queue);
            continue;
        }
        if (r == -EAGAIN) {
            if (!virtq_doorbell_on(q, v->memory)) {
                break;
            }
            virtq_doorbell_off(q, v->memory);
            continue;
        }
        if (r < 0) {
            virtio_break(v, "a ring that breaks the rules");
            break;
        }
        if (!fn(v, queue, &chain)) {
            virtq_unpop(q, &chain);
            break;
        }
        count++;
    }
    virtio_interrupt_if_wanted(v, queue);
    virtio_batch_note(v, queue, count);
}

void virtio_break(struct virtio *v, const char *why)
{
    device_guest_error(&v->device, "%s", why);
    v->active = false;
    for (uint32_t i = 0; i < v->queue_count; i++) {
        v->queue[i].broken = true;
    }
    v->status |= VIRTIO_NEEDS_RESET;
    if ((v->status & VIRTIO_DRIVER_OK) != 0) {
        interrupt(v, VIRTIO_ISR_CONFIG, -1); /* 2.1.2 */
    }
}

void virtio_config_changed(struct virtio *v)
{
    v->config_generation++;
    if ((v->status & VIRTIO_DRIVER_OK) != 0) {
        interrupt(v, VIRTIO_ISR_CONFIG, -1);
    }
}

uint64_t virtio_features(const struct virtio *v)
{
    return v->offered;
}

void virtio_set_features(struct virtio *v, uint64_t features)
{
    if ((v->status & (VIRTIO_FEATURES_OK | VIRTIO_FAILED)) != 0 || v->resetting) {
        device_guest_error(&v->device, "features written after they were agreed on");
        return;
    }
    v->acked = features;
}

void virtio_set_status(struct virtio *v, uint8_t status)
{
    if (status == 0) {
        reset(v);
        return;
    }
    unsigned old = v->status & STATUS_DRIVER_BITS;
    unsigned wanted = status & ~(unsigned)VIRTIO_NEEDS_RESET; /* ours alone */
    unsigned added = wanted & ~old;
    if (v->resetting || (wanted & ~(unsigned)STATUS_DRIVER_BITS) != 0 || (old & ~wanted) != 0 ||
        ((old & VIRTIO_FAILED) != 0 && added != 0)) {
        device_guest_error(&v->device, "status 0x%x after 0x%x", status, v->status);
        return;
    }
    if ((added & VIRTIO_FEATURES_OK) != 0 && !features_ok(v)) {
        device_guest_error(&v->device, "features 0x%llx of 0x%llx", (unsigned long long)v->acked,
                           (unsigned long long)v->offered);
        added &= ~(unsigned)(VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK);
    }
    if (!status_in_order(old | added)) {
        device_guest_error(&v->device, "status 0x%x after 0x%x", status, v->status);
        return;
    }
    v->status |= (uint8_t)added;
    if ((added & VIRTIO_FEATURES_OK) != 0) {
        set_layout(v);
    }
    v->active = status_is_active(v->status);
    if ((added & VIRTIO_DRIVER_OK) != 0 && v->active) {
        if (v->ops->activate != NULL) {
            v->ops->activate(v);
        }
        kick_all(v);
    }
}

void virtio_queue_set_ready(struct virtio *v, unsigned index, bool ready)
{
    if (index >= v->queue_count || v->resetting) {
        device_guest_error(&v->device, "queue %u", index);
        return;
    }
    struct virtq *q = &v->queue[index];
    if (!ready) {
        virtq_reset(q);
        if ((v->status & VIRTIO_FEATURES_OK) != 0) {
            set_layout(v);
        }
        return;
    }
    if ((v->status & (VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK)) != VIRTIO_FEATURES_OK || q->ready) {
        device_guest_error(&v->device, "queue %u enabled with status 0x%x", index, v->status);
        return;
    }
    if (virtq_enable(q, v->memory) < 0) {
        device_guest_error(&v->device, "queue %u of %u at 0x%llx, 0x%llx, 0x%llx", index, q->size,
                           (unsigned long long)q->desc, (unsigned long long)q->driver,
                           (unsigned long long)q->device);
    }
}

void virtio_config_access(struct virtio *v, bool write, uint32_t offset, void *data, uint32_t len)
{
    uint32_t size = v->ops->config_size;
    uint32_t inside = offset >= size ? 0 : MIN(len, size - offset);
    if (!write) {
        memset(data, 0, len);
    }
    if (inside < len || (write && v->ops->config_write == NULL)) {
        device_guest_error(&v->device, "configuration %s at 0x%x", write ? "written" : "read",
                           offset);
    }
    if (inside > 0 && !write) {
        v->ops->config_read(v, offset, data, inside);
    } else if (inside == len && write && v->ops->config_write != NULL) {
        v->ops->config_write(v, offset, data, len);
    }
}

void virtio_kick(struct virtio *v, unsigned index)
{
    uint64_t one = 1;
    ssize_t n = index < v->queue_count ? write(v->doorbell[index].fd, &one, sizeof(one)) : 0;
    (void)n; /* EAGAIN after 2^64 - 2 of them: no ring of ours is that long-lived */
}
