#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "cmd/common.h"
#include "cmd/format.h"
#include "cmd/network.h"
#include "engine/network.h"

#define AT(member) offsetof(struct network_show_options, member)

const struct option_spec network_ls_options[] = {
    {"filter", 'f', OPTION_LIST, AT(filter), "KEY=VALUE", "driver, id, label, name, scope, type",
     NULL},
    {"format", 0, OPTION_STRING, AT(format), "TEMPLATE", "json, table ... or a Go template", NULL},
    {"no-trunc", 0, OPTION_FLAG, AT(no_trunc), NULL, "Whole ids", NULL},
    {"quiet", 'q', OPTION_FLAG, AT(quiet), NULL, "Only ids", NULL},
    {0},
};

const struct option_spec network_inspect_options[] = {
    {"format", 'f', OPTION_STRING, AT(format), "TEMPLATE", "json or a Go template", NULL},
    {0},
};

static const char *driver_name(const struct network *n)
{
    static const char *const names[] = {"bridge", "host", "null"};
    return names[n->driver];
}

/* 1 fits, 0 does not. */
static int filter_fits(const char *filter, const struct network *n, struct err *err)
{
    const char *value = strchr(filter, '=');
    if (value == NULL) {
        return err_say(err, EINVAL, "--filter '%s' is not KEY=VALUE", filter);
    }
    value++;
    if (str_starts(filter, "driver=")) {
        return str_eq(value, driver_name(n));
    }
    if (str_starts(filter, "id=")) {
        return str_starts(n->id, value);
    }
    if (str_starts(filter, "label=")) {
        return strv_has(&n->labels, value) || env_get(&n->labels, value) != NULL;
    }
    if (str_starts(filter, "name=")) {
        return strstr(n->name, value) != NULL;
    }
    if (str_starts(filter, "scope=")) {
        return str_eq(value, "local");
    }
    if (str_eq(filter, "type=custom") || str_eq(filter, "type=builtin")) {
        return n->is_default == str_eq(value, "builtin");
    }
    return err_say(err, EINVAL,
                   "--filter '%s' is not driver=, id=, label=, name=, scope= or type=", filter);
}

static int is_wanted(const struct network_show_options *o, const struct network *n, struct err *err)
{
    int r = 1;
    for (size_t i = 0; i < o->filter.count && r > 0; i++) {
        r = filter_fits(o->filter.items[i], n, err);
    }
    return r;
}

static json_t *describe(const struct network *n, bool no_trunc)
{
    AUTO(buf_donep) struct buf labels = {0};
    for (size_t i = 0; i < n->labels.count; i++) {
        if (buf_printf(&labels, "%s%s", i == 0 ? "" : ",", n->labels.items[i]) < 0) {
            return NULL;
        }
    }
    char id[NETWORK_ID_SIZE];
    (void)snprintf(id, sizeof(id), "%.*s", no_trunc ? (int)sizeof(id) : 12, n->id);
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "ID", id, "Name", n->name, "Driver", driver_name(n),
        "Scope", "local", "IPv6", n->subnet[1].address.family != 0 ? "true" : "false", "Internal",
        n->internal ? "true" : "false", "Labels", labels.data != NULL ? labels.data : "");
}

int network_run_ls(struct command_context *context, void *options, int argc, char **argv,
                   struct err *err)
{
    (void)argc;
    (void)argv;
    const struct network_show_options *o = options;
    static const struct format_header headers[] = {{"ID", "NETWORK ID"}, {NULL, NULL}};
    const char *template = o->format != NULL ? o->format
                           : o->quiet        ? "{{.ID}}"
                                             : "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(network_list_donep) struct network_list list = {0};
    AUTO(network_donep) struct network standard = {0};
    AUTO(format_freep) struct format *format = NULL;
    struct network_host *host = NULL;
    int r = command_engine(context, &engine, err);
    /* Looking for the default network makes its row: it is listed on a new machine too. */
    if (r < 0 || (r = engine_network(engine, &host, err)) < 0 ||
        (r = network_find(host, "bridge", &standard, err)) < 0 ||
        (r = network_list(host, &list, err)) < 0 ||
        (r = format_new(template, headers, &format, err)) < 0) {
        return r;
    }
    for (size_t i = 0; r >= 0 && i < list.count; i++) {
        r = is_wanted(o, &list.items[i], err);
        if (r > 0) {
            AUTO(json_unrefp) json_t *row = describe(&list.items[i], o->no_trunc);
            r = row == NULL ? err_set(err, ENOMEM, "list networks") : format_add(format, row, err);
        }
    }
    return r < 0 ? r : format_finish(format, stdout, err);
}

int network_run_inspect(struct command_context *context, void *options, int argc, char **argv,
                        struct err *err)
{
    const struct network_show_options *o = options;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(json_unrefp) json_t *found = json_array();
    AUTO(format_freep) struct format *format = NULL;
    struct network_host *host = NULL;
    int r = command_engine(context, &engine, err);
    if (r == 0) {
        r = engine_network(engine, &host, err);
    }
    if (r == 0 && o->format != NULL) {
        r = format_new(o->format, NULL, &format, err);
    }
    for (int i = 0; r >= 0 && i < argc; i++) {
        AUTO(network_donep) struct network n = {0};
        AUTO(json_unrefp) json_t *json = NULL;
        r = network_find(host, argv[i], &n, err);
        if (r < 0 || (r = network_inspect(host, &n, &json, err)) < 0) {
            break;
        }
        r = format != NULL ? format_add(format, json, err) : json_array_append(found, json);
    }
    /* What was found is shown, also before an error. */
    if (format != NULL) {
        int finished = format_finish(format, stdout, r < 0 ? NULL : err);
        return r < 0 ? r : finished;
    }
    if (r >= 0 || json_array_size(found) > 0) {
        (void)json_dumpf(found, stdout, JSON_INDENT(4));
        (void)printf("\n");
    }
    return r < 0 ? r : 0;
}
