#include <errno.h>
#include <stddef.h>
#include <stdio.h>

#include "base/err.h"
#include "base/process.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "engine/control.h"
#include "engine/start.h"

struct restart_options {
    int64_t time; /* seconds; -1: the workload's own */
};

static const struct option_spec options[] = {
    {"time", 't', OPTION_INT, offsetof(struct restart_options, time), "SECONDS",
     "Time before SIGKILL (10)", NULL},
    {0},
};

static void set_defaults(void *data)
{
    ((struct restart_options *)data)->time = -1;
}

static int restart_one(struct engine *engine, const char *name, void *data, struct err *err)
{
    const struct restart_options *o = data;
    const struct start_options plain = {0};
    AUTO(workload_donep) struct workload workload = {0};
    int r = control_stop(engine, name, o->time, 0, err);
    if (r == 0) {
        r = workload_find(engine, name, &workload, err);
    }
    return r < 0 ? r : start_workload(engine, workload.id, &plain, NULL, NULL, err);
}

static int run_restart(struct command_context *context, void *data, int argc, char **argv,
                       struct err *err)
{
    AUTO(engine_closep) struct engine *engine = NULL;
    int r = command_engine(context, &engine, err);
    return r < 0 ? r : command_each(engine, argc, argv, restart_one, data);
}

const struct command restart_commands[] = {
    {
        .name = "restart",
        .operands = "NAME...",
        .summary = "Stop workloads and start them again",
        .options = options,
        .options_size = sizeof(struct restart_options),
        .operands_min = 1,
        .operands_max = -1,
        .run = run_restart,
        .defaults = set_defaults,
    },
    {0},
};
