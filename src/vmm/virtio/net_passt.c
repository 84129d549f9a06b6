/*
 * Frames through passt: a stream socket, each frame after its length. No offloads: passt fills in
 * checksums and cuts segments itself.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/io.h"
#include "base/macros.h"
#include "base/unix_socket.h"
#include "freestanding/byteorder.h"
#include "vmm/virtio/net_backend.h"

#define LENGTH_SIZE ((size_t)4)
#define FRAME_MIN ((size_t)14)
#define FRAME_MAX (NET_FRAME_MAX - NET_HEADER_SIZE)
#define PIECES_MAX 64

struct net_passt {
    struct net_backend backend;
    int error; /* the stream is over */
    /* Read: bytes [in_at, in_len) */
    size_t in_at, in_len;
    uint8_t in[LENGTH_SIZE + FRAME_MAX];
    /* The rest of a frame that the socket took a part of: bytes [out_at, out_len) */
    size_t out_at, out_len;
    uint8_t *out;
};

static struct net_passt *of(struct net_backend *b)
{
    return CONTAINER_OF(b, struct net_passt, backend);
}

static int passt_configure(struct net_backend *b, uint64_t guest_offloads, unsigned pairs)
{
    (void)b;
    (void)pairs;
    return guest_offloads == 0 ? 0 : -EINVAL;
}

/* Reads once: as many frames as are there. */
static int read_more(struct net_passt *p)
{
    memmove(p->in, p->in + p->in_at, p->in_len - p->in_at);
    p->in_len -= p->in_at;
    p->in_at = 0;
    ssize_t n = 0;
    do {
        n = recv(p->backend.fd[0], p->in + p->in_len, sizeof(p->in) - p->in_len, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) {
        return -EAGAIN;
    }
    if (n <= 0) {
        p->error = n < 0 ? -errno : -EPIPE;
        return p->error;
    }
    p->in_len += (size_t)n;
    return 0;
}

static ssize_t passt_next(struct net_backend *b, unsigned pair)
{
    (void)pair;
    struct net_passt *p = of(b);
    while (p->error == 0) {
        size_t have = p->in_len - p->in_at;
        size_t len = have < LENGTH_SIZE ? 0 : load_be32(p->in + p->in_at);
        if (have >= LENGTH_SIZE && (len < FRAME_MIN || len > FRAME_MAX)) {
            p->error = -EPROTO; /* what follows cannot be told apart any more */
            break;
        }
        if (have >= LENGTH_SIZE && have - LENGTH_SIZE >= len) {
            return (ssize_t)(NET_HEADER_SIZE + len);
        }
        int r = read_more(p);
        if (r < 0) {
            return r;
        }
    }
    return p->error;
}

/* Copies to where offset lies in the pieces. */
static void copy_out(const struct iovec *iov, int count, size_t offset, const uint8_t *data,
                     size_t len)
{
    for (int i = 0; i < count && len > 0; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t n = MIN(iov[i].iov_len - offset, len);
        memcpy((char *)iov[i].iov_base + offset, data, n);
        data += n;
        len -= n;
        offset = 0;
    }
}

static ssize_t passt_receive(struct net_backend *b, unsigned pair, const struct iovec *iov,
                             int count)
{
    struct net_passt *p = of(b);
    static const uint8_t header[NET_HEADER_SIZE];
    ssize_t size = passt_next(b, pair);
    if (size <= 0) {
        return size;
    }
    copy_out(iov, count, 0, header, sizeof(header));
    size_t len = (size_t)size - NET_HEADER_SIZE;
    copy_out(iov, count, NET_HEADER_SIZE, p->in + p->in_at + LENGTH_SIZE, len);
    p->in_at += LENGTH_SIZE + len;
    return size;
}

/* Writes the rest of the last frame. 0, -EAGAIN or the stream's end. */
static int flush(struct net_passt *p)
{
    while (p->error == 0 && p->out_at < p->out_len) {
        ssize_t n = send(p->backend.fd[0], p->out + p->out_at, p->out_len - p->out_at,
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0) {
            p->out_at += (size_t)n;
        } else if (errno == EAGAIN) {
            return -EAGAIN;
        } else if (errno != EINTR) {
            p->error = -errno;
        }
    }
    if (p->out != NULL) {
        free(p->out);
        p->out = NULL;
        p->out_at = 0;
        p->out_len = 0;
    }
    return p->error;
}

/* Keeps all but the first done bytes of the message. */
static int keep_rest(struct net_passt *p, const struct iovec *iov, int count, size_t done,
                     size_t all)
{
    p->out = malloc(all - done);
    if (p->out == NULL) {
        p->error = -ENOMEM; /* half a frame is out: the stream is lost */
        return p->error;
    }
    p->out_len = 0;
    for (int i = 0; i < count; i++) {
        if (done >= iov[i].iov_len) {
            done -= iov[i].iov_len;
            continue;
        }
        memcpy(p->out + p->out_len, (char *)iov[i].iov_base + done, iov[i].iov_len - done);
        p->out_len += iov[i].iov_len - done;
        done = 0;
    }
    p->out_at = 0;
    return 0;
}

static int passt_send(struct net_backend *b, unsigned pair, const struct iovec *iov, int count)
{
    (void)pair;
    struct net_passt *p = of(b);
    int r = flush(p);
    if (r < 0) {
        return r;
    }
    size_t all = 0;
    for (int i = 0; i < count; i++) {
        all += iov[i].iov_len;
    }
    /* The length takes the place of the header, which is a piece of its own. */
    uint8_t length[LENGTH_SIZE];
    struct iovec out[PIECES_MAX];
    if (iov[0].iov_len != NET_HEADER_SIZE || count > PIECES_MAX ||
        all - NET_HEADER_SIZE > FRAME_MAX) {
        return -EMSGSIZE;
    }
    store_be32(length, (uint32_t)(all - NET_HEADER_SIZE));
    memcpy(out, iov, sizeof(out[0]) * (size_t)count);
    out[0] = (struct iovec){.iov_base = length, .iov_len = sizeof(length)};
    all = all - NET_HEADER_SIZE + LENGTH_SIZE;
    struct msghdr msg = {.msg_iov = out, .msg_iovlen = (size_t)count};
    ssize_t n = 0;
    do {
        n = sendmsg(b->fd[0], &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return -errno;
    }
    return (size_t)n == all ? 0 : keep_rest(p, out, count, (size_t)n, all);
}

static void passt_writable(struct net_backend *b)
{
    (void)flush(of(b));
}

static void passt_free(struct net_backend *b)
{
    struct net_passt *p = of(b);
    (void)close_fd(b->fd[0]);
    free(p->out);
    free(p);
}

static const struct net_backend_ops passt_ops = {
    .configure = passt_configure,
    .next = passt_next,
    .receive = passt_receive,
    .send = passt_send,
    .writable = passt_writable,
    .free = passt_free,
};

int net_passt_adopt(int fd, struct net_backend **ret, struct err *err)
{
    struct net_passt *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return err_set(err, ENOMEM, "connect to passt");
    }
    p->backend.ops = &passt_ops;
    p->backend.pairs = 1;
    p->backend.fd[0] = fd;
    for (unsigned i = 1; i < NET_PAIRS_MAX; i++) {
        p->backend.fd[i] = -1;
    }
    *ret = &p->backend;
    return 0;
}

int net_passt_connect(const char *path, struct net_backend **ret, struct err *err)
{
    AUTO(closep) int fd = unix_connect(path, SOCK_STREAM);
    if (fd < 0) {
        return err_set(err, -fd, "connect to passt at '%s'", path);
    }
    int r = net_passt_adopt(fd, ret, err);
    if (r == 0) {
        fd = -1;
    }
    return r;
}
