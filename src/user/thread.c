#include "user/thread.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "user/user.h"

/* Of the host: translating and system calls need no more. */
#define STACK_SIZE ((size_t)512 << 10)
/* The kernel's limits of a list that leads in a circle (ROBUST_LIST_LIMIT). */
#define ROBUST_MAX 2048
#define SHARED_ALWAYS                                                                              \
    (CLONE_VM | CLONE_SIGHAND | CLONE_THREAD) /* what a thread is to the kernel of the guest */

/* What the parent waits for. */
struct birth {
    struct thread *thread;
    uint64_t args[5];
    uint64_t mask;
    sem_t born;
    int64_t result; /* the id, or a negative errno */
};

/* NULL without memory. */
static struct thread *make(struct user *user)
{
    struct thread *thread = calloc(1, sizeof(*thread));
    if (thread != NULL) {
        thread->user = user;
        if (emu_cpu_new(user->emu, &thread->cpu) < 0) {
            free(thread);
            thread = NULL;
        }
    }
    return thread;
}

static void destroy(struct thread *thread)
{
    emu_cpu_free(thread->cpu);
    free(thread);
}

int thread_begin(struct user *user, struct thread **ret)
{
    struct thread *thread = make(user);
    if (thread == NULL) {
        return -ENOMEM;
    }
    int r = signals_enter(thread);
    if (r < 0) {
        destroy(thread);
        return r;
    }
    *ret = thread;
    return 0;
}

/* A pointer of the guest that leads nowhere is EFAULT, as the kernel says it. */
static void call(struct thread *thread)
{
    if (sigsetjmp(thread->signals.bad, 0) != 0) {
        emu_cpu_state(thread->cpu)->x[0] = (uint64_t)-EFAULT;
        return;
    }
    thread->signals.in_call = 1;
    user_syscall(thread);
    thread->signals.in_call = 0;
}

int thread_run(struct thread *thread)
{
    struct arm64_state *state = emu_cpu_state(thread->cpu);
    const siginfo_t *fault = &thread->signals.fault;
    while (!thread->ended) {
        switch (emu_run(thread->cpu)) {
        case EMU_EXIT_SYSCALL:
            if (thread->signals.pending != 0) {
                state->pc -= 4; /* the handler is first */
            } else {
                call(thread);
            }
            break;
        case EMU_EXIT_BREAKPOINT:
            signals_fault(thread, SIGTRAP, TRAP_BRKPT, state->pc);
            break;
        case EMU_EXIT_UNDEFINED:
            signals_fault(thread, SIGILL, ILL_ILLOPC, state->pc);
            break;
        case EMU_EXIT_FETCH:
            signals_fault(thread, (state->pc & 3) != 0 ? SIGBUS : SIGSEGV,
                          (state->pc & 3) != 0 ? BUS_ADRALN : SEGV_ACCERR, state->pc);
            break;
        case EMU_EXIT_FAULT:
            signals_fault(thread, fault->si_signo, fault->si_code,
                          (uint64_t)(uintptr_t)fault->si_addr);
            break;
        case EMU_EXIT_INTERRUPTED:
            break;
        case EMU_EXIT_NO_MEMORY:
        default:
            return -ENOMEM;
        }
        if (thread->signals.pending != 0 || thread->signals.has_saved_mask) {
            signals_deliver(thread);
        }
    }
    return 0;
}

static void wake(uint64_t address, int count)
{
    (void)syscall(SYS_futex, user_pointer(address), FUTEX_WAKE, count, NULL, NULL, 0);
}

/*
 * A lock whose owner dies: says so to who takes it next (futex(2), kernel/futex/core.c's rules).
 * One with priority inheritance (bit 0 of the entry) the kernel hands on by itself.
 */
static void mark_dead(uint64_t entry, int64_t offset, uint32_t tid)
{
    uint64_t address = (entry & ~(uint64_t)1) + (uint64_t)offset;
    _Atomic uint32_t *word = user_pointer(address);
    uint32_t value = atomic_load(word);
    while ((value & FUTEX_TID_MASK) == tid) {
        uint32_t dead = (value & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
        if (atomic_compare_exchange_weak(word, &value, dead)) {
            if ((value & FUTEX_WAITERS) != 0 && (entry & 1) == 0) {
                wake(address, 1);
            }
            return;
        }
    }
}

static void walk_robust_list(uint64_t head, uint32_t tid)
{
    struct {
        uint64_t next;
        int64_t offset;
        uint64_t pending;
    } list;
    memcpy(&list, user_pointer(head), sizeof(list));
    uint64_t entry = list.next;
    for (int i = 0; (entry & ~(uint64_t)1) != head && i < ROBUST_MAX; i++) {
        uint64_t next = 0;
        memcpy(&next, user_pointer(entry & ~(uint64_t)1), sizeof(next));
        if ((entry ^ list.pending) > 1) {
            mark_dead(entry, list.offset, tid);
        }
        entry = next;
    }
    if (list.pending != 0) {
        mark_dead(list.pending, list.offset, tid);
    }
}

static void leave_memory(struct thread *thread)
{
    uint32_t tid = (uint32_t)syscall(SYS_gettid);
    if (sigsetjmp(thread->signals.bad, 0) != 0) {
        return; /* the guest's pointers lead nowhere */
    }
    thread->signals.in_call = 1;
    if (thread->robust_list != 0) {
        walk_robust_list(thread->robust_list, tid);
    }
    if (thread->clear_tid != 0) {
        __atomic_store_n((uint32_t *)user_pointer(thread->clear_tid), 0, __ATOMIC_SEQ_CST);
        wake(thread->clear_tid, 1);
    }
    thread->signals.in_call = 0;
}

void thread_end(struct thread *thread)
{
    struct user *user = thread->user;
    (void)signals_block_all(thread);
    leave_memory(thread);
    int code = thread->exit_code;
    signals_leave(thread);
    destroy(thread);
    if (atomic_fetch_sub(&user->threads, 1) == 1) {
        user_end(user, user->first_code >= 0 ? user->first_code : code);
    }
}

/* In the new thread: its id to where the parent's call says. */
static int64_t announce(struct thread *thread, const uint64_t *args)
{
    uint32_t tid = (uint32_t)syscall(SYS_gettid);
    if (sigsetjmp(thread->signals.bad, 0) != 0) {
        return -EFAULT;
    }
    thread->signals.in_call = 1;
    if ((args[0] & CLONE_PARENT_SETTID) != 0) {
        memcpy(user_pointer(args[2]), &tid, sizeof(tid));
    }
    if ((args[0] & CLONE_CHILD_SETTID) != 0) {
        memcpy(user_pointer(args[4]), &tid, sizeof(tid));
    }
    thread->signals.in_call = 0;
    thread->clear_tid = (args[0] & CLONE_CHILD_CLEARTID) != 0 ? args[4] : 0;
    return tid;
}

static void *thread_main(void *data)
{
    struct birth *birth = data;
    struct thread *thread = birth->thread;
    uint64_t mask = birth->mask;
    int apart = (int)(~birth->args[0] & (CLONE_FS | CLONE_FILES));
    int r = signals_enter(thread);
    if (r == 0 && apart != 0 && unshare(apart) < 0) {
        r = -errno;
    }
    int64_t tid = r < 0 ? r : announce(thread, birth->args);
    birth->result = tid;
    if (tid < 0) {
        signals_leave(thread);
        (void)sem_post(&birth->born);
        return NULL; /* the parent frees it */
    }
    (void)atomic_fetch_add(&thread->user->threads, 1);
    (void)sem_post(&birth->born); /* birth is gone behind this */
    signals_set_mask(thread, mask);
    if (thread_run(thread) < 0) {
        user_fail(thread->user, "the translator has no memory left");
    }
    thread_end(thread);
    return NULL;
}

int64_t thread_clone(struct thread *parent, const uint64_t *args)
{
    struct birth birth = {.result = -EAGAIN};
    pthread_attr_t attr;
    pthread_t host;
    if ((args[0] & SHARED_ALWAYS) != SHARED_ALWAYS || args[1] == 0) {
        return -EINVAL;
    }
    birth.thread = make(parent->user);
    if (birth.thread == NULL || sem_init(&birth.born, 0, 0) < 0) {
        return -ENOMEM;
    }
    memcpy(birth.args, args, sizeof(birth.args));
    struct arm64_state *state = emu_cpu_state(birth.thread->cpu);
    *state = *emu_cpu_state(parent->cpu);
    state->exclusive_size = 0;
    birth.thread->signals.fault_mask = parent->signals.fault_mask;
    state->x[0] = 0;
    state->sp = args[1];
    if ((args[0] & CLONE_SETTLS) != 0) {
        state->tpidr = args[3];
    }
    /* It begins with all signals blocked, until it can take them. */
    birth.mask = signals_block_all(parent);
    signals_block_faults();
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setstacksize(&attr, STACK_SIZE);
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int r = pthread_create(&host, &attr, thread_main, &birth);
    (void)pthread_attr_destroy(&attr);
    while (r == 0 && sem_wait(&birth.born) < 0) {
    }
    signals_set_mask(parent, birth.mask);
    (void)sem_destroy(&birth.born);
    if (birth.result < 0) {
        destroy(birth.thread);
    }
    return birth.result;
}
