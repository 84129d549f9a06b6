#include "vmm/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/loop.h"
#include "base/str.h"
#include "freestanding/byteorder.h"
#include "vmm/virtio/vsock.h"

/* As src/container/guest_protocol.h has them; the folders do not know each other. */
#define PORT_EVENTS 4
#define PORT_CONTROL 1024
#define MESSAGE_MAX 65536u

struct agent {
    struct agent_options options;
    int events_fd;
    struct loop_source *events;
    struct buf received;
    bool exited;
    int code;
    int64_t oom_kills;
    bool raw;
    struct termios before; /* of our terminal */
};

static void take_message(struct agent *agent, const char *text, size_t len)
{
    AUTO(json_unrefp) json_t *message = NULL;
    int64_t code = 0;
    if (json_parse(text, len, "agent", &message, NULL) < 0 || !json_is_object(message) ||
        !str_eq(json_string_value(json_object_get(message, "type")), "exited")) {
        return;
    }
    if (json_get_int(message, NULL, "code", 0, 255, &code, NULL) == 1 && !agent->exited) {
        agent->exited = true;
        agent->code = (int)code;
        (void)json_get_int(message, NULL, "oom_kills", 0, INT64_MAX, &agent->oom_kills, NULL);
        if (agent->options.ended != NULL) {
            agent->options.ended(agent->options.data);
        }
    }
}

/* False when the agent does not keep to the protocol. */
static bool take_messages(struct agent *agent)
{
    struct buf *in = &agent->received;
    size_t at = 0;
    while (in->len - at >= 4) {
        uint32_t len = load_le32(in->data + at);
        if (len > MESSAGE_MAX) {
            return false;
        }
        if (in->len - at - 4 < len) {
            break;
        }
        take_message(agent, in->data + at + 4, len);
        at += 4 + len;
    }
    if (at > 0) {
        memmove(in->data, in->data + at, in->len - at);
        in->len -= at;
    }
    return true;
}

static void on_events(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)events;
    struct agent *agent = data;
    char bytes[4096];
    ssize_t n = read(fd, bytes, sizeof(bytes));
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    /* It listens now, or never will. */
    vsock_hold(agent->options.vsock, false);
    if (n <= 0 || buf_add(&agent->received, bytes, (size_t)n) < 0 || !take_messages(agent)) {
        loop_remove(source);
        agent->events = NULL;
    }
}

/*
 * A connection for one message: whoever is at the other end of the Unix socket is this very loop,
 * so nothing may be waited for. The kernel keeps what is written until the loop takes it, and the
 * answers are of no interest.
 */
static void on_winch(const struct signalfd_siginfo *info, void *data)
{
    (void)info;
    struct agent *agent = data;
    struct winsize size;
    if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0) {
        return;
    }
    char text[128];
    char message[192];
    int len = snprintf(text, sizeof(text), "{\"type\":\"resize\",\"rows\":%u,\"columns\":%u}",
                       size.ws_row, size.ws_col);
    int head = snprintf(message, sizeof(message), "CONNECT %d\n", PORT_CONTROL);
    store_le32(message + head, (uint32_t)len);
    memcpy(message + head + 4, text, (size_t)len);
    AUTO(closep) int fd = vsock_connect_own(agent->options.vsock);
    if (fd >= 0) {
        ssize_t n = send(fd, message, (size_t)(head + 4 + len), MSG_DONTWAIT | MSG_NOSIGNAL);
        (void)n;
        (void)shutdown(fd, SHUT_WR);
    }
}

/* Our terminal only carries bytes: the one that the workload has is in the guest. */
static int make_raw(struct agent *agent)
{
    struct termios raw;
    if (tcgetattr(STDIN_FILENO, &agent->before) < 0) {
        return 0;
    }
    raw = agent->before;
    cfmakeraw(&raw);
    agent->raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
    return loop_add_signal(agent->options.loop, SIGWINCH, on_winch, agent);
}

static int bind_standard(struct virtio *vsock, struct err *err)
{
    int r = 0;
    for (int i = 0; r == 0 && i < 3; i++) {
        int fd = fcntl(i, F_DUPFD_CLOEXEC, 3);
        if (fd >= 0) {
            r = vsock_bind_port(vsock, (uint32_t)i + 1, i == 0 ? fd : -1, i == 0 ? -1 : fd, err);
        }
    }
    return r;
}

static int bind_events(struct agent *agent, struct virtio *vsock, struct err *err)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0) {
        return err_set(err, errno, "listen to the agent");
    }
    agent->events_fd = fds[0];
    int r = vsock_bind_port(vsock, PORT_EVENTS, -1, fds[1], err);
    if (r == 0) {
        r = loop_add_fd(agent->options.loop, agent->events_fd, EPOLLIN, on_events, agent,
                        &agent->events);
    }
    return r;
}

int agent_new(const struct agent_options *options, struct agent **ret, struct err *err)
{
    AUTO(agent_freep) struct agent *agent = calloc(1, sizeof(*agent));
    if (agent == NULL) {
        return err_set(err, ENOMEM, "listen to the agent");
    }
    agent->options = *options;
    agent->events_fd = -1;
    int r = make_raw(agent);
    r = r < 0 ? r : bind_standard(options->vsock, err);
    r = r < 0 ? r : bind_events(agent, options->vsock, err);
    if (r < 0) {
        return err_wrap(err, -r, "listen to the agent");
    }
    vsock_hold(options->vsock, options->boots);
    *ret = TAKE_PTR(agent);
    return 0;
}

void agent_free(struct agent *agent)
{
    if (agent == NULL) {
        return;
    }
    loop_remove(agent->events);
    (void)close_fd(agent->events_fd);
    if (agent->raw) {
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &agent->before);
    }
    buf_done(&agent->received);
    free(agent);
}

/* What came while the loop has ended already is still in the socket. */
static void read_rest(struct agent *agent)
{
    while (agent->events != NULL && !agent->exited) {
        char bytes[4096];
        ssize_t n = read(agent->events_fd, bytes, sizeof(bytes));
        if (n <= 0 || buf_add(&agent->received, bytes, (size_t)n) < 0 || !take_messages(agent)) {
            return;
        }
    }
}

bool agent_has_exit(struct agent *agent, int *ret_code)
{
    read_rest(agent);
    *ret_code = agent->code;
    return agent->exited;
}

int64_t agent_oom_kills(const struct agent *agent)
{
    return agent->oom_kills;
}
