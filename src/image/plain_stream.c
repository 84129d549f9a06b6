#include "image/plain_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/err.h"
#include "image/byte_queue.h"
#include "image/decompress.h"

#define READ_SIZE ((size_t)256 * 1024)

struct plain_stream {
    int fd;
    int stop_pipe[2]; /* its end wakes the thread out of a silent pipe */
    struct byte_queue queue;
    struct decompress *decompress;
    pthread_t thread;
    bool runs;
    struct err err;
};

static int room(void *data, void **ret_room, size_t *ret_size)
{
    return byte_queue_room(&((struct plain_stream *)data)->queue, ret_room, ret_size);
}

static int wrote(void *data, size_t len)
{
    return byte_queue_wrote(&((struct plain_stream *)data)->queue, len);
}

static int feed(struct plain_stream *s, char *buffer)
{
    for (;;) {
        struct pollfd fds[2] = {{.fd = s->fd, .events = POLLIN},
                                {.fd = s->stop_pipe[0], .events = POLLIN}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR) {
            return err_set(&s->err, errno, "read archive");
        }
        if (fds[1].revents != 0) {
            return -ECANCELED;
        }
        if (fds[0].revents == 0) {
            continue;
        }
        ssize_t n = read(s->fd, buffer, READ_SIZE);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (n < 0) {
            return err_set(&s->err, errno, "read archive");
        }
        int r = n > 0 ? decompress_push(s->decompress, buffer, (size_t)n, &s->err)
                      : decompress_finish(s->decompress, &s->err);
        if (r < 0 || n == 0) {
            return r < 0 ? r : byte_queue_end(&s->queue);
        }
    }
}

static void *feed_thread(void *data)
{
    struct plain_stream *s = data;
    AUTO(freep) char *buffer = malloc(READ_SIZE);
    int r = buffer != NULL ? feed(s, buffer) : err_set(&s->err, ENOMEM, "read archive");
    if (r < 0) {
        byte_queue_fail(&s->queue, r);
    }
    return NULL;
}

int plain_stream_new(int fd, uint64_t limit, struct plain_stream **ret_stream)
{
    AUTO(plain_stream_freep) struct plain_stream *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return -ENOMEM;
    }
    const struct decompress_sink sink = {.room = room, .wrote = wrote, .data = s};
    s->fd = fd;
    s->stop_pipe[0] = s->stop_pipe[1] = -1;
    if (byte_queue_init(&s->queue) < 0 || decompress_new(&sink, limit, &s->decompress) < 0) {
        return -ENOMEM;
    }
    if (pipe2(s->stop_pipe, O_CLOEXEC) < 0) {
        return -errno;
    }
    int r = pthread_create(&s->thread, NULL, feed_thread, s);
    if (r != 0) {
        return -r;
    }
    s->runs = true;
    *ret_stream = TAKE_PTR(s);
    return 0;
}

void plain_stream_free(struct plain_stream *s)
{
    if (s == NULL) {
        return;
    }
    if (s->runs) {
        byte_queue_fail(&s->queue, -ECANCELED);
        s->stop_pipe[1] = close_fd(s->stop_pipe[1]);
        (void)pthread_join(s->thread, NULL);
    }
    (void)close_fd(s->stop_pipe[0]);
    (void)close_fd(s->stop_pipe[1]);
    byte_queue_done(&s->queue);
    decompress_free(s->decompress);
    free(s);
}

ssize_t plain_stream_read(void *data, const void **ret_data, struct err *err)
{
    struct plain_stream *s = data;
    ssize_t n = byte_queue_read(&s->queue, ret_data);
    if (n < 0 && err != NULL) {
        if (s->err.code != 0) {
            *err = s->err;
        } else {
            (void)err_set(err, (int)-n, "read archive");
        }
    }
    return n;
}
