/*
 * acpi_dump - the ACPI tables of a board as files, for other programs to read.
 *
 * Usage: acpi_dump CPUS plain|pci|bare DIR: writes DIR/dsdt.aml, facp.aml, ...
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/io.h"
#include "base/str.h"
#include "freestanding/byteorder.h"
#include "vmm/acpi/acpi.h"
#include "vmm/layout.h"

static void fill(struct acpi_board *board, bool pci)
{
    for (size_t i = 0; i < LAYOUT_VIRTIO_MMIO_MAX; i++) {
        board->virtio[i] = (struct acpi_virtio_mmio){
            .base = LAYOUT_VIRTIO_MMIO + i * LAYOUT_VIRTIO_MMIO_SIZE,
            .size = LAYOUT_VIRTIO_MMIO_SIZE,
            .gsi = LAYOUT_GSI_VIRTIO + (uint32_t)i,
        };
    }
    board->virtio_count = LAYOUT_VIRTIO_MMIO_MAX;
    board->pic = true;
    board->i8042 = true;
    board->rtc = true;
    board->uart_port = LAYOUT_PORT_COM1;
    board->uart_gsi = LAYOUT_GSI_COM1;
    board->pvpanic_port = LAYOUT_PORT_PVPANIC;
    board->pm_timer_port = LAYOUT_PORT_POWER + 8;
    board->generation_id = LAYOUT_GENERATION_ID;
    if (pci) {
        board->ecam_base = LAYOUT_ECAM;
        board->pci_low_base = LAYOUT_PCI_LOW;
        board->pci_low_size = LAYOUT_PCI_LOW_SIZE;
        board->pci_high_base = 0x2000000000;
        board->pci_high_size = LAYOUT_PCI_HIGH_SIZE;
    }
}

/* The table at gpa, into a file named after its signature. */
static uint64_t dump(const struct buf *out, uint64_t gpa, const char *dir)
{
    uint64_t at = gpa - LAYOUT_ACPI;
    if (at > out->len || out->len - at < 36 || load_le32(out->data + at + 4) > out->len - at) {
        (void)fprintf(stderr, "a table lies outside the block\n");
        exit(1);
    }
    const char *table = out->data + at;
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%.4s.aml", dir, table);
    AUTO(closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write_full(fd, table, load_le32(table + 4)) < 0) {
        perror(path);
        exit(1);
    }
    (void)printf("%.4s\n", table);
    return at;
}

int main(int argc, char **argv)
{
    uint64_t cpus = 0;
    if (argc != 4 || parse_u64(argv[1], 10, &cpus) < 0) {
        return 2;
    }
    struct acpi_board board = {
        .cpu_count = (uint32_t)cpus,
        .lapic_base = (uint32_t)LAYOUT_LAPIC,
        .ioapic_base = (uint32_t)LAYOUT_IOAPIC,
        .power_port = LAYOUT_PORT_POWER,
        .event_gsi = LAYOUT_GSI_EVENTS,
        .event_base = LAYOUT_EVENTS,
    };
    if (!str_eq(argv[2], "bare")) {
        fill(&board, str_eq(argv[2], "pci"));
    }
    AUTO(buf_donep) struct buf out = {0};
    struct err err = ERR_NONE;
    if (acpi_build(&board, LAYOUT_ACPI, &out, &err) < 0) {
        (void)fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    (void)printf("%zu bytes\n", out.len);
    uint64_t xsdt = dump(&out, load_le64(out.data + 24), argv[3]);
    uint32_t len = load_le32(out.data + xsdt + 4);
    for (uint32_t i = 36; i + 8 <= len; i += 8) {
        uint64_t table = dump(&out, load_le64(out.data + xsdt + i), argv[3]);
        if (memcmp(out.data + table, "FACP", 4) == 0) {
            (void)dump(&out, load_le64(out.data + table + 140), argv[3]);
        }
    }
    return 0;
}
