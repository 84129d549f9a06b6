#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/err.h"
#include "base/json.h"
#include "base/str.h"
#include "cmd/image_change.h"
#include "cmd/image_commands.h"
#include "image/commit.h"
#include "image/image.h"
#include "image/store.h"

/*
 * image-commit PARENT UPPER: what `isola commit` runs. PARENT is an image id, UPPER an overlay's
 * upper directory. Prints the new image's id.
 */
struct commit_options {
    struct strv changes;
    const char *author;
    const char *message;
    const char *name;
    const char *config_file;
};

static const struct option_spec commit_specs[] = {
    {"author", 'a', OPTION_STRING, offsetof(struct commit_options, author), "TEXT", "The author",
     NULL},
    {"change", 'c', OPTION_LIST, offsetof(struct commit_options, changes), "INSTRUCTION",
     "Apply a Dockerfile instruction", NULL},
    {"config", 0, OPTION_STRING, offsetof(struct commit_options, config_file), "FILE",
     "The image's config object as JSON, instead of the parent's", NULL},
    {"message", 'm', OPTION_STRING, offsetof(struct commit_options, message), "TEXT",
     "The comment in the history", NULL},
    {"name", 0, OPTION_STRING, offsetof(struct commit_options, name), "NAME[:TAG]",
     "The new image's name", NULL},
    {0},
};

static int commit_run(struct command_context *context, void *options, int argc, char **argv,
                      struct err *err)
{
    (void)argc;
    const struct commit_options *o = options;
    AUTO(image_store_closep) struct image_store *store = NULL;
    AUTO(image_donep) struct image parent = {0};
    AUTO(image_config_donep) struct image_config config = {0};
    AUTO(json_unrefp) json_t *given = NULL;
    AUTO(freep) char *name = NULL;
    AUTO(freep) char *id = NULL;
    bool stream = str_eq(argv[1], "-");
    AUTO(closep) int upper = stream ? -1 : open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (upper < 0 && !stream) {
        return err_set(err, errno, "open '%s'", argv[1]);
    }
    int r = o->name != NULL ? image_command_name(o->name, &name, err) : 0;
    r = r < 0 ? r : image_command_store(context, &store, err);
    r = r < 0 ? r : image_resolve(store, argv[0], NULL, &parent, err);
    if (r == 0 && o->config_file != NULL) {
        r = json_load_at(AT_FDCWD, o->config_file, (size_t)1 << 20, &given, err);
    }
    const json_t *base = given != NULL ? given : json_object_get(parent.json, "config");
    r = r < 0 ? r : image_config_read(base, &config, err);
    r = r < 0 ? r : image_change_all(&config, &o->changes, err);
    if (r < 0) {
        return r;
    }
    AUTO(json_unrefp) json_t *json = image_config_write(&config);
    const struct image_parts parts = {
        .parent = &parent,
        .upper_fd = upper,
        .tar_fd = stream ? STDIN_FILENO : -1,
        .config = json,
        .author = o->author,
        .comment = o->message,
        .created_by = "isola commit",
        .name = name,
    };
    r = image_commit(store, &parts, &id, err);
    if (r == 0) {
        (void)printf("%s\n", id);
    }
    return r;
}

const struct command image_commit_command = {
    .name = "image-commit",
    .operands = "PARENT UPPER|-",
    .summary = "Make an image from a workload's changes",
    .hidden = true,
    .options = commit_specs,
    .options_size = sizeof(struct commit_options),
    .operands_min = 2,
    .operands_max = 2,
    .run = commit_run,
};
