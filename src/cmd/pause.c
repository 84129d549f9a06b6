#include <errno.h>
#include <stdio.h>

#include "base/err.h"
#include "base/process.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "engine/control.h"

static int pause_one(struct engine *engine, const char *name, void *data, struct err *err)
{
    (void)data;
    return control_pause(engine, name, err);
}

static int resume_one(struct engine *engine, const char *name, void *data, struct err *err)
{
    (void)data;
    return control_resume(engine, name, err);
}

static int run_pause(struct command_context *context, void *data, int argc, char **argv,
                     struct err *err)
{
    (void)data;
    AUTO(engine_closep) struct engine *engine = NULL;
    int r = command_engine(context, &engine, err);
    return r < 0 ? r : command_each(engine, argc, argv, pause_one, NULL);
}

static int run_unpause(struct command_context *context, void *data, int argc, char **argv,
                       struct err *err)
{
    (void)data;
    AUTO(engine_closep) struct engine *engine = NULL;
    int r = command_engine(context, &engine, err);
    return r < 0 ? r : command_each(engine, argc, argv, resume_one, NULL);
}

const struct command pause_commands[] = {
    {
        .name = "pause",
        .operands = "NAME...",
        .summary = "Freeze all processes of workloads",
        .operands_min = 1,
        .operands_max = -1,
        .run = run_pause,
    },
    {
        .name = "unpause",
        .operands = "NAME...",
        .summary = "Let frozen workloads go on",
        .operands_min = 1,
        .operands_max = -1,
        .run = run_unpause,
    },
    {0},
};
