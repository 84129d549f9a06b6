#include "engine/dns.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/str.h"
#include "engine/dns_forward.h"
#include "engine/dns_message.h"
#include "engine/dns_names.h"
#include "engine/dns_socket.h"
#include "engine/network.h"

#define DNS_PORT 53
/* Short: a workload that is replaced has another address at once. */
#define TTL 5
#define UDP_SIZE ((size_t)4096)

struct listener {
    struct dns *dns;
    const char *network; /* id, in config */
    int udp_fd;
    int tcp_fd;
    struct loop_source *udp_source;
    struct loop_source *tcp_source;
};

struct dns {
    struct loop *loop;
    struct dns_forwarder *forwarder;
    char *names_dir;
    char networks[8][NETWORK_ID_SIZE];
    struct listener listeners[8];
    size_t count;
};

static bool is_address_type(uint16_t type)
{
    return type == DNS_TYPE_A || type == DNS_TYPE_AAAA || type == DNS_TYPE_ANY;
}

static void find(const struct listener *l, const struct dns_wanted *wanted, struct dns_found *found)
{
    dns_names_find(l->dns->names_dir, l->network, wanted, found);
    for (size_t i = 0; i < found->other_count && !found->known; i++) {
        struct dns_found more = {0};
        dns_names_find(l->dns->names_dir, found->others[i], wanted, &more);
        if (more.known) {
            *found = more;
            break;
        }
    }
}

static bool type_wants(uint16_t type, int family)
{
    return type == DNS_TYPE_ANY || type == (family == AF_INET ? DNS_TYPE_A : DNS_TYPE_AAAA);
}

/* Answers that begin elsewhere each time spread the load of a shared alias. */
static size_t random_below(size_t count)
{
    uint32_t value = 0;
    if (count < 2 || getrandom(&value, sizeof(value), GRND_NONBLOCK) != (ssize_t)sizeof(value)) {
        return 0;
    }
    return value % count;
}

/* Returns the length of the answer in out, or 0 when the question is for other servers. */
static size_t answer_locally(const struct listener *l, const uint8_t *data,
                             const struct dns_query *query, const struct ip_address *asker,
                             uint8_t *out, size_t size)
{
    struct ip_address address = {0};
    struct dns_wanted wanted = {.name = query->name, .asker = asker};
    bool is_reverse = query->type == DNS_TYPE_PTR && dns_name_to_address(query->name, &address);
    bool in_class = query->class == DNS_CLASS_IN || query->class == DNS_CLASS_ANY;
    if (!in_class || query->name[0] == '\0' || (query->type == DNS_TYPE_PTR && !is_reverse)) {
        return 0;
    }
    if (is_reverse) {
        wanted.name = NULL;
        wanted.address = &address;
    }
    struct dns_found found = {0};
    find(l, &wanted, &found);
    if (!found.known) {
        return 0;
    }
    /* The name is ours: a type that it has not (MX...) is an empty answer, as Docker's is. */
    struct dns_answer answer;
    dns_answer_begin(&answer, out, size, data, query);
    if (is_reverse) {
        dns_answer_add_ptr(&answer, found.name, TTL);
    } else if (is_address_type(query->type)) {
        size_t first = random_below(found.count);
        for (size_t i = 0; i < found.count; i++) {
            const struct ip_address *ip = &found.addresses[(first + i) % found.count];
            if (type_wants(query->type, ip->family)) {
                dns_answer_add_address(&answer, ip, TTL);
            }
        }
    }
    return dns_answer_end(&answer, query, DNS_OK);
}

static size_t answer_error(const uint8_t *data, const struct dns_query *query, enum dns_code code,
                           uint8_t *out, size_t size)
{
    struct dns_answer answer;
    dns_answer_begin(&answer, out, size, data, query);
    return dns_answer_end(&answer, query, code);
}

/*
 * What can be said at once: an error, or names of ours. 0: forward. -1: say nothing. out has
 * UDP_SIZE bytes.
 */
static ssize_t answer_now(const struct listener *l, const uint8_t *data, size_t len,
                          const struct ip_address *asker, bool tcp, struct dns_query *query,
                          uint8_t *out)
{
    int code = dns_query_parse(data, len, query);
    if (code < 0) {
        return -1;
    }
    if (code != DNS_OK) {
        return (ssize_t)answer_error(data, query, (enum dns_code)code, out, UDP_SIZE);
    }
    size_t size = tcp ? UDP_SIZE : query->udp_max;
    size_t n = answer_locally(l, data, query, asker, out, size);
    if (n == 0 && !dns_forwarder_has_servers(l->dns->forwarder)) {
        /* Nobody else to ask: a short name does not exist; of others we cannot tell. */
        bool is_short = query->name[0] != '\0' && strchr(query->name, '.') == NULL;
        n = answer_error(data, query, is_short ? DNS_NO_SUCH_NAME : DNS_SERVER_FAILURE, out, size);
    }
    return (ssize_t)n;
}

static void on_udp(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)events;
    struct listener *l = data;
    uint8_t in[UDP_SIZE];
    uint8_t out[UDP_SIZE];
    /* A few at a time: stdio of the workload is served by the same loop. */
    for (int i = 0; i < 16; i++) {
        union dns_socket_address from;
        socklen_t from_len = sizeof(from);
        ssize_t n = recvfrom(fd, in, sizeof(in), MSG_DONTWAIT | MSG_TRUNC, &from.any, &from_len);
        if (n < 0) {
            return;
        }
        if ((size_t)n > sizeof(in)) {
            continue; /* no question is so long */
        }
        struct dns_query query;
        struct ip_address asker = dns_socket_ip(&from);
        ssize_t len = answer_now(l, in, (size_t)n, &asker, false, &query, out);
        if (len > 0) {
            (void)sendto(fd, out, (size_t)len, MSG_DONTWAIT, &from.any, from_len);
        } else if (len == 0) {
            dns_forward_udp(l->dns->forwarder, fd, &from, from_len, in, (size_t)n, &query);
        }
    }
}

static ssize_t on_tcp_message(void *data, const uint8_t *message, size_t len,
                              const struct ip_address *asker, uint8_t *out)
{
    struct dns_query query;
    return answer_now(data, message, len, asker, true, &query, out);
}

static void on_accept(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)events;
    struct listener *l = data;
    union dns_socket_address from;
    socklen_t from_len = sizeof(from);
    int client = accept4(fd, &from.any, &from_len, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client >= 0) {
        struct ip_address asker = dns_socket_ip(&from);
        dns_forward_tcp(l->dns->forwarder, client, &asker, on_tcp_message, l);
    }
}

static int open_listener(struct dns *dns, const struct network_dns *config, size_t i,
                         struct err *err)
{
    struct listener *l = &dns->listeners[i];
    char text[IP_TEXT_SIZE];
    (void)ip_format(&config->listen[i], text);
    memcpy(dns->networks[i], config->networks[i], sizeof(dns->networks[i]));
    *l = (struct listener){.dns = dns, .network = dns->networks[i], .udp_fd = -1, .tcp_fd = -1};
    dns->count = i + 1;
    l->udp_fd = dns_socket_listen(&config->listen[i], DNS_PORT, config->bridges[i], SOCK_DGRAM);
    l->tcp_fd = l->udp_fd < 0 ? l->udp_fd
                              : dns_socket_listen(&config->listen[i], DNS_PORT, config->bridges[i],
                                                  SOCK_STREAM);
    int r = MIN(l->udp_fd, l->tcp_fd);
    if (r < 0) {
        l->tcp_fd = -1;
        l->udp_fd = l->udp_fd < 0 ? -1 : l->udp_fd;
        (void)err_set(err, -r, "listen for DNS on %s port 53", text);
        if (r == -EADDRINUSE) {
            err_hint(err, "a name server of the host has that port on every address; bind it to "
                          "its own addresses (dnsmasq: bind-interfaces)");
        }
        return r;
    }
    r = loop_add_fd(dns->loop, l->udp_fd, EPOLLIN, on_udp, l, &l->udp_source);
    if (r >= 0) {
        r = loop_add_fd(dns->loop, l->tcp_fd, EPOLLIN, on_accept, l, &l->tcp_source);
    }
    return r < 0 ? err_set(err, -r, "listen for DNS on %s", text) : 0;
}

/* Visits netns_fd for the sockets; setns() is for this thread only. */
static int open_listeners(struct dns *dns, const struct network_dns *config, int netns_fd,
                          struct err *err)
{
    AUTO(closep) int home = -1;
    if (netns_fd >= 0) {
        home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        if (home < 0 || setns(netns_fd, CLONE_NEWNET) < 0) {
            return err_set(err, errno, "enter the network namespace for DNS");
        }
    }
    int r = 0;
    for (size_t i = 0; i < config->count && i < COUNT(dns->listeners) && r >= 0; i++) {
        r = open_listener(dns, config, i, err);
    }
    if (home >= 0 && setns(home, CLONE_NEWNET) < 0) {
        abort();
    }
    return r;
}

int dns_new(struct loop *loop, const struct network_dns *config, int netns_fd, struct dns **ret,
            struct err *err)
{
    AUTO(dns_freep) struct dns *dns = calloc(1, sizeof(*dns));
    if (dns == NULL) {
        return err_set(err, ENOMEM, "set up DNS");
    }
    dns->loop = loop;
    dns->names_dir = strdup(config->names_dir);
    int r = dns->names_dir == NULL ? -ENOMEM
                                   : dns_forwarder_new(loop, &config->servers, &dns->forwarder);
    if (r < 0) {
        return err_set(err, -r, "set up DNS");
    }
    r = open_listeners(dns, config, netns_fd, err);
    if (r < 0) {
        return r;
    }
    *ret = TAKE_PTR(dns);
    return 0;
}

void dns_free(struct dns *dns)
{
    if (dns == NULL) {
        return;
    }
    for (size_t i = 0; i < dns->count; i++) {
        struct listener *l = &dns->listeners[i];
        loop_remove(l->udp_source);
        loop_remove(l->tcp_source);
        (void)close_fd(l->udp_fd);
        (void)close_fd(l->tcp_fd);
    }
    dns_forwarder_free(dns->forwarder);
    free(dns->names_dir);
    free(dns);
}
