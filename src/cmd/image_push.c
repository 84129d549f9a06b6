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
    bool quiet;
};

static const struct option_spec push_specs[] = {
    {"platform", 0, OPTION_STRING, offsetof(struct push_options, platform), "OS/ARCH[/VARIANT]",
     "Send the image of this name that is for this platform", NULL},
    {"quiet", 'q', OPTION_FLAG, offsetof(struct push_options, quiet), NULL, "Print only the name",
     NULL},
    {0},
};

static int push_run(struct command_context *context, void *options, int argc, char **argv,
                    struct err *err)
{
    (void)argc;
    const struct push_options *o = options;
    AUTO(image_store_closep) struct image_store *store = NULL;
    AUTO(reference_donep) struct reference ref = {0};
    AUTO(image_donep) struct image image = {0};
    AUTO(image_progress_freep) struct image_progress *progress = NULL;
    struct platform platform;
    char digest[DIGEST_LENGTH + 1];
    int r = reference_parse(argv[0], &ref, err);
    r = r < 0 || o->platform == NULL ? r : platform_parse(o->platform, &platform, err);
    r = r < 0 ? r : image_command_store(context, &store, err);
    r = r < 0 ? r
              : image_resolve(store, argv[0], o->platform != NULL ? &platform : NULL, &image, err);
    if (r < 0) {
        return r;
    }
    if (image_progress_new(o->quiet, &progress) < 0) {
        return err_set(err, ENOMEM, "push");
    }
    if (!o->quiet) {
        (void)printf("The push refers to repository [%s/%s]\n", ref.registry, ref.repository);
    }
    const struct install_progress callbacks = image_progress_callbacks(progress);
    r = image_push(store, &image, &ref, &callbacks, digest, err);
    if (r < 0) {
        return err_wrap(err, -r, "push '%s'", argv[0]);
    }
    if (o->quiet) {
        (void)printf("%s\n", argv[0]);
    } else {
        (void)printf("%s: digest: %s\n", ref.tag, digest);
    }
    return 0;
}

const struct command image_push_command = {
    .options = push_specs,
    .options_size = sizeof(struct push_options),
    .operands_min = 1,
    .operands_max = 1,
    .run = push_run,
};
