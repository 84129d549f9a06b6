#include "engine/network.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "cmd/network.h"
#include "engine/workload_network.h"

struct network_options {
    struct strv subnet;
    struct strv gateway;
    struct strv ip_range;
    struct strv label;
    struct strv opt;
    struct strv alias;
    const char *driver;
    const char *ip;
    const char *ip6;
    bool ipv6;
    bool internal;
    bool force;
};

#define AT(member) offsetof(struct network_options, member)

static const struct option_spec create_options[] = {
    {"driver", 'd', OPTION_STRING, AT(driver), "DRIVER", "bridge", NULL},
    {"gateway", 0, OPTION_LIST, AT(gateway), "IP", "The host's address, one a subnet", NULL},
    {"internal", 0, OPTION_FLAG, AT(internal), NULL, "No way out and no way in", NULL},
    {"ip-range", 0, OPTION_LIST, AT(ip_range), "SUBNET", "Where addresses are chosen", NULL},
    {"ipv6", 0, OPTION_FLAG, AT(ipv6), NULL, "IPv6 as well", NULL},
    {"label", 0, OPTION_LIST, AT(label), "KEY=VALUE", "Set a label", NULL},
    {"opt", 'o', OPTION_LIST, AT(opt), "KEY=VALUE", "Set an option of the driver", NULL},
    {"subnet", 0, OPTION_LIST, AT(subnet), "SUBNET", "ADDRESS/LENGTH, one a family", NULL},
    {0},
};

static const struct option_spec connect_options[] = {
    {"alias", 0, OPTION_LIST, AT(alias), "NAME", "Another name in this network", NULL},
    {"ip", 0, OPTION_STRING, AT(ip), "IP", "IPv4 address", NULL},
    {"ip6", 0, OPTION_STRING, AT(ip6), "IP", "IPv6 address", NULL},
    {0},
};

static const struct option_spec force_options[] = {
    {"force", 'f', OPTION_FLAG, AT(force), NULL, "Do not ask; a missing one is no error", NULL},
    {0},
};

static const struct option_spec disconnect_options[] = {
    {"force", 'f', OPTION_FLAG, AT(force), NULL, "A workload that is not in it is no error", NULL},
    {0},
};

static int run_create(struct command_context *context, void *data, int argc, char **argv,
                      struct err *err)
{
    (void)argc;
    const struct network_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(network_donep) struct network network = {0};
    struct network_host *host = NULL;
    const struct network_create create = {
        .name = argv[0],
        .driver = o->driver,
        .subnets = o->subnet,
        .gateways = o->gateway,
        .ranges = o->ip_range,
        .ipv6 = o->ipv6,
        .internal = o->internal,
        .labels = o->label,
        .options = o->opt,
    };
    int r = command_engine(context, &engine, err);
    if (r < 0 || (r = engine_network(engine, &host, err)) < 0 ||
        (r = network_create(host, &create, &network, err)) < 0) {
        return r;
    }
    (void)printf("%s\n", network.id);
    return 0;
}

static int remove_one(struct engine *engine, const char *name, void *data, struct err *err)
{
    const struct network_options *o = data;
    struct network_host *host = NULL;
    int r = engine_network(engine, &host, err);
    if (r == 0) {
        r = network_remove(host, name, err);
    }
    return r == -ENOENT && o->force ? 0 : r;
}

static int run_rm(struct command_context *context, void *data, int argc, char **argv,
                  struct err *err)
{
    AUTO(engine_closep) struct engine *engine = NULL;
    int r = command_engine(context, &engine, err);
    return r < 0 ? r : command_each(engine, argc, argv, remove_one, data);
}

static int run_prune(struct command_context *context, void *data, int argc, char **argv,
                     struct err *err)
{
    (void)argc;
    (void)argv;
    const struct network_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(strv_donep) struct strv removed = {0};
    struct network_host *host = NULL;
    if (!command_confirm("Remove all networks that no running workload uses?", o->force)) {
        return 0;
    }
    int r = command_engine(context, &engine, err);
    if (r < 0 || (r = engine_network(engine, &host, err)) < 0) {
        return r;
    }
    r = network_prune(host, &removed, err);
    for (size_t i = 0; i < removed.count; i++) {
        (void)printf("%s\n", removed.items[i]);
    }
    return r;
}

static bool is_running(const struct workload *workload)
{
    return workload->state == WORKLOAD_RUNNING || workload->state == WORKLOAD_PAUSED;
}

/* What `isola run --network` was given means this network: 1, 0 or a negative errno. */
static int entry_is(struct network_host *host, const char *entry, const struct network *network,
                    struct err *err)
{
    AUTO(network_request_donep) struct network_request request = {0};
    AUTO(network_donep) struct network found = {0};
    int r = network_request_add(&request, entry, err);
    if (r < 0 || request.endpoint_count == 0) {
        return r;
    }
    struct err ours = ERR_NONE;
    r = network_find(host, request.endpoints[0].network, &found, &ours);
    if (r < 0) {
        return r == -ENOENT ? 0 : r; /* removed meanwhile */
    }
    return str_eq(found.id, network->id);
}

static int check_mode(const struct workload *workload, struct err *err)
{
    const struct strv *list = &workload->config.network;
    if (list->count == 1 &&
        (str_eq(list->items[0], "host") || str_starts(list->items[0], "container:"))) {
        return err_say(err, EINVAL, "'%s' runs with --network %s and cannot join or leave networks",
                       workload->name, list->items[0]);
    }
    return 0;
}

/* The entry for the next start, in --network's long form. */
static char *make_entry(const struct network_options *o, const char *network)
{
    AUTO(buf_donep) struct buf text = {0};
    int r = buf_printf(&text, "name=%s", network);
    if (r >= 0 && o->ip != NULL) {
        r = buf_printf(&text, ",ip=%s", o->ip);
    }
    if (r >= 0 && o->ip6 != NULL) {
        r = buf_printf(&text, ",ip6=%s", o->ip6);
    }
    for (size_t i = 0; i < o->alias.count && r >= 0; i++) {
        r = buf_printf(&text, ",alias=%s", o->alias.items[i]);
    }
    return r < 0 ? NULL : buf_take(&text);
}

static int run_connect(struct command_context *context, void *data, int argc, char **argv,
                       struct err *err)
{
    (void)argc;
    const struct network_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(workload_donep) struct workload workload = {0};
    AUTO(network_donep) struct network network = {0};
    AUTO(network_request_donep) struct network_request request = {0};
    AUTO(freep) char *entry = make_entry(o, argv[0]);
    struct network_host *host = NULL;
    if (entry == NULL) {
        return err_set(err, ENOMEM, "connect to '%s'", argv[0]);
    }
    int r = command_engine(context, &engine, err);
    if (r < 0 || (r = engine_network(engine, &host, err)) < 0 ||
        (r = workload_find(engine, argv[1], &workload, err)) < 0 ||
        (r = network_find(host, argv[0], &network, err)) < 0) {
        return r;
    }
    AUTO(closep) int lock = workload_lock(engine, workload.id, err);
    if (lock < 0 || (r = check_mode(&workload, err)) < 0 ||
        (r = network_request_add(&request, entry, err)) < 0) {
        return lock < 0 ? lock : r;
    }
    struct strv *list = &workload.config.network;
    bool running = is_running(&workload);
    if (network.driver != NETWORK_BRIDGE) {
        return err_say(err, EINVAL, "network '%s' cannot be joined later", network.name);
    }
    for (size_t i = 0; i < list->count && r >= 0; i++) {
        r = entry_is(host, list->items[i], &network, err);
        if (r > 0) {
            return err_say(err, EEXIST, "'%s' is in network '%s' already", workload.name,
                           network.name);
        }
    }
    /* No --network at all meant the default one; --network none gives way. */
    if (r >= 0 && list->count == 0) {
        if (network.is_default) {
            return err_say(err, EEXIST, "'%s' is in network 'bridge' already", workload.name);
        }
        r = strv_add(list, "bridge");
    } else if (r >= 0 && str_eq(list->items[0], "none")) {
        strv_done(list);
    }
    if (r < 0) {
        return err_wrap(err, -r, "connect to '%s'", network.name);
    }
    /* One that does not run joins at its next start. */
    r = running ? workload_network_join(engine, &workload, &request.endpoints[0], err) : 0;
    if (r == 0 && strv_add(list, entry) < 0) {
        return err_set(err, ENOMEM, "connect to '%s'", network.name);
    }
    return r < 0 ? r : workload_save_config(engine, &workload, err);
}

/* Takes the network out of the configuration. 1: it was there. */
static int forget_entry(struct network_host *host, struct workload *workload,
                        const struct network *network, struct err *err)
{
    struct strv *list = &workload->config.network;
    AUTO(strv_donep) struct strv kept = {0};
    bool found = list->count == 0 && network->is_default;
    for (size_t i = 0; i < list->count; i++) {
        int r = entry_is(host, list->items[i], network, err);
        if (r < 0) {
            return r;
        }
        if (r == 0 && strv_add(&kept, list->items[i]) < 0) {
            return err_set(err, ENOMEM, "disconnect from '%s'", network->name);
        }
        found = found || r > 0;
        if (r > 0 && i == 0) {
            /* They were for the first network. */
            workload->config.ip = workload->config.ip6 = workload->config.mac_address = NULL;
            strv_done(&workload->config.network_alias);
        }
    }
    if (found && kept.count == 0 && strv_add(&kept, "none") < 0) {
        return err_set(err, ENOMEM, "disconnect from '%s'", network->name);
    }
    if (found) {
        strv_done(list);
        *list = kept;
        kept = (struct strv){0};
    }
    return found;
}

static int run_disconnect(struct command_context *context, void *data, int argc, char **argv,
                          struct err *err)
{
    (void)argc;
    const struct network_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(workload_donep) struct workload workload = {0};
    AUTO(network_donep) struct network network = {0};
    struct network_host *host = NULL;
    int r = command_engine(context, &engine, err);
    if (r < 0 || (r = engine_network(engine, &host, err)) < 0 ||
        (r = workload_find(engine, argv[1], &workload, err)) < 0 ||
        (r = network_find(host, argv[0], &network, err)) < 0) {
        return r;
    }
    AUTO(closep) int lock = workload_lock(engine, workload.id, err);
    if (lock < 0 || (r = check_mode(&workload, err)) < 0) {
        return lock < 0 ? lock : r;
    }
    r = forget_entry(host, &workload, &network, err);
    if (r == 0) {
        return o->force ? 0
                        : err_say(err, ENOENT, "'%s' is not in network '%s'", workload.name,
                                  network.name);
    }
    if (r > 0 && is_running(&workload)) {
        r = workload_network_leave(engine, &workload, network.id, err);
    }
    return r < 0 ? r : workload_save_config(engine, &workload, err);
}

#define NETWORK_ROW(command, text, summary_text, specs, least, most)                               \
    {                                                                                              \
        .group = "network", .name = #command, .operands = text, .summary = summary_text,           \
        .options = specs, .options_size = sizeof(struct network_options), .operands_min = least,   \
        .operands_max = most, .run = run_##command                                                 \
    }

const struct command network_commands[] = {
    NETWORK_ROW(connect, "NETWORK WORKLOAD", "Let a workload join a network", connect_options, 2,
                2),
    NETWORK_ROW(create, "NAME", "Create a network", create_options, 1, 1),
    NETWORK_ROW(disconnect, "NETWORK WORKLOAD", "Let a workload leave a network",
                disconnect_options, 2, 2),
    {
        .group = "network",
        .name = "inspect",
        .operands = "NETWORK...",
        .summary = "Show everything about networks",
        .options = network_inspect_options,
        .options_size = sizeof(struct network_show_options),
        .operands_min = 1,
        .operands_max = -1,
        .run = network_run_inspect,
    },
    {
        .group = "network",
        .name = "ls",
        .operands = "",
        .summary = "List networks",
        .options = network_ls_options,
        .options_size = sizeof(struct network_show_options),
        .run = network_run_ls,
    },
    NETWORK_ROW(prune, "", "Remove networks that no running workload uses", force_options, 0, 0),
    NETWORK_ROW(rm, "NETWORK...", "Remove networks", force_options, 1, -1),
    {0},
};
