/*
 * Any bytes as a file of kept translations: the blocks that are taken from it lie in it, and what
 * is written from it is such a file again. Their code is not executed: of that only who may write
 * the file is the guard.
 *
 * What is no more than a checksum or a name is made right first, and the guest's memory what the
 * records want there.
 */
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/buf.h"
#include "base/err.h"
#include "emu/block.h"
#include "emu/host/x86_64/target.h"
#include "emu/kept.h"

#define GUEST_SIZE ((size_t)1 << 20)
#define ENTRIES_MAX 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void need(bool good)
{
    if (!good) {
        abort();
    }
}

static bool executable(void *data, uint64_t pc, size_t len)
{
    uint64_t start = (uint64_t)(uintptr_t)data;
    return pc >= start && pc - start <= GUEST_SIZE && len <= GUEST_SIZE - (pc - start);
}

static const struct kept_entry *entry_at(const uint8_t *file, uint32_t i)
{
    return (const struct kept_entry *)(const void *)(file + sizeof(struct kept_header)) + i;
}

static void seal_header(uint8_t *file, size_t len)
{
    struct kept_header *header = (struct kept_header *)(void *)file;
    const size_t skip = offsetof(struct kept_header, checksum) + sizeof(uint32_t);
    memcpy(header->magic, KEPT_MAGIC, sizeof(header->magic));
    header->version = KEPT_VERSION | x86_features() << 16;
    need(kept_build(header->build));
    header->size = len;
    size_t end = sizeof(*header) + (size_t)header->count * sizeof(struct kept_entry);
    if (end <= len) {
        header->checksum = kept_checksum(header, skip, end);
    }
}

/* The record of an entry, sealed, or NULL. */
static struct kept_record *record_of(uint8_t *file, size_t len, uint32_t i)
{
    const size_t skip = offsetof(struct kept_record, checksum) + sizeof(uint32_t);
    uint64_t at = (uint64_t)entry_at(file, i)->at * 8;
    struct kept_record *record = (struct kept_record *)(void *)(file + at);
    if (at > len || !kept_fits(record, len - at)) {
        return NULL;
    }
    record->checksum = kept_checksum(record, skip, record->size);
    return record;
}

/* The guest's memory as the record was made of it: runs of words (kept.h has the order of parts).
 */
static void write_guest(uint8_t *guest, uint64_t place, const struct kept_record *record)
{
    const uint8_t *runs = (const uint8_t *)(record + 1) + ((size_t)record->code_size + 7) / 8 * 8 +
                          record->relocs * sizeof(struct block_reloc) +
                          record->faults * sizeof(struct block_fault);
    const uint8_t *words =
        runs + record->runs * sizeof(struct kept_run) + record->guests * sizeof(int32_t);
    for (unsigned i = 0; i < record->runs; i++) {
        struct kept_run run;
        memcpy(&run, runs + i * sizeof(run), sizeof(run));
        uint64_t at = place + (uint64_t)(int64_t)run.distance;
        size_t size = (size_t)run.count * 4;
        if (run.first + run.count <= record->words && at < GUEST_SIZE && GUEST_SIZE - at >= size) {
            memcpy(guest + at, words + (size_t)run.first * 4, size);
        }
    }
}

static void find_all(struct emu *emu, uint8_t *guest, uint8_t *file, size_t len, uint32_t count)
{
    for (uint32_t i = 0; i < count && i < ENTRIES_MAX; i++) {
        uint64_t place = (uint64_t)entry_at(file, i)->place * 4;
        const struct kept_record *record = record_of(file, len, i);
        if (record != NULL) {
            write_guest(guest, place, record);
        }
        (void)pthread_mutex_lock(&emu->lock);
        (void)kept_find(emu, (uint64_t)(uintptr_t)guest + place);
        (void)pthread_mutex_unlock(&emu->lock);
    }
}

static void try_file(struct emu *emu, uint8_t *guest, uint8_t *file, size_t len, uint32_t count)
{
    AUTO(buf_donep) struct buf written = {0};
    struct emu_file *kept = NULL;
    size_t known = 0;
    size_t fresh = 0;
    int r = emu_file_new(emu, file, len, &kept);
    if (r == -ENOTSUP) {
        return; /* no code can be made here */
    }
    need(r == 0 && emu_file_map(emu, kept, (uint64_t)(uintptr_t)guest, GUEST_SIZE, 0) == 0);
    find_all(emu, guest, file, len, count);
    emu_file_count(emu, kept, &known, &fresh);
    need(known <= len && fresh == 0);
    need(emu_file_write(emu, kept, file, len, &written) == 0);
    if (written.len > 0) {
        struct emu_file *again = NULL;
        size_t known_again = 0;
        need(emu_file_new(emu, written.data, written.len, &again) == 0);
        emu_file_count(emu, again, &known_again, &fresh);
        need(known_again <= known);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct err err = ERR_NONE;
    struct emu *emu = NULL;
    if (len < sizeof(struct kept_header)) {
        return 0;
    }
    uint8_t *guest =
        mmap(NULL, GUEST_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *file = aligned_alloc(8, (len + 7) / 8 * 8);
    need(guest != MAP_FAILED && file != NULL);
    memcpy(file, data, len);
    seal_header(file, len);
    const struct emu_options options = {.executable = executable, .data = guest};
    need(emu_new(&options, &emu, &err) == 0);
    uint32_t count = ((const struct kept_header *)(const void *)file)->count;
    bool whole = count <= (len - sizeof(struct kept_header)) / sizeof(struct kept_entry);
    try_file(emu, guest, file, len, whole ? count : 0);
    emu_free(emu);
    free(file);
    (void)munmap(guest, GUEST_SIZE);
    return 0;
}
