/*
 * The file system device behind a driver with eight requests under way: what isola-fs says, had the
 * guest taken it over. The first byte says whether and when the driver resets the device.
 */
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "base/loop.h"
#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/memory.h"
#include "vmm/virtio/fs.h"
#include "vmm/virtio/virtio.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define REGION ((uint64_t)0x10000)
#define RING 0x1000ULL /* descriptors; driver and device areas a page each behind */
#define REQUEST 0x8000ULL
#define ANSWERS (REGION - 2048) /* the first crosses the border of the regions */
#define REQUESTS 8
#define ROOM 4096U
#define QUEUE_SIZE 16
#define INPUT_MAX ((size_t)32768)

static void must(int r)
{
    if (r < 0) {
        abort();
    }
}

static void quit(struct loop_source *source, void *data)
{
    loop_remove(source);
    loop_quit(data, 0);
}

static void pump(struct loop *loop)
{
    for (unsigned i = 0; i < 3; i++) {
        must(loop_add_timer(loop, 0, quit, loop, NULL));
        must(loop_run(loop));
    }
}

static void put_descriptor(struct memory *memory, unsigned index, uint64_t gpa, uint32_t len,
                           uint16_t flags)
{
    uint8_t raw[16];
    store_le64(raw, gpa);
    store_le32(raw + 8, len);
    store_le16(raw + 12, flags);
    store_le16(raw + 14, (uint16_t)(index + 1));
    must(memory_write(memory, RING + 16ULL * index, raw, sizeof(raw)));
}

/* A driver from reset to its requests. */
static void start(struct virtio *v, struct memory *memory)
{
    struct virtq *q = &v->queue[1];
    uint8_t raw[2];
    virtio_set_status(v, 0);
    virtio_set_status(v, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
    virtio_set_features(v, VIRTIO_F_VERSION_1);
    virtio_set_status(v, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
    for (unsigned i = 0; i < REQUESTS; i++) {
        put_descriptor(memory, 2 * i, REQUEST, 64, 1);
        put_descriptor(memory, 2 * i + 1, ANSWERS + i * ROOM, ROOM, 2);
        store_le16(raw, (uint16_t)(2 * i));
        must(memory_write(memory, RING + 0x1000 + 4 + 2ULL * i, raw, sizeof(raw)));
    }
    store_le16(raw, REQUESTS);
    must(memory_write(memory, RING + 0x1000 + 2, raw, sizeof(raw)));
    q->size = QUEUE_SIZE;
    q->desc = RING;
    q->driver = RING + 0x1000;
    q->device = RING + 0x2000;
    virtio_queue_set_ready(v, 1, true);
    virtio_set_status(v,
                      VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK);
}

static void reset(struct virtio *v, struct memory *memory)
{
    (void)pthread_mutex_lock(&v->device.lock);
    start(v, memory);
    (void)pthread_mutex_unlock(&v->device.lock);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct memory_options options = {.kind = MEMORY_PRIVATE, .fd = -1};
    struct memory *memory = NULL;
    struct loop *loop = NULL;
    struct virtio *v = NULL;
    int ends[2];
    if (len == 0 || len > INPUT_MAX) {
        return 0;
    }
    must(memory_new(&options, &memory));
    must(memory_add(memory, 0, REGION, NULL));
    must(memory_add(memory, REGION, REGION, NULL));
    must(loop_new(&loop));
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    must(set_nonblock(ends[0], true));
    const struct virtio_fs_config config = {.tag = "fuzz", .fd = ends[0]};
    must(virtio_fs_new("fuzz", &config, memory, loop, &v, NULL));
    reset(v, memory);
    pump(loop);
    size_t first = MIN((size_t)data[0], len - 1);
    (void)send(ends[1], data + 1, first, MSG_NOSIGNAL);
    pump(loop);
    if ((data[0] & 1) != 0) {
        reset(v, memory);
        pump(loop);
    }
    (void)send(ends[1], data + 1 + first, len - 1 - first, MSG_NOSIGNAL | MSG_DONTWAIT);
    pump(loop);
    must(close(ends[1]));
    pump(loop);
    virtio_free(v);
    loop_free(loop);
    memory_free(memory);
    return 0;
}
