#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "cmd/format.h"
#include "engine/describe.h"
#include "engine/end.h"

struct ps_options {
    bool all;
    bool quiet;
    bool no_trunc;
    bool latest;
    int64_t last;
    struct strv filter;
    const char *format;
};

#define AT(member) offsetof(struct ps_options, member)

static const struct option_spec options[] = {
    {"all", 'a', OPTION_FLAG, AT(all), NULL, "Also those that do not run", NULL},
    {"filter", 'f', OPTION_LIST, AT(filter), "KEY=VALUE",
     "name, id, label, status, ancestor, exited, health, volume, network", NULL},
    {"format", 0, OPTION_STRING, AT(format), "TEMPLATE", "json, table ... or a Go template", NULL},
    {"last", 'n', OPTION_INT, AT(last), "N", "Only the newest ones, of any state", NULL},
    {"latest", 'l', OPTION_FLAG, AT(latest), NULL, "Only the newest one, of any state", NULL},
    {"no-trunc", 0, OPTION_FLAG, AT(no_trunc), NULL, "Whole ids and commands", NULL},
    {"quiet", 'q', OPTION_FLAG, AT(quiet), NULL, "Only ids", NULL},
    {0},
};

static const struct format_header headers[] = {
    {"ID", "CONTAINER ID"},
    {"RunningFor", "CREATED"},
    {NULL, NULL},
};

static const char default_format[] =
    "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

static bool label_matches(const struct workload *workload, const char *wanted)
{
    for (size_t i = 0; i < workload->config.label.count; i++) {
        const char *label = workload->config.label.items[i];
        size_t key = strcspn(label, "=");
        if (str_eq(label, wanted) || (strchr(wanted, '=') == NULL && strlen(wanted) == key &&
                                      strncmp(label, wanted, key) == 0)) {
            return true;
        }
    }
    return false;
}

static bool list_holds(const struct strv *list, const char *part)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strstr(list->items[i], part) != NULL) {
            return true;
        }
    }
    return false;
}

/* 1: matches, 0: does not, negative: the filter is wrong. */
static int matches(const struct workload *w, const char *key, const char *value, struct err *err)
{
    if (str_eq(key, "name")) {
        return strstr(w->name, value) != NULL;
    }
    if (str_eq(key, "id")) {
        return str_starts(w->id, value);
    }
    if (str_eq(key, "label")) {
        return label_matches(w, value);
    }
    if (str_eq(key, "status")) {
        return str_eq(workload_state_name(w->state), value);
    }
    if (str_eq(key, "ancestor")) {
        return str_eq(w->config.image, value) ||
               (w->config.image_id != NULL && strstr(w->config.image_id, value) != NULL);
    }
    if (str_eq(key, "exited")) {
        int64_t code;
        return w->state == WORKLOAD_EXITED && parse_i64(value, &code) == 0 &&
               code == w->run.exit_code;
    }
    if (str_eq(key, "health")) {
        return str_eq(health_name(w->status.health), value);
    }
    if (str_eq(key, "volume")) {
        return list_holds(&w->config.volume, value) || list_holds(&w->config.mount, value) ||
               list_holds(&w->config.anonymous_volume, value);
    }
    if (str_eq(key, "network")) {
        return strv_has(&w->config.network, value) ||
               (w->config.network.count == 0 && str_eq(value, "bridge"));
    }
    return err_say(err, EINVAL, "--filter '%s' is not known; see `isola ps --help`", key);
}

/*
 * Docker's rule: the values of one key are alternatives, keys and labels must all match. Here: the
 * filter at index, or another one of its key.
 */
static int filter_matches(const struct strv *filters, size_t index, const struct workload *w,
                          bool *by_state, struct err *err)
{
    const char *first = filters->items[index];
    size_t len = strcspn(first, "=");
    bool all = strncmp(first, "label=", 6) == 0;
    AUTO(freep) char *key = strndup(first, len);
    if (key == NULL || first[len] == '\0') {
        return err_say(err, EINVAL, "--filter '%s' is not KEY=VALUE", first);
    }
    *by_state = *by_state || str_eq(key, "status") || str_eq(key, "exited");
    int r = matches(w, key, first + len + 1, err);
    for (size_t i = 0; !all && r == 0 && i < filters->count; i++) {
        const char *other = filters->items[i];
        if (strncmp(other, first, len + 1) == 0) {
            r = matches(w, key, other + len + 1, err);
        }
    }
    return r;
}

static int is_wanted(const struct ps_options *o, const struct workload *w, struct err *err)
{
    bool by_state = false;
    for (size_t i = 0; i < o->filter.count; i++) {
        int r = filter_matches(&o->filter, i, w, &by_state, err);
        if (r <= 0) {
            return r;
        }
    }
    return o->all || by_state || o->last > 0 || w->state == WORKLOAD_RUNNING ||
           w->state == WORKLOAD_PAUSED || w->state == WORKLOAD_RESTARTING;
}

/* The bytes of the first count characters of s; s is UTF-8, as JSON strings are. */
static size_t characters(const char *s, size_t count)
{
    size_t at = 0;
    for (; s[at] != '\0'; at++) {
        bool starts = ((unsigned char)s[at] & 0xc0) != 0x80;
        if (starts && count-- == 0) {
            break;
        }
    }
    return at;
}

static void shorten(json_t *row)
{
    const char *id = json_string_value(json_object_get(row, "ID"));
    (void)json_object_set_new(row, "ID", json_stringn(id, WORKLOAD_SHORT_ID_LENGTH));
    const char *command = json_string_value(json_object_get(row, "Command"));
    if (command[characters(command, 22)] != '\0') {
        AUTO(freep) char *cut = str_printf("%.*s…\"", (int)characters(command, 19), command);
        (void)json_object_set_new(row, "Command", json_string(cut));
    }
}

static int print_rows(struct engine *engine, const struct ps_options *o,
                      const struct workload_list *list, struct err *err)
{
    AUTO(format_freep) struct format *format = NULL;
    const char *template = o->format != NULL ? o->format : o->quiet ? "{{.ID}}" : default_format;
    int64_t left = o->last > 0 ? o->last : INT64_MAX;
    int r = format_new(template, headers, &format, err);
    for (size_t i = 0; r >= 0 && i < list->count && left > 0; i++) {
        AUTO(json_unrefp) json_t *row = NULL;
        r = is_wanted(o, &list->items[i], err);
        if (r <= 0) {
            continue;
        }
        left--;
        r = describe_row(engine, &list->items[i], &row, err);
        if (r == 0) {
            if (!o->no_trunc) {
                shorten(row);
            }
            r = format_add(format, row, err);
        }
    }
    return r < 0 ? r : format_finish(format, stdout, err);
}

static int run_ps(struct command_context *context, void *data, int argc, char **argv,
                  struct err *err)
{
    (void)argc;
    (void)argv;
    struct ps_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(workload_list_donep) struct workload_list list = {0};
    if (o->latest) {
        o->last = 1;
    }
    int r = command_engine(context, &engine, err);
    if (r == 0) {
        r = workload_list(engine, &list, err);
    }
    /* What ended unnoticed is ended now, and then listed as what it is. */
    bool changed = false;
    for (size_t i = 0; r == 0 && i < list.count; i++) {
        if (end_is_due(&list.items[i])) {
            r = end_run(engine, list.items[i].id, err);
            changed = true;
        }
    }
    if (r == 0 && changed) {
        workload_list_done(&list);
        r = workload_list(engine, &list, err);
    }
    return r < 0 ? r : print_rows(engine, o, &list, err);
}

const struct command ps_commands[] = {
    {
        .name = "ps",
        .operands = "",
        .summary = "List workloads",
        .options = options,
        .options_size = sizeof(struct ps_options),
        .run = run_ps,
    },
    {
        .group = "container",
        .name = "ls",
        .operands = "",
        .summary = "List workloads",
        .options = options,
        .options_size = sizeof(struct ps_options),
        .run = run_ps,
    },
    {0},
};
