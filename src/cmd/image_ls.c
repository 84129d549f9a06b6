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

#define SHORT_ID 12

struct ls_options {
    bool all;
    bool digests;
    bool no_trunc;
    bool quiet;
    struct strv filters;
    const char *format;
};

static const struct option_spec ls_specs[] = {
    {"all", 'a', OPTION_FLAG, offsetof(struct ls_options, all), NULL,
     "Show all images (there are no hidden ones)", NULL},
    {"digests", 0, OPTION_FLAG, offsetof(struct ls_options, digests), NULL, "Show digests", NULL},
    {"filter", 'f', OPTION_LIST, offsetof(struct ls_options, filters), "KEY=VALUE",
     "Show only what fits: dangling, reference, label, before, since, until, platform", NULL},
    {"format", 0, OPTION_STRING, offsetof(struct ls_options, format), "TEMPLATE",
     "Print by a template, or: table, table TEMPLATE, json", NULL},
    {"no-trunc", 0, OPTION_FLAG, offsetof(struct ls_options, no_trunc), NULL, "Show whole ids",
     NULL},
    {"quiet", 'q', OPTION_FLAG, offsetof(struct ls_options, quiet), NULL, "Show only ids", NULL},
    {0},
};

static const struct format_header headers[] = {
    {"ID", "IMAGE ID"}, {"CreatedSince", "CREATED"}, {"CreatedAt", "CREATED AT"}, {0}};

/* Shell pattern without classes: '*' and '?'. */
static bool pattern_fits(const char *pattern, const char *text)
{
    for (; *pattern != '\0'; pattern++, text++) {
        if (*pattern == '*') {
            do {
                if (pattern_fits(pattern + 1, text)) {
                    return true;
                }
            } while (*text++ != '\0');
            return false;
        }
        if (*text == '\0' || (*pattern != '?' && *pattern != *text)) {
            return false;
        }
    }
    return *text == '\0';
}

static bool reference_fits(const char *pattern, const struct image_row *row)
{
    AUTO(freep) char *familiar = row->name != NULL ? reference_familiar(row->name) : NULL;
    AUTO(freep) char *repository = NULL;
    AUTO(freep) char *tag = NULL;
    if (familiar == NULL || reference_split(familiar, &repository, &tag) < 0) {
        return false;
    }
    return pattern_fits(pattern, familiar) || pattern_fits(pattern, repository) ||
           pattern_fits(pattern, row->name);
}

static int label_fits(struct image_store *store, const struct image_row *row, const char *want,
                      struct err *err)
{
    AUTO(image_donep) struct image image = {0};
    int r = image_resolve(store, row->id, NULL, &image, err);
    if (r < 0) {
        return r;
    }
    if (strchr(want, '=') != NULL) {
        return strv_has(&image.config.labels, want) ? 1 : 0;
    }
    return env_get(&image.config.labels, want) != NULL ? 1 : 0;
}

/* 1 fits, 0 does not. */
static int filter_fits(struct image_store *store, const char *filter, const struct image_row *row,
                       struct err *err)
{
    const char *value = strchr(filter, '=');
    if (value == NULL) {
        return err_say(err, EINVAL, "--filter: '%s' is not KEY=VALUE", filter);
    }
    value++;
    if (str_starts(filter, "dangling=")) {
        bool want = str_eq(value, "true") || str_eq(value, "1");
        if (!want && !str_eq(value, "false") && !str_eq(value, "0")) {
            return err_say(err, EINVAL, "--filter: dangling is true or false, not '%s'", value);
        }
        return want == (row->name == NULL);
    }
    if (str_starts(filter, "reference=")) {
        return reference_fits(value, row);
    }
    if (str_starts(filter, "label=")) {
        return label_fits(store, row, value, err);
    }
    if (str_starts(filter, "platform=")) {
        return str_eq(value, row->platform);
    }
    if (str_starts(filter, "until=")) {
        int64_t until;
        if (parse_time(value, clock_realtime_ns(), &until) < 0) {
            return err_say(err, EINVAL, "--filter: '%s' is no time", value);
        }
        return row->created_ns < until;
    }
    bool before = str_starts(filter, "before=");
    if (before || str_starts(filter, "since=")) {
        AUTO(image_donep) struct image image = {0};
        int r = image_resolve(store, value, NULL, &image, err);
        return r < 0    ? r
               : before ? row->created_ns < image.created_ns
                        : row->created_ns > image.created_ns;
    }
    return err_say(err, EINVAL,
                   "--filter: unknown key in '%s'; there are dangling, reference, label, before, "
                   "since, until, platform",
                   filter);
}

static bool operand_fits(const char *operand, const struct image_row *row)
{
    AUTO(freep) char *familiar = row->name != NULL ? reference_familiar(row->name) : NULL;
    AUTO(freep) char *repository = NULL;
    AUTO(freep) char *tag = NULL;
    if (familiar == NULL || reference_split(familiar, &repository, &tag) < 0) {
        return false;
    }
    return pattern_fits(operand, familiar) || pattern_fits(operand, repository) ||
           pattern_fits(operand, row->name);
}

static json_t *row_json(const struct image_row *row, bool whole_id)
{
    char age[64] = "N/A";
    char created[TIME_TEXT_SIZE] = "";
    char size[32];
    AUTO(freep) char *familiar = row->name != NULL ? reference_familiar(row->name) : NULL;
    AUTO(freep) char *repository = NULL;
    AUTO(freep) char *tag = NULL;
    if (familiar != NULL && reference_split(familiar, &repository, &tag) < 0) {
        return NULL;
    }
    if (row->created_ns != 0) {
        format_age(clock_realtime_ns() - row->created_ns, age, sizeof(age) - 4);
        (void)strncat(age, " ago", 5);
        format_time(row->created_ns, created);
    }
    format_size(row->size, size, sizeof(size));
    AUTO(freep)
    char *id = whole_id ? strdup(row->id) : strndup(row->id + DIGEST_HEX_OFFSET, SHORT_ID);
    AUTO(freep) char *users = str_printf("%llu", (unsigned long long)row->users);
    if (id == NULL || users == NULL) {
        return NULL;
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "Repository",
                     repository != NULL ? repository : "<none>", "Tag",
                     tag != NULL ? tag : "<none>", "Digest", row->digest, "ID", id, "CreatedSince",
                     age, "CreatedAt", created, "Size", size, "Platform", row->platform,
                     "Containers", users);
}

static const char *default_format(const struct ls_options *o)
{
    if (o->format != NULL && !str_eq(o->format, "table")) {
        return o->format;
    }
    if (o->quiet) {
        return "{{.ID}}";
    }
    return o->digests ? "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}"
                        "\t{{.Size}}"
                      : "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
}

static int print_list(struct image_store *store, const struct ls_options *o, const char *operand,
                      struct err *err)
{
    AUTO(image_list_donep) struct image_list list = {0};
    AUTO(format_freep) struct format *format = NULL;
    int r = format_new(default_format(o), headers, &format, err);
    r = r < 0 ? r : image_store_list(store, &list, err);
    const char *last = NULL;
    for (size_t i = 0; r >= 0 && i < list.count; i++) {
        const struct image_row *row = &list.rows[i];
        int fits = operand == NULL || operand_fits(operand, row) ? 1 : 0;
        for (size_t k = 0; fits == 1 && k < o->filters.count; k++) {
            fits = filter_fits(store, o->filters.items[k], row, err);
        }
        if (fits <= 0) {
            r = fits;
            continue;
        }
        /* One image with three names is one id. */
        if (o->quiet && str_eq(row->id, last)) {
            continue;
        }
        last = row->id;
        AUTO(json_unrefp) json_t *json = row_json(row, o->no_trunc);
        r = json != NULL ? format_add(format, json, err) : err_set(err, ENOMEM, "list images");
    }
    return r < 0 ? r : format_finish(format, stdout, err);
}

static int ls_run(struct command_context *context, void *options, int argc, char **argv,
                  struct err *err)
{
    AUTO(image_store_closep) struct image_store *store = NULL;
    int r = image_command_store(context, &store, err);
    return r < 0 ? r : print_list(store, options, argc > 0 ? argv[0] : NULL, err);
}

const struct command image_ls_command = {
    .options = ls_specs,
    .options_size = sizeof(struct ls_options),
    .operands_max = 1,
    .run = ls_run,
};
