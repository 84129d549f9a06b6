#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "cmd/format.h"
#include "cmd/image_commands.h"
#include "image/image.h"
#include "image/reference.h"
#include "image/store.h"

struct inspect_options {
    const char *format;
    const char *platform;
};

static const struct option_spec inspect_specs[] = {
    {"format", 'f', OPTION_STRING, offsetof(struct inspect_options, format), "TEMPLATE",
     "Print by a template, or: json", NULL},
    {"platform", 0, OPTION_STRING, offsetof(struct inspect_options, platform), "OS/ARCH",
     "The image of a name that is for this platform", NULL},
    {0},
};

/* "debian:bookworm" for names with a tag, "debian@sha256:..." of each repository. */
static int add_names(const struct image *image, json_t *tags, json_t *digests)
{
    for (size_t i = 0; i < image->names.count; i++) {
        AUTO(freep) char *familiar = reference_familiar(image->names.items[i]);
        AUTO(freep) char *repository = NULL;
        AUTO(freep) char *tag = NULL;
        if (familiar == NULL || reference_split(familiar, &repository, &tag) < 0) {
            return -ENOMEM;
        }
        AUTO(freep) char *digest = str_printf("%s@%s", repository, image->digest);
        if (digest == NULL) {
            return -ENOMEM;
        }
        if (tag != NULL && json_array_append_new(tags, json_string(familiar)) < 0) {
            return -ENOMEM;
        }
        bool there = false;
        size_t k;
        json_t *item;
        json_array_foreach (digests, k, item) {
            there = there || str_eq(json_string_value(item), digest);
        }
        if (!there && json_array_append_new(digests, json_string(digest)) < 0) {
            return -ENOMEM;
        }
    }
    return 0;
}

static json_t *text_or_empty(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return json_string(text != NULL ? text : "");
}

/* As Docker has it: the keys that clients rely on are there, also when the image says nothing. */
static json_t *whole_config(const json_t *config)
{
    static const char *const texts[] = {"User", "WorkingDir"};
    static const char *const lists[] = {"Env", "Cmd", "Volumes", "Entrypoint", "OnBuild", "Labels"};
    json_t *whole = config != NULL ? json_copy((json_t *)(uintptr_t)config) : json_object();
    for (size_t i = 0; i < COUNT(texts) && whole != NULL; i++) {
        if (json_object_get(whole, texts[i]) == NULL) {
            (void)json_object_set_new(whole, texts[i], json_string(""));
        }
    }
    for (size_t i = 0; i < COUNT(lists) && whole != NULL; i++) {
        if (json_object_get(whole, lists[i]) == NULL) {
            (void)json_object_set_new(whole, lists[i], json_null());
        }
    }
    return whole;
}

static json_t *describe(const struct image *image)
{
    char created[TIME_TEXT_SIZE] = "";
    if (image->created_ns != 0) {
        format_time(image->created_ns, created);
    }
    json_t *tags = json_array();
    json_t *digests = json_array();
    json_t *description =
        json_pack("{s:s, s:o, s:o, s:s, s:o, s:s, s:o, s:o, s:o, s:s, s:s, s:s, s:I, s:s}", "Id",
                  image->id, "RepoTags", tags, "RepoDigests", digests, "Parent", "", "Comment",
                  text_or_empty(image->json, "comment"), "Created", created, "DockerVersion",
                  text_or_empty(image->json, "docker_version"), "Author",
                  text_or_empty(image->json, "author"), "Config",
                  whole_config(json_object_get(image->json, "config")), "Architecture",
                  image->platform.architecture, "Variant", image->platform.variant, "Os",
                  image->platform.os, "Size", (json_int_t)image->size, "Digest", image->digest);
    if (description == NULL || add_names(image, tags, digests) < 0) {
        json_decref(description);
        return NULL;
    }
    (void)json_object_set_new(
        description, "RootFS",
        json_pack("{s:s, s:o}", "Type", "layers", "Layers", json_from_strv(&image->diff_ids)));
    const json_t *version = json_object_get(image->json, "os.version");
    if (json_is_string(version)) {
        (void)json_object_set_new(description, "OsVersion",
                                  json_string(json_string_value(version)));
    }
    json_t *lower = json_from_strv(&image->layers);
    (void)json_object_set_new(
        description, "GraphDriver",
        json_pack("{s:s, s:{s:o}}", "Name", "overlay", "Data", "LowerDirs", lower));
    return description;
}

static int print_all(json_t *list, const char *template, struct err *err)
{
    if (template == NULL) {
        (void)json_dumpf(list, stdout, JSON_INDENT(4) | JSON_ENSURE_ASCII);
        (void)printf("\n");
        return 0;
    }
    AUTO(format_freep) struct format *format = NULL;
    int r = format_new(template, NULL, &format, err);
    size_t i;
    json_t *item;
    json_array_foreach (list, i, item) {
        r = r < 0 ? r : format_add(format, item, err);
    }
    return r < 0 ? r : format_finish(format, stdout, err);
}

static int inspect_run(struct command_context *context, void *options, int argc, char **argv,
                       struct err *err)
{
    const struct inspect_options *o = options;
    AUTO(image_store_closep) struct image_store *store = NULL;
    AUTO(json_unrefp) json_t *list = json_array();
    struct platform platform;
    int r = image_command_store(context, &store, err);
    if (r == 0 && o->platform != NULL) {
        r = platform_parse(o->platform, &platform, err);
    }
    for (int i = 0; r == 0 && i < argc; i++) {
        AUTO(image_donep) struct image image = {0};
        r = image_resolve(store, argv[i], o->platform != NULL ? &platform : NULL, &image, err);
        if (r == 0 && json_array_append_new(list, describe(&image)) < 0) {
            r = err_set(err, ENOMEM, "inspect '%s'", argv[i]);
        }
    }
    return r < 0 ? r : print_all(list, o->format, err);
}

const struct command image_inspect_command = {
    .options = inspect_specs,
    .options_size = sizeof(struct inspect_options),
    .operands_min = 1,
    .operands_max = -1,
    .run = inspect_run,
};
