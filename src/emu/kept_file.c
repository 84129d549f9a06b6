/*
 * kept_file.c - files of guest code: where they are mapped, what is kept of them, what is written.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/macros.h"
#include "emu/block.h"
#include "emu/host/x86_64/target.h"
#include "emu/kept.h"

/* Records that wait to be written, in bytes. */
#define FRESH_MAX ((size_t)128 << 20)
#define HEADER_SKIP (offsetof(struct kept_header, checksum) + sizeof(uint32_t))

/* What was kept. */
struct kept {
    const uint8_t *data; /* NULL: nothing that is of use */
    const struct kept_entry *index;
    uint32_t count;
    uint64_t size;
};

struct emu_file {
    struct emu_file *next;
    struct kept kept;
    /* What this process translated. */
    struct fresh {
        uint32_t place;
        struct kept_record *record;
    } * fresh;
    size_t fresh_count, fresh_room, fresh_bytes;
    size_t fresh_first; /* those before are the parent's */
};

struct emu_region {
    uint64_t start, len, offset;
    struct emu_file *file;
};

static size_t index_end(const struct kept_header *header)
{
    return sizeof(*header) + (size_t)header->count * sizeof(struct kept_entry);
}

/* Also of the CPU: a directory may be carried from one to another. */
static uint32_t version(void)
{
    return KEPT_VERSION | x86_features() << 16;
}

static bool header_is_good(const struct kept_header *header, size_t size)
{
    uint8_t build[KEPT_BUILD_SIZE];
    return size >= sizeof(*header) && ((uintptr_t)header & 7) == 0 &&
           memcmp(header->magic, KEPT_MAGIC, sizeof(header->magic)) == 0 &&
           header->version == version() && kept_build(build) &&
           memcmp(build, header->build, sizeof(build)) == 0 && header->size == size &&
           header->count <= (size - sizeof(*header)) / sizeof(struct kept_entry) &&
           header->checksum == kept_checksum(header, HEADER_SKIP, index_end(header));
}

static struct kept kept_open(const void *data, size_t size)
{
    const struct kept_header *header = data;
    if (data == NULL || !header_is_good(header, size)) {
        return (struct kept){.data = NULL};
    }
    return (struct kept){.data = data,
                         .index = (const struct kept_entry *)(header + 1),
                         .count = header->count,
                         .size = size};
}

int emu_file_new(struct emu *emu, const void *kept, size_t size, struct emu_file **ret)
{
    uint8_t build[KEPT_BUILD_SIZE];
    if (emu->cache == NULL || !kept_build(build)) {
        return -ENOTSUP;
    }
    struct emu_file *file = calloc(1, sizeof(*file));
    if (file == NULL) {
        return -ENOMEM;
    }
    file->kept = kept_open(kept, size);
    (void)pthread_mutex_lock(&emu->lock);
    file->next = emu->files;
    emu->files = file;
    (void)pthread_mutex_unlock(&emu->lock);
    *ret = file;
    return 0;
}

/* What is left of a region without [start, end): up to two pieces. */
static size_t pieces_of(const struct emu_region *r, uint64_t start, uint64_t end,
                        struct emu_region ret[2])
{
    size_t count = 0;
    uint64_t r_end = r->start + r->len;
    if (r->start < start) {
        ret[count] = *r;
        ret[count++].len = MIN(start, r_end) - r->start;
    }
    if (r_end > end) {
        uint64_t from = MAX(end, r->start);
        ret[count] = *r;
        ret[count].start = from;
        ret[count].len = r_end - from;
        ret[count++].offset = r->offset + (from - r->start);
    }
    return count;
}

/* The lock is held. Regions do not overlap; afterwards there is room for one more. */
static int cut_regions(struct emu *emu, uint64_t start, uint64_t len)
{
    size_t count = 0;
    struct emu_region *left = calloc(2 * emu->region_count + 1, sizeof(*left));
    if (left == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < emu->region_count; i++) {
        const struct emu_region *r = &emu->regions[i];
        struct emu_region piece[2] = {*r};
        bool apart = r->start >= start + len || r->start + r->len <= start;
        size_t pieces = apart ? 1 : pieces_of(r, start, start + len, piece);
        memcpy(&left[count], piece, pieces * sizeof(piece[0]));
        count += pieces;
    }
    free(emu->regions);
    emu->regions = left;
    emu->region_count = count;
    return 0;
}

int emu_file_unmap(struct emu *emu, uint64_t start, uint64_t len)
{
    (void)pthread_mutex_lock(&emu->lock);
    int r = cut_regions(emu, start, len);
    (void)pthread_mutex_unlock(&emu->lock);
    return r;
}

int emu_file_map(struct emu *emu, struct emu_file *file, uint64_t start, uint64_t len,
                 uint64_t offset)
{
    (void)pthread_mutex_lock(&emu->lock);
    int r = cut_regions(emu, start, len);
    if (r == 0) {
        emu->regions[emu->region_count++] =
            (struct emu_region){.start = start, .len = len, .offset = offset, .file = file};
    }
    (void)pthread_mutex_unlock(&emu->lock);
    return r;
}

static struct emu_file *file_at(const struct emu *emu, uint64_t pc, uint32_t *ret_place)
{
    for (size_t i = 0; i < emu->region_count; i++) {
        const struct emu_region *r = &emu->regions[i];
        uint64_t place = pc - r->start + r->offset;
        if (pc - r->start < r->len && place / 4 <= UINT32_MAX) {
            *ret_place = (uint32_t)(place / 4);
            return r->file;
        }
    }
    return NULL;
}

/* The record that the entry names, if it lies in the file as a whole. */
static const struct kept_record *record_at(const struct kept *file, const struct kept_entry *e)
{
    uint64_t at = (uint64_t)e->at * 8;
    if (at >= file->size) {
        return NULL;
    }
    const struct kept_record *record = (const struct kept_record *)(const void *)(file->data + at);
    return kept_fits(record, file->size - at) ? record : NULL;
}

static const struct kept_record *search(const struct kept *file, uint32_t place)
{
    uint32_t low = 0;
    uint32_t high = file->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (file->index[middle].place == place) {
            return record_at(file, &file->index[middle]);
        }
        if (file->index[middle].place < place) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

struct block *kept_find(struct emu *emu, uint64_t pc)
{
    uint32_t place = 0;
    const struct emu_file *file =
        (pc & 3) != 0 || emu->cache == NULL ? NULL : file_at(emu, pc, &place);
    const struct kept_record *record = file == NULL ? NULL : search(&file->kept, place);
    return record == NULL ? NULL : kept_adopt(emu, record, pc);
}

static bool make_room(struct emu_file *file)
{
    if (file->fresh_count < file->fresh_room) {
        return true;
    }
    size_t room = MAX((size_t)256, 2 * file->fresh_room);
    struct fresh *grown = realloc(file->fresh, room * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    file->fresh = grown;
    file->fresh_room = room;
    return true;
}

/* Without memory it is not kept. */
void kept_note(struct emu *emu, const struct block *block, const struct guest_code *code,
               const uint8_t *written)
{
    uint32_t place = 0;
    struct emu_file *file = file_at(emu, block->pc, &place);
    if (file == NULL || file->fresh_bytes > FRESH_MAX || !make_room(file)) {
        return;
    }
    struct kept_record *record = kept_record_new(block, code, written);
    if (record != NULL) {
        file->fresh_bytes += record->size;
        file->fresh[file->fresh_count++] = (struct fresh){.place = place, .record = record};
    }
}

void kept_forget(struct emu *emu)
{
    for (struct emu_file *file = emu->files; file != NULL; file = file->next) {
        file->fresh_first = file->fresh_count;
    }
}

void kept_free(struct emu *emu)
{
    for (struct emu_file *file = emu->files; file != NULL;) {
        struct emu_file *next = file->next;
        for (size_t i = 0; i < file->fresh_count; i++) {
            free(file->fresh[i].record);
        }
        free(file->fresh);
        free(file);
        file = next;
    }
    emu->files = NULL;
    free(emu->regions);
    emu->regions = NULL;
    emu->region_count = 0;
}

void emu_file_count(struct emu *emu, const struct emu_file *file, size_t *ret_kept,
                    size_t *ret_fresh)
{
    (void)pthread_mutex_lock(&emu->lock);
    *ret_kept = file->kept.count;
    *ret_fresh = file->fresh_count - file->fresh_first;
    (void)pthread_mutex_unlock(&emu->lock);
}

/* A record on its way into the file: newer ones of the same place come first. */
struct choice {
    uint32_t place, age;
    const struct kept_record *record;
};

static int by_place(const void *a, const void *b)
{
    const struct choice *x = a;
    const struct choice *y = b;
    return x->place != y->place ? (x->place < y->place ? -1 : 1)
           : x->age < y->age    ? -1
                                : x->age > y->age;
}

/* All that may be written, sorted; returns how many. */
static size_t choose(const struct emu_file *file, const struct kept *kept, struct choice *choice)
{
    size_t count = 0;
    size_t chosen = 0;
    for (size_t i = file->fresh_count; i-- > file->fresh_first;) {
        choice[count] = (struct choice){
            .place = file->fresh[i].place, .age = (uint32_t)count, .record = file->fresh[i].record};
        count++;
    }
    for (uint32_t i = 0; i < kept->count; i++) {
        const struct kept_record *record = record_at(kept, &kept->index[i]);
        if (record != NULL) {
            choice[count] = (struct choice){
                .place = kept->index[i].place, .age = (uint32_t)count, .record = record};
            count++;
        }
    }
    qsort(choice, count, sizeof(*choice), by_place);
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || choice[i].place != choice[i - 1].place) {
            choice[chosen++] = choice[i];
        }
    }
    return chosen;
}

static int write_all(const struct choice *choice, size_t count, struct buf *ret)
{
    struct kept_header header = {.version = version(), .count = (uint32_t)count};
    uint64_t at = index_end(&header);
    int r = 0;
    memcpy(header.magic, KEPT_MAGIC, sizeof(header.magic));
    if (!kept_build(header.build)) {
        return -ENOTSUP;
    }
    header.size = at;
    for (size_t i = 0; i < count; i++) {
        header.size += choice[i].record->size;
    }
    if (buf_reserve(ret, header.size) < 0 || buf_add(ret, &header, sizeof(header)) < 0) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < count && r == 0; i++) {
        const struct kept_entry entry = {.place = choice[i].place, .at = (uint32_t)(at / 8)};
        r = buf_add(ret, &entry, sizeof(entry));
        at += choice[i].record->size;
    }
    for (size_t i = 0; i < count && r == 0; i++) {
        r = buf_add(ret, choice[i].record, choice[i].record->size);
    }
    if (r == 0) {
        struct kept_header *written = (struct kept_header *)(void *)ret->data;
        written->checksum = kept_checksum(written, HEADER_SKIP, index_end(written));
    }
    return r;
}

int emu_file_write(struct emu *emu, const struct emu_file *file, const void *data, size_t size,
                   struct buf *ret)
{
    const struct kept kept = kept_open(data, size);
    (void)pthread_mutex_lock(&emu->lock);
    size_t most = kept.count + file->fresh_count;
    struct choice *choice = calloc(MAX(most, (size_t)1), sizeof(*choice));
    int r = choice == NULL ? -ENOMEM : write_all(choice, choose(file, &kept, choice), ret);
    free(choice);
    (void)pthread_mutex_unlock(&emu->lock);
    return r;
}
