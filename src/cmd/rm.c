#include <errno.h>
#include <stddef.h>
#include <stdio.h>

#include "base/err.h"
#include "base/process.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "engine/end.h"

struct rm_options {
    bool force;
    bool volumes;
};

static const struct option_spec options[] = {
    {"force", 'f', OPTION_FLAG, offsetof(struct rm_options, force), NULL,
     "Kill it when it runs; a missing one is no error", NULL},
    {"volumes", 'v', OPTION_FLAG, offsetof(struct rm_options, volumes), NULL,
     "Remove its anonymous volumes too", NULL},
    {0},
};

static int rm_one(struct engine *engine, const char *name, void *data, struct err *err)
{
    const struct rm_options *o = data;
    AUTO(workload_donep) struct workload workload = {0};
    int r = workload_find(engine, name, &workload, err);
    if (r == -ENOENT && o->force) {
        return 0;
    }
    return r < 0 ? r : end_remove(engine, workload.id, o->force, o->volumes, err);
}

static int run_rm(struct command_context *context, void *data, int argc, char **argv,
                  struct err *err)
{
    AUTO(engine_closep) struct engine *engine = NULL;
    int r = command_engine(context, &engine, err);
    return r < 0 ? r : command_each(engine, argc, argv, rm_one, data);
}

const struct command rm_commands[] = {
    {
        .name = "rm",
        .operands = "NAME...",
        .summary = "Remove workloads",
        .options = options,
        .options_size = sizeof(struct rm_options),
        .operands_min = 1,
        .operands_max = -1,
        .run = run_rm,
    },
    {0},
};
