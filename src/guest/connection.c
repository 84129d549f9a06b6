#include "guest/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/io.h"
#include "container/guest_protocol.h"
#include "guest/agent.h"

/* A host that asks and does not read is cut off. */
#define OUT_MAX ((size_t)4 << 20)
#define READ_SIZE ((size_t)4096)

static void flush(struct connection *c)
{
    while (c->sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);
        if (n >= 0) {
            c->sent += (size_t)n;
        } else if (errno == EAGAIN) {
            (void)loop_source_set_events(c->source, EPOLLIN | EPOLLOUT);
            return;
        } else if (errno != EINTR) {
            connection_close(c);
            return;
        }
    }
    buf_clear(&c->out);
    c->sent = 0;
    (void)loop_source_set_events(c->source, EPOLLIN);
    if (c->ending) {
        (void)shutdown(c->fd, SHUT_WR);
    }
}

/* True when bytes came. */
static bool receive(struct connection *c)
{
    char data[READ_SIZE];
    ssize_t n = recv(c->fd, data, sizeof(data), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    if (n <= 0 || (!c->ending && buf_add(&c->in, data, (size_t)n) < 0)) {
        connection_close(c);
        return false;
    }
    return !c->ending;
}

static void on_ready(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)fd;
    struct connection *c = data;
    struct agent *agent = c->agent;
    connection_sweep(agent);
    if ((events & EPOLLOUT) != 0) {
        flush(c);
    }
    bool more = c->fd >= 0 && (events & ~(uint32_t)EPOLLOUT) != 0 && receive(c);
    while (more && c->fd >= 0 && !c->ending) {
        json_t *message = NULL;
        struct err err = ERR_NONE;
        int r = guest_message_take(&c->in, &message, &err);
        if (r < 0) {
            connection_send_error(c, &err, false);
            connection_end(c);
        }
        if (r <= 0) {
            return;
        }
        request_handle(c, message);
        json_decref(message);
    }
}

int connection_new(struct agent *agent, int fd, struct connection **ret_connection)
{
    struct connection *c = calloc(1, sizeof(*c));
    int r = c == NULL ? -ENOMEM : set_nonblock(fd, true);
    r = r < 0 ? r : loop_add_fd(agent->loop, fd, EPOLLIN, on_ready, c, &c->source);
    if (r < 0) {
        (void)close_fd(fd);
        free(c);
        return r;
    }
    c->agent = agent;
    c->fd = fd;
    c->next = agent->connections;
    agent->connections = c;
    *ret_connection = c;
    return 0;
}

void connection_send(struct connection *c, json_t *message)
{
    if (c->fd < 0 || c->ending) {
        json_decref(message);
        return;
    }
    int r = message == NULL ? -ENOMEM : guest_message_add(&c->out, message);
    json_decref(message);
    if (r < 0 || c->out.len > OUT_MAX) {
        connection_close(c);
        return;
    }
    flush(c);
}

void connection_send_error(struct connection *c, const struct err *err, bool exec_failed)
{
    connection_send(c, guest_error_new(err, exec_failed));
}

void connection_end(struct connection *c)
{
    if (c->fd < 0 || c->ending) {
        return;
    }
    c->ending = true;
    flush(c);
}

void connection_close(struct connection *c)
{
    struct agent *agent = c->agent;
    if (c->fd < 0) {
        return;
    }
    loop_remove(c->source);
    c->fd = close_fd(c->fd);
    for (struct connection **link = &agent->connections; *link != NULL; link = &(*link)->next) {
        if (*link == c) {
            *link = c->next;
            break;
        }
    }
    c->next = agent->closed;
    agent->closed = c;
    if (agent->events == c) {
        agent->events = NULL;
    }
    exec_abandon(agent, c);
    agent_connection_closed(agent);
}

void connection_sweep(struct agent *agent)
{
    while (agent->closed != NULL) {
        struct connection *c = agent->closed;
        agent->closed = c->next;
        buf_done(&c->in);
        buf_done(&c->out);
        free(c);
    }
}
