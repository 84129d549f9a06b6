#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include "base/err.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "cmd/machine_files.h"
#include "engine/control.h"
#include "engine/vm_start.h"
#include "image/tar_writer.h"

struct commit_options {
    const char *author;
    const char *message;
    struct strv change;
    bool pause;
};

#define AT(member) offsetof(struct commit_options, member)

static const struct option_spec options[] = {
    {"author", 'a', OPTION_STRING, AT(author), "TEXT", "Author of the image", NULL},
    {"change", 'c', OPTION_LIST, AT(change), "INSTRUCTION", "Apply a Dockerfile instruction", NULL},
    {"message", 'm', OPTION_STRING, AT(message), "TEXT", "Comment", NULL},
    {"pause", 'p', OPTION_FLAG, AT(pause), NULL, "Freeze it meanwhile (default true)", NULL},
    {0},
};

static void set_defaults(void *data)
{
    ((struct commit_options *)data)->pause = true;
}

/* A layer that a machine makes of its own disk, on its way to isola-image. */
struct machine_layer {
    const char *bundle;
    bool freeze;
    int to;
};

static int pass_layer(void *data, int fd, struct err *err)
{
    const struct machine_layer *layer = data;
    return tar_copy(fd, layer->to, err);
}

static int feed_layer(void *data, int fd, struct err *err)
{
    static const char *const words[] = {"layer", NULL};
    struct machine_layer *layer = data;
    layer->to = fd;
    return machine_files_read(layer->bundle, words, layer->freeze, pass_layer, layer, err);
}

/*
 * isola-image does the work and prints the id on our standard output. upper: where the changes are,
 * or "-" for machine's.
 */
static int run_helper(struct engine *engine, const struct workload *workload,
                      const struct commit_options *o, const char *name, const char *upper,
                      struct machine_layer *machine, struct err *err)
{
    AUTO(strv_donep) struct strv argv = {0};
    const struct {
        const char *option;
        const char *value;
    } pairs[] = {
        {"--author", o->author},
        {"--message", o->message},
        {"--name", name},
    };
    int r = upper == NULL ? -ENOMEM : strv_add(&argv, "isola-image");
    r = r == 0 ? strv_add(&argv, "--root") : r;
    r = r == 0 ? strv_add(&argv, engine->dirs.root) : r;
    r = r == 0 ? strv_add(&argv, "image-commit") : r;
    for (size_t i = 0; r == 0 && i < COUNT(pairs); i++) {
        if (pairs[i].value != NULL) {
            r = strv_add(&argv, pairs[i].option);
            r = r == 0 ? strv_add(&argv, pairs[i].value) : r;
        }
    }
    for (size_t i = 0; r == 0 && i < o->change.count; i++) {
        r = strv_add(&argv, "--change");
        r = r == 0 ? strv_add(&argv, o->change.items[i]) : r;
    }
    r = r == 0 ? strv_add(&argv, workload->config.image_id) : r;
    r = r == 0 ? strv_add(&argv, upper) : r;
    if (r < 0) {
        return err_set(err, -r, "commit");
    }
    return machine != NULL
               ? command_run_helper_input("isola-image", argv.items, feed_layer, machine, err)
               : command_run_helper_output("isola-image", argv.items, err);
}

/* Frozen from inside, if at all: a machine that stands still cannot give its files. */
static int commit_machine(struct engine *engine, const struct workload *workload,
                          const struct commit_options *o, const char *name, struct err *err)
{
    AUTO(vm_idle_donep) struct vm_idle idle = VM_IDLE_INIT;
    int r = machine_files_open(engine, workload, &idle, err);
    struct machine_layer layer = {.bundle = idle.bundle, .freeze = o->pause && !idle.booted};
    r = r < 0 ? r : run_helper(engine, workload, o, name, "-", &layer, err);
    return r < 0 ? r : vm_idle_close(&idle, err);
}

static int run_commit(struct command_context *context, void *data, int argc, char **argv,
                      struct err *err)
{
    const struct commit_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(workload_donep) struct workload workload = {0};
    int r = command_engine(context, &engine, err);
    if (r == 0) {
        r = workload_find(engine, argv[0], &workload, err);
    }
    if (r == 0 && vm_start_wanted(&workload)) {
        r = commit_machine(engine, &workload, o, argc > 1 ? argv[1] : NULL, err);
        return r == -ECHILD ? 1 : r;
    }
    bool freeze = r == 0 && o->pause && workload.state == WORKLOAD_RUNNING;
    if (freeze) {
        r = control_pause(engine, workload.id, err);
    }
    if (r == 0) {
        AUTO(freep) char *upper = workload_root_path(engine, workload.id, "upper");
        r = run_helper(engine, &workload, o, argc > 1 ? argv[1] : NULL, upper, NULL, err);
    }
    if (freeze) {
        struct err resume = ERR_NONE;
        if (control_resume(engine, workload.id, &resume) < 0 && r == 0) {
            *err = resume;
            r = -resume.code;
        }
    }
    return r == -ECHILD ? 1 : r;
}

const struct command commit_commands[] = {
    {
        .name = "commit",
        .operands = "NAME [IMAGE[:TAG]]",
        .summary = "Make an image from the changes of a workload",
        .options = options,
        .options_size = sizeof(struct commit_options),
        .operands_min = 1,
        .operands_max = 2,
        .run = run_commit,
        .defaults = set_defaults,
    },
    {0},
};
