/*
 * More processes in the workload, and those of isola-files beside it; each has a connection of its
 * own that is told its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "container/container.h"
#include "guest/agent.h"
#include "guest/boot.h"

/* What it left in the background may hold its output open for ever. */
#define LINGER_NS (500 * NS_PER_MS)

struct exec {
    struct agent *agent;
    struct exec *next;
    struct connection *connection; /* NULL: the host has gone */
    char *name;                    /* the host's, for signals; may be NULL */
    int pidfd;
    pid_t pid; /* 0: ended */
    struct guest_exit exit;
    struct guest_stdio stdio;
    struct loop_source *linger;
    bool froze; /* the workload stands still for us */
};

/* The longest list of words that isola-files takes, its own name included. */
#define WORDS_MAX 16
#define ROOT_FD 3

static void exec_free(struct exec *exec)
{
    for (struct exec **link = &exec->agent->execs; *link != NULL; link = &(*link)->next) {
        if (*link == exec) {
            *link = exec->next;
            break;
        }
    }
    if (exec->froze) {
        (void)container_resume(GUEST_CONTAINERS, exec->agent->workload.id, NULL);
    }
    loop_remove(exec->linger);
    guest_stdio_done(&exec->stdio);
    (void)close_fd(exec->pidfd);
    free(exec->name);
    free(exec);
}

static void report(struct exec *exec)
{
    struct connection *c = exec->connection;
    exec->connection = NULL;
    if (c != NULL) {
        connection_send(c, guest_exit_new(&exec->exit));
        connection_end(c);
    }
    exec_free(exec);
}

static void on_drained(void *data)
{
    struct exec *exec = data;
    if (exec->pid == 0) {
        report(exec);
    }
}

static void on_linger(struct loop_source *source, void *data)
{
    struct exec *exec = data;
    if (guest_stdio_is_busy(&exec->stdio)) {
        (void)loop_timer_set(source, LINGER_NS);
    } else {
        report(exec);
    }
}

/* "process" is an OCI process object; what it leaves out is as the workload's own. */
static int read_process(const struct agent *agent, const json_t *message, struct spec **ret_base,
                        struct spec **ret_own, struct err *err)
{
    const struct json_path top = {.key = "exec"};
    json_t *given = NULL;
    int r = json_get_object(message, &top, "process", &given, err);
    if (r <= 0) {
        return r < 0 ? r : err_say(err, EINVAL, "exec.process: is missing");
    }
    r = container_exec_spec(GUEST_CONTAINERS, agent->workload.id, ret_base, err);
    if (r < 0) {
        return r;
    }
    AUTO(json_unrefp)
    json_t *whole = json_deep_copy(json_object_get((*ret_base)->json, "process"));
    /* The workload's terminal is its own. */
    (void)json_object_del(whole, "terminal");
    (void)json_object_del(whole, "consoleSize");
    AUTO(freep)
    char *text = whole == NULL || json_object_update(whole, given) < 0
                     ? NULL
                     : json_dumps(whole, JSON_COMPACT);
    return text == NULL ? err_set(err, ENOMEM, "exec")
                        : spec_parse_process(text, strlen(text), "exec.process", ret_own, err);
}

static int read_ports(const json_t *message, unsigned ports[3], struct err *err)
{
    static const char *const keys[] = {"stdin", "stdout", "stderr"};
    const struct json_path top = {.key = "exec"};
    for (size_t i = 0; i < COUNT(keys); i++) {
        int64_t port = 0;
        int r = json_get_int(message, &top, keys[i], 0, UINT32_MAX - 1, &port, err);
        if (r < 0) {
            return r;
        }
        ports[i] = (unsigned)port;
    }
    return 0;
}

static int run(struct exec *exec, const struct spec_process *process, bool *ret_exec_failed,
               struct err *err)
{
    struct container_exec_args args = CONTAINER_EXEC_ARGS_INIT;
    struct container_process made = {.pidfd = -1};
    args.root = GUEST_CONTAINERS;
    args.id = exec->agent->workload.id;
    args.process = process;
    guest_stdio_fill(&exec->stdio, &args.io);
    int r = container_exec(&args, &made, ret_exec_failed, err);
    if (r < 0) {
        return r;
    }
    exec->pid = made.pid;
    exec->pidfd = made.pidfd;
    return guest_stdio_attach(&exec->stdio, err);
}

static int read_words(const json_t *message, const char *words[WORDS_MAX + 1], struct err *err)
{
    const struct json_path top = {.key = "files"};
    json_t *list = NULL;
    int r = json_get_array(message, &top, "words", &list, err);
    if (r < 0 || json_array_size(list) >= WORDS_MAX) {
        return r < 0 ? r : err_say(err, E2BIG, "files.words: at most %d", WORDS_MAX - 1);
    }
    words[0] = "isola-files";
    for (size_t i = 0; i < json_array_size(list); i++) {
        words[i + 1] = json_string_value(json_array_get(list, i));
        if (words[i + 1] == NULL) {
            return err_say(err, EINVAL, "files.words: must be strings");
        }
    }
    words[json_array_size(list) + 1] = NULL;
    return 0;
}

static _Noreturn void become_files(const struct exec *exec, int root, const char *const words[])
{
    static char *const no_env[] = {NULL};
    bool ready = true;
    for (int i = 0; i < 3; i++) {
        ready = ready && dup2(exec->stdio.theirs[i], i) == i;
    }
    if (ready && (root == ROOT_FD ? fcntl(root, F_SETFD, 0) : dup2(root, ROOT_FD)) >= 0) {
        (void)close_fds_from(ROOT_FD + 1);
        signals_reset();
        (void)execve(GUEST_FILES, (char **)(uintptr_t)words, no_env);
        (void)fprintf(stderr, "%d " GUEST_FILES ": %s\n", errno, strerror(errno));
    }
    _exit(125);
}

/* Not behind the wall: it sees the workload's files as /proc/PID/root shows them, and the layers.
 */
static int run_files(struct exec *exec, const char *const words[], struct err *err)
{
    char path[32];
    struct workload *w = &exec->agent->workload;
    (void)snprintf(path, sizeof(path), "/proc/%d/root", (int)w->pid);
    AUTO(closep) int root = w->pid == 0 ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        return w->pid == 0 ? err_say(err, ESRCH, "the workload has ended")
                           : err_set(err, errno, "open '%s'", path);
    }
    pid_t pid = fork();
    if (pid == 0) {
        become_files(exec, root, words);
    }
    if (pid < 0) {
        return err_set(err, errno, "start isola-files");
    }
    exec->pid = pid;
    exec->pidfd = pidfd_open_pid(pid);
    return guest_stdio_attach(&exec->stdio, err);
}

/* A new one of the agent's, with its streams open. */
static int exec_new(struct connection *connection, const json_t *message, bool terminal,
                    struct exec **ret, struct err *err)
{
    const struct json_path top = {.key = guest_message_type(message)};
    struct agent *agent = connection->agent;
    struct guest_stdio_options options = {
        .loop = agent->loop,
        .transport = &agent->transport,
        .terminal = terminal,
        .drained = on_drained,
    };
    const char *name = NULL;
    int r = json_get_string(message, &top, "name", &name, err);
    r = r < 0 ? r : read_ports(message, options.ports, err);
    if (r < 0) {
        return r;
    }
    struct exec *exec = calloc(1, sizeof(*exec));
    if (exec == NULL) {
        return err_set(err, ENOMEM, "exec");
    }
    *exec = (struct exec){.agent = agent, .connection = connection, .pidfd = -1};
    exec->next = agent->execs;
    agent->execs = exec;
    exec->name = name != NULL ? strdup(name) : NULL;
    options.data = exec;
    r = guest_stdio_open(&options, &exec->stdio, err);
    if (r < 0) {
        exec_free(exec);
        return r;
    }
    *ret = exec;
    return 0;
}

static int answer(struct exec *exec, int r)
{
    if (r < 0) {
        if (exec->pidfd >= 0) {
            (void)pidfd_signal(exec->pidfd, SIGKILL); /* reaped as an orphan */
        }
        exec_free(exec);
        return r;
    }
    connection_send(exec->connection, json_pack("{s:s, s:i}", "type", "started", "pid", exec->pid));
    return 0;
}

int exec_start(struct connection *connection, const json_t *message, bool *ret_exec_failed,
               struct err *err)
{
    AUTO(spec_freep) struct spec *base = NULL;
    AUTO(spec_freep) struct spec *own = NULL;
    struct exec *exec = NULL;
    int r = read_process(connection->agent, message, &base, &own, err);
    r = r < 0 ? r : exec_new(connection, message, own->process.terminal, &exec, err);
    return r < 0 ? r : answer(exec, run(exec, &own->process, ret_exec_failed, err));
}

int exec_start_files(struct connection *connection, const json_t *message, struct err *err)
{
    const struct json_path top = {.key = "files"};
    const char *words[WORDS_MAX + 1];
    struct exec *exec = NULL;
    bool freeze = false;
    int r = read_words(message, words, err);
    r = r < 0 ? r : json_get_bool(message, &top, "freeze", &freeze, err);
    r = r < 0 ? r : exec_new(connection, message, false, &exec, err);
    if (r < 0) {
        return r;
    }
    if (freeze) {
        r = container_pause(GUEST_CONTAINERS, connection->agent->workload.id, err);
        exec->froze = r == 0;
    }
    return answer(exec, r < 0 ? r : run_files(exec, words, err));
}

bool exec_reap(struct agent *agent, pid_t pid, int status)
{
    for (struct exec *exec = agent->execs; exec != NULL; exec = exec->next) {
        if (exec->pid != pid) {
            continue;
        }
        exec->pid = 0;
        exec->exit.code = exit_code_of(status);
        if (exec->stdio.open_outputs == 0 ||
            loop_add_timer(agent->loop, LINGER_NS, on_linger, exec, &exec->linger) < 0) {
            report(exec);
        }
        return true;
    }
    return false;
}

void exec_abandon(struct agent *agent, const struct connection *connection)
{
    for (struct exec *exec = agent->execs; exec != NULL; exec = exec->next) {
        if (exec->connection == connection) {
            exec->connection = NULL;
            if (exec->pid != 0) {
                (void)pidfd_signal(exec->pidfd, SIGKILL);
            }
        }
    }
}

static struct exec *find(struct agent *agent, const char *name)
{
    struct exec *exec = agent->execs;
    while (exec != NULL && (exec->pid == 0 || !str_eq(exec->name, name))) {
        exec = exec->next;
    }
    return exec;
}

int exec_signal(struct agent *agent, const char *name, int signal, struct err *err)
{
    const struct exec *exec = find(agent, name);
    int r = exec == NULL ? -ESRCH : pidfd_signal(exec->pidfd, signal);
    return r == -ESRCH ? err_say(err, ESRCH, "no process '%s' runs", name)
           : r < 0     ? err_set(err, -r, "signal process '%s'", name)
                       : 0;
}

int exec_resize(struct agent *agent, const char *name, unsigned rows, unsigned columns,
                struct err *err)
{
    const struct exec *exec = find(agent, name);
    return exec == NULL ? err_say(err, ESRCH, "no process '%s' runs", name)
                        : guest_stdio_resize(&exec->stdio, rows, columns, err);
}

void exec_done_all(struct agent *agent)
{
    while (agent->execs != NULL) {
        exec_free(agent->execs);
    }
}
