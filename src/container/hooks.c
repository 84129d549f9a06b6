#include "container/hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"
#include "base/process.h"
#include "container/kernel.h"
#include "container/names.h"

static void exec_hook(const struct spec_hook *hook, int state_fd)
{
    char *default_args[] = {(char *)(uintptr_t)hook->path, NULL};
    char *no_env[] = {NULL};
    if (dup2(state_fd, 0) < 0) {
        _exit(126);
    }
    signals_reset();
    (void)close_fds_from(3);
    (void)execve(hook->path, hook->args.count > 0 ? hook->args.items : default_args,
                 hook->env.items != NULL ? hook->env.items : no_env);
    const char *why = strerrordesc_np(errno);
    (void)write_full(2, hook->path, strlen(hook->path));
    (void)write_full(2, ": ", 2);
    (void)write_full(2, why, strlen(why));
    (void)write_full(2, "\n", 1);
    _exit(127);
}

static int run_hook(const struct spec_hook *hook, const char *state, struct err *err)
{
    AUTO(closep) int fd = memfd_create("state", MFD_CLOEXEC);
    int r = fd < 0 ? -errno : write_full(fd, state, strlen(state));
    if (r < 0 || lseek(fd, 0, SEEK_SET) < 0) {
        return err_set(err, r < 0 ? -r : errno, "write the state for hook '%s'", hook->path);
    }
    int pidfd_raw = -1;
    struct clone_args args = {
        .flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&pidfd_raw, .exit_signal = SIGCHLD};
    pid_t pid = sys_clone3(&args);
    if (pid < 0) {
        return err_set(err, errno, "run hook '%s'", hook->path);
    }
    if (pid == 0) {
        exec_hook(hook, fd);
    }
    AUTO(closep) int pidfd = pidfd_raw;
    struct pollfd wait = {.fd = pidfd, .events = POLLIN};
    int64_t timeout_ms = hook->timeout > 0 ? hook->timeout * 1000 : -1;
    int n;
    do {
        n = poll(&wait, 1, timeout_ms > INT32_MAX ? INT32_MAX : (int)timeout_ms);
    } while (n < 0 && errno == EINTR);
    if (n == 0) {
        (void)pidfd_signal(pidfd, SIGKILL);
    }
    int status = 0;
    r = process_wait(pid, &status);
    if (n == 0) {
        return err_say(err, ETIMEDOUT, "hook '%s' did not end within %lld s", hook->path,
                       (long long)hook->timeout);
    }
    if (r < 0) {
        return err_set(err, -r, "wait for hook '%s'", hook->path);
    }
    return status == 0 ? 0
                       : err_say(err, EIO, "hook '%s' failed with exit code %d", hook->path,
                                 exit_code_of(status));
}

int hooks_run(const struct spec *spec, enum spec_hook_kind kind, const char *state, struct err *err)
{
    const struct spec_hooks *hooks = &spec->hooks[kind];
    for (size_t i = 0; i < hooks->count; i++) {
        int r = run_hook(&hooks->items[i], state, err);
        if (r < 0) {
            return err_wrap(err, -r, "hooks.%s[%zu]", hook_kind_names[kind], i);
        }
    }
    return 0;
}
