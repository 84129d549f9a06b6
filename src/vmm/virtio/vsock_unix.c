/* The host's side of vsock: Unix sockets and bound descriptors on the loop. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/loop.h"
#include "base/macros.h"
#include "base/unix_socket.h"
#include "vmm/virtio/vsock_internal.h"

#define HELLO_MAX 32 /* "CONNECT 4294967295\n" and some */
#define PATIENCE_NS (10 * NS_PER_SEC)

/*
 * Each descriptor is watched edge-triggered, once: readable and writable hold until the kernel says
 * EAGAIN. So nothing that hangs up or waits for the guest can make the loop spin.
 */
static void on_event(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    struct vsock_connection *c = data;
    struct vsock *vs = c->owner;
    (void)pthread_mutex_lock(&vs->virtio.device.lock);
    if (fd == c->read_fd && (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
        c->readable = true;
    }
    if (fd == c->write_fd) {
        c->writable = c->writable || (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0;
        c->gone = c->gone || (events & (EPOLLHUP | EPOLLERR)) != 0;
    }
    if (!vs->virtio.paused) {
        if (c->state != VSOCK_CLOSED) {
            vsock_connection_advance(c);
        }
        vsock_settle(vs);
    }
    (void)pthread_mutex_unlock(&vs->virtio.device.lock);
}

static int watch(struct vsock_connection *c, int fd, uint32_t events, struct loop_source **ret)
{
    int r = set_nonblock(fd, true);
    if (r < 0) {
        return r;
    }
    r = loop_add_fd(c->owner->virtio.loop, fd, events | EPOLLET, on_event, c, ret);
    return r == -EPERM ? 0 : r; /* a regular file: always ready */
}

/* Gives c its descriptors, also on failure. */
static int adopt(struct vsock_connection *c, int read_fd, int write_fd)
{
    c->read_fd = read_fd;
    c->write_fd = write_fd;
    c->readable = read_fd >= 0;
    c->writable = write_fd >= 0;
    int r = 0;
    if (read_fd >= 0) {
        uint32_t out = read_fd == write_fd ? EPOLLOUT : 0;
        r = watch(c, read_fd, EPOLLIN | EPOLLRDHUP | out, &c->read_source);
    }
    if (r == 0 && write_fd >= 0 && write_fd != read_fd) {
        r = watch(c, write_fd, EPOLLOUT, &c->write_source);
    }
    return r;
}

int vsock_host_connect(struct vsock_connection *c)
{
    struct vsock *vs = c->owner;
    for (unsigned i = 0; i < vs->port_count; i++) {
        struct vsock_port *port = &vs->port[i];
        if (port->port != c->host_port) {
            continue;
        }
        if (port->read_fd < 0 && port->write_fd < 0) {
            return -EBUSY;
        }
        c->port = port;
        c->write_ended = port->write_fd < 0;
        c->host_done = c->write_ended ? VSOCK_NO_RECEIVE : 0;
        int read_fd = TAKE_FD(port->read_fd);
        return adopt(c, read_fd, TAKE_FD(port->write_fd));
    }
    if (vs->uds == NULL) {
        return -ECONNREFUSED;
    }
    if (vs->connector != NULL) {
        /* That port is nobody's (5.10.4), and has a meaning of its own there. */
        int given = c->host_port == VSOCK_OWN_PORT
                        ? -ECONNREFUSED
                        : vs->connector(c->host_port, vs->connector_data);
        return given < 0 ? given : adopt(c, given, given);
    }
    char path[PATH_MAX];
    int n = snprintf(path, sizeof(path), "%s_%u", vs->uds, c->host_port);
    if (n < 0 || (size_t)n >= sizeof(path)) {
        return -ENAMETOOLONG;
    }
    int fd = unix_connect(path, SOCK_STREAM | SOCK_NONBLOCK);
    return fd < 0 ? fd : adopt(c, fd, fd);
}

int vsock_unix_connect_own(struct vsock *vs)
{
    if (vs->uds == NULL) {
        return -ECONNREFUSED;
    }
    return vs->connector != NULL ? vs->connector(VSOCK_OWN_PORT, vs->connector_data)
                                 : unix_connect(vs->uds, SOCK_STREAM);
}

int vsock_host_accepted(struct vsock_connection *c)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "OK %u\n", c->host_port);
    /* A program that has left no room for a first line will not read it either. */
    return write(c->write_fd, text, (size_t)n) == n ? 0 : -EPIPE;
}

/* "CONNECT PORT\n": the bytes of the line, 0 when it is not whole, or -EINVAL. */
static int parse_hello(const char *text, size_t len, uint32_t *ret_port)
{
    static const char word[] = "CONNECT ";
    const char *end = memchr(text, '\n', len);
    if (end == NULL) {
        return len < HELLO_MAX ? 0 : -EINVAL;
    }
    size_t at = sizeof(word) - 1;
    size_t line = (size_t)(end - text);
    if (line <= at || memcmp(text, word, at) != 0) {
        return -EINVAL;
    }
    uint64_t port = 0;
    for (; at < line; at++) {
        if (text[at] < '0' || text[at] > '9') {
            return -EINVAL;
        }
        port = port * 10 + (unsigned)(text[at] - '0');
        if (port >= UINT32_MAX) {
            return -EINVAL;
        }
    }
    *ret_port = (uint32_t)port;
    return (int)line + 1;
}

void vsock_host_hello(struct vsock_connection *c)
{
    char text[HELLO_MAX];
    uint32_t port = 0;
    ssize_t n = recv(c->read_fd, text, sizeof(text), MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    int line = n <= 0 ? -EINVAL : parse_hello(text, (size_t)n, &port);
    if (line == 0 && !c->gone) {
        return; /* the rest is another edge */
    }
    /* No more than the line: what follows is the stream's. */
    if (line <= 0 || c->gone || !c->owner->virtio.active ||
        recv(c->read_fd, text, (size_t)line, MSG_DONTWAIT) != line) {
        vsock_connection_close(c);
        return;
    }
    vsock_connection_request(c, port);
}

ssize_t vsock_host_read(struct vsock_connection *c, const struct iovec *iov, int count)
{
    for (;;) {
        ssize_t n = readv(c->read_fd, iov, count);
        if (n >= 0) {
            return n;
        }
        if (errno == EAGAIN) {
            c->readable = false;
        }
        if (errno != EINTR) {
            return -errno;
        }
    }
}

ssize_t vsock_host_write(struct vsock_connection *c, const struct iovec *iov, int count)
{
    for (;;) {
        ssize_t n = writev(c->write_fd, iov, count);
        if (n >= 0) {
            return n;
        }
        if (errno == EAGAIN) {
            c->writable = false;
        }
        if (errno != EINTR) {
            return -errno;
        }
    }
}

static void close_read(struct vsock_connection *c)
{
    loop_remove(c->read_source);
    c->read_source = NULL;
    c->read_fd = close_fd(c->read_fd);
}

static void close_write(struct vsock_connection *c)
{
    loop_remove(c->write_source);
    c->write_source = NULL;
    c->write_fd = close_fd(c->write_fd);
}

void vsock_host_end_write(struct vsock_connection *c)
{
    c->writable = false;
    if (c->write_fd >= 0 && c->write_fd == c->read_fd) {
        (void)shutdown(c->write_fd, SHUT_WR);
    } else {
        close_write(c);
    }
}

void vsock_host_end_read(struct vsock_connection *c)
{
    c->readable = false;
    if (c->read_fd >= 0 && c->write_fd == c->read_fd) {
        (void)shutdown(c->read_fd, SHUT_RD);
    } else {
        close_read(c);
    }
}

void vsock_host_drop(struct vsock_connection *c)
{
    c->readable = false;
    c->writable = false;
    if (c->give_back) {
        loop_remove(TAKE_PTR(c->read_source));
        loop_remove(TAKE_PTR(c->write_source));
        c->port->read_fd = TAKE_FD(c->read_fd);
        c->port->write_fd = TAKE_FD(c->write_fd);
        return;
    }
    bool same = c->read_fd == c->write_fd;
    close_read(c);
    if (same) {
        c->write_fd = -1;
    }
    close_write(c);
}

void vsock_unix_accept(struct vsock *vs)
{
    while (vs->listen_ready && !vs->held) {
        AUTO(closep) int fd = accept4(vs->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) {
            continue;
        }
        if (fd < 0) {
            /* Without descriptors or memory the timer looks again: they wait in the queue. */
            vs->listen_ready = errno != EAGAIN;
            if (vs->listen_ready) {
                (void)loop_timer_set(vs->timer, NS_PER_SEC);
            }
            return;
        }
        struct vsock_connection *c = vsock_connection_new(vs);
        if (c == NULL) {
            continue; /* too many: the program reads the end at once */
        }
        c->state = VSOCK_HELLO;
        c->deadline_ns = clock_monotonic_ns() + PATIENCE_NS;
        vs->timer_wanted = true;
        int host = TAKE_FD(fd);
        if (adopt(c, host, host) < 0) {
            vsock_connection_close(c);
        }
    }
}

static void on_listen(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)fd;
    (void)events;
    struct vsock *vs = data;
    (void)pthread_mutex_lock(&vs->virtio.device.lock);
    vs->listen_ready = true;
    if (!vs->virtio.paused) {
        vsock_settle(vs);
    }
    (void)pthread_mutex_unlock(&vs->virtio.device.lock);
}

/*
 * The prefix of the paths that guests' connections go to. In the jail no directory can be opened,
 * as unix_connect() does for a long path: a prefix that could be too long with a port goes through
 * a descriptor of its directory.
 */
static int keep_path(struct vsock *vs, const char *uds, struct err *err)
{
    static const char port_max[] = "_4294967295";
    const size_t max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - sizeof(port_max);
    const char *slash = strrchr(uds, '/');
    if (strlen(uds) <= max || slash == NULL) {
        vs->uds = strdup(uds);
    } else {
        AUTO(freep) char *dir = strndup(uds, MAX((size_t)(slash - uds), (size_t)1));
        vs->dir_fd = dir == NULL ? -1 : open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (vs->dir_fd < 0 || asprintf(&vs->uds, "/proc/self/fd/%d%s", vs->dir_fd, slash) < 0) {
            vs->uds = NULL;
            return err_set(err, errno, "keep the directory of vsock's socket '%s'", uds);
        }
    }
    if (vs->uds == NULL) {
        return err_set(err, ENOMEM, "keep the path of vsock's socket");
    }
    return strlen(vs->uds) <= max
               ? 0
               : err_say(err, ENAMETOOLONG, "the name of vsock's socket '%s' is too long", uds);
}

int vsock_unix_open(struct vsock *vs, const char *uds, struct err *err)
{
    int fd = unix_listen(uds, SOCK_STREAM | SOCK_NONBLOCK, 0600);
    if (fd < 0) {
        return err_set(err, -fd, "listen on vsock's socket '%s'", uds);
    }
    vs->listen_fd = fd;
    int r = keep_path(vs, uds, err);
    if (r < 0) {
        (void)unlink(uds);
        return r;
    }
    r = loop_add_fd(vs->virtio.loop, fd, EPOLLIN | EPOLLET, on_listen, vs, &vs->listen_source);
    return r < 0 ? err_set(err, -r, "watch vsock's socket '%s'", uds) : 0;
}

void vsock_unix_close(struct vsock *vs)
{
    loop_remove(vs->listen_source);
    if (vs->listen_fd >= 0 && vs->uds != NULL && vs->connector == NULL) {
        (void)unlink(vs->uds);
    }
    vs->listen_fd = close_fd(vs->listen_fd);
    vs->dir_fd = close_fd(vs->dir_fd);
    free(vs->uds);
}
