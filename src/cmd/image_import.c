#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "cmd/image_change.h"
#include "cmd/image_commands.h"
#include "image/commit.h"
#include "image/image.h"
#include "image/store.h"

struct import_options {
    struct strv changes;
    const char *message;
    const char *platform;
};

static const struct option_spec import_specs[] = {
    {"change", 'c', OPTION_LIST, offsetof(struct import_options, changes), "INSTRUCTION",
     "Apply a Dockerfile instruction such as 'CMD [\"sh\"]' or 'ENV A=b'", NULL},
    {"message", 'm', OPTION_STRING, offsetof(struct import_options, message), "TEXT",
     "Say in the history where it comes from", NULL},
    {"platform", 0, OPTION_STRING, offsetof(struct import_options, platform), "OS/ARCH",
     "What the files are for, when not for this machine", NULL},
    {0},
};

static int import_run(struct command_context *context, void *options, int argc, char **argv,
                      struct err *err)
{
    const struct import_options *o = options;
    AUTO(image_store_closep) struct image_store *store = NULL;
    AUTO(image_config_donep) struct image_config config = {0};
    AUTO(freep) char *name = NULL;
    AUTO(freep) char *id = NULL;
    AUTO(closep) int file = -1;
    struct platform platform;
    platform_host(&platform);
    int r = o->platform != NULL ? platform_parse(o->platform, &platform, err) : 0;
    r = r < 0 || argc < 2 ? r : image_command_name(argv[1], &name, err);
    r = r < 0 ? r : image_config_read(NULL, &config, err);
    r = r < 0 ? r : image_change_all(&config, &o->changes, err);
    if (r == 0 && !str_eq(argv[0], "-")) {
        file = open(argv[0], O_RDONLY | O_CLOEXEC);
        r = file < 0 ? err_set(err, errno, "open '%s'", argv[0]) : 0;
    }
    r = r < 0 ? r : image_command_store(context, &store, err);
    if (r < 0) {
        return r;
    }
    AUTO(json_unrefp) json_t *json = image_config_write(&config);
    const struct image_parts parts = {
        .upper_fd = -1,
        .tar_fd = file >= 0 ? file : STDIN_FILENO,
        .config = json,
        .architecture = platform.architecture,
        .variant = platform.variant,
        .comment = o->message != NULL ? o->message : "Imported",
        .name = name,
    };
    r = image_commit(store, &parts, &id, err);
    if (r == 0) {
        (void)printf("%s\n", id);
    }
    return r;
}

const struct command image_import_command = {
    .options = import_specs,
    .options_size = sizeof(struct import_options),
    .operands_min = 1,
    .operands_max = 2,
    .run = import_run,
};
