#include "engine/volume.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>

#include "base/err.h"
#include "base/json.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "cmd/format.h"

struct volume_options {
    struct strv label;
    struct strv filter;
    const char *driver;
    const char *format;
    bool all;
    bool force;
    bool quiet;
};

#define AT(member) offsetof(struct volume_options, member)

static const struct option_spec create_options[] = {
    {"driver", 'd', OPTION_STRING, AT(driver), "DRIVER", "local", NULL},
    {"label", 0, OPTION_LIST, AT(label), "KEY=VALUE", "Set a label", NULL},
    {0},
};

static const struct option_spec ls_options[] = {
    {"filter", 'f', OPTION_LIST, AT(filter), "KEY=VALUE", "name, dangling, label", NULL},
    {"format", 0, OPTION_STRING, AT(format), "TEMPLATE", "json, table ... or a Go template", NULL},
    {"quiet", 'q', OPTION_FLAG, AT(quiet), NULL, "Only names", NULL},
    {0},
};

static const struct option_spec rm_options[] = {
    {"force", 'f', OPTION_FLAG, AT(force), NULL, "A missing volume is no error", NULL},
    {0},
};

static const struct option_spec prune_options[] = {
    {"all", 'a', OPTION_FLAG, AT(all), NULL, "Named ones too", NULL},
    {"force", 'f', OPTION_FLAG, AT(force), NULL, "Do not ask", NULL},
    {0},
};

static int run_create(struct command_context *context, void *data, int argc, char **argv,
                      struct err *err)
{
    const struct volume_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(freep) char *name = NULL;
    if (o->driver != NULL && !str_eq(o->driver, "local")) {
        return err_say(err, EINVAL, "volume driver '%s' is not known; there is 'local'", o->driver);
    }
    int r = command_engine(context, &engine, err);
    if (r == 0) {
        r = volume_create(engine, argc > 0 ? argv[0] : NULL, &o->label, &name, err);
    }
    if (r == 0) {
        (void)printf("%s\n", name);
    }
    return r;
}

static int is_wanted(const struct volume_options *o, const struct volume *volume, struct err *err)
{
    for (size_t i = 0; i < o->filter.count; i++) {
        const char *filter = o->filter.items[i];
        if (str_starts(filter, "name=")) {
            if (strstr(volume->name, filter + 5) == NULL) {
                return 0;
            }
        } else if (str_starts(filter, "dangling=")) {
            if ((volume->users == 0) != (str_eq(filter + 9, "true") || str_eq(filter + 9, "1"))) {
                return 0;
            }
        } else if (str_starts(filter, "label=")) {
            if (!strv_has(&volume->labels, filter + 6) &&
                env_get(&volume->labels, filter + 6) == NULL) {
                return 0;
            }
        } else {
            return err_say(err, EINVAL, "--filter '%s' is not name=, dangling= or label=", filter);
        }
    }
    return 1;
}

static int run_ls(struct command_context *context, void *data, int argc, char **argv,
                  struct err *err)
{
    (void)argc;
    (void)argv;
    const struct volume_options *o = data;
    static const struct format_header headers[] = {{"Name", "VOLUME NAME"}, {NULL, NULL}};
    const char *template = o->format != NULL ? o->format
                           : o->quiet        ? "{{.Name}}"
                                             : "table {{.Driver}}\t{{.Name}}";
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(volume_list_donep) struct volume_list list = {0};
    AUTO(format_freep) struct format *format = NULL;
    int r = command_engine(context, &engine, err);
    if (r == 0) {
        r = volume_list(engine, &list, err);
    }
    if (r == 0) {
        r = format_new(template, headers, &format, err);
    }
    for (size_t i = 0; r >= 0 && i < list.count; i++) {
        r = is_wanted(o, &list.items[i], err);
        if (r > 0) {
            AUTO(json_unrefp) json_t *row = volume_describe(&list.items[i]);
            r = row == NULL ? err_set(err, ENOMEM, "list volumes") : format_add(format, row, err);
        }
    }
    return r < 0 ? r : format_finish(format, stdout, err);
}

static int remove_one(struct engine *engine, const char *name, void *data, struct err *err)
{
    const struct volume_options *o = data;
    int r = volume_remove(engine, name, err);
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
    const struct volume_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(strv_donep) struct strv removed = {0};
    if (!command_confirm(o->all ? "Remove all volumes that no workload has?"
                                : "Remove all anonymous volumes that no workload has?",
                         o->force)) {
        return 0;
    }
    int r = command_engine(context, &engine, err);
    uint64_t bytes = 0;
    char size[32];
    if (r == 0) {
        r = volume_prune(engine, o->all, &removed, &bytes, err);
    }
    command_print_deleted("Volumes", &removed);
    if (r == 0) {
        format_size(bytes, size, sizeof(size));
        (void)printf("Total reclaimed space: %s\n", size);
    }
    return r;
}

static int run_inspect(struct command_context *context, void *data, int argc, char **argv,
                       struct err *err)
{
    (void)data;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(volume_list_donep) struct volume_list list = {0};
    AUTO(json_unrefp) json_t *found = json_array();
    int r = command_engine(context, &engine, err);
    if (r == 0) {
        r = volume_list(engine, &list, err);
    }
    for (int i = 0; r == 0 && i < argc; i++) {
        size_t before = json_array_size(found);
        for (size_t k = 0; k < list.count; k++) {
            if (str_eq(list.items[k].name, argv[i])) {
                (void)json_array_append_new(found, volume_describe(&list.items[k]));
            }
        }
        if (json_array_size(found) == before) {
            r = err_say(err, ENOENT, "no such volume: %s", argv[i]);
        }
    }
    (void)json_dumpf(found, stdout, JSON_INDENT(4));
    (void)printf("\n");
    return r;
}

const struct command volume_commands[] = {
    {
        .group = "volume",
        .name = "create",
        .operands = "[NAME]",
        .summary = "Create a volume",
        .options = create_options,
        .options_size = sizeof(struct volume_options),
        .operands_max = 1,
        .run = run_create,
    },
    {
        .group = "volume",
        .name = "inspect",
        .operands = "NAME...",
        .summary = "Show everything about volumes",
        .options_size = sizeof(struct volume_options),
        .operands_min = 1,
        .operands_max = -1,
        .run = run_inspect,
    },
    {
        .group = "volume",
        .name = "ls",
        .operands = "",
        .summary = "List volumes",
        .options = ls_options,
        .options_size = sizeof(struct volume_options),
        .run = run_ls,
    },
    {
        .group = "volume",
        .name = "prune",
        .operands = "",
        .summary = "Remove volumes that no workload has",
        .options = prune_options,
        .options_size = sizeof(struct volume_options),
        .run = run_prune,
    },
    {
        .group = "volume",
        .name = "rm",
        .operands = "NAME...",
        .summary = "Remove volumes",
        .options = rm_options,
        .options_size = sizeof(struct volume_options),
        .operands_min = 1,
        .operands_max = -1,
        .run = run_rm,
    },
    {0},
};
