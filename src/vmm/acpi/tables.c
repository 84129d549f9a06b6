#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/acpi/acpi.h"
#include "vmm/acpi/dsdt.h"
#include "vmm/chip/power.h"

#define BLOCK_MAX ((size_t)65536)
#define ALIGN 16u
#define HEADER ((size_t)36)
#define RSDP_SIZE ((size_t)36)
#define TABLES_MAX 4
/* A CPU's name in the DSDT has three hexadecimal digits. */
#define CPUS_MAX 0x1000u

/* FADT (5.2.9): offsets and flags */
#define FADT_SIZE ((size_t)276)
#define FADT_REVISION 6
#define FADT_MINOR 5
#define FADT_DSDT 40
#define FADT_PROFILE 45
#define FADT_PM_TIMER 76
#define FADT_PM_TIMER_LEN 91
#define FADT_BOOT_ARCH 109
#define FADT_FLAGS 112
#define FADT_RESET 116
#define FADT_RESET_VALUE 128
#define FADT_MINOR_AT 131
#define FADT_X_DSDT 140
#define FADT_X_PM_TIMER 208
#define FADT_SLEEP_CONTROL 244
#define FADT_SLEEP_STATUS 256
#define FADT_HYPERVISOR 268
#define PROFILE_SERVER 4
#define FLAG_WBINVD (1u << 0)
#define FLAG_NO_POWER_BUTTON (1u << 4) /* none that is fixed: it is a device */
#define FLAG_NO_SLEEP_BUTTON (1u << 5)
#define FLAG_TIMER_32 (1u << 8)
#define FLAG_RESET (1u << 10)
#define FLAG_HEADLESS (1u << 12)
#define FLAG_HARDWARE_REDUCED (1u << 20)
#define BOOT_LEGACY_DEVICES (1u << 0)
#define BOOT_8042 (1u << 1)
#define BOOT_NO_VGA (1u << 2)
#define BOOT_NO_ASPM (1u << 4)
#define BOOT_NO_RTC (1u << 5)

/* MADT (5.2.12) */
#define MADT_REVISION 5
#define MADT_PCAT_COMPAT 1u
#define APIC_ID_MAX 254u /* beyond, an x2APIC entry */
#define CPU_ENABLED 1u
#define TIMER_GSI 2u

/* Appends a header without length and checksum; *ret_start is where the table is in out. */
static int begin(struct buf *out, const char *signature, uint8_t revision, size_t *ret_start)
{
    uint8_t raw[HEADER + ALIGN] = {0};
    int r = buf_add(out, raw, (ALIGN - out->len % ALIGN) % ALIGN);
    if (r < 0) {
        return r;
    }
    *ret_start = out->len;
    memcpy(raw, signature, 4);
    raw[8] = revision;
    memcpy(raw + 10, "ISOLA ", 6);
    memcpy(raw + 16, "ISOLAPC ", 8);
    store_le32(raw + 24, 1);
    memcpy(raw + 28, "ISOL", 4);
    store_le32(raw + 32, 1);
    return buf_add(out, raw, HEADER);
}

/* The byte that makes the sum of all zero. */
static uint8_t checksum(const uint8_t *data, size_t len)
{
    unsigned sum = 0;
    for (size_t i = 0; i < len; i++) {
        sum += data[i];
    }
    return (uint8_t)(0x100 - (sum & 0xff));
}

static void finish(struct buf *out, size_t start)
{
    uint8_t *table = (uint8_t *)out->data + start;
    size_t len = out->len - start;
    store_le32(table + 4, (uint32_t)len);
    table[9] = checksum(table, len);
}

/* Generic address structure (5.2.3.2) of a port. */
static void put_port(uint8_t *raw, uint16_t port, uint8_t bytes)
{
    raw[0] = 1; /* system I/O */
    raw[1] = (uint8_t)(bytes * 8);
    raw[3] = bytes == 4 ? 3 : 1; /* access of a double word or a byte */
    store_le64(raw + 4, port);
}

static int add_fadt(const struct acpi_board *board, uint64_t dsdt, struct buf *out)
{
    size_t start = 0;
    uint8_t raw[FADT_SIZE] = {0};
    uint32_t flags = FLAG_WBINVD | FLAG_NO_POWER_BUTTON | FLAG_NO_SLEEP_BUTTON | FLAG_RESET |
                     FLAG_HEADLESS | FLAG_HARDWARE_REDUCED;
    raw[FADT_PROFILE] = PROFILE_SERVER;
    store_le32(raw + FADT_DSDT, (uint32_t)dsdt);
    store_le64(raw + FADT_X_DSDT, dsdt);
    if (board->pm_timer_port != 0) {
        store_le32(raw + FADT_PM_TIMER, board->pm_timer_port);
        raw[FADT_PM_TIMER_LEN] = 4;
        put_port(raw + FADT_X_PM_TIMER, board->pm_timer_port, 4);
        flags |= FLAG_TIMER_32;
    }
    const bool legacy = board->uart_port != 0 || board->i8042 || board->pic;
    store_le16(raw + FADT_BOOT_ARCH,
               (uint16_t)((legacy ? BOOT_LEGACY_DEVICES : 0) | (board->i8042 ? BOOT_8042 : 0) |
                          BOOT_NO_VGA | BOOT_NO_ASPM | (board->rtc ? 0 : BOOT_NO_RTC)));
    store_le32(raw + FADT_FLAGS, flags);
    put_port(raw + FADT_RESET, (uint16_t)(board->power_port + POWER_RESET_REGISTER), 1);
    raw[FADT_RESET_VALUE] = POWER_RESET;
    raw[FADT_MINOR_AT] = FADT_MINOR;
    put_port(raw + FADT_SLEEP_CONTROL, (uint16_t)(board->power_port + POWER_SLEEP_CONTROL), 1);
    put_port(raw + FADT_SLEEP_STATUS, (uint16_t)(board->power_port + POWER_SLEEP_STATUS), 1);
    memcpy(raw + FADT_HYPERVISOR, "ISOLA", 5);
    int r = begin(out, "FACP", FADT_REVISION, &start);
    r = r < 0 ? r : buf_add(out, raw + HEADER, sizeof(raw) - HEADER);
    if (r == 0) {
        finish(out, start);
    }
    return r;
}

static int add_cpus(const struct acpi_board *board, struct buf *out)
{
    for (uint32_t i = 0; i < board->cpu_count; i++) {
        uint8_t raw[16] = {0};
        int r = 0;
        if (i <= APIC_ID_MAX) {
            raw[0] = 0;
            raw[1] = 8;
            raw[2] = (uint8_t)i;
            raw[3] = (uint8_t)i;
            store_le32(raw + 4, CPU_ENABLED);
            r = buf_add(out, raw, 8);
        } else {
            raw[0] = 9;
            raw[1] = 16;
            store_le32(raw + 4, i);
            store_le32(raw + 8, CPU_ENABLED);
            store_le32(raw + 12, i);
            r = buf_add(out, raw, 16);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int add_madt(const struct acpi_board *board, struct buf *out)
{
    size_t start = 0;
    uint8_t head[8];
    store_le32(head, board->lapic_base);
    store_le32(head + 4, board->pic ? MADT_PCAT_COMPAT : 0);
    uint8_t ioapic[12] = {1, 12, board->ioapic_id};
    store_le32(ioapic + 4, board->ioapic_base);
    /* The timer of the PC is on pin 2 of the I/O APIC; conforming polarity and trigger. */
    uint8_t timer[10] = {2, 10, 0, 0};
    store_le32(timer + 4, TIMER_GSI);
    /* The non-maskable interrupt is on LINT1 of each CPU. */
    static const uint8_t nmi[6] = {4, 6, 0xff, 0, 0, 1};
    static const uint8_t nmi_x2[12] = {10, 12, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0};
    int r = begin(out, "APIC", MADT_REVISION, &start);
    r = r < 0 ? r : buf_add(out, head, sizeof(head));
    r = r < 0 ? r : add_cpus(board, out);
    r = r < 0 ? r : buf_add(out, ioapic, sizeof(ioapic));
    r = r < 0 ? r : buf_add(out, timer, board->pic ? sizeof(timer) : 0);
    r = r < 0 ? r : buf_add(out, nmi, sizeof(nmi));
    r = r < 0 ? r : buf_add(out, nmi_x2, board->cpu_count > APIC_ID_MAX + 1 ? sizeof(nmi_x2) : 0);
    if (r == 0) {
        finish(out, start);
    }
    return r;
}

/* PCI Firmware Specification 3.2, 4.1.2 */
static int add_mcfg(const struct acpi_board *board, struct buf *out)
{
    size_t start = 0;
    uint8_t raw[8 + 16] = {0};
    store_le64(raw + 8, board->ecam_base);
    raw[8 + 11] = board->last_bus;
    int r = begin(out, "MCFG", 1, &start);
    r = r < 0 ? r : buf_add(out, raw, sizeof(raw));
    if (r == 0) {
        finish(out, start);
    }
    return r;
}

static int add_dsdt(const struct acpi_board *board, struct buf *out, size_t *ret_start)
{
    /* Revision 2: integers have 64 bits. */
    int r = begin(out, "DSDT", 2, ret_start);
    r = r < 0 ? r : dsdt_write(board, out);
    if (r == 0) {
        finish(out, *ret_start);
    }
    return r;
}

static int add_xsdt(const uint64_t *tables, size_t count, struct buf *out, size_t *ret_start)
{
    uint8_t raw[TABLES_MAX * 8];
    for (size_t i = 0; i < count; i++) {
        store_le64(raw + i * 8, tables[i]);
    }
    int r = begin(out, "XSDT", 1, ret_start);
    r = r < 0 ? r : buf_add(out, raw, count * 8);
    if (r == 0) {
        finish(out, *ret_start);
    }
    return r;
}

static void write_rsdp(uint8_t *raw, uint64_t xsdt)
{
    memcpy(raw, "RSD PTR ", 8);
    memcpy(raw + 9, "ISOLA ", 6);
    raw[15] = 2;
    store_le32(raw + 20, RSDP_SIZE);
    store_le64(raw + 24, xsdt);
    raw[8] = checksum(raw, 20);
    raw[32] = checksum(raw, RSDP_SIZE);
}

/* Where the next table will lie. */
static uint64_t next_gpa(const struct buf *out, uint64_t gpa)
{
    return gpa + (out->len + ALIGN - 1) / ALIGN * ALIGN;
}

static int add_all(const struct acpi_board *board, uint64_t gpa, struct buf *out)
{
    static const uint8_t rsdp[RSDP_SIZE] = {0};
    uint64_t tables[TABLES_MAX];
    size_t count = 0;
    size_t dsdt = 0;
    size_t xsdt = 0;
    int r = buf_add(out, rsdp, sizeof(rsdp));
    r = r < 0 ? r : add_dsdt(board, out, &dsdt);
    tables[count++] = next_gpa(out, gpa);
    r = r < 0 ? r : add_fadt(board, gpa + dsdt, out);
    tables[count++] = next_gpa(out, gpa);
    r = r < 0 ? r : add_madt(board, out);
    if (board->ecam_base != 0) {
        tables[count++] = next_gpa(out, gpa);
        r = r < 0 ? r : add_mcfg(board, out);
    }
    r = r < 0 ? r : add_xsdt(tables, count, out, &xsdt);
    if (r == 0) {
        write_rsdp((uint8_t *)out->data, gpa + xsdt);
    }
    return r;
}

/* All that lies below 4 GiB must. */
static bool is_low(uint64_t base, uint64_t size)
{
    return base <= UINT32_MAX && size <= UINT32_MAX && size <= (UINT64_C(1) << 32) - base;
}

static int check(const struct acpi_board *board, uint64_t gpa, struct err *err)
{
    if (board->cpu_count == 0 || board->cpu_count > CPUS_MAX) {
        return err_say(err, EINVAL, "ACPI tables for %u CPUs", board->cpu_count);
    }
    if (gpa % ALIGN != 0 || !is_low(gpa, BLOCK_MAX)) {
        return err_say(err, EINVAL, "ACPI tables at 0x%llx", (unsigned long long)gpa);
    }
    bool low = board->virtio_count <= ACPI_VIRTIO_MAX &&
               is_low(board->ecam_base, ((uint64_t)board->last_bus + 1) << 20) &&
               is_low(board->pci_low_base, board->pci_low_size);
    for (size_t i = 0; low && i < board->virtio_count; i++) {
        low = is_low(board->virtio[i].base, board->virtio[i].size);
    }
    return low ? 0 : err_say(err, EINVAL, "ACPI tables for devices above 4 GiB");
}

int acpi_build(const struct acpi_board *board, uint64_t gpa, struct buf *ret, struct err *err)
{
    AUTO(buf_donep) struct buf out = {0};
    int r = check(board, gpa, err);
    if (r < 0) {
        return r;
    }
    r = add_all(board, gpa, &out);
    if (r < 0) {
        return err_set(err, -r, "make ACPI tables");
    }
    if (out.len > BLOCK_MAX) {
        return err_say(err, E2BIG, "the ACPI tables of %u CPUs take %zu bytes; %zu are there",
                       board->cpu_count, out.len, BLOCK_MAX);
    }
    buf_done(ret);
    *ret = out;
    out = (struct buf){0};
    return 0;
}
