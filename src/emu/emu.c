#include "emu/emu.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ucontext.h>
#include <unistd.h>

#include "base/err.h"
#include "base/macros.h"
#include "emu/block.h"
#include "emu/cache.h"
#include "emu/cpu.h"
#include "emu/fetch.h"
#include "emu/guest/arm64/front.h"
#include "emu/guest_code.h"
#include "emu/host/x86_64/lower.h"
#include "emu/host/x86_64/target.h"
#include "emu/interp.h"
#include "emu/kept.h"

#define CACHE_SIZE_DEFAULT ((size_t)64 << 20)
#define HASH_BITS 18u
#define RETURNS_SIZE ((size_t)64 << 10)
/* No block is longer: 64 instructions of the longest code. */
#define BLOCK_ROOM ((size_t)64 << 10)

static size_t order_size(const struct emu *emu)
{
    return emu->order_max * sizeof(struct block *);
}

static int make_thunks(struct emu *emu)
{
    size_t size = 0;
    struct lower_thunks thunks;
    uint8_t *at = cache_room(emu->cache, &size);
    size_t used = lower_thunks(at, size, &thunks);
    if (used == 0) {
        return -ENOSPC;
    }
    const uint8_t *code = cache_take(emu->cache, used);
    emu->enter = code + (thunks.enter - at);
    emu->leave = code + (thunks.leave - at);
    emu->link = code + (thunks.link - at);
    emu->lookup = code + (thunks.lookup - at);
    emu->ret = code + (thunks.ret - at);
    emu->call = code + (thunks.call - at);
    emu->thunks_size = cache_used(emu->cache);
    return 0;
}

static int make_cache(struct emu *emu, struct err *err)
{
    size_t size = emu->options.cache_size == 0 ? CACHE_SIZE_DEFAULT : emu->options.cache_size;
    size = MAX(size, 4 * BLOCK_ROOM) & ~(size_t)4095;
    int r = cache_new(size, &emu->cache);
    if (r == -EACCES || r == -EPERM || r == -EFBIG) {
        return 0; /* the host refuses such memory: interpreted */
    }
    if (r < 0) {
        return err_set(err, -r, "get memory for translated code");
    }
    emu->order_max = size / 64;
    void *order = mmap(NULL, order_size(emu), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (order == MAP_FAILED) {
        emu->order_max = 0;
        return err_set(err, errno, "get memory for translated code");
    }
    emu->order = (struct block **)order;
    emu->lower = lower_new();
    r = emu->lower == NULL ? -ENOMEM : make_thunks(emu);
    return r < 0 ? err_set(err, -r, "make the ways into translated code") : 0;
}

int emu_new(const struct emu_options *options, struct emu **ret, struct err *err)
{
    AUTO(emu_freep) struct emu *emu = calloc(1, sizeof(*emu));
    if (emu == NULL) {
        return err_set(err, ENOMEM, "make the translator");
    }
    emu->options = *options;
    emu->copy_fd = -1;
    emu->hash_bits = HASH_BITS;
    (void)pthread_mutex_init(&emu->lock, NULL);
    emu->hash = (struct block **)calloc((size_t)1 << HASH_BITS, sizeof(struct block *));
    emu->ir = malloc(sizeof(*emu->ir));
    emu->code = malloc(sizeof(*emu->code));
    if (emu->hash == NULL || emu->ir == NULL || emu->code == NULL) {
        return err_set(err, ENOMEM, "make the translator");
    }
    int r = options->interpret || !x86_suffices() ? 0 : make_cache(emu, err);
    if (r < 0) {
        return r;
    }
    *ret = TAKE_PTR(emu);
    return 0;
}

bool emu_crypto_is_fast(void)
{
    return x86_has_aes() && x86_has_sha();
}

void emu_free(struct emu *emu)
{
    if (emu == NULL) {
        return;
    }
    if (emu->hash != NULL) {
        block_drop_all(emu);
    }
    if (emu->order != NULL) {
        (void)munmap((void *)emu->order, order_size(emu));
    }
    cache_free(emu->cache);
    lower_free(emu->lower);
    free((void *)emu->hash);
    kept_free(emu);
    free(emu->ir);
    free(emu->code);
    (void)pthread_mutex_destroy(&emu->lock);
    free(emu);
}

/* The pair at the top is no return address: pc 1 is none. */
static int make_returns(struct emu_cpu *cpu)
{
    void *at = mmap(NULL, RETURNS_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        return -errno;
    }
    cpu->returns = at;
    cpu->returns_limit = (uint64_t)(uintptr_t)at + 256;
    cpu->returns_top = (uint64_t)(uintptr_t)at + RETURNS_SIZE - 32;
    cpu->returns_now = cpu->returns_top;
    uint64_t *top = (uint64_t *)(void *)((uint8_t *)at + RETURNS_SIZE - 32);
    top[1] = 1;
    return 0;
}

int emu_cpu_new(struct emu *emu, struct emu_cpu **ret)
{
    AUTO(emu_cpu_freep) struct emu_cpu *cpu = aligned_alloc(64, (sizeof(*cpu) + 63) & ~(size_t)63);
    if (cpu == NULL) {
        return -ENOMEM;
    }
    memset(cpu, 0, sizeof(*cpu));
    cpu->targets = calloc(EMU_TARGETS, sizeof(*cpu->targets));
    if (cpu->targets == NULL) {
        return -ENOMEM;
    }
    cpu->targets[0].pc = 1; /* none: the others' 0 is not of their index */
    int r = make_returns(cpu);
    if (r < 0) {
        return r;
    }
    cpu->thunk_leave = emu->leave;
    cpu->thunk_link = emu->link;
    cpu->thunk_lookup = emu->lookup;
    cpu->thunk_return = emu->ret;
    cpu->thunk_call = emu->call;
    (void)pthread_mutex_lock(&emu->lock);
    cpu->emu = emu;
    cpu->next = emu->cpus;
    emu->cpus = cpu;
    (void)pthread_mutex_unlock(&emu->lock);
    *ret = TAKE_PTR(cpu);
    return 0;
}

void emu_cpu_free(struct emu_cpu *cpu)
{
    if (cpu == NULL) {
        return;
    }
    if (cpu->emu != NULL) {
        (void)pthread_mutex_lock(&cpu->emu->lock);
        struct emu_cpu **link = &cpu->emu->cpus;
        while (*link != cpu) {
            link = &(*link)->next;
        }
        *link = cpu->next;
        (void)pthread_mutex_unlock(&cpu->emu->lock);
    }
    if (cpu->returns != NULL) {
        (void)munmap(cpu->returns, RETURNS_SIZE);
    }
    free(cpu->targets);
    free(cpu);
}

struct arm64_state *emu_cpu_state(struct emu_cpu *cpu)
{
    return &cpu->state;
}

/* Waits while somebody throws everything away. */
static void come_in(struct emu_cpu *cpu)
{
    for (;;) {
        __atomic_store_n(&cpu->running, true, __ATOMIC_SEQ_CST);
        if (!__atomic_load_n(&cpu->emu->stopping, __ATOMIC_SEQ_CST)) {
            return;
        }
        __atomic_store_n(&cpu->running, false, __ATOMIC_SEQ_CST);
        (void)pthread_mutex_lock(&cpu->emu->lock);
        (void)pthread_mutex_unlock(&cpu->emu->lock);
    }
}

static void go_out(struct emu_cpu *cpu)
{
    __atomic_store_n(&cpu->running, false, __ATOMIC_SEQ_CST);
}

static void forget_code(struct emu_cpu *cpu)
{
    memset(cpu->targets, 0, EMU_TARGETS * sizeof(*cpu->targets));
    cpu->targets[0].pc = 1;
    cpu->returns_now = cpu->returns_top;
}

/*
 * The lock is held; self is inside, but in C. The others come out at their next block's head, see
 * that nobody asked them to, and wait in come_in().
 */
static void drop_all(struct emu *emu, struct emu_cpu *self)
{
    __atomic_store_n(&emu->stopping, true, __ATOMIC_SEQ_CST);
    for (struct emu_cpu *cpu = emu->cpus; cpu != NULL; cpu = cpu->next) {
        while (cpu != self && __atomic_load_n(&cpu->running, __ATOMIC_SEQ_CST)) {
            __atomic_store_n(&cpu->interrupt, 1, __ATOMIC_SEQ_CST);
            (void)sched_yield();
        }
        forget_code(cpu);
    }
    block_drop_all(emu);
    if (emu->cache != NULL) {
        cache_reset(emu->cache, emu->thunks_size);
    }
    emu->flushes++;
    __atomic_store_n(&emu->stopping, false, __ATOMIC_SEQ_CST);
}

static bool flags_live(void *data, uint64_t pc)
{
    return arm64_flags_live(pc, data);
}

/* The lock is held. */
static struct block *translate(struct emu *emu, struct emu_cpu *cpu, uint64_t pc)
{
    struct block made = {.pc = pc};
    struct block *block = NULL;
    guest_code_begin(emu->code, &emu->options);
    arm64_translate(emu->ir, pc, emu->code, &made.low, &made.high);
    ir_pass_flags(emu->ir, flags_live, emu->code);
    ir_pass_dead(emu->ir);
    if (emu->cache != NULL) {
        size_t size = 0;
        uint8_t *at = cache_room(emu->cache, &size);
        if (size < BLOCK_ROOM || emu->order_count == emu->order_max) {
            drop_all(emu, cpu);
            at = cache_room(emu->cache, &size);
        }
        if (lower_block(emu->lower, emu->ir, at, size, &made) < 0) {
            return NULL;
        }
        made.code = cache_take(emu->cache, made.code_size);
        kept_note(emu, &made, emu->code, at);
    }
    if (block_add(emu, &made, emu->ir, &block) < 0) {
        return NULL;
    }
    emu->blocks++;
    emu->guest_instructions += emu->ir->guests;
    return block;
}

static struct block *find(struct emu_cpu *cpu, uint64_t pc)
{
    struct emu *emu = cpu->emu;
    struct block *block = block_find(emu, pc);
    if (block != NULL) {
        return block;
    }
    /* Who waits for the lock must not be waited for by the one who has it: drop_all(). */
    go_out(cpu);
    (void)pthread_mutex_lock(&emu->lock);
    block = block_find(emu, pc);
    block = block == NULL ? kept_find(emu, pc) : block;
    block = block == NULL ? translate(emu, cpu, pc) : block;
    __atomic_store_n(&cpu->running, true, __ATOMIC_SEQ_CST);
    (void)pthread_mutex_unlock(&emu->lock);
    return block;
}

/* The jump that came here goes to the block from now on: four bytes that are in one line. */
static void patch(struct emu *emu, const struct emu_link *link, const struct block *block)
{
    const uint8_t *place = (const uint8_t *)link + link->patch;
    uint8_t *write = cache_writable(emu->cache, place);
    __atomic_store_n((int32_t *)(void *)write, (int32_t)(block->code - (place + 4)),
                     __ATOMIC_RELEASE);
}

/* The block where the CPU is to go on, with links and tables brought up to date. */
static struct block *next_block(struct emu_cpu *cpu, const struct emu_link *link)
{
    uint64_t pc = cpu->state.pc;
    uint64_t flushes = cpu->emu->flushes;
    struct block *block = find(cpu, pc);
    if (block == NULL || block->code == NULL) {
        return block;
    }
    if (link != NULL && cpu->emu->flushes == flushes) {
        patch(cpu->emu, link, block);
    }
    struct emu_target *target = &cpu->targets[pc >> 2 & (EMU_TARGETS - 1)];
    *target = (struct emu_target){pc, block->code};
    return block;
}

static void flags_in(struct emu_cpu *cpu)
{
    uint32_t nzcv = cpu->state.nzcv;
    cpu->flags = (uint16_t)((nzcv >> 30) << 14 | (nzcv >> 29 & 1) << 8 | (nzcv >> 28 & 1));
}

static void flags_out(struct emu_cpu *cpu)
{
    uint32_t flags = cpu->flags;
    cpu->state.nzcv = (flags >> 14) << 30 | (flags >> 8 & 1) << 29 | (flags & 1) << 28;
}

static enum emu_exit run(struct emu_cpu *cpu)
{
    const struct emu_link *link = NULL;
    for (;;) {
        if (__atomic_load_n(&cpu->interrupt, __ATOMIC_ACQUIRE) != 0) {
            return EMU_EXIT_INTERRUPTED;
        }
        struct block *block = next_block(cpu, link);
        link = NULL;
        if (block == NULL) {
            return EMU_EXIT_NO_MEMORY;
        }
        if (block->code == NULL) {
            interp_block(cpu, block->ir);
        } else {
            lower_enter_fn *enter = (lower_enter_fn *)(uintptr_t)cpu->emu->enter;
            enter(cpu, block->code);
        }
        if (cpu->leave == EMU_LEAVE_EXIT && cpu->leave_arg == EMU_EXIT_CODE_CHANGED) {
            go_out(cpu);
            emu_invalidate(cpu->emu, cpu->changed & ~(uint64_t)(EMU_LINE - 1), EMU_LINE);
            come_in(cpu);
        } else if (cpu->leave == EMU_LEAVE_EXIT) {
            return (enum emu_exit)cpu->leave_arg;
        }
        if (cpu->leave == EMU_LEAVE_LINK) {
            link = (const struct emu_link *)(uintptr_t)cpu->leave_arg; // NOLINT: of code memory
            cpu->state.pc = link->target;
        }
    }
}

static enum emu_exit run_interpreted(struct emu_cpu *cpu)
{
    return sigsetjmp(cpu->unwind, 0) == 0 ? run(cpu) : EMU_EXIT_FAULT;
}

enum emu_exit emu_run(struct emu_cpu *cpu)
{
    bool interpreted = cpu->emu->cache == NULL;
    for (;;) {
        come_in(cpu);
        if (!interpreted) {
            flags_in(cpu);
        }
        enum emu_exit why = interpreted ? run_interpreted(cpu) : run(cpu);
        if (!interpreted) {
            flags_out(cpu);
        }
        go_out(cpu);
        if (why != EMU_EXIT_INTERRUPTED) {
            return why;
        }
        __atomic_store_n(&cpu->interrupt, 0, __ATOMIC_SEQ_CST);
        if (__atomic_exchange_n(&cpu->asked, false, __ATOMIC_SEQ_CST)) {
            return why;
        }
    }
}

void emu_interrupt(struct emu_cpu *cpu)
{
    __atomic_store_n(&cpu->asked, true, __ATOMIC_SEQ_CST);
    __atomic_store_n(&cpu->interrupt, 1, __ATOMIC_SEQ_CST);
}

/* Where the interpreter goes when guest memory faulted: out of it. */
static _Noreturn void unwind(struct emu_cpu *cpu)
{
    siglongjmp(cpu->unwind, 1);
}

bool emu_fault(struct emu_cpu *cpu, void *ucontext)
{
    greg_t *regs = ((ucontext_t *)ucontext)->uc_mcontext.gregs;
    struct emu *emu = cpu->emu;
    uint64_t failed = emu_fetch_failed((uint64_t)regs[REG_RIP]);
    if (failed != 0) {
        regs[REG_RIP] = (greg_t)failed;
        return true;
    }
    if (!__atomic_load_n(&cpu->running, __ATOMIC_RELAXED)) {
        return false;
    }
    if (emu->cache == NULL) {
        regs[REG_RIP] = (greg_t)(uintptr_t)unwind;
        regs[REG_RDI] = (greg_t)(uintptr_t)cpu;
        regs[REG_RSP] = ((regs[REG_RSP] - 256) & ~(greg_t)15) - 8; /* as after a call */
        return true;
    }
    const uint8_t *at = (const uint8_t *)(uintptr_t)regs[REG_RIP]; // NOLINT: an address of code
    const struct block *block = block_at(emu, at);
    if (block == NULL) {
        return false;
    }
    uint32_t offset = (uint32_t)(at - block->code);
    const struct block_fault *fault = NULL;
    for (uint32_t i = 0; i < block->fault_count && block->faults[i].host <= offset; i++) {
        fault = &block->faults[i];
    }
    if (fault == NULL) {
        return false;
    }
    lower_recover(cpu, fault, (const int64_t *)regs);
    cpu->state.pc = block->pc + (uint64_t)(int64_t)block->distances[fault->guest];
    cpu->leave = EMU_LEAVE_EXIT;
    cpu->leave_arg = EMU_EXIT_FAULT;
    regs[REG_RIP] = (greg_t)(uintptr_t)emu->leave;
    return true;
}

/* The lock is held. A dead block's head leads out of it; what is inside goes on to its end. */
static void kill_block(struct emu *emu, struct block *block)
{
    if (block->dead) {
        return;
    }
    __atomic_store_n(&block->dead, true, __ATOMIC_RELEASE);
    if (block->code != NULL) {
        uint64_t *head = (uint64_t *)(void *)cache_writable(emu->cache, block->code);
        uint64_t old = __atomic_load_n(head, __ATOMIC_RELAXED);
        __atomic_store_n(head, lower_dead_head(block->code, block->dead_tail, old),
                         __ATOMIC_RELEASE);
    }
}

void emu_invalidate(struct emu *emu, uint64_t start, uint64_t len)
{
    (void)pthread_mutex_lock(&emu->lock);
    block_each(emu, start, len, kill_block);
    (void)pthread_mutex_unlock(&emu->lock);
}

int emu_fork_begin(struct emu *emu)
{
    (void)pthread_mutex_lock(&emu->lock);
    emu->copy_fd = emu->cache == NULL ? -1 : cache_copy(emu->cache);
    return emu->cache != NULL && emu->copy_fd < 0 ? -ENOMEM : 0;
}

static void begin_anew(struct emu *emu, struct emu_cpu *cpu)
{
    struct cache *before = emu->cache;
    emu->cache = NULL;
    block_drop_all(emu);
    forget_code(cpu);
    cache_free(before);
}

void emu_fork_end(struct emu *emu, struct emu_cpu *cpu, bool child)
{
    if (child) {
        kept_forget(emu);
        for (struct emu_cpu *other = emu->cpus; other != NULL; other = other->next) {
            other->emu = other == cpu ? emu : NULL; /* their threads are not here */
        }
        emu->cpus = cpu;
        cpu->next = NULL;
        if (emu->cache != NULL && (emu->copy_fd < 0 || cache_adopt(emu->cache, emu->copy_fd) < 0)) {
            begin_anew(emu, cpu);
        }
    }
    emu->copy_fd = close_fd(emu->copy_fd);
    (void)pthread_mutex_unlock(&emu->lock);
}

void emu_count(const struct emu *emu, struct emu_counters *ret)
{
    *ret = (struct emu_counters){
        .blocks = emu->blocks,
        .guest_instructions = emu->guest_instructions,
        .host_bytes = emu->cache == NULL ? 0 : cache_used(emu->cache),
        .kept = emu->kept_blocks,
        .flushes = emu->flushes,
    };
}
