#include "guest/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"

#define BUFFER_SIZE ((size_t)32 << 10)
/* How long the host may take to close its end when all has been sent. */
#define CLOSE_TIMEOUT_NS (2 * NS_PER_SEC)

struct stream {
    struct stream_options o;
    int from;
    int to;
    /*
     * Only the end that is waited for is in the loop: epoll reports a hang-up of the other one
     * again and again, whatever it was asked for.
     */
    struct loop_source *waiting;
    struct loop_source *timer;
    size_t start;
    size_t len;
    bool ended; /* no more input */
    char buffer[BUFFER_SIZE];
};

static void on_ready(struct loop_source *source, int fd, uint32_t events, void *data);

static void finish(struct stream *s)
{
    loop_remove(s->waiting);
    loop_remove(s->timer);
    s->waiting = NULL;
    s->timer = NULL;
    s->from = close_fd(s->from);
    s->to = close_fd(s->to);
    if (s->o.done != NULL) {
        stream_done_fn *done = s->o.done;
        s->o.done = NULL;
        done(s->o.data);
    }
}

static void on_timeout(struct loop_source *source, void *data)
{
    (void)source;
    finish(data);
}

/* Puts the end that decides about progress into the loop. */
static void wait_for(struct stream *s, int fd, uint32_t events)
{
    loop_remove(s->waiting);
    s->waiting = NULL;
    if (loop_add_fd(s->o.loop, fd, events, on_ready, s, &s->waiting) < 0) {
        finish(s);
    }
}

/* True when the connection was cut and is there again. */
static bool reconnect(struct stream *s, int error)
{
    int *fd = s->o.socket_is_from ? &s->from : &s->to;
    if (!s->o.reconnect || (error != ECONNRESET && error != EPIPE && error != ENOTCONN)) {
        return false;
    }
    AUTO(closep) int fresh = transport_connect(s->o.transport, s->o.port);
    if (fresh < 0 || set_nonblock(fresh, true) < 0) {
        return false;
    }
    loop_remove(s->waiting);
    s->waiting = NULL;
    (void)close_fd(*fd);
    *fd = TAKE_FD(fresh);
    return true;
}

/* Everything is written: tells the other side so and waits until it has it. */
static void end_output(struct stream *s)
{
    s->from = close_fd(s->from);
    if (s->o.socket_is_from || shutdown(s->to, SHUT_WR) < 0 ||
        loop_add_timer(s->o.loop, CLOSE_TIMEOUT_NS, on_timeout, s, &s->timer) < 0) {
        finish(s);
        return;
    }
    wait_for(s, s->to, EPOLLIN);
}

static void flush(struct stream *s)
{
    while (s->len > 0) {
        ssize_t n = s->o.socket_is_from ? write(s->to, s->buffer + s->start, s->len)
                                        : send(s->to, s->buffer + s->start, s->len, MSG_NOSIGNAL);
        if (n >= 0) {
            s->start += (size_t)n;
            s->len -= (size_t)n;
        } else if (errno == EAGAIN) {
            wait_for(s, s->to, EPOLLOUT);
            return;
        } else if (errno != EINTR && !(!s->o.socket_is_from && reconnect(s, errno))) {
            finish(s);
            return;
        }
    }
    if (s->ended) {
        end_output(s);
    } else {
        wait_for(s, s->from, EPOLLIN);
    }
}

static void fill(struct stream *s)
{
    ssize_t n = read(s->from, s->buffer, sizeof(s->buffer));
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return;
    }
    if (n < 0 && s->o.socket_is_from && reconnect(s, errno)) {
        wait_for(s, s->from, EPOLLIN);
        return;
    }
    /* A terminal whose other end nobody has open any more gives EIO. */
    s->ended = n <= 0;
    s->start = 0;
    s->len = n > 0 ? (size_t)n : 0;
    loop_remove(s->waiting);
    s->waiting = NULL;
    flush(s);
}

static void on_ready(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)events;
    struct stream *s = data;
    if (fd == s->from) {
        fill(s);
    } else if (s->timer == NULL) {
        flush(s);
    } else {
        char dropped[256];
        ssize_t n = read(fd, dropped, sizeof(dropped));
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            finish(s);
        }
    }
}

int stream_new(const struct stream_options *options, int from, int to, struct stream **ret_stream)
{
    AUTO(stream_freep) struct stream *s = malloc(sizeof(*s));
    if (s == NULL) {
        (void)close_fd(from);
        (void)close_fd(to);
        return -ENOMEM;
    }
    *s = (struct stream){.o = *options, .from = from, .to = to};
    int r = set_nonblock(from, true);
    r = r < 0 ? r : set_nonblock(to, true);
    r = r < 0 ? r : loop_add_fd(s->o.loop, from, EPOLLIN, on_ready, s, &s->waiting);
    if (r < 0) {
        return r;
    }
    *ret_stream = TAKE_PTR(s);
    return 0;
}

bool stream_is_busy(const struct stream *stream)
{
    return stream->from >= 0 && stream->len > 0;
}

void stream_free(struct stream *stream)
{
    if (stream == NULL) {
        return;
    }
    stream->o.done = NULL;
    finish(stream);
    free(stream);
}
