#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "base/loop.h"
#include "base/macros.h"
#include "vmm/memory.h"
#include "vmm/virtio/vsock_internal.h"

#define CID 3
#define PACKETS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* What the device has to say to the guest, into buffers of 100 bytes. */
static void take_news(struct vsock *vs)
{
    uint8_t room[100];
    struct virtq_chain chain = {.writable_count = 1, .writable_len = sizeof(room)};
    chain.iov[0] = (struct iovec){.iov_base = room, .iov_len = sizeof(room)};
    chain.writable = chain.iov;
    struct vsock_connection *c = NULL;
    for (unsigned i = 0; i < 1000 && (c = TAILQ_FIRST(&vs->news)) != NULL; i++) {
        TAILQ_REMOVE(&vs->news, c, in_news);
        c->has_news = false;
        (void)vsock_connection_next(c, &chain);
    }
    vs->reset_count = 0;
    vsock_settle(vs);
}

/* Packets of a guest: a byte with the length, then the packet. Host ports 1 to 3 are there. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO(memory_freep) struct memory *memory = NULL;
    AUTO(loop_freep) struct loop *loop = NULL;
    AUTO(virtio_freep) struct virtio *v = NULL;
    struct memory_options options = {.kind = MEMORY_PRIVATE, .fd = -1};
    int pipe_fd[2] = {-1, -1};
    (void)signal(SIGPIPE, SIG_IGN);
    if (memory_new(&options, &memory) < 0 || loop_new(&loop) < 0 ||
        vsock_new("fuzz", CID, NULL, memory, loop, &v, NULL) < 0 || pipe2(pipe_fd, O_CLOEXEC) < 0) {
        return 0;
    }
    struct vsock *vs = CONTAINER_OF(v, struct vsock, virtio);
    (void)vsock_bind_port(v, 1, open("/dev/zero", O_RDONLY | O_CLOEXEC), -1, NULL);
    (void)vsock_bind_port(v, 2, -1, open("/dev/full", O_WRONLY | O_CLOEXEC), NULL);
    (void)vsock_bind_port(v, 3, -1, TAKE_FD(pipe_fd[1]), NULL);
    for (unsigned i = 0; i < PACKETS_MAX && len > 0; i++) {
        size_t size = MIN((size_t)data[0], len - 1);
        uint8_t packet[255];
        memcpy(packet, data + 1, size);
        if (size > 1 && packet[0] == 0) { /* most should get past the addresses */
            memset(packet, 0, MIN(size, (size_t)16));
            packet[0] = CID;
            packet[MIN(size, (size_t)9) - 1] = 2;
        }
        struct virtq_chain chain = {.readable_count = 2, .readable_len = size};
        size_t cut = size / 2;
        chain.iov[0] = (struct iovec){.iov_base = packet, .iov_len = cut};
        chain.iov[1] = (struct iovec){.iov_base = packet + cut, .iov_len = size - cut};
        chain.readable = chain.iov;
        vsock_receive(vs, &chain);
        if ((i & 3) == 3) {
            take_news(vs);
        }
        data += 1 + size;
        len -= 1 + size;
    }
    take_news(vs);
    (void)close(pipe_fd[0]);
    return 0;
}
