#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/err.h"
#include "cmd/image_commands.h"
#include "image/archive_save.h"
#include "image/platform.h"
#include "image/store.h"

struct save_options {
    const char *output;
    const char *platform;
};

static const struct option_spec save_specs[] = {
    {"output", 'o', OPTION_STRING, offsetof(struct save_options, output), "FILE",
     "Write FILE instead of standard output", NULL},
    {"platform", 0, OPTION_STRING, offsetof(struct save_options, platform), "OS/ARCH",
     "The images of these names that are for this platform", NULL},
    {0},
};

static int write_out(struct image_store *store, const struct save_options *o,
                     const struct strv *names, const struct platform *platform, struct err *err)
{
    if (o->output == NULL) {
        return archive_save(store, names, platform, STDOUT_FILENO, err);
    }
    /* Half an archive must not look like one. */
    AUTO(freep) char *temporary = str_printf("%s.%d.new", o->output, (int)getpid());
    if (temporary == NULL) {
        return err_set(err, ENOMEM, "save");
    }
    AUTO(closep) int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) {
        return err_set(err, errno, "make '%s'", temporary);
    }
    int r = archive_save(store, names, platform, fd, err);
    if (r == 0 && rename(temporary, o->output) < 0) {
        r = err_set(err, errno, "make '%s'", o->output);
    }
    if (r < 0) {
        (void)unlink(temporary);
    }
    return r;
}

static int save_run(struct command_context *context, void *options, int argc, char **argv,
                    struct err *err)
{
    const struct save_options *o = options;
    AUTO(image_store_closep) struct image_store *store = NULL;
    AUTO(strv_donep) struct strv names = {0};
    struct platform platform;
    if (o->output == NULL && isatty(STDOUT_FILENO)) {
        return err_say(err, EINVAL,
                       "save writes an archive: give --output FILE, or redirect output");
    }
    int r = o->platform != NULL ? platform_parse(o->platform, &platform, err) : 0;
    for (int i = 0; r == 0 && i < argc; i++) {
        r = strv_add(&names, argv[i]) < 0 ? err_set(err, ENOMEM, "save") : 0;
    }
    r = r < 0 ? r : image_command_store(context, &store, err);
    return r < 0 ? r : write_out(store, o, &names, o->platform != NULL ? &platform : NULL, err);
}

const struct command image_save_command = {
    .options = save_specs,
    .options_size = sizeof(struct save_options),
    .operands_min = 1,
    .operands_max = -1,
    .run = save_run,
};
