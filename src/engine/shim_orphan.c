/*
 * The worker alone: the waiter was killed. The workload dies with it (its parent-death signal), and
 * the worker writes down what the pipes hold and how the first process ended.
 *
 * Its parent is now process 1 or another subreaper. What it ended with, if that was before the
 * waiter could note it, stands in /proc until that one reaps it; then the kernel tells through a
 * pidfd, from Linux 6.15 on.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/process.h"
#include "engine/shim.h"

#define LOOK_AGAIN_NS (5 * NS_PER_MS)
/* So often, 50 ms, after its end: then the kernel does not tell. */
#define TRIES 10
/* What a workload is said to have ended with when nobody knows: 128 + SIGKILL. */
#define STATUS_UNKNOWN SIGKILL

/* linux/pidfd.h of 6.15: the first published size of struct pidfd_info. */
struct process_info {
    uint64_t mask;
    uint64_t cgroupid;
    uint32_t pid, tgid, ppid;
    uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
};
_Static_assert(sizeof(struct process_info) == 64, "PIDFD_INFO_SIZE_VER0");

#define PROCESS_INFO_EXIT (1ULL << 3)
#define PROCESS_GET_INFO _IOWR(0xff, 11, struct process_info)

/* 0 and the wait status once the process is reaped; -ENODATA before, or a negative errno. */
static int exit_status_of(int pidfd, int *ret_status)
{
    struct process_info info = {.mask = PROCESS_INFO_EXIT};
    if (ioctl(pidfd, PROCESS_GET_INFO, &info) < 0) {
        return -errno;
    }
    if ((info.mask & PROCESS_INFO_EXIT) == 0) {
        return -ENODATA;
    }
    *ret_status = info.exit_code;
    return 0;
}

/* The same of a process that nobody has reaped yet: the last field of its stat file. */
static int zombie_status_of(const struct workload_status *process, int *ret_status)
{
    char path[64];
    char text[1024];
    uint64_t start = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)process->pid);
    AUTO(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    /* The file that was read is this process's: a pid is not given again before it is reaped. */
    if (n <= 0 || process_start_time(process->pid, &start) < 0 || start != process->pid_start) {
        return -ENODATA;
    }
    text[n] = '\0';
    const char *state = strrchr(text, ')');
    const char *last = strrchr(text, ' ');
    if (state == NULL || !str_starts(state, ") Z") || last == NULL) {
        return -ENODATA;
    }
    return sscanf(last, "%d", ret_status) == 1 ? 0 : -ENODATA;
}

static bool is_dead(int pidfd)
{
    struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};
    return pidfd < 0 || poll(&poll_fd, 1, 0) > 0;
}

static void on_timer(struct loop_source *timer, void *data)
{
    struct shim *shim = data;
    int status = STATUS_UNKNOWN;
    bool dead = is_dead(shim->process_fd);
    uint64_t exited = atomic_load(&shim->shared->exited);
    int r = -ENODATA;
    if (exited != 0) {
        status = (int)(uint32_t)exited;
        r = 0;
    } else if (dead && shim->process_fd >= 0) {
        r = zombie_status_of(&shim->status, &status);
        r = r == 0 ? r : exit_status_of(shim->process_fd, &status);
    }
    shim->process_tries++;
    if (dead && (r == 0 || shim->process_tries > TRIES)) {
        loop_remove(timer);
        bool killed = r < 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        if (killed && exited == 0) {
            shim->status.reason = STATUS_REASON_WAITER_KILLED;
        }
        shim_workload_exit(shim, r < 0 ? STATUS_UNKNOWN : status);
        return;
    }
    /* A frozen process (cgroup v1) dies when it thaws. */
    (void)loop_timer_set(timer, LOOK_AGAIN_NS * (shim->process_tries > 100 ? 20 : 1));
}

void shim_orphan_start(struct shim *shim)
{
    /* It may have changed its credentials, which clears the parent-death signal. */
    (void)pidfd_signal(shim->process_fd, SIGKILL);
    (void)loop_add_timer(shim->loop, 0, on_timer, shim, &shim->process_timer);
}
