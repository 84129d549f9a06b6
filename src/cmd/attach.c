#include <errno.h>
#include <stddef.h>

#include "base/err.h"
#include "cmd/attached.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "engine/shim_process.h"
#include "engine/shim_protocol.h"

struct attach_options {
    bool no_stdin;
    bool sig_proxy;
    const char *detach_keys;
};

#define AT(member) offsetof(struct attach_options, member)

static const struct option_spec options[] = {
    {"detach-keys", 0, OPTION_STRING, AT(detach_keys), "KEYS", "Keys that detach (ctrl-p,ctrl-q)",
     NULL},
    {"no-stdin", 0, OPTION_FLAG, AT(no_stdin), NULL, "Do not attach standard input", NULL},
    {"sig-proxy", 0, OPTION_FLAG, AT(sig_proxy), NULL, "Pass signals on (default true)", NULL},
    {0},
};

static void set_defaults(void *data)
{
    ((struct attach_options *)data)->sig_proxy = true;
}

static int run_attach(struct command_context *context, void *data, int argc, char **argv,
                      struct err *err)
{
    (void)argc;
    const struct attach_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(workload_donep) struct workload workload = {0};
    int r = command_engine(context, &engine, err);
    if (r == 0) {
        r = workload_find(engine, argv[0], &workload, err);
    }
    if (r == 0 && workload.state != WORKLOAD_RUNNING) {
        r = err_say(err, ESRCH, "workload '%s' is %s; only a running one can be attached to",
                    workload.name, workload_state_name(workload.state));
    }
    if (r < 0) {
        return r;
    }
    bool input = workload.config.interactive && !o->no_stdin;
    AUTO(closep)
    int control = shim_process_connect(
        engine, &workload, (unsigned)SHIM_WATCH | (input ? (unsigned)SHIM_INPUT : 0U), err);
    if (control < 0) {
        return control;
    }
    const struct attached_options attached = {
        .input = input,
        .proxy = o->sig_proxy && !workload.config.tty,
        .detach_keys = o->detach_keys,
    };
    return attached_run(engine, workload.id, workload.config.tty, &control, &attached, err);
}

const struct command attach_commands[] = {
    {
        .name = "attach",
        .operands = "NAME",
        .summary = "Attach standard input and output to a running workload",
        .options = options,
        .options_size = sizeof(struct attach_options),
        .operands_min = 1,
        .operands_max = 1,
        .run = run_attach,
        .defaults = set_defaults,
    },
    {0},
};
