#include "oci/program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "container/container.h"
#include "container/self.h"

static const struct option_spec global_options[] = {
    {"root", 0, OPTION_STRING, offsetof(struct oci_globals, root), "DIR",
     "where the state of containers is kept", NULL},
    {"log", 0, OPTION_STRING, offsetof(struct oci_globals, log), "FILE",
     "append errors to FILE too", NULL},
    {"log-format", 0, OPTION_STRING, offsetof(struct oci_globals, log_format), "FORMAT",
     "text or json", NULL},
    {"log-level", 0, OPTION_STRING, offsetof(struct oci_globals, log_level), "LEVEL", NULL, NULL},
    {"systemd-cgroup", 0, OPTION_FLAG, offsetof(struct oci_globals, systemd_cgroup), NULL,
     "cgroups are scopes of systemd", NULL},
    {"cgroup-manager", 0, OPTION_STRING, offsetof(struct oci_globals, cgroup_manager), "MANAGER",
     "cgroupfs, systemd or disabled", NULL},
    {"rootless", 0, OPTION_STRING, offsetof(struct oci_globals, rootless), "WHEN",
     "true, false or auto", NULL},
    {"debug", 0, OPTION_FLAG, offsetof(struct oci_globals, debug), NULL, "say more on errors",
     NULL},
    {"version", 'v', OPTION_FLAG, offsetof(struct oci_globals, version), NULL, "print the version",
     NULL},
    {0},
};

static const struct oci_command *const tables[] = {
    oci_create_commands, oci_life_commands,   oci_exec_commands,
    oci_info_commands,   oci_update_commands, oci_events_commands,
};

static const struct oci_command *find_command(const char *name)
{
    for (size_t i = 0; i < COUNT(tables); i++) {
        for (const struct oci_command *c = tables[i]; c->name != NULL; c++) {
            if (strcmp(c->name, name) == 0) {
                return c;
            }
        }
    }
    return NULL;
}

static void print_help(void)
{
    (void)printf("Usage: isola-oci [OPTION...] COMMAND [ARG...]\n\nOptions:\n");
    option_print_help(global_options);
    (void)printf("      --help                    this text\n\nCommands:\n");
    for (size_t i = 0; i < COUNT(tables); i++) {
        for (const struct oci_command *c = tables[i]; c->name != NULL; c++) {
            (void)printf("  %-10s %s\n", c->name, c->summary);
        }
    }
}

static void print_command_help(const struct oci_command *command)
{
    (void)printf("Usage: isola-oci %s%s %s\n\n%s\n", command->name,
                 command->options != NULL ? " [OPTION...]" : "", command->operands,
                 command->summary);
    if (command->options != NULL) {
        (void)printf("\nOptions:\n");
        option_print_help(command->options);
    }
}

/* podman and containerd read the first word pairs and the line that starts with "spec:". */
static int print_version(void)
{
    (void)printf("isola-oci version %s\nspec: %s\n+SECCOMP +CAP +EBPF +APPARMOR +SELINUX\n",
                 ISOLA_VERSION, SPEC_VERSION);
    return 0;
}

static void write_log(const struct oci_globals *globals, const char *text)
{
    AUTO(closep)
    int fd = open(globals->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644);
    char now[TIME_TEXT_SIZE];
    format_time(clock_realtime_ns(), now);
    AUTO(buf_donep) struct buf line = {0};
    if (str_eq(globals->log_format, "json")) {
        AUTO(json_unrefp)
        json_t *json = json_pack("{s:s, s:s, s:s}", "level", "error", "msg", text, "time", now);
        AUTO(freep) char *dump = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
        (void)buf_printf(&line, "%s\n", dump != NULL ? dump : "{}");
    } else {
        (void)buf_printf(&line, "time=\"%s\" level=error msg=\"%s\"\n", now, text);
    }
    if (fd >= 0 && line.data != NULL) {
        (void)write_full(fd, line.data, line.len);
    }
}

static void report(const struct oci_globals *globals, const struct err *err)
{
    if (globals->log != NULL) {
        write_log(globals, err_text(err));
    }
    (void)fprintf(stderr, "isola-oci: %s\n", err_text(err));
}

static const char *default_root(char *out, size_t size)
{
    const char *runtime_dir = getenv("XDG_RUNTIME_DIR");
    if (geteuid() == 0 || runtime_dir == NULL || runtime_dir[0] != '/') {
        return geteuid() == 0 ? "/run/isola-oci" : "/tmp/isola-oci";
    }
    (void)snprintf(out, size, "%s/isola-oci", runtime_dir);
    return out;
}

static int run_command(const struct oci_globals *globals, const struct oci_command *command,
                       int argc, char **argv, struct err *err)
{
    static const struct option_spec no_options[] = {{0}};
    AUTO(freep) void *options = calloc(1, command->options_size + 1);
    if (options == NULL) {
        return err_set(err, ENOMEM, "%s", command->name);
    }
    const struct option_parse parse = {
        .specs = command->options != NULL ? command->options : no_options,
        .target = options,
        .stop_at_operand = command->stop_at_operand,
    };
    bool help = false;
    int n = option_parse(&parse, argc, argv, &help, err);
    if (n < 0) {
        return err_wrap(err, -n, "%s", command->name);
    }
    if (help) {
        print_command_help(command);
        return 0;
    }
    if (n < command->operands_min || (command->operands_max >= 0 && n > command->operands_max)) {
        return err_say(err, EINVAL, "usage: isola-oci %s %s", command->name, command->operands);
    }
    return command->run(globals, options, n, argv + 1, err);
}

static int check_globals(const struct oci_globals *globals, struct err *err)
{
    if (globals->log_format != NULL && !str_eq(globals->log_format, "text") &&
        !str_eq(globals->log_format, "json")) {
        return err_say(err, EINVAL, "--log-format: '%s' is not text or json", globals->log_format);
    }
    if (globals->cgroup_manager != NULL && !str_eq(globals->cgroup_manager, "cgroupfs") &&
        !str_eq(globals->cgroup_manager, "systemd") &&
        !str_eq(globals->cgroup_manager, "disabled")) {
        return err_say(err, EINVAL, "--cgroup-manager: '%s' is not cgroupfs, systemd or disabled",
                       globals->cgroup_manager);
    }
    return 0;
}

static int dispatch(struct oci_globals *globals, int argc, char **argv, struct err *err)
{
    const struct option_parse parse = {
        .specs = global_options, .target = globals, .stop_at_operand = true};
    bool help = false;
    int n = option_parse(&parse, argc, argv, &help, err);
    if (n < 0) {
        return n;
    }
    if (globals->version) {
        return print_version();
    }
    if (help || (n > 0 && strcmp(argv[1], "help") == 0)) {
        print_help();
        return 0;
    }
    if (n == 0) {
        return err_say(err, EINVAL, "no command given; see isola-oci --help");
    }
    if (globals->debug) {
        (void)setenv("ISOLA_DEBUG", "1", 1);
    }
    int r = check_globals(globals, err);
    if (r < 0) {
        return r;
    }
    const struct oci_command *command = find_command(argv[1]);
    if (command == NULL) {
        return err_say(err, EINVAL, "unknown command '%s'; see isola-oci --help", argv[1]);
    }
    return run_command(globals, command, n, argv + 1, err);
}

/* The command word is needed before the options are parsed: that would change argv. */
static bool needs_protection(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const struct oci_command *command = find_command(argv[i]);
        if (command != NULL) {
            return command->protect_self;
        }
    }
    return false;
}

int oci_main(int argc, char **argv)
{
    struct err err = ERR_NONE;
    char root[4096];
    struct oci_globals globals = {.argv = argv};
    int r = needs_protection(argc, argv) ? self_protect(argv, &err) : 0;
    if (r == 0) {
        globals.root = default_root(root, sizeof(root));
        r = dispatch(&globals, argc, argv, &err);
    }
    if (r < 0) {
        if (err.code == 0) {
            (void)err_set(&err, -r, "%s", argc > 1 ? argv[1] : "isola-oci");
        }
        report(&globals, &err);
        return 1;
    }
    if (r > 0 && err.code != 0) {
        report(&globals, &err); /* an exit code of its own, with a text */
    }
    return r;
}

int oci_exec_exit_code(bool exec_failed, int r)
{
    if (!exec_failed) {
        return 1;
    }
    return r == -ENOENT ? 127 : 126;
}

void oci_block_signals(void)
{
    sigset_t all;
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, NULL);
}

int oci_wait_foreground(const struct container_process *process)
{
    sigset_t all;
    (void)sigfillset(&all);
    for (;;) {
        int status;
        pid_t pid = waitpid(process->pid, &status, WNOHANG);
        if (pid == process->pid) {
            return exit_code_of(status);
        }
        if (pid < 0 && errno != EINTR) {
            return -errno;
        }
        int signal = sigwaitinfo(&all, NULL);
        if (signal > 0 && signal != SIGCHLD) {
            (void)pidfd_signal(process->pidfd, signal);
        }
    }
}
