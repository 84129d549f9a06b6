#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "user/user.h"

static bool executable(void *data, uint64_t pc, size_t len)
{
    return pages_executable(data, pc, len);
}

/* A pointer of the guest that leads nowhere is EFAULT, as the kernel says it. */
static void call(struct user *user)
{
    if (sigsetjmp(user->signals.bad, 1) != 0) {
        emu_cpu_state(user->cpu)->x[0] = (uint64_t)-EFAULT;
        return;
    }
    user->signals.in_call = 1;
    user_syscall(user);
    user->signals.in_call = 0;
}

static int run(struct user *user, struct err *err)
{
    struct arm64_state *state = emu_cpu_state(user->cpu);
    while (!user->exited) {
        switch (emu_run(user->cpu)) {
        case EMU_EXIT_SYSCALL:
            call(user);
            break;
        case EMU_EXIT_BREAKPOINT:
            signals_fault(user, SIGTRAP, TRAP_BRKPT, state->pc);
            break;
        case EMU_EXIT_UNDEFINED:
            signals_fault(user, SIGILL, ILL_ILLOPC, state->pc);
            break;
        case EMU_EXIT_FETCH:
            signals_fault(user, (state->pc & 3) != 0 ? SIGBUS : SIGSEGV,
                          (state->pc & 3) != 0 ? BUS_ADRALN : SEGV_ACCERR, state->pc);
            break;
        case EMU_EXIT_FAULT:
            signals_fault(user, user->signals.fault.si_signo, user->signals.fault.si_code,
                          (uint64_t)(uintptr_t)user->signals.fault.si_addr);
            break;
        case EMU_EXIT_INTERRUPTED:
            break;
        case EMU_EXIT_NO_MEMORY:
        default:
            return err_say(err, ENOMEM, "the translator has no memory left");
        }
        if (user->signals.pending != 0 || user->signals.has_saved_mask) {
            signals_deliver(user);
        }
    }
    return user->exit_code;
}

static void say_counters(const struct user *user)
{
    struct emu_counters c;
    emu_count(user->emu, &c);
    (void)fprintf(stderr,
                  "isola-emu-aarch64: %" PRIu64 " blocks, %" PRIu64 " instructions, %" PRIu64
                  " bytes of host code, %" PRIu64 " flushes, %" PRIu64 " unknown calls\n",
                  c.blocks, c.guest_instructions, c.host_bytes, c.flushes, user->unknown_calls);
}

int user_run(const struct user_options *options, struct err *err)
{
    struct user *user = calloc(1, sizeof(*user)); /* to the end of the process */
    if (user == NULL) {
        return err_set(err, ENOMEM, "run '%s'", options->program);
    }
    user->options = options;
    pages_init(&user->pages);
    /* High: the guest's own descriptors begin where it expects them. */
    int fd = open(options->program, O_RDONLY | O_CLOEXEC);
    user->program_fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 900);
    if (fd >= 0 && user->program_fd < 0) {
        user->program_fd = fcntl(fd, F_DUPFD_CLOEXEC, 100);
    }
    if (user->program_fd < 0) {
        return err_set(err, errno, "open '%s'", options->program);
    }
    (void)close(fd);
    const struct emu_options emu = {
        .interpret = options->interpret, .executable = executable, .data = &user->pages};
    int r = emu_new(&emu, &user->emu, err);
    if (r < 0) {
        return r;
    }
    r = emu_cpu_new(user->emu, &user->cpu);
    r = r < 0 ? r : signals_begin(user);
    if (r < 0) {
        return err_set(err, -r, "run '%s'", options->program);
    }
    r = loader_load(user, err);
    r = r < 0 ? r : run(user, err);
    if (options->counters) {
        say_counters(user);
    }
    return r;
}
