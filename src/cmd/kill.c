#include <errno.h>
#include <stddef.h>
#include <stdio.h>

#include "base/err.h"
#include "base/process.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "engine/control.h"

struct kill_options {
    const char *signal;
};

static const struct option_spec options[] = {
    {"signal", 's', OPTION_STRING, offsetof(struct kill_options, signal), "SIGNAL",
     "Signal to send (KILL)", NULL},
    {0},
};

static int kill_one(struct engine *engine, const char *name, void *data, struct err *err)
{
    return control_kill(engine, name, *(int *)data, err);
}

static int run_kill(struct command_context *context, void *data, int argc, char **argv,
                    struct err *err)
{
    const struct kill_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    int signal = signal_from_name(o->signal != NULL ? o->signal : "KILL");
    if (signal < 0) {
        return err_say(err, EINVAL, "signal '%s' is not known", o->signal);
    }
    int r = command_engine(context, &engine, err);
    return r < 0 ? r : command_each(engine, argc, argv, kill_one, &signal);
}

const struct command kill_commands[] = {
    {
        .name = "kill",
        .operands = "NAME...",
        .summary = "Send a signal to workloads",
        .options = options,
        .options_size = sizeof(struct kill_options),
        .operands_min = 1,
        .operands_max = -1,
        .run = run_kill,
    },
    {0},
};
