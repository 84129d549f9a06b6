#include "engine/start.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>

#include "base/err.h"
#include "cmd/attached.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "engine/create.h"

struct start_command_options {
    bool attach;
    bool interactive;
    bool sig_proxy;
    const char *detach_keys;
};

#define AT(member) offsetof(struct start_command_options, member)

static const struct option_spec options[] = {
    {"attach", 'a', OPTION_FLAG, AT(attach), NULL, "Show output and wait for the end", NULL},
    {"interactive", 'i', OPTION_FLAG, AT(interactive), NULL, "Attach standard input", NULL},
    {"detach-keys", 0, OPTION_STRING, AT(detach_keys), "KEYS", "Keys that detach", NULL},
    {"sig-proxy", 0, OPTION_FLAG, AT(sig_proxy), NULL, "Pass signals on (default true)", NULL},
    {0},
};

static void set_defaults(void *data)
{
    ((struct start_command_options *)data)->sig_proxy = true;
}

static int start_one(struct engine *engine, const char *name, void *data, struct err *err)
{
    (void)data;
    AUTO(workload_donep) struct workload workload = {0};
    const struct start_options plain = {0};
    int r = workload_find(engine, name, &workload, err);
    if (r == 0 && workload.state == WORKLOAD_RUNNING) {
        return 0;
    }
    return r < 0 ? r : start_workload(engine, workload.id, &plain, NULL, NULL, err);
}

static int start_attached(struct engine *engine, const char *name,
                          const struct start_command_options *o, struct err *err)
{
    AUTO(workload_donep) struct workload workload = {0};
    AUTO(closep) int control = -1;
    struct restart_policy policy;
    int r = workload_find(engine, name, &workload, err);
    if (r == 0) {
        r = create_restart_policy(workload.config.restart, &policy, err);
    }
    if (r < 0) {
        return r;
    }
    const struct start_options start = {
        .watch = true,
        .reaper = policy.kind == RESTART_NO,
        .remover = workload.config.rm,
    };
    r = start_workload(engine, workload.id, &start, &control, NULL, err);
    if (r < 0) {
        return r;
    }
    const struct attached_options attached = {
        .input = o->interactive && workload.config.interactive,
        .proxy = o->sig_proxy && !workload.config.tty,
        .started = true,
        .reaper = start.reaper,
        .remover = start.remover,
        .detach_keys = o->detach_keys,
    };
    return attached_run(engine, workload.id, workload.config.tty, &control, &attached, err);
}

static int run_start(struct command_context *context, void *data, int argc, char **argv,
                     struct err *err)
{
    const struct start_command_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    int r = command_engine(context, &engine, err);
    if (r < 0) {
        return r;
    }
    if (!o->attach && !o->interactive) {
        return command_each(engine, argc, argv, start_one, NULL);
    }
    if (argc > 1) {
        return err_say(err, EINVAL, "only one workload can be attached to");
    }
    return start_attached(engine, argv[0], o, err);
}

const struct command start_commands[] = {
    {
        .name = "start",
        .operands = "NAME...",
        .summary = "Start workloads that do not run",
        .options = options,
        .options_size = sizeof(struct start_command_options),
        .operands_min = 1,
        .operands_max = -1,
        .run = run_start,
        .defaults = set_defaults,
    },
    {0},
};
