/*
 * thread.h - one thread of the guest, which is one of this process: its id, its mask of signals and
 * its futexes are the host kernel's own.
 */
#ifndef USER_THREAD_H
#define USER_THREAD_H

#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "user/signals.h"

struct emu_cpu;
struct user;

struct thread {
    struct user *user;
    struct emu_cpu *cpu;
    struct thread_signals signals;
    uint64_t clear_tid;   /* set_tid_address: zeroed, and waiters woken, at its end; 0: none */
    uint64_t robust_list; /* set_robust_list: its head; 0: none */
    bool ended;           /* exit() */
    int exit_code;
};

/* The process's first one, in the thread that calls. */
int thread_begin(struct user *user, struct thread **ret);
/* Runs it until exit(); does not return from exit_group(). 0, or -ENOMEM. */
int thread_run(struct thread *thread);
/* After exit() of one among others: what the kernel does for a thread. Its memory is freed. */
void thread_end(struct thread *thread);

/*
 * clone() with CLONE_THREAD; arguments as the call of arm64 has them: flags, stack, parent_tid,
 * tls, child_tid. Returns when the new thread has its id: that, or a negative errno.
 */
int64_t thread_clone(struct thread *parent, const uint64_t *args);

#endif
