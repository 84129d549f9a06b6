#include <stdio.h>

#include "base/err.h"
#include "cmd/image_commands.h"
#include "image/reference.h"
#include "image/store.h"

static int untag_run(struct command_context *context, void *options, int argc, char **argv,
                     struct err *err)
{
    (void)options;
    AUTO(image_store_closep) struct image_store *store = NULL;
    int r = image_command_store(context, &store, err);
    for (int i = 0; r == 0 && i < argc; i++) {
        AUTO(freep) char *name = NULL;
        r = image_command_name(argv[i], &name, err);
        r = r < 0 ? r : image_name_remove(store, name, err);
        if (r == 0) {
            AUTO(freep) char *shown = reference_familiar(name);
            (void)printf("Untagged: %s\n", shown != NULL ? shown : name);
        }
    }
    return r;
}

const struct command image_untag_command = {
    .operands_min = 1, .operands_max = -1, .run = untag_run};
