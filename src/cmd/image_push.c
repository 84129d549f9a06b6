#include <errno.h>
#include <stdio.h>

#include "base/err.h"
#include "cmd/image_commands.h"
#include "cmd/image_progress.h"
#include "image/image.h"
#include "image/push.h"
#include "image/store.h"

struct push_options {
    const char *platform;
    bool all_platforms;
    bool quiet;
};

static const struct option_spec push_specs[] = {
    {"all-platforms", 0, OPTION_FLAG, offsetof(struct push_options, all_platforms), NULL,
     "Send the images of this name for all platforms that are here, and an index of them", NULL},
    {"platform", 0, OPTION_STRING, offsetof(struct push_options, platform), "OS/ARCH[/VARIANT]",
     "Send the image of this name that is for this platform", NULL},
    {"quiet", 'q', OPTION_FLAG, offsetof(struct push_options, quiet), NULL, "Print only the name",
     NULL},
    {0},
};

struct images {
    struct image *items;
    size_t count;
};

static void images_done(struct images *images)
{
    for (size_t i = 0; i < images->count; i++) {
        image_done(&images->items[i]);
    }
    free(images->items);
    *images = (struct images){0};
}
DEFINE_DONEP(struct images, images_done)

static int add_image(struct image_store *store, const char *name, const struct platform *platform,
                     struct images *images, struct err *err)
{
    struct image *items = reallocarray(images->items, images->count + 1, sizeof(*items));
    if (items == NULL) {
        return err_set(err, ENOMEM, "push");
    }
    images->items = items;
    int r = image_resolve(store, name, platform, &items[images->count], err);
    images->count += r == 0 ? 1 : 0;
    return r;
}

/* Every image of the name, a platform each. */
static int add_all(struct image_store *store, const struct reference *ref, const char *shown,
                   struct images *images, struct err *err)
{
    AUTO(image_list_donep) struct image_list list = {0};
    AUTO(freep) char *full = reference_full(ref);
    int r = full != NULL ? image_store_list(store, &list, err) : err_set(err, ENOMEM, "push");
    for (size_t i = 0; r == 0 && i < list.count; i++) {
        if (str_eq(list.rows[i].name, full)) {
            r = add_image(store, list.rows[i].id, NULL, images, err);
        }
    }
    return r == 0 && images->count == 0 ? err_say(err, ENOENT, "no such image '%s'", shown) : r;
}

static int push_images(struct image_store *store, const struct reference *ref, const char *shown,
                       const struct push_options *o, const struct images *images, struct err *err)
{
    AUTO(image_progress_freep) struct image_progress *progress = NULL;
    char digest[DIGEST_LENGTH + 1];
    if (image_progress_new(o->quiet, &progress) < 0) {
        return err_set(err, ENOMEM, "push");
    }
    if (!o->quiet) {
        (void)printf("The push refers to repository [%s/%s]\n", ref->registry, ref->repository);
        (void)fflush(stdout);
    }
    const struct push_request request = {.images = images->items,
                                         .image_count = images->count,
                                         .index = o->all_platforms,
                                         .reference = ref,
                                         .progress = image_progress_callbacks(progress)};
    int r = image_push(store, &request, digest, err);
    if (r < 0) {
        return err_wrap(err, -r, "push '%s'", shown);
    }
    if (o->quiet) {
        (void)printf("%s\n", shown);
    } else {
        (void)printf("%s: digest: %s\n", ref->tag, digest);
    }
    return 0;
}

static int push_run(struct command_context *context, void *options, int argc, char **argv,
                    struct err *err)
{
    (void)argc;
    const struct push_options *o = options;
    AUTO(image_store_closep) struct image_store *store = NULL;
    AUTO(reference_donep) struct reference ref = {0};
    AUTO(images_donep) struct images images = {0};
    struct platform platform;
    if (o->all_platforms && o->platform != NULL) {
        return err_say(err, EINVAL, "--platform and --all-platforms exclude each other");
    }
    int r = reference_parse(argv[0], &ref, err);
    r = r < 0 || o->platform == NULL ? r : platform_parse(o->platform, &platform, err);
    r = r < 0 ? r : image_command_store(context, &store, err);
    if (r == 0) {
        r = o->all_platforms
                ? add_all(store, &ref, argv[0], &images, err)
                : add_image(store, argv[0], o->platform != NULL ? &platform : NULL, &images, err);
    }
    return r < 0 ? r : push_images(store, &ref, argv[0], o, &images, err);
}

const struct command image_push_command = {
    .options = push_specs,
    .options_size = sizeof(struct push_options),
    .operands_min = 1,
    .operands_max = 1,
    .run = push_run,
};
