#include "base/err.h"
#include "cmd/image_commands.h"
#include "image/image.h"
#include "image/store.h"

static int tag_run(struct command_context *context, void *options, int argc, char **argv,
                   struct err *err)
{
    (void)options;
    (void)argc;
    AUTO(image_store_closep) struct image_store *store = NULL;
    AUTO(image_donep) struct image image = {0};
    AUTO(freep) char *name = NULL;
    int r = image_command_name(argv[1], &name, err);
    r = r < 0 ? r : image_command_store(context, &store, err);
    r = r < 0 ? r : image_resolve(store, argv[0], NULL, &image, err);
    return r < 0 ? r : image_name_set(store, image.id, name, err);
}

const struct command image_tag_command = {.operands_min = 2, .operands_max = 2, .run = tag_run};
