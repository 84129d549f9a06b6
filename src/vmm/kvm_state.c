#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/err.h"
#include "vmm/kvm_internal.h"

#define MSR_TSC 0x10
#define MSR_TSC_DEADLINE 0x6e0

_Static_assert(sizeof(struct kvm_lapic_state) == X86_LAPIC_SIZE, "the local APIC's page");

int kvm_load_msr_list(struct kvm_engine *kvm, struct err *err)
{
    kvm->msrs = calloc(1, sizeof(*kvm->msrs) + X86_MSRS_MAX * sizeof(kvm->msrs->indices[0]));
    if (kvm->msrs == NULL) {
        return err_set(err, ENOMEM, "read which MSRs KVM keeps");
    }
    kvm->msrs->nmsrs = X86_MSRS_MAX;
    int r = kvm_call(kvm->kvm_fd, KVM_GET_MSR_INDEX_LIST, kvm->msrs);
    return r < 0 ? err_set(err, -r, "read which MSRs KVM keeps") : 0;
}

static void segment_from_kvm(struct x86_segment *to, const struct kvm_segment *from)
{
    *to = (struct x86_segment){
        .base = from->base,
        .limit = from->limit,
        .selector = from->selector,
        .type = from->type,
        .s = from->s,
        .dpl = from->dpl,
        .present = from->present,
        .avl = from->avl,
        .l = from->l,
        .db = from->db,
        .g = from->g,
        .unusable = from->unusable,
    };
}

static void segment_to_kvm(struct kvm_segment *to, const struct x86_segment *from)
{
    *to = (struct kvm_segment){
        .base = from->base,
        .limit = from->limit,
        .selector = from->selector,
        .type = from->type,
        .s = from->s,
        .dpl = from->dpl,
        .present = from->present,
        .avl = from->avl,
        .l = from->l,
        .db = from->db,
        .g = from->g,
        .unusable = from->unusable,
    };
}

/* Where KVM keeps each segment. */
static struct kvm_segment *segment_of(struct kvm_sregs *sregs, unsigned name)
{
    struct kvm_segment *const all[X86_SEGMENTS] = {
        [X86_ES] = &sregs->es, [X86_CS] = &sregs->cs,    [X86_SS] = &sregs->ss,
        [X86_DS] = &sregs->ds, [X86_FS] = &sregs->fs,    [X86_GS] = &sregs->gs,
        [X86_TR] = &sregs->tr, [X86_LDTR] = &sregs->ldt,
    };
    return all[name];
}

/* And each general register. */
static __u64 *register_of(struct kvm_regs *regs, unsigned name)
{
    __u64 *const all[X86_REGISTERS] = {
        [X86_RAX] = &regs->rax, [X86_RCX] = &regs->rcx, [X86_RDX] = &regs->rdx,
        [X86_RBX] = &regs->rbx, [X86_RSP] = &regs->rsp, [X86_RBP] = &regs->rbp,
        [X86_RSI] = &regs->rsi, [X86_RDI] = &regs->rdi, [X86_R8] = &regs->r8,
        [X86_R9] = &regs->r9,   [X86_R10] = &regs->r10, [X86_R11] = &regs->r11,
        [X86_R12] = &regs->r12, [X86_R13] = &regs->r13, [X86_R14] = &regs->r14,
        [X86_R15] = &regs->r15,
    };
    return all[name];
}

int kvm_get_core(struct cpu *cpu, struct x86_state *ret)
{
    struct kvm_cpu *vcpu = kvm_cpu_of(cpu);
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    int r = kvm_cpu_rest(vcpu);
    r = r < 0 ? r : kvm_call(vcpu->fd, KVM_GET_REGS, &regs);
    r = r < 0 ? r : kvm_call(vcpu->fd, KVM_GET_SREGS, &sregs);
    if (r < 0) {
        return r;
    }
    for (unsigned i = 0; i < X86_REGISTERS; i++) {
        ret->reg[i] = *register_of(&regs, i);
    }
    ret->rip = regs.rip;
    ret->rflags = regs.rflags;
    for (unsigned i = 0; i < X86_SEGMENTS; i++) {
        segment_from_kvm(&ret->segment[i], segment_of(&sregs, i));
    }
    ret->gdt = (struct x86_table){.base = sregs.gdt.base, .limit = sregs.gdt.limit};
    ret->idt = (struct x86_table){.base = sregs.idt.base, .limit = sregs.idt.limit};
    ret->cr0 = sregs.cr0;
    ret->cr2 = sregs.cr2;
    ret->cr3 = sregs.cr3;
    ret->cr4 = sregs.cr4;
    ret->cr8 = sregs.cr8;
    ret->efer = sregs.efer;
    ret->apic_base = sregs.apic_base;
    return 0;
}

int kvm_set_core(struct cpu *cpu, const struct x86_state *state)
{
    struct kvm_cpu *vcpu = kvm_cpu_of(cpu);
    struct kvm_regs regs = {.rip = state->rip, .rflags = state->rflags};
    struct kvm_sregs sregs = {
        .cr0 = state->cr0,
        .cr2 = state->cr2,
        .cr3 = state->cr3,
        .cr4 = state->cr4,
        .cr8 = state->cr8,
        .efer = state->efer,
        .apic_base = state->apic_base,
        .gdt = {.base = state->gdt.base, .limit = state->gdt.limit},
        .idt = {.base = state->idt.base, .limit = state->idt.limit},
    };
    for (unsigned i = 0; i < X86_REGISTERS; i++) {
        *register_of(&regs, i) = state->reg[i];
    }
    for (unsigned i = 0; i < X86_SEGMENTS; i++) {
        segment_to_kvm(segment_of(&sregs, i), &state->segment[i]);
    }
    /* interrupt_bitmap stays empty: a vector on its way is in the events. */
    int r = kvm_cpu_rest(vcpu);
    r = r < 0 ? r : kvm_call(vcpu->fd, KVM_SET_SREGS, &sregs);
    r = r < 0 ? r : kvm_call(vcpu->fd, KVM_SET_REGS, &regs);
    return MIN(r, 0);
}

static void events_from_kvm(struct x86_events *to, const struct kvm_vcpu_events *from)
{
    *to = (struct x86_events){
        .exception_pending = from->exception.pending,
        .exception_injected = from->exception.injected,
        .exception_number = from->exception.nr,
        .exception_has_code = from->exception.has_error_code,
        .exception_code = from->exception.error_code,
        .exception_has_payload = from->exception_has_payload,
        .exception_payload = from->exception_payload,
        .interrupt_injected = from->interrupt.injected,
        .interrupt_number = from->interrupt.nr,
        .interrupt_soft = from->interrupt.soft,
        .interrupt_shadow = from->interrupt.shadow,
        .nmi_injected = from->nmi.injected,
        .nmi_pending = from->nmi.pending,
        .nmi_masked = from->nmi.masked,
        .smi_smm = from->smi.smm,
        .smi_pending = from->smi.pending,
        .smi_inside_nmi = from->smi.smm_inside_nmi,
        .smi_latched_init = from->smi.latched_init,
        .sipi_vector = from->sipi_vector,
    };
}

static void events_to_kvm(struct kvm_vcpu_events *to, const struct x86_events *from)
{
    *to = (struct kvm_vcpu_events){
        .exception = {.injected = from->exception_injected | from->exception_pending,
                      .nr = from->exception_number,
                      .has_error_code = from->exception_has_code,
                      .error_code = from->exception_code},
        .interrupt = {.injected = from->interrupt_injected,
                      .nr = from->interrupt_number,
                      .soft = from->interrupt_soft,
                      .shadow = from->interrupt_shadow},
        .nmi = {.injected = from->nmi_injected,
                .pending = from->nmi_pending,
                .masked = from->nmi_masked},
        .sipi_vector = from->sipi_vector,
        .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW |
                 KVM_VCPUEVENT_VALID_SIPI_VECTOR,
    };
}

/* One at a time when the whole list is refused: some are listed and cannot be read. */
static int get_msrs(const struct kvm_cpu *vcpu, struct x86_state *ret)
{
    const struct kvm_msr_list *list = vcpu->kvm->msrs;
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry[X86_MSRS_MAX];
    } msrs = {0};
    ret->msr_count = 0;
    for (uint32_t from = 0; from < list->nmsrs;) {
        uint32_t n = 0;
        for (uint32_t i = from; i < list->nmsrs && n < X86_MSRS_MAX; i++) {
            msrs.entry[n++].index = list->indices[i];
        }
        msrs.head.nmsrs = n;
        int got = kvm_call(vcpu->fd, KVM_GET_MSRS, &msrs);
        if (got < 0) {
            return got;
        }
        for (uint32_t i = 0; i < (uint32_t)got; i++) {
            ret->msr[ret->msr_count++] =
                (struct x86_msr){.index = msrs.entry[i].index, .value = msrs.entry[i].data};
        }
        from += (uint32_t)got < n ? (uint32_t)got + 1 : (uint32_t)got;
    }
    return 0;
}

/* Those that want to be set after the local APIC, or would start a timer too early, come last. */
static int set_msrs(const struct kvm_cpu *vcpu, const struct x86_state *state, bool deadline)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry[X86_MSRS_MAX];
    } msrs = {0};
    uint32_t n = 0;
    for (uint32_t i = 0; i < state->msr_count; i++) {
        if ((state->msr[i].index == MSR_TSC_DEADLINE) == deadline) {
            msrs.entry[n].index = state->msr[i].index;
            msrs.entry[n++].data = state->msr[i].value;
        }
    }
    for (uint32_t from = 0; from < n;) {
        msrs.head.nmsrs = n - from;
        memmove(msrs.entry, msrs.entry + from, (n - from) * sizeof(msrs.entry[0]));
        n -= from;
        int set = kvm_call(vcpu->fd, KVM_SET_MSRS, &msrs);
        if (set < 0) {
            return set;
        }
        if ((uint32_t)set == n) {
            break;
        }
        /* One that may not be written, as one that only reports: its value is the host's. */
        from = (uint32_t)set + 1;
    }
    return 0;
}

/*
 * A time stamp within a second of what the machine's would be now KVM takes for an attempt to bring
 * CPUs into step, and keeps the counter it has: of a machine that was saved young the guest's would
 * go back to that of the machine made a moment ago. So the first CPU's is far away in between;
 * those of the others are to come into step with it.
 */
static int leave_step(const struct kvm_cpu *vcpu, const struct x86_state *state)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } msr = {.head = {.nmsrs = 1}, .entry = {.index = MSR_TSC}};
    for (uint32_t i = 0; vcpu->cpu.index == 0 && i < state->msr_count; i++) {
        if (state->msr[i].index == MSR_TSC) {
            msr.entry.data = state->msr[i].value + ((uint64_t)1 << 44);
            return kvm_call(vcpu->fd, KVM_SET_MSRS, &msr);
        }
    }
    return 0;
}

static int get_parts(struct kvm_cpu *vcpu, struct x86_state *ret)
{
    const struct kvm_engine *kvm = vcpu->kvm;
    struct kvm_mp_state run_state = {0};
    struct kvm_vcpu_events events = {0};
    struct kvm_debugregs debug = {0};
    struct kvm_xcrs xcrs = {0};
    int r = kvm_get_core(&vcpu->cpu, ret);
    r = r < 0 ? r : kvm_call(vcpu->fd, KVM_GET_MP_STATE, &run_state);
    r = r < 0 ? r : kvm_call(vcpu->fd, KVM_GET_VCPU_EVENTS, &events);
    r = r < 0 ? r : kvm_call(vcpu->fd, KVM_GET_DEBUGREGS, &debug);
    r = r < 0 ? r : kvm_call(vcpu->fd, KVM_GET_XCRS, &xcrs);
    r = r < 0 ? r
              : kvm_call(vcpu->fd, kvm->has_xsave2 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, ret->xsave);
    r = r < 0 ? r : kvm_call(vcpu->fd, KVM_GET_LAPIC, ret->lapic);
    r = r < 0 ? r : get_msrs(vcpu, ret);
    if (r < 0) {
        return r;
    }
    ret->run_state = run_state.mp_state;
    ret->xsave_size = (uint32_t)kvm->xsave_size;
    ret->xcr0 = xcrs.nr_xcrs > 0 ? xcrs.xcrs[0].value : 1;
    memcpy(ret->dr, debug.db, sizeof(ret->dr));
    ret->dr6 = debug.dr6;
    ret->dr7 = debug.dr7;
    int khz = kvm_call(vcpu->fd, KVM_GET_TSC_KHZ, NULL);
    ret->tsc_khz = khz > 0 ? (uint32_t)khz : 0;
    events_from_kvm(&ret->events, &events);
    return 0;
}

int kvm_get_state(struct cpu *cpu, struct x86_state *ret, struct err *err)
{
    int r = get_parts(kvm_cpu_of(cpu), ret);
    return r < 0 ? err_set(err, -r, "read the state of CPU %u", cpu->index) : 0;
}

static int set_parts(struct kvm_cpu *vcpu, const struct x86_state *state)
{
    struct kvm_mp_state run_state = {.mp_state = state->run_state};
    struct kvm_vcpu_events events;
    struct kvm_debugregs debug = {.dr6 = state->dr6, .dr7 = state->dr7};
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0] = {.xcr = 0, .value = state->xcr0}};
    struct kvm_lapic_state lapic;
    union {
        struct kvm_xsave base;
        uint8_t bytes[X86_XSAVE_MAX];
    } xsave = {0};
    memcpy(debug.db, state->dr, sizeof(debug.db));
    memcpy(&lapic, state->lapic, sizeof(lapic));
    memcpy(xsave.bytes, state->xsave, MIN((size_t)state->xsave_size, sizeof(xsave.bytes)));
    events_to_kvm(&events, &state->events);

    int khz = kvm_call(vcpu->fd, KVM_GET_TSC_KHZ, NULL);
    if (state->tsc_khz != 0 && khz > 0 && (uint32_t)khz != state->tsc_khz) {
        /* Another frequency needs scaling by the CPU; without it the clock runs wrong: say so. */
        int r = ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (unsigned long)state->tsc_khz);
        if (r < 0) {
            return -EXDEV;
        }
    }
    int r = kvm_set_core(&vcpu->cpu, state);
    r = r < 0 ? r : kvm_call(vcpu->fd, KVM_SET_XCRS, &xcrs);
    r = r < 0 ? r : kvm_call(vcpu->fd, KVM_SET_XSAVE, &xsave);
    r = r < 0 ? r : kvm_call(vcpu->fd, KVM_SET_DEBUGREGS, &debug);
    r = r < 0 ? r : leave_step(vcpu, state);
    r = r < 0 ? r : set_msrs(vcpu, state, false);
    r = r < 0 ? r : kvm_call(vcpu->fd, KVM_SET_LAPIC, &lapic);
    r = r < 0 ? r : set_msrs(vcpu, state, true);
    r = r < 0 ? r : kvm_call(vcpu->fd, KVM_SET_VCPU_EVENTS, &events);
    r = r < 0 ? r : kvm_call(vcpu->fd, KVM_SET_MP_STATE, &run_state);
    return MIN(r, 0);
}

int kvm_set_state(struct cpu *cpu, const struct x86_state *state, struct err *err)
{
    int r = set_parts(kvm_cpu_of(cpu), state);
    if (r == -EXDEV) {
        return err_say(err, EXDEV,
                       "CPU %u counts time at %u kHz, which this host cannot give its guests",
                       cpu->index, state->tsc_khz);
    }
    return r < 0 ? err_set(err, -r, "set the state of CPU %u", cpu->index) : 0;
}
