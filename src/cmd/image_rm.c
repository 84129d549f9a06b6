#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/str.h"
#include "cmd/image_commands.h"
#include "image/image.h"
#include "image/reference.h"
#include "image/store.h"

struct rm_options {
    bool force;
};

static const struct option_spec rm_specs[] = {
    {"force", 'f', OPTION_FLAG, offsetof(struct rm_options, force), NULL,
     "Remove all names of an image given by id", NULL},
    {0},
};

/* Whether the user gave a name, and not an id. */
static bool is_name(const struct image *image, const char *text, char **ret_full)
{
    AUTO(reference_donep) struct reference ref = {0};
    if (reference_parse(text, &ref, NULL) < 0) {
        return false;
    }
    AUTO(freep) char *full = reference_full(&ref);
    if (full != NULL && strv_has(&image->names, full)) {
        *ret_full = TAKE_PTR(full);
        return true;
    }
    return false;
}

static void say_untagged(const char *name)
{
    AUTO(freep) char *shown = reference_familiar(name);
    (void)printf("Untagged: %s\n", shown != NULL ? shown : name);
}

static int remove_one(struct image_store *store, const char *text, bool force, struct err *err)
{
    AUTO(image_donep) struct image image = {0};
    AUTO(freep) char *name = NULL;
    int r = image_resolve(store, text, NULL, &image, err);
    if (r < 0) {
        return r;
    }
    if (is_name(&image, text, &name) && image.names.count > 1) {
        r = image_name_remove(store, name, err);
        if (r == 0) {
            say_untagged(name);
        }
        return r;
    }
    if (name == NULL && image.names.count > 1 && !force) {
        return err_say(err, EBUSY, "image %.12s has %zu names; use --force to remove them all",
                       image.id + DIGEST_HEX_OFFSET, image.names.count);
    }
    r = image_remove(store, image.id, err);
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < image.names.count; i++) {
        say_untagged(image.names.items[i]);
    }
    (void)printf("Deleted: %s\n", image.id);
    return 0;
}

static int rm_run(struct command_context *context, void *options, int argc, char **argv,
                  struct err *err)
{
    const struct rm_options *o = options;
    AUTO(image_store_closep) struct image_store *store = NULL;
    int r = image_command_store(context, &store, err);
    if (r < 0) {
        return r;
    }
    int code = 0;
    for (int i = 0; i < argc; i++) {
        struct err own = ERR_NONE;
        r = remove_one(store, argv[i], o->force, &own);
        if (r == -ENOENT && o->force) {
            continue;
        }
        if (r < 0 && i + 1 == argc && code == 0) {
            *err = own;
            return r;
        }
        if (r < 0) {
            (void)fflush(stdout);
            (void)fprintf(stderr, "%s: %s\n", context->program, err_text(&own));
            code = 1;
        }
    }
    return code;
}

const struct command image_rm_command = {
    .options = rm_specs,
    .options_size = sizeof(struct rm_options),
    .operands_min = 1,
    .operands_max = -1,
    .run = rm_run,
};
