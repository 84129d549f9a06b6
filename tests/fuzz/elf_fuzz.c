/* Any bytes as an ELF file: what the reader hands on lies in them. */
#include <stdint.h>
#include <stdlib.h>

#include "freestanding/elf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void need(bool good)
{
    if (!good) {
        abort();
    }
}

static void walk_notes(const struct elf_header *h, const uint8_t *notes, size_t len, uint64_t align)
{
    size_t at = 0;
    size_t before = 0;
    struct elf_note note;
    while (elf_read_note(h, notes, len, align, &at, &note)) {
        const uint8_t *owner = (const uint8_t *)note.owner;
        const uint8_t *value = note.data;
        need(at > before && at <= len);
        need(owner >= notes && note.owner_len <= len - (size_t)(owner - notes));
        need(value >= notes && (size_t)(value - notes) <= len &&
             note.len <= len - (size_t)(value - notes));
        (void)elf_note_is(&note, "Xen", 18);
        before = at;
    }
    need(at <= len);
}

static void walk_segments(const struct elf_header *h, const uint8_t *data, size_t len)
{
    for (unsigned i = 0; i < h->segment_count; i++) {
        struct elf_segment s;
        struct elf_fault fault = {0};
        if (!elf_read_segment(h, data + h->segment_offset,
                              (size_t)h->segment_count * h->segment_size, i, &s, &fault)) {
            need(fault.field != NULL && fault.problem != NULL);
            continue;
        }
        need(s.file_bytes == 0 || (s.offset <= len && s.file_bytes <= len - s.offset));
        if (s.type == ELF_SEGMENT_NOTE && s.file_bytes > 0) {
            walk_notes(h, data + s.offset, s.file_bytes, s.align);
        }
    }
}

static void walk_sections(const struct elf_header *h, const uint8_t *data, size_t len)
{
    struct elf_fault fault = {0};
    if (!elf_check_sections(h, &fault)) {
        need(fault.field != NULL);
        return;
    }
    for (unsigned i = 0; i < h->section_count; i++) {
        struct elf_section s;
        if (elf_read_section(h, data + h->section_offset,
                             (size_t)h->section_count * h->section_size, i, &s, &fault)) {
            need(s.type == ELF_SECTION_NO_BITS || (s.offset <= len && s.bytes <= len - s.offset));
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct elf_header h = {0};
    struct elf_fault fault = {0};
    walk_notes(&h, data, len, 4);
    walk_notes(&h, data, len, 8);
    if (!elf_read_header(data, len, len, &h, &fault)) {
        need(fault.field != NULL && fault.problem != NULL);
        return 0;
    }
    walk_segments(&h, data, len);
    walk_sections(&h, data, len);
    return 0;
}
