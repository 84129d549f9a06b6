/*
 * Health checks: a command executed in the workload at intervals.
 *
 * The first check comes one interval after the start, as Docker does it. During the start period a
 * failure does not count, a success ends "starting" at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/process.h"
#include "container/container.h"
#include "engine/emulator.h"
#include "engine/shim.h"
#include "wall/wall.h"

#define INTERVAL_DEFAULT_NS (30 * NS_PER_SEC)
#define TIMEOUT_DEFAULT_NS (30 * NS_PER_SEC)
#define RETRIES_DEFAULT 3
#define HEALTH_FILE "health.log"
#define HEALTH_OUTPUT_MAX ((size_t)4096)

static int64_t interval(const struct shim *shim)
{
    return shim->options->health_interval != 0 ? (int64_t)shim->options->health_interval
                                               : INTERVAL_DEFAULT_NS;
}

/* The words of the check: CMD runs them, CMD-SHELL hands one text to /bin/sh. */
static int check_words(const struct strv *test, struct strv *ret)
{
    int r = 0;
    if (str_eq(test->items[0], "CMD-SHELL")) {
        r = strv_add(ret, "/bin/sh");
        if (r == 0) {
            r = strv_add(ret, "-c");
        }
    }
    for (size_t i = 1; r == 0 && i < test->count; i++) {
        r = strv_add(ret, test->items[i]);
    }
    return r == 0 && ret->count == 0 ? -EINVAL : r;
}

/*
 * The beginning of what the check says, until it ends; the rest is thrown away. Through a pipe: a
 * file of ours would be open to the workload, to fill and to keep.
 */
static void keep_output(struct shim *shim, int pipe_fd, int pidfd)
{
    char text[HEALTH_OUTPUT_MAX];
    char rest[HEALTH_OUTPUT_MAX];
    size_t len = 0;
    struct pollfd fds[] = {{.fd = pidfd, .events = POLLIN}, {.fd = pipe_fd, .events = POLLIN}};
    for (;;) {
        int n = poll(fds, COUNT(fds), -1);
        if (n < 0 && errno != EINTR) {
            break;
        }
        if (n > 0 && fds[1].revents != 0) {
            bool full = len == sizeof(text);
            ssize_t got = full ? read(pipe_fd, rest, sizeof(rest))
                               : read(pipe_fd, text + len, sizeof(text) - len);
            len += !full && got > 0 ? (size_t)got : 0;
            fds[1].fd = got > 0 ? pipe_fd : -1;
            /* Once more when it has ended: what it said last. */
            if (got > 0 && (fds[0].revents == 0 || !full)) {
                continue;
            }
        }
        if (n > 0 && fds[0].revents != 0) {
            break;
        }
    }
    (void)replace_file_at(shim->run_fd, HEALTH_FILE, text, len, 0600, false);
}

/*
 * In the forked child: executes the check in the workload and leaves with its exit code. It dies
 * with the worker, whose connections it must not hold open.
 */
static _Noreturn void run_check(struct shim *shim)
{
    AUTO(strv_donep) struct strv words = {0};
    AUTO(spec_freep) struct spec *spec = NULL;
    struct container_exec_args exec = CONTAINER_EXEC_ARGS_INIT;
    struct container_process process = {.pidfd = -1};
    struct err err = ERR_NONE;
    bool exec_failed = false;
    int out[2];
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    signals_reset();
    shim_close_ends(shim);
    int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (getppid() != shim->status.worker_pid || in < 0 || pipe2(out, O_CLOEXEC) < 0) {
        _exit(126);
    }
    const struct wall *wall;
    int r = check_words(&shim->options->health_test, &words);
    if (r == 0) {
        r = wall_find(shim->options->wall, &wall, &err);
    }
    if (r == 0) {
        r = wall->exec_spec(shim->options->containers_dir, shim->options->id, &spec, &err);
    }
    if (r == 0 && emulator_started(&spec->process.args)) {
        r = emulator_wrap(&words);
    }
    if (r == 0) {
        spec->process.terminal = false;
        spec->process.args = (struct spec_strings){.items = words.items, .count = words.count};
        exec.root = shim->options->containers_dir;
        exec.id = shim->options->id;
        exec.process = &spec->process;
        exec.io.stdio[0] = in;
        exec.io.stdio[1] = out[1];
        exec.io.stdio[2] = out[1];
        exec.io.parent_death_signal = SIGKILL;
        r = wall->exec(&exec, &process, &exec_failed, &err);
    }
    if (r < 0) {
        const char *text = err_text(&err);
        (void)replace_file_at(shim->run_fd, HEALTH_FILE, text, strlen(text), 0600, false);
        _exit(exec_failed && r == -ENOENT ? 127 : 126);
    }
    int status = 0;
    (void)close(out[1]);
    keep_output(shim, out[0], process.pidfd);
    (void)process_wait(process.pid, &status);
    _exit(exit_code_of(status));
}

static void on_timer(struct loop_source *timer, void *data)
{
    struct shim *shim = data;
    if (shim->health_pid > 0) {
        shim->health_timed_out = true;
        (void)kill(shim->health_pid, SIGKILL);
        return;
    }
    shim->health_timed_out = false;
    pid_t pid = fork();
    if (pid == 0) {
        run_check(shim);
    }
    if (pid < 0) {
        (void)loop_timer_set(timer, interval(shim));
        return;
    }
    shim->health_pid = pid;
    (void)loop_timer_set(timer, shim->options->health_timeout != 0
                                    ? (int64_t)shim->options->health_timeout
                                    : TIMEOUT_DEFAULT_NS);
}

bool shim_health_reap(struct shim *shim, pid_t pid, int wait_status)
{
    if (pid != shim->health_pid) {
        return false;
    }
    struct workload_status *status = &shim->status;
    int64_t now = clock_realtime_ns();
    int code = shim->health_timed_out ? -1 : exit_code_of(wait_status);
    int64_t retries =
        shim->options->health_retries > 0 ? shim->options->health_retries : RETRIES_DEFAULT;
    shim->health_pid = 0;
    status->health_checked_ns = now;
    status->health_exit_code = code;
    if (code == 0) {
        status->health = HEALTH_HEALTHY;
        status->health_failures = 0;
    } else if (status->health != HEALTH_STARTING ||
               now - status->started_ns >= (int64_t)shim->options->health_start_period) {
        status->health_failures++;
        if (status->health_failures >= retries) {
            status->health = HEALTH_UNHEALTHY;
        }
    }
    (void)status_write(shim->run_fd, status);
    if (shim->health_timer != NULL) {
        (void)loop_timer_set(shim->health_timer, interval(shim));
    }
    return true;
}

int shim_health_start(struct shim *shim)
{
    if (shim->options->health_test.count < 2) {
        return 0;
    }
    if (shim->status.health == HEALTH_NONE) {
        shim->status.health = HEALTH_STARTING;
    }
    return loop_add_timer(shim->loop, interval(shim), on_timer, shim, &shim->health_timer);
}
