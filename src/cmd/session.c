#include "cmd/session.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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
#include "cmd/input_queue.h"
#include "cmd/terminal.h"
#include "engine/shim_protocol.h"

#define DRAIN_WAIT_MS 20
#define COPY_SIZE ((size_t)65536)

struct kept_packet {
    struct kept_packet *next;
    size_t len;
    char data[];
};

struct session {
    const struct session_options *options;
    struct loop *loop;
    int control_fd; /* shim, or -1 */
    struct loop_source *control;
    struct shim_seen seen;
    struct kept_packet *kept; /* of a connection that has ended, not handled yet */
    struct session_process *process;
    struct input_queue queue;
    struct loop_source *input;
    struct loop_source *idle; /* standard input is a file, which epoll does not take */
    struct loop_source *output[2];
    bool input_ended;
    bool size_due; /* the shim could not take the terminal's size */
    bool lost;     /* the shim is gone */
    uint8_t keys[DETACH_KEYS_MAX];
    size_t key_count;
    size_t key_at; /* how many of keys were just typed */
    bool finished;
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
    s->finished = true;
    s->end = end;
    s->exit_code = exit_code;
    loop_quit(s->loop, 0);
}

/* All of it, also when somebody made our standard output non-blocking. */
static int put(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EAGAIN) {
            struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
            (void)poll(&poll_fd, 1, -1);
        } else if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

static void stop_input(struct session *s)
{
    loop_remove(s->input);
    loop_remove(s->idle);
    s->input = NULL;
    s->idle = NULL;
}

static void end_input(struct session *s)
{
    stop_input(s);
    s->input_ended = true;
    input_queue_end(&s->queue);
}

static void forward_input(struct session *s, const char *data, size_t len)
{
    if (len > 0 && input_queue_add(&s->queue, data, len) < 0) {
        end_input(s); /* nobody reads it any more */
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

static void pump_input(struct session *s)
{
    char data[SHIM_DATA_MAX];
    ssize_t n = read(STDIN_FILENO, data, sizeof(data));
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        end_input(s);
        return;
    }
    if (!s->options->tty || s->key_count == 0) {
        forward_input(s, data, (size_t)n);
    } else if (type_input(s, data, (size_t)n)) {
        finish(s, SESSION_DETACHED, 0);
    }
    if (input_queue_is_waiting(&s->queue)) {
        stop_input(s);
    }
}

static void on_input(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)fd;
    (void)events;
    pump_input(data);
}

static void on_idle(struct loop_source *timer, void *data)
{
    struct session *s = data;
    pump_input(s);
    if (s->idle != NULL) {
        (void)loop_timer_set(timer, 0);
    }
}

static int watch_input(struct session *s)
{
    if (!s->options->input || s->input_ended || s->input != NULL || s->idle != NULL) {
        return 0;
    }
    int r = loop_add_fd(s->loop, STDIN_FILENO, EPOLLIN, on_input, s, &s->input);
    return r == -EPERM ? loop_add_timer(s->loop, 0, on_idle, s, &s->idle) : r;
}

static void on_control(struct loop_source *source, int fd, uint32_t events, void *data);
static void send_size(struct session *s);

/* What we have of the output, written or not. */
static void count_packet(struct session *s, const char *packet, size_t len)
{
    struct shim_message message;
    memcpy(&message, packet, sizeof(message));
    size_t data = len - sizeof(message);
    if (message.type == SHIM_STDOUT || message.type == SHIM_STDERR) {
        s->seen.bytes[message.type == SHIM_STDOUT ? 0 : 1] += data;
    } else if (message.type == SHIM_SEEN && data == sizeof(s->seen)) {
        memcpy(&s->seen, packet + sizeof(message), sizeof(s->seen));
    }
}

/* A reset (the other side left what we sent unread) is told once, before what it had sent. */
static ssize_t receive(int fd, char *packet, size_t size, int flags)
{
    ssize_t n;
    do {
        n = recv(fd, packet, size, flags);
    } while (n < 0 && (errno == EINTR || errno == ECONNRESET));
    return n;
}

/* Output that is on its way to somebody who does not read is counted, too. */
static int keep_packets(struct session *s)
{
    char packet[sizeof(struct shim_message) + SHIM_DATA_MAX];
    struct kept_packet **link = &s->kept;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    for (;;) {
        ssize_t n = receive(s->control_fd, packet, sizeof(packet), MSG_DONTWAIT);
        if (n < (ssize_t)sizeof(struct shim_message)) {
            return 0;
        }
        struct kept_packet *kept = malloc(sizeof(*kept) + (size_t)n);
        if (kept == NULL) {
            return -ENOMEM;
        }
        *kept = (struct kept_packet){.len = (size_t)n};
        memcpy(kept->data, packet, (size_t)n);
        count_packet(s, packet, (size_t)n);
        *link = kept;
        link = &kept->next;
    }
}

/* The worker of the shim was killed: another follows, unless the shim is gone. */
static int reconnect(struct session *s)
{
    loop_remove(TAKE_PTR(s->control));
    int fd =
        s->options->reconnect == NULL ? -EPIPE : s->options->reconnect(&s->seen, s->options->data);
    if (fd < 0) {
        return fd;
    }
    (void)close_fd(s->control_fd);
    s->control_fd = fd;
    int r = loop_add_fd(s->loop, fd, EPOLLIN, on_control, s, &s->control);
    fd = r < 0 ? r : fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) {
        return r < 0 ? r : -errno;
    }
    if (s->queue.fd < 0) {
        (void)close(fd);
        return 0;
    }
    if (s->input_ended) {
        s->queue.ended = true; /* it may not have been read */
    }
    input_queue_replace(&s->queue, fd);
    send_size(s);
    return 0;
}

/*
 * True when the connection ended before fd took more. The shim's next worker does not wait long for
 * us, and a reader (| less) may.
 */
static bool is_cut_off(const struct session *s, int fd)
{
    struct pollfd fds[] = {{.fd = fd, .events = POLLOUT},
                           {.fd = s->control != NULL ? s->control_fd : -1, .events = POLLRDHUP}};
    int n;
    do {
        n = poll(fds, COUNT(fds), -1);
    } while (n < 0 && errno == EINTR);
    return n > 0 && fds[0].revents == 0 && fds[1].revents != 0;
}

static void put_output(struct session *s, int fd, const char *data, size_t len)
{
    while (len > 0) {
        while (is_cut_off(s, fd)) {
            if (keep_packets(s) < 0 || reconnect(s) < 0) {
                s->lost = true; /* what we have is printed */
                loop_remove(TAKE_PTR(s->control));
            }
        }
        /* As much as a pipe takes at once when it takes anything. */
        size_t n = MIN(len, (size_t)PIPE_BUF);
        /* A reader that went away (| head) ends our output, not the workload. */
        if (put(fd, data, n) < 0) {
            return;
        }
        data += n;
        len -= n;
    }
}

static void handle_packet(struct session *s, const char *packet, size_t len)
{
    struct shim_message message;
    memcpy(&message, packet, sizeof(message));
    switch (message.type) {
    case SHIM_STDOUT:
    case SHIM_STDERR:
        put_output(s, message.type == SHIM_STDOUT ? STDOUT_FILENO : STDERR_FILENO,
                   packet + sizeof(message), len - sizeof(message));
        break;
    case SHIM_EXITED:
        finish(s, SESSION_EXITED, (int)message.value);
        break;
    case SHIM_ENDING:
        finish(s, SESSION_ENDING, (int)message.value);
        break;
    default:
        break;
    }
}

static void handle_kept(struct session *s)
{
    while (s->kept != NULL) {
        AUTO(freep) struct kept_packet *packet = s->kept;
        s->kept = packet->next;
        handle_packet(s, packet->data, packet->len);
    }
}

static void on_control(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)events;
    struct session *s = data;
    char packet[sizeof(struct shim_message) + SHIM_DATA_MAX];
    ssize_t n = receive(fd, packet, sizeof(packet), 0);
    if (n < (ssize_t)sizeof(struct shim_message)) {
        s->lost = reconnect(s) < 0;
    } else {
        count_packet(s, packet, (size_t)n);
        handle_packet(s, packet, (size_t)n);
        handle_kept(s);
    }
    if (s->lost && !s->finished) {
        finish(s, SESSION_LOST, 0);
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
        (void)put(STDOUT_FILENO, bytes, (size_t)n);
        return;
    }
    loop_remove(source);
    s->output[0] = NULL;
}

static void close_output(struct session *s, int stream)
{
    loop_remove(s->output[stream]);
    s->output[stream] = NULL;
    s->process->output_fd[stream] = close_fd(s->process->output_fd[stream]);
}

/* One read. Returns the count; 0: closed, or nothing is there now. */
static size_t copy_output(struct session *s, int stream)
{
    char bytes[COPY_SIZE];
    ssize_t n = read(s->process->output_fd[stream], bytes, sizeof(bytes));
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    /* A reader that went away (| head) ends the output of the process as well. */
    if (n <= 0 || put(stream == 0 ? STDOUT_FILENO : STDERR_FILENO, bytes, (size_t)n) < 0) {
        close_output(s, stream);
        return 0;
    }
    return (size_t)n;
}

static void on_output(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)fd;
    (void)events;
    struct session *s = data;
    (void)copy_output(s, source == s->output[0] ? 0 : 1);
}

/*
 * What the pipes hold when the process is gone, and no more: a child of it that keeps them open, or
 * even writes on, does not hold us.
 */
static void drain_output(struct session *s)
{
    for (int stream = 0; stream < 2; stream++) {
        int left = 0;
        if (s->process->output_fd[stream] < 0 ||
            ioctl(s->process->output_fd[stream], FIONREAD, &left) < 0) {
            continue;
        }
        for (size_t n = 1; left > 0 && n > 0; left -= (int)n) {
            n = copy_output(s, stream);
        }
    }
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
        const struct shim_message message = {.type = SHIM_RESIZE, .value = size};
        ssize_t n = send(s->control_fd, &message, sizeof(message), MSG_NOSIGNAL | MSG_DONTWAIT);
        s->size_due =
            n < 0 && (errno == EAGAIN || errno == EINTR) && input_queue_watch(&s->queue) == 0;
    } else if (s->process->master_fd >= 0) {
        const struct winsize window = {.ws_row = (unsigned short)(size >> 16),
                                       .ws_col = (unsigned short)(size & 0xffff)};
        (void)ioctl(s->process->master_fd, TIOCSWINSZ, &window);
    }
}

/* The other side takes input again. */
static void on_ready(void *data)
{
    struct session *s = data;
    if (s->size_due) {
        send_size(s);
    }
    if (s->queue.fd < 0 || watch_input(s) < 0) {
        end_input(s);
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
    struct pollfd poll_fd = {.fd = s->process->master_fd, .events = POLLIN};
    char bytes[SHIM_DATA_MAX];
    /* Bounded: another process may write on for ever. */
    for (size_t sum = 0; sum < COPY_SIZE && poll(&poll_fd, 1, DRAIN_WAIT_MS) > 0;) {
        ssize_t n = read(s->process->master_fd, bytes, sizeof(bytes));
        if (n <= 0) {
            return;
        }
        (void)put(STDOUT_FILENO, bytes, (size_t)n);
        sum += (size_t)n;
    }
}

static void on_child(const struct signalfd_siginfo *info, void *data)
{
    (void)info;
    struct session *s = data;
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid != s->process->pid) {
            continue;
        }
        s->process->pid = 0;
        if (s->process->master_fd >= 0) {
            drain_master(s);
        }
        drain_output(s);
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

static int watch_output(struct session *s)
{
    int r = 0;
    if (s->process->master_fd >= 0) {
        r = loop_add_fd(s->loop, s->process->master_fd, EPOLLIN, on_master, s, &s->output[0]);
    }
    for (int i = 0; r == 0 && i < 2; i++) {
        if (s->process->output_fd[i] >= 0) {
            r = set_nonblock(s->process->output_fd[i], true);
            r = r < 0 ? r
                      : loop_add_fd(s->loop, s->process->output_fd[i], EPOLLIN, on_output, s,
                                    &s->output[i]);
        }
    }
    return r;
}

/* A second descriptor where there is already one in the loop: each has its own source. */
static int open_queue(struct session *s)
{
    int fd = s->control_fd >= 0 ? s->control_fd : s->process->master_fd;
    fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : TAKE_FD(s->process->input_fd);
    if (fd < 0) {
        return s->options->input ? -errno : 0;
    }
    return input_queue_init(&s->queue, s->loop, fd, s->control_fd >= 0 ? INPUT_SHIM : INPUT_STREAM,
                            on_ready, s);
}

static int run(struct session *s, struct err *err)
{
    AUTO(terminal_restorep) struct terminal terminal = {.fd = -1};
    (void)signal(SIGPIPE, SIG_IGN);
    int r = open_queue(s);
    if (r == 0 && s->process->pid > 0) {
        r = loop_add_signal(s->loop, SIGCHLD, on_child, s);
    }
    if (r == 0) {
        r = watch_signals(s);
    }
    if (r == 0 && s->control_fd >= 0) {
        r = loop_add_fd(s->loop, s->control_fd, EPOLLIN, on_control, s, &s->control);
    }
    if (r == 0) {
        r = watch_output(s);
    }
    if (r == 0) {
        r = watch_input(s);
    }
    if (r == 0 && s->options->tty && s->options->input && isatty(STDIN_FILENO)) {
        r = terminal_set_raw(&terminal, STDIN_FILENO);
    }
    if (r == 0) {
        send_size(s);
        if (s->process->pid > 0) {
            /* It may have ended before SIGCHLD was ours. */
            on_child(NULL, s);
        }
        r = loop_run(s->loop);
    }
    return r < 0 ? err_set(err, -r, "copy standard input and output") : 0;
}

static int run_session(int *control_fd, struct session_process *process,
                       const struct session_options *options, enum session_end *ret_end,
                       int *ret_exit_code, struct err *err)
{
    AUTO(loop_freep) struct loop *loop = NULL;
    struct session s = {.options = options,
                        .control_fd = *control_fd,
                        .process = process,
                        .queue = INPUT_QUEUE_INIT};
    int r = session_parse_keys(options->detach_keys, s.keys, &s.key_count, err);
    if (r < 0) {
        return r;
    }
    r = loop_new(&loop);
    if (r < 0) {
        return err_set(err, -r, "copy standard input and output");
    }
    s.loop = loop;
    r = run(&s, err);
    input_queue_done(&s.queue);
    handle_kept(&s);
    *control_fd = s.control_fd;
    if (r < 0) {
        return r;
    }
    *ret_end = s.end;
    if (s.end == SESSION_EXITED || s.end == SESSION_ENDING) {
        *ret_exit_code = s.exit_code;
    }
    return 0;
}

int session_run(int *control_fd, const struct session_options *options, enum session_end *ret_end,
                int *ret_exit_code, struct err *err)
{
    struct session_process none = SESSION_PROCESS_INIT;
    return run_session(control_fd, &none, options, ret_end, ret_exit_code, err);
}

int session_run_process(struct session_process *process, const struct session_options *options,
                        enum session_end *ret_end, int *ret_exit_code, struct err *err)
{
    int none = -1;
    return run_session(&none, process, options, ret_end, ret_exit_code, err);
}
