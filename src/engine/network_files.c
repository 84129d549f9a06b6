/*
 * /etc/resolv.conf, /etc/hosts and /etc/hostname of a workload.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/io.h"
#include "engine/network_host.h"
#include "engine/network_rootless.h"

#define RESOLV_MAX ((size_t)65536)

/* What a resolv.conf says; resolv.conf(5). */
struct resolv {
    struct strv servers;
    struct strv search;
    struct strv options;
};

static void resolv_done(struct resolv *resolv)
{
    strv_done(&resolv->servers);
    strv_done(&resolv->search);
    strv_done(&resolv->options);
}
DEFINE_DONEP(struct resolv, resolv_done)

static int read_line(struct resolv *resolv, const char *line)
{
    AUTO(strv_donep) struct strv words = {0};
    int r = strv_split(&words, line, " \t\r");
    if (r < 0 || words.count < 2 || words.items[0][0] == '#' || words.items[0][0] == ';') {
        return r;
    }
    if (str_eq(words.items[0], "nameserver")) {
        return strv_add(&resolv->servers, words.items[1]);
    }
    struct strv *list = NULL;
    if (str_eq(words.items[0], "search") || str_eq(words.items[0], "domain")) {
        strv_done(&resolv->search); /* the last one counts */
        list = &resolv->search;
    } else if (str_eq(words.items[0], "options")) {
        list = &resolv->options;
    }
    for (size_t i = 1; list != NULL && i < words.count && r >= 0; i++) {
        r = strv_add(list, words.items[i]);
    }
    return r;
}

/* A host without the file has no name servers. */
static int read_resolv(const char *path, struct resolv *resolv, struct err *err)
{
    AUTO(buf_donep) struct buf text = {0};
    int r = read_file(path, RESOLV_MAX, &text);
    if (r == -ENOENT) {
        return 0;
    }
    if (r < 0) {
        return err_set(err, -r, "read '%s'", path);
    }
    AUTO(strv_donep) struct strv lines = {0};
    r = strv_split(&lines, text.data != NULL ? text.data : "", "\n");
    for (size_t i = 0; i < lines.count && r >= 0; i++) {
        r = read_line(resolv, lines.items[i]);
    }
    return r < 0 ? err_set(err, -r, "read '%s'", path) : 0;
}

/* "fe80::1%eth0" and 127.0.0.53 mean nothing inside another namespace. */
static bool server_is_reachable(const char *server)
{
    struct ip_address ip;
    return ip_parse(server, &ip) == 0 && !ip_is_loopback(&ip) && !ip_is_any(&ip) &&
           !(ip.family == AF_INET6 && ip.bytes[0] == 0xfe && (ip.bytes[1] & 0xc0) == 0x80);
}

static void drop_unreachable(struct strv *servers)
{
    size_t kept = 0;
    for (size_t i = 0; i < servers->count; i++) {
        if (server_is_reachable(servers->items[i])) {
            servers->items[kept++] = servers->items[i];
        } else {
            free(servers->items[i]);
        }
    }
    servers->count = kept;
    if (servers->items != NULL) {
        servers->items[kept] = NULL;
    }
}

/*
 * The network whose responder the workload asks: the first user-defined one; or the first at all
 * when the host's own servers cannot be reached from inside.
 */
static const struct network_endpoint *responder(const struct network_lease *lease,
                                                bool servers_reachable)
{
    for (size_t i = 0; i < lease->endpoint_count; i++) {
        if (lease->endpoints[i].user_defined) {
            return &lease->endpoints[i];
        }
    }
    return lease->endpoint_count > 0 && !servers_reachable ? &lease->endpoints[0] : NULL;
}

static int add_servers(struct strv *servers, const struct network_endpoint *e)
{
    strv_done(servers);
    int r = 0;
    for (size_t f = 0; f < 2 && r >= 0; f++) {
        char text[IP_TEXT_SIZE];
        if (e->gateway[f].family != 0) {
            r = strv_add(servers, ip_format(&e->gateway[f], text));
        }
    }
    return r;
}

static int print_resolv(const struct resolv *resolv, struct buf *out)
{
    int r = 0;
    for (size_t i = 0; i < resolv->servers.count && r >= 0; i++) {
        r = buf_printf(out, "nameserver %s\n", resolv->servers.items[i]);
    }
    const struct {
        const char *key;
        const struct strv *words;
    } lines[] = {{"search", &resolv->search}, {"options", &resolv->options}};
    for (size_t i = 0; i < COUNT(lines) && r >= 0; i++) {
        for (size_t j = 0; j < lines[i].words->count && r >= 0; j++) {
            r = buf_printf(out, "%s %s", j == 0 ? lines[i].key : "", lines[i].words->items[j]);
        }
        if (r >= 0 && lines[i].words->count > 0) {
            r = buf_add_char(out, '\n');
        }
    }
    return r;
}

static int make_resolv(const struct network_lease *lease, const struct network_names *names,
                       const char *path, struct buf *out, struct err *err)
{
    AUTO(resolv_donep) struct resolv resolv = {0};
    int r = read_resolv(path, &resolv, err);
    if (r < 0) {
        return r;
    }
    drop_unreachable(&resolv.servers);
    const struct network_endpoint *e = responder(lease, resolv.servers.count > 0);
    if (e != NULL) {
        r = add_servers(&resolv.servers, e);
    }
    if (r >= 0 && e != NULL && lease->rootless) {
        r = strv_add(&resolv.servers, ROOTLESS_DNS);
    }
    /* --dns on a user-defined network: the responder stays, and forwards there (network_dns_of). */
    if (r >= 0 && names->dns.count > 0 && (e == NULL || !e->user_defined)) {
        strv_done(&resolv.servers);
        r = strv_copy(&names->dns, &resolv.servers);
    }
    if (r >= 0 && names->dns_search.count > 0) {
        bool none = names->dns_search.count == 1 && str_eq(names->dns_search.items[0], ".");
        strv_done(&resolv.search);
        r = none ? 0 : strv_copy(&names->dns_search, &resolv.search);
    }
    if (r >= 0 && names->dns_options.count > 0) {
        strv_done(&resolv.options);
        r = strv_copy(&names->dns_options, &resolv.options);
    }
    return r < 0 || print_resolv(&resolv, out) < 0 ? err_set(err, ENOMEM, "make resolv.conf") : 0;
}

/* NAME:ADDRESS or NAME=ADDRESS; an IPv6 address may stand in brackets. */
static int add_host_line(const struct network_lease *lease, const char *text, struct buf *out,
                         struct err *err)
{
    size_t name = strcspn(text, "=:");
    const char *address = text + name + 1;
    char gateway[IP_TEXT_SIZE];
    struct ip_address ip;
    if (name == 0 || text[name] == '\0' || strcspn(text, " \t\n#") < name) {
        return err_say(err, EINVAL, "--add-host '%s': want NAME:ADDRESS", text);
    }
    if (str_eq(address, "host-gateway")) {
        const struct network_endpoint *e =
            lease->endpoint_count > 0 && !lease->rootless ? lease->endpoints : NULL;
        if (e == NULL) {
            return err_say(err, EINVAL, "--add-host '%s': host-gateway needs a bridge network",
                           text);
        }
        ip = e->gateway[0].family != 0 ? e->gateway[0] : e->gateway[1];
    } else if (ip_parse(address, &ip) < 0) {
        return err_say(err, EINVAL, "--add-host '%s': '%s' is not an address", text, address);
    }
    int r = buf_printf(out, "%s\t%.*s\n", ip_format(&ip, gateway), (int)name, text);
    return r < 0 ? err_set(err, ENOMEM, "--add-host") : 0;
}

static int make_hosts(const struct network_lease *lease, const struct network_names *names,
                      struct buf *out, struct err *err)
{
    int r = buf_add_str(out, "127.0.0.1\tlocalhost\n"
                             "::1\tlocalhost ip6-localhost ip6-loopback\n"
                             "fe00::0\tip6-localnet\n"
                             "ff00::0\tip6-mcastprefix\n"
                             "ff02::1\tip6-allnodes\n"
                             "ff02::2\tip6-allrouters\n");
    for (size_t i = 0; i < names->add_hosts.count && r >= 0; i++) {
        r = add_host_line(lease, names->add_hosts.items[i], out, err);
        if (r < 0) {
            return r;
        }
    }
    bool found = false;
    for (size_t i = 0; i < lease->endpoint_count && r >= 0; i++) {
        for (size_t f = 0; f < 2 && r >= 0; f++) {
            char text[IP_TEXT_SIZE];
            const struct ip_address *ip = &lease->endpoints[i].ip[f].address;
            if (ip->family == 0) {
                continue;
            }
            found = true;
            r = names->domainname != NULL && names->domainname[0] != '\0'
                    ? buf_printf(out, "%s\t%s.%s %s\n", ip_format(ip, text), names->hostname,
                                 names->domainname, names->hostname)
                    : buf_printf(out, "%s\t%s\n", ip_format(ip, text), names->hostname);
        }
    }
    if (r >= 0 && !found) {
        r = buf_printf(out, "127.0.1.1\t%s\n", names->hostname);
    }
    return r < 0 ? err_set(err, ENOMEM, "make hosts") : 0;
}

static int check_dns(const struct network_names *names, struct err *err)
{
    for (size_t i = 0; i < names->dns.count; i++) {
        struct ip_address ip;
        if (ip_parse(names->dns.items[i], &ip) < 0) {
            return err_say(err, EINVAL, "--dns '%s': not an address", names->dns.items[i]);
        }
    }
    return 0;
}

/* In host mode the workload sees what the host sees, and --dns and --add-host on top. */
static int copy_hosts(const struct network_lease *lease, const struct network_names *names,
                      struct buf *out, struct err *err)
{
    int r = read_file("/etc/hosts", RESOLV_MAX, out);
    if (r < 0 && r != -ENOENT) {
        return err_set(err, -r, "read '/etc/hosts'");
    }
    r = 0;
    for (size_t i = 0; i < names->add_hosts.count && r >= 0; i++) {
        r = add_host_line(lease, names->add_hosts.items[i], out, err);
    }
    return r;
}

int network_make_files(const struct network_request *request, const struct network_lease *lease,
                       const struct network_names *names, const char *resolv_path,
                       struct buf *ret_resolv, struct buf *ret_hosts, struct buf *ret_hostname,
                       struct err *err)
{
    bool is_host = request->mode == NETWORK_MODE_HOST;
    int r = check_dns(names, err);
    if (r >= 0 && ret_resolv != NULL) {
        bool plain = is_host && names->dns.count == 0 && names->dns_search.count == 0 &&
                     names->dns_options.count == 0;
        r = plain ? read_file(resolv_path, RESOLV_MAX, ret_resolv)
                  : make_resolv(lease, names, resolv_path, ret_resolv, err);
        if (plain && r < 0 && r != -ENOENT) {
            return err_set(err, -r, "read '%s'", resolv_path);
        }
        r = plain ? 0 : r;
    }
    if (r >= 0 && ret_hosts != NULL) {
        r = is_host ? copy_hosts(lease, names, ret_hosts, err)
                    : make_hosts(lease, names, ret_hosts, err);
    }
    if (r >= 0 && ret_hostname != NULL && buf_printf(ret_hostname, "%s\n", names->hostname) < 0) {
        return err_set(err, ENOMEM, "make hostname");
    }
    return r;
}

int network_dns_of(struct network_host *host, const struct network_lease *lease,
                   const struct network_names *names, const char *resolv_path,
                   struct network_dns *ret, struct err *err)
{
    AUTO(network_dns_donep) struct network_dns dns = {.names_dir = strdup(host->run)};
    AUTO(resolv_donep) struct resolv resolv = {0};
    int r = dns.names_dir != NULL ? read_resolv(resolv_path, &resolv, err)
                                  : err_set(err, ENOMEM, "set up DNS");
    if (r < 0) {
        return r;
    }
    /* The responder runs in the host's namespace, where 127.0.0.53 does mean something. */
    const struct strv *servers = names->dns.count > 0 ? &names->dns : &resolv.servers;
    if (strv_copy(servers, &dns.servers) < 0) {
        return err_set(err, ENOMEM, "set up DNS");
    }
    drop_unreachable(&resolv.servers);
    const struct network_endpoint *asked = responder(lease, resolv.servers.count > 0);
    for (size_t i = 0; i < lease->endpoint_count; i++) {
        const struct network_endpoint *e = &lease->endpoints[i];
        for (size_t f = 0; f < 2; f++) {
            if ((e->user_defined || e == asked) && e->gateway[f].family != 0 &&
                dns.count < COUNT(dns.listen)) {
                memcpy(dns.networks[dns.count], e->network, sizeof(e->network));
                memcpy(dns.bridges[dns.count], e->bridge, sizeof(e->bridge));
                dns.listen[dns.count++] = e->gateway[f];
            }
        }
    }
    *ret = dns;
    dns = (struct network_dns){0};
    return 0;
}
