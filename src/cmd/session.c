#include "cmd/session.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/loop.h"
#include "base/process.h"
#include "base/str.h"
#include "cmd/terminal.h"
#include "engine/shim_protocol.h"

#define DRAIN_WAIT_MS 20

struct session {
    const struct session_options *options;
    struct loop *loop;
    int control_fd; /* shim, or -1 */
    int master_fd;  /* pty, or -1 */
    pid_t pid;
    struct loop_source *input;
    struct loop_source *idle; /* standard input is a file, which epoll does not take */
    uint8_t keys[DETACH_KEYS_MAX];
    size_t key_count;
    size_t key_at; /* how many of keys were just typed */
    enum session_end end;
    int exit_code;
};

int session_parse_keys(const char *text, uint8_t keys[DETACH_KEYS_MAX], size_t *ret_count,
                       struct err *err)
{
    AUTO(strv_donep) struct strv words = {0};
    size_t count = 0;
    if (strv_split(&words, text != NULL ? text : "ctrl-p,ctrl-q", ",") < 0) {
        return err_set(err, ENOMEM, "detach keys");
    }
    for (size_t i = 0; i < words.count; i++) {
        const char *word = words.items[i];
        bool ctrl = str_starts(word, "ctrl-") && strlen(word) == 6;
        int key = tolower((unsigned char)word[ctrl ? 5 : 0]);
        bool known = ctrl ? strchr("@[\\]^_", key) != NULL || isalpha(key) : strlen(word) == 1;
        if (!known || count == DETACH_KEYS_MAX) {
            return err_say(err, EINVAL, "--detach-keys '%s' is not like 'ctrl-p,ctrl-q' or 'a'",
                           text);
        }
        keys[count++] = (uint8_t)(ctrl ? toupper(key) & 0x1f : key);
    }
    *ret_count = count;
    return 0;
}

static void finish(struct session *s, enum session_end end, int exit_code)
{
    s->end = end;
    s->exit_code = exit_code;
    loop_quit(s->loop, 0);
}

static void send_message(struct session *s, uint32_t type, uint32_t value, const void *data,
                         size_t len)
{
    char packet[sizeof(struct shim_message) + SHIM_DATA_MAX];
    const struct shim_message message = {.type = type, .value = value};
    memcpy(packet, &message, sizeof(message));
    if (len > 0) {
        memcpy(packet + sizeof(message), data, len);
    }
    ssize_t n;
    do {
        n = send(s->control_fd, packet, sizeof(message) + len, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
}

static void forward_input(struct session *s, const char *data, size_t len)
{
    if (len == 0) {
        return;
    }
    if (s->control_fd >= 0) {
        send_message(s, SHIM_STDIN, 0, data, len);
    } else {
        (void)write_full(s->master_fd, data, len);
    }
}

/*
 * Passes typed bytes on, holding back what may be the beginning of the detach keys. True when they
 * were typed whole.
 */
static bool type_input(struct session *s, const char *data, size_t len)
{
    char out[SHIM_DATA_MAX];
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if ((uint8_t)data[i] == s->keys[s->key_at]) {
            s->key_at++;
            if (s->key_at == s->key_count) {
                forward_input(s, out, n);
                return true;
            }
            continue;
        }
        if (s->key_at > 0) {
            forward_input(s, out, n);
            forward_input(s, (const char *)s->keys, s->key_at);
            n = 0;
            s->key_at = (uint8_t)data[i] == s->keys[0] ? 1 : 0;
            if (s->key_at == 1) {
                continue;
            }
        }
        out[n++] = data[i];
    }
    forward_input(s, out, n);
    return false;
}

static void end_input(struct session *s)
{
    loop_remove(s->input);
    loop_remove(s->idle);
    s->input = NULL;
    s->idle = NULL;
    if (s->control_fd >= 0) {
        send_message(s, SHIM_STDIN, 0, NULL, 0);
    }
}

static bool pump_input(struct session *s)
{
    char data[SHIM_DATA_MAX];
    ssize_t n = read(STDIN_FILENO, data, sizeof(data));
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return true;
    }
    if (n <= 0) {
        end_input(s);
        return false;
    }
    if (s->options->tty && s->key_count > 0) {
        if (type_input(s, data, (size_t)n)) {
            finish(s, SESSION_DETACHED, 0);
        }
        return true;
    }
    forward_input(s, data, (size_t)n);
    return true;
}

static void on_input(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)fd;
    (void)events;
    (void)pump_input(data);
}

static void on_idle(struct loop_source *timer, void *data)
{
    struct session *s = data;
    if (pump_input(s)) {
        (void)loop_timer_set(timer, 0);
    }
}

static void on_control(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)events;
    struct session *s = data;
    char packet[sizeof(struct shim_message) + SHIM_DATA_MAX];
    struct shim_message message;
    ssize_t n = recv(fd, packet, sizeof(packet), 0);
    if (n < 0 && errno == EINTR) {
        return;
    }
    if (n < (ssize_t)sizeof(message)) {
        loop_remove(source);
        finish(s, SESSION_LOST, 0);
        return;
    }
    memcpy(&message, packet, sizeof(message));
    size_t len = (size_t)n - sizeof(message);
    switch (message.type) {
    case SHIM_STDOUT:
    case SHIM_STDERR:
        /* A reader that went away (| head) ends our output, not the workload. */
        (void)write_full(message.type == SHIM_STDOUT ? STDOUT_FILENO : STDERR_FILENO,
                         packet + sizeof(message), len);
        break;
    case SHIM_EXITED:
        finish(s, SESSION_EXITED, (int)message.value);
        break;
    default:
        break;
    }
}

static void on_master(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)events;
    struct session *s = data;
    char bytes[SHIM_DATA_MAX];
    ssize_t n = read(fd, bytes, sizeof(bytes));
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n > 0) {
        (void)write_full(STDOUT_FILENO, bytes, (size_t)n);
        return;
    }
    loop_remove(source);
    s->master_fd = -1;
}

static void send_size(struct session *s)
{
    uint32_t size = terminal_size(STDIN_FILENO);
    if (size == 0) {
        size = terminal_size(STDOUT_FILENO);
    }
    if (!s->options->tty || size == 0) {
        return;
    }
    if (s->control_fd >= 0) {
        send_message(s, SHIM_RESIZE, size, NULL, 0);
    } else if (s->master_fd >= 0) {
        const struct winsize window = {.ws_row = (unsigned short)(size >> 16),
                                       .ws_col = (unsigned short)(size & 0xffff)};
        (void)ioctl(s->master_fd, TIOCSWINSZ, &window);
    }
}

static void on_winch(const struct signalfd_siginfo *info, void *data)
{
    (void)info;
    send_size(data);
}

static void on_signal(const struct signalfd_siginfo *info, void *data)
{
    struct session *s = data;
    s->options->signal((int)info->ssi_signo, s->options->data);
}

/*
 * What the terminal still holds when the process is gone. Others may keep it open for ever, so that
 * its hang-up is not waited for; the kernel hands over the last bytes a moment after the exit.
 */
static void drain_master(struct session *s)
{
    struct pollfd poll_fd = {.fd = s->master_fd, .events = POLLIN};
    char bytes[SHIM_DATA_MAX];
    while (poll(&poll_fd, 1, DRAIN_WAIT_MS) > 0) {
        ssize_t n = read(s->master_fd, bytes, sizeof(bytes));
        if (n <= 0) {
            return;
        }
        (void)write_full(STDOUT_FILENO, bytes, (size_t)n);
    }
}

static void on_child(const struct signalfd_siginfo *info, void *data)
{
    (void)info;
    struct session *s = data;
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid != s->pid) {
            continue;
        }
        s->pid = 0;
        if (s->master_fd >= 0) {
            drain_master(s);
        }
        finish(s, SESSION_EXITED, exit_code_of(status));
    }
}

static int watch_signals(struct session *s)
{
    static const int proxied[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT};
    int r = loop_add_signal(s->loop, SIGWINCH, on_winch, s);
    if (s->options->signal == NULL || !s->options->proxy) {
        return r;
    }
    for (size_t i = 0; r == 0 && i < COUNT(proxied); i++) {
        r = loop_add_signal(s->loop, proxied[i], on_signal, s);
    }
    return r;
}

static int watch_input(struct session *s)
{
    if (!s->options->input) {
        return 0;
    }
    int r = loop_add_fd(s->loop, STDIN_FILENO, EPOLLIN, on_input, s, &s->input);
    return r == -EPERM ? loop_add_timer(s->loop, 0, on_idle, s, &s->idle) : r;
}

static int run(struct session *s, enum session_end *ret_end, int *ret_exit_code, struct err *err)
{
    AUTO(terminal_restorep) struct terminal terminal = {.fd = -1};
    AUTO(loop_freep) struct loop *loop = NULL;
    int r = session_parse_keys(s->options->detach_keys, s->keys, &s->key_count, err);
    if (r < 0) {
        return r;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    r = loop_new(&loop);
    s->loop = loop;
    if (r == 0 && s->pid > 0) {
        r = loop_add_signal(loop, SIGCHLD, on_child, s);
    }
    if (r == 0) {
        r = watch_signals(s);
    }
    if (r == 0 && s->control_fd >= 0) {
        r = loop_add_fd(loop, s->control_fd, EPOLLIN, on_control, s, NULL);
    }
    if (r == 0 && s->master_fd >= 0) {
        r = loop_add_fd(loop, s->master_fd, EPOLLIN, on_master, s, NULL);
    }
    if (r == 0) {
        r = watch_input(s);
    }
    if (r == 0 && s->options->tty && s->options->input && isatty(STDIN_FILENO)) {
        r = terminal_set_raw(&terminal, STDIN_FILENO);
    }
    if (r == 0) {
        send_size(s);
        if (s->pid > 0) {
            /* It may have ended before SIGCHLD was ours. */
            on_child(NULL, s);
        }
        r = loop_run(loop);
    }
    if (r < 0) {
        return err_set(err, -r, "copy standard input and output");
    }
    *ret_end = s->end;
    if (s->end == SESSION_EXITED) {
        *ret_exit_code = s->exit_code;
    }
    return 0;
}

int session_run(int control_fd, const struct session_options *options, enum session_end *ret_end,
                int *ret_exit_code, struct err *err)
{
    struct session session = {.options = options, .control_fd = control_fd, .master_fd = -1};
    return run(&session, ret_end, ret_exit_code, err);
}

int session_run_process(int master_fd, pid_t pid, const struct session_options *options,
                        enum session_end *ret_end, int *ret_exit_code, struct err *err)
{
    struct session session = {
        .options = options, .control_fd = -1, .master_fd = master_fd, .pid = pid};
    return run(&session, ret_end, ret_exit_code, err);
}
