#include "vmm/acpi/dsdt.h"

#include <stdio.h>

#include "vmm/acpi/aml.h"
#include "vmm/chip/power.h"

#define SPACE_SYSTEM_MEMORY 0

#define CONFIG_PORT 0xcf8 /* of PCI, eight ports */
#define CONFIG_PORTS 8
#define POWER_BUTTON_PRESSED 0x80
#define GENERATION_CHANGED 0x80

static void write_processors(struct aml *aml, const struct acpi_board *board)
{
    for (uint32_t i = 0; i < board->cpu_count; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "C%03X", (unsigned)i);
        aml_device(aml, name);
        aml_name_string(aml, "_HID", "ACPI0007");
        aml_name_integer(aml, "_UID", i);
        aml_end(aml);
    }
}

static void write_virtio(struct aml *aml, const struct acpi_board *board)
{
    for (size_t i = 0; i < board->virtio_count; i++) {
        const struct acpi_virtio_mmio *v = &board->virtio[i];
        char name[16];
        (void)snprintf(name, sizeof(name), "VR%02X", (unsigned)i);
        aml_device(aml, name);
        aml_name_string(aml, "_HID", "LNRO0005");
        aml_name_integer(aml, "_UID", i);
        aml_name_integer(aml, "_CCA", 1);
        aml_resources(aml);
        aml_res_memory_32(aml, (uint32_t)v->base, v->size);
        aml_res_interrupt(aml, v->gsi);
        aml_end(aml);
        aml_end(aml);
    }
}

/* A device of the old PC: one or two ranges of ports, one interrupt. */
static void write_port_device(struct aml *aml, const char *name, const char *id, uint16_t port,
                              uint8_t ports, uint16_t second_port, uint32_t gsi)
{
    aml_device(aml, name);
    aml_name_eisa_id(aml, "_HID", id);
    aml_name_integer(aml, "_UID", 0);
    aml_resources(aml);
    aml_res_io(aml, port, ports);
    if (second_port != 0) {
        aml_res_io(aml, second_port, ports);
    }
    aml_res_interrupt(aml, gsi);
    aml_end(aml);
    aml_end(aml);
}

static void write_old_devices(struct aml *aml, const struct acpi_board *board)
{
    if (board->uart_port != 0) {
        write_port_device(aml, "COM1", "PNP0501", board->uart_port, 8, 0, board->uart_gsi);
    }
    if (board->rtc) {
        write_port_device(aml, "RTC", "PNP0B00", 0x70, 2, 0, 8);
    }
    if (board->i8042) {
        write_port_device(aml, "KBD", "PNP0303", 0x60, 1, 0x64, 1);
    }
    if (board->pvpanic_port != 0) {
        aml_device(aml, "PEVT");
        aml_name_string(aml, "_HID", "QEMU0001");
        aml_resources(aml);
        aml_res_io(aml, board->pvpanic_port, 1);
        aml_end(aml);
        aml_end(aml);
    }
}

/*
 * Which PCIe features the guest may control (PCI Firmware Specification 3.2, 4.5.1): native hot
 * plug and the capability structure.
 */
#define OSC_GRANTED 0x11
#define OSC_UNKNOWN_UUID 0x4
#define OSC_UNKNOWN_REVISION 0x8
#define OSC_MASKED 0x10

static void or_into(struct aml *aml, const char *name, uint64_t bits)
{
    aml_or(aml);
    aml_use(aml, name);
    aml_integer(aml, bits);
    aml_use(aml, name);
}

static void write_osc(struct aml *aml)
{
    /* 33db4d5b-1ff7-401c-9657-7441c03dd766 */
    static const uint8_t uuid[16] = {0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c, 0x40,
                                     0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66};
    aml_method(aml, "_OSC", 4, true);
    aml_dword_field(aml, 3, 0, "CDW1");
    aml_if(aml);
    aml_equal(aml);
    aml_arg(aml, 0);
    aml_buffer(aml, uuid, sizeof(uuid));
    aml_dword_field(aml, 3, 8, "CDW3");
    aml_and(aml);
    aml_use(aml, "CDW3");
    aml_integer(aml, OSC_GRANTED);
    aml_local(aml, 0);
    aml_if(aml); /* the revision is not 1 */
    aml_not(aml);
    aml_equal(aml);
    aml_arg(aml, 1);
    aml_integer(aml, 1);
    or_into(aml, "CDW1", OSC_UNKNOWN_REVISION);
    aml_end(aml);
    aml_if(aml); /* it asked for more */
    aml_not(aml);
    aml_equal(aml);
    aml_use(aml, "CDW3");
    aml_local(aml, 0);
    or_into(aml, "CDW1", OSC_MASKED);
    aml_end(aml);
    aml_store(aml);
    aml_local(aml, 0);
    aml_use(aml, "CDW3");
    aml_end(aml);
    aml_else(aml);
    or_into(aml, "CDW1", OSC_UNKNOWN_UUID);
    aml_end(aml);
    aml_return(aml);
    aml_arg(aml, 3);
    aml_end(aml);
}

static void write_pci(struct aml *aml, const struct acpi_board *board)
{
    if (board->ecam_base == 0) {
        return;
    }
    aml_device(aml, "PCI0");
    aml_name_eisa_id(aml, "_HID", "PNP0A08");
    aml_name_eisa_id(aml, "_CID", "PNP0A03");
    aml_name_integer(aml, "_UID", 0);
    aml_name_integer(aml, "_SEG", 0);
    aml_name_integer(aml, "_BBN", 0);
    aml_name_integer(aml, "_CCA", 1);
    aml_resources(aml);
    aml_res_buses(aml, 0, board->last_bus);
    aml_res_io(aml, CONFIG_PORT, CONFIG_PORTS);
    if (board->pci_low_size != 0) {
        aml_res_window_32(aml, (uint32_t)board->pci_low_base, (uint32_t)board->pci_low_size);
    }
    if (board->pci_high_size != 0) {
        aml_res_window_64(aml, board->pci_high_base, board->pci_high_size);
    }
    aml_end(aml);
    write_osc(aml);
    aml_end(aml);
}

/* What belongs to the board and to no device: Linux takes ECAM only when it is reserved so. */
static void write_reserved(struct aml *aml, const struct acpi_board *board)
{
    aml_device(aml, "RES");
    aml_name_eisa_id(aml, "_HID", "PNP0C02");
    aml_name_integer(aml, "_UID", 0);
    aml_resources(aml);
    aml_res_io(aml, board->power_port, POWER_PORTS);
    if (board->ecam_base != 0) {
        aml_res_memory_32(aml, (uint32_t)board->ecam_base, ((uint32_t)board->last_bus + 1) << 20);
    }
    aml_end(aml);
    aml_end(aml);
}

/* if (events & bit) Notify(device, value) */
static void write_event(struct aml *aml, uint32_t bit, const char *device, uint8_t value)
{
    aml_if(aml);
    aml_and(aml);
    aml_local(aml, 0);
    aml_integer(aml, bit);
    aml_no_target(aml);
    aml_notify(aml, device, value);
    aml_end(aml);
}

/* The generic event device (5.6.9) and those that it speaks for. */
static void write_events(struct aml *aml, const struct acpi_board *board)
{
    aml_device(aml, "PWRB");
    aml_name_eisa_id(aml, "_HID", "PNP0C0C");
    aml_name_integer(aml, "_UID", 0);
    aml_end(aml);
    if (board->generation_id != 0) {
        aml_device(aml, "VGEN");
        aml_name_string(aml, "_HID", "ISOL0001");
        aml_name_string(aml, "_CID", "VM_Gen_Counter");
        aml_name_string(aml, "_DDN", "VM_Gen_Counter");
        aml_name(aml, "ADDR");
        aml_package(aml, 2);
        aml_integer(aml, (uint32_t)board->generation_id);
        aml_integer(aml, board->generation_id >> 32);
        aml_end(aml);
        aml_end(aml);
    }
    aml_device(aml, "GED");
    aml_name_string(aml, "_HID", "ACPI0013");
    aml_name_integer(aml, "_UID", 0);
    aml_resources(aml);
    aml_res_interrupt(aml, board->event_gsi);
    aml_end(aml);
    aml_region(aml, "EVTR", SPACE_SYSTEM_MEMORY, board->event_base, 4);
    aml_field_32(aml, "EVTR", "EVTS");
    aml_method(aml, "_EVT", 1, true);
    aml_store(aml); /* reading clears */
    aml_use(aml, "EVTS");
    aml_local(aml, 0);
    write_event(aml, POWER_EVENT_BUTTON, "PWRB", POWER_BUTTON_PRESSED);
    if (board->generation_id != 0) {
        write_event(aml, POWER_EVENT_GENERATION, "VGEN", GENERATION_CHANGED);
    }
    aml_end(aml);
    aml_end(aml);
}

int dsdt_write(const struct acpi_board *board, struct buf *out)
{
    struct aml aml = {.out = out};
    aml_scope(&aml, "\\_SB");
    write_processors(&aml, board);
    write_old_devices(&aml, board);
    write_virtio(&aml, board);
    write_pci(&aml, board);
    write_reserved(&aml, board);
    write_events(&aml, board);
    aml_end(&aml);
    aml_name(&aml, "\\_S5");
    aml_package(&aml, 4);
    aml_integer(&aml, POWER_SLEEP_TYPE_S5);
    aml_integer(&aml, 0);
    aml_integer(&aml, 0);
    aml_integer(&aml, 0);
    aml_end(&aml);
    return aml_done(&aml);
}
