/*
 * nettool - drives src/engine/network for tests and bench, with any process as the workload.
 *
 *   nettool [-n NETWORK]... [-p PORT]... [OPTION]... attach ID NAME PID   reserve and attach
 *   nettool detach ID           detach and release, as at the end of a workload
 *   nettool reattach ID PID     attach what is reserved
 *   nettool [--subnet NET] [--ipv6] [--internal] create NETWORK, remove NETWORK
 *   nettool drop ID             forget the database rows only: what a crash leaves
 *   nettool connect ID NETWORK PID, disconnect ID NETWORK PID
 *   nettool show ID             NetworkSettings of inspect
 *   nettool ports ID            the PORTS column
 *   nettool dns ID              the name server of that workload's shim
 *   nettool files ID            resolv.conf, hosts, hostname
 *   nettool [--repair] check [LIVE_ID...]
 *   nettool doctor
 *   nettool cycle COUNT         attach and detach so often to namespaces made in advance
 *
 * State is in ISOLA_ROOT and ISOLA_RUN.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/dirs.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/option.h"
#include "base/str.h"
#include "engine/db.h"
#include "engine/dns.h"
#include "engine/network.h"

struct options {
    struct strv networks;
    struct strv ports;
    struct strv expose;
    struct strv aliases;
    struct strv dns;
    struct strv add_hosts;
    const char *ip;
    const char *ip6;
    const char *mac;
    struct strv subnets;
    bool ipv6;
    bool internal;
    bool publish_all;
    bool repair;
    bool die;
    bool keep;
};

static const struct option_spec specs[] = {
    {"network", 'n', OPTION_LIST, offsetof(struct options, networks), "NET", "network", NULL},
    {"publish", 'p', OPTION_LIST, offsetof(struct options, ports), "PORT", "port", NULL},
    {"expose", 0, OPTION_LIST, offsetof(struct options, expose), "PORT", "exposed port", NULL},
    {"alias", 0, OPTION_LIST, offsetof(struct options, aliases), "NAME", "alias", NULL},
    {"dns", 0, OPTION_LIST, offsetof(struct options, dns), "IP", "name server", NULL},
    {"add-host", 0, OPTION_LIST, offsetof(struct options, add_hosts), "HOST:IP", "host", NULL},
    {"subnet", 0, OPTION_LIST, offsetof(struct options, subnets), "NET", "create: subnet", NULL},
    {"ipv6", 0, OPTION_FLAG, offsetof(struct options, ipv6), NULL, "create: IPv6", NULL},
    {"internal", 0, OPTION_FLAG, offsetof(struct options, internal), NULL, "create", NULL},
    {"ip", 0, OPTION_STRING, offsetof(struct options, ip), "IP", "IPv4 address", NULL},
    {"ip6", 0, OPTION_STRING, offsetof(struct options, ip6), "IP", "IPv6 address", NULL},
    {"mac", 0, OPTION_STRING, offsetof(struct options, mac), "MAC", "MAC address", NULL},
    {"publish-all", 'P', OPTION_FLAG, offsetof(struct options, publish_all), NULL, "-P", NULL},
    {"repair", 0, OPTION_FLAG, offsetof(struct options, repair), NULL, "mend", NULL},
    {"die", 0, OPTION_FLAG, offsetof(struct options, die), NULL, "links die alone", NULL},
    {"keep", 0, OPTION_FLAG, offsetof(struct options, keep), NULL, "cycle: stay attached", NULL},
    {0},
};

struct tool {
    struct db *db;
    struct network_host *host;
    struct options *options;
};

static int make_request(const struct options *o, struct network_request *request, struct err *err)
{
    int r = 0;
    for (size_t i = 0; i < o->networks.count && r >= 0; i++) {
        r = network_request_add(request, o->networks.items[i], err);
    }
    if (r >= 0) {
        r = network_request_set(request, o->ip, o->ip6, o->mac, &o->aliases, err);
    }
    for (size_t i = 0; i < o->ports.count && r >= 0; i++) {
        r = port_parse_publish(o->ports.items[i], &request->ports, err);
    }
    for (size_t i = 0; i < o->expose.count && r >= 0; i++) {
        r = port_parse_expose(o->expose.items[i], &request->exposed, err);
    }
    request->publish_all = o->publish_all;
    return r;
}

static int open_netns(const char *pid, struct err *err)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%s/ns/net", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_set(err, errno, "open '%s'", path) : fd;
}

/* The first half, as `isola run` does it: one transaction. */
static int reserve(struct tool *t, const char *id, const char *name, struct network_lease *lease,
                   struct err *err)
{
    AUTO(network_request_donep) struct network_request request = {0};
    int r = make_request(t->options, &request, err);
    if (r < 0) {
        return r;
    }
    AUTO(db_tx_donep) struct db_tx tx = {0};
    if ((r = db_begin(t->db, &tx, err)) < 0 ||
        (r = db_run(t->db, err,
                    "INSERT INTO workload (id, name, image, state, created, config)"
                    " VALUES (?, ?, 'i', 'created', 0, '{}')",
                    "ss", id, name)) < 0 ||
        (r = network_reserve(t->host, id, &request, lease, err)) < 0) {
        return r;
    }
    r = db_commit(&tx, err);
    return r;
}

static int cmd_attach(struct tool *t, char **argv, struct err *err)
{
    AUTO(network_lease_donep) struct network_lease lease = {0};
    AUTO(closep) int netns = open_netns(argv[3], err);
    int r = netns < 0 ? netns : reserve(t, argv[1], argv[2], &lease, err);
    return r < 0 ? r : network_attach(t->host, &lease, netns, err);
}

static int cmd_reattach(struct tool *t, char **argv, struct err *err)
{
    AUTO(network_lease_donep) struct network_lease lease = {0};
    AUTO(closep) int netns = open_netns(argv[2], err);
    int r = netns < 0 ? netns : network_load(t->host, argv[1], &lease, err);
    return r < 0 ? r : network_attach(t->host, &lease, netns, err);
}

static int cmd_detach(struct tool *t, char **argv, struct err *err)
{
    AUTO(network_lease_donep) struct network_lease lease = {0};
    int r = network_load(t->host, argv[1], &lease, err);
    if (r < 0 ||
        (r = network_detach(t->host, &lease,
                            t->options->die ? NETWORK_LINKS_DIE : NETWORK_LINKS_REMOVE, err)) < 0 ||
        (r = network_release(t->host, argv[1], err)) < 0) {
        return r;
    }
    r = db_run(t->db, err, "DELETE FROM workload WHERE id = ?", "s", argv[1]);
    return r < 0 ? r : 0;
}

static int cmd_drop(struct tool *t, char **argv, struct err *err)
{
    int r = db_run(t->db, err, "DELETE FROM workload WHERE id = ?", "s", argv[1]);
    return r < 0 ? r : 0;
}

static int cmd_show(struct tool *t, char **argv, struct err *err)
{
    AUTO(network_lease_donep) struct network_lease lease = {0};
    int r = network_load(t->host, argv[1], &lease, err);
    if (r < 0) {
        return r;
    }
    json_t *json = network_lease_to_inspect(&lease);
    (void)json_dumpf(json, stdout, JSON_INDENT(2));
    (void)putchar('\n');
    json_decref(json);
    return 0;
}

static int cmd_ports(struct tool *t, char **argv, struct err *err)
{
    AUTO(network_lease_donep) struct network_lease lease = {0};
    AUTO(buf_donep) struct buf text = {0};
    int r = network_load(t->host, argv[1], &lease, err);
    if (r < 0 || (r = port_list_print(&lease.ports, &text)) < 0) {
        return r;
    }
    (void)puts(text.data != NULL ? text.data : "");
    return 0;
}

static int cmd_connect(struct tool *t, char **argv, struct err *err)
{
    struct network_endpoint_request request = {.network = argv[2]};
    AUTO(closep) int netns = open_netns(argv[3], err);
    return netns < 0 ? netns : network_connect(t->host, argv[1], &request, netns, err);
}

static int cmd_disconnect(struct tool *t, char **argv, struct err *err)
{
    AUTO(closep) int netns = open_netns(argv[3], err);
    return netns < 0 ? netns : network_disconnect(t->host, argv[1], argv[2], netns, err);
}

static int cmd_create(struct tool *t, char **argv, struct err *err)
{
    struct network_create create = {
        .name = argv[1],
        .subnets = t->options->subnets,
        .ipv6 = t->options->ipv6,
        .internal = t->options->internal,
    };
    AUTO(network_donep) struct network n = {0};
    return network_create(t->host, &create, &n, err);
}

static int cmd_remove(struct tool *t, char **argv, struct err *err)
{
    return network_remove(t->host, argv[1], err);
}

static int cmd_files(struct tool *t, char **argv, struct err *err)
{
    AUTO(network_lease_donep) struct network_lease lease = {0};
    AUTO(buf_donep) struct buf text = {0};
    const char *resolv = getenv("NETTOOL_RESOLV");
    struct network_request request = {0};
    struct network_names names = {.hostname = "testhost"};
    names.dns = t->options->dns;
    names.add_hosts = t->options->add_hosts;
    int r = network_load(t->host, argv[1], &lease, err);
    if (r < 0 || (r = network_make_files(&request, &lease, &names,
                                         resolv != NULL ? resolv : "/etc/resolv.conf", &text, &text,
                                         &text, err)) < 0) {
        return r;
    }
    (void)fputs(text.data, stdout);
    return 0;
}

/* What a shim does for its workload; ends with SIGTERM. */
static int cmd_dns(struct tool *t, char **argv, struct err *err)
{
    AUTO(network_lease_donep) struct network_lease lease = {0};
    AUTO(network_dns_donep) struct network_dns config = {0};
    AUTO(loop_freep) struct loop *loop = NULL;
    AUTO(dns_freep) struct dns *dns = NULL;
    const char *resolv = getenv("NETTOOL_RESOLV");
    struct network_names names = {.hostname = "testhost"};
    names.dns = t->options->dns;
    int r = network_load(t->host, argv[1], &lease, err);
    if (r < 0 ||
        (r = network_dns_of(t->host, &lease, &names, resolv != NULL ? resolv : "/etc/resolv.conf",
                            &config, err)) < 0 ||
        (r = loop_new(&loop)) < 0 || (r = dns_new(loop, &config, -1, &dns, err)) < 0) {
        return r;
    }
    (void)puts("ready");
    (void)fflush(stdout);
    return loop_run(loop);
}

static int cmd_check(struct tool *t, char **argv, struct err *err)
{
    AUTO(strv_donep) struct strv findings = {0};
    AUTO(strv_donep) struct strv live = {0};
    for (size_t i = 1; argv[i] != NULL; i++) {
        (void)strv_add(&live, argv[i]);
    }
    int r = network_check(t->host, &live, t->options->repair, &findings, err);
    for (size_t i = 0; i < findings.count; i++) {
        (void)puts(findings.items[i]);
    }
    return r;
}

static int cmd_doctor(struct tool *t, char **argv, struct err *err)
{
    (void)argv;
    AUTO(strv_donep) struct strv findings = {0};
    int r = network_doctor(t->host, &findings, err);
    for (size_t i = 0; i < findings.count; i++) {
        (void)puts(findings.items[i]);
    }
    return r;
}

static double cpu_ms(void)
{
    struct rusage use;
    (void)getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1e3 +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e3;
}

/* One new network namespace; the thread comes back to its own. */
static int new_netns(int home, struct err *err)
{
    if (unshare(CLONE_NEWNET) < 0) {
        return err_set(err, errno, "unshare");
    }
    int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(home, CLONE_NEWNET) < 0) {
        return err_set(err, errno, "setns");
    }
    return fd;
}

/* One JSON line an attach: the database part, the kernel part, the end. */
static int cmd_cycle(struct tool *t, char **argv, struct err *err)
{
    uint64_t count = 0;
    AUTO(closep) int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (parse_u64(argv[1], 10, &count) < 0 || count > 10000 || home < 0) {
        return err_say(err, EINVAL, "cycle: bad count");
    }
    for (uint64_t i = 0; i < count; i++) {
        char id[32];
        AUTO(closep) int netns = new_netns(home, err);
        if (netns < 0) {
            return netns;
        }
        (void)snprintf(id, sizeof(id), "c%010llu", (unsigned long long)i);
        AUTO(network_lease_donep) struct network_lease lease = {0};
        int64_t start = clock_monotonic_ns();
        double cpu_start = cpu_ms();
        int r = reserve(t, id, id, &lease, err);
        int64_t reserved = clock_monotonic_ns();
        double cpu_reserved = cpu_ms();
        if (r < 0 || (r = network_attach(t->host, &lease, netns, err)) < 0) {
            return r;
        }
        int64_t attached = clock_monotonic_ns();
        double cpu_attached = cpu_ms();
        if (t->options->keep) { /* them: how the cost grows with the number */
            netns = -1;
        } else {
            char *args[] = {NULL, id, NULL};
            if ((r = cmd_detach(t, args, err)) < 0) {
                return r;
            }
        }
        (void)printf("{\"n\": %llu, \"reserve_ms\": %.3f, \"attach_ms\": %.3f, \"detach_ms\": %.3f,"
                     " \"reserve_cpu_ms\": %.3f, \"attach_cpu_ms\": %.3f, \"detach_cpu_ms\": "
                     "%.3f}\n",
                     (unsigned long long)i, (double)(reserved - start) / 1e6,
                     (double)(attached - reserved) / 1e6,
                     (double)(clock_monotonic_ns() - attached) / 1e6, cpu_reserved - cpu_start,
                     cpu_attached - cpu_reserved, cpu_ms() - cpu_attached);
    }
    return 0;
}

static const struct {
    const char *name;
    int min; /* operands with the name */
    int (*run)(struct tool *t, char **argv, struct err *err);
} commands[] = {
    {"attach", 4, cmd_attach}, {"reattach", 3, cmd_reattach}, {"detach", 2, cmd_detach},
    {"drop", 2, cmd_drop},     {"show", 2, cmd_show},         {"ports", 2, cmd_ports},
    {"cycle", 2, cmd_cycle},   {"connect", 4, cmd_connect},   {"disconnect", 4, cmd_disconnect},
    {"dns", 2, cmd_dns},       {"create", 2, cmd_create},     {"remove", 2, cmd_remove},
    {"files", 2, cmd_files},   {"check", 1, cmd_check},       {"doctor", 1, cmd_doctor},
};

static int run(struct options *options, int argc, char **argv, struct err *err)
{
    bool help = false;
    const struct option_parse parse = {.specs = specs, .target = options};
    int n = option_parse(&parse, argc, argv, &help, err);
    if (n < 0) {
        return n;
    }
    AUTO(dirs_donep) struct dirs dirs = {0};
    AUTO(db_closep) struct db *db = NULL;
    AUTO(network_host_closep) struct network_host *host = NULL;
    int r = dirs_init(NULL, NULL, &dirs, err);
    if (r < 0 || (r = db_open(dirs.root, &db, err)) < 0 ||
        (r = network_host_open(db, &dirs, &host, err)) < 0) {
        return r;
    }
    struct tool tool = {db, host, options};
    for (size_t i = 0; i < COUNT(commands); i++) {
        if (n >= commands[i].min && str_eq(argv[1], commands[i].name)) {
            argv[n + 1] = NULL;
            return commands[i].run(&tool, argv + 1, err);
        }
    }
    return err_say(err, EINVAL, "nettool: no such command");
}

int main(int argc, char **argv)
{
    struct options options = {0};
    struct err err = ERR_NONE;
    int r = run(&options, argc, argv, &err);
    if (r < 0) {
        (void)fprintf(stderr, "nettool: %s\n", err_text(&err));
    }
    strv_done(&options.subnets);
    strv_done(&options.networks);
    strv_done(&options.ports);
    strv_done(&options.expose);
    strv_done(&options.aliases);
    strv_done(&options.dns);
    strv_done(&options.add_hosts);
    return r < 0 ? 1 : 0;
}
