#include "guest/guest_stdio.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/macros.h"
#include "base/unix_socket.h"

static const char *const names[] = {"stdin", "stdout", "stderr"};

static int make_pipe(struct guest_stdio *stdio, int i)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0) {
        return -errno;
    }
    stdio->theirs[i] = fds[i == 0 ? 0 : 1];
    stdio->ours[i] = fds[i == 0 ? 1 : 0];
    return 0;
}

static int open_one(struct guest_stdio *stdio, int i, bool terminal, struct err *err)
{
    if (stdio->ports[i] == 0) {
        stdio->theirs[i] =
            terminal ? -1 : open("/dev/null", (i == 0 ? O_RDONLY : O_WRONLY) | O_CLOEXEC);
        return !terminal && stdio->theirs[i] < 0 ? err_set(err, errno, "open '/dev/null'") : 0;
    }
    int fd = transport_connect(stdio->transport, stdio->ports[i]);
    if (fd < 0) {
        return err_set(err, -fd, "%s: connect to port %u of the host", names[i], stdio->ports[i]);
    }
    stdio->sockets[i] = fd;
    int r = terminal ? 0 : make_pipe(stdio, i);
    return r < 0 ? err_set(err, -r, "%s: make a pipe", names[i]) : 0;
}

int guest_stdio_open(const struct guest_stdio_options *options, struct guest_stdio *ret,
                     struct err *err)
{
    *ret = (struct guest_stdio){
        .loop = options->loop,
        .transport = options->transport,
        .theirs = {-1, -1, -1},
        .sockets = {-1, -1, -1},
        .ours = {-1, -1, -1},
        .console = {-1, -1},
        .terminal_fd = -1,
        .ports = {options->ports[0], options->ports[1], options->terminal ? 0 : options->ports[2]},
        .reconnect = options->reconnect,
        .drained = options->drained,
        .data = options->data,
    };
    if (options->terminal && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret->console) < 0) {
        return err_set(err, errno, "make a socket pair");
    }
    int r = 0;
    for (int i = 0; r == 0 && i < 3; i++) {
        r = open_one(ret, i, options->terminal, err);
    }
    return r;
}

void guest_stdio_fill(const struct guest_stdio *stdio, struct container_io *io)
{
    for (size_t i = 0; i < 3; i++) {
        io->stdio[i] = stdio->theirs[i];
    }
    io->console_fd = stdio->console[1];
}

static int receive_terminal(struct guest_stdio *stdio)
{
    char data[256];
    size_t count = 1;
    stdio->console[1] = close_fd(stdio->console[1]);
    ssize_t n = unix_recv_fds(stdio->console[0], data, sizeof(data), &stdio->terminal_fd, &count);
    stdio->console[0] = close_fd(stdio->console[0]);
    if (n < 0 || count != 1) {
        stdio->terminal_fd = -1;
        return n < 0 ? (int)n : -EPROTO;
    }
    for (size_t i = 0; i < 2; i++) {
        if (stdio->sockets[i] >= 0) {
            stdio->ours[i] = fcntl(stdio->terminal_fd, F_DUPFD_CLOEXEC, 3);
            if (stdio->ours[i] < 0) {
                return -errno;
            }
        }
    }
    return 0;
}

static void on_output_done(void *data)
{
    struct guest_stdio *stdio = data;
    stdio->open_outputs--;
    if (stdio->open_outputs == 0 && stdio->drained != NULL) {
        stdio->drained(stdio->data);
    }
}

int guest_stdio_attach(struct guest_stdio *stdio, struct err *err)
{
    for (size_t i = 0; i < 3; i++) {
        stdio->theirs[i] = close_fd(stdio->theirs[i]);
    }
    int r = stdio->console[0] >= 0 ? receive_terminal(stdio) : 0;
    if (r < 0) {
        return err_set(err, -r, "receive the terminal");
    }
    for (size_t i = 0; i < 3; i++) {
        const struct stream_options options = {
            .loop = stdio->loop,
            .transport = stdio->transport,
            .port = stdio->ports[i],
            .socket_is_from = i == 0,
            .reconnect = stdio->reconnect,
            .done = i == 0 ? NULL : on_output_done,
            .data = stdio,
        };
        if (stdio->sockets[i] < 0) {
            continue;
        }
        int from = i == 0 ? TAKE_FD(stdio->sockets[i]) : TAKE_FD(stdio->ours[i]);
        int to = i == 0 ? TAKE_FD(stdio->ours[i]) : TAKE_FD(stdio->sockets[i]);
        r = stream_new(&options, from, to, &stdio->streams[i]);
        if (r < 0) {
            return err_set(err, -r, "%s: start copying", names[i]);
        }
        stdio->open_outputs += i == 0 ? 0 : 1;
    }
    return 0;
}

bool guest_stdio_is_busy(const struct guest_stdio *stdio)
{
    return (stdio->streams[1] != NULL && stream_is_busy(stdio->streams[1])) ||
           (stdio->streams[2] != NULL && stream_is_busy(stdio->streams[2]));
}

int guest_stdio_resize(const struct guest_stdio *stdio, unsigned rows, unsigned columns,
                       struct err *err)
{
    const struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};
    if (stdio->terminal_fd < 0) {
        return err_say(err, ENOTTY, "the process has no terminal");
    }
    return ioctl(stdio->terminal_fd, TIOCSWINSZ, &size) < 0
               ? err_set(err, errno, "resize the terminal")
               : 0;
}

void guest_stdio_done(struct guest_stdio *stdio)
{
    stdio->drained = NULL;
    for (size_t i = 0; i < 3; i++) {
        stream_free(stdio->streams[i]);
        stdio->streams[i] = NULL;
        stdio->theirs[i] = close_fd(stdio->theirs[i]);
        stdio->sockets[i] = close_fd(stdio->sockets[i]);
        stdio->ours[i] = close_fd(stdio->ours[i]);
    }
    stdio->console[0] = close_fd(stdio->console[0]);
    stdio->console[1] = close_fd(stdio->console[1]);
    stdio->terminal_fd = close_fd(stdio->terminal_fd);
}
