/*
 * Builders: forked children that make and start the container. All memory that this takes, and
 * every descriptor it might leave, ends with the child.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"
#include "base/process.h"
#include "base/unix_socket.h"
#include "engine/shim.h"
#include "wall/wall.h"

uint32_t shim_build_exit_code(const struct shim_build *build)
{
    if (!build->exec_failed) {
        return 125;
    }
    return build->error == ENOENT || build->error == ENOTDIR ? 127 : 126;
}

void shim_build_finish(struct shim_build *build, int wait_status)
{
    if (atomic_load(&build->done)) {
        return;
    }
    build->error = ECHILD;
    (void)err_say(&build->err, ECHILD, "the builder died (%s %d)",
                  WIFSIGNALED(wait_status) ? "signal" : "exit code",
                  WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status));
}

void shim_build_fds_done(struct shim_build_fds *fds)
{
    for (int i = 0; i < 3; i++) {
        fds->stdio[i] = close_fd(fds->stdio[i]);
    }
    fds->console[0] = close_fd(fds->console[0]);
    fds->console[1] = close_fd(fds->console[1]);
    fds->start = close_fd(fds->start);
    fds->files = close_fd(fds->files);
    fds->report = close_fd(fds->report);
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

static int open_stdio(struct shim *shim, struct shim_build_fds *fds)
{
    int start[2];
    int files[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, start) < 0) {
        return -errno;
    }
    shim->start_fd = start[0];
    fds->start = start[1];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, files) < 0) {
        return -errno;
    }
    shim->files_fd = files[0];
    fds->files = files[1];
    const struct wall *wall;
    if (wall_find(shim->options->wall, &wall, NULL) == 0 && wall->reports) {
        int made = make_pipe(&shim->report_fd, &fds->report, true);
        if (made < 0) {
            return made;
        }
    }
    if (shim->options->tty) {
        return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds->console) < 0 ? -errno : 0;
    }
    int r = 0;
    if (shim->options->keep_stdin) {
        r = make_pipe(&shim->input_fd, &fds->stdio[0], false);
    } else {
        fds->stdio[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        r = fds->stdio[0] < 0 ? -errno : 0;
    }
    for (int i = 0; i < 2 && r == 0; i++) {
        r = make_pipe(&shim->output_fd[i], &fds->stdio[i + 1], true);
    }
    return r < 0 ? r : make_pipe(&shim->scratch[0], &shim->scratch[1], true);
}

/* The pty's master serves both ways; two descriptors, so that each has its own source. */
int shim_build_receive(struct shim *shim, struct shim_build_fds *fds)
{
    if (!shim->options->tty) {
        return 0;
    }
    char data[256];
    int master[1];
    size_t count = COUNT(master);
    fds->console[1] = close_fd(fds->console[1]);
    ssize_t n = unix_recv_fds(fds->console[0], data, sizeof(data), master, &count);
    if (n < 0 || count != 1) {
        return n < 0 ? (int)n : -EPROTO;
    }
    shim->output_fd[0] = master[0];
    if (shim->options->keep_stdin) {
        shim->input_fd = fcntl(master[0], F_DUPFD_CLOEXEC, 3);
    }
    return 0;
}

static _Noreturn void build_create(struct shim *shim, const struct shim_build_fds *fds)
{
    const struct shim_options *options = shim->options;
    struct shim_build *build = &shim->shared->create;
    const struct wall *wall;
    (void)sigprocmask(SIG_UNBLOCK, &(sigset_t){{~0UL}}, NULL);
    shim_close_ends(shim);
    (void)close_fd((int)options->control_fd);
    (void)close_fd(fds->console[0]);
    (void)close_fd(shim->start_fd);
    int r = wall_find(options->wall, &wall, &build->err);
    if (r == 0) {
        struct container_process process = {.pidfd = -1};
        struct wall_create create = {
            .root = options->containers_dir,
            .id = options->id,
            .bundle = options->run_dir,
            .rootfs_fd = (int)options->rootfs_fd,
            .io = CONTAINER_IO_INIT,
            .start_fd = fds->start,
            .copies_fd = fds->files,
            .report_fd = fds->report,
        };
        for (int i = 0; i < 3; i++) {
            create.io.stdio[i] = fds->stdio[i];
        }
        create.io.console_fd = fds->console[1];
        create.io.adopt = true;
        create.io.parent_death_signal = SIGKILL;
        r = wall->create(&create, &process, &build->exec_failed, &build->err);
        build->pid = process.pid;
        build->start_time = process.start_time;
    }
    build->error = -r;
    atomic_store(&build->done, true);
    _exit(0);
}

int shim_build_create(struct shim *shim, struct shim_build_fds *fds, pid_t *ret_pid)
{
    int r = open_stdio(shim, fds);
    if (r < 0) {
        return err_set(&shim->shared->create.err, -r, "make the workload's stdio");
    }
    pid_t pid = fork();
    if (pid == 0) {
        build_create(shim, fds);
    }
    if (pid < 0) {
        return err_set(&shim->shared->create.err, errno, "make the builder");
    }
    *ret_pid = pid;
    return 0;
}

/* It dies with the worker, so that two never wait for the first process's answer. */
static _Noreturn void build_start(const struct shim *shim, struct shim_build *build)
{
    const struct wall *wall;
    pid_t worker = shim->status.worker_pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)sigprocmask(SIG_UNBLOCK, &(sigset_t){{~0UL}}, NULL);
    if (getppid() != worker) {
        _exit(1);
    }
    int r = wall_find(shim->options->wall, &wall, &build->err);
    if (r == 0) {
        r = wall->start(shim->options->containers_dir, shim->options->id, shim->start_fd,
                        &build->exec_failed, &build->err);
    }
    build->error = -r;
    atomic_store(&build->done, true);
    _exit(0);
}

void shim_build_start(struct shim *shim, struct shim_build *ret)
{
    struct shim_build *build = &shim->shared->start;
    int status = 0;
    *build = (struct shim_build){.error = 0};
    pid_t pid = fork();
    if (pid == 0) {
        build_start(shim, build);
    }
    int r = pid < 0 ? -errno : process_wait(pid, &status);
    if (r < 0) {
        (void)err_set(&build->err, -r, "start");
        build->error = -r;
    } else {
        shim_build_finish(build, status);
    }
    *ret = *build;
}
