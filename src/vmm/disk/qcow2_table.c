#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/disk/qcow2_internal.h"

int table_init(struct qcow2 *q)
{
    int r = pthread_mutex_init(&q->lock, NULL);
    return -r;
}

void table_done(struct qcow2 *q)
{
    for (size_t i = 0; i < TABLE_PAGES; i++) {
        free(q->cache.pages[i].data);
    }
    (void)pthread_mutex_destroy(&q->lock);
}

static struct table_page **bucket_of(struct qcow2 *q, enum table_kind kind, uint64_t offset)
{
    uint64_t number = offset / q->cache.page_size;
    return &q->cache.buckets[(number ^ (number >> 6) ^ kind * 17U) % TABLE_BUCKETS];
}

static struct table_page *find(struct qcow2 *q, enum table_kind kind, uint64_t page_offset)
{
    struct table_page *page = *bucket_of(q, kind, page_offset);
    while (page != NULL && (page->offset != page_offset || page->kind != kind)) {
        page = page->next_hash;
    }
    return page;
}

static void unlink_page(struct qcow2 *q, struct table_page *page)
{
    struct table_page **link = bucket_of(q, page->kind, page->offset);
    while (*link != page) {
        link = &(*link)->next_hash;
    }
    *link = page->next_hash;
    free(page->data);
    page->data = NULL;
}

static int write_page(struct qcow2 *q, struct table_page *page)
{
    int r = disk_file_write(&q->file, page->offset, page->data, q->cache.page_size);
    if (r == 0) {
        page->dirty = false;
        q->cache.dirty[page->kind]--;
    }
    return r;
}

static struct table_page *oldest(struct qcow2 *q)
{
    struct table_page *best = NULL;
    for (size_t i = 0; i < TABLE_PAGES; i++) {
        struct table_page *page = &q->cache.pages[i];
        if (page->data == NULL) {
            return page;
        }
        if (best == NULL || q->cache.clock - page->used > q->cache.clock - best->used) {
            best = page;
        }
    }
    return best;
}

/* A place for a page. Counts may be written at any time; what points to clusters waits its turn. */
static int make_room(struct qcow2 *q, struct table_page **ret)
{
    (void)pthread_mutex_lock(&q->lock);
    struct table_page *page = oldest(q);
    (void)pthread_mutex_unlock(&q->lock);
    if (page->data != NULL && page->dirty) {
        int r = page->kind == TABLE_REFBLOCK ? write_page(q, page) : table_write_back(q);
        if (r < 0) {
            return r;
        }
    }
    (void)pthread_mutex_lock(&q->lock);
    if (page->data != NULL) {
        unlink_page(q, page);
    }
    (void)pthread_mutex_unlock(&q->lock);
    *ret = page;
    return 0;
}

int table_page_get(struct qcow2 *q, enum table_kind kind, uint64_t offset, struct table_page **ret)
{
    uint64_t page_offset = offset - offset % q->cache.page_size;
    struct table_page *page = find(q, kind, page_offset);
    if (page == NULL) {
        int r = make_room(q, &page);
        if (r < 0) {
            return r;
        }
        AUTO(freep) uint8_t *data = malloc(q->cache.page_size);
        if (data == NULL) {
            return -ENOMEM;
        }
        r = disk_file_read(&q->file, page_offset, data, q->cache.page_size);
        if (r < 0) {
            return r;
        }
        (void)pthread_mutex_lock(&q->lock);
        struct table_page **bucket = bucket_of(q, kind, page_offset);
        *page = (struct table_page){
            .offset = page_offset, .data = TAKE_PTR(data), .kind = kind, .next_hash = *bucket};
        *bucket = page;
        (void)pthread_mutex_unlock(&q->lock);
    }
    (void)pthread_mutex_lock(&q->lock);
    page->used = ++q->cache.clock;
    (void)pthread_mutex_unlock(&q->lock);
    *ret = page;
    return 0;
}

void table_page_lock(struct qcow2 *q)
{
    (void)pthread_mutex_lock(&q->lock);
}

void table_page_unlock(struct qcow2 *q, struct table_page *page)
{
    if (!page->dirty) {
        page->dirty = true;
        q->cache.dirty[page->kind]++;
    }
    (void)pthread_mutex_unlock(&q->lock);
}

int table_get(struct qcow2 *q, enum table_kind kind, uint64_t offset, uint64_t *ret)
{
    struct table_page *page;
    int r = table_page_get(q, kind, offset, &page);
    if (r == 0) {
        *ret = load_be64(page->data + offset % q->cache.page_size);
    }
    return r;
}

int table_set(struct qcow2 *q, enum table_kind kind, uint64_t offset, uint64_t value)
{
    struct table_page *page;
    int r = table_page_get(q, kind, offset, &page);
    if (r == 0) {
        table_page_lock(q);
        store_be64(page->data + offset % q->cache.page_size, value);
        table_page_unlock(q, page);
    }
    return r;
}

int table_peek(struct qcow2 *q, enum table_kind kind, uint64_t offset, uint64_t *ret)
{
    struct table_page *page = find(q, kind, offset - offset % q->cache.page_size);
    if (page == NULL) {
        return -EAGAIN;
    }
    page->used = ++q->cache.clock;
    *ret = load_be64(page->data + offset % q->cache.page_size);
    return 0;
}

int table_write_back(struct qcow2 *q)
{
    for (unsigned kind = 0; kind < TABLE_KINDS; kind++) {
        if (q->cache.dirty[kind] == 0) {
            continue;
        }
        /* What these pages point to (data, too) must be there first. */
        int r = kind == TABLE_REFBLOCK ? 0 : qcow2_sync(q);
        for (size_t i = 0; i < TABLE_PAGES && r == 0; i++) {
            struct table_page *page = &q->cache.pages[i];
            if (page->data != NULL && page->dirty && page->kind == kind) {
                r = write_page(q, page);
            }
        }
        if (r < 0) {
            return r;
        }
        assert(q->cache.dirty[kind] == 0);
    }
    return 0;
}

void table_forget(struct qcow2 *q, uint64_t offset, uint64_t len)
{
    (void)pthread_mutex_lock(&q->lock);
    for (size_t i = 0; i < TABLE_PAGES; i++) {
        struct table_page *page = &q->cache.pages[i];
        if (page->data != NULL && page->offset >= offset && page->offset - offset < len) {
            if (page->dirty) {
                q->cache.dirty[page->kind]--;
            }
            unlink_page(q, page);
        }
    }
    (void)pthread_mutex_unlock(&q->lock);
}

static size_t slot_of(const struct cluster_set *set, uint64_t cluster)
{
    size_t at = (size_t)((cluster * 0x9e3779b97f4a7c15ULL) >> 20) & (set->size - 1);
    while (set->slots[at] != 0 && set->slots[at] != cluster + 1) {
        at = (at + 1) & (set->size - 1);
    }
    return at;
}

static int grow(struct cluster_set *set)
{
    struct cluster_set bigger = {.size = MAX(set->size * 2, (size_t)64), .count = set->count};
    bigger.slots = calloc(bigger.size, sizeof(bigger.slots[0]));
    if (bigger.slots == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < set->size; i++) {
        if (set->slots[i] != 0) {
            bigger.slots[slot_of(&bigger, set->slots[i] - 1)] = set->slots[i];
        }
    }
    free(set->slots);
    *set = bigger;
    return 0;
}

int cluster_set_add(struct cluster_set *set, uint64_t cluster)
{
    if (set->count * 4 >= set->size * 3) {
        int r = grow(set);
        if (r < 0) {
            return r;
        }
    }
    size_t at = slot_of(set, cluster);
    if (set->slots[at] != 0) {
        return -EEXIST;
    }
    set->slots[at] = cluster + 1;
    set->count++;
    return 0;
}

void cluster_set_remove(struct cluster_set *set, uint64_t cluster)
{
    if (set->size == 0) {
        return;
    }
    size_t at = slot_of(set, cluster);
    if (set->slots[at] == 0) {
        return;
    }
    set->slots[at] = 0;
    set->count--;
    /* Those behind it that found it taken move up. */
    for (size_t next = (at + 1) & (set->size - 1); set->slots[next] != 0;
         next = (next + 1) & (set->size - 1)) {
        uint64_t value = set->slots[next];
        set->slots[next] = 0;
        set->slots[slot_of(set, value - 1)] = value;
    }
}

bool cluster_set_has(const struct cluster_set *set, uint64_t cluster)
{
    return set->size > 0 && set->slots[slot_of(set, cluster)] != 0;
}
