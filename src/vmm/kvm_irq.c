#include <errno.h>
#include <stdlib.h>

#include "base/macros.h"
#include "vmm/kvm_internal.h"
#include "vmm/layout.h"

int kvm_line_attach(struct cpu_engine *engine, uint32_t gsi, int fd)
{
    struct kvm_irqfd irqfd = {.fd = (uint32_t)fd, .gsi = gsi};
    return kvm_call(kvm_engine_of(engine)->vm_fd, KVM_IRQFD, &irqfd);
}

void kvm_line_detach(struct cpu_engine *engine, uint32_t gsi, int fd)
{
    struct kvm_irqfd irqfd = {.fd = (uint32_t)fd, .gsi = gsi, .flags = KVM_IRQFD_FLAG_DEASSIGN};
    (void)kvm_call(kvm_engine_of(engine)->vm_fd, KVM_IRQFD, &irqfd);
}

int kvm_send(struct cpu_engine *engine, const struct cpu_message *message)
{
    struct kvm_msi msi = {
        .address_lo = (uint32_t)message->address,
        .address_hi = (uint32_t)(message->address >> 32),
        .data = message->data,
    };
    return kvm_call(kvm_engine_of(engine)->vm_fd, KVM_SIGNAL_MSI, &msi);
}

static struct kvm_irq_routing_entry route_of(uint32_t gsi, uint64_t address, uint32_t data)
{
    return (struct kvm_irq_routing_entry){
        .gsi = gsi,
        .type = KVM_IRQ_ROUTING_MSI,
        .u.msi = {.address_lo = (uint32_t)address,
                  .address_hi = (uint32_t)(address >> 32),
                  .data = data},
    };
}

/* Those of the board's own controller. */
static size_t add_pins(const struct kvm_engine *kvm, struct kvm_irq_routing_entry *entry)
{
    size_t n = 0;
    for (uint32_t gsi = 0; gsi < X86_IOAPIC_PINS; gsi++) {
        if (kvm->line[gsi].used) {
            entry[n++] = route_of(gsi, kvm->line[gsi].message.address, kvm->line[gsi].message.data);
        }
    }
    return n;
}

/* KVM's own routes of the controllers in the kernel, which a new table must repeat. */
static size_t add_lines(struct kvm_irq_routing_entry *entry)
{
    size_t n = 0;
    for (uint32_t gsi = 0; gsi < X86_IOAPIC_PINS; gsi++) {
        if (gsi < 16) {
            entry[n++] = (struct kvm_irq_routing_entry){
                .gsi = gsi,
                .type = KVM_IRQ_ROUTING_IRQCHIP,
                .u.irqchip = {.irqchip = gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
                              .pin = gsi % 8},
            };
        }
        /* The timer's interrupt 0 is on pin 2 of the I/O APIC (MADT says so, too). */
        entry[n++] = (struct kvm_irq_routing_entry){
            .gsi = gsi,
            .type = KVM_IRQ_ROUTING_IRQCHIP,
            .u.irqchip = {.irqchip = KVM_IRQCHIP_IOAPIC, .pin = gsi == 0 ? 2 : gsi},
        };
    }
    return n;
}

#define LINES_MAX ((size_t)40)

/* With the lock held. */
static int write_routes(struct kvm_engine *kvm)
{
    AUTO(freep)
    struct kvm_irq_routing *table =
        calloc(1, sizeof(*table) + (LINES_MAX + KVM_MESSAGES_MAX) * sizeof(table->entries[0]));
    if (table == NULL) {
        return -ENOMEM;
    }
    size_t n = kvm->split ? add_pins(kvm, table->entries) : add_lines(table->entries);
    for (uint32_t i = 0; i < KVM_MESSAGES_MAX; i++) {
        if (!kvm->message[i].used) {
            continue;
        }
        table->entries[n++] =
            route_of(LAYOUT_GSI_MESSAGES + i, kvm->message[i].address, kvm->message[i].data);
    }
    table->nr = (uint32_t)n;
    return kvm_call(kvm->vm_fd, KVM_SET_GSI_ROUTING, table);
}

int kvm_line_route(struct cpu_engine *engine, uint32_t gsi, const struct cpu_message *message)
{
    struct kvm_engine *kvm = kvm_engine_of(engine);
    if (gsi >= X86_IOAPIC_PINS) {
        return -EINVAL;
    }
    (void)pthread_mutex_lock(&kvm->lock);
    kvm->line[gsi].used = message != NULL;
    if (message != NULL) {
        kvm->line[gsi].message = *message;
    }
    int r = write_routes(kvm);
    (void)pthread_mutex_unlock(&kvm->lock);
    return r;
}

/* With the lock held; -ENOSPC. */
static int take_message(struct kvm_engine *kvm, uint64_t address, uint32_t data, uint32_t *ret_id)
{
    for (uint32_t i = 0; i < KVM_MESSAGES_MAX; i++) {
        if (!kvm->message[i].used) {
            kvm->message[i].used = true;
            kvm->message[i].address = address;
            kvm->message[i].data = data;
            *ret_id = i;
            return 0;
        }
    }
    return -ENOSPC;
}

int kvm_message_attach(struct cpu_engine *engine, int fd, uint64_t address, uint32_t data,
                       uint32_t *ret_id)
{
    struct kvm_engine *kvm = kvm_engine_of(engine);
    uint32_t id = 0;
    (void)pthread_mutex_lock(&kvm->lock);
    int r = take_message(kvm, address, data, &id);
    if (r == 0) {
        r = write_routes(kvm);
        r = r < 0 ? r : kvm_line_attach(engine, LAYOUT_GSI_MESSAGES + id, fd);
        if (r < 0) {
            kvm->message[id].used = false;
        }
    }
    (void)pthread_mutex_unlock(&kvm->lock);
    if (r == 0) {
        *ret_id = id;
    }
    return r;
}

int kvm_message_change(struct cpu_engine *engine, uint32_t id, uint64_t address, uint32_t data)
{
    struct kvm_engine *kvm = kvm_engine_of(engine);
    int r = 0;
    (void)pthread_mutex_lock(&kvm->lock);
    if (kvm->message[id].address != address || kvm->message[id].data != data) {
        kvm->message[id].address = address;
        kvm->message[id].data = data;
        r = write_routes(kvm);
    }
    (void)pthread_mutex_unlock(&kvm->lock);
    return r;
}

void kvm_message_detach(struct cpu_engine *engine, uint32_t id, int fd)
{
    struct kvm_engine *kvm = kvm_engine_of(engine);
    struct kvm_irqfd irqfd = {
        .fd = (uint32_t)fd,
        .gsi = LAYOUT_GSI_MESSAGES + id,
        .flags = KVM_IRQFD_FLAG_DEASSIGN,
    };
    (void)kvm_call(kvm->vm_fd, KVM_IRQFD, &irqfd);
    (void)pthread_mutex_lock(&kvm->lock);
    kvm->message[id].used = false;
    (void)write_routes(kvm);
    (void)pthread_mutex_unlock(&kvm->lock);
}
