/*
 * Connections of the HTTP server.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/loop.h"
#include "base/macros.h"
#include "base/unix_socket.h"
#include "vmm/http.h"

struct connection {
    struct http_server *server;
    struct loop_source *source;
    int fd;             /* -1: free */
    uint64_t active_at; /* in calls of the server: the longest silent one makes room */
    bool closing;       /* when everything is sent */
    bool continued;
    struct buf in, out;
    size_t sent; /* of out */
};

struct http_server {
    struct loop *loop;
    http_handler_fn *handler;
    void *data;
    char *path;
    int fd;
    struct loop_source *source;
    uint64_t calls;
    struct connection connection[HTTP_CONNECTIONS_MAX];
};

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {204, "No Content"},
        {400, "Bad Request"},
        {404, "Not Found"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {417, "Expectation Failed"},
        {431, "Request Header Fields Too Large"},
        {501, "Not Implemented"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < COUNT(reasons); i++) {
        if (reasons[i].status == status) {
            return reasons[i].reason;
        }
    }
    return "Error";
}

static void drop(struct connection *c)
{
    loop_remove(c->source);
    c->source = NULL;
    c->fd = close_fd(c->fd);
    buf_done(&c->in);
    buf_done(&c->out);
    c->in = c->out = (struct buf){0};
    c->sent = 0;
    c->closing = c->continued = false;
}

/* -1: the connection is of no use any more. */
static int flush(struct connection *c)
{
    while (c->sent < c->out.len) {
        ssize_t n =
            send(c->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno == EAGAIN ? 0 : -1;
        }
        c->sent += (size_t)n;
    }
    buf_clear(&c->out);
    c->sent = 0;
    return c->closing ? -1 : 0;
}

static int put_answer(struct connection *c, const struct http_answer *answer)
{
    int r =
        buf_printf(&c->out, "HTTP/1.1 %d %s\r\nServer: isola-vmm\r\nConnection: %s\r\n",
                   answer->status, reason_of(answer->status), c->closing ? "close" : "keep-alive");
    if (r == 0 && answer->status != 204) {
        r = buf_printf(&c->out, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                       answer->body.len);
    }
    r = r < 0 ? r : buf_add_str(&c->out, "\r\n");
    return r < 0 || answer->body.len == 0 ? r
                                          : buf_add(&c->out, answer->body.data, answer->body.len);
}

static int refuse(struct connection *c, int status)
{
    struct http_answer answer = {.status = status};
    int r = buf_printf(&answer.body, "{\"fault_message\": \"%s\"}", reason_of(status));
    c->closing = true;
    buf_clear(&c->in);
    r = r < 0 ? r : put_answer(c, &answer);
    buf_done(&answer.body);
    return r;
}

/* One request out of what came in, when the last answer is gone. 1: served; 0: nothing whole. */
static int serve(struct connection *c)
{
    struct http_request request;
    struct http_answer answer = {.status = 204};
    size_t used = 0;
    if (c->out.len > 0 || c->closing || c->in.len == 0) {
        return 0;
    }
    int r = http_parse(c->in.data, c->in.len, &request, &used);
    if (r == -EAGAIN) {
        if (!request.waiting || c->continued) {
            return 0;
        }
        c->continued = true;
        return buf_add_str(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
    }
    if (r != 0) {
        return refuse(c, r);
    }
    c->continued = false;
    c->closing = !request.keep;
    c->server->handler(&request, &answer, c->server->data);
    r = put_answer(c, &answer);
    buf_done(&answer.body);
    memmove(c->in.data, c->in.data + used, c->in.len - used);
    c->in.len -= used;
    return r < 0 ? r : 1;
}

/* 1: something came; 0: not now; -1: the other side is done or gone. */
static int receive(struct connection *c)
{
    size_t room = HTTP_HEAD_MAX + HTTP_BODY_MAX - c->in.len;
    char data[4096];
    if (room == 0) {
        return 0;
    }
    ssize_t n = recv(c->fd, data, room < sizeof(data) ? room : sizeof(data), MSG_DONTWAIT);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    }
    return n == 0 || buf_add(&c->in, data, (size_t)n) < 0 ? -1 : 1;
}

static void on_connection(struct loop_source *source, int fd, uint32_t events, void *data)
{
    struct connection *c = data;
    (void)fd;
    (void)events;
    c->active_at = ++c->server->calls;
    int r = flush(c);
    /* While an answer is on its way nothing is read: a client that does not read is not served. */
    bool ended = r == 0 && c->out.len == 0 && receive(c) < 0;
    for (int served = 1; r == 0 && served > 0;) {
        served = serve(c);
        r = served < 0 ? -1 : flush(c);
    }
    /* Who has said all that he has to say still gets his answer. */
    if (r == 0 && ended) {
        c->closing = true;
        r = c->out.len == 0 ? -1 : 0;
    }
    if (r < 0) {
        drop(c);
        return;
    }
    (void)loop_source_set_events(source, c->out.len > 0 ? EPOLLOUT : EPOLLIN);
}

static struct connection *longest_silent(struct http_server *server)
{
    struct connection *place = &server->connection[0];
    for (size_t i = 0; i < HTTP_CONNECTIONS_MAX && place->fd >= 0; i++) {
        struct connection *c = &server->connection[i];
        place = c->fd < 0 || c->active_at < place->active_at ? c : place;
    }
    return place;
}

static void on_accept(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)events;
    struct http_server *server = data;
    struct connection *place = longest_silent(server);
    AUTO(closep) int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client < 0 && errno != EMFILE && errno != ENFILE) {
        return;
    }
    /* Without a descriptor for it the next call has one. */
    drop(place);
    if (client < 0) {
        return;
    }
    place->active_at = ++server->calls;
    place->server = server;
    if (loop_add_fd(server->loop, client, EPOLLIN, on_connection, place, &place->source) == 0) {
        place->fd = TAKE_FD(client);
    }
}

int http_server_new(const char *path, struct loop *loop, http_handler_fn *handler, void *data,
                    struct http_server **ret, struct err *err)
{
    AUTO(http_server_freep) struct http_server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        return err_set(err, ENOMEM, "listen on '%s'", path);
    }
    server->fd = -1;
    for (size_t i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
        server->connection[i].fd = -1;
    }
    server->loop = loop;
    server->handler = handler;
    server->data = data;
    int r = unix_listen(path, SOCK_STREAM, 0600);
    if (r >= 0) {
        server->fd = r;
        server->path = strdup(path);
        r = server->path == NULL ? -ENOMEM : 0;
    }
    r = r < 0 ? r : set_nonblock(server->fd, true);
    r = r < 0 ? r : loop_add_fd(loop, server->fd, EPOLLIN, on_accept, server, &server->source);
    if (r < 0) {
        return err_set(err, -r, "listen on '%s'", path);
    }
    *ret = TAKE_PTR(server);
    return 0;
}

void http_server_free(struct http_server *server)
{
    if (server == NULL) {
        return;
    }
    for (size_t i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
        drop(&server->connection[i]);
    }
    loop_remove(server->source);
    if (server->path != NULL) {
        (void)unlink(server->path);
    }
    (void)close_fd(server->fd);
    free(server->path);
    free(server);
}
