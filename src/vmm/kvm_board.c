#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "vmm/kvm_internal.h"

/* KVM's struct kvm_pic_state has the same bytes in the same order. */
_Static_assert(sizeof(struct kvm_pic_state) == sizeof(struct x86_pic), "an 8259's registers");

static void ioapic_from_kvm(struct x86_ioapic *to, const struct kvm_ioapic_state *from)
{
    to->base = from->base_address;
    to->select = from->ioregsel;
    to->id = from->id;
    to->irr = from->irr;
    for (size_t i = 0; i < X86_IOAPIC_PINS; i++) {
        to->redirection[i] = from->redirtbl[i].bits;
    }
}

static void ioapic_to_kvm(struct kvm_ioapic_state *to, const struct x86_ioapic *from)
{
    to->base_address = from->base;
    to->ioregsel = from->select;
    to->id = from->id;
    to->irr = from->irr;
    for (size_t i = 0; i < X86_IOAPIC_PINS; i++) {
        to->redirtbl[i].bits = from->redirection[i];
    }
}

static void channel_from_kvm(struct x86_pit_channel *to, const struct kvm_pit_channel_state *from)
{
    *to = (struct x86_pit_channel){
        .count = from->count,
        .latched_count = from->latched_count,
        .count_latched = from->count_latched,
        .status_latched = from->status_latched,
        .status = from->status,
        .read_state = from->read_state,
        .write_state = from->write_state,
        .write_latch = from->write_latch,
        .rw_mode = from->rw_mode,
        .mode = from->mode,
        .bcd = from->bcd,
        .gate = from->gate,
        .loaded_at_ns = from->count_load_time,
    };
}

static void channel_to_kvm(struct kvm_pit_channel_state *to, const struct x86_pit_channel *from)
{
    *to = (struct kvm_pit_channel_state){
        .count = from->count,
        .latched_count = from->latched_count,
        .count_latched = from->count_latched,
        .status_latched = from->status_latched,
        .status = from->status,
        .read_state = from->read_state,
        .write_state = from->write_state,
        .write_latch = from->write_latch,
        .rw_mode = from->rw_mode,
        .mode = from->mode,
        .bcd = from->bcd,
        .gate = from->gate,
        .count_load_time = from->loaded_at_ns,
    };
}

static int get_chips(const struct kvm_engine *kvm, struct x86_board_state *ret)
{
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_PIC_MASTER};
    for (uint32_t i = 0; i < 2; i++) {
        chip.chip_id = i == 0 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
        int r = kvm_call(kvm->vm_fd, KVM_GET_IRQCHIP, &chip);
        if (r < 0) {
            return r;
        }
        memcpy(&ret->pic[i], &chip.chip.pic, sizeof(ret->pic[i]));
    }
    chip.chip_id = KVM_IRQCHIP_IOAPIC;
    int r = kvm_call(kvm->vm_fd, KVM_GET_IRQCHIP, &chip);
    if (r == 0) {
        ioapic_from_kvm(&ret->ioapic, &chip.chip.ioapic);
        ret->has_pic = ret->has_ioapic = 1;
    }
    return r;
}

static int set_chips(const struct kvm_engine *kvm, const struct x86_board_state *state)
{
    struct kvm_irqchip chip = {0};
    for (uint32_t i = 0; i < 2; i++) {
        chip.chip_id = i == 0 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
        memcpy(&chip.chip.pic, &state->pic[i], sizeof(state->pic[i]));
        int r = kvm_call(kvm->vm_fd, KVM_SET_IRQCHIP, &chip);
        if (r < 0) {
            return r;
        }
    }
    memset(&chip, 0, sizeof(chip));
    chip.chip_id = KVM_IRQCHIP_IOAPIC;
    ioapic_to_kvm(&chip.chip.ioapic, &state->ioapic);
    return kvm_call(kvm->vm_fd, KVM_SET_IRQCHIP, &chip);
}

int kvm_get_board(struct cpu_engine *engine, struct x86_board_state *ret, struct err *err)
{
    const struct kvm_engine *kvm = kvm_engine_of(engine);
    struct kvm_clock_data clock = {0};
    struct kvm_pit_state2 pit = {0};
    int r = kvm->split ? 0 : get_chips(kvm, ret);
    if (r == 0 && kvm->pit) {
        r = kvm_call(kvm->vm_fd, KVM_GET_PIT2, &pit);
        for (size_t i = 0; r == 0 && i < COUNT(ret->pit); i++) {
            channel_from_kvm(&ret->pit[i], &pit.channels[i]);
        }
        ret->pit_flags = pit.flags;
        ret->has_pit = 1;
    }
    r = r < 0 ? r : kvm_call(kvm->vm_fd, KVM_GET_CLOCK, &clock);
    ret->clock_ns = clock.clock;
    return r < 0 ? err_set(err, -r, "read KVM's interrupt controllers and clock") : 0;
}

int kvm_set_board(struct cpu_engine *engine, const struct x86_board_state *state, struct err *err)
{
    const struct kvm_engine *kvm = kvm_engine_of(engine);
    if ((state->has_ioapic != 0) == kvm->split || (state->has_pit != 0) != kvm->pit) {
        return err_say(err, EINVAL, "the saved machine had other interrupt controllers");
    }
    int r = kvm->split ? 0 : set_chips(kvm, state);
    if (r == 0 && kvm->pit) {
        struct kvm_pit_state2 pit = {.flags = state->pit_flags};
        for (size_t i = 0; i < COUNT(state->pit); i++) {
            channel_to_kvm(&pit.channels[i], &state->pit[i]);
        }
        r = kvm_call(kvm->vm_fd, KVM_SET_PIT2, &pit);
    }
    /* The guest's clock goes on where it stopped: time that the machine was away never was. */
    struct kvm_clock_data clock = {.clock = state->clock_ns};
    r = r < 0 ? r : kvm_call(kvm->vm_fd, KVM_SET_CLOCK, &clock);
    return r < 0 ? err_set(err, -r, "set KVM's interrupt controllers and clock") : 0;
}
