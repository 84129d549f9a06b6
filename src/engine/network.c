#include "engine/network.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/path.h"
#include "engine/network_host.h"

#define COLUMNS "SELECT id, name, bridge, created, config FROM network "

/* What a network has per address family. */
static const struct {
    const char *subnet;
    const char *range;
    const char *gateway;
} family_keys[2] = {
    {"subnet4", "range4", "gateway4"},
    {"subnet6", "range6", "gateway6"},
};

void network_done(struct network *network)
{
    free(network->name);
    strv_done(&network->labels);
    strv_done(&network->options);
    *network = (struct network){0};
}

void network_list_done(struct network_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        network_done(&list->items[i]);
    }
    free(list->items);
    *list = (struct network_list){0};
}

static void *network_take(struct network *from, struct network *to)
{
    *to = *from;
    *from = (struct network){0};
    return to;
}

static int set_prefix(json_t *json, const char *key, const struct ip_prefix *prefix)
{
    char text[IP_TEXT_SIZE];
    if (prefix->address.family == 0) {
        return 0;
    }
    return json_object_set_new(json, key, json_string(ip_prefix_format(prefix, text)));
}

static json_t *config_to_json(const struct network *n)
{
    json_t *json = json_object();
    int r = 0;
    char text[IP_TEXT_SIZE];
    for (size_t f = 0; f < 2; f++) {
        r |= set_prefix(json, family_keys[f].subnet, &n->subnet[f]);
        r |= set_prefix(json, family_keys[f].range, &n->range[f]);
        if (n->gateway[f].family != 0) {
            r |= json_object_set_new(json, family_keys[f].gateway,
                                     json_string(ip_format(&n->gateway[f], text)));
        }
    }
    r |= json_object_set_new(json, "mtu", json_integer(n->mtu));
    r |= json_object_set_new(json, "internal", json_boolean(n->internal));
    r |= json_object_set_new(json, "masquerade", json_boolean(n->masquerade));
    r |= json_object_set_new(json, "labels", json_from_strv(&n->labels));
    r |= json_object_set_new(json, "options", json_from_strv(&n->options));
    if (r != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static int get_prefix(const json_t *json, const char *key, struct ip_prefix *ret, struct err *err)
{
    const char *text = NULL;
    int r = json_get_string(json, NULL, key, &text, err);
    if (r > 0 && ip_prefix_parse(text, ret) < 0) {
        return err_say(err, EBADMSG, "%s: not a subnet: %s", key, text);
    }
    return r < 0 ? r : 0;
}

static int config_from_json(const json_t *json, struct network *n, struct err *err)
{
    int64_t mtu = 0;
    int r = 0;
    for (size_t f = 0; f < 2 && r >= 0; f++) {
        const char *text = NULL;
        r = get_prefix(json, family_keys[f].subnet, &n->subnet[f], err);
        if (r >= 0) {
            r = get_prefix(json, family_keys[f].range, &n->range[f], err);
        }
        if (r >= 0) {
            r = json_get_string(json, NULL, family_keys[f].gateway, &text, err);
        }
        if (r > 0 && ip_parse(text, &n->gateway[f]) < 0) {
            return err_say(err, EBADMSG, "not an address: %s", text);
        }
    }
    if (r < 0 || (r = json_get_int(json, NULL, "mtu", 0, 65535, &mtu, err)) < 0 ||
        (r = json_get_bool(json, NULL, "internal", &n->internal, err)) < 0 ||
        (r = json_get_bool(json, NULL, "masquerade", &n->masquerade, err)) < 0 ||
        (r = json_get_strings(json, NULL, "labels", &n->labels, err)) < 0 ||
        (r = json_get_strings(json, NULL, "options", &n->options, err)) < 0) {
        return r;
    }
    n->mtu = (unsigned)mtu;
    return 0;
}

int network_read_row(sqlite3_stmt *stmt, struct network *ret, struct err *err)
{
    AUTO(network_donep) struct network n = {.driver = NETWORK_BRIDGE, .created = 0};
    (void)snprintf(n.id, sizeof(n.id), "%s", db_text(stmt, 0));
    (void)snprintf(n.bridge, sizeof(n.bridge), "%s", db_text(stmt, 2));
    n.name = strdup(db_text(stmt, 1));
    if (n.name == NULL) {
        return err_set(err, ENOMEM, "read a network");
    }
    n.created = sqlite3_column_int64(stmt, 3);
    n.is_default = str_eq(n.name, "bridge");
    const char *text = db_text(stmt, 4);
    AUTO(json_unrefp) json_t *json = NULL;
    int r = json_parse(text, strlen(text), n.name, &json, err);
    if (r < 0 || (r = config_from_json(json, &n, err)) < 0) {
        return err_wrap(err, -r, "network '%s'", n.name);
    }
    (void)network_take(&n, ret);
    return 0;
}

/* 'host' and 'none' have no row: there is nothing to know about them. */
static int make_builtin(const char *name, struct network *ret, struct err *err)
{
    struct network n = {.driver = str_eq(name, "host") ? NETWORK_HOST : NETWORK_NONE,
                        .is_default = true};
    n.name = strdup(name);
    if (n.name == NULL) {
        return err_set(err, ENOMEM, "read a network");
    }
    /* A fixed id: the name in hexadecimal, repeated. */
    for (size_t i = 0; i + 2 < sizeof(n.id); i += 2) {
        (void)snprintf(&n.id[i], 3, "%02x", (unsigned)name[i / 2 % strlen(name)]);
    }
    *ret = n;
    return 0;
}

static int insert(struct network_host *host, const struct network *n, struct err *err)
{
    AUTO(json_unrefp) json_t *json = config_to_json(n);
    AUTO(freep) char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    if (text == NULL) {
        return err_set(err, ENOMEM, "create network '%s'", n->name);
    }
    struct err ours = ERR_NONE;
    int r = db_run(host->db, &ours,
                   "INSERT INTO network (id, name, bridge, created, config) VALUES (?, ?, ?, ?, ?)",
                   "sssis", n->id, n->name, n->bridge, n->created, text);
    if (r == -EEXIST) {
        return err_say(err, EEXIST, "network '%s': the name or its bridge '%s' is taken", n->name,
                       n->bridge);
    }
    if (r < 0 && err != NULL) {
        *err = ours;
    }
    return r < 0 ? r : 0;
}

static int make_default(struct network_host *host, struct network *ret, struct err *err)
{
    AUTO(network_donep)
    struct network n = {.masquerade = true, .is_default = true, .created = clock_realtime_ns()};
    n.name = strdup("bridge");
    if (n.name == NULL) {
        return err_set(err, ENOMEM, "create the default network");
    }
    int r = random_hex(n.id, 32, err);
    if (r < 0 || (r = network_choose_subnet(host, AF_INET, true, &n.subnet[0], err)) < 0) {
        return r;
    }
    n.gateway[0] = ip_add(&n.subnet[0].address, 1);
    if (str_eq(host->tag, "isola")) {
        (void)snprintf(n.bridge, sizeof(n.bridge), "isola0");
    } else {
        (void)snprintf(n.bridge, sizeof(n.bridge), "isola-%.8s", n.id);
    }
    r = insert(host, &n, err);
    if (r == 0) {
        (void)network_take(&n, ret);
    }
    return r;
}

/* One row by exact name or id, or by a unique beginning of the id. */
static int find_row(struct network_host *host, const char *name, struct network *ret,
                    struct err *err)
{
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    size_t len = strlen(name);
    /* The beginning of an id is a range of the primary key: no LIKE, which reads % and _. */
    int r = db_prepare(host->db, &stmt, err,
                       COLUMNS "WHERE name = ?1 OR (id >= ?1 AND substr(id, 1, length(?1)) = ?1)"
                               " ORDER BY name <> ?1, id <> ?1 LIMIT 2",
                       "s", name);
    if (r < 0 || (r = db_step(host->db, stmt, err)) < 0) {
        return r;
    }
    if (r == 0 || len == 0) {
        return err_say(err, ENOENT, "no such network: '%s'", name);
    }
    AUTO(network_donep) struct network n = {0};
    r = network_read_row(stmt, &n, err);
    if (r < 0) {
        return r;
    }
    bool exact = str_eq(n.name, name) || str_eq(n.id, name);
    r = exact ? 0 : db_step(host->db, stmt, err);
    if (r < 0) {
        return r;
    }
    if (r > 0) {
        return err_say(err, EINVAL, "network '%s' is ambiguous: several ids begin so", name);
    }
    (void)network_take(&n, ret);
    return 0;
}

int network_find(struct network_host *host, const char *name, struct network *ret, struct err *err)
{
    if (str_eq(name, "host") || str_eq(name, "none")) {
        return make_builtin(name, ret, err);
    }
    bool wants_default = str_eq(name, "bridge") || str_eq(name, "default");
    struct err ours = ERR_NONE;
    int r = find_row(host, wants_default ? "bridge" : name, ret, &ours);
    if (r == -ENOENT && wants_default) {
        AUTO(db_tx_donep) struct db_tx tx = {0};
        r = db_begin(host->db, &tx, err);
        if (r < 0) {
            return r;
        }
        /* Another process may have made it while we waited for the lock. */
        r = find_row(host, "bridge", ret, &ours);
        if (r == -ENOENT) {
            r = make_default(host, ret, err);
        }
        if (r < 0) {
            return r;
        }
        r = db_commit(&tx, err);
        if (r < 0) {
            network_done(ret);
        }
        return r;
    }
    if (r < 0 && err != NULL) {
        *err = ours;
    }
    return r;
}

static int push(struct network_list *list, struct network *n)
{
    struct network *items = realloc(list->items, (list->count + 1) * sizeof(*items));
    if (items == NULL) {
        return -ENOMEM;
    }
    list->items = items;
    (void)network_take(n, &items[list->count++]);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct network *)a)->name, ((const struct network *)b)->name);
}

int network_list(struct network_host *host, struct network_list *ret, struct err *err)
{
    AUTO(network_list_donep) struct network_list list = {0};
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    int r = db_prepare(host->db, &stmt, err, COLUMNS, "");
    while (r >= 0 && (r = db_step(host->db, stmt, err)) > 0) {
        AUTO(network_donep) struct network n = {0};
        r = network_read_row(stmt, &n, err);
        if (r >= 0 && push(&list, &n) < 0) {
            return err_set(err, ENOMEM, "list networks");
        }
    }
    for (size_t i = 0; i < 2 && r >= 0; i++) {
        AUTO(network_donep) struct network n = {0};
        r = make_builtin(i == 0 ? "host" : "none", &n, err);
        if (r >= 0 && push(&list, &n) < 0) {
            return err_set(err, ENOMEM, "list networks");
        }
    }
    if (r < 0) {
        return r;
    }
    qsort(list.items, list.count, sizeof(list.items[0]), by_name);
    *ret = list;
    list = (struct network_list){0};
    return 0;
}

static bool option_is_on(const char *value)
{
    return str_eq(value, "true") || str_eq(value, "1");
}

/* The -o options that mean something here; any other is refused, so that none is ignored. */
static int apply_options(const struct strv *options, struct network *n, struct err *err)
{
    for (size_t i = 0; i < options->count; i++) {
        const char *option = options->items[i];
        const char *value = strchr(option, '=');
        size_t len = value != NULL ? (size_t)(value - option) : strlen(option);
        value = value != NULL ? value + 1 : "";
        uint64_t number = 0;
        if (strncmp(option, "com.docker.network.bridge.name=", len + 1) == 0) {
            if (strlen(value) >= IFNAMSIZ || !name_is_safe(value)) {
                return err_say(err, EINVAL, "bridge name '%s': at most 15 letters, digits or -_.",
                               value);
            }
            (void)snprintf(n->bridge, sizeof(n->bridge), "%s", value);
        } else if (strncmp(option, "com.docker.network.driver.mtu=", len + 1) == 0 ||
                   strncmp(option, "mtu=", len + 1) == 0) {
            if (parse_u64(value, 10, &number) < 0 || number < 68 || number > 65535 ||
                (n->subnet[1].address.family != 0 && number < 1280)) {
                return err_say(err, EINVAL, "mtu '%s': a number from 68 (IPv6: 1280) to 65535",
                               value);
            }
            n->mtu = (unsigned)number;
        } else if (strncmp(option, "com.docker.network.bridge.enable_ip_masquerade=", len + 1) ==
                   0) {
            if (!option_is_on(value) && !str_eq(value, "false") && !str_eq(value, "0")) {
                return err_say(err, EINVAL, "option '%s': true or false", option);
            }
            n->masquerade = option_is_on(value);
        } else {
            (void)err_say(err, EINVAL, "option '%s' is not supported by the bridge driver", option);
            err_hint(err, "known are com.docker.network.bridge.name, "
                          "com.docker.network.bridge.enable_ip_masquerade and "
                          "com.docker.network.driver.mtu");
            return -EINVAL;
        }
    }
    return 0;
}

static int add_subnet(struct network_host *host, const char *text, struct network *n,
                      struct err *err)
{
    struct ip_prefix prefix;
    if (ip_prefix_parse(text, &prefix) < 0) {
        return err_say(err, EINVAL, "subnet '%s': not ADDRESS/LENGTH", text);
    }
    size_t f = prefix.address.family == AF_INET6;
    struct ip_prefix network = ip_prefix_network(&prefix);
    if (!ip_eq(&network.address, &prefix.address)) {
        char right[IP_TEXT_SIZE];
        return err_say(err, EINVAL, "subnet '%s': host bits are set; did you mean %s", text,
                       ip_prefix_format(&network, right));
    }
    if (n->subnet[f].address.family != 0) {
        return err_say(err, EINVAL, "subnet '%s': there is one for IPv%d already", text,
                       f == 0 ? 4 : 6);
    }
    if (prefix.length > (f == 0 ? 30U : 126U) || prefix.length < 8) {
        return err_say(err, EINVAL, "subnet '%s': has no room for a gateway and a workload", text);
    }
    if (ip_is_loopback(&prefix.address) || ip_is_any(&prefix.address) ||
        (prefix.address.bytes[0] >= 224 && f == 0) || (prefix.address.bytes[0] == 0xff && f == 1)) {
        return err_say(err, EINVAL, "subnet '%s': not unicast addresses", text);
    }
    n->subnet[f] = prefix;
    return network_check_subnet(host, &prefix, err);
}

static int place_in_subnet(const char *what, const char *text, const struct network *n,
                           const struct ip_address *ip, struct err *err)
{
    size_t f = ip->family == AF_INET6;
    if (!ip_prefix_has(&n->subnet[f], ip)) {
        return err_say(err, EINVAL, "%s '%s': not inside a --subnet of the network", what, text);
    }
    return 0;
}

static int apply_addresses(struct network_host *host, const struct network_create *c,
                           struct network *n, struct err *err)
{
    int r = 0;
    for (size_t i = 0; i < c->subnets.count && r >= 0; i++) {
        r = add_subnet(host, c->subnets.items[i], n, err);
    }
    for (size_t f = 0; f < 2 && r >= 0; f++) {
        if (n->subnet[f].address.family == 0 && (f == 0 || c->ipv6)) {
            r = network_choose_subnet(host, f == 0 ? AF_INET : AF_INET6, false, &n->subnet[f], err);
        }
    }
    for (size_t i = 0; i < c->gateways.count && r >= 0; i++) {
        struct ip_address ip;
        if (ip_parse(c->gateways.items[i], &ip) < 0) {
            return err_say(err, EINVAL, "gateway '%s': not an address", c->gateways.items[i]);
        }
        r = place_in_subnet("gateway", c->gateways.items[i], n, &ip, err);
        n->gateway[ip.family == AF_INET6] = ip;
    }
    for (size_t i = 0; i < c->ranges.count && r >= 0; i++) {
        struct ip_prefix range;
        if (ip_prefix_parse(c->ranges.items[i], &range) < 0) {
            return err_say(err, EINVAL, "ip-range '%s': not ADDRESS/LENGTH", c->ranges.items[i]);
        }
        range = ip_prefix_network(&range);
        size_t f = range.address.family == AF_INET6;
        r = place_in_subnet("ip-range", c->ranges.items[i], n, &range.address, err);
        if (r >= 0 && range.length < n->subnet[f].length) {
            return err_say(err, EINVAL, "ip-range '%s': larger than the subnet",
                           c->ranges.items[i]);
        }
        n->range[f] = range;
    }
    for (size_t f = 0; f < 2 && r >= 0; f++) {
        if (n->subnet[f].address.family != 0 && n->gateway[f].family == 0) {
            n->gateway[f] = ip_add(&n->subnet[f].address, 1);
        }
    }
    return r;
}

static int check_create(const struct network_create *c, struct err *err)
{
    static const char *const reserved[] = {"bridge", "default", "host", "none"};
    if (c->name == NULL || !name_is_safe(c->name)) {
        return err_say(err, EINVAL, "network name '%s': letters, digits and _.- only",
                       c->name != NULL ? c->name : "");
    }
    for (size_t i = 0; i < COUNT(reserved); i++) {
        if (str_eq(c->name, reserved[i])) {
            return err_say(err, EEXIST, "network name '%s' is reserved", c->name);
        }
    }
    if (c->driver != NULL && !str_eq(c->driver, "bridge")) {
        (void)err_say(err, EINVAL, "network driver '%s' is not supported", c->driver);
        err_hint(err, "use --driver bridge");
        return -EINVAL;
    }
    return 0;
}

int network_create(struct network_host *host, const struct network_create *create,
                   struct network *ret, struct err *err)
{
    int r = check_create(create, err);
    if (r < 0) {
        return r;
    }
    if (host->rootless) {
        return err_say(err, EPERM, "create network '%s': bridges need root", create->name);
    }
    AUTO(network_donep)
    struct network n = {
        .masquerade = !create->internal,
        .internal = create->internal,
        .created = clock_realtime_ns(),
    };
    n.name = strdup(create->name);
    if (n.name == NULL || strv_copy(&create->labels, &n.labels) < 0 ||
        strv_copy(&create->options, &n.options) < 0) {
        return err_set(err, ENOMEM, "create network '%s'", create->name);
    }
    r = random_hex(n.id, 32, err);
    if (r < 0) {
        return r;
    }
    (void)snprintf(n.bridge, sizeof(n.bridge), "isola-%.8s", n.id);
    AUTO(db_tx_donep) struct db_tx tx = {0};
    r = db_begin(host->db, &tx, err);
    if (r < 0) {
        return r;
    }
    /* The subnets of others may not change between the check and the row. */
    if ((r = apply_addresses(host, create, &n, err)) < 0 ||
        (r = apply_options(&create->options, &n, err)) < 0 || (r = insert(host, &n, err)) < 0 ||
        (r = db_commit(&tx, err)) < 0) {
        return err_wrap(err, -r, "create network '%s'", create->name);
    }
    (void)network_take(&n, ret);
    return 0;
}
