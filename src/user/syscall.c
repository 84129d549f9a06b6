#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/macros.h"
#include "user/host_call.h"
#include "user/signals.h"
#include "user/user.h"

#define SYSCALL_MAX 512u

/* Numbers of the guest. */
enum {
#define SAME(number, name) GUEST_##name = (number),
#define OURS(number, name) GUEST_##name = (number),
#include "user/syscall_table.inc"
#undef SAME
#undef OURS
};

static const struct {
    const char *name;
    int host; /* -1: done here */
} calls[SYSCALL_MAX] = {
#define SAME(number, name) [number] = {#name, SYS_##name},
#define OURS(number, name) [number] = {#name, -1},
#include "user/syscall_table.inc"
#undef SAME
#undef OURS
};

static int64_t get_uname(uint64_t at)
{
    struct utsname name;
    if (uname(&name) < 0) {
        return -errno;
    }
    (void)strcpy(name.machine, "aarch64");
    memcpy(user_pointer(at), &name, sizeof(name));
    return 0;
}

/* By the C library, which asks no kernel for the clocks that the host's vdso has. */
static int64_t get_clock(const uint64_t *a)
{
    struct timespec now;
    if (clock_gettime((clockid_t)a[0], &now) < 0) {
        return -errno;
    }
    memcpy(user_pointer(a[1]), &now, sizeof(now));
    return 0;
}

static int64_t get_time_of_day(const uint64_t *a)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (a[0] != 0) {
        const struct timeval value = {.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
        memcpy(user_pointer(a[0]), &value, sizeof(value));
    }
    if (a[1] != 0) {
        struct timezone zone;
        if (syscall(SYS_gettimeofday, NULL, &zone) < 0) {
            return -errno;
        }
        memcpy(user_pointer(a[1]), &zone, sizeof(zone));
    }
    return 0;
}

/* The rights of a speculative or tagged CPU are none that this one has. */
static int64_t control_process(const uint64_t *a)
{
    long r;
    switch (a[0]) {
    case PR_SET_SECCOMP: /* filters would see the host's calls */
    case PR_SET_MM:
        return -EINVAL;
    default:
        r = syscall(SYS_prctl, a[0], a[1], a[2], a[3], a[4]);
        return r < 0 ? -errno : r;
    }
}

static int64_t leave(struct thread *thread, uint64_t code)
{
    thread->ended = true;
    thread->exit_code = (int)(code & 0xff);
    return 0;
}

static int64_t set_robust_list(struct thread *thread, uint64_t head, uint64_t len)
{
    if (len != 24) {
        return -EINVAL;
    }
    thread->robust_list = head;
    return 0;
}

/* Of the calling thread alone: others' are in no struct of ours that could be found by an id. */
static int64_t get_robust_list(const struct thread *thread, const uint64_t *a)
{
    const uint64_t len = 24;
    if (a[0] != 0 && a[0] != (uint64_t)syscall(SYS_gettid)) {
        return -EPERM;
    }
    memcpy(user_pointer(a[1]), &thread->robust_list, sizeof(thread->robust_list));
    memcpy(user_pointer(a[2]), &len, sizeof(len));
    return 0;
}

static int64_t set_tid_address(struct thread *thread, uint64_t at)
{
    thread->clear_tid = at;
    return syscall(SYS_gettid);
}

static int64_t call_here(struct thread *thread, uint64_t number, const uint64_t *a)
{
    struct user *user = thread->user;
    switch (number) {
    case GUEST_openat:
        return file_openat(thread, a);
    case GUEST_openat2:
        return file_openat2(thread, a);
    case GUEST_fcntl:
        return file_fcntl(thread, a);
    case GUEST_fstat:
        return file_fstat(user, a);
    case GUEST_newfstatat:
        return file_newfstatat(user, a);
    case GUEST_statx:
        return file_statx(user, a);
    case GUEST_faccessat:
        return file_faccessat(user, a);
    case GUEST_faccessat2:
        return file_faccessat2(user, a);
    case GUEST_readlinkat:
        return file_readlinkat(user, a);
    case GUEST_epoll_ctl:
        return file_epoll_ctl(user, a);
    case GUEST_epoll_pwait:
        return file_epoll_pwait(thread, a);
    case GUEST_epoll_pwait2:
        return file_epoll_pwait2(thread, a);
    case GUEST_semctl:
        return ipc_semctl(a);
    case GUEST_shmat:
        return ipc_shmat(user, a);
    case GUEST_execveat:
        return process_execveat(thread, a);
    case GUEST_exit:
        return leave(thread, a[0]);
    case GUEST_exit_group:
        user_end(user, (int)(a[0] & 0xff));
    case GUEST_set_tid_address:
        return set_tid_address(thread, a[0]);
    case GUEST_set_robust_list:
        return set_robust_list(thread, a[0], a[1]);
    case GUEST_get_robust_list:
        return get_robust_list(thread, a);
    case GUEST_brk:
        return memory_brk(user, a[0]);
    case GUEST_mmap:
        return memory_mmap(user, a[0], a[1], (int)a[2], (int)a[3], (int)a[4], (int64_t)a[5]);
    case GUEST_munmap:
        return memory_munmap(user, a[0], a[1]);
    case GUEST_mprotect:
        return memory_mprotect(user, a[0], a[1], (int)a[2]);
    case GUEST_mremap:
        return memory_mremap(user, a[0], a[1], a[2], (int)a[3], a[4]);
    case GUEST_clone:
        return process_clone(thread, a);
    case GUEST_clone3:
        return process_clone3(thread, a);
    case GUEST_execve:
        return process_execve(thread, a[0], a[1], a[2]);
    case GUEST_clock_gettime:
        return get_clock(a);
    case GUEST_gettimeofday:
        return get_time_of_day(a);
    case GUEST_uname:
        return get_uname(a[0]);
    case GUEST_prctl:
        return control_process(a);
    case GUEST_rt_sigaction:
        return signals_action(user, a);
    case GUEST_rt_sigprocmask:
        return signals_mask(thread, a);
    case GUEST_sigaltstack:
        return signals_stack(thread, a);
    case GUEST_rt_sigsuspend:
        return signals_suspend(thread, a);
    default:
        return -ENOSYS;
    }
}

/* result: NULL before a call that does not return. */
static void trace(uint64_t number, const uint64_t *a, const int64_t *result)
{
    char text[24] = "?";
    if (result != NULL) {
        (void)snprintf(text, sizeof(text), "%" PRId64, *result);
    }
    const char *name =
        number < SYSCALL_MAX && calls[number].name != NULL ? calls[number].name : "?";
    (void)fprintf(stderr,
                  "%d %s[%" PRIu64 "](0x%" PRIx64 ", 0x%" PRIx64 ", 0x%" PRIx64 ", 0x%" PRIx64
                  ") = %s\n",
                  (int)syscall(SYS_gettid), name, number, a[0], a[1], a[2], a[3], text);
}

/* Interrupted, these are EINTR whatever SA_RESTART says (signal(7)). */
static bool never_restarts(uint64_t number, const uint64_t *a)
{
    switch (number) {
    case GUEST_futex:
        return a[3] != 0; /* with a timeout */
    case GUEST_nanosleep:
    case GUEST_clock_nanosleep:
    case GUEST_ppoll:
    case GUEST_pselect6:
    case GUEST_epoll_pwait:
    case GUEST_epoll_pwait2:
    case GUEST_io_getevents:
    case GUEST_io_pgetevents:
    case GUEST_msgrcv:
    case GUEST_msgsnd:
    case GUEST_semop:
    case GUEST_semtimedop:
    case GUEST_rt_sigsuspend:
    case GUEST_rt_sigtimedwait:
        return true;
    default:
        return false;
    }
}

void user_syscall(struct thread *thread)
{
    struct user *user = thread->user;
    struct arm64_state *state = emu_cpu_state(thread->cpu);
    uint64_t number = state->x[8];
    const uint64_t a[6] = {state->x[0], state->x[1], state->x[2],
                           state->x[3], state->x[4], state->x[5]};
    int64_t r = -ENOSYS;
    if (user->options->trace && number == GUEST_exit_group) {
        trace(number, a, NULL);
    }
    if (number == GUEST_rt_sigreturn) {
        signals_return(thread);
        return;
    }
    if (number >= SYSCALL_MAX || calls[number].name == NULL) {
        user->unknown_calls++;
    } else if (calls[number].host < 0) {
        r = call_here(thread, number, a);
    } else {
        r = host_call(calls[number].host, a, &thread->signals.pending);
    }
    if (r == HOST_CALL_AGAIN) {
        state->pc -= 4;
        return;
    }
    if (user->options->trace) {
        trace(number, a, &r);
    }
    if (never_restarts(number, a) || !signals_restart(thread, r)) {
        state->x[0] = (uint64_t)r;
    }
}
