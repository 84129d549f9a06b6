/* The worker: the shim's event loop. */
#include "engine/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/process.h"
#include "base/str.h"
#include "engine/network.h"
#include "engine/shim_dns.h"
#include "engine/shim_proxy.h"
#include "wall/vm.h"

/* So long a worker waits for the clients of the one before it. */
#define AWAIT_NS (5 * NS_PER_SEC)

/*
 * What a process of the workload must not inherit even for the moment before it executes. Else a
 * killed shim would leave its connections open in a process that waits for it.
 */
void shim_close_ends(const struct shim *shim)
{
    const int ends[] = {
        shim->input_fd,   shim->output_fd[0], shim->output_fd[1], shim->listen_fd,  shim->log.fd,
        shim->log_dir_fd, shim->scratch[0],   shim->scratch[1],   shim->process_fd, shim->waiter_fd,
        shim->wake_fd,    shim->tail_fd,      shim->files_fd,     shim->report_fd,
    };
    for (size_t i = 0; i < COUNT(ends); i++) {
        (void)close_fd(ends[i]);
    }
    for (const struct shim_client *c = shim->clients; c != NULL; c = c->next) {
        (void)close_fd(c->fd);
    }
}

static void fail(struct shim *shim, const struct shim_build *build)
{
    shim_client_tell(shim, SHIM_FAILED, shim_build_exit_code(build), &build->err,
                     sizeof(build->err));
}

static void on_proxy_idle(void *data)
{
    shim_leave(data);
}

int shim_proxy_serve(struct shim *shim, struct err *err)
{
    struct network_proxy config;
    int r = network_proxy_read(shim->run_fd, &config);
    if (r < 0) {
        return err_set(err, -r, "read what to serve on [::1]");
    }
    if (config.count == 0) {
        shim_proxy_free(TAKE_PTR(shim->proxy));
        return 0;
    }
    if (shim->proxy != NULL) {
        shim_proxy_follow(shim->proxy, &config);
        return 0;
    }
    return shim_proxy_new(shim->loop, &config, on_proxy_idle, shim, &shim->proxy, err);
}

void shim_start(struct shim *shim)
{
    struct shim_build build = {.error = 0};
    bool again = atomic_exchange(&shim->shared->start_asked, true);
    /* Only now: the bridge whose address it answers at was made between create and start. */
    int r = shim_dns_start(shim, &build.err);
    r = r < 0 ? r : shim_proxy_serve(shim, &build.err);
    if (r < 0) {
        build.error = -r;
    } else {
        shim_build_start(shim, &build);
    }
    shim->start_fd = close_fd(shim->start_fd);
    if (again && build.error == EPIPE) {
        /* The worker before us has woken it already; if its exec failed its exit code says so. */
        build.error = 0;
    }
    if (build.error != 0) {
        /* The first process is gone or never was: its end comes by the waiter, and is this failure.
         */
        shim->status.exit_code = (int)shim_build_exit_code(&build);
        shim->failed = true;
        fail(shim, &build);
        (void)pidfd_signal(shim->process_fd, SIGKILL);
        return;
    }
    shim->phase = SHIM_PHASE_RUNNING;
    shim->status.started_ns = clock_realtime_ns();
    shim_io_tell_size(shim);
    (void)shim_health_start(shim);
    (void)status_write(shim->run_fd, &shim->status);
    shim_client_tell(shim, SHIM_STARTED, 0, NULL, 0);
}

void shim_leave(struct shim *shim)
{
    if (atomic_load(&shim->shared->removed) && shim->phase != SHIM_PHASE_EXITED) {
        return; /* there is something to sweep */
    }
    if (atomic_load(&shim->shared->ended) && shim->awaited == 0 && !shim_client_is_slow(shim) &&
        !shim_proxy_is_busy(shim->proxy)) {
        loop_quit(shim->loop, 0);
    }
}

void shim_spawn_reap(const struct shim_options *o)
{
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
    if (shim->awaited != 0) {
        return; /* it may be the one who ends the run */
    }
    if (shim->reaper == NULL && !atomic_load(&shim->shared->ended)) {
        shim_spawn_reap(shim->options);
        atomic_store(&shim->shared->ended, true);
    }
    shim_leave(shim);
}

void shim_find_reaper(struct shim *shim)
{
    for (struct shim_client *c = shim->clients; c != NULL && shim->reaper == NULL; c = c->next) {
        shim->reaper = !c->gone && (c->roles & SHIM_REAPER) != 0 ? c : NULL;
    }
}

void shim_workload_exit(struct shim *shim, int wait_status)
{
    if (!shim->failed) {
        /* Also when it ended before its start: isola died or was told to stop. */
        shim->status.exit_code = exit_code_of(wait_status);
        /* A workload that a signal ended is told by the machine's own exit code. */
        if (WIFSIGNALED(wait_status) && str_eq(shim->options->wall, vm_wall.name)) {
            shim->status.reason = STATUS_REASON_MACHINE_KILLED;
        }
    }
    shim_report_read(shim);
    /* Before anybody hears of the end: the next start wants the ports. */
    if (shim->proxy != NULL) {
        shim_proxy_stop(shim->proxy);
    }
    shim_io_drain(shim);
    shim->phase = SHIM_PHASE_EXITED;
    shim->status.finished_ns = clock_realtime_ns();
    shim->status.lost_output = shim->log.lost;
    loop_remove(TAKE_PTR(shim->health_timer));
    (void)status_write(shim->run_fd, &shim->status);
    atomic_store(&shim->shared->final, SHIM_EXITED_BIT | (uint32_t)shim->status.exit_code);
    if (atomic_load(&shim->shared->removed)) {
        shim_report_sweep(shim);
    } else {
        shim_find_reaper(shim);
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
        (void)shim_health_reap(shim, pid, status);
    }
}

/* The container is made, or could not be. */
static void on_created(struct shim *shim)
{
    const struct shim_build *build = &shim->shared->create;
    if (build->error != 0) {
        shim->failed = true;
        shim->phase = SHIM_PHASE_EXITED;
        fail(shim, build);
        if (shim->awaited == 0) {
            loop_quit(shim->loop, 1);
        }
        return;
    }
    shim->status.pid = build->pid;
    shim->status.pid_start = build->start_time;
    shim->process_fd = pidfd_open_pid(build->pid);
    shim->phase = shim->status.started_ns != 0 ? SHIM_PHASE_RUNNING : SHIM_PHASE_CREATED;
    struct err err = ERR_NONE;
    int r = shim_io_start(shim);
    r = r < 0 ? r : shim_report_watch(shim);
    if (r == 0) {
        r = status_write(shim->run_fd, &shim->status);
    }
    if (r < 0) {
        shim->failed = true;
        shim->status.exit_code = 125;
        (void)err_set(&err, -r, "watch the workload");
        shim_client_tell(shim, SHIM_FAILED, 125, &err, sizeof(err));
        (void)pidfd_signal(shim->process_fd, SIGKILL);
        return;
    }
    if (shim->phase == SHIM_PHASE_CREATED) {
        shim_client_tell(shim, SHIM_CREATED, (uint32_t)shim->status.pid, NULL, 0);
        if (atomic_load(&shim->shared->start_asked)) {
            shim_start(shim);
        }
    } else {
        (void)shim_dns_start(shim, &err);
        if (atomic_load(&shim->shared->exited) == 0) {
            (void)shim_proxy_serve(shim, &err);
        }
        (void)shim_health_start(shim);
    }
}

/* What the waiter has noted. */
static void look(struct shim *shim)
{
    if (shim->phase == SHIM_PHASE_BUILDING && atomic_load(&shim->shared->created)) {
        on_created(shim);
    }
    uint64_t exited = atomic_load(&shim->shared->exited);
    bool live = shim->phase == SHIM_PHASE_CREATED || shim->phase == SHIM_PHASE_RUNNING;
    if (live && exited != 0 && shim->awaited == 0) {
        shim_workload_exit(shim, (int)(uint32_t)exited);
    }
}

static void on_wake(struct loop_source *source, int fd, uint32_t events, void *data)
{
    uint64_t count;
    (void)source;
    (void)events;
    (void)!read(fd, &count, sizeof(count));
    look(data);
}

static void waiter_is_gone(struct shim *shim)
{
    look(shim);
    if (shim->phase == SHIM_PHASE_BUILDING) {
        struct err err = ERR_NONE;
        (void)err_say(&err, ECHILD, "isola-shim was killed");
        shim_client_tell(shim, SHIM_FAILED, 125, &err, sizeof(err));
        loop_quit(shim->loop, 1);
    } else if (shim->phase != SHIM_PHASE_EXITED) {
        shim_orphan_start(shim);
    }
}

static void on_waiter_end(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)fd;
    (void)events;
    loop_remove(source);
    waiter_is_gone(data);
}

/* Everybody is back, or nobody else is waited for. */
static void settle(struct shim *shim)
{
    uint32_t missing = shim->awaited;
    shim->awaited = 0;
    loop_remove(TAKE_PTR(shim->awaited_timer));
    if ((missing & SHIM_STARTER) != 0 && shim->phase == SHIM_PHASE_CREATED &&
        !atomic_load(&shim->shared->start_asked)) {
        (void)pidfd_signal(shim->process_fd, SIGKILL);
    }
    if ((missing & SHIM_INPUT) != 0) {
        shim_io_end_input(shim);
    }
    if (shim->phase == SHIM_PHASE_EXITED) {
        shim_find_reaper(shim);
        if (shim->shared->create.error != 0) {
            loop_quit(shim->loop, 1);
        }
        shim_end(shim);
        return;
    }
    (void)shim_io_go_on(shim);
    look(shim);
}

static void on_awaited_timeout(struct loop_source *timer, void *data)
{
    (void)timer;
    settle(data);
}

void shim_client_is_back(struct shim *shim, uint32_t roles)
{
    if (shim->awaited != 0) {
        shim->awaited &= ~roles;
        if (shim->awaited == 0) {
            settle(shim);
        }
    }
}

static int open_log(struct shim *shim)
{
    const struct shim_options *o = shim->options;
    if (o->log_dir == NULL) {
        return 0;
    }
    AUTO(closep) int dir = open(o->log_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    shim->log_dir_fd = TAKE_FD(dir);
    return shim->log_dir_fd < 0 ? -errno
                                : log_writer_open(&shim->log, shim->log_dir_fd, o->log_max_size,
                                                  (int)o->log_max_files, &shim->shared->log);
}

static int set_up(struct shim *shim)
{
    int r = loop_new(&shim->loop);
    if (r == 0) {
        r = loop_add_signal(shim->loop, SIGCHLD, on_child, shim);
    }
    if (r == 0 && !shim->successor) {
        (void)close_fd((int)shim->options->rootfs_fd);
        r = shim_client_add(shim, (int)shim->options->control_fd, SHIM_STARTER);
        atomic_store(&shim->shared->roles, (uint32_t)SHIM_STARTER);
    }
    if (r == 0 && shim->waiter_fd >= 0) {
        r = loop_add_fd(shim->loop, shim->waiter_fd, EPOLLIN, on_waiter_end, shim, NULL);
    }
    if (r == 0 && shim->wake_fd >= 0) {
        r = loop_add_fd(shim->loop, shim->wake_fd, EPOLLIN, on_wake, shim, NULL);
    }
    if (r == 0 && shim->run_fd >= 0 && shim->phase != SHIM_PHASE_EXITED) {
        r = open_log(shim);
    }
    return r < 0 || shim->listen_fd < 0 ? r : shim_client_listen(shim);
}

/* Goes on where the worker before has died. False when there is nothing to do any more. */
static bool take_over(struct shim *shim)
{
    struct stat st;
    struct workload_status before;
    if (!shim->successor) {
        return true;
    }
    uint64_t final = atomic_load(&shim->shared->final);
    bool wanted = final != 0 && shim_tail_is_used(shim) &&
                  (atomic_load(&shim->shared->roles) & SHIM_WATCH) != 0;
    if (shim->run_fd >= 0 && (fstat(shim->run_fd, &st) < 0 || st.st_nlink == 0) && !wanted) {
        return false; /* the workload was removed */
    }
    if (shim->run_fd >= 0 && status_read(shim->run_fd, &before) == 0) {
        shim->status = before;
    }
    if (final != 0) {
        shim->status.exit_code = (int)(uint32_t) final;
    }
    shim->phase =
        final != 0 || shim->status.finished_ns != 0 ? SHIM_PHASE_EXITED : SHIM_PHASE_BUILDING;
    shim->input_ended = atomic_load(&shim->shared->input_ended);
    shim->awaited = atomic_load(&shim->shared->roles) & ~(unsigned)SHIM_RESUME;
    if (atomic_load(&shim->shared->start_asked) && shim->status.started_ns != 0) {
        shim->awaited &= ~(unsigned)SHIM_STARTER;
    }
    if (shim->input_fd < 0 || shim->input_ended) {
        shim->awaited &= ~(unsigned)SHIM_INPUT;
    }
    return true;
}

int shim_worker(struct shim *shim)
{
    (void)sigprocmask(SIG_UNBLOCK, &(sigset_t){{~0UL}}, NULL);
    shim->waiter_fd = pidfd_open_pid(shim->waiter_pid);
    if (getppid() != shim->waiter_pid) {
        shim->waiter_fd = close_fd(shim->waiter_fd); /* of another: ours is gone already */
    }
    if (!take_over(shim)) {
        return 1;
    }
    shim->status.shim_pid = shim->waiter_pid;
    shim->status.worker_pid = getpid();
    (void)process_start_time(shim->waiter_pid, &shim->status.shim_start);
    (void)process_start_time(getpid(), &shim->status.worker_start);
    int r = set_up(shim);
    if (r < 0) {
        struct shim_build build = {.error = -r};
        (void)err_set(&build.err, -r, "set up the shim in '%s'", shim->options->run_dir);
        fail(shim, &build);
        return 1;
    }
    if (shim->awaited != 0) {
        r = loop_add_timer(shim->loop, AWAIT_NS, on_awaited_timeout, shim, &shim->awaited_timer);
    } else if (shim->phase == SHIM_PHASE_EXITED) {
        shim_end(shim);
    }
    if (shim->waiter_fd < 0) {
        waiter_is_gone(shim);
    } else {
        look(shim);
    }
    return r < 0 ? 1 : loop_run(shim->loop);
}
