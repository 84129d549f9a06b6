#include <errno.h>
#include <stdio.h>

#include "base/err.h"
#include "base/process.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "engine/control.h"

static int run_rename(struct command_context *context, void *data, int argc, char **argv,
                      struct err *err)
{
    (void)data;
    (void)argc;
    AUTO(engine_closep) struct engine *engine = NULL;
    int r = command_engine(context, &engine, err);
    return r < 0 ? r : control_rename(engine, argv[0], argv[1], err);
}

const struct command rename_commands[] = {
    {
        .name = "rename",
        .operands = "NAME NEW-NAME",
        .summary = "Give a workload another name",
        .operands_min = 2,
        .operands_max = 2,
        .run = run_rename,
    },
    {0},
};
