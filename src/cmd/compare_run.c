/* One run of a command, measured from its outside. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/process.h"
#include "base/str.h"
#include "cmd/command.h"
#include "cmd/compare.h"
#include "container/cgroup.h"

/* What a run leaves behind ends by itself; a process that does not is no part of the figure. */
#define REAP_TIMEOUT_NS (10 * NS_PER_SEC)

struct run {
    const struct compare_command *command;
    pid_t pid;
    int pidfd;
    int out;
    int errors;
    int64_t begin_ns;
    int64_t first_ns; /* 0: nothing came */
    char said[ERR_TEXT_SIZE];
    size_t said_len;
};

static void run_done(struct run *run)
{
    run->pidfd = close_fd(run->pidfd);
    run->out = close_fd(run->out);
    run->errors = close_fd(run->errors);
}
DEFINE_DONEP(struct run, run_done)

static _Noreturn void execute(const struct compare_command *command, int out, int errors)
{
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    bool ready =
        dup2(null, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0 && dup2(errors, 2) >= 0;
    struct err err = ERR_NONE;
    signals_reset();
    if (ready && command->bare) {
        if (command->cgroup != NULL && cgroup_enter(command->cgroup, true, &err) < 0) {
            (void)fprintf(stderr, "isola: %s\n", err_text(&err));
            _exit(EXIT_ENGINE);
        }
        (void)execvp(command->argv[0], command->argv);
    } else if (ready) {
        (void)execv("/proc/self/exe", command->argv);
    }
    (void)fprintf(stderr, "isola: run '%s' on this host: %s\n", command->argv[0], strerror(errno));
    _exit(EXIT_ENGINE);
}

static int begin(struct run *run, struct err *err)
{
    int out[2];
    int errors[2];
    if (pipe2(out, O_CLOEXEC | O_NONBLOCK) < 0) {
        return err_set(err, errno, "make a pipe");
    }
    run->out = out[0];
    AUTO(closep) int out_end = out[1];
    if (pipe2(errors, O_CLOEXEC | O_NONBLOCK) < 0) {
        return err_set(err, errno, "make a pipe");
    }
    run->errors = errors[0];
    AUTO(closep) int errors_end = errors[1];
    (void)fflush(stdout);
    /* The command's ends are like any pipe's: it need not know of EAGAIN. */
    int r = set_nonblock(out_end, false);
    r = r < 0 ? r : set_nonblock(errors_end, false);
    if (r < 0) {
        return err_set(err, -r, "make a pipe");
    }
    run->begin_ns = clock_monotonic_ns();
    run->pid = fork();
    if (run->pid == 0) {
        execute(run->command, out_end, errors_end);
    }
    if (run->pid < 0) {
        return err_set(err, errno, "start '%s'", run->command->argv[0]);
    }
    run->pidfd = pidfd_open_pid(run->pid);
    return run->pidfd < 0 ? err_set(err, -run->pidfd, "watch '%s'", run->command->argv[0]) : 0;
}

/* Throws the output away. The number of bytes, 0 at the end or when there is no more now. */
static size_t drain(int fd)
{
    char data[16384];
    size_t all = 0;
    ssize_t n;
    while ((n = read(fd, data, sizeof(data))) > 0) {
        all += (size_t)n;
    }
    return all;
}

/* Keeps the last line of what is said; an empty one does not count. */
static void hear(struct run *run)
{
    char data[1024];
    ssize_t n;
    while ((n = read(run->errors, data, sizeof(data))) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            bool full = run->said_len + 1 >= sizeof(run->said);
            bool next = run->said_len > 0 && run->said[run->said_len - 1] == '\n';
            if (next && data[i] != '\n') {
                run->said_len = 0;
            }
            if (!(next && data[i] == '\n') && !(full && data[i] != '\n')) {
                run->said_len -= full;
                run->said[run->said_len++] = data[i];
            }
        }
    }
}

/* True when the command has ended, false when the user wants no more of it. */
static bool follow(struct run *run, int interrupt)
{
    struct pollfd fds[] = {
        {.fd = run->pidfd, .events = POLLIN},
        {.fd = run->out, .events = POLLIN},
        {.fd = run->errors, .events = POLLIN},
        {.fd = interrupt, .events = POLLIN},
    };
    for (;;) {
        if (poll(fds, COUNT(fds), -1) < 0) {
            continue; /* EINTR: no signal of ours has a handler */
        }
        int64_t now = clock_monotonic_ns();
        if (drain(run->out) > 0 && run->first_ns == 0) {
            run->first_ns = now;
        }
        hear(run);
        if (fds[0].revents != 0) {
            return true;
        }
        if (fds[3].revents != 0) {
            return false;
        }
        /* An end that is closed would be reported for ever. */
        for (size_t i = 1; i < 3; i++) {
            fds[i].fd = (fds[i].revents & POLLHUP) != 0 ? -1 : fds[i].fd;
        }
    }
}

static int64_t time_ns(const struct timeval *time)
{
    return (int64_t)time->tv_sec * NS_PER_SEC + (int64_t)time->tv_usec * 1000;
}

static void add_usage(const struct rusage *usage, struct compare_sample *sample)
{
    sample->cpu_ns += time_ns(&usage->ru_utime) + time_ns(&usage->ru_stime);
    sample->memory = MAX(sample->memory, (int64_t)usage->ru_maxrss * 1024);
}

/* The command itself, then what is handed to us, its subreaper: shims, and with them all below. */
static int reap(const struct run *run, struct compare_sample *sample, struct err *err)
{
    int status;
    struct rusage usage;
    const struct timespec pause = {.tv_nsec = NS_PER_MS};
    while (wait4(run->pid, &status, 0, &usage) < 0) {
        if (errno != EINTR) {
            return err_set(err, errno, "wait for '%s'", run->command->argv[0]);
        }
    }
    add_usage(&usage, sample);
    sample->exit_code = exit_code_of(status);
    int64_t end = clock_monotonic_ns() + REAP_TIMEOUT_NS;
    for (;;) {
        pid_t pid = wait4(-1, &status, WNOHANG, &usage);
        if (pid > 0) {
            add_usage(&usage, sample);
        } else if (pid < 0 || clock_monotonic_ns() > end) {
            return 0;
        } else {
            (void)nanosleep(&pause, NULL);
        }
    }
}

static void read_cgroup(const struct cgroup *cgroup, struct compare_sample *sample)
{
    AUTO(freep) struct container_stats *stats = calloc(1, sizeof(*stats));
    if (cgroup != NULL && stats != NULL && cgroup_stats(cgroup, stats) == 0 && stats->memory.set &&
        stats->memory.max_usage > 0) {
        sample->memory = (int64_t)stats->memory.max_usage;
        sample->has_cgroup = true;
    }
}

static void undo(const struct run *run)
{
    int status;
    (void)pidfd_signal(run->pidfd, SIGKILL);
    if (run->command->undo == NULL) {
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        (void)dup2(null, STDOUT_FILENO);
        (void)dup2(null, STDERR_FILENO); /* it may be gone already */
        signals_reset();
        (void)execv("/proc/self/exe", run->command->undo);
        _exit(EXIT_NOT_FOUND);
    }
    if (pid > 0) {
        (void)process_wait(pid, &status);
    }
}

int compare_run(const struct compare_command *command, int interrupt, struct compare_sample *ret,
                struct err *err)
{
    AUTO(run_donep)
    struct run run = {.command = command, .pidfd = -1, .out = -1, .errors = -1};
    struct compare_sample sample = {.start_ns = -1};
    int r = begin(&run, err);
    if (r < 0) {
        return r;
    }
    bool ended = follow(&run, interrupt);
    sample.total_ns = clock_monotonic_ns() - run.begin_ns;
    if (!ended) {
        undo(&run);
    }
    r = reap(&run, &sample, err);
    if (r < 0) {
        return r;
    }
    if (!ended) {
        return err_say(err, EINTR, "interrupted");
    }
    if (run.first_ns != 0) {
        sample.start_ns = run.first_ns - run.begin_ns;
    }
    read_cgroup(command->cgroup, &sample);
    run.said_len -= run.said_len > 0 && run.said[run.said_len - 1] == '\n';
    memcpy(sample.said, run.said, run.said_len);
    sample.said[run.said_len] = '\0';
    *ret = sample;
    return 0;
}
