#include "vmm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/kvm_internal.h"
#include "vmm/layout.h"

#define KVM_DEVICE "/dev/kvm"

int kvm_call(int fd, unsigned long request, void *argument)
{
    int r;
    do {
        r = ioctl(fd, request, argument);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

/* ioctl whose argument is a number. */
static int kvm_call_number(int fd, unsigned long request, unsigned long argument)
{
    int r = ioctl(fd, request, argument);
    return r < 0 ? -errno : r;
}

static int has(const struct kvm_engine *kvm, unsigned long capability)
{
    int r = kvm_call_number(kvm->vm_fd, KVM_CHECK_EXTENSION, capability);
    return r < 0 ? 0 : r;
}

static void kvm_free(struct cpu_engine *engine)
{
    struct kvm_engine *kvm = kvm_engine_of(engine);
    (void)close_fd(kvm->vm_fd);
    (void)close_fd(kvm->kvm_fd);
    (void)pthread_mutex_destroy(&kvm->lock);
    free(kvm->cpuid);
    free(kvm->msrs);
    free(kvm);
}

static int kvm_map(struct cpu_engine *engine, const struct cpu_map *map)
{
    struct kvm_userspace_memory_region region = {
        .slot = map->slot,
        .flags = (map->read_only ? KVM_MEM_READONLY : 0) |
                 (map->track_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0),
        .guest_phys_addr = map->gpa,
        .memory_size = map->size,
        .userspace_addr = (uint64_t)(uintptr_t)map->host,
    };
    return kvm_call(kvm_engine_of(engine)->vm_fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static int kvm_dirty(struct cpu_engine *engine, uint32_t slot, uint64_t *bitmap, size_t bytes)
{
    (void)bytes; /* checked by memory.c against the region's size */
    struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = bitmap};
    int r = kvm_call(kvm_engine_of(engine)->vm_fd, KVM_GET_DIRTY_LOG, &log);
    return r < 0 ? r : 0;
}

static int kvm_doorbell(struct cpu_engine *engine, bool port, uint64_t address, uint32_t size,
                        uint64_t value, int fd, bool on)
{
    struct kvm_ioeventfd doorbell = {
        .datamatch = value,
        .addr = address,
        .len = size,
        .fd = fd,
        .flags = (port ? KVM_IOEVENTFD_FLAG_PIO : 0) |
                 (size > 0 ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0) |
                 (on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
    };
    int r = kvm_call(kvm_engine_of(engine)->vm_fd, KVM_IOEVENTFD, &doorbell);
    /* An old kernel without the form that takes any size; too many of them: the bus can. */
    return r == -EINVAL || r == -ENOSPC ? -EOPNOTSUPP : MIN(r, 0);
}

static const struct cpu_engine_ops kvm_ops = {
    .name = "kvm",
    .free = kvm_free,
    .map = kvm_map,
    .dirty = kvm_dirty,
    .cpu_new = kvm_cpu_new,
    .line_attach = kvm_line_attach,
    .line_detach = kvm_line_detach,
    .line_route = kvm_line_route,
    .send = kvm_send,
    .message_attach = kvm_message_attach,
    .message_change = kvm_message_change,
    .message_detach = kvm_message_detach,
    .doorbell = kvm_doorbell,
    .get_board = kvm_get_board,
    .set_board = kvm_set_board,
};

static int open_device(struct err *err)
{
    int fd = open(KVM_DEVICE, O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
        return fd;
    }
    int code = errno;
    (void)err_set(err, code, "open '%s'", KVM_DEVICE);
    if (code == ENOENT || code == ENXIO || code == ENODEV) {
        err_hint(err, "load the module kvm_intel or kvm_amd and switch on virtualization in the "
                      "firmware; inside a virtual machine its host must allow nesting");
    } else if (code == EACCES || code == EPERM) {
        err_hint(err, "add yourself to the group that owns it (usually kvm)");
    }
    return -code;
}

static int check_host(const struct kvm_engine *kvm, struct err *err)
{
    static const struct {
        unsigned long capability;
        const char *name;
    } needs[] = {
        {KVM_CAP_USER_MEMORY, "user memory"},       {KVM_CAP_IRQFD, "irqfd"},
        {KVM_CAP_IOEVENTFD, "ioeventfd"},           {KVM_CAP_IRQ_ROUTING, "interrupt routing"},
        {KVM_CAP_IMMEDIATE_EXIT, "immediate_exit"}, {KVM_CAP_EXT_CPUID, "CPUID lists"},
        {KVM_CAP_VCPU_EVENTS, "vCPU events"},       {KVM_CAP_XSAVE, "XSAVE"},
        {KVM_CAP_MP_STATE, "vCPU run states"},      {KVM_CAP_ADJUST_CLOCK, "clock"},
    };
    if (kvm->split && has(kvm, KVM_CAP_SPLIT_IRQCHIP) == 0) {
        return err_say(err, EOPNOTSUPP,
                       "this kernel's KVM has no local APICs alone; leave split_irqchip out");
    }
    int version = kvm_call_number(kvm->kvm_fd, KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION) {
        return err_say(err, EOPNOTSUPP, "KVM's interface has version %d, isola needs %d", version,
                       KVM_API_VERSION);
    }
    for (size_t i = 0; i < COUNT(needs); i++) {
        if (has(kvm, needs[i].capability) == 0) {
            return err_say(err, EOPNOTSUPP, "this kernel's KVM has no %s; use Linux 5.10 or newer",
                           needs[i].name);
        }
    }
    return 0;
}

/*
 * As firmware leaves them where nobody is to use them: all lines masked. A system that finds no I/O
 * APIC (Linux with acpi=noirq) does not set them up either, and would get our edges as vectors 0 to
 * 15, which are exceptions.
 */
static int mask_pics(const struct kvm_engine *kvm)
{
    int r = 0;
    for (uint32_t id = KVM_IRQCHIP_PIC_MASTER; r >= 0 && id <= KVM_IRQCHIP_PIC_SLAVE; id++) {
        struct kvm_irqchip chip = {.chip_id = id};
        r = kvm_call(kvm->vm_fd, KVM_GET_IRQCHIP, &chip);
        chip.chip.pic.imr = 0xff;
        r = r < 0 ? r : kvm_call(kvm->vm_fd, KVM_SET_IRQCHIP, &chip);
    }
    return r;
}

int kvm_make_controllers(struct kvm_engine *kvm, struct err *err)
{
    if (kvm->has_controllers) {
        return 0;
    }
    /* For Intel CPUs without unrestricted guests; nothing may lie there. */
    (void)kvm_call_number(kvm->vm_fd, KVM_SET_TSS_ADDR, LAYOUT_KVM_IDENTITY + 0x1000);
    uint64_t identity = LAYOUT_KVM_IDENTITY;
    (void)kvm_call(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    int r;
    if (kvm->split) {
        struct kvm_enable_cap enable = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {X86_IOAPIC_PINS}};
        r = kvm_call(kvm->vm_fd, KVM_ENABLE_CAP, &enable);
    } else {
        r = kvm_call_number(kvm->vm_fd, KVM_CREATE_IRQCHIP, 0);
        r = r < 0 ? r : mask_pics(kvm);
    }
    if (r == 0 && kvm->pit) {
        struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
        r = kvm_call(kvm->vm_fd, KVM_CREATE_PIT2, &pit);
    }
    kvm->has_controllers = r >= 0;
    return r < 0 ? err_set(err, -r, "make KVM's interrupt controllers") : 0;
}

int kvm_engine_new(const struct kvm_options *options, struct cpu_engine **ret, struct err *err)
{
    struct kvm_engine *kvm = calloc(1, sizeof(*kvm));
    if (kvm == NULL) {
        return err_set(err, ENOMEM, "open KVM");
    }
    AUTO(cpu_engine_freep) struct cpu_engine *engine = &kvm->engine;
    kvm->engine.ops = &kvm_ops;
    kvm->vm_fd = -1;
    kvm->split = options->split;
    kvm->pit = options->pit && !options->split;
    (void)pthread_mutex_init(&kvm->lock, NULL);
    kvm->kvm_fd = options->fd >= 0 ? fcntl(options->fd, F_DUPFD_CLOEXEC, 3) : open_device(err);
    if (kvm->kvm_fd < 0) {
        return options->fd >= 0 ? err_set(err, errno, "open KVM") : kvm->kvm_fd;
    }
    kvm->vm_fd = kvm_call_number(kvm->kvm_fd, KVM_CREATE_VM, 0);
    if (kvm->vm_fd < 0) {
        int code = -kvm->vm_fd;
        return err_set(err, code, "make a virtual machine with '%s'", KVM_DEVICE);
    }
    int r = check_host(kvm, err);
    r = r < 0 ? r : kvm_load_cpuid(kvm, err);
    r = r < 0 ? r : kvm_load_msr_list(kvm, err);
    if (r < 0) {
        return r;
    }
    int size = kvm_call_number(kvm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (size < (int)sizeof(struct kvm_run)) {
        return err_say(err, EPROTO, "KVM's vCPU area has %d bytes", size);
    }
    kvm->run_size = (size_t)size;
    int xsave = has(kvm, KVM_CAP_XSAVE2);
    kvm->has_xsave2 = xsave > (int)sizeof(struct kvm_xsave);
    kvm->xsave_size = kvm->has_xsave2 ? (size_t)xsave : sizeof(struct kvm_xsave);
    if (kvm->xsave_size > X86_XSAVE_MAX) {
        return err_say(err, EOPNOTSUPP, "this CPU's state has %zu bytes, more than isola keeps",
                       kvm->xsave_size);
    }
    *ret = TAKE_PTR(engine);
    return 0;
}
