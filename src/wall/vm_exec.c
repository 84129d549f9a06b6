/*
 * One more process in a machine: a child of ours stands for it, copies its stdio and ends as it
 * ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "container/guest_protocol.h"
#include "container/names.h"
#include "wall/vm.h"

#define COPY_SIZE 16384

/* What the parent learns before the child goes on by itself. */
struct answer {
    bool exec_failed;
    int error; /* positive errno, 0: it runs */
    struct err err;
};

struct relay {
    const struct container_exec_args *args;
    const char *bundle;
    pid_t pid;
    int control; /* to the agent */
    struct vm_streams streams;
    int local[3]; /* our side of each; -1: none */
    int terminal; /* slave of the pty, -1: none */
    int signals;
    struct buf received;
    bool exited;
    int exit_code;
};

static json_t *names_of(uint64_t set)
{
    json_t *list = json_array();
    for (const struct name_value *c = capability_names; c->name != NULL; c++) {
        if ((set >> c->value & 1) != 0) {
            (void)json_array_append_new(list, json_string(c->name));
        }
    }
    return list;
}

static json_t *strings_of(const struct spec_strings *from)
{
    json_t *list = json_array();
    for (size_t i = 0; i < from->count; i++) {
        (void)json_array_append_new(list, json_string(from->items[i]));
    }
    return list;
}

static json_t *describe_process(const struct spec_process *process)
{
    json_t *groups = json_array();
    for (size_t i = 0; i < process->additional_gid_count; i++) {
        (void)json_array_append_new(groups, json_integer(process->additional_gids[i]));
    }
    json_t *json = json_pack(
        "{s:b, s:{s:I, s:I, s:o}, s:o, s:o, s:s, s:b}", "terminal", process->terminal, "user",
        "uid", (json_int_t)process->uid, "gid", (json_int_t)process->gid, "additionalGids", groups,
        "args", strings_of(&process->args), "env", strings_of(&process->env), "cwd",
        process->cwd == NULL ? "/" : process->cwd, "noNewPrivileges", process->no_new_privileges);
    if (json != NULL && process->capabilities.set) {
        const struct spec_capabilities *c = &process->capabilities;
        (void)json_object_set_new(
            json, "capabilities",
            json_pack("{s:o, s:o, s:o, s:o, s:o}", "bounding", names_of(c->bounding), "effective",
                      names_of(c->effective), "permitted", names_of(c->permitted), "inheritable",
                      names_of(c->inheritable), "ambient", names_of(c->ambient)));
    }
    return json;
}

static int ask_exec(struct relay *relay, bool *ret_exec_failed, struct err *err)
{
    char name[24];
    (void)snprintf(name, sizeof(name), "%d", (int)relay->pid);
    AUTO(json_unrefp)
    json_t *request = json_pack("{s:s, s:s, s:o}", "type", "exec", "name", name, "process",
                                describe_process(relay->args->process));
    if (request == NULL || vm_streams_describe(&relay->streams, request) < 0) {
        return err_set(err, ENOMEM, "exec");
    }
    return vm_ask(relay->control, request, "started", NULL, ret_exec_failed, err);
}

/* One more request while the first connection waits for the end. */
static void tell(const struct relay *relay, json_t *request)
{
    AUTO(json_unrefp) json_t *message = request;
    AUTO(closep) int fd = vm_connect(relay->bundle, -1, 1000, NULL);
    char name[24];
    (void)snprintf(name, sizeof(name), "%d", (int)relay->pid);
    if (fd >= 0 && message != NULL &&
        json_object_set_new(message, "name", json_string(name)) == 0) {
        (void)vm_ask(fd, message, "ok", NULL, NULL, NULL);
    }
}

static void send_size(const struct relay *relay)
{
    struct winsize size;
    if (relay->terminal >= 0 && ioctl(relay->terminal, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        tell(relay, json_pack("{s:s, s:i, s:i}", "type", "resize", "rows", size.ws_row, "columns",
                              size.ws_col));
    }
}

static void on_signal(const struct relay *relay)
{
    struct signalfd_siginfo info;
    while (read(relay->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGWINCH) {
            send_size(relay);
        } else {
            tell(relay, json_pack("{s:s, s:i}", "type", "signal", "signal", info.ssi_signo));
        }
    }
}

/* False at the end of either side. */
static bool copy_some(int from, int to)
{
    char data[COPY_SIZE];
    ssize_t n = read(from, data, sizeof(data));
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return true;
    }
    return n > 0 && write_full(to, data, (size_t)n) == 0;
}

static void read_control(struct relay *relay)
{
    struct guest_exit exit = {.code = 137};
    char data[4096];
    ssize_t n = read(relay->control, data, sizeof(data));
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return;
    }
    json_t *message = NULL;
    int r = n <= 0 || buf_add(&relay->received, data, (size_t)n) < 0
                ? -EPIPE
                : guest_message_take(&relay->received, &message, NULL);
    AUTO(json_unrefp) json_t *own = message;
    if (r == 0) {
        return;
    }
    /* Cut off: the machine has ended, and the process with it. */
    relay->exit_code = r == 1 && guest_exit_read(own, &exit, NULL) == 0 ? exit.code : 137;
    relay->exited = true;
    relay->control = close_fd(relay->control);
}

/* Until the process has ended and all it wrote is with us. */
static void copy_all(struct relay *relay)
{
    while (!relay->exited || relay->streams.fd[1] >= 0 || relay->streams.fd[2] >= 0) {
        struct pollfd fds[] = {
            {.fd = relay->control, .events = POLLIN},
            {.fd = relay->streams.fd[0] >= 0 ? relay->local[0] : -1, .events = POLLIN},
            {.fd = relay->streams.fd[1], .events = POLLIN},
            {.fd = relay->streams.fd[2], .events = POLLIN},
            {.fd = relay->signals, .events = POLLIN},
        };
        if (poll(fds, COUNT(fds), -1) < 0) {
            continue;
        }
        if (fds[0].revents != 0) {
            read_control(relay);
        }
        if (fds[1].revents != 0 && !copy_some(relay->local[0], relay->streams.fd[0])) {
            (void)shutdown(relay->streams.fd[0], SHUT_WR);
            relay->streams.fd[0] = close_fd(relay->streams.fd[0]);
        }
        for (int i = 1; i < 3; i++) {
            if (fds[1 + i].revents != 0 && !copy_some(relay->streams.fd[i], relay->local[i])) {
                relay->streams.fd[i] = close_fd(relay->streams.fd[i]);
            }
        }
        if (fds[4].revents != 0) {
            on_signal(relay);
        }
    }
}

static int open_terminal(struct relay *relay, struct err *err)
{
    relay->terminal = vm_terminal_open(relay->args->io.console_fd, err);
    if (relay->terminal < 0) {
        return relay->terminal;
    }
    (void)setsid();
    (void)ioctl(relay->terminal, TIOCSCTTY, 0);
    relay->local[0] = relay->local[1] = relay->terminal;
    relay->local[2] = -1;
    return 0;
}

static int watch_signals(struct relay *relay)
{
    sigset_t all;
    (void)sigfillset(&all);
    (void)sigdelset(&all, SIGCHLD);
    (void)sigprocmask(SIG_SETMASK, &all, NULL);
    relay->signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    return relay->signals < 0 ? -errno : 0;
}

static int begin(struct relay *relay, bool *ret_exec_failed, struct err *err)
{
    int r = relay->args->process->terminal ? open_terminal(relay, err) : 0;
    if (r == 0) {
        r = watch_signals(relay);
        r = r < 0 ? err_set(err, -r, "watch signals") : 0;
    }
    relay->control = r < 0 ? r : vm_connect(relay->bundle, -1, 5000, err);
    const bool wanted[3] = {relay->local[0] >= 0, relay->local[1] >= 0, relay->local[2] >= 0};
    r = relay->control < 0 ? relay->control
                           : vm_streams_listen(&relay->streams, relay->bundle, wanted, err);
    r = r < 0 ? r : ask_exec(relay, ret_exec_failed, err);
    r = r < 0 ? r : vm_streams_accept(&relay->streams, err);
    vm_streams_unlisten(&relay->streams);
    return r;
}

/*
 * We are a copy of a process with many descriptors: the writing end of our own standard input may
 * be one of them, and would keep it open for ever.
 */
static void close_others(const int *kept, size_t count)
{
    int from = 3;
    for (;;) {
        int next = INT_MAX;
        for (size_t i = 0; i < count; i++) {
            next = kept[i] >= from ? MIN(next, kept[i]) : next;
        }
        if (next > from) {
            (void)close_range((unsigned)from, next == INT_MAX ? ~0U : (unsigned)next - 1, 0);
        }
        if (next == INT_MAX) {
            return;
        }
        from = next + 1;
    }
}

/* Our parent may end before us (exec -d): who reads its output must see that. */
static void let_go(const struct relay *relay)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; null >= 0 && i < 3; i++) {
        if (relay->local[0] != i && relay->local[1] != i && relay->local[2] != i) {
            (void)dup2(null, i);
        }
    }
    (void)close_fd(null);
}

static _Noreturn void relay_main(const struct container_exec_args *args, const char *bundle,
                                 int answer_fd)
{
    struct answer answer = {.err = ERR_NONE};
    struct relay relay = {
        .args = args,
        .bundle = bundle,
        .pid = getpid(),
        .control = -1,
        .streams = VM_STREAMS_INIT,
        .local = {args->io.stdio[0], args->io.stdio[1], args->io.stdio[2]},
        .terminal = -1,
        .signals = -1,
    };
    for (int i = 0; i < 3 && !args->process->terminal; i++) {
        relay.local[i] = relay.local[i] < 0 ? i : relay.local[i];
    }
    const int kept[] = {relay.local[0], relay.local[1], relay.local[2], args->io.console_fd,
                        answer_fd};
    close_others(kept, COUNT(kept));
    (void)signal(SIGPIPE, SIG_IGN);
    (void)prctl(PR_SET_PDEATHSIG, args->io.parent_death_signal);
    answer.error = -begin(&relay, &answer.exec_failed, &answer.err);
    (void)write_full(answer_fd, &answer, sizeof(answer));
    (void)close(answer_fd);
    if (answer.error != 0) {
        _exit(125);
    }
    let_go(&relay);
    send_size(&relay);
    copy_all(&relay);
    _exit(relay.exit_code);
}

/* As fork(), but with io.adopt our parent becomes the child's. */
static pid_t fork_for(bool adopt)
{
    struct clone_args clone = {.flags = adopt ? CLONE_PARENT : 0,
                               .exit_signal = adopt ? 0 : SIGCHLD};
    return (pid_t)syscall(SYS_clone3, &clone, sizeof(clone));
}

int vm_exec(const struct container_exec_args *args, struct container_process *ret,
            bool *ret_exec_failed, struct err *err)
{
    AUTO(container_state_donep) struct container_state state = {0};
    int fds[2];
    int r = container_state(args->root, args->id, &state, err);
    if (r < 0) {
        return r;
    }
    if (state.status != CONTAINER_RUNNING) {
        return err_say(err, ESRCH, "the machine is %s", container_status_name(state.status));
    }
    if (pipe2(fds, O_CLOEXEC) < 0) {
        return err_set(err, errno, "exec");
    }
    AUTO(closep) int reader = fds[0];
    AUTO(closep) int writer = fds[1];
    pid_t pid = fork_for(args->io.adopt);
    if (pid < 0) {
        return err_set(err, errno, "exec");
    }
    if (pid == 0) {
        (void)close(fds[0]);
        relay_main(args, state.bundle, fds[1]);
    }
    writer = close_fd(writer);
    struct answer answer;
    int pidfd = pidfd_open_pid(pid);
    r = read_full(reader, &answer, sizeof(answer));
    if (r == 0 && answer.error == 0) {
        ret->pid = pid;
        ret->pidfd = pidfd;
        return process_start_time(pid, &ret->start_time);
    }
    (void)close_fd(pidfd);
    if (!args->io.adopt) {
        int status;
        (void)process_wait(pid, &status);
    }
    if (r < 0) {
        return err_say(err, ECHILD, "the process that copies stdio died");
    }
    if (ret_exec_failed != NULL) {
        *ret_exec_failed = answer.exec_failed;
    }
    answer.err.text[sizeof(answer.err.text) - 1] = '\0';
    return err_say(err, answer.error, "%s", err_text(&answer.err));
}
