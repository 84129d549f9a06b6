#include "emu/kept.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "emu/block.h"
#include "emu/cache.h"
#include "emu/fetch.h"
#include "emu/guest_code.h"
#include "emu/host/x86_64/lower.h"

#define LINE 64u
#define PAGE 4096

/* The arrays of a record. */
struct parts {
    const uint8_t *code;
    const struct block_reloc *relocs;
    const struct block_fault *faults;
    const struct kept_run *runs;
    const int32_t *distances;
    const uint32_t *words;
    size_t size; /* of the record up to here */
};
/* This program in memory, from its ELF header on: how long it is, no declaration says. */
extern const uint8_t own_bytes[] __asm__("__ehdr_start") __attribute__((visibility("hidden")));

static uint64_t own_start(void)
{
    return (uint64_t)(uintptr_t)own_bytes;
}

static size_t up(size_t n, size_t unit)
{
    return (n + unit - 1) & ~(unit - 1);
}

static struct parts parts_of(const struct kept_record *record)
{
    struct parts p = {.code = (const uint8_t *)(record + 1)};
    p.relocs = (const struct block_reloc *)(const void *)(p.code + up(record->code_size, 8));
    p.faults = (const struct block_fault *)(p.relocs + record->relocs);
    p.runs = (const struct kept_run *)(p.faults + record->faults);
    p.distances = (const int32_t *)(p.runs + record->runs);
    p.words = (const uint32_t *)(p.distances + record->guests);
    p.size = up((size_t)((const uint8_t *)(p.words + record->words) - (const uint8_t *)record), 8);
    return p;
}

/* The build id among the notes in [at, at + size). */
static bool find_build(const uint8_t *at, size_t size, uint8_t build[KEPT_BUILD_SIZE])
{
    while (size >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr note;
        memcpy(&note, at, sizeof(note));
        const uint8_t *name = at + sizeof(note);
        size_t whole = sizeof(note) + up(note.n_namesz, 4) + up(note.n_descsz, 4);
        if (whole > size) {
            return false;
        }
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(name, "GNU", 4) == 0 &&
            note.n_descsz >= 8) {
            memset(build, 0, KEPT_BUILD_SIZE);
            memcpy(build, name + 4, MIN((size_t)note.n_descsz, (size_t)KEPT_BUILD_SIZE));
            return true;
        }
        at += whole;
        size -= whole;
    }
    return false;
}

bool kept_build(uint8_t build[KEPT_BUILD_SIZE])
{
    Elf64_Ehdr header;
    bool found = false;
    memcpy(&header, own_bytes, sizeof(header));
    for (unsigned i = 0; i < header.e_phnum && !found && header.e_type == ET_DYN; i++) {
        Elf64_Phdr segment;
        memcpy(&segment, own_bytes + header.e_phoff + i * sizeof(segment), sizeof(segment));
        found = segment.p_type == PT_NOTE &&
                find_build(own_bytes + segment.p_vaddr, segment.p_memsz, build);
    }
    return found;
}

uint32_t kept_checksum(const void *from, size_t skip, size_t size)
{
    return lower_checksum((const uint8_t *)from + skip, size - skip);
}

#define RECORD_SKIP (offsetof(struct kept_record, checksum) + sizeof(uint32_t))

bool kept_fits(const struct kept_record *record, size_t room)
{
    return room >= sizeof(*record) && record->size >= sizeof(*record) && record->size <= room &&
           record->code_size <= record->size && parts_of(record).size == record->size;
}

/* What is in it leads nowhere else. */
static bool is_sound(const struct kept_record *record, const struct parts *p)
{
    bool sound = record->checksum == kept_checksum(record, RECORD_SKIP, record->size) &&
                 record->phase < LINE && record->phase % 16 == 0 && record->guests > 0 &&
                 record->runs > 0 && record->low <= 0 && record->high > 0 &&
                 record->high - (int64_t)record->low <= PAGE &&
                 record->dead_tail < record->code_size && record->code_size >= 8;
    /* The first word that was read is the block's own. */
    sound = sound && p->runs[0].distance == 0 && p->runs[0].count > 0;
    for (unsigned i = 0; i < record->relocs && sound; i++) {
        sound = p->relocs[i].at <= record->code_size && record->code_size - p->relocs[i].at >= 8;
    }
    for (unsigned i = 0; i < record->faults && sound; i++) {
        sound = p->faults[i].guest < record->guests;
    }
    for (unsigned i = 0; i < record->runs && sound; i++) {
        sound = p->runs[i].first + p->runs[i].count <= record->words;
    }
    return sound;
}

/* The guest's code is what it was translated from. */
static bool is_same_code(struct emu *emu, const struct kept_record *record, const struct parts *p,
                         uint64_t pc)
{
    for (unsigned i = 0; i < record->runs; i++) {
        const struct kept_run *run = &p->runs[i];
        uint64_t at = pc + (uint64_t)(int64_t)run->distance;
        if (!emu->options.executable(emu->options.data, at, 4u * run->count)) {
            return false;
        }
        for (unsigned n = 0; n < run->count; n++) {
            uint32_t word = 0;
            if (!emu_fetch(at + 4u * n, &word) || word != p->words[run->first + n]) {
                return false;
            }
        }
    }
    return true;
}

/* Adds pc and this program's start, or takes them away. */
static void relocate(uint8_t *code, const struct block_reloc *relocs, size_t count, uint64_t pc,
                     bool add)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t value = 0;
        uint64_t base = relocs[i].kind == BLOCK_RELOC_FN ? own_start() : pc;
        memcpy(&value, code + relocs[i].at, sizeof(value));
        value = add ? value + base : value - base;
        memcpy(code + relocs[i].at, &value, sizeof(value));
    }
}

struct block *kept_adopt(struct emu *emu, const struct kept_record *record, uint64_t pc)
{
    const struct parts parts = parts_of(record);
    const struct parts *p = &parts;
    size_t room = 0;
    struct block *block = NULL;
    if (!is_sound(record, p) || !is_same_code(emu, record, p, pc)) {
        return NULL;
    }
    uint8_t *at = cache_room_at(emu->cache, record->phase, LINE, &room);
    if (room < record->code_size || emu->order_count == emu->order_max) {
        return NULL; /* who translates makes room */
    }
    memcpy(at, p->code, record->code_size);
    relocate(at, p->relocs, record->relocs, pc, true);
    const struct block made = {
        .pc = pc,
        .low = pc + (uint64_t)(int64_t)record->low,
        .high = pc + (uint64_t)(int64_t)record->high,
        .code = cache_take(emu->cache, record->code_size),
        .code_size = record->code_size,
        .dead_tail = record->dead_tail,
        .guests = record->guests,
        .fault_count = record->faults,
        .borrowed = true, /* kept data stays */
        .faults = p->faults,
        .distances = p->distances,
    };
    if (block_add(emu, &made, NULL, &block) < 0) {
        return NULL;
    }
    emu->kept_blocks++;
    return block;
}

/* Distances of guest code that a record has room for. */
static bool is_near(const struct block *block, const struct guest_code *code)
{
    for (uint32_t i = 0; i < code->run_count; i++) {
        int64_t distance = (int64_t)(code->run[i].pc - block->pc);
        if (distance != (int32_t)distance) {
            return false;
        }
    }
    int64_t low = (int64_t)(block->low - block->pc);
    int64_t high = (int64_t)(block->high - block->pc);
    return low == (int32_t)low && high == (int32_t)high;
}

struct kept_record *kept_record_new(const struct block *block, const struct guest_code *code,
                                    const uint8_t *written)
{
    if (code->incomplete || !is_near(block, code)) {
        return NULL;
    }
    const struct kept_record head = {
        .code_size = block->code_size,
        .dead_tail = block->dead_tail,
        .low = (int32_t)(int64_t)(block->low - block->pc),
        .high = (int32_t)(int64_t)(block->high - block->pc),
        .guests = block->guests,
        .faults = (uint16_t)block->fault_count,
        .relocs = (uint16_t)block->reloc_count,
        .runs = (uint16_t)code->run_count,
        .words = (uint16_t)code->word_count,
        .phase = (uint16_t)((uintptr_t)block->code & (LINE - 1)),
    };
    size_t size = parts_of(&head).size;
    struct kept_record *record = calloc(1, size);
    if (record == NULL) {
        return NULL;
    }
    *record = head;
    record->size = (uint32_t)size;
    struct parts p = parts_of(record);
    memcpy((uint8_t *)(uintptr_t)p.code, written, block->code_size);
    memcpy((void *)(uintptr_t)p.relocs, block->relocs,
           block->reloc_count * sizeof(struct block_reloc));
    memcpy((void *)(uintptr_t)p.faults, block->faults,
           block->fault_count * sizeof(struct block_fault));
    memcpy((void *)(uintptr_t)p.distances, block->distances, block->guests * sizeof(int32_t));
    memcpy((void *)(uintptr_t)p.words, code->word, code->word_count * sizeof(uint32_t));
    for (uint32_t i = 0; i < code->run_count; i++) {
        ((struct kept_run *)(uintptr_t)p.runs)[i] =
            (struct kept_run){.distance = (int32_t)(int64_t)(code->run[i].pc - block->pc),
                              .first = code->run[i].first,
                              .count = code->run[i].count};
    }
    relocate((uint8_t *)(uintptr_t)p.code, p.relocs, record->relocs, block->pc, false);
    record->checksum = kept_checksum(record, RECORD_SKIP, size);
    return record;
}
