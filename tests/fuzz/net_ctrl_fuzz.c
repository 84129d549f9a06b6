#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/loop.h"
#include "base/macros.h"
#include "vmm/memory.h"
#include "vmm/virtio/net_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* What a guest puts into the control queue, in two pieces; the same bytes as a frame's header. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO(memory_freep) struct memory *memory = NULL;
    AUTO(loop_freep) struct loop *loop = NULL;
    AUTO(virtio_freep) struct virtio *v = NULL;
    struct memory_options options = {.kind = MEMORY_PRIVATE, .fd = -1};
    struct net_options net_options = {.mac = {2}, .mtu = 1500};
    struct net_backend *backend = NULL;
    int fd[2];
    if (len == 0 || memory_new(&options, &memory) < 0 || loop_new(&loop) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0) {
        return 0;
    }
    AUTO(closep) int other = fd[1];
    if (net_passt_adopt(fd[0], &backend, NULL) < 0 ||
        net_new("fuzz", &net_options, backend, memory, loop, &v, NULL) < 0) {
        return 0;
    }
    struct net *net = CONTAINER_OF(v, struct net, virtio);
    v->acked = v->ops->features;
    size_t cut = data[0] % len;
    AUTO(freep) uint8_t *first = malloc(cut + 1);
    AUTO(freep) uint8_t *second = malloc(len - cut);
    if (first == NULL || second == NULL) {
        return 0;
    }
    memcpy(first, data, cut);
    memcpy(second, data + cut, len - cut);
    /* The first byte only says where to cut. */
    struct virtq_chain chain = {.readable_count = 2, .readable_len = len - MIN(cut, (size_t)1)};
    chain.iov[0] = (struct iovec){.iov_base = first + (cut > 0), .iov_len = cut - (cut > 0)};
    chain.iov[1] = (struct iovec){.iov_base = second, .iov_len = len - cut};
    chain.readable = chain.iov;
    uint8_t answer = net_command(net, &chain);
    uint8_t header[NET_HEADER_SIZE] = {0};
    memcpy(header, data, MIN(len, sizeof(header)));
    bool good = net_header_check(net, header, len * 97);
    if (answer > 1 || net->pairs != 1 || (net->mac[0] & 1) != 0 || (good && header[0] > 1)) {
        abort();
    }
    return 0;
}
