#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "freestanding/byteorder.h"
#include "vmm/boot/loader.h"

/* All notes of a kernel take less than a page; a segment that claims more is refused. */
#define NOTES_MAX ((size_t)1 << 20)

static int refuse_elf(const struct loader *loader, const struct elf_fault *fault, struct err *err)
{
    return loader_refuse_field(loader, err, "ELF", fault->field, fault->value, fault->problem);
}

bool elf_kernel_is(const struct loader *loader)
{
    return loader->head_len >= 4 && load_be32(loader->head) == 0x7f454c46;
}

int elf_kernel_open(const struct loader *loader, struct elf_kernel *ret, struct err *err)
{
    struct elf_fault fault = {0};
    if (!elf_read_header(loader->head, loader->head_len, loader->file_size, &ret->header, &fault)) {
        return refuse_elf(loader, &fault, err);
    }
    const struct elf_header *h = &ret->header;
    if (h->machine != ELF_MACHINE_X86_64 && h->machine != ELF_MACHINE_386) {
        return loader_refuse_field(loader, err, "ELF", "e_machine", h->machine, "is not x86");
    }
    if (h->big_endian) {
        return loader_refuse_field(loader, err, "ELF", "EI_DATA", 2, "is not the order of x86");
    }
    if (h->segment_count == 0) {
        return loader_refuse_field(loader, err, "ELF", "e_phnum", 0, "leaves nothing to load");
    }
    ret->table_len = (size_t)h->segment_count * h->segment_size;
    return loader_read(loader, h->segment_offset, ret->table, ret->table_len, err);
}

static int read_segment(const struct loader *loader, const struct elf_kernel *kernel,
                        unsigned index, struct elf_segment *ret, struct err *err)
{
    struct elf_fault fault = {0};
    if (elf_read_segment(&kernel->header, kernel->table, kernel->table_len, index, ret, &fault)) {
        return 0;
    }
    (void)refuse_elf(loader, &fault, err);
    err_hint(err, "program header %u", index);
    return -ENOEXEC;
}

int elf_kernel_load(struct loader *loader, const struct elf_kernel *kernel, struct err *err)
{
    bool loaded = false;
    for (unsigned i = 0; i < kernel->header.segment_count; i++) {
        struct elf_segment s;
        int r = read_segment(loader, kernel, i, &s, err);
        if (r < 0) {
            return r;
        }
        if (s.type != ELF_SEGMENT_LOAD || s.memory_bytes == 0) {
            continue;
        }
        const struct loader_piece piece = {
            .header = "ELF",
            .field = "p_paddr",
            .gpa = s.paddr,
            .memory_bytes = s.memory_bytes,
            .offset = s.offset,
            .file_bytes = s.file_bytes,
        };
        r = loader_place(loader, &piece, err);
        if (r < 0) {
            return r;
        }
        loaded = true;
    }
    return loaded ? 0 : loader_refuse(loader, err, "has no segment to load");
}

/* Linux' own notes, since 4.19 and 5.13 (include/linux/build-salt.h, include/linux/elfnote-lto.h).
 */
#define LINUX_NOTE_BUILD_SALT 0x100
#define LINUX_NOTE_LTO 0x101

/* Looks at a note: 1 ends the search with success, 0 goes on, else a negative errno. */
typedef int note_fn(const struct loader *loader, const struct elf_note *note, void *data,
                    struct err *err);

/* One segment of notes, as search_notes(). */
static int search_segment(const struct loader *loader, const struct elf_kernel *kernel,
                          const struct elf_segment *s, note_fn *fn, void *data, struct err *err)
{
    if (s->file_bytes > NOTES_MAX) {
        return loader_refuse_field(loader, err, "ELF", "p_filesz", s->file_bytes,
                                   "is too much for notes");
    }
    size_t len = (size_t)s->file_bytes;
    AUTO(freep) uint8_t *notes = malloc(len + 1);
    if (notes == NULL) {
        return err_set(err, ENOMEM, "read kernel '%s'", loader->plan->kernel_name);
    }
    int r = loader_read(loader, s->offset, notes, len, err);
    size_t at = 0;
    struct elf_note note;
    while (r == 0 && elf_read_note(&kernel->header, notes, len, s->align, &at, &note)) {
        r = fn(loader, &note, data, err);
    }
    return r;
}

/* 1: fn was content with a note; 0: with none; or a negative errno. */
static int search_notes(const struct loader *loader, const struct elf_kernel *kernel, note_fn *fn,
                        void *data, struct err *err)
{
    for (unsigned i = 0; i < kernel->header.segment_count; i++) {
        struct elf_segment s;
        int r = read_segment(loader, kernel, i, &s, err);
        if (r == 0 && s.type == ELF_SEGMENT_NOTE) {
            r = search_segment(loader, kernel, &s, fn, data, err);
        }
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

struct wanted_note {
    const char *owner;
    uint32_t type;
    uint64_t value;
};

static int take_number(const struct loader *loader, const struct elf_note *note, void *data,
                       struct err *err)
{
    struct wanted_note *want = data;
    if (!elf_note_is(note, want->owner, want->type)) {
        return 0;
    }
    if (note->len != 4 && note->len != 8) {
        return loader_refuse_field(loader, err, "ELF note", "n_descsz", note->len,
                                   "is not the size of an address");
    }
    want->value = note->len == 4 ? load_le32(note->data) : load_le64(note->data);
    return 1;
}

int elf_kernel_note(const struct loader *loader, const struct elf_kernel *kernel, const char *owner,
                    uint32_t type, uint64_t *ret, struct err *err)
{
    struct wanted_note want = {.owner = owner, .type = type};
    int r = search_notes(loader, kernel, take_number, &want, err);
    if (r == 1) {
        *ret = want.value;
    }
    return r;
}

static int is_linux(const struct loader *loader, const struct elf_note *note, void *data,
                    struct err *err)
{
    (void)loader, (void)data, (void)err;
    return elf_note_is(note, "Linux", LINUX_NOTE_BUILD_SALT) ||
           elf_note_is(note, "Linux", LINUX_NOTE_LTO);
}

int elf_kernel_is_linux(const struct loader *loader, const struct elf_kernel *kernel,
                        struct err *err)
{
    return search_notes(loader, kernel, is_linux, NULL, err);
}
