#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "cmd/attached.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "cmd/session.h"
#include "engine/config_options.h"
#include "engine/create.h"
#include "engine/end.h"
#include "engine/start.h"

struct run_options {
    struct workload_config config; /* first: CONFIG_OPTIONS write here */
    bool detach;
    bool quiet;
    bool sig_proxy;
    const char *detach_keys;
    const char *pull;
    const char *cidfile;
};

#define AT(member) offsetof(struct run_options, member)

/* What `create` has too. */
#define CREATE_OPTIONS                                                                              \
    {"cidfile", 0, OPTION_STRING, AT(cidfile), "FILE", "Write the id to a new file", NULL},         \
        {"pull", 0, OPTION_STRING, AT(pull), "POLICY", "missing (default), always or never", NULL}, \
    {                                                                                               \
        "quiet", 'q', OPTION_FLAG, AT(quiet), NULL, "Pull without progress", NULL                   \
    }

static const struct option_spec create_options[] = {CONFIG_OPTIONS CREATE_OPTIONS, {0}};

static const struct option_spec run_options[] = {
    CONFIG_OPTIONS CREATE_OPTIONS,
    {"detach", 'd', OPTION_FLAG, AT(detach), NULL, "Run in the background, print the id", NULL},
    {"detach-keys", 0, OPTION_STRING, AT(detach_keys), "KEYS", "Keys that detach (ctrl-p,ctrl-q)",
     NULL},
    {"sig-proxy", 0, OPTION_FLAG, AT(sig_proxy), NULL, "Pass signals on (default true)", NULL},
    {0},
};

static void set_defaults(void *data)
{
    struct run_options *options = data;
    config_init(&options->config);
    options->sig_proxy = true;
}

static int write_cidfile(const char *path, const char *id, struct err *err)
{
    AUTO(closep) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    int r = fd < 0 ? -errno : write_full(fd, id, strlen(id));
    return r < 0 ? err_set(err, -r, "write the id to '%s'", path) : 0;
}

static int volumes_from(struct engine *engine, struct workload_config *config, struct err *err)
{
    for (size_t i = 0; i < config->volumes_from.count; i++) {
        AUTO(workload_donep) struct workload other = {0};
        AUTO(freep) char *name = strdup(config->volumes_from.items[i]);
        char *mode = name != NULL ? strchr(name, ':') : NULL;
        const char *read_only = "";
        if (mode != NULL) {
            *mode++ = '\0';
            read_only = str_eq(mode, "ro") ? ":ro" : "";
        }
        int r = name == NULL ? -ENOMEM : workload_find(engine, name, &other, err);
        if (r == 0) {
            r = strv_copy(&other.config.mount, &config->mount);
        }
        for (size_t k = 0; r == 0 && k < other.config.volume.count; k++) {
            /* One part alone is an anonymous volume, which follows by its name below. */
            const char *volume = other.config.volume.items[k];
            if (strchr(volume, ':') != NULL) {
                r = strv_addf(&config->volume, "%s%s", volume,
                              str_ends(volume, ":ro") ? "" : read_only);
            }
        }
        for (size_t k = 0; r == 0 && k < other.config.anonymous_volume.count; k++) {
            const char *pair = other.config.anonymous_volume.items[k];
            const char *equals = strchr(pair, '=');
            r = strv_addf(&config->volume, "%s:%.*s%s", equals + 1, (int)(equals - pair), pair,
                          read_only);
        }
        if (r < 0) {
            return err_wrap(err, -r, "--volumes-from %s", config->volumes_from.items[i]);
        }
    }
    return 0;
}

static int make_workload(struct command_context *context, struct run_options *options, int argc,
                         char **argv, struct engine **ret_engine, char id[WORKLOAD_ID_SIZE],
                         struct err *err)
{
    AUTO(engine_closep) struct engine *engine = NULL;
    struct workload_config *config = &options->config;
    int r = 0;
    config->image = argv[0];
    for (int i = 1; r == 0 && i < argc; i++) {
        r = strv_add(&config->command, argv[i]);
    }
    if (r < 0) {
        return err_set(err, -r, "read the command");
    }
    if (options->cidfile != NULL && access(options->cidfile, F_OK) == 0) {
        return err_set(err, EEXIST, "--cidfile '%s'", options->cidfile);
    }
    r = command_engine(context, &engine, err);
    if (r == 0) {
        r = volumes_from(engine, config, err);
    }
    if (r == 0) {
        r = command_ensure_image(engine, config->image, config->platform, options->pull,
                                 options->quiet, err);
    }
    if (r == 0) {
        r = create_workload(engine, config, id, err);
    }
    if (r == 0 && options->cidfile != NULL) {
        r = write_cidfile(options->cidfile, id, err);
        if (r < 0) {
            (void)end_remove(engine, id, true, true, NULL);
        }
    }
    if (r < 0) {
        return r;
    }
    *ret_engine = TAKE_PTR(engine);
    return 0;
}

static int run_create(struct command_context *context, void *data, int argc, char **argv,
                      struct err *err)
{
    struct run_options *options = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    char id[WORKLOAD_ID_SIZE];
    int r = make_workload(context, options, argc, argv, &engine, id, err);
    config_done(&options->config);
    if (r < 0) {
        return r;
    }
    (void)printf("%s\n", id);
    return 0;
}

static int start_and_follow(struct engine *engine, const char *id, const struct run_options *o,
                            struct err *err)
{
    struct restart_policy policy;
    int exit_code = EXIT_ENGINE;
    int r = create_restart_policy(o->config.restart, &policy, err);
    const struct start_options start = {
        .watch = !o->detach,
        .reaper = policy.kind == RESTART_NO,
        .remover = o->config.rm,
    };
    AUTO(closep) int control = -1;
    if (r == 0) {
        r = start_workload(engine, id, &start, &control, &exit_code, err);
    }
    if (r < 0) {
        if (o->config.rm) {
            (void)end_remove(engine, id, true, true, NULL);
        }
        (void)fprintf(stderr, "isola: %s\n", err_text(err));
        return exit_code;
    }
    if (o->detach) {
        (void)printf("%s\n", id);
        return 0;
    }
    const struct attached_options attached = {
        .input = o->config.interactive,
        .proxy = o->sig_proxy && !o->config.tty,
        .started = true,
        .reaper = start.reaper,
        .remover = start.remover,
        .detach_keys = o->detach_keys,
    };
    return attached_run(engine, id, o->config.tty, &control, &attached, err);
}

static int run_run(struct command_context *context, void *data, int argc, char **argv,
                   struct err *err)
{
    struct run_options *options = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    char id[WORKLOAD_ID_SIZE];
    uint8_t keys[DETACH_KEYS_MAX];
    size_t key_count;
    int r = session_parse_keys(options->detach_keys, keys, &key_count, err);
    if (r == 0 && options->config.tty && options->config.interactive && !options->detach &&
        !isatty(STDIN_FILENO)) {
        r = err_say(err, ENOTTY, "-t needs a terminal as standard input; leave it out in scripts");
    }
    if (r == 0) {
        r = make_workload(context, options, argc, argv, &engine, id, err);
    }
    if (r == 0) {
        r = start_and_follow(engine, id, options, err);
    }
    config_done(&options->config);
    return r;
}

const struct command run_commands[] = {
    {
        .name = "run",
        .operands = "IMAGE [COMMAND [ARG...]]",
        .summary = "Create and start a workload from an image",
        .options = run_options,
        .options_size = sizeof(struct run_options),
        .operands_min = 1,
        .operands_max = -1,
        .stop_at_operand = true,
        .failure = EXIT_ENGINE,
        .run = run_run,
        .defaults = set_defaults,
    },
    {
        .name = "create",
        .operands = "IMAGE [COMMAND [ARG...]]",
        .summary = "Create a workload without starting it",
        .options = create_options,
        .options_size = sizeof(struct run_options),
        .operands_min = 1,
        .operands_max = -1,
        .stop_at_operand = true,
        .run = run_create,
        .defaults = set_defaults,
    },
    {0},
};
