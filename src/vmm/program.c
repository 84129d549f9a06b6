#include "vmm/program.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/option.h"
#include "vmm/agent.h"
#include "vmm/api.h"
#include "vmm/control.h"
#include "vmm/gdb.h"
#include "vmm/machine.h"
#include "vmm/machine_devices.h"
#include "vmm/virtio/vsock.h"

#define EXIT_NOT_MADE 125
#define EXIT_GUEST_FAILED 126
/* How long a slow reader of what the guest wrote may take when the machine has ended. */
#define DRAIN_NS (30 * NS_PER_SEC)

#define AT(member) offsetof(struct vmm_options, member)

static const struct option_spec option_table[] = {
    {"config-file", 0, OPTION_STRING, AT(config_file), "FILE", "The machine, as JSON", NULL},
    {"api-sock", 0, OPTION_STRING, AT(api_socket), "PATH", "Listen for the HTTP API", NULL},
    {"gdb", 0, OPTION_STRING, AT(gdb), "WHERE",
     "Wait for gdb at unix:PATH or 127.0.0.1:PORT before the guest runs", NULL},
    {"id", 0, OPTION_STRING, AT(id), "NAME", "Of the machine, for messages", NULL},
    {0},
};

static void on_signal(const struct signalfd_siginfo *info, void *data)
{
    const struct control *control = data;
    (void)info;
    if (control->machine == NULL) {
        loop_quit(control->loop, 0);
    } else {
        machine_stop(control->machine, BOARD_STOPPED);
    }
}

/* What the guest sent last is still to reach its readers; the agent's word goes before ours. */
static bool ask_agent(struct machine *machine, struct agent *agent, int *ret_code)
{
    if (machine_vsock(machine) != NULL) {
        (void)vsock_drain(machine_vsock(machine), DRAIN_NS);
    }
    return agent != NULL && agent_has_exit(agent, ret_code);
}

static int exit_code_of_ending(const struct machine *machine, const char *id)
{
    const struct machine_ending *ending = machine_ending(machine);
    char text[256];
    switch (ending->why) {
    case BOARD_RUNS:
    case BOARD_POWER_OFF:
    case BOARD_RESET:
    case BOARD_STOPPED:
        return 0;
    case BOARD_DEBUG_EXIT:
        return (int)(ending->code & 0xff);
    case BOARD_SHUTDOWN:
    case BOARD_PANIC:
    case BOARD_UNEMULATED:
    case BOARD_SHARE_LOST:
        break;
    }
    machine_describe_ending(machine, text, sizeof(text));
    (void)fprintf(stderr, "isola-vmm: %s%s%s\n", id == NULL ? "" : id, id == NULL ? "" : ": ",
                  text);
    return EXIT_GUEST_FAILED;
}

static int listen_all(const struct vmm_options *options, struct control *control,
                      struct http_server **ret_server, struct err *err)
{
    int r = loop_add_signal(control->loop, SIGTERM, on_signal, control);
    r = r < 0 ? r : loop_add_signal(control->loop, SIGINT, on_signal, control);
    if (r < 0) {
        return err_set(err, -r, "listen for signals");
    }
    return options->api_socket == NULL ? 0
                                       : http_server_new(options->api_socket, control->loop,
                                                         api_serve, control, ret_server, err);
}

static int on_made(struct control *control, void *data, struct err *err)
{
    return gdb_attach(data, control->machine, err);
}

static int run(const struct vmm_options *options, int *ret_code, struct err *err)
{
    AUTO(loop_freep) struct loop *loop = NULL;
    AUTO(control_donep) struct control control = {0};
    AUTO(http_server_freep) struct http_server *server = NULL;
    AUTO(gdb_freep) struct gdb *gdb = NULL;
    int r = loop_new(&loop);
    if (r < 0) {
        return err_set(err, -r, "make the event loop");
    }
    r = control_init(&control, loop, options->id, err);
    /* Who speaks to us from outside may ask for files later: snapshots, drives. */
    control.jail = options->api_socket == NULL && options->gdb == NULL;
    r = r < 0 || options->config_file == NULL
            ? r
            : control_load_file(&control, options->config_file, err);
    r = r < 0 ? r : listen_all(options, &control, &server, err);
    if (r == 0 && options->gdb != NULL) {
        r = gdb_listen(options->gdb, loop, &gdb, err);
        control.made = on_made;
        control.made_data = gdb;
    }
    r = r < 0 || options->config_file == NULL ? r : control_start(&control, err);
    if (r < 0) {
        return r;
    }
    r = loop_run(loop);
    if (control.machine == NULL) {
        *ret_code = 0;
    } else if (!ask_agent(control.machine, control.agent, ret_code)) {
        *ret_code = exit_code_of_ending(control.machine, options->id);
    }
    return r < 0 ? err_set(err, -r, "run the machine") : 0;
}

static void print_help(void)
{
    (void)printf("Usage: isola-vmm --config-file FILE [OPTIONS]\n"
                 "       isola-vmm --api-sock PATH [OPTIONS]\n\n"
                 "One virtual machine, started by isola.\n\nOptions:\n");
    option_print_help(option_table);
}

int vmm_main(int argc, char **argv)
{
    struct err err = ERR_NONE;
    struct vmm_options options = {0};
    const struct option_parse parse = {.specs = option_table, .target = &options};
    bool help = false;
    int code = EXIT_NOT_MADE;
    (void)signal(SIGPIPE, SIG_IGN);
    int r = option_parse(&parse, argc, argv, &help, &err);
    if (help) {
        print_help();
        return 0;
    }
    if (r > 0) {
        r = err_say(&err, EINVAL, "'%s' is not understood; see --help", argv[1]);
    } else if (r == 0 && options.config_file == NULL && options.api_socket == NULL) {
        r = err_say(&err, EINVAL, "--config-file or --api-sock is missing; see --help");
    }
    r = r < 0 ? r : run(&options, &code, &err);
    if (r < 0) {
        (void)fprintf(stderr, "isola-vmm: %s\n", err_text(&err));
        return EXIT_NOT_MADE;
    }
    return code;
}
