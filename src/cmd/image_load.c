#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/err.h"
#include "cmd/image_commands.h"
#include "image/archive_load.h"
#include "image/reference.h"
#include "image/store.h"

struct load_options {
    const char *input;
    bool quiet;
};

static const struct option_spec load_specs[] = {
    {"input", 'i', OPTION_STRING, offsetof(struct load_options, input), "FILE",
     "Read FILE instead of standard input", NULL},
    {"quiet", 'q', OPTION_FLAG, offsetof(struct load_options, quiet), NULL,
     "Print nothing but errors", NULL},
    {0},
};

static int load_run(struct command_context *context, void *options, int argc, char **argv,
                    struct err *err)
{
    (void)argc;
    (void)argv;
    const struct load_options *o = options;
    AUTO(image_store_closep) struct image_store *store = NULL;
    AUTO(strv_donep) struct strv loaded = {0};
    AUTO(closep) int file = -1;
    if (o->input != NULL) {
        file = open(o->input, O_RDONLY | O_CLOEXEC);
        if (file < 0) {
            return err_set(err, errno, "open '%s'", o->input);
        }
    } else if (isatty(STDIN_FILENO)) {
        return err_say(err, EINVAL, "load reads an archive: give --input FILE, or redirect input");
    }
    int r = image_command_store(context, &store, err);
    r = r < 0 ? r : archive_load(store, file >= 0 ? file : STDIN_FILENO, &loaded, err);
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; !o->quiet && i < loaded.count; i++) {
        bool id = digest_is_valid(loaded.items[i]);
        /* One name for images of several platforms is one line, as for Docker. */
        if (i > 0 && str_eq(loaded.items[i], loaded.items[i - 1])) {
            continue;
        }
        AUTO(freep) char *shown = reference_familiar(loaded.items[i]);
        (void)printf("Loaded image%s: %s\n", id ? " ID" : "",
                     shown != NULL ? shown : loaded.items[i]);
    }
    return 0;
}

const struct command image_load_command = {
    .options = load_specs,
    .options_size = sizeof(struct load_options),
    .run = load_run,
};
