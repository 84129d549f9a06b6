/*
 * process.h - processes by pidfd, their identity, and running a helper program.
 */
#ifndef BASE_PROCESS_H
#define BASE_PROCESS_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/wait.h>

struct err;

int pidfd_open_pid(pid_t pid);
int pidfd_signal(int pidfd, int signal);

/*
 * Field 22 of /proc/PID/stat: with the pid it names one process for as long as the machine runs.
 * 0 or a negative errno (-ESRCH: no such process).
 */
int process_start_time(pid_t pid, uint64_t *ret_ticks);

/* True while the process that had this start time exists and is not a zombie. */
bool process_is_alive(pid_t pid, uint64_t start_time);

/* waitpid() that restarts. Returns 0 and the status, or a negative errno. */
int process_wait(pid_t pid, int *ret_status);

/* Docker's and the shell's exit code of a wait status: the code, or 128 + signal. */
static inline int exit_code_of(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/*
 * Runs fn(data) in a child that shares our memory, as vfork() does, and goes on when the child has
 * executed a program or left by _exit(): no page table is copied. fn must not return, must not
 * change what we use later, and finds a small stack. Returns the child's pid or a negative errno.
 * Only for programs of one thread.
 */
pid_t process_vfork(int (*fn)(void *data), void *data);

/* close_range() of all descriptors from first on; falls back to /proc/self/fd. */
int close_fds_from(int first);
/* The same, but they close at exec. */
int cloexec_fds_from(int first);

/* Default dispositions for all signals and an empty mask: for a child before exec. */
void signals_reset(void);

/* "SIGTERM", "TERM", "term", "15", "RTMIN+3": the number, or -EINVAL. */
int signal_from_name(const char *name);
/* "SIGTERM"; NULL when there is none. The text is static. */
const char *signal_to_name(int signal);

/*
 * Runs argv (searched in PATH) and waits. stdin_text may be NULL (then /dev/null). Fails with the
 * program's last line of standard error when its exit code is not 0.
 */
int process_run(char *const argv[], const char *stdin_text, struct err *err);

/* The same; the program finds fds[i] (borrowed) as its descriptor 3 + i. */
int process_run_with(char *const argv[], const char *stdin_text, const int *fds, size_t fd_count,
                     struct err *err);

#endif
