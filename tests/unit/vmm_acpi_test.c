#include "vmm/acpi/acpi.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "unit.h"
#include "vmm/acpi/aml.h"
#include "vmm/layout.h"

#define GPA LAYOUT_ACPI

static struct acpi_board board_of(uint32_t cpus)
{
    return (struct acpi_board){
        .cpu_count = cpus,
        .lapic_base = (uint32_t)LAYOUT_LAPIC,
        .ioapic_base = (uint32_t)LAYOUT_IOAPIC,
        .pic = true,
        .power_port = LAYOUT_PORT_POWER,
        .event_gsi = LAYOUT_GSI_EVENTS,
        .event_base = LAYOUT_EVENTS,
        .ecam_base = LAYOUT_ECAM,
        .pci_low_base = LAYOUT_PCI_LOW,
        .pci_low_size = LAYOUT_PCI_LOW_SIZE,
    };
}

static void build(const struct acpi_board *board, struct buf *out)
{
    struct err err = ERR_NONE;
    ck_assert_msg(acpi_build(board, GPA, out, &err) == 0, "%s", err.text);
    ck_assert_uint_le(out->len, 65536);
}

static unsigned sum(const uint8_t *data, size_t len)
{
    unsigned total = 0;
    for (size_t i = 0; i < len; i++) {
        total += data[i];
    }
    return total & 0xff;
}

/* The table at gpa: whole, aligned, with a good checksum. */
static const uint8_t *table_at(const struct buf *out, uint64_t gpa)
{
    ck_assert_uint_ge(gpa, GPA);
    ck_assert_uint_eq(gpa % 16, 0);
    ck_assert_uint_le(gpa - GPA + 36, out->len);
    const uint8_t *table = (const uint8_t *)out->data + (gpa - GPA);
    ck_assert_uint_le(load_le32(table + 4), out->len - (gpa - GPA));
    ck_assert_uint_eq(sum(table, load_le32(table + 4)), 0);
    return table;
}

static const uint8_t *find(const struct buf *out, const char *signature)
{
    const uint8_t *xsdt = table_at(out, load_le64(out->data + 24));
    ck_assert_mem_eq(xsdt, "XSDT", 4);
    for (uint32_t i = 36; i + 8 <= load_le32(xsdt + 4); i += 8) {
        const uint8_t *table = table_at(out, load_le64(xsdt + i));
        if (memcmp(table, signature, 4) == 0) {
            return table;
        }
    }
    return NULL;
}

START_TEST(all_tables_are_found_and_sum_up_to_zero)
{
    static const uint32_t cpus[] = {1, 2, 255, 256, 1000};
    for (size_t i = 0; i < COUNT(cpus); i++) {
        AUTO(buf_donep) struct buf out = {0};
        const struct acpi_board board = board_of(cpus[i]);
        build(&board, &out);
        ck_assert_mem_eq(out.data, "RSD PTR ", 8);
        ck_assert_uint_eq(sum((const uint8_t *)out.data, 20), 0);
        ck_assert_uint_eq(sum((const uint8_t *)out.data, 36), 0);
        const uint8_t *fadt = find(&out, "FACP");
        ck_assert_ptr_nonnull(fadt);
        ck_assert_mem_eq(table_at(&out, load_le64(fadt + 140)), "DSDT", 4);
        ck_assert_uint_eq(load_le32(fadt + 40), load_le64(fadt + 140));
        ck_assert_uint_eq(load_le32(fadt + 112) >> 20 & 1, 1);
        ck_assert_ptr_nonnull(find(&out, "MCFG"));
    }
}
END_TEST

START_TEST(without_pci_there_is_no_mcfg)
{
    AUTO(buf_donep) struct buf out = {0};
    struct acpi_board board = board_of(1);
    board.ecam_base = 0;
    build(&board, &out);
    ck_assert_ptr_null(find(&out, "MCFG"));
    ck_assert_ptr_null(memmem(out.data, out.len, "PCI0", 4));
    /* A small machine's tables are small: one page would hold them twice. */
    ck_assert_uint_lt(out.len, 1024);
}
END_TEST

START_TEST(each_cpu_has_one_entry_with_its_apic_id)
{
    static const uint32_t cpus[] = {1, 255, 256, 300};
    for (size_t i = 0; i < COUNT(cpus); i++) {
        AUTO(buf_donep) struct buf out = {0};
        const struct acpi_board board = board_of(cpus[i]);
        build(&board, &out);
        const uint8_t *madt = find(&out, "APIC");
        ck_assert_ptr_nonnull(madt);
        uint32_t next = 0;
        unsigned ioapics = 0;
        unsigned overrides = 0;
        unsigned nmis = 0;
        for (const uint8_t *p = madt + 44; p < madt + load_le32(madt + 4); p += p[1]) {
            ck_assert_uint_gt(p[1], 1);
            if (p[0] == 0) {
                ck_assert_uint_lt(next, 255); /* 255 is the broadcast */
                ck_assert_uint_eq(p[2], next);
                ck_assert_uint_eq(p[3], next++);
                ck_assert_uint_eq(load_le32(p + 4), 1);
            } else if (p[0] == 9) {
                ck_assert_uint_ge(next, 255);
                ck_assert_uint_eq(load_le32(p + 4), next);
                ck_assert_uint_eq(load_le32(p + 8), 1);
                ck_assert_uint_eq(load_le32(p + 12), next++);
            }
            ioapics += p[0] == 1;
            overrides += p[0] == 2;
            nmis += p[0] == 4 || p[0] == 10;
        }
        ck_assert_uint_eq(next, cpus[i]);
        ck_assert_uint_eq(ioapics, 1);
        ck_assert_uint_eq(overrides, 1);
        ck_assert_uint_eq(nmis, cpus[i] > 255 ? 2 : 1);
    }
}
END_TEST

START_TEST(boards_that_cannot_be_told_are_refused)
{
    AUTO(buf_donep) struct buf out = {0};
    struct err err = ERR_NONE;
    struct acpi_board board = board_of(0);
    ck_assert_int_eq(acpi_build(&board, GPA, &out, &err), -EINVAL);
    board.cpu_count = 4000;
    ck_assert_int_eq(acpi_build(&board, GPA, &out, &err), -E2BIG);
    board.cpu_count = 1;
    ck_assert_int_eq(acpi_build(&board, GPA + 8, &out, &err), -EINVAL);
    board.virtio_count = 1;
    board.virtio[0] = (struct acpi_virtio_mmio){.base = 0xffffffff, .size = 4096};
    ck_assert_int_eq(acpi_build(&board, GPA, &out, &err), -EINVAL);
    ck_assert_ptr_null(out.data);
}
END_TEST

/* The bytes that ACPI 6.5, 20.2.4 asks for, at each border of their number. */
START_TEST(lengths_have_as_few_bytes_as_they_need)
{
    static const struct {
        size_t content; /* behind the length, with the name */
        uint8_t want[4];
        size_t bytes;
    } cases[] = {
        {4, {5}, 1},
        {62, {63}, 1},
        {63, {0x41, 0x04}, 2},
        {4093, {0x4f, 0xff}, 2},
        {4094, {0x81, 0x00, 0x01}, 3},
        {(1 << 20) - 4, {0x8f, 0xff, 0xff}, 3},
        {(1 << 20) - 3, {0xc1, 0x00, 0x00, 0x01}, 4},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        AUTO(buf_donep) struct buf out = {0};
        struct aml aml = {.out = &out};
        aml_scope(&aml, "ABC");
        for (size_t n = 4; n < cases[i].content; n++) {
            aml_integer(&aml, 0);
        }
        aml_end(&aml);
        ck_assert_int_eq(aml_done(&aml), 0);
        ck_assert_uint_eq(out.len, 1 + cases[i].bytes + cases[i].content);
        ck_assert_mem_eq(out.data + 1, cases[i].want, cases[i].bytes);
        ck_assert_mem_eq(out.data + 1 + cases[i].bytes, "ABC_", 4);
    }
}
END_TEST

START_TEST(misuse_of_the_writer_is_an_error)
{
    AUTO(buf_donep) struct buf out = {0};
    struct aml open = {.out = &out};
    aml_device(&open, "DEV");
    ck_assert_int_eq(aml_done(&open), -EINVAL);
    struct aml closed = {.out = &out};
    aml_end(&closed);
    ck_assert_int_eq(aml_done(&closed), -EINVAL);
    struct aml named = {.out = &out};
    aml_name(&named, "TOOLONG");
    ck_assert_int_eq(aml_done(&named), -EINVAL);
    struct aml deep = {.out = &out};
    for (unsigned i = 0; i <= AML_DEPTH_MAX; i++) {
        aml_package(&deep, 1);
    }
    ck_assert_int_eq(aml_done(&deep), -EOVERFLOW);
}
END_TEST

int main(void)
{
    return unit_run("vmm/acpi", (const TTest *const[]){
                                    all_tables_are_found_and_sum_up_to_zero,
                                    without_pci_there_is_no_mcfg,
                                    each_cpu_has_one_entry_with_its_apic_id,
                                    boards_that_cannot_be_told_are_refused,
                                    lengths_have_as_few_bytes_as_they_need,
                                    misuse_of_the_writer_is_an_error,
                                    NULL,
                                });
}
