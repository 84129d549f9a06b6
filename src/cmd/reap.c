#include "base/err.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "engine/end.h"

static int run_reap(struct command_context *context, void *data, int argc, char **argv,
                    struct err *err)
{
    (void)data;
    (void)argc;
    AUTO(engine_closep) struct engine *engine = NULL;
    int r = command_engine(context, &engine, err);
    return r < 0 ? r : end_run_and_restart(engine, argv[0], err);
}

/* Started by isola-shim when its workload has ended and no isola is attached. */
const struct command reap_commands[] = {
    {
        .name = "reap",
        .operands = "ID",
        .summary = "End the run of a workload whose process has ended",
        .operands_min = 1,
        .operands_max = 1,
        .hidden = true,
        .run = run_reap,
    },
    {0},
};
