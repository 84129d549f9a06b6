#include "container/birth.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"
#include "base/process.h"
#include "container/kernel.h"

static pid_t clone_once(const struct birth *birth, bool as_sibling, int *ret_pidfd,
                        bool *ret_in_cgroup)
{
    int pidfd = -1;
    struct clone_args args = {
        .flags = birth->flags | CLONE_PIDFD | (as_sibling ? CLONE_PARENT : 0),
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        .exit_signal = as_sibling ? 0 : SIGCHLD, /* a sibling takes over ours */
    };
    *ret_in_cgroup = birth->cgroup_fd >= 0;
    if (birth->cgroup_fd >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)birth->cgroup_fd;
    }
    pid_t pid = sys_clone3(&args);
    if (pid < 0 && birth->cgroup_fd >= 0 &&
        (errno == EINVAL || errno == EBUSY || errno == EACCES || errno == EOPNOTSUPP)) {
        args.flags &= ~CLONE_INTO_CGROUP;
        args.cgroup = 0;
        *ret_in_cgroup = false;
        pid = sys_clone3(&args);
    }
    if (pid > 0) {
        *ret_pidfd = pidfd;
    }
    return pid < 0 ? -errno : pid;
}

/* New children go into another namespace until the guard ends; the caller itself stays. */
struct detour {
    int fd; /* the namespace to go back to, or -1 */
    int flag;
};

static void detour_end(struct detour *detour)
{
    if (detour->fd >= 0) {
        (void)setns(detour->fd, detour->flag);
        detour->fd = close_fd(detour->fd);
    }
}

static int enter_pid_namespace(const struct birth *birth, struct detour *detour, struct err *err)
{
    /* With a user namespace to join the helper does it, who stays in ours: it tells the pid. */
    if (birth->pid_fd < 0 || birth->user_fd >= 0) {
        return 0;
    }
    int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    if (own < 0) {
        return err_set(err, errno, "open '/proc/self/ns/pid'");
    }
    if (setns(birth->pid_fd, CLONE_NEWPID) < 0) {
        int r = err_set(err, errno, "join the pid namespace");
        (void)close_fd(own);
        return r;
    }
    *detour = (struct detour){.fd = own, .flag = CLONE_NEWPID};
    return 0;
}

static int make_time_namespace(const struct birth *birth, struct detour *detour, struct err *err)
{
    if (birth->time_offsets == NULL) {
        return 0;
    }
    int own = open("/proc/self/ns/time", O_RDONLY | O_CLOEXEC);
    if (own < 0) {
        return err_set(err, errno, "linux.namespaces: the kernel has no time namespaces");
    }
    *detour = (struct detour){.fd = own, .flag = CLONE_NEWTIME};
    if (unshare(CLONE_NEWTIME) < 0) {
        return err_set(err, errno, "linux.namespaces: new time namespace");
    }
    int r = birth->time_offsets[0] == '\0'
                ? 0
                : write_file("/proc/self/timens_offsets", birth->time_offsets);
    return r < 0 ? err_set(err, -r, "linux.timeOffsets") : 0;
}

struct go_between {
    pid_t pid;
    int in_cgroup;
    int code;
};

/* In the helper: joins the user namespace and bears the process. Returns 0 in the new process. */
static pid_t bear_in_user_namespace(const struct birth *birth, int report_fd)
{
    int pidfd = -1;
    bool in_cgroup = false;
    struct go_between report = {.pid = -1};
    /* The right to the pid namespace may be ours, or lie in the user namespace. */
    bool pid_later = birth->pid_fd >= 0 && setns(birth->pid_fd, CLONE_NEWPID) < 0;
    if (setns(birth->user_fd, CLONE_NEWUSER) < 0 ||
        (pid_later && setns(birth->pid_fd, CLONE_NEWPID) < 0)) {
        report.code = errno;
    } else {
        /* adopt: the new process is ours, and when we leave it goes to the subreaper above. */
        pid_t pid = clone_once(birth, !birth->adopt, &pidfd, &in_cgroup);
        if (pid == 0) {
            return 0;
        }
        report = (struct go_between){
            .pid = pid, .in_cgroup = in_cgroup, .code = pid < 0 ? (int)-pid : 0};
    }
    (void)write_full(report_fd, &report, sizeof(report));
    _exit(0);
}

static pid_t birth_by_helper(const struct birth *birth, int *ret_pidfd, bool *ret_in_cgroup,
                             struct err *err)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0) {
        return err_set(err, errno, "make a pipe");
    }
    AUTO(closep) int read_fd = fds[0];
    AUTO(closep) int write_fd = fds[1];
    struct clone_args args = {.exit_signal = SIGCHLD};
    pid_t helper = sys_clone3(&args);
    if (helper < 0) {
        return err_set(err, errno, "fork");
    }
    if (helper == 0) {
        return bear_in_user_namespace(birth, write_fd);
    }
    write_fd = close_fd(write_fd);
    struct go_between report = {0};
    int r = read_full(read_fd, &report, sizeof(report));
    int status;
    (void)process_wait(helper, &status);
    if (r < 0 || report.pid <= 0) {
        return err_set(err, r < 0 ? -r : report.code, "make a process in the user namespace");
    }
    int pidfd = pidfd_open_pid(report.pid);
    if (pidfd < 0) {
        return err_set(err, -pidfd, "open the first process");
    }
    *ret_pidfd = pidfd;
    *ret_in_cgroup = report.in_cgroup != 0;
    return report.pid;
}

pid_t birth_process(const struct birth *birth, int *ret_pidfd, bool *ret_in_cgroup, struct err *err)
{
    AUTO(detour_end) struct detour pid_detour = {.fd = -1};
    AUTO(detour_end) struct detour time_detour = {.fd = -1};
    int r = enter_pid_namespace(birth, &pid_detour, err);
    r = r < 0 ? r : make_time_namespace(birth, &time_detour, err);
    if (r < 0) {
        return r;
    }
    pid_t pid;
    if (birth->user_fd >= 0) {
        pid = birth_by_helper(birth, ret_pidfd, ret_in_cgroup, err);
    } else {
        pid = clone_once(birth, birth->adopt, ret_pidfd, ret_in_cgroup);
        if (pid < 0) {
            (void)err_set(err, (int)-pid, "make the process and its namespaces");
            if (pid == -ENOSPC) {
                err_hint(err, "see the limits in /proc/sys/user/max_*_namespaces");
            }
        }
    }
    if (pid == 0) {
        /* The new process stays where it was born. */
        pid_detour.fd = close_fd(pid_detour.fd);
        time_detour.fd = close_fd(time_detour.fd);
    }
    return pid;
}
