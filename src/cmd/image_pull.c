#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/path.h"
#include "cmd/image_commands.h"
#include "cmd/image_progress.h"
#include "image/archive_load.h"
#include "image/pull.h"
#include "image/store.h"

#define EMBEDDED_NAME REFERENCE_DEFAULT_REGISTRY "/isola/busybox:latest"
#define EMBEDDED_FILE "isola-busybox.tar"

struct pull_options {
    const char *platform;
    bool quiet;
};

static const struct option_spec pull_specs[] = {
    {"platform", 0, OPTION_STRING, offsetof(struct pull_options, platform), "OS/ARCH[/VARIANT]",
     "Get the image for this platform", NULL},
    {"quiet", 'q', OPTION_FLAG, offsetof(struct pull_options, quiet), NULL,
     "Print nothing but the name", NULL},
    {0},
};

/* Beside the program (a build tree), else in the data directory. */
static int open_embedded(void)
{
    AUTO(freep) char *self = NULL;
    if (read_link_at(AT_FDCWD, "/proc/self/exe", &self) == 0) {
        char *slash = strrchr(self, '/');
        AUTO(freep)
        char *path =
            str_printf("%.*s/" EMBEDDED_FILE, slash != NULL ? (int)(slash - self) : 0, self);
        int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        if (fd >= 0) {
            return fd;
        }
    }
    return open(ISOLA_DATA "/" EMBEDDED_FILE, O_RDONLY | O_CLOEXEC);
}

/* 1 when name is the image that comes with Isola, which needs no registry. */
static int load_embedded(struct image_store *store, const char *name, struct err *err)
{
    AUTO(strv_donep) struct strv loaded = {0};
    if (!str_eq(name, EMBEDDED_NAME)) {
        return 0;
    }
    AUTO(closep) int fd = open_embedded();
    if (fd < 0) {
        return err_set(err, errno, "open '" ISOLA_DATA "/" EMBEDDED_FILE "'");
    }
    int r = archive_load(store, fd, &loaded, err);
    return r < 0 ? r : 1;
}

static int pull_one(struct image_store *store, const struct reference *ref,
                    const struct pull_options *o, struct err *err)
{
    AUTO(image_progress_freep) struct image_progress *progress = NULL;
    AUTO(freep) char *full = reference_full(ref);
    AUTO(freep) char *shown = full != NULL ? reference_familiar(full) : NULL;
    struct platform platform;
    struct pull_result result = {0};
    if (shown == NULL || image_progress_new(o->quiet, &progress) < 0) {
        return err_set(err, ENOMEM, "pull");
    }
    int r = o->platform != NULL ? platform_parse(o->platform, &platform, err) : 0;
    if (r < 0) {
        return r;
    }
    r = load_embedded(store, full, err);
    if (r != 0) {
        if (r == 1) {
            (void)printf("%s\n", shown);
        }
        return MIN(r, 0);
    }
    if (!o->quiet) {
        (void)printf("%s: Pulling from %s\n", ref->tag != NULL ? ref->tag : ref->digest,
                     ref->repository);
        (void)fflush(stdout);
    }
    const struct pull_request request = {
        .reference = ref,
        .platform = o->platform != NULL ? &platform : NULL,
        .progress = image_progress_callbacks(progress),
    };
    r = image_pull(store, &request, &result, err);
    if (r < 0) {
        return err_wrap(err, -r, "pull '%s'", shown);
    }
    free(result.id);
    if (!o->quiet) {
        (void)printf("Digest: %s\nStatus: %s %s\n", result.digest,
                     result.was_there ? "Image is up to date for" : "Downloaded newer image for",
                     shown);
    }
    (void)printf("%s\n", o->quiet ? shown : full);
    return 0;
}

static int pull_run(struct command_context *context, void *options, int argc, char **argv,
                    struct err *err)
{
    (void)argc;
    AUTO(image_store_closep) struct image_store *store = NULL;
    AUTO(reference_donep) struct reference ref = {0};
    int r = reference_parse(argv[0], &ref, err);
    r = r < 0 ? r : image_command_store(context, &store, err);
    return r < 0 ? r : pull_one(store, &ref, options, err);
}

const struct command image_pull_command = {
    .options = pull_specs,
    .options_size = sizeof(struct pull_options),
    .operands_min = 1,
    .operands_max = 1,
    .run = pull_run,
};
