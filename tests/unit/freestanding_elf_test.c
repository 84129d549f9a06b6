#include "freestanding/elf.h"

#include <string.h>

#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "unit.h"

/* A 32-bit big-endian header with one program header behind it: PowerPC. */
static void make_big_32(uint8_t data[84])
{
    memset(data, 0, 84);
    memcpy(data, "\177ELF\1\2\1", 7);
    data[17] = 2;
    data[19] = 20;
    store_be32(data + 24, 0x10000100);
    store_be32(data + 28, 52);
    data[43] = 32;
    data[45] = 1;
    uint8_t *p = data + 52;
    store_be32(p, 1);
    store_be32(p + 4, 16);
    store_be32(p + 8, 0x10000000);
    store_be32(p + 12, 0x20000000);
    store_be32(p + 16, 60);
    store_be32(p + 20, 100);
    store_be32(p + 24, 5);
    store_be32(p + 28, 4096);
}

START_TEST(both_byte_orders_and_classes_are_read)
{
    uint8_t data[84];
    struct elf_header h;
    struct elf_segment s;
    struct elf_fault fault;
    make_big_32(data);
    ck_assert(elf_read_header(data, sizeof(data), sizeof(data), &h, &fault));
    ck_assert(!h.is_64 && h.big_endian);
    ck_assert_uint_eq(h.type, ELF_TYPE_EXEC);
    ck_assert_uint_eq(h.machine, 20);
    ck_assert_uint_eq(h.entry, 0x10000100);
    ck_assert(elf_read_segment(&h, data + 52, 32, 0, &s, &fault));
    ck_assert_uint_eq(s.type, ELF_SEGMENT_LOAD);
    ck_assert_uint_eq(s.flags, 5);
    ck_assert_uint_eq(s.offset, 16);
    ck_assert_uint_eq(s.vaddr, 0x10000000);
    ck_assert_uint_eq(s.paddr, 0x20000000);
    ck_assert_uint_eq(s.file_bytes, 60);
    ck_assert_uint_eq(s.memory_bytes, 100);
    ck_assert_uint_eq(s.align, 4096);
    ck_assert(!elf_read_segment(&h, data + 52, 31, 0, &s, &fault));
    ck_assert(!elf_read_segment(&h, data + 52, 32, 1, &s, &fault));
}
END_TEST

START_TEST(a_header_cut_anywhere_is_refused)
{
    uint8_t data[84];
    struct elf_header h;
    struct elf_fault fault;
    make_big_32(data);
    for (size_t len = 0; len < 52; len++) {
        ck_assert(!elf_read_header(data, len, sizeof(data), &h, &fault));
    }
    /* The table must be in the file, not in what was read of it. */
    ck_assert(elf_read_header(data, 52, sizeof(data), &h, &fault));
    ck_assert(!elf_read_header(data, 52, sizeof(data) - 1, &h, &fault));
    ck_assert_str_eq(fault.field, "e_phoff");
    ck_assert_uint_eq(fault.value, 52);
}
END_TEST

/* A 64-bit little-endian file with two sections behind its header. */
static void make_sections(uint8_t data[200])
{
    memset(data, 0, 200);
    memcpy(data, "\177ELF\2\1\1", 7);
    store_le64(data + 40, 64);
    store_le16(data + 58, 64);
    store_le16(data + 60, 2);
    store_le16(data + 62, 1);
    store_le32(data + 64, 9);
    store_le32(data + 68, 1);
    store_le64(data + 64 + 24, 192);
    store_le64(data + 64 + 32, 8);
    store_le32(data + 128 + 4, ELF_SECTION_NO_BITS);
    store_le64(data + 128 + 32, 1 << 20);
}

START_TEST(sections_are_read_and_lie_in_the_file)
{
    uint8_t data[200];
    struct elf_header h;
    struct elf_section s;
    struct elf_fault fault;
    make_sections(data);
    ck_assert(elf_read_header(data, sizeof(data), sizeof(data), &h, &fault));
    ck_assert(elf_check_sections(&h, &fault));
    ck_assert(elf_read_section(&h, data + 64, 128, 0, &s, &fault));
    ck_assert_uint_eq(s.name, 9);
    ck_assert_uint_eq(s.offset, 192);
    ck_assert_uint_eq(s.bytes, 8);
    /* What has no bytes in the file may be larger than it. */
    ck_assert(elf_read_section(&h, data + 64, 128, 1, &s, &fault));
    ck_assert(!elf_read_section(&h, data + 64, 127, 1, &s, &fault));
    ck_assert(!elf_read_section(&h, data + 64, 128, 2, &s, &fault));
    store_le64(data + 64 + 32, 9);
    ck_assert(!elf_read_section(&h, data + 64, 128, 0, &s, &fault));
    ck_assert_str_eq(fault.field, "sh_offset");
    static const struct {
        size_t at;
        uint16_t value;
        const char *field;
    } wrong[] = {
        {40, 73, "e_shoff"}, {58, 40, "e_shentsize"}, {60, 3, "e_shoff"}, {62, 2, "e_shstrndx"}};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        make_sections(data);
        store_le16(data + wrong[i].at, wrong[i].value);
        ck_assert(elf_read_header(data, sizeof(data), sizeof(data), &h, &fault));
        ck_assert(!elf_check_sections(&h, &fault));
        ck_assert_str_eq(fault.field, wrong[i].field);
    }
}
END_TEST

START_TEST(notes_are_walked_to_the_end)
{
    const struct elf_header h = {.is_64 = true};
    /* Owner "GNU" with 5 bytes, then an owner of 5 bytes with none, without padding at the end. */
    uint8_t data[12 + 4 + 8 + 12 + 5] = {0};
    store_le32(data, 4);
    store_le32(data + 4, 5);
    store_le32(data + 8, 1);
    memcpy(data + 12, "GNU", 4);
    memcpy(data + 16, "\1\2\3\4\5", 5);
    store_le32(data + 24, 5);
    store_le32(data + 32, 7);
    memcpy(data + 36, "Linux", 5);
    size_t at = 0;
    struct elf_note note;
    ck_assert(elf_read_note(&h, data, sizeof(data), 4, &at, &note));
    ck_assert(elf_note_is(&note, "GNU", 1));
    ck_assert(!elf_note_is(&note, "GNU", 2));
    ck_assert(!elf_note_is(&note, "GN", 1));
    ck_assert(!elf_note_is(&note, "GNUU", 1));
    ck_assert_uint_eq(note.len, 5);
    ck_assert_mem_eq(note.data, "\1\2\3\4\5", 5);
    ck_assert(elf_read_note(&h, data, sizeof(data), 4, &at, &note));
    ck_assert(elf_note_is(&note, "Linux", 7));
    ck_assert_uint_eq(note.len, 0);
    ck_assert(!elf_read_note(&h, data, sizeof(data), 4, &at, &note));
    ck_assert_uint_eq(at, sizeof(data));
}
END_TEST

START_TEST(notes_of_eight_byte_segments_are_padded_to_eight)
{
    const struct elf_header h = {.is_64 = true};
    /* .note.gnu.property: header and owner take 16 bytes, the data 8, the next note follows. */
    uint8_t data[16 + 8 + 16 + 4] = {0};
    store_le32(data, 4);
    store_le32(data + 4, 4);
    store_le32(data + 8, 5);
    memcpy(data + 12, "GNU", 4);
    store_le32(data + 24, 4);
    store_le32(data + 28, 4);
    store_le32(data + 32, 6);
    memcpy(data + 36, "Xen", 4);
    size_t at = 0;
    struct elf_note note;
    ck_assert(elf_read_note(&h, data, sizeof(data), 8, &at, &note));
    ck_assert_ptr_eq(note.data, data + 16);
    ck_assert(elf_read_note(&h, data, sizeof(data), 8, &at, &note));
    ck_assert(elf_note_is(&note, "Xen", 6));
    ck_assert_ptr_eq(note.data, data + 40);
}
END_TEST

START_TEST(lengths_of_notes_never_wrap)
{
    static const uint32_t lengths[] = {17,         0x7fffffff, 0xfffffff0,
                                       0xfffffff4, 0xfffffffc, UINT32_MAX};
    const struct elf_header h = {.is_64 = true};
    for (size_t i = 0; i < COUNT(lengths); i++) {
        for (unsigned which = 0; which < 2; which++) {
            uint8_t data[28] = {0};
            store_le32(data + 4 * which, lengths[i]);
            size_t at = 0;
            struct elf_note note;
            ck_assert(!elf_read_note(&h, data, sizeof(data), 4, &at, &note));
            ck_assert(!elf_read_note(&h, data, sizeof(data), 8, &at, &note));
        }
    }
}
END_TEST

int main(void)
{
    return unit_run("freestanding/elf", (const TTest *const[]){
                                            both_byte_orders_and_classes_are_read,
                                            a_header_cut_anywhere_is_refused,
                                            sections_are_read_and_lie_in_the_file,
                                            notes_are_walked_to_the_end,
                                            notes_of_eight_byte_segments_are_padded_to_eight,
                                            lengths_of_notes_never_wrap,
                                            NULL,
                                        });
}
