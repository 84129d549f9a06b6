/* The waiter: parent of the first process and of the workers, holder of the workload's stdio. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/process.h"
#include "engine/shim.h"

/* More workers than this in so short a time are enough. */
#define WORKERS_MAX 10
#define WORKERS_NS NS_PER_SEC
/* How long a killed workload is waited for: a frozen one (cgroup v1) dies when it thaws. */
#define KILL_WAIT_MS 1000

struct waiter {
    struct shim *shim;
    pid_t worker;
    int64_t forks_ns[WORKERS_MAX]; /* when the last ones were made, a ring */
    size_t fork_count;
    bool leave;
};

static void wake_worker(const struct shim *shim)
{
    const uint64_t one = 1;
    (void)!write(shim->wake_fd, &one, sizeof(one));
}

static void kill_workload(const struct shim *shim)
{
    const struct shim_shared *shared = shim->shared;
    if (shared->create.pid > 0 && atomic_load(&shared->exited) == 0) {
        (void)kill(shared->create.pid, SIGKILL);
    }
}

static void fork_worker(struct waiter *waiter, struct shim_build_fds *fds)
{
    waiter->forks_ns[waiter->fork_count++ % WORKERS_MAX] = clock_monotonic_ns();
    pid_t pid = fork();
    while (pid < 0) {
        const struct timespec wait = {.tv_nsec = 20 * NS_PER_MS};
        (void)nanosleep(&wait, NULL);
        pid = fork();
    }
    if (pid == 0) {
        if (fds != NULL) {
            shim_build_fds_done(fds);
        }
        _exit(shim_worker(waiter->shim));
    }
    waiter->worker = pid;
    waiter->shim->successor = true;
}

/* No worker stays alive: ends the run without one. */
static void give_up(struct waiter *waiter)
{
    struct shim *shim = waiter->shim;
    struct workload_status status = {0};
    uint64_t exited = atomic_load(&shim->shared->exited);
    waiter->leave = true;
    kill_workload(shim);
    if (status_read(shim->run_fd, &status) < 0 || status.finished_ns != 0) {
        return;
    }
    int wait_status = exited != 0 ? (int)(uint32_t)exited : SIGKILL;
    for (int i = 0; i < KILL_WAIT_MS && exited == 0; i++) {
        const struct timespec wait = {.tv_nsec = NS_PER_MS};
        if (waitpid(shim->shared->create.pid, &wait_status, WNOHANG) != 0) {
            break;
        }
        (void)nanosleep(&wait, NULL);
    }
    status.exit_code = exit_code_of(wait_status);
    status.finished_ns = clock_realtime_ns();
    status.reason = exited == 0 ? STATUS_REASON_WORKERS_DIE : STATUS_REASON_NONE;
    (void)status_write(shim->run_fd, &status);
    shim_spawn_reap(shim->options);
}

static void on_worker_end(struct waiter *waiter, int wait_status)
{
    int64_t oldest = waiter->forks_ns[waiter->fork_count % WORKERS_MAX];
    if (WIFEXITED(wait_status)) {
        waiter->leave = true;
        return;
    }
    if (waiter->fork_count >= WORKERS_MAX && clock_monotonic_ns() - oldest < WORKERS_NS) {
        give_up(waiter);
        return;
    }
    fork_worker(waiter, NULL);
}

static int wait_status_of(const siginfo_t *info)
{
    return info->si_code == CLD_EXITED ? info->si_status << 8
                                       : info->si_status | (info->si_code == CLD_DUMPED ? 0x80 : 0);
}

static void reap(struct waiter *waiter)
{
    struct shim_shared *shared = waiter->shim->shared;
    while (!waiter->leave) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0) {
            return;
        }
        /* First noted, then reaped: killed between the two, we leave a status behind in any case.
         */
        int status = wait_status_of(&info);
        if (info.si_pid == shared->create.pid && atomic_load(&shared->exited) == 0) {
            atomic_store(&shared->exited, SHIM_EXITED_BIT | (uint32_t)status);
            wake_worker(waiter->shim);
        }
        (void)waitpid(info.si_pid, NULL, 0);
        if (info.si_pid == waiter->worker) {
            on_worker_end(waiter, status);
        }
        /* Else a process that the workload orphaned. */
    }
}

static void serve(struct waiter *waiter, const sigset_t *signals)
{
    struct shim *shim = waiter->shim;
    while (!waiter->leave) {
        if (atomic_load(&shim->shared->input_ended) && !shim->options->tty) {
            shim->input_fd = close_fd(shim->input_fd);
        }
        reap(waiter);
        if (!waiter->leave) {
            (void)sigwaitinfo(signals, NULL);
        }
    }
    kill_workload(shim);
}

static int open_all(struct shim *shim)
{
    shim->run_fd = open(shim->options->run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (shim->run_fd < 0) {
        return err_set(&shim->shared->create.err, errno, "open '%s'", shim->options->run_dir);
    }
    shim->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    shim->tail_fd = memfd_create("tail", MFD_CLOEXEC);
    return shim->wake_fd < 0 || shim->tail_fd < 0
               ? err_set(&shim->shared->create.err, errno, "set up isola-shim")
               : 0;
}

/* The container and the first worker; the worker sets itself up while the builder works. */
static void begin(struct waiter *waiter)
{
    struct shim *shim = waiter->shim;
    struct shim_shared *shared = shim->shared;
    AUTO(shim_build_fds_donep) struct shim_build_fds fds = SHIM_BUILD_FDS_INIT;
    pid_t builder = 0;
    int listening = 0;
    int r = open_all(shim);
    if (r == 0) {
        r = shim_build_create(shim, &fds, &builder);
    }
    if (r == 0) {
        r = shim_client_open(shim);
        listening = r;
    }
    if (builder > 0) {
        int status = 0;
        if (!shim->options->tty) {
            fork_worker(waiter, &fds);
        }
        (void)process_wait(builder, &status);
        shim_build_finish(&shared->create, status);
        r = shared->create.error != 0 ? -shared->create.error : shim_build_receive(shim, &fds);
        r = r == 0 ? listening : r;
    }
    if (r < 0 && shared->create.error == 0) {
        (void)err_set(&shared->create.err, -r, "make the workload's stdio and shim.sock");
        shared->create.error = -r;
    }
    if (r < 0) {
        kill_workload(shim);
    }
    atomic_store(&shared->created, true);
    if (waiter->worker == 0) {
        fork_worker(waiter, &fds);
    } else {
        wake_worker(shim);
    }
    (void)close_fd((int)shim->options->control_fd);
    (void)close_fd((int)shim->options->rootfs_fd);
}

int shim_main(const struct shim_options *options)
{
    struct shim shim = {
        .options = options,
        .waiter_pid = getpid(),
        .run_fd = -1,
        .start_fd = -1,
        .wake_fd = -1,
        .scratch = {-1, -1},
        .tail_fd = -1,
        .files_fd = -1,
        .report_fd = -1,
        .waiter_fd = -1,
        .process_fd = -1,
        .input_fd = -1,
        .output_fd = {-1, -1},
        .listen_fd = -1,
        .log_dir_fd = -1,
        .log = {.fd = -1},
    };
    struct waiter waiter = {.shim = &shim};
    sigset_t signals;
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGCHLD);
    (void)sigaddset(&signals, SIGUSR1);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    shim.shared =
        mmap(NULL, sizeof(*shim.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shim.shared == MAP_FAILED) {
        return 1;
    }
    begin(&waiter);
    serve(&waiter, &signals);
    /* Our descriptors end with us; freeing what the exit frees anyway would cost the run time. */
    return shim.shared->create.error != 0 ? 1 : 0;
}
