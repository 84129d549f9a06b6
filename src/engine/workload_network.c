#include "engine/workload_network.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/io.h"
#include "base/process.h"
#include "engine/create.h"
#include "engine/engine.h"
#include "engine/shim_process.h"
#include "engine/vm_start.h"

#define RESOLV_CONF "/etc/resolv.conf"
#define FILE_MAX ((size_t)1 << 20)

void workload_hostname(const struct workload *workload, const struct network_request *request,
                       char ret[WORKLOAD_HOSTNAME_SIZE])
{
    const char *own = workload->config.hostname;
    ret[0] = '\0';
    if (own != NULL) {
        (void)snprintf(ret, WORKLOAD_HOSTNAME_SIZE, "%s", own);
    } else if (request->mode != NETWORK_MODE_HOST ||
               gethostname(ret, WORKLOAD_HOSTNAME_SIZE - 1) < 0) {
        (void)snprintf(ret, WORKLOAD_HOSTNAME_SIZE, "%.12s", workload->id);
    }
    ret[WORKLOAD_HOSTNAME_SIZE - 1] = '\0';
}

struct network_names workload_network_names(const struct workload *workload, const char *hostname)
{
    const struct workload_config *config = &workload->config;
    return (struct network_names){
        .hostname = hostname,
        .domainname = config->domainname,
        .dns = config->dns,
        .dns_search = config->dns_search,
        .dns_options = config->dns_option,
        .add_hosts = config->add_host,
    };
}

int workload_write_dns(struct network_host *host, const struct network_lease *lease,
                       const struct network_names *names, const char *run_dir, struct err *err)
{
    AUTO(network_dns_donep) struct network_dns dns = {0};
    int r = network_dns_of(host, lease, names, RESOLV_CONF, &dns, err);
    if (r < 0) {
        return r;
    }
    struct network_proxy proxy;
    network_proxy_of(lease, &proxy);
    AUTO(closep) int dir = open(run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    r = dir < 0 ? -errno : network_dns_write(dir, &dns);
    r = r < 0 ? r : network_proxy_write(dir, &proxy);
    return r < 0 ? err_set(err, -r, "write to '%s' what the shim serves", run_dir) : 0;
}

/* The texts of a workload's files at one moment. */
struct files {
    struct buf resolv;
    struct buf hosts;
};

static void files_done(struct files *files)
{
    buf_done(&files->resolv);
    buf_done(&files->hosts);
}

static int make_files(const struct network_request *request, const struct network_lease *lease,
                      const struct network_names *names, struct files *ret, struct err *err)
{
    return network_make_files(request, lease, names, RESOLV_CONF, &ret->resolv, &ret->hosts, NULL,
                              err);
}

/*
 * In place: the workload has this very file mounted, unless the user mounted another. What it has
 * changed itself stays.
 */
static int follow(int dir, const char *name, const struct buf *before, const struct buf *after,
                  struct err *err)
{
    AUTO(buf_donep) struct buf now = {0};
    int r = read_file_at(dir, name, FILE_MAX, &now);
    if (r == -ENOENT) {
        return 0;
    }
    if (r < 0 && r != -EFBIG) {
        return err_set(err, -r, "read the workload's '%s'", name);
    }
    /* Larger than any of ours: then it is the workload's own, too. */
    if (r < 0 || now.len != before->len || memcmp(now.data, before->data, now.len) != 0) {
        return 0;
    }
    AUTO(closep) int fd = openat(dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    r = fd < 0 ? -errno : write_full(fd, after->data, after->len);
    if (r == 0 && ftruncate(fd, (off_t)after->len) < 0) {
        r = -errno;
    }
    return r < 0 ? err_set(err, -r, "write the workload's '%s'", name) : 0;
}

struct change {
    struct engine *engine;
    struct network_host *host;
    const struct workload *workload;
    struct network_request request;
    struct files before;
    char hostname[WORKLOAD_HOSTNAME_SIZE];
    int netns_fd;
};

static void change_done(struct change *change)
{
    network_request_done(&change->request);
    files_done(&change->before);
    (void)close_fd(change->netns_fd);
}

/* The running workload's network namespace: of its very process, whatever its pid is by now. */
static int open_netns(const struct workload *workload, struct err *err)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)workload->status.pid);
    AUTO(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && !process_is_alive(workload->status.pid, workload->status.pid_start)) {
        return err_say(err, ESRCH, "'%s' has just ended", workload->name);
    }
    return fd < 0 ? err_set(err, errno, "open the network namespace of '%s'", workload->name)
                  : TAKE_FD(fd);
}

static int begin(struct change *change, struct err *err)
{
    const struct workload *workload = change->workload;
    AUTO(network_lease_donep) struct network_lease lease = {0};
    int r = engine_network(change->engine, &change->host, err);
    if (r < 0 || (r = create_network_request(&workload->config, &change->request, err)) < 0 ||
        (r = network_load(change->host, workload->id, &lease, err)) < 0) {
        return r;
    }
    workload_hostname(workload, &change->request, change->hostname);
    const struct network_names names = workload_network_names(workload, change->hostname);
    r = make_files(&change->request, &lease, &names, &change->before, err);
    if (r < 0) {
        return r;
    }
    change->netns_fd = open_netns(workload, err);
    return change->netns_fd < 0 ? change->netns_fd : 0;
}

static int follow_all(int dir, const struct change *change, const struct files *after,
                      struct err *err)
{
    int r = follow(dir, "resolv.conf", &change->before.resolv, &after->resolv, err);
    return r < 0 ? r : follow(dir, "hosts", &change->before.hosts, &after->hosts, err);
}

static int finish(struct change *change, struct err *err)
{
    const struct workload *workload = change->workload;
    const struct network_names names = workload_network_names(workload, change->hostname);
    AUTO(network_lease_donep) struct network_lease lease = {0};
    AUTO(files_done) struct files after = {0};
    AUTO(freep) char *root = workload_root_path(change->engine, workload->id, NULL);
    AUTO(freep) char *run = workload_run_path(change->engine, workload->id, NULL);
    if (root == NULL || run == NULL) {
        return err_set(err, ENOMEM, "tell '%s' of its networks", workload->name);
    }
    int r = network_load(change->host, workload->id, &lease, err);
    if (r < 0 || (r = make_files(&change->request, &lease, &names, &after, err)) < 0 ||
        (r = workload_write_dns(change->host, &lease, &names, run, err)) < 0 ||
        (r = shim_process_dns(change->engine, workload, err)) < 0) {
        return r;
    }
    AUTO(closep) int dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        return err_set(err, errno, "open '%s'", root);
    }
    AUTO(closep) int copies = shim_process_files(change->engine, workload, err);
    if (copies < 0 && copies != -ENOENT) {
        return copies;
    }
    r = follow_all(dir, change, &after, err);
    return r < 0 || copies < 0 ? r : follow_all(copies, change, &after, err);
}

/* There is no hot plug: the cards of a machine are those that it was started with. */
static int refuse_machine(const struct workload *workload, const char *what, struct err *err)
{
    if (!vm_start_wanted(workload)) {
        return 0;
    }
    (void)err_say(err, EOPNOTSUPP,
                  "%s: the network cards of a running machine cannot be changed ('%s')", what,
                  workload->name);
    err_hint(err, "stop it, change its networks, and start it");
    return -EOPNOTSUPP;
}

int workload_network_join(struct engine *engine, const struct workload *workload,
                          const struct network_endpoint_request *endpoint, struct err *err)
{
    int refused = refuse_machine(workload, "network connect", err);
    if (refused < 0) {
        return refused;
    }
    AUTO(change_done)
    struct change change = {.engine = engine, .workload = workload, .netns_fd = -1};
    int r = begin(&change, err);
    r = r < 0 ? r : network_connect(change.host, workload->id, endpoint, change.netns_fd, err);
    if (r < 0) {
        return r;
    }
    r = finish(&change, err);
    if (r < 0) {
        /* All or nothing: the caller does not write down what failed. */
        (void)network_disconnect(change.host, workload->id, endpoint->network, change.netns_fd,
                                 NULL);
    }
    return r;
}

int workload_network_leave(struct engine *engine, const struct workload *workload,
                           const char *network_id, struct err *err)
{
    int refused = refuse_machine(workload, "network disconnect", err);
    if (refused < 0) {
        return refused;
    }
    AUTO(change_done)
    struct change change = {.engine = engine, .workload = workload, .netns_fd = -1};
    int r = begin(&change, err);
    r = r < 0 ? r : network_disconnect(change.host, workload->id, network_id, change.netns_fd, err);
    return r < 0 ? r : finish(&change, err);
}
