#include "engine/dns_forward.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/loop.h"
#include "base/str.h"
#include "engine/dns_message.h"

#define SERVERS_MAX ((size_t)3)
#define DNS_PORT 53
#define TRY_NS (2 * NS_PER_SEC)
#define TCP_IDLE_NS (10 * NS_PER_SEC)
#define PENDING_MAX ((size_t)64)
#define TCP_MAX ((size_t)16)
#define ANSWER_SIZE ((size_t)4096)

/* A question by UDP that waits for a server's answer. */
struct pending {
    struct dns_forwarder *f;
    struct pending *next;
    size_t server;
    int fd; /* connected to that server */
    struct loop_source *source;
    struct loop_source *timer;
    int reply_fd;
    union dns_socket_address asker;
    socklen_t asker_len;
    uint16_t id; /* towards the server */
    struct dns_query query;
    size_t len;
    uint8_t data[]; /* the question, with our id */
};

/* A TCP connection of a workload, and, while a question is forwarded, one to a server. */
struct stream {
    struct dns_forwarder *f;
    struct stream *next;
    int client_fd;
    int server_fd;
    size_t server;
    struct loop_source *client_source;
    struct loop_source *server_source;
    struct loop_source *timer;
    struct ip_address asker;
    dns_message_fn *fn;
    void *fn_data;
    /* Each with the two bytes of length before the message. */
    struct buf in;       /* from the client */
    struct buf question; /* on its way to the server */
    struct buf answer;   /* from the server */
    struct buf out;      /* to the client */
    size_t question_sent;
    size_t out_sent;
};

struct dns_forwarder {
    struct loop *loop;
    struct ip_address servers[SERVERS_MAX];
    size_t server_count;
    struct pending *pending; /* newest first */
    size_t pending_count;
    struct stream *streams;
    size_t stream_count;
};

int dns_forwarder_new(struct loop *loop, const struct strv *servers, struct dns_forwarder **ret)
{
    struct dns_forwarder *f = calloc(1, sizeof(*f));
    if (f == NULL) {
        return -ENOMEM;
    }
    f->loop = loop;
    for (size_t i = 0; i < servers->count && f->server_count < SERVERS_MAX; i++) {
        struct ip_address ip;
        if (ip_parse(servers->items[i], &ip) == 0) {
            f->servers[f->server_count++] = ip;
        }
    }
    *ret = f;
    return 0;
}

bool dns_forwarder_has_servers(const struct dns_forwarder *f)
{
    return f->server_count > 0;
}

/* ---- UDP ---- */

static void pending_close_server(struct pending *p)
{
    loop_remove(p->source);
    p->source = NULL;
    p->fd = close_fd(p->fd);
}

static void pending_free(struct pending *p)
{
    struct pending **link = &p->f->pending;
    while (*link != NULL && *link != p) {
        link = &(*link)->next;
    }
    if (*link == p) {
        *link = p->next;
        p->f->pending_count--;
    }
    pending_close_server(p);
    loop_remove(p->timer);
    free(p);
}

static void reply(const struct pending *p, uint8_t *data, size_t len)
{
    dns_set_id(data, p->query.id);
    (void)sendto(p->reply_fd, data, len, MSG_DONTWAIT, &p->asker.any, p->asker_len);
}

static void pending_fail(struct pending *p)
{
    uint8_t out[ANSWER_SIZE];
    struct dns_answer answer;
    dns_answer_begin(&answer, out, sizeof(out), p->data, &p->query);
    reply(p, out, dns_answer_end(&answer, &p->query, DNS_SERVER_FAILURE));
    pending_free(p);
}

static void on_server_udp(struct loop_source *source, int fd, uint32_t events, void *data);

/* Sends to p->server or one behind it. Frees p when there is none left. */
static void pending_try(struct pending *p)
{
    for (; p->server < p->f->server_count; p->server++) {
        pending_close_server(p);
        p->fd = dns_socket_connect(&p->f->servers[p->server], DNS_PORT, SOCK_DGRAM);
        if (p->fd < 0 || getrandom(&p->id, sizeof(p->id), 0) != (ssize_t)sizeof(p->id)) {
            continue;
        }
        dns_set_id(p->data, p->id);
        if (send(p->fd, p->data, p->len, MSG_DONTWAIT) == (ssize_t)p->len &&
            loop_add_fd(p->f->loop, p->fd, EPOLLIN, on_server_udp, p, &p->source) == 0) {
            (void)loop_timer_set(p->timer, TRY_NS);
            return;
        }
    }
    pending_fail(p);
}

static void on_server_udp(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)events;
    struct pending *p = data;
    uint8_t in[ANSWER_SIZE];
    ssize_t n = recv(fd, in, sizeof(in), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n < 0) { /* the server's port is closed */
        p->server++;
        pending_try(p);
        return;
    }
    if (!dns_answer_matches(in, (size_t)n, p->id, p->data, &p->query)) {
        return; /* forged or late: the true one may still come */
    }
    enum dns_code code = dns_answer_code(in);
    bool refused = code == DNS_SERVER_FAILURE || code == DNS_REFUSED || code == DNS_NOT_IMPLEMENTED;
    if (refused && p->server + 1 < p->f->server_count) {
        p->server++;
        pending_try(p);
        return;
    }
    reply(p, in, (size_t)n);
    pending_free(p);
}

static void on_pending_timer(struct loop_source *source, void *data)
{
    (void)source;
    struct pending *p = data;
    p->server++;
    pending_try(p);
}

void dns_forward_udp(struct dns_forwarder *f, int reply_fd, const union dns_socket_address *asker,
                     socklen_t asker_len, const uint8_t *data, size_t len,
                     const struct dns_query *query)
{
    if (f->pending_count >= PENDING_MAX) {
        struct pending *oldest = f->pending;
        while (oldest->next != NULL) {
            oldest = oldest->next;
        }
        pending_fail(oldest);
    }
    struct pending *p = malloc(sizeof(*p) + len);
    if (p == NULL) {
        return;
    }
    *p = (struct pending){
        .f = f,
        .fd = -1,
        .reply_fd = reply_fd,
        .asker = *asker,
        .asker_len = asker_len,
        .query = *query,
        .len = len,
    };
    memcpy(p->data, data, len);
    if (loop_add_timer(f->loop, -1, on_pending_timer, p, &p->timer) < 0) {
        free(p);
        return;
    }
    p->next = f->pending;
    f->pending = p;
    f->pending_count++;
    pending_try(p);
}

/* ---- TCP ---- */

static void stream_close_server(struct stream *s)
{
    loop_remove(s->server_source);
    s->server_source = NULL;
    s->server_fd = close_fd(s->server_fd);
    buf_done(&s->answer);
    s->question_sent = 0;
}

static void stream_free(struct stream *s)
{
    struct stream **link = &s->f->streams;
    while (*link != NULL && *link != s) {
        link = &(*link)->next;
    }
    if (*link == s) {
        *link = s->next;
        s->f->stream_count--;
    }
    stream_close_server(s);
    loop_remove(s->client_source);
    loop_remove(s->timer);
    (void)close_fd(s->client_fd);
    buf_done(&s->in);
    buf_done(&s->question);
    buf_done(&s->out);
    free(s);
}

/* The first whole message in buf, without its length; 0 when more bytes are needed. */
static size_t whole_message(const struct buf *buf)
{
    if (buf->len < 2) {
        return 0;
    }
    size_t len = (size_t)(uint8_t)buf->data[0] << 8 | (uint8_t)buf->data[1];
    return buf->len - 2 >= len ? len : 0;
}

static int add_message(struct buf *buf, const uint8_t *message, size_t len)
{
    const uint8_t head[2] = {(uint8_t)(len >> 8), (uint8_t)len};
    return buf_add(buf, head, sizeof(head)) < 0 ? -ENOMEM : buf_add(buf, message, len);
}

/* Sends what it can of buf from *sent on. 1: all sent; 0: later; negative: broken. */
static int send_some(int fd, const struct buf *buf, size_t *sent)
{
    while (*sent < buf->len) {
        ssize_t n = send(fd, buf->data + *sent, buf->len - *sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        }
        *sent += (size_t)n;
    }
    return 1;
}

/* Appends what is there. 1: something; 0: nothing now; negative: closed or broken. */
static int receive_some(int fd, struct buf *buf)
{
    uint8_t chunk[2048];
    ssize_t n = recv(fd, chunk, sizeof(chunk), MSG_DONTWAIT);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    if (n == 0) {
        return -EPIPE;
    }
    if (buf->len + (size_t)n > DNS_MESSAGE_MAX + 2 + sizeof(chunk)) {
        return -EMSGSIZE;
    }
    return buf_add(buf, chunk, (size_t)n) < 0 ? -ENOMEM : 1;
}

static void on_server_tcp(struct loop_source *source, int fd, uint32_t events, void *data);

/* Connects to s->server or one behind it; -EHOSTUNREACH when there is none left. */
static int stream_try(struct stream *s)
{
    for (; s->server < s->f->server_count; s->server++) {
        stream_close_server(s);
        s->server_fd = dns_socket_connect(&s->f->servers[s->server], DNS_PORT, SOCK_STREAM);
        if (s->server_fd >= 0 && loop_add_fd(s->f->loop, s->server_fd, EPOLLIN | EPOLLOUT,
                                             on_server_tcp, s, &s->server_source) == 0) {
            (void)loop_timer_set(s->timer, TRY_NS);
            return 0;
        }
    }
    return -EHOSTUNREACH;
}

/* Takes one message of the client. 1: more may follow at once; 0: wait; negative: close. */
static int stream_take_message(struct stream *s)
{
    size_t len = whole_message(&s->in);
    if (len == 0) {
        /* A length of nothing would be waited for without end. */
        return s->in.len >= 2 && s->in.data[0] == 0 && s->in.data[1] == 0 ? -EBADMSG : 0;
    }
    uint8_t out[ANSWER_SIZE];
    const uint8_t *message = (const uint8_t *)s->in.data + 2;
    ssize_t n = s->fn(s->fn_data, message, len, &s->asker, out);
    int r = n < 0 ? -EBADMSG : 0;
    if (n > 0) {
        r = add_message(&s->out, out, (size_t)n);
    } else if (n == 0) {
        buf_clear(&s->question);
        s->server = 0;
        r = add_message(&s->question, message, len);
        r = r < 0 ? r : stream_try(s);
    }
    if (r < 0) {
        return r;
    }
    memmove(s->in.data, s->in.data + 2 + len, s->in.len - 2 - len);
    s->in.len -= 2 + len;
    return n > 0;
}

/* Answers all that can be answered now, in order, and sends. Frees s when it is over. */
static void stream_run(struct stream *s)
{
    int r = 1;
    while (r > 0 && s->server_fd < 0 && s->out.len < DNS_MESSAGE_MAX) {
        r = stream_take_message(s);
    }
    if (r >= 0) {
        r = send_some(s->client_fd, &s->out, &s->out_sent);
    }
    if (r < 0) {
        stream_free(s);
        return;
    }
    if (r > 0) {
        buf_clear(&s->out);
        s->out_sent = 0;
    }
    /* Nothing more is read while a question is under way or an answer is not taken. */
    bool idle = s->server_fd < 0 && s->out.len == 0;
    (void)loop_source_set_events(s->client_source,
                                 (idle ? EPOLLIN : 0U) | (s->out.len > 0 ? EPOLLOUT : 0U));
    if (s->server_fd < 0) {
        (void)loop_timer_set(s->timer, TCP_IDLE_NS);
    }
}

static void on_client(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    struct stream *s = data;
    int r = (events & EPOLLIN) != 0 ? receive_some(fd, &s->in) : 0;
    if (r < 0 || (events & (EPOLLHUP | EPOLLERR)) != 0) {
        stream_free(s);
        return;
    }
    stream_run(s);
}

static void on_server_tcp(struct loop_source *source, int fd, uint32_t events, void *data)
{
    struct stream *s = data;
    int r = 0;
    if (s->question_sent < s->question.len) {
        r = send_some(fd, &s->question, &s->question_sent);
        if (r > 0) {
            (void)loop_source_set_events(source, EPOLLIN);
        }
    }
    if (r >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        r = receive_some(fd, &s->answer);
    }
    if (r < 0) {
        s->server++;
        if (stream_try(s) < 0) {
            stream_free(s);
        }
        return;
    }
    size_t len = whole_message(&s->answer);
    if (len == 0) {
        return;
    }
    r = buf_add(&s->out, s->answer.data, len + 2);
    stream_close_server(s);
    if (r < 0) {
        stream_free(s);
        return;
    }
    stream_run(s);
}

static void on_stream_timer(struct loop_source *source, void *data)
{
    (void)source;
    struct stream *s = data;
    s->server++;
    if (s->server_fd < 0 || stream_try(s) < 0) {
        stream_free(s);
    }
}

void dns_forward_tcp(struct dns_forwarder *f, int client_fd, const struct ip_address *asker,
                     dns_message_fn *fn, void *data)
{
    struct stream *s = f->stream_count < TCP_MAX ? malloc(sizeof(*s)) : NULL;
    if (s == NULL) {
        (void)close_fd(client_fd);
        return;
    }
    *s = (struct stream){
        .f = f,
        .client_fd = client_fd,
        .server_fd = -1,
        .asker = *asker,
        .fn = fn,
        .fn_data = data,
    };
    s->next = f->streams;
    f->streams = s;
    f->stream_count++;
    if (loop_add_timer(f->loop, TCP_IDLE_NS, on_stream_timer, s, &s->timer) < 0 ||
        loop_add_fd(f->loop, client_fd, EPOLLIN, on_client, s, &s->client_source) < 0) {
        stream_free(s);
    }
}

void dns_forwarder_free(struct dns_forwarder *f)
{
    if (f == NULL) {
        return;
    }
    while (f->pending != NULL) {
        pending_free(f->pending);
    }
    while (f->streams != NULL) {
        stream_free(f->streams);
    }
    free(f);
}
