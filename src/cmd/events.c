#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "cmd/format.h"
#include "engine/event.h"

#define POLL_NS (100 * NS_PER_MS)

struct events_options {
    struct strv filter;
    const char *since;
    const char *until;
    const char *format;
};

#define AT(member) offsetof(struct events_options, member)

static const struct option_spec options[] = {
    {"filter", 'f', OPTION_LIST, AT(filter), "KEY=VALUE", "type, event, container, image", NULL},
    {"format", 0, OPTION_STRING, AT(format), "TEMPLATE", "json or a Go template", NULL},
    {"since", 0, OPTION_STRING, AT(since), "TIME", "Also those since a time", NULL},
    {"until", 0, OPTION_STRING, AT(until), "TIME", "Stop at a time", NULL},
    {0},
};

struct events {
    const struct events_options *options;
    int64_t last_id;
    int64_t until_ns;
};

static const char *attribute(const json_t *attributes, const char *key)
{
    const char *value = json_string_value(json_object_get(attributes, key));
    return value != NULL ? value : "";
}

static bool filter_matches(const struct event *event, const json_t *attributes, const char *filter)
{
    const char *value = strchr(filter, '=');
    size_t key = value != NULL ? (size_t)(value - filter) : 0;
    value = value != NULL ? value + 1 : "";
    if (strncmp(filter, "type", key) == 0) {
        return str_eq(event->type, value);
    }
    if (strncmp(filter, "event", key) == 0) {
        return str_eq(event->action, value);
    }
    if (strncmp(filter, "container", key) == 0) {
        return str_eq(event->type, "container") &&
               (str_starts(event->actor, value) || str_eq(attribute(attributes, "name"), value));
    }
    return strncmp(filter, "image", key) == 0 && str_eq(attribute(attributes, "image"), value);
}

/* Filters of one key are alternatives, different keys must all match: Docker's rule. */
static bool is_wanted(const struct strv *filters, const struct event *event,
                      const json_t *attributes)
{
    for (size_t i = 0; i < filters->count; i++) {
        size_t key = strcspn(filters->items[i], "=");
        bool any = false;
        for (size_t k = 0; k < filters->count; k++) {
            any = any || (strncmp(filters->items[k], filters->items[i], key + 1) == 0 &&
                          filter_matches(event, attributes, filters->items[k]));
        }
        if (!any) {
            return false;
        }
    }
    return true;
}

static void print_plain(const struct event *event, const json_t *attributes)
{
    char time[TIME_TEXT_SIZE];
    const char *key;
    json_t *value;
    const char *separator = "";
    format_time(event->time_ns, time);
    (void)printf("%s %s %s %s (", time, event->type, event->action, event->actor);
    json_object_foreach ((json_t *)(uintptr_t)attributes, key, value) {
        (void)printf("%s%s=%s", separator, key, json_string_value(value));
        separator = ", ";
    }
    (void)printf(")\n");
}

static int print_event(const struct event *event, void *data)
{
    struct events *events = data;
    AUTO(json_unrefp) json_t *attributes = NULL;
    events->last_id = event->id;
    if (json_parse(event->attributes, strlen(event->attributes), "event", &attributes, NULL) < 0 ||
        event->time_ns > events->until_ns ||
        !is_wanted(&events->options->filter, event, attributes)) {
        return 0;
    }
    if (events->options->format == NULL) {
        print_plain(event, attributes);
        return 0;
    }
    AUTO(json_unrefp)
    json_t *object = json_pack("{s:s, s:s, s:s, s:s, s:{s:s, s:O}, s:I, s:I}", "Type", event->type,
                               "Action", event->action, "status", event->action, "id", event->actor,
                               "Actor", "ID", event->actor, "Attributes", attributes, "time",
                               (json_int_t)(event->time_ns / NS_PER_SEC), "timeNano",
                               (json_int_t)event->time_ns);
    AUTO(buf_donep) struct buf text = {0};
    struct err err = ERR_NONE;
    const char *format =
        str_eq(events->options->format, "json") ? "{{json .}}" : events->options->format;
    int r = format_value(format, object, &text, &err);
    if (r < 0) {
        (void)fprintf(stderr, "isola: %s\n", err_text(&err));
        return r;
    }
    (void)printf("%s\n", text.data != NULL ? text.data : "");
    return 0;
}

static int run_events(struct command_context *context, void *data, int argc, char **argv,
                      struct err *err)
{
    (void)argc;
    (void)argv;
    const struct events_options *o = data;
    struct events events = {.options = o, .until_ns = INT64_MAX};
    int64_t since = clock_realtime_ns();
    AUTO(engine_closep) struct engine *engine = NULL;
    for (size_t i = 0; i < o->filter.count; i++) {
        static const char *const known[] = {"type=", "event=", "container=", "image="};
        bool found = false;
        for (size_t k = 0; k < COUNT(known); k++) {
            found = found || str_starts(o->filter.items[i], known[k]);
        }
        if (!found) {
            return err_say(err, EINVAL, "--filter '%s' is not type=, event=, container= or image=",
                           o->filter.items[i]);
        }
    }
    if (o->since != NULL && parse_time(o->since, since, &since) < 0) {
        return err_say(err, EINVAL, "--since '%s' is not a time", o->since);
    }
    if (o->until != NULL && parse_time(o->until, clock_realtime_ns(), &events.until_ns) < 0) {
        return err_say(err, EINVAL, "--until '%s' is not a time", o->until);
    }
    int r = command_engine(context, &engine, err);
    while (r == 0) {
        r = event_each(engine->db, events.last_id, since, print_event, &events, err);
        (void)fflush(stdout);
        if (clock_realtime_ns() > events.until_ns || ferror(stdout)) {
            break;
        }
        const struct timespec pause = {.tv_nsec = POLL_NS};
        (void)nanosleep(&pause, NULL);
    }
    return r;
}

const struct command events_commands[] = {
    {
        .name = "events",
        .operands = "",
        .summary = "Show events of workloads and volumes as they come",
        .options = options,
        .options_size = sizeof(struct events_options),
        .run = run_events,
    },
    {0},
};
