#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/process.h"
#include "base/unix_socket.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "cmd/machine_files.h"
#include "cmd/session.h"
#include "container/container.h"
#include "container/self.h"
#include "engine/bundle.h"
#include "engine/emulator.h"
#include "engine/user.h"
#include "engine/vm_start.h"
#include "wall/wall.h"

struct exec_options {
    bool detach;
    bool interactive;
    bool tty;
    bool privileged;
    const char *user;
    const char *workdir;
    const char *detach_keys;
    struct strv env;
};

#define AT(member) offsetof(struct exec_options, member)

static const struct option_spec options[] = {
    {"detach", 'd', OPTION_FLAG, AT(detach), NULL, "Run in the background", NULL},
    {"detach-keys", 0, OPTION_STRING, AT(detach_keys), "KEYS", "Keys that detach (ctrl-p,ctrl-q)",
     NULL},
    {"env", 'e', OPTION_LIST, AT(env), "NAME[=VALUE]", "Set an environment variable", NULL},
    {"interactive", 'i', OPTION_FLAG, AT(interactive), NULL, "Keep standard input open", NULL},
    {"privileged", 0, OPTION_FLAG, AT(privileged), NULL, "Give all capabilities", NULL},
    {"tty", 't', OPTION_FLAG, AT(tty), NULL, "Give it a terminal", NULL},
    {"user", 'u', OPTION_STRING, AT(user), "USER[:GROUP]", "User name or id", NULL},
    {"workdir", 'w', OPTION_STRING, AT(workdir), "DIR", "Working directory", NULL},
    {0},
};

/* What an exec gathers; strings that the spec borrows live here. */
struct exec {
    const struct exec_options *options;
    struct engine *engine;
    struct workload workload;
    const struct wall *wall;
    struct spec *spec;
    struct user user;
    struct strv env, words;
    int console[2];
    int null_fd;
    int stdio[3];                /* the workload's ends of pipes; -1: none */
    struct session_process ours; /* our ends */
};

#define EXEC_INIT                                                                                  \
    ((struct exec){                                                                                \
        .console = {-1, -1}, .null_fd = -1, .stdio = {-1, -1, -1}, .ours = SESSION_PROCESS_INIT})

static void exec_done(struct exec *exec)
{
    workload_done(&exec->workload);
    spec_free(exec->spec);
    user_done(&exec->user);
    strv_done(&exec->env);
    strv_done(&exec->words);
    const int fds[] = {
        exec->console[0],        exec->console[1],     exec->null_fd,       exec->stdio[0],
        exec->stdio[1],          exec->stdio[2],       exec->ours.input_fd, exec->ours.output_fd[0],
        exec->ours.output_fd[1], exec->ours.master_fd,
    };
    for (size_t i = 0; i < COUNT(fds); i++) {
        (void)close_fd(fds[i]);
    }
}
DEFINE_DONEP(struct exec, exec_done)

/* Names are those of the workload's own /etc/passwd. */
static int find_user(struct exec *exec, struct err *err)
{
    const struct workload *workload = &exec->workload;
    if (vm_start_wanted(workload)) {
        AUTO(vm_idle_donep) struct vm_idle idle = VM_IDLE_INIT;
        int r = machine_files_open(exec->engine, workload, &idle, err);
        return r < 0 ? r
                     : machine_files_user(idle.bundle, exec->options->user,
                                          &workload->config.group_add, &exec->user, err);
    }
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/root", (int)workload->status.pid);
    AUTO(closep) int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        return err_set(err, errno, "open '%s'", path);
    }
    if (!process_is_alive(workload->status.pid, workload->status.pid_start)) {
        return err_say(err, ESRCH, "workload '%s' has ended", workload->name);
    }
    return user_resolve(root, exec->options->user, &workload->config.group_add, &exec->user, err);
}

static int set_user(struct exec *exec, struct err *err)
{
    struct spec_process *process = &exec->spec->process;
    if (exec->options->user == NULL) {
        return 0;
    }
    int r = find_user(exec, err);
    if (r < 0) {
        return r;
    }
    process->uid = exec->user.uid;
    process->gid = exec->user.gid;
    process->additional_gids = exec->user.groups;
    process->additional_gid_count = exec->user.group_count;
    if (process->uid != 0) {
        process->capabilities.effective = 0;
        process->capabilities.permitted = 0;
    } else {
        process->capabilities.effective = process->capabilities.bounding;
        process->capabilities.permitted = process->capabilities.bounding;
    }
    return 0;
}

static int set_env(struct exec *exec, struct err *err)
{
    const struct exec_options *o = exec->options;
    struct spec_process *process = &exec->spec->process;
    int r = 0;
    for (size_t i = 0; r == 0 && i < process->env.count; i++) {
        r = strv_add(&exec->env, process->env.items[i]);
    }
    if (r == 0 && o->tty && env_get(&exec->env, "TERM") == NULL) {
        r = strv_add(&exec->env, "TERM=xterm");
    }
    if (r == 0 && exec->user.home != NULL) {
        AUTO(freep) char *home = str_printf("HOME=%s", exec->user.home);
        r = home == NULL ? -ENOMEM : env_set(&exec->env, home);
    }
    for (size_t i = 0; r == 0 && i < o->env.count; i++) {
        const char *item = o->env.items[i];
        const char *value = strchr(item, '=') == NULL ? getenv(item) : NULL;
        AUTO(freep) char *pair = value != NULL ? str_printf("%s=%s", item, value) : NULL;
        if (pair != NULL || strchr(item, '=') != NULL) {
            r = env_set(&exec->env, pair != NULL ? pair : item);
        }
    }
    process->env = (struct spec_strings){.items = exec->env.items, .count = exec->env.count};
    return r < 0 ? err_set(err, -r, "environment") : 0;
}

static void set_rights(struct exec *exec)
{
    if (exec->options->privileged) {
        struct spec_capabilities *caps = &exec->spec->process.capabilities;
        uint64_t all = 0;
        for (unsigned long i = 0; i < 64; i++) {
            if (prctl(PR_CAPBSET_READ, i) == 1) {
                all |= UINT64_C(1) << i;
            }
        }
        caps->bounding = caps->effective = caps->permitted = all;
        exec->spec->process.no_new_privileges = false;
    }
}

static int prepare(struct exec *exec, int argc, char **argv, struct err *err)
{
    struct workload *workload = &exec->workload;
    int r = workload_find(exec->engine, argv[0], workload, err);
    if (r == 0 && workload->state == WORKLOAD_PAUSED) {
        r = err_say(err, EBUSY, "workload '%s' is paused; unpause it first", workload->name);
    }
    if (r == 0 && workload->state != WORKLOAD_RUNNING) {
        r = err_say(err, ESRCH, "workload '%s' does not run (%s)", workload->name,
                    workload_state_name(workload->state));
    }
    if (r == 0) {
        r = wall_find(workload->config.isolation, &exec->wall, err);
    }
    if (r == 0) {
        r = exec->wall->exec_spec(exec->engine->containers_dir, workload->id, &exec->spec, err);
    }
    if (r < 0) {
        return r;
    }
    struct spec_process *process = &exec->spec->process;
    process->terminal = exec->options->tty;
    for (int i = 1; r == 0 && i < argc; i++) {
        r = strv_add(&exec->words, argv[i]);
    }
    if (r == 0 && emulator_started(&process->args)) {
        r = emulator_wrap(&exec->words);
    }
    if (r < 0) {
        return err_set(err, -r, "execute a command");
    }
    process->args = (struct spec_strings){.items = exec->words.items, .count = exec->words.count};
    if (exec->options->workdir != NULL) {
        process->cwd = exec->options->workdir;
    }
    set_rights(exec);
    r = set_user(exec, err);
    return r < 0 ? r : set_env(exec, err);
}

static int make_pipe(int *ret_read, int *ret_write)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0) {
        return -errno;
    }
    *ret_read = fds[0];
    *ret_write = fds[1];
    return 0;
}

/*
 * Without a terminal: pipes and /dev/null, never our own descriptors, behind which lie files and
 * terminals of the host that /proc/self/fd would open anew.
 */
static int make_stdio(struct exec *exec, struct container_io *io)
{
    const struct exec_options *o = exec->options;
    int r = 0;
    if (o->interactive && !o->detach) {
        r = make_pipe(&exec->stdio[0], &exec->ours.input_fd);
    }
    for (int i = 0; r == 0 && i < 2 && !o->detach; i++) {
        r = make_pipe(&exec->ours.output_fd[i], &exec->stdio[i + 1]);
    }
    for (int i = 0; i < 3; i++) {
        io->stdio[i] = exec->stdio[i] >= 0 ? exec->stdio[i] : exec->null_fd;
    }
    return r;
}

static int execute(struct exec *exec, struct container_process *process, bool *exec_failed,
                   struct err *err)
{
    struct container_exec_args args = CONTAINER_EXEC_ARGS_INIT;
    int r = 0;
    args.root = exec->engine->containers_dir;
    args.id = exec->workload.id;
    args.process = &exec->spec->process;
    exec->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (exec->null_fd < 0) {
        return err_set(err, errno, "open '/dev/null'");
    }
    if (exec->options->tty) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, exec->console) < 0) {
            return err_set(err, errno, "make a terminal");
        }
        args.io.console_fd = exec->console[1];
    } else if ((r = make_stdio(exec, &args.io)) < 0) {
        return err_set(err, -r, "make pipes");
    }
    r = exec->wall->exec(&args, process, exec_failed, err);
    if (r < 0) {
        return r;
    }
    /* Else the end of the output would never come. */
    for (int i = 0; i < 3; i++) {
        exec->stdio[i] = close_fd(exec->stdio[i]);
    }
    exec->ours.pid = process->pid;
    if (!exec->options->tty) {
        return 0;
    }
    char data[256];
    size_t count = 1;
    ssize_t n = unix_recv_fds(exec->console[0], data, sizeof(data), &exec->ours.master_fd, &count);
    return n < 0 || count != 1 ? err_set(err, n < 0 ? (int)-n : EPROTO, "receive the terminal") : 0;
}

static void pass_signal(int signal, void *data)
{
    (void)pidfd_signal(*(const int *)data, signal);
}

static int run_exec(struct command_context *context, void *data, int argc, char **argv,
                    struct err *err)
{
    const struct exec_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(exec_donep) struct exec exec = EXEC_INIT;
    AUTO(container_process_donep) struct container_process process = {.pidfd = -1};
    bool exec_failed = false;
    if (o->tty && o->interactive && !o->detach && !isatty(STDIN_FILENO)) {
        return err_say(err, ENOTTY,
                       "-t needs a terminal as standard input; leave it out in scripts");
    }
    /* Until it executes the command, our child is a process of the workload (container/self.h). */
    int r = self_protect(context->whole, err);
    if (r == 0) {
        r = command_engine(context, &engine, err);
    }
    exec.options = o;
    exec.engine = engine;
    if (r == 0) {
        r = prepare(&exec, argc, argv, err);
    }
    if (r == 0) {
        r = execute(&exec, &process, &exec_failed, err);
    }
    if (r < 0 && exec_failed) {
        (void)fprintf(stderr, "isola: exec in '%s': %s\n", exec.workload.name, err_text(err));
        return r == -ENOENT || r == -ENOTDIR ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
    }
    if (r < 0 || o->detach) {
        return r;
    }
    const struct session_options session = {
        .tty = o->tty,
        .input = o->interactive,
        .proxy = !o->tty,
        .detach_keys = o->detach_keys,
        .signal = pass_signal,
        .data = &process.pidfd,
    };
    enum session_end end = SESSION_EXITED;
    int exit_code = 0;
    r = session_run_process(&exec.ours, &session, &end, &exit_code, err);
    return r < 0 ? r : end == SESSION_DETACHED ? 0 : exit_code;
}

const struct command exec_commands[] = {
    {
        .name = "exec",
        .operands = "NAME COMMAND [ARG...]",
        .summary = "Run a command in a running workload",
        .options = options,
        .options_size = sizeof(struct exec_options),
        .operands_min = 2,
        .operands_max = -1,
        .stop_at_operand = true,
        .run = run_exec,
    },
    {0},
};
