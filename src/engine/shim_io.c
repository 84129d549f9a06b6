#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "engine/shim.h"

/* What a terminal may hold for its reader. */
#define TERMINAL_BUFFER 65536

static void close_output(struct shim *shim, int stream)
{
    loop_remove(shim->output_source[stream]);
    shim->output_source[stream] = NULL;
    shim->output_fd[stream] = close_fd(shim->output_fd[stream]);
}

/* One read. Returns the count, 0 at the end, -EAGAIN when nothing is there. */
static ssize_t pump(struct shim *shim, int stream)
{
    char data[SHIM_DATA_MAX];
    ssize_t n = read(shim->output_fd[stream], data, sizeof(data));
    if (n < 0) {
        /* EIO: nobody has the terminal open any more. */
        return errno == EAGAIN || errno == EINTR ? -EAGAIN : 0;
    }
    if (n > 0) {
        log_write(&shim->log, stream == 0 ? LOG_STDOUT : LOG_STDERR, data, (size_t)n);
        shim_client_output(shim, stream == 0 ? SHIM_STDOUT : SHIM_STDERR, data, (size_t)n);
    }
    return n;
}

static void on_output(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)fd;
    (void)events;
    struct shim *shim = data;
    int stream = source == shim->output_source[0] ? 0 : 1;
    if (pump(shim, stream) == 0) {
        close_output(shim, stream);
    }
}

/*
 * What is in there now, and no more: a process that is not in the workload's own pid namespace may
 * have survived it and write on for ever.
 */
void shim_io_drain(struct shim *shim)
{
    for (int stream = 0; stream < 2; stream++) {
        if (shim->output_fd[stream] < 0) {
            continue;
        }
        int size = fcntl(shim->output_fd[stream], F_GETPIPE_SZ);
        ssize_t left = size > 0 ? size : TERMINAL_BUFFER;
        ssize_t n = 1;
        while (left > 0 && n > 0) {
            n = pump(shim, stream);
            left -= n;
        }
        close_output(shim, stream);
    }
}

void shim_io_pause(struct shim *shim, bool pause)
{
    for (int stream = 0; stream < 2; stream++) {
        if (shim->output_source[stream] != NULL) {
            (void)loop_source_set_events(shim->output_source[stream], pause ? 0 : EPOLLIN);
        }
    }
}

int shim_io_start(struct shim *shim)
{
    for (int stream = 0; stream < 2; stream++) {
        if (shim->output_fd[stream] < 0) {
            continue;
        }
        int r = set_nonblock(shim->output_fd[stream], true);
        if (r == 0) {
            r = loop_add_fd(shim->loop, shim->output_fd[stream], EPOLLIN, on_output, shim,
                            &shim->output_source[stream]);
        }
        if (r < 0) {
            return r;
        }
    }
    return shim->input_fd >= 0 ? set_nonblock(shim->input_fd, true) : 0;
}

static void close_input(struct shim *shim)
{
    loop_remove(shim->input_source);
    shim->input_source = NULL;
    shim->input_fd = close_fd(shim->input_fd);
    buf_done(&shim->input);
    shim_client_hold_input(shim, false);
}

static void on_input_ready(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)events;
    struct shim *shim = data;
    ssize_t n = write(fd, shim->input.data, shim->input.len);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n < 0) {
        close_input(shim);
        return;
    }
    memmove(shim->input.data, shim->input.data + n, shim->input.len - (size_t)n);
    shim->input.len -= (size_t)n;
    if (shim->input.len > 0) {
        return;
    }
    loop_remove(shim->input_source);
    shim->input_source = NULL;
    buf_done(&shim->input);
    shim_client_hold_input(shim, false);
    if (shim->input_ended) {
        close_input(shim);
    }
}

void shim_io_input(struct shim *shim, const char *data, size_t len)
{
    if (shim->input_fd < 0 || shim->input_ended) {
        return;
    }
    if (shim->input.len == 0) {
        ssize_t n = write(shim->input_fd, data, len);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            close_input(shim);
            return;
        }
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    if (len == 0) {
        return;
    }
    /* At most one packet waits here: clients are not read while it does. */
    if (buf_add(&shim->input, data, len) < 0) {
        close_input(shim);
        return;
    }
    shim_client_hold_input(shim, true);
    if (shim->input_source == NULL && loop_add_fd(shim->loop, shim->input_fd, EPOLLOUT,
                                                  on_input_ready, shim, &shim->input_source) < 0) {
        close_input(shim);
    }
}

void shim_io_end_input(struct shim *shim)
{
    if (shim->options->tty || shim->input_fd < 0) {
        return;
    }
    shim->input_ended = true;
    if (shim->input.len == 0) {
        close_input(shim);
    }
}

void shim_io_resize(struct shim *shim, uint32_t size)
{
    struct winsize window = {
        .ws_row = (unsigned short)(size >> 16),
        .ws_col = (unsigned short)(size & 0xffff),
    };
    if (shim->options->tty && shim->output_fd[0] >= 0 && size != 0) {
        (void)ioctl(shim->output_fd[0], TIOCSWINSZ, &window);
    }
}
