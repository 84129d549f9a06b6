#include <errno.h>
#include <stddef.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "cmd/format.h"
#include "engine/describe.h"
#include "engine/network.h"
#include "engine/volume.h"
#include "image/image.h"
#include "image/reference.h"

struct inspect_options {
    const char *format;
    const char *type;
};

#define AT(member) offsetof(struct inspect_options, member)

static const struct option_spec options[] = {
    {"format", 'f', OPTION_STRING, AT(format), "TEMPLATE", "json or a Go template", NULL},
    {"type", 0, OPTION_STRING, AT(type), "TYPE", "container, image, volume or network", NULL},
    {0},
};

static int inspect_container(struct engine *engine, const char *name, json_t **ret, struct err *err)
{
    AUTO(workload_donep) struct workload workload = {0};
    int r = workload_find(engine, name, &workload, err);
    return r < 0 ? r : describe_workload(engine, &workload, ret, err);
}

static int inspect_image(struct engine *engine, const char *name, json_t **ret, struct err *err)
{
    AUTO(image_donep) struct image image = {0};
    struct image_store *store;
    char platform[PLATFORM_TEXT_SIZE];
    int r = engine_store(engine, &store, err);
    if (r == 0) {
        r = image_resolve(store, name, NULL, &image, err);
    }
    if (r < 0) {
        return r;
    }
    AUTO(strv_donep) struct strv names = {0};
    for (size_t i = 0; r == 0 && i < image.names.count; i++) {
        AUTO(freep) char *familiar = reference_familiar(image.names.items[i]);
        r = familiar == NULL ? -ENOMEM : strv_add(&names, familiar);
    }
    if (r < 0) {
        return err_set(err, -r, "inspect '%s'", name);
    }
    platform_format(&image.platform, platform);
    *ret = json_pack("{s:s, s:o, s:s, s:s, s:s, s:I, s:o, s:{s:s, s:o}}", "Id", image.id,
                     "RepoTags", json_from_strv(&names), "Digest", image.digest, "Architecture",
                     image.platform.architecture, "Os", image.platform.os, "Size",
                     (json_int_t)image.size, "Config", image_config_write(&image.config), "RootFS",
                     "Type", "layers", "Layers", json_from_strv(&image.diff_ids));
    return *ret == NULL ? err_set(err, ENOMEM, "inspect '%s'", name) : 0;
}

static int inspect_volume(struct engine *engine, const char *name, json_t **ret, struct err *err)
{
    AUTO(volume_list_donep) struct volume_list list = {0};
    int r = volume_list(engine, &list, err);
    for (size_t i = 0; r == 0 && i < list.count; i++) {
        if (str_eq(list.items[i].name, name)) {
            *ret = volume_describe(&list.items[i]);
            return *ret == NULL ? err_set(err, ENOMEM, "inspect '%s'", name) : 0;
        }
    }
    return r < 0 ? r : err_say(err, ENOENT, "no such volume: %s", name);
}

static int inspect_network(struct engine *engine, const char *name, json_t **ret, struct err *err)
{
    AUTO(network_donep) struct network network = {0};
    struct network_host *host;
    int r = engine_network(engine, &host, err);
    if (r == 0) {
        r = network_find(host, name, &network, err);
    }
    return r < 0 ? r : network_inspect(host, &network, ret, err);
}

static const struct {
    const char *type;
    int (*inspect)(struct engine *engine, const char *name, json_t **ret, struct err *err);
} kinds[] = {
    {"container", inspect_container},
    {"image", inspect_image},
    {"volume", inspect_volume},
    {"network", inspect_network},
};

/* The first kind of thing that has this name. */
static int inspect_any(struct engine *engine, const char *type, const char *name, json_t **ret,
                       struct err *err)
{
    bool known = type == NULL;
    for (size_t i = 0; i < COUNT(kinds); i++) {
        if (type != NULL && !str_eq(type, kinds[i].type)) {
            continue;
        }
        known = true;
        *err = ERR_NONE;
        int r = kinds[i].inspect(engine, name, ret, err);
        if (r != -ENOENT && r != -EINVAL) {
            return r;
        }
    }
    *err = ERR_NONE;
    if (!known) {
        return err_say(err, EINVAL, "--type '%s' is not container, image, volume or network", type);
    }
    return err_say(err, ENOENT, "no such object: %s", name);
}

static int run_inspect(struct command_context *context, void *data, int argc, char **argv,
                       struct err *err)
{
    const struct inspect_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(json_unrefp) json_t *list = json_array();
    int r = command_engine(context, &engine, err);
    int exit_code = 0;
    if (r < 0) {
        return r;
    }
    for (int i = 0; i < argc; i++) {
        json_t *object = NULL;
        struct err why = ERR_NONE;
        if (inspect_any(engine, o->type, argv[i], &object, &why) < 0) {
            (void)fprintf(stderr, "isola: %s\n", err_text(&why));
            exit_code = 1;
        } else {
            (void)json_array_append_new(list, object);
        }
    }
    if (o->format == NULL) {
        (void)json_dumpf(list, stdout, JSON_INDENT(4));
        (void)printf("\n");
        return exit_code;
    }
    size_t i;
    json_t *item;
    json_array_foreach (list, i, item) {
        AUTO(buf_donep) struct buf text = {0};
        r = format_value(o->format, item, &text, err);
        if (r < 0) {
            return r;
        }
        (void)printf("%s\n", text.data != NULL ? text.data : "");
    }
    return exit_code;
}

const struct command inspect_commands[] = {
    {
        .name = "inspect",
        .operands = "NAME...",
        .summary = "Show everything about workloads, images, volumes or networks",
        .options = options,
        .options_size = sizeof(struct inspect_options),
        .operands_min = 1,
        .operands_max = -1,
        .run = run_inspect,
    },
    {0},
};
