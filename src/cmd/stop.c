#include <errno.h>
#include <stddef.h>
#include <stdio.h>

#include "base/err.h"
#include "base/process.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "engine/control.h"

struct stop_options {
    int64_t time; /* seconds; -1: the workload's own */
    const char *signal;
    int signal_number;
};

static const struct option_spec options[] = {
    {"signal", 's', OPTION_STRING, offsetof(struct stop_options, signal), "SIGNAL",
     "Signal to send first", NULL},
    {"time", 't', OPTION_INT, offsetof(struct stop_options, time), "SECONDS",
     "Time before SIGKILL (10)", NULL},
    {0},
};

static void set_defaults(void *data)
{
    ((struct stop_options *)data)->time = -1;
}

static int stop_one(struct engine *engine, const char *name, void *data, struct err *err)
{
    const struct stop_options *o = data;
    return control_stop(engine, name, o->time, o->signal_number, err);
}

static int run_stop(struct command_context *context, void *data, int argc, char **argv,
                    struct err *err)
{
    struct stop_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    o->signal_number = o->signal != NULL ? signal_from_name(o->signal) : 0;
    if (o->signal_number < 0) {
        return err_say(err, EINVAL, "signal '%s' is not known", o->signal);
    }
    int r = command_engine(context, &engine, err);
    return r < 0 ? r : command_each(engine, argc, argv, stop_one, o);
}

const struct command stop_commands[] = {
    {
        .name = "stop",
        .operands = "NAME...",
        .summary = "Stop workloads: their stop signal, then SIGKILL",
        .options = options,
        .options_size = sizeof(struct stop_options),
        .operands_min = 1,
        .operands_max = -1,
        .run = run_stop,
        .defaults = set_defaults,
    },
    {0},
};
