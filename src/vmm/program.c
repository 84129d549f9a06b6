#include "vmm/program.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/loop.h"
#include "base/option.h"
#include "base/str.h"
#include "vmm/api.h"
#include "vmm/control.h"
#include "vmm/gdb.h"
#include "vmm/machine.h"
#include "vmm/monitor.h"
#include "vmm/monitor_program.h"
#include "vmm/report.h"

#define EXIT_NOT_MADE 125

#define AT(member) offsetof(struct vmm_options, member)

static const struct option_spec option_table[] = {
    {"config-file", 0, OPTION_STRING, AT(config_file), "FILE", "The machine, as JSON", NULL},
    {"api-sock", 0, OPTION_STRING, AT(api_socket), "PATH", "Listen for the HTTP API", NULL},
    {"gdb", 0, OPTION_STRING, AT(gdb), "WHERE",
     "Wait for gdb at unix:PATH or 127.0.0.1:PORT before the guest runs", NULL},
    {"no-jail", 0, OPTION_FLAG, AT(no_jail), NULL,
     "Run the machine with all rights of who starts it", NULL},
    {"report-fd", 0, OPTION_INT, AT(report_fd), "FD", "Tell this open descriptor of the end", NULL},
    {"id", 0, OPTION_STRING, AT(id), "NAME", "Of the machine, for messages", NULL},
    {0},
};

/* A socket in the file system that is ours to remove. */
static void remove_socket(char **path)
{
    if (*path != NULL) {
        (void)unlink(*path);
        free(*path);
    }
}

static void on_signal(const struct signalfd_siginfo *info, void *data)
{
    const struct control *control = data;
    (void)info;
    if (control->machine != NULL) {
        machine_stop(control->machine, BOARD_STOPPED);
    } else if (control->monitor != NULL && !control->ended) {
        monitor_stop(control->monitor);
    } else {
        loop_quit(control->loop, 0);
    }
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

/*
 * Process 1 of a pid namespace is alone in a container that was made for this machine, as isola run
 * makes it: mount, network and other namespaces are there. Who steers it by a socket or debugs it
 * lives outside of the jail, so that needs a process of its own there as well.
 */
static enum control_place place_of(const struct vmm_options *options)
{
    if (options->no_jail) {
        return CONTROL_OPEN;
    }
    return getpid() == 1 && options->api_socket == NULL && options->gdb == NULL ? CONTROL_CONTAINED
                                                                                : CONTROL_APART;
}

static int listen_gdb(const char *where, struct control *control, char **ret_path,
                      struct gdb **ret_gdb, int *ret_fd, struct err *err)
{
    int fd = gdb_socket(where, ret_path, err);
    if (fd < 0) {
        return fd;
    }
    if (control->place == CONTROL_APART) {
        *ret_fd = control->gdb_fd = fd;
        return 0;
    }
    int r = gdb_new(fd, control->loop, ret_gdb, err);
    control->made = on_made;
    control->made_data = *ret_gdb;
    return r;
}

static int run(const struct vmm_options *options, int *ret_code, struct err *err)
{
    AUTO(loop_freep) struct loop *loop = NULL;
    AUTO(control_donep) struct control control = CONTROL_INIT;
    AUTO(http_server_freep) struct http_server *server = NULL;
    AUTO(gdb_freep) struct gdb *gdb = NULL;
    AUTO(remove_socket) char *gdb_path = NULL;
    AUTO(closep) int gdb_fd = -1;
    int r = loop_new(&loop);
    if (r < 0) {
        return err_set(err, -r, "make the event loop");
    }
    r = control_init(&control, loop, options->id, err);
    control.place = place_of(options);
    r = r < 0 || options->config_file == NULL
            ? r
            : control_load_file(&control, options->config_file, err);
    r = r < 0 ? r : listen_all(options, &control, &server, err);
    if (r == 0 && options->gdb != NULL) {
        r = listen_gdb(options->gdb, &control, &gdb_path, &gdb, &gdb_fd, err);
    }
    r = r < 0 || options->config_file == NULL ? r : control_start(&control, err);
    if (r < 0) {
        return r;
    }
    r = loop_run(loop);
    if (r < 0) {
        return err_set(err, -r, "run the machine");
    }
    struct vmm_report report = {.size = sizeof(report)};
    *ret_code =
        control.ended ? monitor_exit_code(control.monitor) : monitor_finish(&control, &report);
    report.exit_code = (uint32_t)*ret_code;
    if (options->report_fd >= 0) {
        /* Who does not listen any more learns it from our exit status. */
        (void)!write((int)options->report_fd, &report, sizeof(report));
    }
    return 0;
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
    struct vmm_options options = {.report_fd = -1};
    const struct option_parse parse = {.specs = option_table, .target = &options};
    bool help = false;
    int code = EXIT_NOT_MADE;
    (void)signal(SIGPIPE, SIG_IGN);
    if (argc > 1 && str_eq(argv[1], MONITOR_OPTION)) {
        monitor_main(argv[2]);
    }
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
    /* isola-fs is not to have it. */
    if (r == 0 && options.report_fd >= 0 &&
        (options.report_fd > INT32_MAX || set_cloexec((int)options.report_fd, true) < 0)) {
        r = err_say(&err, EBADF, "--report-fd %" PRId64 " is not an open descriptor",
                    options.report_fd);
    }
    if (r == 0 && options.report_fd >= 0 && place_of(&options) == CONTROL_APART) {
        r = err_say(&err, EINVAL,
                    "--report-fd is of a machine in this very process: alone in a "
                    "container, or with --no-jail");
    }
    r = r < 0 ? r : run(&options, &code, &err);
    if (r < 0) {
        (void)fprintf(stderr, "isola-vmm: %s\n", err_text(&err));
        return EXIT_NOT_MADE;
    }
    return code;
}
