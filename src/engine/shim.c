#include "engine/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/process.h"
#include "base/unix_socket.h"
#include "engine/shim_dns.h"
#include "wall/wall.h"

/* What the builder answers, as bytes through a pipe. */
struct build_result {
    pid_t pid;
    uint64_t start_time;
    bool exec_failed;
    int error; /* positive errno, 0: success */
    struct err err;
};

/* Ends of the descriptors that the workload gets, on their way through the builder. */
struct build_fds {
    int stdio[3];
    int console[2]; /* socket pair: [1] goes to the builder, the pty's master comes out of [0] */
    int start[2];
};

static uint32_t exit_code_of_failure(const struct build_result *result)
{
    if (!result->exec_failed) {
        return 125;
    }
    return result->error == ENOENT || result->error == ENOTDIR ? 127 : 126;
}

/*
 * Runs fn in a forked child and reads its answer. All memory that making a container takes, and
 * every thread and descriptor it might leave, ends with the child.
 */
static int in_builder(struct shim *shim, void (*fn)(struct shim *, void *, struct build_result *),
                      void *data, struct build_result *ret)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
        return -errno;
    }
    AUTO(closep) int read_end = fds[0];
    AUTO(closep) int write_end = fds[1];
    pid_t pid = fork();
    if (pid < 0) {
        return -errno;
    }
    if (pid == 0) {
        struct build_result result = {0};
        (void)sigprocmask(SIG_UNBLOCK, &(sigset_t){{~0UL}}, NULL);
        fn(shim, data, &result);
        _exit(write_full(write_end, &result, sizeof(result)) < 0 ? 1 : 0);
    }
    /*
     * The answer fits into the pipe: first the builder's end, then what it left there. The end of
     * the pipe would not do, for a process that a killed builder has made holds the pipe, too.
     */
    _Static_assert(sizeof(*ret) <= 4096, "the answer fits into any pipe");
    int status;
    (void)process_wait(pid, &status);
    int r = read_full(read_end, ret, sizeof(*ret));
    if (r < 0) {
        *ret = (struct build_result){.error = ECHILD};
        (void)err_say(&ret->err, ECHILD, "the builder died (%s %d)",
                      WIFSIGNALED(status) ? "signal" : "exit code",
                      WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    return 0;
}

/*
 * What a process of the workload must not inherit even for the moment before it executes. Else a
 * killed shim would leave its connections open in a process that waits for it.
 */
void shim_close_ends(const struct shim *shim)
{
    const int ends[] = {
        shim->input_fd,  shim->output_fd[0], shim->output_fd[1],
        shim->listen_fd, shim->log.fd,       shim->log_dir_fd,
    };
    for (size_t i = 0; i < COUNT(ends); i++) {
        (void)close_fd(ends[i]);
    }
    for (const struct shim_client *c = shim->clients; c != NULL; c = c->next) {
        (void)close_fd(c->fd);
    }
}

static void build_create(struct shim *shim, void *data, struct build_result *result)
{
    const struct shim_options *options = shim->options;
    const struct build_fds *fds = data;
    const struct wall *wall;
    shim_close_ends(shim);
    (void)close_fd(fds->console[0]);
    (void)close_fd(fds->start[0]);
    int r = wall_find(options->wall, &wall, &result->err);
    if (r == 0) {
        struct container_process process = {.pidfd = -1};
        struct wall_create create = {
            .root = options->containers_dir,
            .id = options->id,
            .bundle = options->run_dir,
            .rootfs_fd = (int)options->rootfs_fd,
            .io = CONTAINER_IO_INIT,
            .start_fd = fds->start[1],
        };
        for (int i = 0; i < 3; i++) {
            create.io.stdio[i] = fds->stdio[i];
        }
        create.io.console_fd = fds->console[1];
        create.io.adopt = true;
        create.io.parent_death_signal = SIGKILL;
        r = wall->create(&create, &process, &result->exec_failed, &result->err);
        result->pid = process.pid;
        result->start_time = process.start_time;
    }
    result->error = -r;
}

static void build_start(struct shim *shim, void *data, struct build_result *result)
{
    (void)data;
    const struct wall *wall;
    int r = wall_find(shim->options->wall, &wall, &result->err);
    if (r == 0) {
        r = wall->start(shim->options->containers_dir, shim->options->id, shim->start_fd,
                        &result->exec_failed, &result->err);
    }
    result->error = -r;
}

static int make_pipe(int *ret_ours, int *ret_theirs, bool we_read)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0) {
        return -errno;
    }
    *ret_ours = fds[we_read ? 0 : 1];
    *ret_theirs = fds[we_read ? 1 : 0];
    return 0;
}

static int make_pair(int fds[2], int type)
{
    return socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) < 0 ? -errno : 0;
}

static int open_stdio(struct shim *shim, struct build_fds *fds)
{
    int r = make_pair(fds->start, SOCK_SEQPACKET);
    if (r < 0) {
        return r;
    }
    if (shim->options->tty) {
        return make_pair(fds->console, SOCK_STREAM);
    }
    if (shim->options->keep_stdin) {
        r = make_pipe(&shim->input_fd, &fds->stdio[0], false);
    } else {
        fds->stdio[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        r = fds->stdio[0] < 0 ? -errno : 0;
    }
    for (int i = 0; i < 2 && r == 0; i++) {
        r = make_pipe(&shim->output_fd[i], &fds->stdio[i + 1], true);
    }
    return r;
}

static void build_fds_done(struct build_fds *fds)
{
    for (int i = 0; i < 3; i++) {
        (void)close_fd(fds->stdio[i]);
    }
    (void)close_fd(fds->console[0]);
    (void)close_fd(fds->console[1]);
    (void)close_fd(fds->start[0]);
    (void)close_fd(fds->start[1]);
}
DEFINE_DONEP(struct build_fds, build_fds_done)

/* The pty's master serves both ways; two descriptors, so that each has its own source. */
static int receive_console(struct shim *shim, int socket_fd)
{
    char data[256];
    int fds[1];
    size_t count = COUNT(fds);
    ssize_t n = unix_recv_fds(socket_fd, data, sizeof(data), fds, &count);
    if (n < 0 || count != 1) {
        return n < 0 ? (int)n : -EPROTO;
    }
    shim->output_fd[0] = fds[0];
    if (shim->options->keep_stdin) {
        shim->input_fd = fcntl(fds[0], F_DUPFD_CLOEXEC, 3);
    }
    return 0;
}

static int create(struct shim *shim, struct build_result *result)
{
    AUTO(build_fds_donep)
    struct build_fds fds = {.stdio = {-1, -1, -1}, .console = {-1, -1}, .start = {-1, -1}};
    int r = open_stdio(shim, &fds);
    if (r == 0) {
        r = in_builder(shim, build_create, &fds, result);
    }
    if (r < 0) {
        (void)err_set(&result->err, -r, "make the workload's stdio");
        result->error = -r;
    }
    if (result->error != 0) {
        return -result->error;
    }
    shim->start_fd = TAKE_FD(fds.start[0]);
    shim->status.pid = result->pid;
    shim->status.pid_start = result->start_time;
    if (shim->options->tty) {
        fds.console[1] = close_fd(fds.console[1]);
        r = receive_console(shim, fds.console[0]);
        if (r < 0) {
            return err_set(&result->err, -r, "receive the terminal");
        }
    }
    r = shim_io_start(shim);
    return r < 0 ? err_set(&result->err, -r, "watch the workload's stdio") : 0;
}

static void fail(struct shim *shim, const struct build_result *result)
{
    shim_client_tell(shim, SHIM_FAILED, exit_code_of_failure(result), &result->err,
                     sizeof(result->err));
}

void shim_start(struct shim *shim)
{
    struct build_result result = {0};
    /* Only now: the bridge whose address it answers at was made between create and start. */
    int r = shim_dns_start(shim, &result.err);
    if (r == 0) {
        r = in_builder(shim, build_start, NULL, &result);
    }
    if (r < 0) {
        (void)err_wrap(&result.err, -r, "start");
        result.error = -r;
    }
    shim->start_fd = close_fd(shim->start_fd);
    if (result.error != 0) {
        /* The first process is gone or never was: its end comes by SIGCHLD, and is this failure. */
        shim->status.exit_code = (int)exit_code_of_failure(&result);
        shim->failed = true;
        fail(shim, &result);
        (void)kill(shim->status.pid, SIGKILL);
        return;
    }
    shim->phase = SHIM_PHASE_RUNNING;
    shim->status.started_ns = clock_realtime_ns();
    (void)shim_health_start(shim);
    (void)status_write(shim->run_fd, &shim->status);
    shim_client_tell(shim, SHIM_STARTED, 0, NULL, 0);
}

void shim_leave(struct shim *shim)
{
    if (shim->ended && !shim_client_is_slow(shim)) {
        loop_quit(shim->loop, 0);
    }
}

/* Ends the run by a process of its own, which outlives us. */
static void spawn_reap(struct shim *shim)
{
    const struct shim_options *o = shim->options;
    pid_t pid = fork();
    if (pid != 0) {
        return;
    }
    char *const argv[] = {(char *)(uintptr_t)o->isola, (char *)(uintptr_t) "--root",
                          (char *)(uintptr_t)o->root,  (char *)(uintptr_t) "--run-dir",
                          (char *)(uintptr_t)o->run,   (char *)(uintptr_t) "reap",
                          (char *)(uintptr_t)o->id,    NULL};
    signals_reset();
    (void)setsid();
    int null_fd = open("/dev/null", O_RDWR);
    for (int i = 0; i < 3 && null_fd >= 0; i++) {
        (void)dup2(null_fd, i);
    }
    (void)close_fds_from(3);
    (void)execv(argv[0], argv);
    _exit(127);
}

void shim_end(struct shim *shim)
{
    if (shim->reaper == NULL && !shim->ended) {
        spawn_reap(shim);
        shim->ended = true;
    }
    shim_leave(shim);
}

static void on_workload_exit(struct shim *shim, int wait_status)
{
    if (shim->phase == SHIM_PHASE_RUNNING) {
        shim->status.exit_code = exit_code_of(wait_status);
    } else if (!shim->failed) {
        /* Ended before its start: isola died or was told to stop. */
        shim->status.exit_code = exit_code_of(wait_status);
    }
    shim_io_drain(shim);
    shim->phase = SHIM_PHASE_EXITED;
    shim->status.finished_ns = clock_realtime_ns();
    shim->status.lost_output = shim->log.lost;
    loop_remove(TAKE_PTR(shim->health_timer));
    (void)status_write(shim->run_fd, &shim->status);
    for (struct shim_client *c = shim->clients; c != NULL && shim->reaper == NULL; c = c->next) {
        shim->reaper = !c->gone && (c->roles & SHIM_REAPER) != 0 ? c : NULL;
    }
    shim_client_tell(shim, SHIM_EXITED, (uint32_t)shim->status.exit_code, NULL, 0);
    shim_end(shim);
}

static void on_child(const struct signalfd_siginfo *info, void *data)
{
    (void)info;
    struct shim *shim = data;
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == shim->status.pid && shim->phase != SHIM_PHASE_EXITED) {
            on_workload_exit(shim, status);
        } else {
            /* Else a process that the workload orphaned. */
            (void)shim_health_reap(shim, pid, status);
        }
    }
}

static int set_up(struct shim *shim)
{
    int r = loop_new(&shim->loop);
    if (r == 0) {
        r = loop_add_signal(shim->loop, SIGCHLD, on_child, shim);
    }
    if (r == 0) {
        r = shim_client_add(shim, (int)shim->options->control_fd, SHIM_STARTER);
    }
    if (r == 0 && shim->options->log_dir != NULL) {
        AUTO(closep) int dir = open(shim->options->log_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        shim->log_dir_fd = TAKE_FD(dir);
        r = shim->log_dir_fd < 0
                ? -errno
                : log_writer_open(&shim->log, shim->log_dir_fd, shim->options->log_max_size,
                                  (int)shim->options->log_max_files);
    }
    if (r == 0) {
        r = shim_client_listen(shim);
    }
    return r;
}

int shim_main(const struct shim_options *options)
{
    struct shim shim = {
        .options = options,
        .start_fd = -1,
        .input_fd = -1,
        .output_fd = {-1, -1},
        .listen_fd = -1,
        .log_dir_fd = -1,
        .log = {.fd = -1},
    };
    struct build_result result = {0};
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    (void)signal(SIGPIPE, SIG_IGN);
    shim.status.shim_pid = getpid();
    (void)process_start_time(getpid(), &shim.status.shim_start);
    shim.run_fd = open(options->run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = shim.run_fd < 0 ? -errno : set_up(&shim);
    if (r < 0) {
        (void)err_set(&result.err, -r, "set up the shim in '%s'", options->run_dir);
        result.error = -r;
    } else {
        r = create(&shim, &result);
        (void)close_fd((int)options->rootfs_fd);
    }
    if (r == 0) {
        r = status_write(shim.run_fd, &shim.status);
    }
    if (r < 0) {
        result.error = -r;
        fail(&shim, &result);
        if (shim.status.pid > 0) {
            (void)kill(shim.status.pid, SIGKILL);
        }
        return 1;
    }
    shim_client_tell(&shim, SHIM_CREATED, (uint32_t)shim.status.pid, NULL, 0);
    /* Our descriptors end with us; freeing what the exit frees anyway would cost the run time. */
    return loop_run(shim.loop);
}
