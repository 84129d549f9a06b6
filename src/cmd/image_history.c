#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "cmd/format.h"
#include "cmd/image_commands.h"
#include "image/image.h"
#include "image/reference.h"
#include "image/store.h"

#define CREATED_BY_SHOWN 45

struct history_options {
    const char *format;
    bool human;
    bool no_trunc;
    bool quiet;
};

static const struct option_spec history_specs[] = {
    {"format", 0, OPTION_STRING, offsetof(struct history_options, format), "TEMPLATE",
     "Print by a template, or: table, table TEMPLATE, json", NULL},
    {"human", 'H', OPTION_FLAG, offsetof(struct history_options, human), NULL,
     "Show sizes and ages for people (default); --human=false: bytes and times", NULL},
    {"no-trunc", 0, OPTION_FLAG, offsetof(struct history_options, no_trunc), NULL,
     "Show whole ids and commands", NULL},
    {"quiet", 'q', OPTION_FLAG, offsetof(struct history_options, quiet), NULL, "Show only ids",
     NULL},
    {0},
};

static const struct format_header headers[] = {
    {"ID", "IMAGE"}, {"CreatedSince", "CREATED"}, {"CreatedBy", "CREATED BY"}, {0}};

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static json_t *step_json(const json_t *step, const char *id, uint64_t size,
                         const struct history_options *o)
{
    char age[64] = "N/A";
    char size_text[32];
    int64_t created = 0;
    const char *by = text_of(step, "created_by");
    if (parse_time(text_of(step, "created"), 0, &created) == 0) {
        format_age(clock_realtime_ns() - created, age, sizeof(age) - 4);
        (void)strncat(age, " ago", 5);
    }
    if (o->human) {
        format_size(size, size_text, sizeof(size_text));
    } else {
        (void)snprintf(size_text, sizeof(size_text), "%llu", (unsigned long long)size);
    }
    bool cut = !o->no_trunc && strlen(by) > CREATED_BY_SHOWN;
    AUTO(freep) char *shown = cut ? str_printf("%.*s...", CREATED_BY_SHOWN - 3, by) : strdup(by);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "ID", id, "CreatedSince",
                     o->human ? age : text_of(step, "created"), "CreatedAt",
                     text_of(step, "created"), "CreatedBy", shown, "Size", size_text, "Comment",
                     text_of(step, "comment"));
}

static bool has_layer(const json_t *step)
{
    return !json_is_true(json_object_get(step, "empty_layer"));
}

static int print_history(struct image_store *store, const struct image *image,
                         const struct history_options *o, struct err *err)
{
    AUTO(freep) uint64_t *sizes = NULL;
    size_t layers = 0;
    AUTO(format_freep) struct format *format = NULL;
    const char *template = o->format != NULL && !str_eq(o->format, "table") ? o->format
                           : o->quiet                                       ? "{{.ID}}"
                                      : "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}"
                                        "\t{{.Size}}\t{{.Comment}}";
    int r = format_new(template, headers, &format, err);
    const json_t *history = json_object_get(image->json, "history");
    AUTO(freep)
    char *id = o->no_trunc ? strdup(image->id) : strndup(image->id + DIGEST_HEX_OFFSET, 12);
    if (id == NULL) {
        return err_set(err, ENOMEM, "show history");
    }
    r = r < 0 ? r : image_layer_sizes(store, image->id, &sizes, &layers, err);
    /* Steps that made a layer, from the bottom up, are the layers from the bottom up. */
    size_t at = 0;
    for (size_t i = 0; i < json_array_size(history); i++) {
        at += has_layer(json_array_get(history, i)) ? 1 : 0;
    }
    for (size_t i = json_array_size(history); r == 0 && i > 0; i--) {
        const json_t *step = json_array_get(history, i - 1);
        uint64_t size = 0;
        if (has_layer(step) && at > 0) {
            at--;
            size = at < layers ? sizes[at] : 0;
        }
        AUTO(json_unrefp)
        json_t *json = step_json(step, i == json_array_size(history) ? id : "<missing>", size, o);
        r = json != NULL ? format_add(format, json, err) : err_set(err, ENOMEM, "show history");
    }
    return r < 0 ? r : format_finish(format, stdout, err);
}

static int history_run(struct command_context *context, void *options, int argc, char **argv,
                       struct err *err)
{
    (void)argc;
    AUTO(image_store_closep) struct image_store *store = NULL;
    AUTO(image_donep) struct image image = {0};
    int r = image_command_store(context, &store, err);
    r = r < 0 ? r : image_resolve(store, argv[0], NULL, &image, err);
    return r < 0 ? r : print_history(store, &image, options, err);
}

static void defaults(void *options)
{
    ((struct history_options *)options)->human = true;
}

const struct command image_history_command = {
    .options = history_specs,
    .options_size = sizeof(struct history_options),
    .operands_min = 1,
    .operands_max = 1,
    .run = history_run,
    .defaults = defaults,
};
