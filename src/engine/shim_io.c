#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/process.h"
#include "engine/shim.h"
#include "wall/wall.h"

/* What a terminal may hold for its reader. */
#define TERMINAL_BUFFER 65536

static void close_output(struct shim *shim, int stream)
{
    loop_remove(shim->output_source[stream]);
    shim->output_source[stream] = NULL;
    shim->output_fd[stream] = close_fd(shim->output_fd[stream]);
}

/*
 * Output that came: to the log and to the clients. It is done with when all have it, so that a
 * worker that is killed before leaves it to the next; a client says then what it has already.
 */
static void finish_chunk(struct shim *shim)
{
    struct shim_shared *shared = shim->shared;
    uint32_t stream = atomic_load(&shared->stream);
    atomic_store(&shared->total[stream], atomic_load(&shared->offset) + atomic_load(&shared->len));
    atomic_store(&shared->len, 0);
    log_done(&shim->log);
    shim->output_held = false;
}

/* At the workload's end: what slow clients do not have yet must not hold it up. */
static void keep_chunk(struct shim *shim)
{
    shim->output_held = false;
    if (shim->tail_failed || shim_tail_add(shim) < 0) {
        /* No memory: then it waits in ours alone, behind the tail. */
        if (!shim->tail_failed) {
            shim->tail_failed = true;
            shim_client_tail(shim);
        }
        shim_client_output(shim);
    }
    finish_chunk(shim);
}

static void deliver_chunk(struct shim *shim)
{
    struct shim_shared *shared = shim->shared;
    uint32_t stream = atomic_load(&shared->stream);
    log_write(&shim->log, stream == 0 ? LOG_STDOUT : LOG_STDERR, shared->data,
              atomic_load(&shared->len));
    if (shim_tail_is_used(shim) || (shim->awaited & SHIM_WATCH) != 0) {
        keep_chunk(shim); /* else this would come before what the tail has for somebody */
        return;
    }
    shim_client_output(shim);
    if (shim_client_is_slow(shim)) {
        shim->output_held = true;
    } else {
        finish_chunk(shim);
    }
}

/* What a worker that was killed had read from the terminal and not noted. */
static void take_terminal(struct shim_shared *shared)
{
    if (atomic_load(&shared->len) == 0 && atomic_load(&shared->reading)) {
        uint32_t len = sizeof(shared->data);
        while (len > 0 && shared->data[len - 1] == '\0') {
            len--;
        }
        atomic_store(&shared->dirty, len);
        atomic_store(&shared->len, len);
    }
    atomic_store(&shared->reading, false);
}

/* From the scratch pipe into shared memory. False when nothing is there. */
static bool take_chunk(struct shim *shim)
{
    struct shim_shared *shared = shim->shared;
    int left = 0;
    if (shim->options->tty) {
        take_terminal(shared);
    } else if (ioctl(shim->scratch[0], FIONREAD, &left) < 0) {
        left = 0;
    }
    uint32_t len = atomic_load(&shared->len);
    if (len == 0) {
        len = (uint32_t)left;
        atomic_store(&shared->len, len);
    }
    while (left > 0) {
        ssize_t n = read(shim->scratch[0], shared->data + len - (uint32_t)left, (size_t)left);
        if (n < 0 && errno != EINTR) {
            break;
        }
        left -= n > 0 ? (int)n : 0;
    }
    return len > 0;
}

/*
 * A kill takes effect when the read is over: then its bytes are in shared memory, though nobody has
 * noted how many they are. What take_terminal() cannot see is NULs at their end, which terminals
 * take for padding.
 */
static ssize_t read_terminal(struct shim *shim)
{
    struct shim_shared *shared = shim->shared;
    memset(shared->data, 0, atomic_load(&shared->dirty));
    atomic_store(&shared->dirty, 0);
    /* Both pages are present: the kernel gives up on one that it must fetch for who is killed. */
    volatile char *pages = shared->data;
    pages[0] = '\0';
    pages[sizeof(shared->data) - 1] = '\0';
    atomic_store(&shared->reading, true);
    ssize_t n = read(shim->output_fd[0], shared->data, sizeof(shared->data));
    int e = errno;
    if (n > 0) {
        atomic_store(&shared->dirty, (uint32_t)n);
        atomic_store(&shared->len, (uint32_t)n);
    }
    atomic_store(&shared->reading, false);
    /* EIO: nobody has the terminal open any more. */
    return n >= 0 ? n : e == EAGAIN || e == EINTR ? -EAGAIN : 0;
}

/* One read. Returns the count, 0 at the end, -EAGAIN when nothing is there. */
static ssize_t pump(struct shim *shim, int stream)
{
    struct shim_shared *shared = shim->shared;
    ssize_t n;
    atomic_store(&shared->stream, (uint32_t)stream);
    atomic_store(&shared->offset, atomic_load(&shared->total[stream]));
    if (shim->options->tty) {
        n = read_terminal(shim);
    } else {
        n = splice(shim->output_fd[stream], NULL, shim->scratch[1], NULL, sizeof(shared->data),
                   SPLICE_F_NONBLOCK);
        if (n < 0) {
            return errno == EAGAIN || errno == EINTR ? -EAGAIN : 0;
        }
        if (n > 0 && !take_chunk(shim)) {
            return -EAGAIN;
        }
    }
    if (n > 0) {
        deliver_chunk(shim);
    }
    return n;
}

static void on_output(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)fd;
    (void)events;
    struct shim *shim = data;
    int stream = source == shim->output_source[0] ? 0 : 1;
    /* Two streams may be ready at once, and the first found a slow client. */
    if (!shim->output_held && shim->awaited == 0 && pump(shim, stream) == 0) {
        close_output(shim, stream);
    }
}

/* What the worker before this one had in its hands. */
static void deliver_left(struct shim *shim)
{
    if (!shim->output_held && take_chunk(shim)) {
        deliver_chunk(shim);
    }
}

/*
 * What is in there now, and no more: a process that is not in the workload's own pid namespace may
 * have survived it and write on for ever. Once a client is slow the rest goes by the tail.
 */
void shim_io_drain(struct shim *shim)
{
    deliver_left(shim);
    for (int stream = 0; stream < 2; stream++) {
        if (shim->output_held) {
            keep_chunk(shim);
        }
        if (shim->output_fd[stream] < 0) {
            continue;
        }
        int size = fcntl(shim->output_fd[stream], F_GETPIPE_SZ);
        ssize_t left = size > 0 ? size : TERMINAL_BUFFER;
        ssize_t n = 1;
        while (left > 0 && n > 0) {
            n = pump(shim, stream);
            left -= n;
            if (shim->output_held) {
                keep_chunk(shim);
            }
        }
        close_output(shim, stream);
    }
    if (!shim->tail_failed) {
        shim_client_tail(shim);
    }
}

/* A source that is not read is taken out: the end of a pipe would be reported again and again. */
static int watch_output(struct shim *shim, int stream, bool on)
{
    struct loop_source **source = &shim->output_source[stream];
    if (shim->output_fd[stream] < 0 || on == (*source != NULL)) {
        return 0;
    }
    if (on) {
        return loop_add_fd(shim->loop, shim->output_fd[stream], EPOLLIN, on_output, shim, source);
    }
    loop_remove(TAKE_PTR(*source));
    return 0;
}

int shim_io_watch(struct shim *shim)
{
    bool on = shim->awaited == 0 && !shim_client_is_slow(shim);
    if (on && shim->output_held) {
        finish_chunk(shim);
    }
    int r = watch_output(shim, 0, on);
    return r < 0 ? r : watch_output(shim, 1, on);
}

int shim_io_go_on(struct shim *shim)
{
    deliver_left(shim);
    return shim_io_watch(shim);
}

int shim_io_start(struct shim *shim)
{
    int r = 0;
    if (atomic_load(&shim->shared->len) == 0) {
        log_done(&shim->log);
    }
    for (int stream = 0; r == 0 && stream < 2; stream++) {
        r = shim->output_fd[stream] < 0 ? 0 : set_nonblock(shim->output_fd[stream], true);
    }
    if (r == 0 && shim->input_fd >= 0) {
        r = set_nonblock(shim->input_fd, true);
    }
    if (r < 0 || shim->awaited != 0) {
        return r;
    }
    return shim->successor ? shim_io_go_on(shim) : shim_io_watch(shim);
}

static void close_input(struct shim *shim)
{
    loop_remove(shim->input_source);
    shim->input_source = NULL;
    shim->input_fd = close_fd(shim->input_fd);
    buf_done(&shim->input);
    shim_client_hold_input(shim, false);
    /* The waiter has an end, too. */
    atomic_store(&shim->shared->input_ended, true);
    (void)pidfd_signal(shim->waiter_fd, SIGUSR1);
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

/* A child asks the machine: it may take its time, and we may not. */
static void tell_size(const struct shim *shim, const struct winsize *window)
{
    const struct wall *wall;
    if (wall_find(shim->options->wall, &wall, NULL) < 0 || wall->resize == NULL ||
        shim->status.started_ns == 0 || fork() != 0) {
        return;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    signals_reset();
    shim_close_ends(shim);
    (void)wall->resize(shim->options->containers_dir, shim->options->id, window->ws_row,
                       window->ws_col, NULL);
    _exit(0);
}

void shim_io_tell_size(const struct shim *shim)
{
    struct winsize window;
    if (shim->options->tty && shim->output_fd[0] >= 0 &&
        ioctl(shim->output_fd[0], TIOCGWINSZ, &window) == 0 && window.ws_col > 0) {
        tell_size(shim, &window);
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
        tell_size(shim, &window);
    }
}
