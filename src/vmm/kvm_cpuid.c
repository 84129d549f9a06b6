#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/cpu_feature.h"
#include "vmm/kvm_internal.h"

static struct kvm_cpuid2 *new_list(void)
{
    struct kvm_cpuid2 *list =
        calloc(1, sizeof(*list) + KVM_CPUID_MAX * sizeof(struct kvm_cpuid_entry2));
    if (list != NULL) {
        list->nent = KVM_CPUID_MAX;
    }
    return list;
}

int kvm_load_cpuid(struct kvm_engine *kvm, struct err *err)
{
    kvm->cpuid = new_list();
    if (kvm->cpuid == NULL) {
        return err_set(err, ENOMEM, "read what CPUs KVM can give");
    }
    int r = kvm_call(kvm->kvm_fd, KVM_GET_SUPPORTED_CPUID, kvm->cpuid);
    return r < 0 ? err_set(err, -r, "read what CPUs KVM can give") : 0;
}

static uint32_t *register_of(struct kvm_cpuid_entry2 *entry, unsigned reg)
{
    switch (reg) {
    case CPUID_EAX:
        return &entry->eax;
    case CPUID_EBX:
        return &entry->ebx;
    case CPUID_ECX:
        return &entry->ecx;
    default:
        return &entry->edx;
    }
}

/* All CPUs are cores of one package, one thread each (SDM vol. 2, CPUID leaves 4 and 0Bh). */
static void set_topology(struct kvm_cpuid_entry2 *entry, uint32_t index, uint32_t count)
{
    unsigned bits = count > 1 ? 32 - (unsigned)__builtin_clz(count - 1) : 0;
    switch (entry->function) {
    case 1:
        entry->ebx = (entry->ebx & 0xffff) | MIN(count, 255u) << 16 | (index & 0xff) << 24;
        entry->edx = count > 1 ? entry->edx | 1u << 28 : entry->edx & ~(1u << 28);
        break;
    case 4:
        /* Threads that share the cache: the last level is everybody's. */
        if ((entry->eax & 0x1f) != 0) {
            bool last = (entry->eax >> 5 & 7) >= 3;
            entry->eax = (entry->eax & 0x3fff) | (last ? (1u << bits) - 1 : 0) << 14 |
                         MIN((1u << bits) - 1, 63u) << 26;
        }
        break;
    case 0xb:
    case 0x1f:
        entry->eax = entry->index == 0 ? 0 : entry->index == 1 ? bits : 0;
        entry->ebx = entry->index == 0 ? 1 : entry->index == 1 ? count : 0;
        entry->ecx = entry->index | (entry->index == 0 ? 1u << 8 : entry->index == 1 ? 2u << 8 : 0);
        entry->edx = index;
        break;
    case 0x80000008:
        entry->ecx = (entry->ecx & ~0xf0ffu) | MIN(count - 1, 255u) | bits << 12;
        break;
    case 0x8000001e: /* AMD: extended APIC id, one thread a core */
        entry->eax = index;
        entry->ebx = index & 0xff;
        entry->ecx = 0;
        break;
    default:
        break;
    }
}

static int hide(struct kvm_cpuid2 *list, const struct cpu_model *model, struct err *err)
{
    for (size_t i = 0; model->off != NULL && model->off[i] != NULL; i++) {
        const struct cpu_feature *feature = cpu_feature_find(model->off[i]);
        if (feature == NULL) {
            return err_say(err, EINVAL,
                           "CPU feature '%s' is not known; names are those of "
                           "/proc/cpuinfo",
                           model->off[i]);
        }
        for (uint32_t k = 0; k < list->nent; k++) {
            struct kvm_cpuid_entry2 *entry = &list->entries[k];
            if (entry->function == feature->leaf && entry->index == feature->subleaf) {
                *register_of(entry, feature->reg) &= ~(1u << feature->bit);
            }
        }
    }
    return 0;
}

static bool is_hypervisor_leaf(uint32_t leaf)
{
    return leaf >= 0x40000000 && leaf < 0x40010000;
}

int kvm_set_cpuid(struct kvm_cpu *vcpu, const struct cpu_model *model, struct err *err)
{
    AUTO(freep) struct kvm_cpuid2 *list = new_list();
    if (list == NULL) {
        return err_set(err, ENOMEM, "describe CPU %u", vcpu->cpu.index);
    }
    const struct kvm_cpuid2 *host = vcpu->kvm->cpuid;
    list->nent = 0;
    for (uint32_t i = 0; i < host->nent && i < KVM_CPUID_MAX; i++) {
        struct kvm_cpuid_entry2 entry = host->entries[i];
        if (model->hide_hypervisor && is_hypervisor_leaf(entry.function)) {
            continue;
        }
        if (entry.function == 1) {
            /* The kernel's local APIC has the deadline timer, whatever the host's has. */
            entry.ecx |= 1u << 24 | (model->hide_hypervisor ? 0 : 1u << 31);
        }
        set_topology(&entry, vcpu->cpu.index, model->count);
        list->entries[list->nent++] = entry;
    }
    int r = hide(list, model, err);
    if (r < 0) {
        return r;
    }
    r = kvm_call(vcpu->fd, KVM_SET_CPUID2, list);
    return r < 0 ? err_set(err, -r, "describe CPU %u to KVM", vcpu->cpu.index) : 0;
}
