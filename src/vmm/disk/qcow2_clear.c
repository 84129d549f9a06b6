#include <errno.h>

#include "base/macros.h"
#include "vmm/disk/qcow2_internal.h"

#define PIECES 16

static bool below_has_content(const struct qcow2 *q, uint64_t offset)
{
    return q->backing != NULL && offset < q->backing->size;
}

/* Where neither flag nor hole can say zero: data. What reads as zeros already is left alone. */
static int write_zeros(struct qcow2 *q, uint64_t offset, uint64_t len)
{
    while (len > 0) {
        struct extent e;
        int r = qcow2_map(q, offset, len, &e);
        if (r < 0) {
            return r;
        }
        uint64_t done = e.len;
        if (e.kind != EXTENT_ZERO && !(e.kind == EXTENT_BACKING && !below_has_content(q, offset))) {
            struct iovec pieces[PIECES];
            unsigned count = 0;
            done = 0;
            while (count < PIECES && done < e.len) {
                size_t piece = (size_t)MIN(e.len - done, (uint64_t)DISK_ZEROS_PAGE);
                pieces[count].iov_base = (void *)(uintptr_t)disk_zeros;
                pieces[count++].iov_len = piece;
                done += piece;
            }
            struct iov_cursor cursor = {.iov = pieces, .count = count};
            r = qcow2_write(q, offset, &cursor, done);
            if (r < 0) {
                return r;
            }
        }
        offset += done;
        len -= done;
    }
    return 0;
}

enum change {
    CHANGE_NONE,
    CHANGE_ENTRY, /* to *ret */
    CHANGE_DATA,  /* zeros are written */
};

static enum change plan(const struct qcow2 *q, uint64_t offset, uint64_t entry,
                        enum qcow2_clear how, uint64_t *ret)
{
    bool flag = q->header.version >= 3;
    bool below = below_has_content(q, offset);
    bool empty = (entry & (QCOW2_COMPRESSED | QCOW2_OFFSET)) == 0;
    if (empty && (entry & QCOW2_ZERO) != 0 && flag) {
        return CHANGE_NONE;
    }
    if (empty && (!below || how == QCOW2_DISCARD)) {
        return CHANGE_NONE;
    }
    if (!flag && (below || how == QCOW2_ZEROES)) {
        /* What is below must not come to light again. */
        return how == QCOW2_DISCARD ? CHANGE_NONE : CHANGE_DATA;
    }
    if (how == QCOW2_ZEROES && (entry & QCOW2_COMPRESSED) == 0 && (entry & QCOW2_COPIED) != 0) {
        *ret = entry | QCOW2_ZERO;
        return *ret == entry ? CHANGE_NONE : CHANGE_ENTRY;
    }
    *ret = below || (flag && how != QCOW2_DISCARD) ? QCOW2_ZERO : 0;
    return CHANGE_ENTRY;
}

static int clear_cluster(struct qcow2 *q, uint64_t offset, enum qcow2_clear how)
{
    uint64_t table;
    uint64_t entry;
    int r = qcow2_own_table(q, offset, &table);
    if (r < 0) {
        return r;
    }
    uint64_t place = qcow2_entry_place(q, table, offset);
    r = table_get(q, TABLE_L2, place, &entry);
    if (r < 0) {
        return r;
    }
    uint64_t value = 0;
    switch (plan(q, offset, entry, how, &value)) {
    case CHANGE_NONE:
        return 0;
    case CHANGE_DATA:
        return write_zeros(q, offset, MIN(q->cluster_size, q->size - offset));
    case CHANGE_ENTRY:
        break;
    }
    r = table_set(q, TABLE_L2, place, value);
    if (r == 0 && (value & QCOW2_OFFSET) == 0) {
        r = qcow2_release(q, entry);
    }
    return r;
}

/* No L2 table, and nothing to be said there: the length of that, or 0. */
static int nothing_there(struct qcow2 *q, uint64_t offset, uint64_t len, enum qcow2_clear how,
                         uint64_t *ret)
{
    uint64_t span = q->cluster_size << q->l2_bits;
    uint64_t entry;
    int r = table_get(q, TABLE_L1, q->header.l1_offset + offset / span * 8, &entry);
    *ret = 0;
    if (r == 0 && (entry & QCOW2_OFFSET) == 0 &&
        (how == QCOW2_DISCARD || !below_has_content(q, offset))) {
        *ret = MIN(len, span - offset % span);
    }
    return r;
}

int qcow2_clear(struct qcow2 *q, uint64_t offset, uint64_t len, enum qcow2_clear how)
{
    while (len > 0) {
        if (q->broken) {
            return -EIO;
        }
        uint64_t done;
        int r = nothing_there(q, offset, len, how, &done);
        if (r == 0 && done == 0) {
            uint64_t in_cluster = offset & (q->cluster_size - 1);
            done = MIN(len, q->cluster_size - in_cluster);
            /* The last cluster may reach over the end of the disk. */
            bool whole = in_cluster == 0 && (done == q->cluster_size || done == q->size - offset);
            if (whole) {
                r = clear_cluster(q, offset, how);
            } else if (how != QCOW2_DISCARD) {
                r = write_zeros(q, offset, done);
            }
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
