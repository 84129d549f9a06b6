#include <errno.h>
#include <stdio.h>

#include "base/err.h"
#include "base/process.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "engine/control.h"

static int run_wait(struct command_context *context, void *data, int argc, char **argv,
                    struct err *err)
{
    (void)data;
    AUTO(engine_closep) struct engine *engine = NULL;
    int r = command_engine(context, &engine, err);
    for (int i = 0; r == 0 && i < argc; i++) {
        int exit_code = 0;
        r = control_wait(engine, argv[i], &exit_code, err);
        if (r == 0) {
            (void)printf("%d\n", exit_code);
            (void)fflush(stdout);
        }
    }
    return r;
}

const struct command wait_commands[] = {
    {
        .name = "wait",
        .operands = "NAME...",
        .summary = "Wait until workloads end, print their exit codes",
        .operands_min = 1,
        .operands_max = -1,
        .run = run_wait,
    },
    {0},
};
