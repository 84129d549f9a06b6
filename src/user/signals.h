/*
 * signals.h - signals of the guest: the host's, kept back until the CPU stands between two
 * instructions.
 */
#ifndef USER_SIGNALS_H
#define USER_SIGNALS_H

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct thread;
struct user;

#define SIGNALS_MAX 64

/* As the kernel has it (struct sigaction of asm-generic/signal.h, with restorer). */
struct signals_action {
    uint64_t handler, flags, restorer, mask;
};

/* Of the process. */
struct signals {
    pthread_mutex_t lock;
    struct signals_action action[SIGNALS_MAX + 1];
    uint64_t trampoline;
};

/* Of one thread. */
struct thread_signals {
    siginfo_t info[SIGNALS_MAX + 1]; /* of those that are pending */
    _Atomic uint64_t pending;        /* bit number - 1 */
    uint64_t stack_at, stack_size;   /* sigaltstack; size 0: none */
    /*
     * From the handler's note to the guest's frame everything is blocked, so that a second signal
     * waits in the kernel, which queues those of real time. This is what the guest believes.
     */
    volatile bool held;
    volatile uint64_t held_mask;
    uint64_t fault_mask; /* faults that the guest blocks: the host never does */
    uint64_t saved_mask; /* rt_sigsuspend's, to be restored */
    bool has_saved_mask;
    siginfo_t fault;               /* of the instruction that faulted last */
    volatile sig_atomic_t in_call; /* guest memory may be bad: to `bad` then */
    sigjmp_buf bad;
    void *host_stack; /* of the host's handlers */
};

/* Handlers of the host for faults, and what the guest starts with. */
int signals_begin(struct user *user);
/*
 * The calling thread takes signals for this one from now on. It comes with all of them blocked but
 * for the process's first, and leaves so.
 */
int signals_enter(struct thread *thread);
void signals_leave(struct thread *thread);
/* All, faults too: for a thread that has no handlers of ours yet, or no more. */
void signals_block_faults(void);
/* Of the calling thread, and what the guest had blocked before. */
uint64_t signals_block_all(const struct thread *thread);
/* Ends that; a signal that was noted before stays to be delivered. */
void signals_set_mask(struct thread *thread, uint64_t mask);
/* In a child of fork(): what was noted is the parent's. */
void signals_fork_child(struct thread *thread);

/* Between two instructions: makes frames for what is pending and not blocked. */
void signals_deliver(struct thread *thread);
/* A fault of the guest: its handler, or the end by that signal. */
void signals_fault(struct thread *thread, int number, int code, uint64_t address);

/* The calls; results as the kernel's. */
int64_t signals_action(struct user *user, const uint64_t *args);
int64_t signals_mask(struct thread *thread, const uint64_t *args);
int64_t signals_stack(struct thread *thread, const uint64_t *args);
int64_t signals_suspend(struct thread *thread, const uint64_t *args);
void signals_return(struct thread *thread);

/* True when the call whose result this is begins anew behind the handlers: registers are set. */
bool signals_restart(struct thread *thread, int64_t result);

#endif
