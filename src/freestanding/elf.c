#include "freestanding/elf.h"

#include "freestanding/byteorder.h"

/* Reads fields one behind the other; the caller has checked that they are there. */
struct reader {
    const uint8_t *at;
    bool is_64;
    bool big_endian;
};

static uint16_t next_half(struct reader *r)
{
    uint16_t v = load_le16(r->at);
    r->at += 2;
    return r->big_endian ? __builtin_bswap16(v) : v;
}

static uint32_t next_word(struct reader *r)
{
    uint32_t v = load_le32(r->at);
    r->at += 4;
    return r->big_endian ? __builtin_bswap32(v) : v;
}

/* An address, offset or size, of the width of the file's class. */
static uint64_t next_wide(struct reader *r)
{
    if (!r->is_64) {
        return next_word(r);
    }
    uint64_t v = load_le64(r->at);
    r->at += 8;
    return r->big_endian ? __builtin_bswap64(v) : v;
}

static bool fail(struct elf_fault *fault, const char *field, uint64_t value, const char *problem)
{
    *fault = (struct elf_fault){.field = field, .value = value, .problem = problem};
    return false;
}

/* The 16 bytes that say how to read the others. */
static bool read_ident(const uint8_t *b, size_t len, struct elf_header *header,
                       struct elf_fault *fault)
{
    if (len < 16) {
        return fail(fault, "e_ident", len, "is cut short");
    }
    if (load_be32(b) != 0x7f454c46) {
        return fail(fault, "EI_MAG", load_be32(b), "is not that of an ELF file");
    }
    if (b[4] != 1 && b[4] != 2) {
        return fail(fault, "EI_CLASS", b[4], "is neither 32 nor 64 bits");
    }
    if (b[5] != 1 && b[5] != 2) {
        return fail(fault, "EI_DATA", b[5], "is no byte order");
    }
    if (b[6] != 1) {
        return fail(fault, "EI_VERSION", b[6], "is not 1");
    }
    header->is_64 = b[4] == 2;
    header->big_endian = b[5] == 2;
    return true;
}

static bool check_table(const struct elf_header *h, struct elf_fault *fault)
{
    if (h->segment_count == 0) {
        return true;
    }
    if (h->segment_count > ELF_SEGMENTS_MAX) {
        return fail(fault, "e_phnum", h->segment_count, "is more than 128");
    }
    if (h->segment_size != (h->is_64 ? 56 : 32)) {
        return fail(fault, "e_phentsize", h->segment_size, "is not the size of a program header");
    }
    uint64_t bytes = (uint64_t)h->segment_count * h->segment_size;
    if (h->segment_offset > h->file_size || bytes > h->file_size - h->segment_offset) {
        return fail(fault, "e_phoff", h->segment_offset, "lies behind the end of the file");
    }
    return true;
}

bool elf_read_header(const void *data, size_t len, uint64_t file_size, struct elf_header *ret,
                     struct elf_fault *fault)
{
    const uint8_t *b = data;
    struct elf_header h = {.file_size = file_size};
    if (!read_ident(b, len, &h, fault)) {
        return false;
    }
    if (len < (h.is_64 ? 64u : 52u)) {
        return fail(fault, "e_ehsize", len, "is cut short");
    }
    struct reader r = {.at = b + 16, .is_64 = h.is_64, .big_endian = h.big_endian};
    h.type = next_half(&r);
    h.machine = next_half(&r);
    (void)next_word(&r); /* e_version */
    h.entry = next_wide(&r);
    h.segment_offset = next_wide(&r);
    h.section_offset = next_wide(&r);
    (void)next_word(&r); /* e_flags */
    (void)next_half(&r); /* e_ehsize */
    h.segment_size = next_half(&r);
    h.segment_count = next_half(&r);
    h.section_size = next_half(&r);
    h.section_count = next_half(&r);
    h.section_names = next_half(&r);
    if (!check_table(&h, fault)) {
        return false;
    }
    *ret = h;
    return true;
}

/* The two classes have the same fields in a different order. */
static void read_fields(struct reader *r, struct elf_segment *s)
{
    s->type = next_word(r);
    if (r->is_64) {
        s->flags = next_word(r);
    }
    s->offset = next_wide(r);
    s->vaddr = next_wide(r);
    s->paddr = next_wide(r);
    s->file_bytes = next_wide(r);
    s->memory_bytes = next_wide(r);
    if (!r->is_64) {
        s->flags = next_word(r);
    }
    s->align = next_wide(r);
}

bool elf_read_segment(const struct elf_header *header, const void *table, size_t len,
                      unsigned index, struct elf_segment *ret, struct elf_fault *fault)
{
    size_t at = (size_t)index * header->segment_size;
    if (index >= header->segment_count || at > len || header->segment_size > len - at) {
        return fail(fault, "e_phnum", index, "has no such program header");
    }
    struct reader r = {
        .at = (const uint8_t *)table + at,
        .is_64 = header->is_64,
        .big_endian = header->big_endian,
    };
    struct elf_segment s = {0};
    read_fields(&r, &s);
    if (s.offset > header->file_size && s.file_bytes > 0) {
        return fail(fault, "p_offset", s.offset, "lies behind the end of the file");
    }
    if (s.file_bytes > 0 && s.file_bytes > header->file_size - s.offset) {
        return fail(fault, "p_filesz", s.file_bytes, "reaches behind the end of the file");
    }
    if (s.type == ELF_SEGMENT_LOAD) {
        if (s.file_bytes > s.memory_bytes) {
            return fail(fault, "p_filesz", s.file_bytes, "is more than p_memsz");
        }
        if (s.memory_bytes > UINT64_MAX - s.paddr || s.memory_bytes > UINT64_MAX - s.vaddr) {
            return fail(fault, "p_memsz", s.memory_bytes, "wraps around the address space");
        }
    }
    *ret = s;
    return true;
}

bool elf_check_sections(const struct elf_header *header, struct elf_fault *fault)
{
    if (header->section_size != (header->is_64 ? 64 : 40)) {
        return fail(fault, "e_shentsize", header->section_size,
                    "is not the size of a section header");
    }
    uint64_t bytes = (uint64_t)header->section_count * header->section_size;
    if (header->section_offset > header->file_size ||
        bytes > header->file_size - header->section_offset) {
        return fail(fault, "e_shoff", header->section_offset, "lies behind the end of the file");
    }
    if (header->section_names >= header->section_count) {
        return fail(fault, "e_shstrndx", header->section_names, "is no section");
    }
    return true;
}

bool elf_read_section(const struct elf_header *header, const void *table, size_t len,
                      unsigned index, struct elf_section *ret, struct elf_fault *fault)
{
    size_t at = (size_t)index * header->section_size;
    size_t size = header->is_64 ? 64 : 40;
    if (index >= header->section_count || at > len || size > len - at) {
        return fail(fault, "e_shnum", index, "has no such section header");
    }
    struct reader r = {
        .at = (const uint8_t *)table + at,
        .is_64 = header->is_64,
        .big_endian = header->big_endian,
    };
    struct elf_section s = {0};
    s.name = next_word(&r);
    s.type = next_word(&r);
    (void)next_wide(&r); /* sh_flags */
    (void)next_wide(&r); /* sh_addr */
    s.offset = next_wide(&r);
    s.bytes = next_wide(&r);
    if (s.type != ELF_SECTION_NO_BITS &&
        (s.offset > header->file_size || s.bytes > header->file_size - s.offset)) {
        return fail(fault, "sh_offset", s.offset,
                    "with sh_size reaches behind the end of the file");
    }
    *ret = s;
    return true;
}

/* value rounded up, or SIZE_MAX when that wraps. */
static size_t pad(uint32_t value, size_t align)
{
    size_t wide = value;
    return wide > SIZE_MAX - align ? SIZE_MAX : (wide + align - 1) & ~(align - 1);
}

bool elf_read_note(const struct elf_header *header, const void *notes, size_t len, uint64_t align,
                   size_t *at, struct elf_note *ret)
{
    if (*at > len || len - *at < 12) {
        *at = *at > len ? len : *at;
        return false;
    }
    const uint8_t *start = (const uint8_t *)notes + *at;
    struct reader r = {.at = start, .big_endian = header->big_endian};
    uint32_t owner_len = next_word(&r);
    uint32_t data_len = next_word(&r);
    uint32_t type = next_word(&r);
    size_t unit = align == 8 ? 8 : 4;
    size_t left = len - *at - 12;
    /* The header's 12 bytes count in the padding of the owner when the unit is 8. */
    size_t owner_room = owner_len > UINT32_MAX - 12 ? SIZE_MAX : pad(owner_len + 12, unit) - 12;
    if (owner_len > left || (data_len > 0 && (owner_room > left || data_len > left - owner_room))) {
        return false;
    }
    const char *owner = (const char *)start + 12;
    *ret = (struct elf_note){
        .owner = owner,
        .owner_len = owner_len > 0 && owner[owner_len - 1] == '\0' ? owner_len - 1 : owner_len,
        .type = type,
        .data = data_len > 0 ? start + 12 + owner_room : start + 12,
        .len = data_len,
    };
    /* The last note's padding may be left out. */
    size_t used = owner_room > left ? left : owner_room;
    size_t data_room = pad(data_len, unit);
    used = data_room > left - used ? left : used + data_room;
    *at += 12 + used;
    return true;
}

bool elf_note_is(const struct elf_note *note, const char *owner, uint32_t type)
{
    uint32_t i = 0;
    while (i < note->owner_len && owner[i] != '\0' && note->owner[i] == owner[i]) {
        i++;
    }
    return note->type == type && i == note->owner_len && owner[i] == '\0';
}
