#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "user/proc_view.h"
#include "user/user.h"

#define EXIT_FAILED 126

static bool executable(void *data, uint64_t pc, size_t len)
{
    return pages_executable(data, pc, len);
}

static void say_counters(const struct user *user)
{
    struct emu_counters c;
    emu_count(user->emu, &c);
    (void)fprintf(stderr,
                  "isola-emu-aarch64: %" PRIu64 " blocks, %" PRIu64
                  " instructions translated, %" PRIu64 " blocks kept, %" PRIu64
                  " bytes of host code, %" PRIu64 " flushes, %" PRIu64 " unknown calls\n",
                  c.blocks, c.guest_instructions, c.kept, c.host_bytes, c.flushes,
                  user->unknown_calls);
}

_Noreturn void user_end(struct user *user, int exit_code)
{
    translations_write(&user->translations, user->emu);
    if (user->options->counters) {
        say_counters(user);
    }
    _exit(exit_code);
}

_Noreturn void user_fail(const struct user *user, const char *why)
{
    (void)fprintf(stderr, "isola-emu-aarch64: %s: %s\n", user->options->program, why);
    _exit(EXIT_FAILED);
}

/* High: the guest's own descriptors begin where it expects them. */
static int open_program(const struct user_options *options)
{
    AUTO(closep)
    int fd = options->program_fd >= 0 ? options->program_fd
                                      : open(options->program, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int high = fcntl(fd, F_DUPFD_CLOEXEC, 900);
    high = high < 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 100) : high;
    return high < 0 ? -errno : high;
}

int user_run(const struct user_options *options, struct err *err)
{
    struct thread *thread = NULL;
    static struct user process; /* there is one, to its end */
    struct user *user = &process;
    user->options = options;
    const char *slash = strrchr(options->program, '/');
    (void)prctl(PR_SET_NAME, slash == NULL ? options->program : slash + 1);
    user->threads = 1;
    user->first_code = -1;
    pages_init(&user->pages);
    translations_begin(&user->translations, options->cache);
    (void)pthread_mutex_init(&user->brk_lock, NULL);
    user->program_fd = open_program(options);
    if (user->program_fd < 0) {
        return err_set(err, -user->program_fd, "open '%s'", options->program);
    }
    const struct emu_options emu = {
        .interpret = options->interpret, .executable = executable, .data = &user->pages};
    int r = emu_new(&emu, &user->emu, err);
    if (r < 0) {
        return r;
    }
    r = thread_begin(user, &thread);
    r = r < 0 ? r : signals_begin(user);
    if (r < 0) {
        return err_set(err, -r, "run '%s'", options->program);
    }
    r = loader_load(user, emu_cpu_state(thread->cpu), err);
    if (r < 0) {
        return r;
    }
    proc_view_announce(user);
    if (thread_run(thread) < 0) {
        return err_say(err, ENOMEM, "the translator has no memory left");
    }
    /* Others may go on; the process's exit code is the first thread's in any case. */
    int code = user->first_code = thread->exit_code;
    thread_end(thread);
    for (;;) {
        (void)syscall(SYS_exit, code);
    }
}
