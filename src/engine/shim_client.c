#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"
#include "base/process.h"
#include "base/unix_socket.h"
#include "engine/shim.h"
#include "engine/shim_dns.h"

#define SOCKET_NAME "shim.sock"

/* A packet that did not fit into the socket of a slow client. */
struct shim_packet {
    struct shim_packet *next;
    bool tail; /* in its place the tail is sent, to its end */
    size_t len;
    char data[];
};

static void free_packets(struct shim_client *client)
{
    while (client->packets != NULL) {
        struct shim_packet *next = client->packets->next;
        free(client->packets);
        client->packets = next;
    }
}

/* What to wait for: output that it did not take yet; its input while that is wanted. */
static void client_watch(struct shim_client *client)
{
    bool held = client->shim->input_held && (client->roles & SHIM_INPUT) != 0;
    uint32_t events = held ? 0 : EPOLLIN;
    (void)loop_source_set_events(client->source,
                                 client->packets != NULL ? events | EPOLLOUT : events);
}

/* For the worker after this one: whom to wait for. */
static void note_roles(struct shim *shim)
{
    uint32_t roles = 0;
    for (const struct shim_client *c = shim->clients; c != NULL; c = c->next) {
        roles |= c->gone ? 0 : c->roles;
    }
    atomic_store(&shim->shared->roles, roles);
}

/* Only marks it: the list is walked by callers. */
static void client_drop(struct shim_client *client)
{
    struct shim *shim = client->shim;
    if (client->gone) {
        return;
    }
    client->gone = true;
    loop_remove(client->source);
    client->fd = close_fd(client->fd);
    free_packets(client);
    note_roles(shim);
    if ((client->roles & SHIM_INPUT) != 0) {
        shim_io_end_input(shim);
    }
    (void)shim_io_watch(shim);
    if (shim->phase == SHIM_PHASE_CREATED && (client->roles & SHIM_STARTER) != 0) {
        /* Who was to start it died: nobody ever will. */
        (void)pidfd_signal(shim->process_fd, SIGKILL);
    }
    if (shim->reaper == client) {
        /* It died before it could end the run: somebody else must. */
        shim->reaper = NULL;
        shim_end(shim);
    }
    if (shim->remover == client) {
        shim->remover = NULL;
    }
    shim_leave(shim);
}

bool shim_client_is_slow(const struct shim *shim)
{
    for (const struct shim_client *c = shim->clients; c != NULL; c = c->next) {
        if (c->packets != NULL) {
            return true;
        }
    }
    return false;
}

void shim_client_sweep(struct shim *shim)
{
    struct shim_client **link = &shim->clients;
    while (*link != NULL) {
        struct shim_client *client = *link;
        if (client->gone) {
            *link = client->next;
            free(client);
        } else {
            link = &client->next;
        }
    }
}

void shim_client_hold_input(struct shim *shim, bool hold)
{
    shim->input_held = hold;
    for (struct shim_client *c = shim->clients; c != NULL; c = c->next) {
        if (!c->gone) {
            client_watch(c);
        }
    }
}

static int send_packet(int fd, const void *data, size_t len)
{
    ssize_t n;
    do {
        n = send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

static int add_packet(struct shim_client *client, bool tail, const void *data, size_t len)
{
    struct shim_packet *packet = malloc(sizeof(*packet) + len);
    struct shim_packet **link = &client->packets;
    if (packet == NULL) {
        return -ENOMEM;
    }
    *packet = (struct shim_packet){.tail = tail, .len = len};
    if (len > 0) {
        memcpy(packet->data, data, len);
    }
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = packet;
    return 0;
}

void shim_client_send(struct shim_client *client, enum shim_message_type type, uint32_t value,
                      const void *data, size_t len)
{
    char packet[sizeof(struct shim_message) + SHIM_DATA_MAX];
    const struct shim_message message = {.type = type, .value = value};
    if (client->gone) {
        return;
    }
    len = MIN(len, SHIM_DATA_MAX);
    memcpy(packet, &message, sizeof(message));
    if (len > 0) {
        memcpy(packet + sizeof(message), data, len);
    }
    len += sizeof(message);
    int r = client->packets != NULL ? -EAGAIN : send_packet(client->fd, packet, len);
    if (r == 0) {
        return;
    }
    /*
     * What a slow client cannot take waits here. Reading output stops meanwhile, and what is in the
     * pipes at the workload's end goes by the tail.
     */
    if (r != -EAGAIN || add_packet(client, false, packet, len) < 0) {
        client_drop(client);
        return;
    }
    client_watch(client);
}

/* How much of len bytes of output from offset on the client has already; it has all of it then. */
static size_t pass_over(struct shim_client *client, uint32_t stream, uint64_t offset, size_t len)
{
    uint64_t at = client->at[stream];
    size_t skip = at > offset ? (size_t)MIN(at - offset, (uint64_t)len) : 0;
    client->at[stream] = MAX(at, offset + len);
    return skip;
}

void shim_client_output(struct shim *shim)
{
    const struct shim_shared *shared = shim->shared;
    uint32_t stream = atomic_load(&shared->stream);
    size_t len = atomic_load(&shared->len);
    for (struct shim_client *c = shim->clients; c != NULL; c = c->next) {
        size_t skip = pass_over(c, stream, atomic_load(&shared->offset), len);
        if ((c->roles & SHIM_WATCH) != 0 && skip < len) {
            shim_client_send(c, stream == 0 ? SHIM_STDOUT : SHIM_STDERR, 0, shared->data + skip,
                             len - skip);
        }
    }
    if (shim_client_is_slow(shim)) {
        (void)shim_io_watch(shim);
    }
}

void shim_client_tell(struct shim *shim, enum shim_message_type type, uint32_t value,
                      const void *data, size_t len)
{
    for (struct shim_client *c = shim->clients; c != NULL; c = c->next) {
        shim_client_send(c, type, value, data, len);
    }
}

/* 0 when the client has it all. */
static int send_tail(struct shim_client *client)
{
    struct {
        struct shim_message message;
        char data[SHIM_DATA_MAX];
    } packet = {.message = {.value = 0}};
    struct shim_tail_part part;
    for (;;) {
        uint64_t next = client->tail_at;
        int r = shim_tail_read(client->shim, &next, &part);
        if (r <= 0) {
            return r;
        }
        uint64_t at = client->at[part.stream];
        size_t skip = pass_over(client, part.stream, part.offset, part.len);
        packet.message.type = part.stream == 0 ? SHIM_STDOUT : SHIM_STDERR;
        memcpy(packet.data, part.data + skip, part.len - skip);
        r = skip == part.len
                ? 0
                : send_packet(client->fd, &packet, sizeof(packet.message) + part.len - skip);
        if (r < 0) {
            client->at[part.stream] = at;
            return r;
        }
        client->tail_at = next;
    }
}

static void flush_packets(struct shim_client *client)
{
    while (client->packets != NULL) {
        struct shim_packet *packet = client->packets;
        int r =
            packet->tail ? send_tail(client) : send_packet(client->fd, packet->data, packet->len);
        if (r == -EAGAIN) {
            return;
        }
        if (r < 0) {
            client_drop(client);
            return;
        }
        client->packets = packet->next;
        free(packet);
    }
    client_watch(client);
    (void)shim_io_watch(client->shim);
    shim_leave(client->shim);
}

static void client_tail(struct shim_client *client)
{
    if (client->gone || (client->roles & SHIM_WATCH) == 0) {
        return;
    }
    bool slow = client->packets != NULL;
    if (add_packet(client, true, NULL, 0) < 0) {
        client_drop(client);
    } else if (!slow) {
        flush_packets(client);
        if (!client->gone) {
            client_watch(client);
        }
    }
}

void shim_client_tail(struct shim *shim)
{
    for (struct shim_client *c = shim->clients; shim_tail_is_used(shim) && c != NULL; c = c->next) {
        client_tail(c);
    }
}

/* What it would know by now, had it been connected all the time. */
static void tell_phase(struct shim_client *client)
{
    const struct shim *shim = client->shim;
    bool starter = (client->roles & SHIM_RESUME) != 0 && (client->roles & SHIM_STARTER) != 0;
    const struct shim_build *create = &shim->shared->create;
    const struct shim_build *start = &shim->shared->start;
    if (starter && shim->phase == SHIM_PHASE_EXITED && (create->error != 0 || start->error != 0)) {
        const struct shim_build *failed = create->error != 0 ? create : start;
        shim_client_send(client, SHIM_FAILED, shim_build_exit_code(failed), &failed->err,
                         sizeof(failed->err));
        return;
    }
    if (starter && shim->phase == SHIM_PHASE_CREATED) {
        shim_client_send(client, SHIM_CREATED, (uint32_t)shim->status.pid, NULL, 0);
    } else if (starter && shim->phase != SHIM_PHASE_BUILDING) {
        shim_client_send(client, SHIM_STARTED, 0, NULL, 0);
    }
    if (shim->phase == SHIM_PHASE_EXITED) {
        shim_client_send(client, SHIM_EXITED, (uint32_t)shim->status.exit_code, NULL, 0);
    }
}

static void on_hello(struct shim_client *client, uint32_t roles, const char *data, size_t len)
{
    struct shim *shim = client->shim;
    struct shim_shared *shared = shim->shared;
    struct shim_seen seen = {{atomic_load(&shared->total[0]), atomic_load(&shared->total[1])}};
    if (shim->output_held) {
        /* It is with all who were there when it came. */
        seen.bytes[atomic_load(&shared->stream)] += atomic_load(&shared->len);
    }
    /* Whoever was to start it stays that: it may die before it says SHIM_START. */
    client->roles = roles | (client->roles & SHIM_STARTER);
    note_roles(shim);
    if ((roles & SHIM_RESUME) != 0 && len == sizeof(seen)) {
        memcpy(client->at, data, sizeof(client->at));
    } else {
        memcpy(client->at, seen.bytes, sizeof(client->at));
        if ((roles & SHIM_WATCH) != 0 && (seen.bytes[0] != 0 || seen.bytes[1] != 0)) {
            shim_client_send(client, SHIM_SEEN, 0, &seen, sizeof(seen));
        }
    }
    client_watch(client);
    if (shim->phase == SHIM_PHASE_EXITED && shim_tail_is_used(shim)) {
        client_tail(client);
    }
    tell_phase(client);
    if ((roles & SHIM_RESUME) != 0) {
        shim_client_is_back(shim, roles);
    }
}

/* The message in files_fd stays, for the next who asks and for the worker after us. */
static void on_files(struct shim_client *client)
{
    char c;
    int dir = -1;
    size_t count = 1;
    ssize_t n = unix_peek_fds(client->shim->files_fd, &c, sizeof(c), &dir, &count);
    const struct shim_message answer = {.type = SHIM_FILES};
    int r = n < 0 ? (int)n : n == 0 || count == 0 ? -ENOENT : 0;
    r = r < 0 ? r : unix_send_fds(client->fd, &answer, sizeof(answer), &dir, 1);
    (void)close_fd(dir);
    if (r < 0) {
        shim_client_send(client, SHIM_FILES, r == -EAGAIN ? ENOENT : (uint32_t)-r, NULL, 0);
    }
}

static void on_message(struct shim_client *client, const struct shim_message *message,
                       const char *data, size_t len)
{
    struct shim *shim = client->shim;
    switch ((enum shim_message_type)message->type) {
    case SHIM_HELLO:
        on_hello(client, message->value, data, len);
        break;
    case SHIM_START:
        if (shim->phase == SHIM_PHASE_CREATED) {
            shim_start(shim);
        }
        break;
    case SHIM_STDIN:
        if (len == 0) {
            shim_io_end_input(shim);
        } else {
            shim_io_input(shim, data, len);
        }
        break;
    case SHIM_RESIZE:
        shim_io_resize(shim, message->value);
        break;
    case SHIM_DNS: {
        struct err err = ERR_NONE;
        int r = shim->phase == SHIM_PHASE_RUNNING ? shim_dns_start(shim, &err) : 0;
        r = r == 0 && shim->phase == SHIM_PHASE_RUNNING ? shim_proxy_serve(shim, &err) : r;
        shim_client_send(client, SHIM_DNS, (uint32_t)-r, &err, sizeof(err));
        break;
    }
    case SHIM_FILES:
        on_files(client);
        break;
    case SHIM_REAPED:
        if (shim->remover == client) {
            shim_report_removed(shim);
        }
        if (shim->reaper == client) {
            shim->reaper = NULL;
            atomic_store(&shim->shared->ended, true);
            shim_leave(shim);
        }
        break;
    case SHIM_CREATED:
    case SHIM_STARTED:
    case SHIM_FAILED:
    case SHIM_STDOUT:
    case SHIM_STDERR:
    case SHIM_EXITED:
    case SHIM_ENDING:
    case SHIM_SEEN:
    default:
        /* Not for us, or from a newer isola: ignored. */
        break;
    }
}

static void on_client(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    struct shim_client *client = data;
    if ((events & EPOLLOUT) != 0 && client->packets != NULL) {
        flush_packets(client);
    }
    if (client->gone || (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) {
        return;
    }
    char packet[sizeof(struct shim_message) + SHIM_DATA_MAX];
    ssize_t n = recv(fd, packet, sizeof(packet), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n < (ssize_t)sizeof(struct shim_message)) {
        client_drop(client);
        return;
    }
    struct shim_message message;
    memcpy(&message, packet, sizeof(message));
    on_message(client, &message, packet + sizeof(message), (size_t)n - sizeof(message));
}

int shim_client_add(struct shim *shim, int fd, uint32_t roles)
{
    shim_client_sweep(shim);
    struct shim_client *client = calloc(1, sizeof(*client));
    if (client == NULL) {
        return -ENOMEM;
    }
    *client = (struct shim_client){.shim = shim, .fd = fd, .roles = roles};
    int r = loop_add_fd(shim->loop, fd, EPOLLIN, on_client, client, &client->source);
    if (r < 0) {
        free(client);
        return r;
    }
    client->next = shim->clients;
    shim->clients = client;
    return 0;
}

static void on_connection(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)events;
    struct shim *shim = data;
    int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client >= 0 && shim_client_add(shim, client, 0) < 0) {
        (void)close(client);
    }
}

int shim_client_open(struct shim *shim)
{
    char path[sizeof(SOCKET_NAME) + 64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", shim->run_fd, SOCKET_NAME);
    /* One shim a workload, which the engine's lock sees to: what is there is left over. */
    (void)unlinkat(shim->run_fd, SOCKET_NAME, 0);
    shim->listen_fd = unix_listen(path, SOCK_SEQPACKET, 0600);
    if (shim->listen_fd < 0) {
        return shim->listen_fd;
    }
    return set_nonblock(shim->listen_fd, true);
}

int shim_client_listen(struct shim *shim)
{
    return loop_add_fd(shim->loop, shim->listen_fd, EPOLLIN, on_connection, shim,
                       &shim->listen_source);
}
