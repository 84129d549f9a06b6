#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/err.h"
#include "vmm/kvm_internal.h"

/* Interrupts KVM_RUN; its handler does nothing. */
#define KICK_SIGNAL (SIGRTMIN + 1)

#define DEBUG_EXCEPTION 1 /* #DB; the other is #BP */
#define INT3 0xcc

static void kvm_cpu_free(struct cpu *cpu)
{
    struct kvm_cpu *vcpu = kvm_cpu_of(cpu);
    if (vcpu->run != NULL) {
        (void)munmap(vcpu->run, vcpu->kvm->run_size);
    }
    (void)close_fd(vcpu->fd);
    free(vcpu);
}

static int describe_failure(struct kvm_cpu *vcpu, const char *what, uint64_t code,
                            struct cpu_exit *ret)
{
    const struct kvm_run *run = vcpu->run;
    struct kvm_regs regs = {0};
    ret->kind = CPU_EXIT_UNEMULATED;
    ret->failed.what = what;
    ret->failed.code = code;
    ret->failed.len = 0;
    ret->failed.ip = kvm_call(vcpu->fd, KVM_GET_REGS, &regs) < 0 ? 0 : regs.rip;
    if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
        run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION && run->internal.ndata >= 4 &&
        (run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0) {
        ret->failed.len =
            (uint8_t)MIN((size_t)run->emulation_failure.insn_size, sizeof(ret->failed.bytes));
        memcpy(ret->failed.bytes, run->emulation_failure.insn_bytes, ret->failed.len);
        /* A KVM that interprets does not know INT3: for a debugger this is the stop. */
        if (vcpu->software_breakpoints && ret->failed.len > 0 && ret->failed.bytes[0] == INT3) {
            ret->kind = CPU_EXIT_DEBUG;
            ret->address = ret->failed.ip;
            ret->watch = 0;
        }
    }
    return 0;
}

static void describe_port(struct kvm_cpu *vcpu, struct cpu_exit *ret)
{
    struct kvm_run *run = vcpu->run;
    ret->kind = CPU_EXIT_PORT;
    ret->write = run->io.direction == KVM_EXIT_IO_OUT;
    ret->size = run->io.size;
    ret->count = run->io.count;
    ret->address = run->io.port;
    ret->data = (uint8_t *)run + run->io.data_offset;
}

static void describe_mmio(struct kvm_cpu *vcpu, struct cpu_exit *ret)
{
    struct kvm_run *run = vcpu->run;
    ret->kind = CPU_EXIT_MMIO;
    ret->write = run->mmio.is_write != 0;
    ret->size = (uint8_t)run->mmio.len;
    ret->count = 1;
    ret->address = run->mmio.phys_addr;
    ret->data = run->mmio.data;
}

static int describe_exit(struct kvm_cpu *vcpu, struct cpu_exit *ret)
{
    const struct kvm_run *run = vcpu->run;
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        describe_port(vcpu, ret);
        vcpu->access_pending = true;
        return 0;
    case KVM_EXIT_MMIO:
        describe_mmio(vcpu, ret);
        vcpu->access_pending = true;
        return 0;
    case KVM_EXIT_HLT:
        ret->kind = CPU_EXIT_HALT;
        return 0;
    case KVM_EXIT_IOAPIC_EOI:
        ret->kind = CPU_EXIT_EOI;
        ret->vector = run->eoi.vector;
        return 0;
    case KVM_EXIT_SHUTDOWN:
        ret->kind = CPU_EXIT_SHUTDOWN;
        return 0;
    case KVM_EXIT_DEBUG:
        ret->kind = CPU_EXIT_DEBUG;
        ret->address = run->debug.arch.pc;
        ret->watch = (uint8_t)(run->debug.arch.exception == DEBUG_EXCEPTION
                                   ? run->debug.arch.dr6 & ((1u << CPU_WATCH_MAX) - 1)
                                   : 0);
        return 0;
    case KVM_EXIT_INTERNAL_ERROR:
        return describe_failure(vcpu,
                                run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION
                                    ? "KVM cannot emulate an instruction"
                                    : "KVM reports an internal error",
                                run->internal.suberror, ret);
    case KVM_EXIT_FAIL_ENTRY:
        return describe_failure(vcpu, "the CPU refuses to enter the guest",
                                run->fail_entry.hardware_entry_failure_reason, ret);
    case KVM_EXIT_UNKNOWN:
        return describe_failure(vcpu, "the CPU left the guest for an unknown reason",
                                run->hw.hardware_exit_reason, ret);
    default:
        return describe_failure(vcpu, "KVM left the guest for a reason that isola does not know",
                                run->exit_reason, ret);
    }
}

static int kvm_cpu_run(struct cpu *cpu, struct cpu_exit *ret)
{
    struct kvm_cpu *vcpu = kvm_cpu_of(cpu);
    /* Before KVM looks at the flag: a kick that still goes to another thread has set it. */
    if (atomic_load_explicit(&vcpu->thread, memory_order_relaxed) != pthread_self()) {
        atomic_store(&vcpu->thread, pthread_self());
    }
    ret->kind = CPU_EXIT_NONE;
    vcpu->access_pending = false;
    int r = ioctl(vcpu->fd, KVM_RUN, NULL);
    if (r == 0) {
        return describe_exit(vcpu, ret);
    }
    if (errno == EINTR || errno == EAGAIN) {
        /* Cleared before the caller looks why he was kicked: a kick from now on counts for the next
         * run. */
        __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
        return 0;
    }
    if (errno == EFAULT) {
        return describe_failure(vcpu, "the guest touched memory that the host cannot give", EFAULT,
                                ret);
    }
    return -errno;
}

static void kvm_cpu_kick(struct cpu *cpu)
{
    struct kvm_cpu *vcpu = kvm_cpu_of(cpu);
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    pthread_t thread = atomic_load(&vcpu->thread);
    if (thread != 0) {
        (void)pthread_kill(thread, KICK_SIGNAL);
    }
}

static int kvm_cpu_settle(struct cpu *cpu, struct cpu_exit *ret)
{
    struct kvm_cpu *vcpu = kvm_cpu_of(cpu);
    ret->kind = CPU_EXIT_NONE;
    if (!vcpu->access_pending) {
        return 0;
    }
    /* KVM ends the instruction first and looks at the flag then. A kick that is overwritten here
     * is seen all the same: whoever settles looks why he was kicked afterwards. */
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    int r = ioctl(vcpu->fd, KVM_RUN, NULL) < 0 ? -errno : 0;
    __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    vcpu->access_pending = false;
    if (r == 0) {
        return describe_exit(vcpu, ret); /* the next piece of a string instruction */
    }
    return r == -EINTR || r == -EAGAIN ? 0 : r;
}

int kvm_cpu_rest(struct kvm_cpu *vcpu)
{
    struct cpu_exit exit;
    int r = kvm_cpu_settle(&vcpu->cpu, &exit);
    return r < 0 || exit.kind == CPU_EXIT_NONE ? r : -EBUSY;
}

static int kvm_cpu_debug(struct cpu *cpu, const struct cpu_debug *debug)
{
    struct kvm_guest_debug control = {0};
    uint64_t dr7 = 0x400;
    for (unsigned i = 0; i < CPU_WATCH_MAX; i++) {
        if (debug->watch[i].len == 0) {
            continue;
        }
        /* LEN: 0 one byte, 1 two, 3 four, 2 eight (SDM vol. 3, 18.2.4). */
        static const uint8_t length[9] = {[1] = 0, [2] = 1, [4] = 3, [8] = 2};
        control.arch.debugreg[i] = debug->watch[i].address;
        dr7 |= 2ULL << (2 * i);
        dr7 |= (uint64_t)(debug->watch[i].kind | length[debug->watch[i].len] << 2) << (16 + 4 * i);
    }
    control.arch.debugreg[7] = dr7;
    kvm_cpu_of(cpu)->software_breakpoints = debug->software_breakpoints;
    control.control =
        (dr7 != 0x400 ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP : 0) |
        (debug->single_step ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0) |
        (debug->software_breakpoints ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP : 0);
    int r = kvm_call(kvm_cpu_of(cpu)->fd, KVM_SET_GUEST_DEBUG, &control);
    return r < 0 ? r : 0;
}

static int kvm_cpu_translate(struct cpu *cpu, uint64_t linear, uint64_t *ret_gpa)
{
    struct kvm_translation translation = {.linear_address = linear};
    int r = kvm_call(kvm_cpu_of(cpu)->fd, KVM_TRANSLATE, &translation);
    if (r < 0 || translation.valid == 0) {
        return r < 0 ? r : -EFAULT;
    }
    *ret_gpa = translation.physical_address;
    return 0;
}

static void kvm_cpu_resumed(struct cpu *cpu)
{
    /* Fails when the guest has no paravirtual clock: then there is nobody to tell. */
    (void)kvm_call(kvm_cpu_of(cpu)->fd, KVM_KVMCLOCK_CTRL, NULL);
}

static const struct cpu_ops kvm_cpu_ops = {
    .free = kvm_cpu_free,
    .run = kvm_cpu_run,
    .settle = kvm_cpu_settle,
    .kick = kvm_cpu_kick,
    .get_core = kvm_get_core,
    .set_core = kvm_set_core,
    .get_state = kvm_get_state,
    .set_state = kvm_set_state,
    .debug = kvm_cpu_debug,
    .translate = kvm_cpu_translate,
    .resumed = kvm_cpu_resumed,
};

static void on_kick(int signal)
{
    (void)signal;
}

int kvm_cpu_new(struct cpu_engine *engine, uint32_t index, const struct cpu_model *model,
                struct cpu **ret, struct err *err)
{
    struct kvm_engine *kvm = kvm_engine_of(engine);
    struct sigaction action = {.sa_handler = on_kick};
    if (sigaction(KICK_SIGNAL, &action, NULL) < 0) {
        return err_set(err, errno, "install the signal that stops CPUs");
    }
    int r = kvm_make_controllers(kvm, err);
    if (r < 0) {
        return r;
    }
    struct kvm_cpu *vcpu = calloc(1, sizeof(*vcpu));
    if (vcpu == NULL) {
        return err_set(err, ENOMEM, "make CPU %u", index);
    }
    AUTO(cpu_freep) struct cpu *cpu = &vcpu->cpu;
    cpu->ops = &kvm_cpu_ops;
    cpu->index = index;
    vcpu->kvm = kvm;
    vcpu->fd = ioctl(kvm->vm_fd, KVM_CREATE_VCPU, (unsigned long)index);
    if (vcpu->fd < 0) {
        int code = errno;
        (void)err_set(err, code, "make CPU %u with KVM", index);
        if (code == EINVAL) {
            err_hint(err, "the machine has more CPUs than this host's KVM can give");
        }
        return -code;
    }
    void *run = mmap(NULL, kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (run == MAP_FAILED) {
        return err_set(err, errno, "map the state of CPU %u", index);
    }
    vcpu->run = run;
    r = kvm_set_cpuid(vcpu, model, err);
    if (r < 0) {
        return r;
    }
    *ret = TAKE_PTR(cpu);
    return 0;
}
