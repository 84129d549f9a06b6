#include "base/process.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"
#include "base/str.h"

#define VFORK_STACK_SIZE ((size_t)256 << 10)

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

int pidfd_open_pid(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : fd;
}

int pidfd_signal(int pidfd, int signal)
{
    return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}

/* State letter and start time; the command name may hold blanks and parentheses. */
static int read_stat(pid_t pid, char *ret_state, uint64_t *ret_ticks)
{
    char path[64];
    char text[1024];
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    AUTO(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? -ESRCH : -errno;
    }
    ssize_t n = read(fd, text, sizeof(text) - 1); /* /proc gives the line in one read */
    if (n <= 0) {
        return n < 0 ? -errno : -ESRCH;
    }
    text[n] = '\0';
    const char *p = strrchr(text, ')');
    unsigned long long ticks;
    if (p == NULL ||
        sscanf(p + 1,
               " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
               ret_state, &ticks) != 2) {
        return -EBADMSG;
    }
    *ret_ticks = ticks;
    return 0;
}

int process_start_time(pid_t pid, uint64_t *ret_ticks)
{
    char state;
    return read_stat(pid, &state, ret_ticks);
}

bool process_is_alive(pid_t pid, uint64_t start_time)
{
    char state = 'X';
    uint64_t ticks = 0;
    return pid > 0 && read_stat(pid, &state, &ticks) == 0 && ticks == start_time && state != 'Z' &&
           state != 'X';
}

int process_wait(pid_t pid, int *ret_status)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    *ret_status = status;
    return 0;
}

static int each_open_fd(int first, bool close_it)
{
    AUTO(closedirp) DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL) {
        return -errno;
    }
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        uint64_t fd;
        if (parse_u64(entry->d_name, 10, &fd) < 0 || fd < (uint64_t)first ||
            (int)fd == dirfd(dir)) {
            continue;
        }
        if (close_it) {
            (void)close((int)fd);
        } else {
            (void)set_cloexec((int)fd, true);
        }
    }
    return 0;
}

pid_t process_vfork(int (*fn)(void *data), void *data)
{
#if defined(__SANITIZE_ADDRESS__)
    /* AddressSanitizer must know every stack; a copy of ours is known. */
    pid_t pid = fork();
    if (pid == 0) {
        _exit(fn(data));
    }
    return pid < 0 ? -errno : pid;
#else
    char *stack = mmap(NULL, VFORK_STACK_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) {
        return -errno;
    }
    /* A handler of ours must not run in the child: it would work on our memory. */
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, &before);
    pid_t pid = clone(fn, stack + VFORK_STACK_SIZE, CLONE_VM | CLONE_VFORK | SIGCHLD, data);
    int r = pid < 0 ? -errno : pid;
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    (void)munmap(stack, VFORK_STACK_SIZE);
    return r;
#endif
}

int close_fds_from(int first)
{
    if (syscall(SYS_close_range, first, UINT_MAX, 0) == 0) {
        return 0;
    }
    return each_open_fd(first, true);
}

int cloexec_fds_from(int first)
{
    if (syscall(SYS_close_range, first, UINT_MAX, CLOSE_RANGE_CLOEXEC) == 0) {
        return 0;
    }
    return each_open_fd(first, false);
}

void signals_reset(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int i = 1; i < NSIG; i++) {
        (void)sigaction(i, &action, NULL);
    }
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static const struct {
    const char *name;
    int number;
} signal_names[] = {
    {"SIGHUP", SIGHUP},   {"SIGINT", SIGINT},       {"SIGQUIT", SIGQUIT}, {"SIGILL", SIGILL},
    {"SIGTRAP", SIGTRAP}, {"SIGABRT", SIGABRT},     {"SIGBUS", SIGBUS},   {"SIGFPE", SIGFPE},
    {"SIGKILL", SIGKILL}, {"SIGUSR1", SIGUSR1},     {"SIGSEGV", SIGSEGV}, {"SIGUSR2", SIGUSR2},
    {"SIGPIPE", SIGPIPE}, {"SIGALRM", SIGALRM},     {"SIGTERM", SIGTERM}, {"SIGSTKFLT", SIGSTKFLT},
    {"SIGCHLD", SIGCHLD}, {"SIGCONT", SIGCONT},     {"SIGSTOP", SIGSTOP}, {"SIGTSTP", SIGTSTP},
    {"SIGTTIN", SIGTTIN}, {"SIGTTOU", SIGTTOU},     {"SIGURG", SIGURG},   {"SIGXCPU", SIGXCPU},
    {"SIGXFSZ", SIGXFSZ}, {"SIGVTALRM", SIGVTALRM}, {"SIGPROF", SIGPROF}, {"SIGWINCH", SIGWINCH},
    {"SIGIO", SIGIO},     {"SIGPWR", SIGPWR},       {"SIGSYS", SIGSYS},   {"SIGIOT", SIGABRT},
    {"SIGPOLL", SIGIO},
};

static int realtime_signal(const char *name)
{
    int64_t offset = 0;
    int base;
    if (str_starts(name, "RTMIN")) {
        base = SIGRTMIN;
    } else if (str_starts(name, "RTMAX")) {
        base = SIGRTMAX;
    } else {
        return -EINVAL;
    }
    const char *rest = name + 5;
    if (*rest == '+') {
        rest++;
    }
    if (*rest != '\0' && parse_i64(rest, &offset) < 0) {
        return -EINVAL;
    }
    if (offset < -64 || offset > 64) {
        return -EINVAL;
    }
    int number = base + (int)offset;
    return number >= SIGRTMIN && number <= SIGRTMAX ? number : -EINVAL;
}

int signal_from_name(const char *name)
{
    uint64_t number;
    if (parse_u64(name, 10, &number) == 0) {
        return number >= 1 && number < NSIG ? (int)number : -EINVAL;
    }
    char upper[16] = "SIG";
    size_t skip = strncasecmp(name, "SIG", 3) == 0 ? 3 : 0;
    if (strlen(name + skip) + 4 > sizeof(upper)) {
        return -EINVAL;
    }
    for (size_t i = 0; name[skip + i] != '\0'; i++) {
        upper[3 + i] = (char)toupper((unsigned char)name[skip + i]);
    }
    for (size_t i = 0; i < COUNT(signal_names); i++) {
        if (strcmp(signal_names[i].name, upper) == 0) {
            return signal_names[i].number;
        }
    }
    return realtime_signal(upper + 3);
}

const char *signal_to_name(int signal)
{
    for (size_t i = 0; i < COUNT(signal_names); i++) {
        if (signal_names[i].number == signal) {
            return signal_names[i].name;
        }
    }
    return NULL;
}

#define CHILD_FDS_MAX ((size_t)8)

/* fds[i] becomes 3 + i: first all above that range, so that moving down overwrites none of them. */
static bool place_fds(const int *fds, size_t fd_count)
{
    int copies[CHILD_FDS_MAX];
    for (size_t i = 0; i < fd_count; i++) {
        copies[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3 + (int)CHILD_FDS_MAX);
        if (copies[i] < 0) {
            return false;
        }
    }
    for (size_t i = 0; i < fd_count; i++) {
        if (dup2(copies[i], 3 + (int)i) < 0) {
            return false;
        }
    }
    return true;
}

static void exec_child(char *const argv[], int in_fd, int err_fd, const int *fds, size_t fd_count)
{
    if (dup2(in_fd, 0) < 0 || dup2(err_fd, 1) < 0 || dup2(err_fd, 2) < 0) {
        _exit(126);
    }
    if (!place_fds(fds, fd_count)) {
        _exit(126);
    }
    signals_reset();
    (void)close_fds_from(3 + (int)fd_count);
    (void)execvp(argv[0], argv);
    const char *why = strerrordesc_np(errno);
    (void)write_full(2, why, strlen(why));
    _exit(127);
}

static const char *last_line(char *text)
{
    size_t len = strlen(text);
    while (len > 0 && text[len - 1] == '\n') {
        text[--len] = '\0';
    }
    const char *line = strrchr(text, '\n');
    return line != NULL ? line + 1 : text;
}

int process_run(char *const argv[], const char *stdin_text, struct err *err)
{
    return process_run_with(argv, stdin_text, NULL, 0, err);
}

int process_run_with(char *const argv[], const char *stdin_text, const int *fds, size_t fd_count,
                     struct err *err)
{
    if (fd_count > CHILD_FDS_MAX) {
        return err_set(err, EINVAL, "run '%s'", argv[0]);
    }
    int out[2];
    if (pipe2(out, O_CLOEXEC) < 0) {
        return err_set(err, errno, "run '%s'", argv[0]);
    }
    AUTO(closep) int out_read = out[0];
    AUTO(closep) int out_write = out[1];
    AUTO(closep)
    int in = stdin_text != NULL ? memfd_create("stdin", MFD_CLOEXEC)
                                : open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (in < 0) {
        return err_set(err, errno, "run '%s'", argv[0]);
    }
    if (stdin_text != NULL) {
        int r = write_full(in, stdin_text, strlen(stdin_text));
        if (r < 0 || lseek(in, 0, SEEK_SET) < 0) {
            return err_set(err, r < 0 ? -r : errno, "run '%s'", argv[0]);
        }
    }
    pid_t pid = fork();
    if (pid < 0) {
        return err_set(err, errno, "run '%s'", argv[0]);
    }
    if (pid == 0) {
        exec_child(argv, in, out_write, fds, fd_count);
    }
    out_write = close_fd(out_write);
    AUTO(buf_donep) struct buf text = {0};
    int read_result = read_fd(out_read, (size_t)1 << 20, &text);
    int status;
    int r = process_wait(pid, &status);
    if (r < 0) {
        return err_set(err, -r, "wait for '%s'", argv[0]);
    }
    if (status == 0) {
        return 0;
    }
    return err_say(err, EIO, "'%s' failed with exit code %d: %s", argv[0], exit_code_of(status),
                   read_result == 0 && text.len > 0 ? last_line(text.data) : "no message");
}
