#include <errno.h>
#include <string.h>

#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/disk/qcow2_internal.h"

/* So many clusters wait to be freed at most; then the tables are written back for it. */
#define FREED_MAX 4096
#define HEADER_INCOMPATIBLE 72

int qcow2_sync(struct qcow2 *q)
{
    int r = disk_file_sync(&q->file);
    if (r < 0) {
        q->broken = true;
    }
    return r;
}

int qcow2_set_incompatible(struct qcow2 *q, uint64_t bits)
{
    uint8_t raw[8];
    store_be64(raw, bits);
    int r = disk_file_write(&q->file, HEADER_INCOMPATIBLE, raw, sizeof(raw));
    if (r == 0) {
        r = disk_file_sync(&q->file);
    }
    if (r == 0) {
        q->header.incompatible = bits;
    }
    return r;
}

int qcow2_mark_corrupt(struct qcow2 *q)
{
    if (!q->broken && !q->file.read_only && q->header.version >= 3) {
        (void)qcow2_set_incompatible(q, q->header.incompatible | QCOW2_CORRUPT);
    }
    (void)pthread_mutex_lock(&q->lock);
    q->broken = true;
    (void)pthread_mutex_unlock(&q->lock);
    return -EIO;
}

int qcow2_flush(struct qcow2 *q)
{
    if (q->broken) {
        return -EIO;
    }
    int r = table_write_back(q);
    if (r == 0) {
        r = qcow2_sync(q);
    }
    /* Now nothing on disk points to them. Their counts are written with the next flush. */
    return r < 0 ? r : refcount_apply_frees(q);
}

int qcow2_limit_freed(struct qcow2 *q)
{
    return q->freed_count >= FREED_MAX ? qcow2_flush(q) : 0;
}

/* Copies between clusters of the file. */
static int copy_clusters(struct qcow2 *q, uint64_t from, uint64_t to, uint64_t len)
{
    for (uint64_t at = 0; at < len; at += QCOW2_BOUNCE) {
        size_t piece = (size_t)MIN(len - at, (uint64_t)QCOW2_BOUNCE);
        int r = disk_file_read(&q->file, from + at, q->bounce, piece);
        if (r == 0) {
            r = disk_file_write(&q->file, to + at, q->bounce, piece);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int qcow2_own_table(struct qcow2 *q, uint64_t offset, uint64_t *ret)
{
    unsigned bits = q->header.cluster_bits;
    uint64_t at = q->header.l1_offset + (offset >> (bits + q->l2_bits)) * 8;
    uint64_t entry;
    int r = table_get(q, TABLE_L1, at, &entry);
    if (r < 0) {
        return r;
    }
    uint64_t old = entry & QCOW2_OFFSET;
    if (old % q->cluster_size != 0 || old >= q->file_end) {
        return qcow2_mark_corrupt(q);
    }
    if (old != 0 && (entry & QCOW2_COPIED) != 0) {
        *ret = old;
        return 0;
    }
    uint64_t table;
    uint64_t count;
    bool zeros;
    r = refcount_alloc(q, 1, &table, &count, &zeros);
    if (r < 0) {
        return r;
    }
    if (old != 0) {
        r = copy_clusters(q, old, table, q->cluster_size);
    } else if (!zeros) {
        r = disk_file_write_zeros(&q->file, table, q->cluster_size);
    }
    if (r < 0) {
        refcount_undo(q, table, 1);
        return r;
    }
    (void)pthread_mutex_lock(&q->lock);
    cluster_set_remove(&q->tables, old >> bits);
    r = cluster_set_add(&q->tables, table >> bits);
    (void)pthread_mutex_unlock(&q->lock);
    table_forget(q, table, q->cluster_size);
    if (r == 0) {
        r = table_set(q, TABLE_L1, at, table | QCOW2_COPIED);
    }
    if (r == 0 && old != 0) {
        r = refcount_free_later(q, old >> bits);
    }
    *ret = table;
    return r;
}

uint64_t qcow2_entry_place(const struct qcow2 *q, uint64_t table, uint64_t offset)
{
    return table + ((offset >> q->header.cluster_bits) & ((1ULL << q->l2_bits) - 1)) * 8;
}

int qcow2_release(struct qcow2 *q, uint64_t entry)
{
    uint64_t first = (entry & QCOW2_OFFSET) >> q->header.cluster_bits;
    uint64_t last = first;
    if ((entry & QCOW2_COMPRESSED) != 0) {
        uint64_t offset;
        uint64_t len;
        qcow2_packed_range(q, entry, &offset, &len);
        first = offset >> q->header.cluster_bits;
        last = (offset + len - 1) >> q->header.cluster_bits;
        if (q->unpacked_entry == entry) {
            q->unpacked_entry = 0;
        }
    } else if (first == 0) {
        return 0;
    }
    int r = 0;
    for (uint64_t cluster = first; cluster <= last && r == 0; cluster++) {
        r = qcow2_is_metadata(q, cluster << q->header.cluster_bits)
                ? qcow2_mark_corrupt(q)
                : refcount_free_later(q, cluster);
    }
    return r;
}

/* The content of the disk before the write, to where a new cluster has it. */
static int copy_up(struct qcow2 *q, uint64_t offset, uint64_t len, uint64_t to, bool zeros)
{
    while (len > 0) {
        uint64_t piece = MIN(len, (uint64_t)QCOW2_BOUNCE);
        struct extent e = {.kind = EXTENT_ZERO};
        int r = 0;
        if (offset < q->size) {
            piece = MIN(piece, q->size - offset);
            r = qcow2_map(q, offset, piece, &e);
            piece = r == 0 ? e.len : piece;
        }
        bool nothing =
            e.kind == EXTENT_ZERO ||
            (e.kind == EXTENT_BACKING && (q->backing == NULL || offset >= q->backing->size));
        if (r == 0 && nothing) {
            r = zeros ? 0 : disk_file_write_zeros(&q->file, to, piece);
        } else if (r == 0) {
            struct iovec iov = {.iov_base = q->bounce, .iov_len = (size_t)piece};
            struct iov_cursor cursor = {.iov = &iov, .count = 1};
            r = qcow2_read(q, offset, &cursor, piece);
            if (r == 0) {
                r = disk_file_write(&q->file, to, q->bounce, (size_t)piece);
            }
        }
        if (r < 0) {
            return r;
        }
        offset += piece;
        len -= piece;
        to += piece;
    }
    return 0;
}

/* Clusters that take the new content, and what is known of them. */
struct room {
    uint64_t offset; /* in the file */
    uint64_t count;  /* clusters */
    bool zeros;      /* never written */
    bool ours;       /* already the disk's: a cluster that reads as zeros but has its place */
};

static bool has_place(const struct qcow2 *q, uint64_t entry)
{
    return q->header.version >= 3 && (entry & QCOW2_COMPRESSED) == 0 && (entry & QCOW2_ZERO) != 0 &&
           (entry & QCOW2_COPIED) != 0 && (entry & QCOW2_OFFSET) != 0;
}

/* For up to want clusters from the entry at place on, all of which need a new place. */
static int find_room(struct qcow2 *q, uint64_t place, uint64_t want, struct room *ret)
{
    uint64_t entry;
    int r = table_get(q, TABLE_L2, place, &entry);
    if (r < 0) {
        return r;
    }
    if (has_place(q, entry)) {
        uint64_t offset = entry & QCOW2_OFFSET;
        if (offset % q->cluster_size != 0 || offset >= q->file_end ||
            qcow2_is_metadata(q, offset)) {
            return qcow2_mark_corrupt(q);
        }
        *ret = (struct room){.offset = offset, .count = 1, .ours = true};
        return 0;
    }
    uint64_t run = 1;
    while (run < want) {
        r = table_get(q, TABLE_L2, place + run * 8, &entry);
        if (r < 0) {
            return r;
        }
        bool plain = (entry & (QCOW2_COMPRESSED | QCOW2_ZERO)) == 0 &&
                     (entry & QCOW2_OFFSET) != 0 && (entry & QCOW2_COPIED) != 0;
        if (plain || has_place(q, entry)) {
            break;
        }
        run++;
    }
    *ret = (struct room){0};
    return refcount_alloc(q, run, &ret->offset, &ret->count, &ret->zeros);
}

/* The entries get the new place; what they pointed to is freed later. */
static int set_entries(struct qcow2 *q, uint64_t place, const struct room *room)
{
    int r = 0;
    for (uint64_t i = 0; i < room->count && r == 0; i++) {
        uint64_t old;
        r = table_get(q, TABLE_L2, place + i * 8, &old);
        if (r == 0) {
            r = table_set(q, TABLE_L2, place + i * 8,
                          (room->offset + i * q->cluster_size) | QCOW2_COPIED);
        }
        if (r == 0 && !room->ours) {
            r = qcow2_release(q, old);
        }
    }
    return r;
}

/* Gives clusters a new place, with the data and what surrounds it there. Returns bytes written. */
static int write_new(struct qcow2 *q, uint64_t offset, struct iov_cursor *cursor, uint64_t len,
                     uint64_t *ret_done)
{
    uint64_t table;
    int r = qcow2_own_table(q, offset, &table);
    if (r < 0) {
        return r;
    }
    uint64_t in_cluster = offset & (q->cluster_size - 1);
    uint64_t place = qcow2_entry_place(q, table, offset);
    uint64_t in_page = (q->cache.page_size - place % q->cache.page_size) / 8;
    uint64_t want = MIN((in_cluster + len - 1) / q->cluster_size + 1, in_page);
    struct room room;
    r = find_room(q, place, want, &room);
    if (r < 0) {
        return r;
    }
    uint64_t end = room.count * q->cluster_size;
    uint64_t piece = MIN(len, end - in_cluster);
    uint64_t behind = in_cluster + piece;
    r = copy_up(q, offset - in_cluster, in_cluster, room.offset, room.zeros);
    if (r == 0) {
        r = disk_file_write_iov(&q->file, room.offset + in_cluster, cursor, piece);
    }
    if (r == 0) {
        r = copy_up(q, offset + piece, end - behind, room.offset + behind, room.zeros);
    }
    if (r < 0) {
        if (!room.ours) {
            refcount_undo(q, room.offset, room.count);
        }
        return r;
    }
    *ret_done = piece;
    return set_entries(q, place, &room);
}

static int write_in_place(struct qcow2 *q, const struct extent *e, struct iov_cursor *cursor)
{
    uint64_t first = e->file_offset & ~(q->cluster_size - 1);
    for (uint64_t at = first; at < e->file_offset + e->len; at += q->cluster_size) {
        if (qcow2_is_metadata(q, at)) {
            return qcow2_mark_corrupt(q);
        }
    }
    return disk_file_write_iov(&q->file, e->file_offset, cursor, e->len);
}

int qcow2_write(struct qcow2 *q, uint64_t offset, struct iov_cursor *cursor, uint64_t len)
{
    while (len > 0) {
        if (q->broken) {
            return -EIO;
        }
        struct extent e;
        int r = qcow2_map(q, offset, len, &e);
        uint64_t done = e.len;
        if (r == 0) {
            r = e.in_place ? write_in_place(q, &e, cursor)
                           : write_new(q, offset, cursor, e.len, &done);
        }
        if (r == 0) {
            r = qcow2_limit_freed(q);
        }
        if (r < 0) {
            return r == -EUCLEAN ? qcow2_mark_corrupt(q) : r;
        }
        offset += done;
        len -= done;
    }
    return 0;
}
