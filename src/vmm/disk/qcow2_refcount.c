#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>

#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/disk/qcow2_internal.h"

#define REFTABLE_BYTES_MAX ((uint64_t)8 << 20)
#define HEADER_REFTABLE 48 /* offset (8 bytes), clusters (4 bytes) */

static uint64_t load_count(const uint8_t *data, uint64_t index, unsigned order)
{
    switch (order) {
    case 3:
        return data[index];
    case 4:
        return (uint64_t)data[index * 2] << 8 | data[index * 2 + 1];
    case 5:
        return load_be32(data + index * 4);
    case 6:
        return load_be64(data + index * 8);
    default: {
        unsigned bits = 1U << order;
        unsigned shift = (unsigned)(index * bits % 8);
        return data[index * bits / 8] >> shift & ((1U << bits) - 1);
    }
    }
}

static void store_count(uint8_t *data, uint64_t index, unsigned order, uint64_t value)
{
    switch (order) {
    case 3:
        data[index] = (uint8_t)value;
        break;
    case 4:
        data[index * 2] = (uint8_t)(value >> 8);
        data[index * 2 + 1] = (uint8_t)value;
        break;
    case 5:
        store_be32(data + index * 4, (uint32_t)value);
        break;
    case 6:
        store_be64(data + index * 8, value);
        break;
    default: {
        unsigned bits = 1U << order;
        unsigned shift = (unsigned)(index * bits % 8);
        unsigned mask = ((1U << bits) - 1) << shift;
        uint8_t *byte = &data[index * bits / 8];
        *byte = (uint8_t)((*byte & ~mask) | ((unsigned)value << shift & mask));
    }
    }
}

static uint64_t reftable_entries(const struct qcow2 *q)
{
    return ((uint64_t)q->header.reftable_clusters << q->header.cluster_bits) / 8;
}

/* *ret: where the block is, 0 when there is none. */
static int find_block(struct qcow2 *q, uint64_t cluster, uint64_t *ret)
{
    uint64_t index = cluster >> q->refblock_bits;
    *ret = 0;
    if (index >= reftable_entries(q)) {
        return 0;
    }
    uint64_t entry;
    int r = table_get(q, TABLE_REFTABLE, q->header.reftable_offset + index * 8, &entry);
    if (r < 0 || entry == 0) {
        return r;
    }
    /* The table was checked when the image was opened; this is for what changed since. */
    if (entry % q->cluster_size != 0 || entry >= q->file_end) {
        return qcow2_mark_corrupt(q);
    }
    *ret = entry;
    return 0;
}

/* The page with the count of cluster, and its index there. */
static int find_page(struct qcow2 *q, uint64_t block, uint64_t cluster, struct table_page **ret,
                     uint64_t *ret_index)
{
    unsigned order = q->header.refcount_order;
    uint64_t index = cluster & ((1ULL << q->refblock_bits) - 1);
    uint64_t byte = order >= 3 ? index << (order - 3) : index >> (3 - order);
    uint64_t per_page = (uint64_t)q->cache.page_size * 8 >> order;
    *ret_index = index % per_page;
    return table_page_get(q, TABLE_REFBLOCK, block + byte, ret);
}

int refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *ret, bool *ret_has_block)
{
    uint64_t block;
    int r = find_block(q, cluster, &block);
    if (r < 0) {
        return r;
    }
    *ret_has_block = block != 0;
    *ret = 0;
    if (block == 0) {
        return 0;
    }
    struct table_page *page;
    uint64_t index;
    r = find_page(q, block, cluster, &page, &index);
    if (r == 0) {
        *ret = load_count(page->data, index, q->header.refcount_order);
    }
    return r;
}

int refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t value)
{
    uint64_t block;
    int r = find_block(q, cluster, &block);
    if (r == 0 && block == 0) {
        return qcow2_mark_corrupt(q);
    }
    struct table_page *page;
    uint64_t index;
    if (r == 0) {
        r = find_page(q, block, cluster, &page, &index);
    }
    if (r == 0) {
        table_page_lock(q);
        store_count(page->data, index, q->header.refcount_order, value);
        table_page_unlock(q, page);
    }
    return r;
}

int refcount_extend_file(struct qcow2 *q, uint64_t end)
{
    if (end <= q->file_end) {
        return 0;
    }
    if (q->file.block_device) {
        return -ENOSPC;
    }
    if (ftruncate(q->file.fd, (off_t)end) < 0) {
        return -errno;
    }
    (void)pthread_mutex_lock(&q->lock);
    q->file_end = end;
    (void)pthread_mutex_unlock(&q->lock);
    return 0;
}

/* Gives clusters that hold whatever was there before the content zero. */
static int clear_clusters(struct qcow2 *q, uint64_t offset, uint64_t len)
{
    int r = refcount_extend_file(q, offset + len);
    if (r == 0 && offset < q->fresh) {
        r = disk_file_write_zeros(&q->file, offset, len);
    }
    q->fresh = MAX(q->fresh, offset + len);
    table_forget(q, offset, len);
    return r;
}

static int add_table(struct qcow2 *q, uint64_t cluster)
{
    (void)pthread_mutex_lock(&q->lock);
    int r = cluster_set_add(&q->tables, cluster);
    (void)pthread_mutex_unlock(&q->lock);
    return r == -EEXIST ? qcow2_mark_corrupt(q) : r;
}

/* A new table of counts and the blocks that count it, in one area of the file. */
struct new_table {
    uint64_t first; /* cluster: that which the old table ends before */
    uint64_t old_entries;
    uint64_t blocks;   /* at first */
    uint64_t clusters; /* of the table, behind the blocks */
};

static int plan_table(const struct qcow2 *q, struct new_table *ret)
{
    uint64_t per_cluster = q->cluster_size / 8;
    uint64_t per_block = 1ULL << q->refblock_bits;
    struct new_table t = {.old_entries = reftable_entries(q), .blocks = 1};
    t.clusters = q->header.reftable_clusters + q->header.reftable_clusters / 2ULL + 1;
    t.first = t.old_entries << q->refblock_bits;
    while (t.blocks * per_block < t.blocks + t.clusters) {
        t.blocks++;
        t.clusters += t.old_entries + t.blocks > t.clusters * per_cluster;
    }
    if (t.clusters << q->header.cluster_bits > REFTABLE_BYTES_MAX ||
        t.first + t.blocks + t.clusters >= 1ULL << (56 - q->header.cluster_bits)) {
        return -ENOSPC;
    }
    *ret = t;
    return 0;
}

static int write_blocks(struct qcow2 *q, const struct new_table *t, uint8_t *buffer)
{
    uint64_t per_block = 1ULL << q->refblock_bits;
    uint64_t used = t->blocks + t->clusters;
    int r = 0;
    for (uint64_t i = 0; i < t->blocks && r == 0; i++) {
        memset(buffer, 0, (size_t)q->cluster_size);
        for (uint64_t c = 0; c < per_block && i * per_block + c < used; c++) {
            store_count(buffer, c, q->header.refcount_order, 1);
        }
        r = disk_file_write(&q->file, (t->first + i) << q->header.cluster_bits, buffer,
                            (size_t)q->cluster_size);
    }
    return r;
}

static int write_table(struct qcow2 *q, const struct new_table *t, uint8_t *buffer)
{
    uint64_t table = (t->first + t->blocks) << q->header.cluster_bits;
    int r = 0;
    for (uint64_t i = 0; i < q->header.reftable_clusters && r == 0; i++) {
        uint64_t at = i << q->header.cluster_bits;
        r = disk_file_read(&q->file, q->header.reftable_offset + at, buffer,
                           (size_t)q->cluster_size);
        if (r == 0) {
            r = disk_file_write(&q->file, table + at, buffer, (size_t)q->cluster_size);
        }
    }
    for (uint64_t i = 0; i < t->blocks && r == 0; i++) {
        uint8_t entry[8];
        store_be64(entry, (t->first + i) << q->header.cluster_bits);
        r = disk_file_write(&q->file, table + (t->old_entries + i) * 8, entry, sizeof(entry));
    }
    return r;
}

/* The header's pointer in one write, with everything that it points to on disk before. */
static int switch_table(struct qcow2 *q, const struct new_table *t)
{
    uint64_t table = (t->first + t->blocks) << q->header.cluster_bits;
    uint8_t header[12];
    store_be64(header, table);
    store_be32(header + 8, (uint32_t)t->clusters);
    int r = qcow2_sync(q);
    if (r == 0) {
        r = disk_file_write(&q->file, HEADER_REFTABLE, header, sizeof(header));
    }
    if (r == 0) {
        r = qcow2_sync(q);
    }
    if (r == 0) {
        (void)pthread_mutex_lock(&q->lock);
        q->header.reftable_offset = table;
        q->header.reftable_clusters = (uint32_t)t->clusters;
        (void)pthread_mutex_unlock(&q->lock);
    }
    return r;
}

static int grow_reftable(struct qcow2 *q)
{
    struct new_table t;
    int r = plan_table(q, &t);
    if (r < 0) {
        return r;
    }
    uint64_t used = t.blocks + t.clusters;
    for (uint64_t i = 0; i < used; i++) {
        if (qcow2_is_metadata(q, (t.first + i) << q->header.cluster_bits)) {
            return qcow2_mark_corrupt(q);
        }
    }
    uint64_t old = q->header.reftable_offset;
    uint32_t old_clusters = q->header.reftable_clusters;
    AUTO(freep) uint8_t *buffer = malloc((size_t)q->cluster_size);
    r = buffer == NULL ? -ENOMEM : table_write_back(q);
    if (r == 0) {
        r = clear_clusters(q, t.first << q->header.cluster_bits, used << q->header.cluster_bits);
    }
    if (r == 0) {
        r = write_blocks(q, &t, buffer);
    }
    if (r == 0) {
        r = write_table(q, &t, buffer);
    }
    if (r == 0) {
        r = switch_table(q, &t);
    }
    if (r < 0) {
        return r;
    }
    table_forget(q, old, (uint64_t)old_clusters << q->header.cluster_bits);
    for (uint64_t i = 0; i < t.blocks && r == 0; i++) {
        r = add_table(q, t.first + i);
    }
    for (uint32_t i = 0; i < old_clusters && r == 0; i++) {
        r = refcount_free_later(q, (old >> q->header.cluster_bits) + i);
    }
    return r;
}

int refcount_make_block(struct qcow2 *q, uint64_t cluster)
{
    uint64_t index = cluster >> q->refblock_bits;
    if (index >= reftable_entries(q)) {
        return grow_reftable(q);
    }
    uint64_t offset = cluster << q->header.cluster_bits;
    if (qcow2_is_metadata(q, offset)) {
        return qcow2_mark_corrupt(q);
    }
    int r = clear_clusters(q, offset, q->cluster_size);
    struct table_page *page;
    uint64_t at = 0;
    if (r == 0) {
        r = find_page(q, offset, cluster, &page, &at);
    }
    if (r < 0) {
        return r;
    }
    table_page_lock(q);
    store_count(page->data, at, q->header.refcount_order, 1);
    table_page_unlock(q, page);
    r = add_table(q, cluster);
    if (r == 0) {
        r = table_set(q, TABLE_REFTABLE, q->header.reftable_offset + index * 8, offset);
    }
    return r;
}

/* The first free cluster from the hint on; its count has a place. */
static int find_free(struct qcow2 *q, uint64_t *ret)
{
    uint64_t limit = 1ULL << (56 - q->header.cluster_bits);
    for (uint64_t cluster = q->free_hint; cluster < limit; cluster++) {
        uint64_t count;
        bool has_block;
        int r = refcount_get(q, cluster, &count, &has_block);
        if (r == 0 && !has_block) {
            r = refcount_make_block(q, cluster);
            if (r == 0) {
                /* It may have become the block, or part of a new table. */
                r = refcount_get(q, cluster, &count, &has_block);
            }
        }
        if (r < 0) {
            return r;
        }
        if (count == 0) {
            *ret = cluster;
            return 0;
        }
    }
    return -ENOSPC;
}

int refcount_alloc(struct qcow2 *q, uint64_t want, uint64_t *ret_offset, uint64_t *ret_count,
                   bool *ret_zeros)
{
    uint64_t first = 0;
    int r = find_free(q, &first);
    uint64_t got = 0;
    while (r == 0 && got < want) {
        uint64_t count;
        bool has_block;
        r = refcount_get(q, first + got, &count, &has_block);
        if (r < 0 || !has_block || count != 0) {
            break;
        }
        if (qcow2_is_metadata(q, (first + got) << q->header.cluster_bits)) {
            return qcow2_mark_corrupt(q);
        }
        r = refcount_set(q, first + got, 1);
        got += r == 0;
    }
    uint64_t offset = first << q->header.cluster_bits;
    if (r == 0) {
        r = refcount_extend_file(q, offset + got * q->cluster_size);
    }
    if (r < 0) {
        refcount_undo(q, offset, got);
        return r;
    }
    q->free_hint = first + got;
    *ret_zeros = offset >= q->fresh;
    q->fresh = MAX(q->fresh, offset + got * q->cluster_size);
    *ret_offset = offset;
    *ret_count = got;
    return 0;
}

void refcount_undo(struct qcow2 *q, uint64_t offset, uint64_t count)
{
    uint64_t first = offset >> q->header.cluster_bits;
    for (uint64_t i = 0; i < count; i++) {
        /* What fails here is lost space. */
        (void)refcount_set(q, first + i, 0);
    }
    if (count > 0) {
        q->free_hint = MIN(q->free_hint, first);
    }
}

int refcount_free_later(struct qcow2 *q, uint64_t cluster)
{
    if (q->freed_count == q->freed_size) {
        size_t size = MAX(q->freed_size * 2, (size_t)256);
        uint64_t *bigger = realloc(q->freed, size * sizeof(*bigger));
        if (bigger == NULL) {
            return -ENOMEM;
        }
        q->freed = bigger;
        q->freed_size = size;
    }
    q->freed[q->freed_count++] = cluster;
    return 0;
}

static void give_back(struct qcow2 *q, uint64_t first, uint64_t count)
{
    if (count > 0) {
        /* A hint to the host's file system. */
        (void)fallocate(q->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                        (off_t)(first << q->header.cluster_bits),
                        (off_t)(count << q->header.cluster_bits));
    }
}

int refcount_apply_frees(struct qcow2 *q)
{
    uint64_t first = 0;
    uint64_t run = 0;
    int r = 0;
    for (size_t i = 0; i < q->freed_count && r == 0; i++) {
        uint64_t cluster = q->freed[i];
        uint64_t count;
        bool has_block;
        r = refcount_get(q, cluster, &count, &has_block);
        if (r == 0 && count == 0) {
            r = qcow2_mark_corrupt(q);
        }
        if (r == 0) {
            r = refcount_set(q, cluster, count - 1);
        }
        if (r < 0 || count > 1) {
            continue;
        }
        q->free_hint = MIN(q->free_hint, cluster);
        table_forget(q, cluster << q->header.cluster_bits, q->cluster_size);
        if (run > 0 && cluster == first + run) {
            run++;
            continue;
        }
        give_back(q, first, run);
        first = cluster;
        run = 1;
    }
    give_back(q, first, run);
    q->freed_count = 0;
    return r;
}
