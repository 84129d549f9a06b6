#include <stdio.h>

#include "base/err.h"
#include "base/str.h"
#include "cmd/image_commands.h"
#include "image/store.h"
#include "image/verify.h"

struct check_options {
    bool repair;
};

static const struct option_spec check_specs[] = {
    {"repair", 0, OPTION_FLAG, offsetof(struct check_options, repair), NULL,
     "Remove what is damaged, so that a pull gets it again", NULL},
    {0},
};

static int check_run(struct command_context *context, void *options, int argc, char **argv,
                     struct err *err)
{
    (void)argc;
    (void)argv;
    const struct check_options *o = options;
    AUTO(image_store_closep) struct image_store *store = NULL;
    AUTO(strv_donep) struct strv problems = {0};
    int r = image_command_store(context, &store, err);
    r = r < 0 ? r : image_store_check(store, o->repair, &problems, err);
    r = r < 0 ? r : image_store_verify(store, o->repair, &problems, err);
    for (size_t i = 0; i < problems.count; i++) {
        (void)printf("%s\n", problems.items[i]);
    }
    if (r < 0) {
        return r;
    }
    if (problems.count == 0) {
        (void)printf("all images are whole\n");
    }
    return problems.count > 0 && !o->repair ? 1 : 0;
}

const struct command image_check_command = {
    .options = check_specs,
    .options_size = sizeof(struct check_options),
    .run = check_run,
};
