#include "user/signals.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "emu/fetch.h"
#include "emu/guest/arm64/control.h"
#include "user/host_call.h"
#include "user/user.h"

#define HOST_STACK_SIZE ((size_t)64 << 10)
#define FPSIMD_MAGIC 0x46508001u
#define SA_RESTORER_FLAG 0x04000000u
/* mov x8, #139 (rt_sigreturn); svc #0 */
static const uint32_t trampoline_code[] = {0xd2801168u, 0xd4000001u};

/* A signal handler has no argument of ours, and a thread runs one CPU. */
static __thread struct thread *current;

/* arch/arm64/include/uapi/asm/sigcontext.h and ucontext.h. */
struct guest_fpsimd {
    uint32_t magic, size, fpsr, fpcr;
    union arm64_vector v[32];
};

struct guest_context {
    uint64_t fault_address, regs[31], sp, pc, pstate, pad;
    struct guest_fpsimd fpsimd;
    uint32_t end[2];
    uint8_t reserved[4096 - sizeof(struct guest_fpsimd) - 8];
};

struct guest_ucontext {
    uint64_t flags, link;
    uint64_t stack_at;
    uint32_t stack_flags, pad;
    uint64_t stack_size;
    uint64_t mask;
    uint8_t unused[120 + 8]; /* the context is aligned to 16 */
    struct guest_context context;
};

struct guest_frame {
    siginfo_t info;
    struct guest_ucontext uc;
    uint64_t fp, lr;
};

/* Those of instructions: blocked they would end the process. */
#define BIT(number) ((uint64_t)1 << ((number)-1))
#define ALL_BUT_FAULTS (~(BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGFPE) | BIT(SIGILL)))

static bool is_fault(int number)
{
    return number == SIGSEGV || number == SIGBUS || number == SIGFPE || number == SIGILL;
}

static uint64_t host_mask(int how, const uint64_t *set)
{
    uint64_t old = 0;
    (void)syscall(SYS_rt_sigprocmask, how, set, &old, sizeof(old));
    return old;
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    struct thread *thread = current;
    struct thread_signals *s = &thread->signals;
    uint64_t *mask = (uint64_t *)(void *)&((ucontext_t *)context)->uc_sigmask;
    if (is_fault(number) && info->si_code > 0) {
        if (emu_fault(thread->cpu, context)) {
            s->fault = *info;
            return;
        }
        if (s->in_call != 0) {
            s->in_call = 0;
            /* As returning would: the jump does not. */
            (void)host_mask(SIG_SETMASK, mask);
            siglongjmp(s->bad, 1);
        }
        (void)signal(number, SIG_DFL); /* ours: it comes again, and ends us */
        return;
    }
    if (!s->held) {
        s->held_mask = *mask;
        s->held = true;
    }
    *mask = ALL_BUT_FAULTS;
    s->info[number] = *info;
    (void)atomic_fetch_or(&s->pending, (uint64_t)1 << (number - 1));
    emu_interrupt(thread->cpu);
    host_call_interrupt(context);
}

/* struct sigaction as the kernel has it. */
struct host_action {
    void (*handler)(int, siginfo_t *, void *);
    uint64_t flags;
    void (*restorer)(void);
    uint64_t mask;
};

/*
 * The C library keeps two signals to itself, for what no thread of ours does (pthread_cancel(),
 * setuid() of all threads); the guest's C library wants the same two for that. Only the kernel can
 * be asked for them, with what the library makes handlers return to.
 */
static int catch_any(int number)
{
    struct host_action action;
    if (syscall(SYS_rt_sigaction, SIGSEGV, NULL, &action, sizeof(uint64_t)) < 0) {
        return -errno;
    }
    action.handler = on_signal;
    return syscall(SYS_rt_sigaction, number, &action, NULL, sizeof(uint64_t)) < 0 ? -errno : 0;
}

/* flags: the guest's; two of them are the kernel's business. */
static int catch (int number, uint64_t flags)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    action.sa_flags |= (int)(flags & (SA_NOCLDSTOP | SA_NOCLDWAIT));
    (void)sigfillset(&action.sa_mask);
    return sigaction(number, &action, NULL) == 0 ? 0 : catch_any(number);
}

uint64_t signals_block_all(const struct thread *thread)
{
    const uint64_t all = ALL_BUT_FAULTS;
    uint64_t before = host_mask(SIG_SETMASK, &all);
    return thread->signals.held ? thread->signals.held_mask : before;
}

void signals_set_mask(struct thread *thread, uint64_t mask)
{
    (void)signals_block_all(thread);
    if (thread->signals.held) {
        thread->signals.held_mask = mask;
    } else {
        (void)host_mask(SIG_SETMASK, &mask);
    }
}

void signals_fork_child(struct thread *thread)
{
    struct thread_signals *s = &thread->signals;
    if (s->held) {
        uint64_t mask = s->held_mask;
        s->held = false;
        atomic_store(&s->pending, 0);
        (void)host_mask(SIG_SETMASK, &mask);
    }
}

int signals_enter(struct thread *thread)
{
    struct thread_signals *s = &thread->signals;
    void *stack =
        mmap(NULL, HOST_STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED) {
        return -errno;
    }
    const stack_t ss = {.ss_sp = stack, .ss_size = HOST_STACK_SIZE};
    s->host_stack = stack;
    current = thread;
    if (sigaltstack(&ss, NULL) < 0) {
        return -errno;
    }
    const uint64_t faults = ~ALL_BUT_FAULTS;
    (void)host_mask(SIG_UNBLOCK, &faults);
    return 0;
}

void signals_block_faults(void)
{
    const uint64_t all = ~(uint64_t)0;
    (void)host_mask(SIG_SETMASK, &all);
}

void signals_leave(struct thread *thread)
{
    const stack_t none = {.ss_flags = SS_DISABLE};
    signals_block_faults();
    current = NULL;
    (void)sigaltstack(&none, NULL);
    if (thread->signals.host_stack != NULL) {
        (void)munmap(thread->signals.host_stack, HOST_STACK_SIZE);
        thread->signals.host_stack = NULL;
    }
}

int signals_begin(struct user *user)
{
    struct signals *s = &user->signals;
    (void)pthread_mutex_init(&s->lock, NULL);
    int64_t page = memory_mmap(user, 0, sizeof(trampoline_code), PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page < 0) {
        return -ENOMEM;
    }
    memcpy(user_pointer((uint64_t)page), trampoline_code, sizeof(trampoline_code));
    s->trampoline = (uint64_t)page;
    int64_t r =
        memory_mprotect(user, s->trampoline, sizeof(trampoline_code), PROT_READ | PROT_EXEC);
    for (int number = 1; number <= SIGNALS_MAX; number++) {
        struct sigaction old;
        if (sigaction(number, NULL, &old) == 0 && old.sa_handler == SIG_IGN) {
            s->action[number].handler = (uint64_t)(uintptr_t)SIG_IGN;
        }
    }
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    for (size_t i = 0; r == 0 && i < sizeof(faults) / sizeof(faults[0]); i++) {
        r = catch (faults[i], 0);
    }
    return (int)r;
}

/* As it is now; SA_RESETHAND takes it away with that. */
static struct signals_action take_action(struct user *user, int number)
{
    struct signals *s = &user->signals;
    (void)pthread_mutex_lock(&s->lock);
    struct signals_action action = s->action[number];
    if (action.handler > 1 && (action.flags & SA_RESETHAND) != 0) {
        s->action[number].handler = 0;
        (void)(is_fault(number) ? SIG_DFL : signal(number, SIG_DFL));
    }
    (void)pthread_mutex_unlock(&s->lock);
    return action;
}

static uint64_t *slots(struct arm64_state *state)
{
    return state->x;
}

static void fill_context(const struct arm64_state *state, struct guest_context *c)
{
    memcpy(c->regs, state->x, sizeof(c->regs));
    c->sp = state->sp;
    c->pc = state->pc;
    c->pstate = state->nzcv;
    c->fpsimd.magic = FPSIMD_MAGIC;
    c->fpsimd.size = sizeof(c->fpsimd);
    c->fpsimd.fpsr = arm64_fpsr(state);
    c->fpsimd.fpcr = state->fpcr;
    memcpy(c->fpsimd.v, state->v, sizeof(state->v));
}

static uint64_t place_frame(const struct thread_signals *s, const struct signals_action *action,
                            uint64_t sp)
{
    bool inside = sp - s->stack_at < s->stack_size;
    if ((action->flags & SA_ONSTACK) != 0 && s->stack_size != 0 && !inside) {
        sp = s->stack_at + s->stack_size;
    }
    return (sp - sizeof(struct guest_frame)) & ~(uint64_t)15;
}

/* Everything is blocked then, until: */
static uint64_t hold_guest_mask(const struct thread *thread)
{
    return signals_block_all(thread) | thread->signals.fault_mask;
}

static void set_guest_mask(struct thread *thread, uint64_t mask)
{
    thread->signals.fault_mask = mask & ~ALL_BUT_FAULTS;
    signals_set_mask(thread, mask & ALL_BUT_FAULTS);
}

/* The frame, and the registers with which the handler begins. */
static void enter_handler(struct thread *thread, int number, const siginfo_t *info,
                          const struct signals_action *action, uint64_t before)
{
    struct thread_signals *s = &thread->signals;
    struct arm64_state *state = emu_cpu_state(thread->cpu);
    uint64_t at = place_frame(s, action, state->sp);
    if (sigsetjmp(s->bad, 0) != 0) { /* no room on its stack */
        (void)signal(SIGSEGV, SIG_DFL);
        (void)kill(getpid(), SIGSEGV);
        return;
    }
    s->in_call = 1;
    struct guest_frame *frame = user_pointer(at);
    memset(frame, 0, sizeof(*frame));
    frame->info = *info;
    frame->uc.stack_at = s->stack_at;
    frame->uc.stack_size = s->stack_size;
    frame->uc.stack_flags = s->stack_size == 0 ? SS_DISABLE : 0;
    fill_context(state, &frame->uc.context);
    frame->uc.context.fault_address = is_fault(number) ? (uint64_t)(uintptr_t)info->si_addr : 0;
    frame->fp = state->x[29];
    frame->lr = state->x[30];
    s->in_call = 0;
    uint64_t add = action->mask | ((action->flags & SA_NODEFER) != 0 ? 0 : BIT(number));
    frame->uc.mask = s->has_saved_mask ? s->saved_mask : before;
    s->has_saved_mask = false;
    set_guest_mask(thread, before | add);
    slots(state)[0] = (uint64_t)number;
    slots(state)[1] = (uint64_t)(uintptr_t)&frame->info;
    slots(state)[2] = (uint64_t)(uintptr_t)&frame->uc;
    slots(state)[29] = (uint64_t)(uintptr_t)&frame->fp;
    slots(state)[30] = (action->flags & SA_RESTORER_FLAG) != 0 ? action->restorer
                                                               : thread->user->signals.trampoline;
    state->sp = at;
    state->pc = action->handler;
}

void signals_deliver(struct thread *thread)
{
    struct thread_signals *s = &thread->signals;
    uint64_t pending = atomic_exchange(&s->pending, 0);
    if (pending != 0) {
        /* One at a time, for the others are blocked since. */
        int number = __builtin_ctzll(pending) + 1;
        siginfo_t info = s->info[number];
        const struct signals_action action = take_action(thread->user, number);
        uint64_t before = s->held_mask | s->fault_mask;
        s->held = false;
        if (action.handler > 1) {
            enter_handler(thread, number, &info, &action, before);
        } else {
            set_guest_mask(thread, before);
        }
    }
    if (s->has_saved_mask) {
        s->has_saved_mask = false;
        set_guest_mask(thread, s->saved_mask);
    }
}

void signals_fault(struct thread *thread, int number, int code, uint64_t address)
{
    siginfo_t info = {.si_signo = number, .si_code = code};
    uint64_t before = hold_guest_mask(thread);
    info.si_addr = user_pointer(address);
    bool caught = (before & BIT(number)) == 0;
    const struct signals_action action =
        caught ? take_action(thread->user, number) : (struct signals_action){.handler = 0};
    if (action.handler > 1) {
        enter_handler(thread, number, &info, &action, before);
        return;
    }
    uint64_t pc = emu_cpu_state(thread->cpu)->pc;
    uint32_t word = 0;
    if (number == SIGILL && emu_fetch(pc, &word)) {
        (void)fprintf(stderr,
                      "isola-emu-aarch64: the program ended by signal 4 at 0x%" PRIx64
                      ": no instruction 0x%08" PRIx32 " here\n",
                      pc, word);
    } else {
        (void)fprintf(stderr,
                      "isola-emu-aarch64: the program ended by signal %d at 0x%" PRIx64
                      " (address 0x%" PRIx64 ")\n",
                      number, pc, address);
    }
    const uint64_t this_one = BIT(number);
    (void)signal(number, SIG_DFL);
    (void)host_mask(SIG_UNBLOCK, &this_one);
    (void)kill(getpid(), number);
}

/* The lock is held. */
static int set_action(struct signals *s, int number, const struct signals_action *fresh)
{
    s->action[number] = *fresh;
    if (fresh->handler > 1) {
        return catch (number, fresh->flags);
    }
    if (!is_fault(number)) {
        (void)signal(number, fresh->handler == 1 ? SIG_IGN : SIG_DFL);
    }
    return 0;
}

int64_t signals_action(struct user *user, const uint64_t *a)
{
    struct signals *s = &user->signals;
    struct signals_action fresh = {.handler = 0};
    int number = (int)a[0];
    int r = 0;
    if (number < 1 || number > SIGNALS_MAX || a[3] != 8) {
        return -EINVAL;
    }
    /* The guest's memory may be bad: not with the lock. */
    if (a[1] != 0) {
        memcpy(&fresh, user_pointer(a[1]), sizeof(fresh));
        if (number == SIGKILL || number == SIGSTOP) {
            return -EINVAL;
        }
    }
    (void)pthread_mutex_lock(&s->lock);
    const struct signals_action old = s->action[number];
    if (a[1] != 0) {
        r = set_action(s, number, &fresh);
    }
    (void)pthread_mutex_unlock(&s->lock);
    if (r == 0 && a[2] != 0) {
        memcpy(user_pointer(a[2]), &old, sizeof(old));
    }
    return r;
}

int64_t signals_mask(struct thread *thread, const uint64_t *a)
{
    uint64_t given = 0;
    if (a[3] != sizeof(given)) {
        return -EINVAL;
    }
    if (a[1] != 0) {
        memcpy(&given, user_pointer(a[1]), sizeof(given));
    }
    uint64_t before = hold_guest_mask(thread);
    if (thread->signals.pending != 0) {
        return HOST_CALL_AGAIN;
    }
    uint64_t mask = before;
    switch (a[1] == 0 ? SIG_SETMASK : (int)a[0]) {
    case SIG_BLOCK:
        mask |= given;
        break;
    case SIG_UNBLOCK:
        mask &= ~given;
        break;
    case SIG_SETMASK:
        mask = a[1] == 0 ? before : given;
        break;
    default:
        set_guest_mask(thread, before);
        return -EINVAL;
    }
    set_guest_mask(thread, mask);
    if (a[2] != 0) {
        memcpy(user_pointer(a[2]), &before, sizeof(before));
    }
    return 0;
}

int64_t signals_stack(struct thread *thread, const uint64_t *a)
{
    struct thread_signals *s = &thread->signals;
    if (a[1] != 0) {
        const stack_t old = {.ss_sp = user_pointer(s->stack_at),
                             .ss_flags = s->stack_size == 0 ? SS_DISABLE : 0,
                             .ss_size = s->stack_size};
        memcpy(user_pointer(a[1]), &old, sizeof(old));
    }
    if (a[0] != 0) {
        stack_t fresh;
        memcpy(&fresh, user_pointer(a[0]), sizeof(fresh));
        bool off = (fresh.ss_flags & SS_DISABLE) != 0;
        s->stack_at = off ? 0 : (uint64_t)(uintptr_t)fresh.ss_sp;
        s->stack_size = off ? 0 : fresh.ss_size;
    }
    return 0;
}

int64_t signals_suspend(struct thread *thread, const uint64_t *a)
{
    struct thread_signals *s = &thread->signals;
    uint64_t wanted = 0;
    memcpy(&wanted, user_pointer(a[0]), sizeof(wanted));
    uint64_t before = hold_guest_mask(thread);
    if (s->pending != 0) {
        return HOST_CALL_AGAIN;
    }
    uint64_t waiting = wanted & ALL_BUT_FAULTS;
    (void)syscall(SYS_rt_sigsuspend, &waiting, sizeof(waiting));
    if (!s->held) {
        set_guest_mask(thread, before);
        return -EINTR;
    }
    /* The handler begins with what was waited with, and returns to what was before. */
    s->held_mask = waiting;
    s->saved_mask = before;
    s->has_saved_mask = true;
    return -EINTR;
}

void signals_return(struct thread *thread)
{
    struct arm64_state *state = emu_cpu_state(thread->cpu);
    const struct guest_frame *frame = user_pointer(state->sp);
    const struct guest_context *c = &frame->uc.context;
    uint64_t mask = frame->uc.mask;
    memcpy(state->x, c->regs, sizeof(c->regs));
    state->pc = c->pc;
    state->nzcv = (uint32_t)c->pstate & 0xf0000000u;
    if (c->fpsimd.magic == FPSIMD_MAGIC) {
        arm64_set_fpsr(state, c->fpsimd.fpsr);
        arm64_set_fpcr(state, c->fpsimd.fpcr);
        memcpy(state->v, c->fpsimd.v, sizeof(state->v));
    }
    state->sp = c->sp;
    set_guest_mask(thread, mask);
}

bool signals_restart(struct thread *thread, int64_t result)
{
    struct thread_signals *s = &thread->signals;
    uint64_t pending = atomic_load(&s->pending);
    if (result != -EINTR || pending == 0 || s->has_saved_mask) {
        return false;
    }
    int number = __builtin_ctzll(pending) + 1;
    if ((thread->user->signals.action[number].flags & SA_RESTART) == 0) {
        return false;
    }
    emu_cpu_state(thread->cpu)->pc -= 4;
    return true;
}
