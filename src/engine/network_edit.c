/*
 * Networks that go, that are shown, that a running workload joins or leaves.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/path.h"
#include "engine/firewall.h"
#include "engine/network_host.h"
#include "netlink/link.h"
#include "netlink/message.h"
#include "netlink/socket.h"

/* The kernel's half of a network; what is missing is success. */
static int remove_kernel_half(struct network_host *host, const struct network *n, struct err *err)
{
    AUTO(closep) int lock = network_host_lock(host, err);
    if (lock < 0) {
        return lock;
    }
    int r = network_host_route(host, err);
    if (r < 0 || (r = network_host_nft(host, err)) < 0) {
        return r;
    }
    struct link link;
    r = link_get(host->route_fd, n->bridge, &link, err);
    if (r == 0 && network_is_ours(host, link.alias)) {
        AUTO(nl_batch_donep) struct nl_batch batch = {0};
        link_put_delete(&batch, n->bridge);
        r = nl_send(host->route_fd, &batch, NULL, err);
        if (r < 0 && r != -ENODEV) {
            return err_wrap(err, -r, "remove bridge '%s'", n->bridge);
        }
    }
    if (r < 0 && r != -ENODEV) {
        return r;
    }
    AUTO(firewall_elements_donep) struct firewall_elements elements = {0};
    if (firewall_add_network(&elements, n) < 0) {
        return err_set(err, ENOMEM, "remove network '%s'", n->name);
    }
    r = firewall_remove(host->nft_fd, host->tag, &elements, err);
    if (r < 0) {
        return r;
    }
    r = remove_tree_at(host->run_fd, n->id);
    return r < 0 ? err_set(err, -r, "remove '%s/%s'", host->run, n->id) : 0;
}

/* The names of up to three workloads, for the error. */
static int find_users(struct network_host *host, const struct network *n, struct buf *names,
                      struct err *err)
{
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    int r = db_prepare(host->db, &stmt, err,
                       "SELECT w.name FROM endpoint e JOIN workload w ON w.id = e.workload"
                       " WHERE e.network = ? ORDER BY w.name",
                       "s", n->id);
    int count = 0;
    while (r >= 0 && (r = db_step(host->db, stmt, err)) > 0) {
        const char *separator = count == 0 ? "" : ", ";
        int added = count == 3 ? buf_add_str(names, "...")
                               : buf_printf(names, "%s'%s'", separator, db_text(stmt, 0));
        if (added < 0) {
            return -ENOMEM;
        }
        if (count++ == 3) {
            break;
        }
    }
    return r < 0 ? r : count;
}

static int remove_found(struct network_host *host, const struct network *n, struct err *err)
{
    AUTO(buf_donep) struct buf users = {0};
    AUTO(db_tx_donep) struct db_tx tx = {0};
    int r = db_begin(host->db, &tx, err);
    if (r < 0 || (r = find_users(host, n, &users, err)) < 0) {
        return r;
    }
    if (r > 0) {
        (void)err_say(err, EBUSY, "network '%s' is used by %s", n->name, users.data);
        err_hint(err, "remove them, or: isola network disconnect %s WORKLOAD", n->name);
        return -EBUSY;
    }
    /* The kernel first: killed in between, the row still says what to remove. */
    if ((r = remove_kernel_half(host, n, err)) < 0 ||
        (r = db_run(host->db, err, "DELETE FROM network WHERE id = ?", "s", n->id)) < 0) {
        return r;
    }
    return db_commit(&tx, err);
}

int network_remove(struct network_host *host, const char *name, struct err *err)
{
    AUTO(network_donep) struct network n = {0};
    int r = network_find(host, name, &n, err);
    if (r < 0) {
        return r;
    }
    if (n.is_default) {
        return err_say(err, EPERM, "network '%s' is always there and cannot be removed", n.name);
    }
    return remove_found(host, &n, err);
}

/* The table of ours goes with the last bridge; it is made again when the next one is needed. */
static int drop_idle_table(struct network_host *host, struct err *err)
{
    AUTO(firewall_elements_donep) struct firewall_elements wanted = {0};
    AUTO(closep) int lock = network_host_lock(host, err);
    if (lock < 0) {
        return lock;
    }
    int r = network_host_nft(host, err);
    if (r == 0) {
        r = network_collect_elements(host, &wanted, err);
    }
    return r < 0 || !firewall_is_empty(&wanted) ? r : firewall_drop(host->nft_fd, host->tag, err);
}

int network_prune(struct network_host *host, struct strv *removed, struct err *err)
{
    AUTO(network_list_donep) struct network_list list = {0};
    int r = network_list(host, &list, err);
    for (size_t i = 0; i < list.count && r >= 0; i++) {
        const struct network *n = &list.items[i];
        if (n->driver != NETWORK_BRIDGE || n->bridge[0] == '\0') {
            continue;
        }
        /* The default one too, without a word: its next use makes it again. */
        r = remove_found(host, n, err);
        if (r == 0 && !n->is_default && strv_add(removed, n->name) < 0) {
            return err_set(err, ENOMEM, "prune networks");
        }
        r = r == -EBUSY ? 0 : r;
    }
    return r < 0 ? r : drop_idle_table(host, err);
}

static json_t *object_of(const struct strv *pairs)
{
    json_t *object = json_object();
    for (size_t i = 0; i < pairs->count; i++) {
        AUTO(freep) char *key = strdup(pairs->items[i]);
        char *value = key != NULL ? strchr(key, '=') : NULL;
        if (value != NULL) {
            *value++ = '\0';
        }
        (void)json_object_set_new(object, key != NULL ? key : "",
                                  json_string(value != NULL ? value : ""));
    }
    return object;
}

static json_t *ipam_of(const struct network *n)
{
    json_t *config = json_array();
    for (size_t f = 0; f < 2; f++) {
        char text[IP_TEXT_SIZE];
        if (n->subnet[f].address.family == 0) {
            continue;
        }
        json_t *item = json_object();
        (void)json_object_set_new(item, "Subnet",
                                  json_string(ip_prefix_format(&n->subnet[f], text)));
        if (n->range[f].address.family != 0) {
            (void)json_object_set_new(item, "IPRange",
                                      json_string(ip_prefix_format(&n->range[f], text)));
        }
        (void)json_object_set_new(item, "Gateway", json_string(ip_format(&n->gateway[f], text)));
        (void)json_array_append_new(config, item);
    }
    return json_pack("{s:s, s:{}, s:o}", "Driver", "default", "Options", "Config", config);
}

/* {"ID": {"Name": ..., "IPv4Address": "10.0.0.2/24"...}} */
static int containers_of(struct network_host *host, const struct network *n, json_t *ret,
                         struct err *err)
{
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    int r = db_prepare(host->db, &stmt, err,
                       "SELECT w.id, w.name, e.veth, e.mac, e.ip4, e.ip6 FROM endpoint e"
                       " JOIN workload w ON w.id = e.workload WHERE e.network = ?",
                       "s", n->id);
    while (r >= 0 && (r = db_step(host->db, stmt, err)) > 0) {
        char text[2][IP_TEXT_SIZE + 8] = {"", ""};
        for (size_t f = 0; f < 2; f++) {
            const char *ip = db_text(stmt, (int)(4 + f));
            if (ip[0] != '\0') {
                (void)snprintf(text[f], sizeof(text[f]), "%s/%u", ip, n->subnet[f].length);
            }
        }
        json_t *item = json_pack("{s:s, s:s, s:s, s:s, s:s}", "Name", db_text(stmt, 1),
                                 "EndpointID", db_text(stmt, 2), "MacAddress", db_text(stmt, 3),
                                 "IPv4Address", text[0], "IPv6Address", text[1]);
        if (json_object_set_new(ret, db_text(stmt, 0), item) != 0) {
            return err_set(err, ENOMEM, "inspect network '%s'", n->name);
        }
    }
    return r;
}

int network_inspect(struct network_host *host, const struct network *n, json_t **ret,
                    struct err *err)
{
    static const char *const drivers[] = {"bridge", "host", "null"};
    char created[TIME_TEXT_SIZE];
    format_time(n->created, created);
    AUTO(json_unrefp) json_t *containers = json_object();
    int r = containers_of(host, n, containers, err);
    if (r < 0) {
        return r;
    }
    json_t *json = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:o, s:b, s:O, s:o, s:o}", "Name",
                             n->name, "Id", n->id, "Created", created, "Scope", "local", "Driver",
                             drivers[n->driver], "EnableIPv6", n->subnet[1].address.family != 0,
                             "IPAM", ipam_of(n), "Internal", n->internal, "Containers", containers,
                             "Options", object_of(&n->options), "Labels", object_of(&n->labels));
    if (json == NULL) {
        return err_set(err, ENOMEM, "inspect network '%s'", n->name);
    }
    if (n->driver == NETWORK_BRIDGE) {
        (void)json_object_set_new(json, "Bridge", json_string(n->bridge));
    }
    *ret = json;
    return 0;
}

/* The lease without all endpoints but one, so that attach and detach see only that. */
static int keep_endpoint(struct network_lease *lease, const char *network_id)
{
    size_t found = lease->endpoint_count;
    for (size_t i = 0; i < lease->endpoint_count; i++) {
        if (str_eq(lease->endpoints[i].network, network_id)) {
            found = i;
        }
    }
    if (found == lease->endpoint_count) {
        return -ENOENT;
    }
    struct network_endpoint swap = lease->endpoints[0];
    lease->endpoints[0] = lease->endpoints[found];
    lease->endpoints[found] = swap;
    return 0;
}

/* A view: the first endpoint of lease, no ports. Not to be freed. */
static struct network_lease only_first(const struct network_lease *lease)
{
    return (struct network_lease){
        .workload = lease->workload,
        .endpoints = lease->endpoints,
        .endpoint_count = 1,
    };
}

int network_connect(struct network_host *host, const char *workload_id,
                    const struct network_endpoint_request *request, int netns_fd, struct err *err)
{
    AUTO(network_donep) struct network n = {0};
    AUTO(network_lease_donep) struct network_lease lease = {0};
    AUTO(network_lease_donep) struct network_lease before = {0};
    AUTO(db_tx_donep) struct db_tx tx = {0};
    int r = network_find(host, request->network, &n, err);
    if (r < 0 || (r = db_begin(host->db, &tx, err)) < 0 ||
        (r = network_load(host, workload_id, &before, err)) < 0 ||
        (r = network_lease_add(host, workload_id, request, err)) < 0 ||
        (r = network_load(host, workload_id, &lease, err)) < 0 || (r = db_commit(&tx, err)) < 0) {
        return r;
    }
    r = keep_endpoint(&lease, n.id);
    if (r < 0 || netns_fd < 0) {
        return r;
    }
    struct network_lease added = only_first(&lease);
    r = network_attach_more(host, &added, true, netns_fd, err);
    if (r >= 0) {
        r = network_route(&lease, netns_fd, err);
    }
    if (r < 0) {
        (void)db_run(host->db, NULL, "DELETE FROM endpoint WHERE workload = ? AND network = ?",
                     "ss", workload_id, n.id);
        return r;
    }
    /* Its line in the files of the others names the new network. */
    for (size_t i = 1; i < lease.endpoint_count && r >= 0; i++) {
        if (lease.endpoints[i].user_defined) {
            r = network_write_names(host, lease.endpoints[i].network, err);
        }
    }
    if (r < 0) {
        return r;
    }
    /* The workload's first network: its ports lead there now. */
    return before.endpoint_count == 0 ? network_publish(host, &lease, err) : 0;
}

int network_disconnect(struct network_host *host, const char *workload_id, const char *network,
                       int netns_fd, struct err *err)
{
    AUTO(network_donep) struct network n = {0};
    AUTO(network_lease_donep) struct network_lease lease = {0};
    AUTO(network_lease_donep) struct network_lease after = {0};
    int r = network_find(host, network, &n, err);
    if (r < 0 || (r = network_load(host, workload_id, &lease, err)) < 0) {
        return r;
    }
    bool was_first = lease.endpoint_count > 0 && str_eq(lease.endpoints[0].network, n.id);
    if (was_first) {
        r = network_detach(host, &lease, NETWORK_LINKS_DIE, err); /* the ports only */
    }
    if (r < 0 || (r = keep_endpoint(&lease, n.id)) < 0) {
        return r == -ENOENT ? err_say(err, ENOENT, "the workload is not in network '%s'", n.name)
                            : r;
    }
    struct network_lease removed = only_first(&lease);
    r = network_detach(host, &removed, NETWORK_LINKS_REMOVE, err);
    if (r < 0 ||
        (r = db_run(host->db, err, "DELETE FROM endpoint WHERE workload = ? AND network = ?", "ss",
                    workload_id, n.id)) < 0) {
        return r;
    }
    for (size_t i = 0; i < lease.endpoint_count && r >= 0; i++) {
        if (lease.endpoints[i].user_defined) {
            r = network_write_names(host, lease.endpoints[i].network, err);
        }
    }
    if (r < 0 || netns_fd < 0 || (r = network_load(host, workload_id, &after, err)) < 0 ||
        after.endpoint_count == 0) {
        return r;
    }
    r = network_route(&after, netns_fd, err);
    return r < 0 || !was_first ? r : network_publish(host, &after, err);
}
