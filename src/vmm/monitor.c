#include "vmm/monitor.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/loop.h"
#include "base/macros.h"
#include "base/process.h"
#include "base/str.h"
#include "base/unix_socket.h"
#include "vmm/jail_space.h"
#include "vmm/monitor_program.h"
#include "vmm/snapshot.h"
#include "vmm/virtio/vsock.h"

#define EXIT_FAILED 126
/* How often a wait for an answer looks whether we are to end. */
#define LOOK_MS 500

struct monitor {
    pid_t pid;
    int pidfd;
    int calls_fd, asks_fd;
    char *uds;
    struct loop_source *end_source, *asks_source;
    monitor_ended_fn *ended;
    void *data;
    bool reaped;
    bool stopped;  /* it was asked to end */
    bool owns_uds; /* the socket that the other process made */
    int status;
};

/* In the child, which has our memory and descriptors: never returns. */
static void become_monitor(int calls_fd)
{
    char number[16];
    char *argv[] = {"isola-vmm", MONITOR_OPTION, number, NULL};
    (void)snprintf(number, sizeof(number), "%d", calls_fd);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (set_cloexec(calls_fd, false) == 0) {
        (void)execv("/proc/self/exe", argv);
    }
    (void)fprintf(stderr, "isola-vmm: run '/proc/self/exe' anew: %s\n", strerror(errno));
    _exit(EXIT_FAILED);
}

static void reap(struct monitor *monitor)
{
    if (!monitor->reaped) {
        monitor->reaped = process_wait(monitor->pid, &monitor->status) == 0;
    }
}

static void on_end(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)fd, (void)events;
    struct monitor *monitor = data;
    loop_remove(source);
    monitor->end_source = NULL;
    reap(monitor);
    monitor->ended(monitor, monitor->data);
}

/* The rule of what is opened for the jailed process: "UDS_PORT" and UDS itself. */
static int connect_port(const struct monitor *monitor, uint32_t port)
{
    char path[PATH_MAX];
    if (monitor->uds == NULL) {
        return -ECONNREFUSED;
    }
    int n = port == VSOCK_OWN_PORT ? snprintf(path, sizeof(path), "%s", monitor->uds)
                                   : snprintf(path, sizeof(path), "%s_%u", monitor->uds, port);
    if (n < 0 || (size_t)n >= sizeof(path)) {
        return -ENAMETOOLONG;
    }
    return unix_connect(path, SOCK_STREAM | SOCK_NONBLOCK);
}

/* One ask. It waits for the answer: what does not fit into the socket was not waited for. */
static void serve_ask(struct monitor *monitor)
{
    struct monitor_ask ask;
    ssize_t n = recv(monitor->asks_fd, &ask, sizeof(ask), MSG_DONTWAIT | MSG_TRUNC);
    if (n == 0) {
        loop_remove(TAKE_PTR(monitor->asks_source)); /* it is about to end */
        monitor->asks_fd = close_fd(monitor->asks_fd);
    }
    if (n != (ssize_t)sizeof(ask)) {
        return;
    }
    AUTO(closep) int fd = connect_port(monitor, ask.port);
    const struct monitor_given given = {.result = fd < 0 ? fd : 0};
    (void)unix_send_fds(monitor->asks_fd, &given, sizeof(given), &fd, fd < 0 ? 0 : 1);
}

static void on_ask(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source, (void)fd, (void)events;
    serve_ask(data);
}

static bool told_to_end(void)
{
    sigset_t pending;
    return sigpending(&pending) == 0 &&
           (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1);
}

/* Meanwhile the other side may ask: it would never answer otherwise. */
static int wait_for_answer(struct monitor *monitor, struct monitor_answer *answer)
{
    for (;;) {
        struct pollfd fds[] = {{.fd = monitor->calls_fd, .events = POLLIN},
                               {.fd = monitor->asks_fd, .events = POLLIN}};
        int n = poll(fds, COUNT(fds), LOOK_MS);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n > 0 && fds[1].revents != 0) {
            serve_ask(monitor);
        }
        if (n > 0 && fds[0].revents != 0) {
            break;
        }
        if (n == 0 && told_to_end()) {
            (void)pidfd_signal(monitor->pidfd, SIGKILL);
        }
    }
    ssize_t got = recv(monitor->calls_fd, answer, sizeof(*answer), MSG_DONTWAIT | MSG_TRUNC);
    return got == (ssize_t)sizeof(*answer) ? 0 : got < 0 ? -errno : -ESRCH;
}

static void clean(struct monitor_answer *answer)
{
    answer->text[sizeof(answer->text) - 1] = '\0';
    for (char *c = answer->text; *c != '\0'; c++) {
        *c = (char)(*c < ' ' || *c > '~' ? '?' : *c);
    }
    if (answer->result > 0 || answer->result < -4095) {
        answer->result = -EPROTO;
    }
}

static int call(struct monitor *monitor, const struct monitor_call *what, const int *fds,
                size_t fd_count, struct monitor_answer *ret, struct err *err)
{
    struct monitor_answer answer = {0};
    int r = unix_send_fds(monitor->calls_fd, what, sizeof(*what), fds, fd_count);
    r = r < 0 ? r : wait_for_answer(monitor, &answer);
    if (r < 0) {
        /* Never out of step: one that does not answer as it must is of no use. */
        (void)pidfd_signal(monitor->pidfd, SIGKILL);
        return err_say(err, ESRCH, "the machine's process is gone");
    }
    clean(&answer);
    if (answer.result < 0) {
        return answer.text[0] != '\0' ? err_say(err, -answer.result, "%s", answer.text)
                                      : err_set(err, -answer.result, "ask the machine's process");
    }
    if (ret != NULL) {
        *ret = answer;
    }
    return 0;
}

int monitor_call(struct monitor *monitor, enum monitor_verb verb, uint32_t value, const int *fds,
                 size_t fd_count, struct monitor_answer *ret, struct err *err)
{
    const struct monitor_call what = {.verb = verb, .value = value};
    return call(monitor, &what, fds, fd_count, ret, err);
}

static int send_start(struct monitor *monitor, const struct monitor_options *options, int asks_fd,
                      struct err *err)
{
    struct monitor_call start = {
        .verb = MONITOR_START,
        .value =
            (options->resume ? MONITOR_RUNS_ON : 0) | (options->track_dirty ? MONITOR_TRACKS : 0),
        .identity = jail_space_id(getpid()),
    };
    int fds[MONITOR_FDS_MAX] = {asks_fd};
    size_t count = 1;
    if (options->config_fd >= 0) {
        start.value |= MONITOR_HAS_CONFIG;
        fds[count++] = options->config_fd;
    }
    if (options->snapshot != NULL) {
        const struct snapshot_files *files = options->snapshot;
        start.value |= MONITOR_HAS_SNAPSHOT | (uint32_t)files->base_count << MONITOR_BASES_SHIFT;
        fds[count++] = files->state_fd;
        fds[count++] = files->memory_fd;
        for (size_t i = 0; i < files->base_count; i++) {
            fds[count++] = files->base_fd[i];
        }
    }
    if (options->gdb_fd >= 0) {
        start.value |= MONITOR_HAS_GDB;
        fds[count++] = options->gdb_fd;
    }
    if (options->id != NULL) {
        (void)snprintf(start.id, sizeof(start.id), "%s", options->id);
    }
    return call(monitor, &start, fds, count, NULL, err);
}

static int watch(struct monitor *monitor, struct loop *loop, struct err *err)
{
    int r = loop_add_fd(loop, monitor->pidfd, EPOLLIN, on_end, monitor, &monitor->end_source);
    if (r == 0 && monitor->asks_fd >= 0) {
        r = loop_add_fd(loop, monitor->asks_fd, EPOLLIN, on_ask, monitor, &monitor->asks_source);
    }
    return r < 0 ? err_set(err, -r, "watch the machine's process") : 0;
}

int monitor_start(const struct monitor_options *options, struct loop *loop, monitor_ended_fn *ended,
                  void *data, struct monitor **ret, struct err *err)
{
    AUTO(monitor_freep) struct monitor *monitor = calloc(1, sizeof(*monitor));
    int calls[2];
    int asks[2];
    if (monitor == NULL) {
        return err_set(err, ENOMEM, "start the machine's process");
    }
    monitor->pidfd = monitor->calls_fd = monitor->asks_fd = -1;
    monitor->ended = ended;
    monitor->data = data;
    monitor->reaped = true; /* there is none yet */
    if (options->uds != NULL && (monitor->uds = strdup(options->uds)) == NULL) {
        return err_set(err, ENOMEM, "start the machine's process");
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, calls) < 0) {
        return err_set(err, errno, "start the machine's process");
    }
    monitor->calls_fd = calls[0];
    AUTO(closep) int their_calls = calls[1];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, asks) < 0) {
        return err_set(err, errno, "start the machine's process");
    }
    monitor->asks_fd = asks[0];
    AUTO(closep) int their_asks = asks[1];
    monitor->pid = jail_space_fork(err);
    if (monitor->pid < 0) {
        return (int)monitor->pid;
    }
    if (monitor->pid == 0) {
        become_monitor(their_calls);
    }
    monitor->reaped = false;
    monitor->pidfd = pidfd_open_pid(monitor->pid);
    their_calls = close_fd(their_calls);
    /* It need not read our answers: an answer that does not fit is no answer. */
    int r = monitor->pidfd < 0 ? monitor->pidfd : set_nonblock(monitor->asks_fd, true);
    if (r < 0) {
        return err_set(err, -r, "start the machine's process");
    }
    r = send_start(monitor, options, their_asks, err);
    r = r < 0 ? r : watch(monitor, loop, err);
    if (r < 0) {
        return r;
    }
    monitor->owns_uds = monitor->uds != NULL;
    *ret = TAKE_PTR(monitor);
    return 0;
}

void monitor_free(struct monitor *monitor)
{
    if (monitor == NULL) {
        return;
    }
    loop_remove(monitor->end_source);
    loop_remove(monitor->asks_source);
    if (!monitor->reaped) {
        (void)kill(monitor->pid, SIGKILL);
        reap(monitor);
    }
    /* Its own socket: it cannot reach the name any more. */
    if (monitor->owns_uds) {
        (void)unlink(monitor->uds);
    }
    (void)close_fd(monitor->pidfd);
    (void)close_fd(monitor->calls_fd);
    (void)close_fd(monitor->asks_fd);
    free(monitor->uds);
    free(monitor);
}

void monitor_stop(struct monitor *monitor)
{
    /* One that a guest has taken over need not listen. */
    (void)pidfd_signal(monitor->pidfd, monitor->stopped ? SIGKILL : SIGTERM);
    monitor->stopped = true;
}

int monitor_exit_code(const struct monitor *monitor)
{
    if (!WIFSIGNALED(monitor->status)) {
        return exit_code_of(monitor->status);
    }
    int signal = WTERMSIG(monitor->status);
    (void)fprintf(stderr, "isola-vmm: the machine's process was ended by signal %d%s\n", signal,
                  signal == SIGSYS ? ": it made a system call that its jail forbids" : "");
    return EXIT_FAILED;
}
