/*
 * signals.h - signals of the guest: the host's, kept back until the CPU stands between two
 * instructions.
 */
#ifndef USER_SIGNALS_H
#define USER_SIGNALS_H

#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct user;

#define SIGNALS_MAX 64

/* As the kernel has it (struct sigaction of asm-generic/signal.h, with restorer). */
struct signals_action {
    uint64_t handler, flags, restorer, mask;
};

struct signals {
    struct signals_action action[SIGNALS_MAX + 1];
    siginfo_t info[SIGNALS_MAX + 1]; /* of those that are pending */
    _Atomic uint64_t pending;        /* bit number - 1 */
    uint64_t stack_at, stack_size;   /* sigaltstack; size 0: none */
    uint64_t trampoline;
    uint64_t saved_mask; /* rt_sigsuspend's, to be restored */
    bool has_saved_mask;
    siginfo_t fault;               /* of the instruction that faulted last */
    volatile sig_atomic_t in_call; /* guest memory may be bad: to `bad` then */
    sigjmp_buf bad;
};

/* Handlers of the host, on a stack of their own. A process has one user. */
int signals_begin(struct user *user);

/* Between two instructions: makes frames for what is pending and not blocked. */
void signals_deliver(struct user *user);
/* A fault of the guest: its handler, or the end by that signal. */
void signals_fault(struct user *user, int number, int code, uint64_t address);

/* The calls; results as the kernel's. */
int64_t signals_action(struct user *user, const uint64_t *args);
int64_t signals_mask(struct user *user, const uint64_t *args);
int64_t signals_stack(struct user *user, const uint64_t *args);
int64_t signals_suspend(struct user *user, const uint64_t *args);
void signals_return(struct user *user);

/* True when the call whose result this is begins anew behind the handlers: registers are set. */
bool signals_restart(struct user *user, int64_t result);

#endif
