#include "vmm/virtio/console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/virtio/virtio.h"

#define QUEUE_SIZE 64
#define QUEUE_IN 0u
#define QUEUE_OUT 1u

/* One system call moves at most this; a longer chain is served in several looks. */
#define PIECE_BYTES ((size_t)65536)
#define PIECES 16

/* What a pipe that says "writable" takes without blocking, should it be a blocking one. */
#define BLOCKING_BYTES ((size_t)PIPE_BUF)

#define F_SIZE (1ULL << 0)
#define F_EMERG_WRITE (1ULL << 2)

/* Configuration space (5.3.4) */
enum {
    CONFIG_COLUMNS = 0,
    CONFIG_ROWS = 2,
    CONFIG_PORTS = 4,
    CONFIG_EMERG_WRITE = 8,
    CONFIG_SIZE = 12,
};

struct end {
    int fd;      /* -1: closed, or never there */
    bool socket; /* MSG_DONTWAIT instead of O_NONBLOCK, which would be everybody's */
    bool nonblocking;
    bool pollable;              /* no file, which is always ready */
    struct loop_source *source; /* one shot: armed while we wait */
};

struct console {
    struct virtio virtio;
    struct end in, out;
    uint16_t columns, rows;
    uint64_t out_done; /* bytes of the first chain that were written already */
};

static const struct state_field console_fields[] = {
    STATE_OBJECTS(struct console, virtio, 1, &virtio_state_table),
    STATE(U16, struct console, columns),
    STATE(U16, struct console, rows),
    STATE(U64, struct console, out_done),
    STATE_DONE,
};

static const struct state_table console_state_table = {
    .name = "virtio-console",
    .version = 1,
    .oldest = 1,
    .fields = console_fields,
};

static struct console *console_of(struct virtio *v)
{
    return CONTAINER_OF(v, struct console, virtio);
}

static void end_close(struct end *end)
{
    loop_remove(end->source);
    end->source = NULL;
    end->fd = close_fd(end->fd);
}

/* The master of a pseudo terminal: opening it again would make another terminal. */
static bool is_pty_master(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && major(st->st_rdev) == 5 && minor(st->st_rdev) == 2;
}

static int end_open(struct end *end, int fd, int access)
{
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, &st) < 0) {
        return -errno;
    }
    end->socket = S_ISSOCK(st.st_mode);
    end->nonblocking = end->socket || (flags & O_NONBLOCK) != 0;
    if (!end->nonblocking &&
        (S_ISFIFO(st.st_mode) || (S_ISCHR(st.st_mode) && !is_pty_master(&st)))) {
        char path[32];
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        end->fd = open(path, access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        end->nonblocking = end->fd >= 0;
    }
    if (end->fd < 0) {
        end->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    }
    return end->fd < 0 ? -errno : 0;
}

/* Calls fn once when the end is ready. Files are always ready: -EPERM of epoll. */
static int end_watch(struct end *end, struct loop *loop, loop_fd_fn *fn, void *data)
{
    int r = loop_add_fd(loop, end->fd, EPOLLONESHOT, fn, data, &end->source);
    end->pollable = r == 0;
    return r == -EPERM ? 0 : r;
}

static void end_arm(struct end *end, uint32_t events)
{
    if (end->source != NULL) {
        (void)loop_source_set_events(end->source, events | EPOLLONESHOT);
    }
}

/* A descriptor that blocks is asked first. */
static bool end_ready(const struct end *end, short events)
{
    struct pollfd p = {.fd = end->fd, .events = events};
    return end->nonblocking || !end->pollable || poll(&p, 1, 0) > 0;
}

static ssize_t end_write(const struct end *end, struct iovec *iov, unsigned count)
{
    if (!end_ready(end, POLLOUT)) {
        errno = EAGAIN;
        return -1;
    }
    if (!end->socket) {
        return writev(end->fd, iov, (int)count);
    }
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
    return sendmsg(end->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static ssize_t end_read(const struct end *end, struct iovec *iov, unsigned count)
{
    if (!end_ready(end, POLLIN)) {
        errno = EAGAIN;
        return -1;
    }
    if (!end->socket) {
        return readv(end->fd, iov, (int)count);
    }
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
    return recvmsg(end->fd, &message, MSG_DONTWAIT);
}

/* The first bytes of pieces from skip on, at most max. */
static unsigned cut(struct iovec *to, const struct iovec *from, uint32_t count, uint64_t skip,
                    size_t max)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < count && n < PIECES && max > 0; i++) {
        if (skip >= from[i].iov_len) {
            skip -= from[i].iov_len;
            continue;
        }
        size_t len = MIN(max, from[i].iov_len - (size_t)skip);
        to[n++] = (struct iovec){.iov_base = (uint8_t *)from[i].iov_base + skip, .iov_len = len};
        max -= len;
        skip = 0;
    }
    return n;
}

static bool out_finished(struct console *c, const struct virtq_chain *chain)
{
    c->out_done = 0;
    (void)virtq_push(&c->virtio.queue[QUEUE_OUT], c->virtio.memory, chain, 0);
    return true;
}

static bool serve_out(struct virtio *v, unsigned queue, const struct virtq_chain *chain)
{
    struct console *c = console_of(v);
    struct iovec iov[PIECES];
    /* The guest may have changed a chain that we began: then there may be nothing left. */
    if (c->out.fd < 0 || c->out_done >= chain->readable_len) {
        return out_finished(c, chain);
    }
    size_t max = c->out.nonblocking || !c->out.pollable ? PIECE_BYTES : BLOCKING_BYTES;
    unsigned n = cut(iov, chain->readable, chain->readable_count, c->out_done, max);
    ssize_t written = end_write(&c->out, iov, n);
    if (written < 0 && errno != EAGAIN && errno != EINTR) {
        end_close(&c->out);
        return out_finished(c, chain);
    }
    c->out_done += written < 0 ? 0 : (uint64_t)written;
    if (c->out_done >= chain->readable_len) {
        return out_finished(c, chain);
    }
    if (c->out.pollable) {
        end_arm(&c->out, EPOLLOUT);
    } else {
        virtio_kick(v, queue);
    }
    return false;
}

static bool serve_in(struct virtio *v, unsigned queue, const struct virtq_chain *chain)
{
    struct console *c = console_of(v);
    struct iovec iov[PIECES];
    if (c->in.fd < 0) {
        return false; /* the chain waits for ever, as nobody will type */
    }
    unsigned n = cut(iov, chain->writable, chain->writable_count, 0, PIECE_BYTES);
    if (n == 0) {
        device_guest_error(&v->device, "no room for input");
        (void)virtq_push(&v->queue[queue], v->memory, chain, 0);
        return true;
    }
    ssize_t got = end_read(&c->in, iov, n);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        end_arm(&c->in, EPOLLIN);
        return false;
    }
    if (got <= 0) {
        end_close(&c->in);
        return false;
    }
    (void)virtq_push(&v->queue[queue], v->memory, chain, (uint32_t)got);
    return true;
}

static void console_queue(struct virtio *v, unsigned index)
{
    virtio_serve(v, index, index == QUEUE_IN ? serve_in : serve_out);
}

static void on_ready(struct console *c, unsigned queue)
{
    (void)pthread_mutex_lock(&c->virtio.device.lock);
    if (c->virtio.active && !c->virtio.paused && c->virtio.queue[queue].ready) {
        console_queue(&c->virtio, queue);
    }
    (void)pthread_mutex_unlock(&c->virtio.device.lock);
}

static void on_in(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)fd;
    (void)events;
    on_ready(data, QUEUE_IN);
}

static void on_out(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)fd;
    (void)events;
    on_ready(data, QUEUE_OUT);
}

static void config_read(struct virtio *v, uint32_t offset, void *data, uint32_t len)
{
    const struct console *c = console_of(v);
    uint8_t config[CONFIG_SIZE] = {0};
    store_le16(config + CONFIG_COLUMNS, c->columns);
    store_le16(config + CONFIG_ROWS, c->rows);
    store_le32(config + CONFIG_PORTS, 1);
    memcpy(data, config + offset, len);
}

/* A character of a guest that has no queues yet, or no longer; lost when there is no room. */
static void config_write(struct virtio *v, uint32_t offset, const void *data, uint32_t len)
{
    struct console *c = console_of(v);
    uint8_t byte = *(const uint8_t *)data;
    if (offset != CONFIG_EMERG_WRITE || len != 4) {
        device_guest_error(&v->device, "configuration written at 0x%x", offset);
        return;
    }
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    ssize_t n = c->out.fd < 0 ? 0 : end_write(&c->out, &iov, 1);
    (void)n;
}

static void console_reset(struct virtio *v)
{
    console_of(v)->out_done = 0;
}

static void console_free(struct virtio *v)
{
    struct console *c = console_of(v);
    end_close(&c->in);
    end_close(&c->out);
    virtio_done(v);
    free(c);
}

static const struct virtio_ops console_ops = {
    .type = VIRTIO_CONSOLE,
    .name = "console",
    .features = F_SIZE | F_EMERG_WRITE,
    .config_size = CONFIG_SIZE,
    .config_read = config_read,
    .config_write = config_write,
    .queue = console_queue,
    .reset = console_reset,
    .free = console_free,
};

static int init(struct console *c, const char *instance, const struct virtio_console_config *config,
                struct memory *memory, struct loop *loop)
{
    c->in.fd = -1;
    c->out.fd = -1;
    c->columns = config->columns;
    c->rows = config->rows;
    int r = virtio_init(&c->virtio, &console_ops, &console_state_table, instance, 2, QUEUE_SIZE,
                        memory, loop);
    if (r == 0 && config->in_fd >= 0) {
        r = end_open(&c->in, config->in_fd, O_RDONLY);
        r = r < 0 ? r : end_watch(&c->in, loop, on_in, c);
    }
    if (r == 0 && config->out_fd >= 0) {
        r = end_open(&c->out, config->out_fd, O_WRONLY);
        r = r < 0 ? r : end_watch(&c->out, loop, on_out, c);
    }
    if (config->columns == 0 || config->rows == 0) {
        c->virtio.offered &= ~F_SIZE;
    }
    return r;
}

int virtio_console_new(const char *instance, const struct virtio_console_config *config,
                       struct memory *memory, struct loop *loop, struct virtio **ret,
                       struct err *err)
{
    struct console *c = calloc(1, sizeof(*c));
    int r = c == NULL ? -ENOMEM : init(c, instance, config, memory, loop);
    if (r < 0) {
        if (c != NULL) {
            console_free(&c->virtio);
        }
        return err_set(err, -r, "add '%s'", instance);
    }
    *ret = &c->virtio;
    return 0;
}

void virtio_console_resize(struct virtio *v, uint16_t columns, uint16_t rows)
{
    struct console *c = console_of(v);
    (void)pthread_mutex_lock(&v->device.lock);
    if (c->columns != columns || c->rows != rows) {
        c->columns = columns;
        c->rows = rows;
        virtio_config_changed(v);
    }
    (void)pthread_mutex_unlock(&v->device.lock);
}
