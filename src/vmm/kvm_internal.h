/*
 * kvm_internal.h - shared by the files of the KVM engine only.
 */
#ifndef VMM_KVM_INTERNAL_H
#define VMM_KVM_INTERNAL_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "vmm/cpu.h"

/* Messages in use at once. Together with the board's lines below KVM_MAX_IRQ_ROUTES. */
#define KVM_MESSAGES_MAX 512
#define KVM_CPUID_MAX 256

struct kvm_engine {
    struct cpu_engine engine;
    int kvm_fd;
    int vm_fd;
    size_t run_size;
    bool split;
    bool pit;
    bool has_controllers;
    bool has_xsave2, has_dirty_protect;
    struct kvm_cpuid2 *cpuid; /* what this host supports */
    struct kvm_msr_list *msrs;
    size_t xsave_size;
    pthread_mutex_t lock; /* of what follows */
    struct {
        bool used;
        struct cpu_message message;
    } line[X86_IOAPIC_PINS]; /* with split: where the board's pins lead */
    struct {
        bool used;
        uint64_t address;
        uint32_t data;
    } message[KVM_MESSAGES_MAX];
};

struct kvm_cpu {
    struct cpu cpu;
    struct kvm_engine *kvm;
    int fd;
    struct kvm_run *run;
    /* That runs it, or ran it last: one measures, another one serves. 0: none yet. */
    _Atomic pthread_t thread;
    /* The last exit is an access whose instruction ends only with the next KVM_RUN. */
    bool access_pending;
    bool software_breakpoints; /* as asked for by cpu_ops.debug */
};

static inline struct kvm_engine *kvm_engine_of(struct cpu_engine *engine)
{
    return (struct kvm_engine *)(void *)engine;
}

static inline struct kvm_cpu *kvm_cpu_of(struct cpu *cpu)
{
    return (struct kvm_cpu *)(void *)cpu;
}

/* ioctl() that restarts; 0 or more, or a negative errno. */
int kvm_call(int fd, unsigned long request, void *argument);

/*
 * kvm.c: once, before the first CPU and the first interrupt line, and better after memory_map():
 * each piece of memory takes KVM some 7 ms when the controllers are there already.
 */
int kvm_make_controllers(struct kvm_engine *kvm, struct err *err);

/* kvm_cpu.c */
int kvm_cpu_new(struct cpu_engine *engine, uint32_t index, const struct cpu_model *model,
                struct cpu **ret, struct err *err);

/* For who reads or sets registers: settles; -EBUSY in the middle of a string instruction. */
int kvm_cpu_rest(struct kvm_cpu *cpu);

/* kvm_cpuid.c */
int kvm_load_cpuid(struct kvm_engine *kvm, struct err *err);
int kvm_set_cpuid(struct kvm_cpu *cpu, const struct cpu_model *model, struct err *err);

/* kvm_state.c */
int kvm_load_msr_list(struct kvm_engine *kvm, struct err *err);
int kvm_get_core(struct cpu *cpu, struct x86_state *ret);
int kvm_set_core(struct cpu *cpu, const struct x86_state *state);
int kvm_get_state(struct cpu *cpu, struct x86_state *ret, struct err *err);
int kvm_set_state(struct cpu *cpu, const struct x86_state *state, struct err *err);

/* kvm_board.c */
int kvm_get_board(struct cpu_engine *engine, struct x86_board_state *ret, struct err *err);
int kvm_set_board(struct cpu_engine *engine, const struct x86_board_state *state, struct err *err);

/* kvm_irq.c */
int kvm_line_attach(struct cpu_engine *engine, uint32_t gsi, int fd);
void kvm_line_detach(struct cpu_engine *engine, uint32_t gsi, int fd);
int kvm_line_route(struct cpu_engine *engine, uint32_t gsi, const struct cpu_message *message);
int kvm_send(struct cpu_engine *engine, const struct cpu_message *message);
int kvm_message_attach(struct cpu_engine *engine, int fd, uint64_t address, uint32_t data,
                       uint32_t *ret_id);
int kvm_message_change(struct cpu_engine *engine, uint32_t id, uint64_t address, uint32_t data);
void kvm_message_detach(struct cpu_engine *engine, uint32_t id, int fd);

#endif
