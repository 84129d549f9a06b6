#include "cmd/input_queue.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "base/loop.h"
#include "base/macros.h"
#include "engine/shim_protocol.h"

static void shut(struct input_queue *queue)
{
    loop_remove(queue->source);
    queue->source = NULL;
    queue->fd = close_fd(queue->fd);
    buf_done(&queue->waiting);
}

int input_queue_init(struct input_queue *queue, struct loop *loop, int fd, enum input_target target,
                     void (*ready)(void *data), void *data)
{
    *queue = (struct input_queue){
        .loop = loop, .fd = fd, .target = target, .ready = ready, .data = data};
    return target == INPUT_STREAM ? set_nonblock(fd, true) : 0;
}

void input_queue_done(struct input_queue *queue)
{
    shut(queue);
}

bool input_queue_is_waiting(const struct input_queue *queue)
{
    return queue->source != NULL;
}

/* At most one packet. Returns how much of data went, or a negative errno. */
static ssize_t send_some(const struct input_queue *queue, const char *data, size_t len)
{
    ssize_t n;
    if (queue->target == INPUT_STREAM) {
        do {
            n = write(queue->fd, data, len);
        } while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
    }
    char packet[sizeof(struct shim_message) + SHIM_DATA_MAX];
    const struct shim_message message = {.type = SHIM_STDIN};
    len = MIN(len, SHIM_DATA_MAX);
    memcpy(packet, &message, sizeof(message));
    memcpy(packet + sizeof(message), data, len);
    do {
        n = send(queue->fd, packet, sizeof(message) + len, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : (ssize_t)len;
}

/* 0: all is sent; -EAGAIN: the rest waits; else the other side is gone. */
static int flush(struct input_queue *queue)
{
    size_t done = 0;
    ssize_t n = 0;
    while (done < queue->waiting.len) {
        n = send_some(queue, queue->waiting.data + done, queue->waiting.len - done);
        if (n < 0) {
            break;
        }
        done += (size_t)n;
    }
    if (done > 0) {
        memmove(queue->waiting.data, queue->waiting.data + done, queue->waiting.len - done);
        queue->waiting.len -= done;
    }
    if (n < 0) {
        return (int)n;
    }
    if (!queue->ended) {
        return 0;
    }
    if (queue->target == INPUT_STREAM) {
        shut(queue);
        return 0;
    }
    n = send_some(queue, "", 0);
    queue->ended = n < 0;
    return n < 0 ? (int)n : 0;
}

/* A shim's connection may be replaced. */
static bool is_broken_shim(const struct input_queue *queue, int r)
{
    return queue->target == INPUT_SHIM && (r == -EPIPE || r == -ECONNRESET);
}

static void on_room(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)fd;
    (void)events;
    struct input_queue *queue = data;
    int r = flush(queue);
    if (r == -EAGAIN) {
        return;
    }
    loop_remove(queue->source);
    queue->source = NULL;
    if (is_broken_shim(queue, r)) {
        return;
    }
    if (r < 0) {
        shut(queue);
    }
    queue->ready(queue->data);
}

int input_queue_watch(struct input_queue *queue)
{
    return queue->source != NULL || queue->fd < 0
               ? 0
               : loop_add_fd(queue->loop, queue->fd, EPOLLOUT, on_room, queue, &queue->source);
}

/* What could not be sent waits for room; without a way to wait for it nobody reads any more. */
static int send_or_wait(struct input_queue *queue)
{
    if (queue->source != NULL) {
        return 0;
    }
    int r = flush(queue);
    if (r == -EAGAIN) {
        r = input_queue_watch(queue);
    }
    if (is_broken_shim(queue, r)) {
        return 0;
    }
    if (r < 0) {
        shut(queue);
    }
    return r;
}

void input_queue_replace(struct input_queue *queue, int fd)
{
    loop_remove(queue->source);
    queue->source = NULL;
    queue->fd = close_fd(queue->fd);
    queue->fd = fd;
    if (queue->waiting.len > 0 || queue->ended) {
        (void)send_or_wait(queue);
    }
    if (queue->source == NULL) {
        queue->ready(queue->data);
    }
}

int input_queue_add(struct input_queue *queue, const char *data, size_t len)
{
    if (queue->fd < 0) {
        return -EPIPE;
    }
    int r = buf_add(&queue->waiting, data, len);
    return r < 0 ? r : send_or_wait(queue);
}

void input_queue_end(struct input_queue *queue)
{
    if (queue->fd >= 0) {
        queue->ended = true;
        (void)send_or_wait(queue);
    }
}
