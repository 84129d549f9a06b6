#include "vmm/speed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/cpu.h"
#include "vmm/kvm.h"
#include "vmm/memory.h"

#define CODE 0x1000ULL
#define PML4 0x2000ULL
#define PDPT 0x3000ULL
#define PD 0x4000ULL
#define USED 0x5000ULL

#define CR0_PE 1ULL
#define CR0_PG (1ULL << 31)
#define CR4_PAE (1ULL << 5)
#define EFER_LME (1ULL << 8)
#define EFER_LMA (1ULL << 10)
#define PAGE_PRESENT_WRITE 3ULL
#define PAGE_LARGE 0x80ULL

/* 1: mov $SPEED_INSTRUCTIONS / 2, %ecx; 2: dec %ecx; jnz 2b; out %al, $0xf5; jmp 1b */
static const uint8_t code[] = {
    0xb9,
    (SPEED_INSTRUCTIONS / 2) & 0xff,
    (SPEED_INSTRUCTIONS / 2) >> 8 & 0xff,
    0,
    0,
    0xff,
    0xc9,
    0x75,
    0xfc,
    0xe6,
    0xf5,
    0xeb,
    0xf3,
};

struct speed_trial {
    struct cpu *cpu;
    uint8_t *low; /* the guest's memory */
    struct x86_state state;
    uint8_t before[USED];
};

static int write_guest(struct memory *memory)
{
    uint8_t entry[8];
    int r = memory_write(memory, CODE, code, sizeof(code));
    store_le64(entry, PDPT | PAGE_PRESENT_WRITE);
    r = r < 0 ? r : memory_write(memory, PML4, entry, sizeof(entry));
    store_le64(entry, PD | PAGE_PRESENT_WRITE);
    r = r < 0 ? r : memory_write(memory, PDPT, entry, sizeof(entry));
    store_le64(entry, PAGE_PRESENT_WRITE | PAGE_LARGE);
    return r < 0 ? r : memory_write(memory, PD, entry, sizeof(entry));
}

static void enter_long_mode(struct x86_state *state)
{
    struct x86_segment flat = {
        .limit = 0xffffffff, .selector = 0x10, .type = 3, .s = 1, .present = 1, .db = 1, .g = 1};
    for (unsigned i = X86_ES; i <= X86_GS; i++) {
        state->segment[i] = flat;
    }
    state->segment[X86_CS].selector = 8;
    state->segment[X86_CS].type = 11;
    state->segment[X86_CS].l = 1;
    state->segment[X86_CS].db = 0;
    state->cr0 |= CR0_PE | CR0_PG;
    state->cr3 = PML4;
    state->cr4 |= CR4_PAE;
    state->efer |= EFER_LME | EFER_LMA;
    state->rip = CODE;
    state->rflags = 2;
}

/* Until the port is written; kicks and the like do not end it. */
static int run_once(struct cpu *cpu, int64_t *ret_ns)
{
    int64_t start = clock_monotonic_ns();
    for (;;) {
        struct cpu_exit exit;
        int r = cpu->ops->run(cpu, &exit);
        if (r < 0) {
            return r;
        }
        if (exit.kind == CPU_EXIT_PORT) {
            *ret_ns = clock_monotonic_ns() - start;
            return 0;
        }
        if (exit.kind != CPU_EXIT_NONE) {
            return -EPROTO;
        }
    }
}

int speed_trial_begin(struct cpu *cpu, struct memory *memory, struct speed_trial **ret,
                      struct err *err)
{
    AUTO(freep) struct speed_trial *trial = calloc(1, sizeof(*trial));
    AUTO(freep) struct x86_state *state = malloc(sizeof(*state));
    if (trial == NULL || state == NULL) {
        return err_set(err, ENOMEM, "measure the CPU engine");
    }
    trial->cpu = cpu;
    trial->low = memory_at(memory, 0, USED);
    int r = trial->low == NULL ? -EFAULT : cpu->ops->get_core(cpu, &trial->state);
    if (r == 0) {
        memcpy(trial->before, trial->low, USED);
        *state = trial->state;
        enter_long_mode(state);
        r = write_guest(memory);
        r = r < 0 ? r : cpu->ops->set_core(cpu, state);
    }
    if (r < 0) {
        return err_set(err, -r, "measure the CPU engine");
    }
    *ret = TAKE_PTR(trial);
    return 0;
}

int speed_trial_run(struct cpu *cpu, int64_t *ret_ns)
{
    int64_t best = INT64_MAX;
    int r = 0;
    for (int i = 0; r == 0 && i < 3 && best > SPEED_LIMIT_NS; i++) {
        int64_t ns = 0;
        r = run_once(cpu, &ns);
        best = MIN(best, ns);
    }
    if (r == 0) {
        *ret_ns = best;
    }
    return r;
}

int speed_trial_end(struct speed_trial *trial)
{
    memcpy(trial->low, trial->before, USED);
    int r = trial->cpu->ops->set_core(trial->cpu, &trial->state);
    free(trial);
    return r;
}

int speed_measure(struct cpu *cpu, struct memory *memory, int64_t *ret_ns, struct err *err)
{
    struct speed_trial *trial;
    int r = speed_trial_begin(cpu, memory, &trial, err);
    if (r < 0) {
        return r;
    }
    r = speed_trial_run(cpu, ret_ns);
    int back = speed_trial_end(trial);
    r = r < 0 ? r : back;
    return r < 0 ? err_set(err, -r, "measure the CPU engine") : 0;
}

int speed_refuse(int64_t ns, struct err *err)
{
    (void)err_say(err, EOPNOTSUPP,
                  "KVM of this host emulates the guest's kernel one instruction at a time (%.1f ms "
                  "for %u instructions; hardware takes less than 1)",
                  (double)ns / 1e6, SPEED_INSTRUCTIONS);
    err_hint(err, "use a host with Intel VT-x or AMD-V, or a virtual machine whose host allows "
                  "nesting; small guests without a Linux kernel run all the same");
    return -EOPNOTSUPP;
}

int speed_check_kvm(int kvm_fd, int64_t *ret_ns, struct err *err)
{
    AUTO(cpu_engine_freep) struct cpu_engine *engine = NULL;
    AUTO(memory_freep) struct memory *memory = NULL;
    AUTO(cpu_freep) struct cpu *cpu = NULL;
    struct kvm_options options = {.fd = kvm_fd};
    struct memory_options private = {.kind = MEMORY_PRIVATE, .fd = -1};
    struct cpu_model model = {.count = 1};
    int r = kvm_engine_new(&options, &engine, err);
    if (r < 0) {
        return r;
    }
    r = memory_new(&private, &memory);
    if (r < 0) {
        return err_set(err, -r, "measure KVM");
    }
    r = memory_add(memory, 0, (uint64_t)1 << 20, err);
    r = r < 0 ? r : memory_map(memory, engine, err);
    r = r < 0 ? r : engine->ops->cpu_new(engine, 0, &model, &cpu, err);
    r = r < 0 ? r : speed_measure(cpu, memory, ret_ns, err);
    if (r < 0 || *ret_ns <= SPEED_LIMIT_NS) {
        return r;
    }
    return speed_refuse(*ret_ns, err);
}
