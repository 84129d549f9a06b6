#include "engine/shim_proxy.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/macros.h"
#include "engine/dns_socket.h"
#include "engine/network.h"

#define CHUNK_SIZE ((size_t)16384)
#define CONNECTIONS_MAX ((size_t)128)
#define FLOWS_MAX ((size_t)64)
#define FLOW_IDLE_NS (30 * NS_PER_SEC)
#define DATAGRAM_SIZE ((size_t)65536)
/* So often a workload that does not answer is asked: some 7 s. */
#define SYN_TRIES 2
/* So long the bytes of a workload that has ended are kept for its clients. */
#define LINGER_NS (5 * NS_PER_SEC)

struct listener {
    struct shim_proxy *proxy;
    struct loop_source *source;
    int fd;
    uint8_t protocol;
    uint16_t port; /* of the workload */
    size_t to;     /* UDP: which of its addresses is asked */
};

enum {
    CLIENT,
    WORKLOAD,
};

/* One of the two sockets of a connection, and what came from it and is not with the other yet. */
struct side {
    struct connection *connection;
    struct loop_source *source;
    int fd;
    char *data; /* NULL: none */
    size_t len;
    size_t sent;
    bool ended;   /* it sends no more */
    bool told_so; /* the other knows */
};

struct connection {
    struct shim_proxy *proxy;
    struct connection *next;
    struct side sides[2];
    uint16_t port;
    size_t to; /* which address of the workload is tried */
    bool connected;
};

/* A sender of datagrams, who gets the answers that come to a socket of its own. */
struct flow {
    struct shim_proxy *proxy;
    struct flow *next;
    struct listener *listener;
    union dns_socket_address sender;
    int fd;
    int64_t used_ns;
    struct loop_source *source;
    struct loop_source *timer;
};

struct shim_proxy {
    struct loop *loop;
    void (*on_idle)(void *data);
    void *data;
    struct ip_address to[2];
    size_t to_count;
    struct listener *listeners;
    size_t listener_count;
    struct connection *connections;
    size_t connection_count;
    struct flow *flows; /* newest first */
    size_t flow_count;
    struct loop_source *linger; /* the workload is gone */
};

static const struct ip_address loopback6 = {.family = AF_INET6, .bytes = {[15] = 1}};

/* ---- TCP ---- */

/* All of them while there is room. */
static void watch_listeners(struct shim_proxy *p)
{
    bool room = p->connection_count < CONNECTIONS_MAX;
    for (size_t i = 0; i < p->listener_count; i++) {
        struct listener *l = &p->listeners[i];
        if (l->source != NULL && l->protocol == IPPROTO_TCP) {
            (void)loop_source_set_events(l->source, room ? EPOLLIN : 0);
        }
    }
}

static void connection_free(struct connection *c)
{
    struct shim_proxy *p = c->proxy;
    struct connection **link = &p->connections;
    while (*link != NULL && *link != c) {
        link = &(*link)->next;
    }
    if (*link == c) {
        *link = c->next;
        p->connection_count--;
    }
    for (size_t i = 0; i < 2; i++) {
        loop_remove(c->sides[i].source);
        (void)close_fd(c->sides[i].fd);
        free(c->sides[i].data);
    }
    free(c);
    watch_listeners(p);
    if (p->linger != NULL && p->connections == NULL) {
        p->on_idle(p->data);
    }
}

/* An end that is no proper one is passed on as such: by a reset. */
static void connection_break(struct connection *c)
{
    const struct linger now = {.l_onoff = 1};
    for (size_t i = 0; i < 2; i++) {
        if (c->sides[i].fd >= 0) {
            (void)setsockopt(c->sides[i].fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        }
    }
    connection_free(c);
}

static void on_side(struct loop_source *source, int fd, uint32_t events, void *data);

/* One that is not waited for is taken out: the kernel would tell its hang-up again and again. */
static int watch_side(struct side *side, uint32_t events)
{
    if (events == 0) {
        loop_remove(TAKE_PTR(side->source));
        return 0;
    }
    return side->source != NULL ? loop_source_set_events(side->source, events)
                                : loop_add_fd(side->connection->proxy->loop, side->fd, events,
                                              on_side, side, &side->source);
}

/* To the next address that takes the call. The side's source is none. */
static int call_workload(struct connection *c)
{
    struct shim_proxy *p = c->proxy;
    struct side *side = &c->sides[WORKLOAD];
    for (; c->to < p->to_count; c->to++) {
        static const int tries = SYN_TRIES;
        static const int on = 1;
        side->fd = close_fd(side->fd);
        side->fd = dns_socket_connect(&p->to[c->to], c->port, SOCK_STREAM);
        if (side->fd >= 0) {
            (void)setsockopt(side->fd, IPPROTO_TCP, TCP_SYNCNT, &tries, sizeof(tries));
            (void)setsockopt(side->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
            return watch_side(side, EPOLLOUT);
        }
    }
    return -EHOSTUNREACH;
}

static void on_answer(struct connection *c)
{
    struct side *side = &c->sides[WORKLOAD];
    int e = 0;
    socklen_t len = sizeof(e);
    if (getsockopt(side->fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0 || e != 0) {
        loop_remove(TAKE_PTR(side->source));
        c->to++;
        if (call_workload(c) < 0) {
            connection_break(c);
        }
        return;
    }
    c->connected = true;
    if (watch_side(side, EPOLLIN) < 0 || watch_side(&c->sides[CLIENT], EPOLLIN) < 0) {
        connection_break(c);
    }
}

/* 1: all is sent; 0: later; negative: broken. */
static int send_some(int fd, const char *data, size_t len, size_t *sent)
{
    while (*sent < len) {
        ssize_t n = send(fd, data + *sent, len - *sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        }
        *sent += (size_t)n;
    }
    return 1;
}

static int send_kept(struct side *from, int to)
{
    int r = from->data == NULL ? 1 : send_some(to, from->data, from->len, &from->sent);
    if (r > 0) {
        free(TAKE_PTR(from->data));
    }
    return r;
}

/* 1: more may be there at once; 0: nothing is there now, or the other is slow. */
static int copy_chunk(struct side *from, int to)
{
    char chunk[CHUNK_SIZE];
    ssize_t n = recv(from->fd, chunk, sizeof(chunk), MSG_DONTWAIT);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    from->ended = n == 0;
    size_t sent = 0;
    int r = send_some(to, chunk, (size_t)n, &sent);
    if (r != 0 || sent == (size_t)n) {
        return r < 0 ? r : !from->ended;
    }
    from->len = (size_t)n - sent;
    from->sent = 0;
    from->data = malloc(from->len);
    if (from->data == NULL) {
        return -ENOMEM;
    }
    memcpy(from->data, chunk + sent, from->len);
    return 0;
}

/* From one side to the other, what goes now. */
static int copy(struct side *from, const struct side *to, bool readable)
{
    int r = send_kept(from, to->fd);
    if (r > 0 && readable && !from->ended) {
        r = copy_chunk(from, to->fd);
    }
    if (r >= 0 && from->ended && from->data == NULL && !from->told_so) {
        from->told_so = true;
        (void)shutdown(to->fd, SHUT_WR);
    }
    return r;
}

static uint32_t wanted(const struct side *side, const struct side *other)
{
    return (!side->ended && side->data == NULL ? (uint32_t)EPOLLIN : 0U) |
           (other->data != NULL ? (uint32_t)EPOLLOUT : 0U);
}

/* A chunk at a time, for others wait as well. */
static void connection_run(struct connection *c, const struct side *ready)
{
    struct side *client = &c->sides[CLIENT];
    struct side *workload = &c->sides[WORKLOAD];
    int r = copy(client, workload, ready == client);
    r = r < 0 ? r : copy(workload, client, ready == workload);
    bool over = workload->told_so && (client->told_so || c->proxy->linger != NULL);
    if (r >= 0 && over) {
        connection_free(c);
        return;
    }
    r = r < 0 ? r : watch_side(client, wanted(client, workload));
    r = r < 0 ? r : watch_side(workload, wanted(workload, client));
    if (r < 0) {
        connection_break(c);
    }
}

static void on_side(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)fd;
    struct side *side = data;
    struct connection *c = side->connection;
    if (!c->connected) {
        on_answer(c);
        return;
    }
    connection_run(c, (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 ? side : NULL);
}

static void on_call(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)events;
    const struct listener *l = data;
    struct shim_proxy *p = l->proxy;
    AUTO(closep) int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct connection *c = client < 0 ? NULL : malloc(sizeof(*c));
    if (c == NULL) {
        return;
    }
    static const int on = 1;
    (void)setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    *c = (struct connection){.proxy = p, .port = l->port, .next = p->connections};
    c->sides[CLIENT] = (struct side){.connection = c, .fd = TAKE_FD(client)};
    c->sides[WORKLOAD] = (struct side){.connection = c, .fd = -1};
    p->connections = c;
    p->connection_count++;
    watch_listeners(p);
    if (call_workload(c) < 0) {
        connection_break(c);
    }
}

/* ---- UDP ---- */

static void flow_free(struct flow *f)
{
    struct flow **link = &f->proxy->flows;
    while (*link != NULL && *link != f) {
        link = &(*link)->next;
    }
    if (*link == f) {
        *link = f->next;
        f->proxy->flow_count--;
    }
    loop_remove(f->source);
    loop_remove(f->timer);
    (void)close_fd(f->fd);
    free(f);
}

static void on_flow_timer(struct loop_source *timer, void *data)
{
    struct flow *f = data;
    int64_t idle = clock_monotonic_ns() - f->used_ns;
    if (idle >= FLOW_IDLE_NS) {
        flow_free(f);
    } else {
        (void)loop_timer_set(timer, FLOW_IDLE_NS - idle);
    }
}

static void on_flow(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)events;
    struct flow *f = data;
    char datagram[DATAGRAM_SIZE];
    ssize_t n = recv(fd, datagram, sizeof(datagram), MSG_DONTWAIT);
    if (n < 0 && errno == ECONNREFUSED) {
        /* Nobody listens there: whoever asks again is heard at the other address. */
        f->listener->to++;
        flow_free(f);
    } else if (n >= 0) {
        f->used_ns = clock_monotonic_ns();
        (void)sendto(f->listener->fd, datagram, (size_t)n, MSG_DONTWAIT, &f->sender.any,
                     sizeof(f->sender.v6));
    }
}

static struct flow *flow_new(struct listener *l, const union dns_socket_address *sender)
{
    struct shim_proxy *p = l->proxy;
    if (p->flow_count >= FLOWS_MAX) {
        struct flow *oldest = p->flows;
        for (struct flow *f = p->flows; f != NULL; f = f->next) {
            oldest = f->used_ns < oldest->used_ns ? f : oldest;
        }
        flow_free(oldest);
    }
    struct flow *f = malloc(sizeof(*f));
    if (f == NULL) {
        return NULL;
    }
    *f = (struct flow){.proxy = p, .next = p->flows, .listener = l, .sender = *sender, .fd = -1};
    p->flows = f;
    p->flow_count++;
    f->fd = dns_socket_connect(&p->to[l->to % p->to_count], l->port, SOCK_DGRAM);
    if (f->fd < 0 || loop_add_fd(p->loop, f->fd, EPOLLIN, on_flow, f, &f->source) < 0 ||
        loop_add_timer(p->loop, FLOW_IDLE_NS, on_flow_timer, f, &f->timer) < 0) {
        flow_free(f);
        return NULL;
    }
    return f;
}

static bool is_from(const struct flow *f, const struct listener *l,
                    const union dns_socket_address *sender)
{
    return f->listener == l && f->sender.v6.sin6_port == sender->v6.sin6_port &&
           memcmp(&f->sender.v6.sin6_addr, &sender->v6.sin6_addr, sizeof(sender->v6.sin6_addr)) ==
               0;
}

static void on_datagram(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)events;
    struct listener *l = data;
    union dns_socket_address sender = {0};
    socklen_t len = sizeof(sender.v6);
    char datagram[DATAGRAM_SIZE];
    ssize_t n = recvfrom(fd, datagram, sizeof(datagram), MSG_DONTWAIT, &sender.any, &len);
    if (n < 0 || len != sizeof(sender.v6) || l->proxy->to_count == 0) {
        return;
    }
    struct flow *f = l->proxy->flows;
    while (f != NULL && !is_from(f, l, &sender)) {
        f = f->next;
    }
    f = f != NULL ? f : flow_new(l, &sender);
    if (f != NULL) {
        f->used_ns = clock_monotonic_ns();
        (void)send(f->fd, datagram, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

/* ---- All of it ---- */

static int open_listener(const struct network_proxy_port *port)
{
    static const int on = 1;
    bool tcp = port->protocol == IPPROTO_TCP;
    int type = tcp ? SOCK_STREAM : SOCK_DGRAM;
    union dns_socket_address a = {.v6 = {.sin6_family = AF_INET6}};
    a.v6.sin6_port = htons(port->host_port);
    memcpy(&a.v6.sin6_addr, loopback6.bytes, sizeof(a.v6.sin6_addr));
    AUTO(closep) int fd = socket(AF_INET6, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    /* Connections that were there before do not matter; a listener still does. */
    if ((tcp && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0) ||
        bind(fd, &a.any, sizeof(a.v6)) < 0 || (tcp && listen(fd, SOMAXCONN) < 0)) {
        return -errno;
    }
    return TAKE_FD(fd);
}

static int add_listener(struct shim_proxy *p, const struct network_proxy_port *port,
                        struct err *err)
{
    struct listener *l = &p->listeners[p->listener_count];
    bool tcp = port->protocol == IPPROTO_TCP;
    int fd = open_listener(port);
    int r = fd < 0 ? fd : 0;
    if (r == 0) {
        *l =
            (struct listener){.proxy = p, .fd = fd, .protocol = port->protocol, .port = port->port};
        p->listener_count++;
        r = loop_add_fd(p->loop, fd, EPOLLIN, tcp ? on_call : on_datagram, l, &l->source);
    }
    /* Of the host, or a host without IPv6. */
    bool is_theirs = r == -EADDRINUSE || r == -EADDRNOTAVAIL || r == -EAFNOSUPPORT;
    if (r < 0 && (port->must || !is_theirs)) {
        return err_set(err, -r, "listen on [::1]:%u/%s", port->host_port, tcp ? "tcp" : "udp");
    }
    return 0;
}

void shim_proxy_follow(struct shim_proxy *proxy, const struct network_proxy *config)
{
    memcpy(proxy->to, config->to, sizeof(proxy->to));
    proxy->to_count = config->to_count;
    while (proxy->flows != NULL) {
        flow_free(proxy->flows);
    }
}

int shim_proxy_new(struct loop *loop, const struct network_proxy *config, void (*on_idle)(void *),
                   void *data, struct shim_proxy **ret_proxy, struct err *err)
{
    AUTO(shim_proxy_freep) struct shim_proxy *p = calloc(1, sizeof(*p));
    struct listener *listeners = calloc(config->count + 1, sizeof(*listeners));
    if (p == NULL || listeners == NULL) {
        free(listeners);
        return err_set(err, ENOMEM, "listen on [::1]");
    }
    *p =
        (struct shim_proxy){.loop = loop, .on_idle = on_idle, .data = data, .listeners = listeners};
    shim_proxy_follow(p, config);
    for (size_t i = 0; i < config->count; i++) {
        int r = add_listener(p, &config->ports[i], err);
        if (r < 0) {
            return r;
        }
    }
    *ret_proxy = TAKE_PTR(p);
    return 0;
}

static void close_listeners(struct shim_proxy *p)
{
    while (p->flows != NULL) {
        flow_free(p->flows);
    }
    for (; p->listener_count > 0; p->listener_count--) {
        struct listener *l = &p->listeners[p->listener_count - 1];
        loop_remove(l->source);
        (void)close_fd(l->fd);
    }
}

static void on_linger_end(struct loop_source *timer, void *data)
{
    (void)timer;
    struct shim_proxy *p = data;
    for (struct connection *c = p->connections, *next; c != NULL; c = next) {
        next = c->next;
        connection_break(c);
    }
}

void shim_proxy_stop(struct shim_proxy *proxy)
{
    close_listeners(proxy);
    for (struct connection *c = proxy->connections, *next; c != NULL; c = next) {
        next = c->next;
        if (!c->connected || c->sides[WORKLOAD].told_so) {
            connection_break(c);
        }
    }
    (void)loop_add_timer(proxy->loop, LINGER_NS, on_linger_end, proxy, &proxy->linger);
}

bool shim_proxy_is_busy(const struct shim_proxy *proxy)
{
    return proxy != NULL && proxy->linger != NULL && proxy->connections != NULL;
}

void shim_proxy_free(struct shim_proxy *proxy)
{
    if (proxy == NULL) {
        return;
    }
    loop_remove(TAKE_PTR(proxy->linger));
    while (proxy->connections != NULL) {
        connection_free(proxy->connections);
    }
    close_listeners(proxy);
    free(proxy->listeners);
    free(proxy);
}
