#include <errno.h>
#include <string.h>

#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/disk/qcow2_internal.h"

typedef int table_fn(struct qcow2 *q, enum table_kind kind, uint64_t offset, uint64_t *ret);

static bool overlaps(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
    return a < b ? b - a < a_len : a - b < b_len;
}

bool qcow2_is_metadata(const struct qcow2 *q, uint64_t offset)
{
    const struct qcow2_header *h = &q->header;
    uint64_t cluster = q->cluster_size;
    return offset < cluster || overlaps(offset, cluster, h->l1_offset, h->l1_entries * 8ULL) ||
           overlaps(offset, cluster, h->reftable_offset,
                    (uint64_t)h->reftable_clusters << h->cluster_bits) ||
           overlaps(offset, cluster, h->snapshots_offset, q->snapshots_len) ||
           cluster_set_has(&q->tables, offset >> h->cluster_bits);
}

/* What an L2 entry says of its cluster. */
static int classify(const struct qcow2 *q, uint64_t entry, bool shared, struct extent *ret)
{
    uint64_t offset = entry & QCOW2_OFFSET;
    *ret = (struct extent){.entry = entry, .file = &q->file, .file_offset = offset};
    if ((entry & QCOW2_COMPRESSED) != 0) {
        ret->kind = EXTENT_COMPRESSED;
        return 0;
    }
    if (q->header.version >= 3 && (entry & QCOW2_ZERO) != 0) {
        ret->kind = EXTENT_ZERO;
        return 0;
    }
    if (offset == 0) {
        ret->kind = EXTENT_BACKING;
        return 0;
    }
    if (offset % q->cluster_size != 0 || offset >= q->file_end) {
        return -EUCLEAN;
    }
    ret->kind = EXTENT_DATA;
    ret->in_place = !shared && (entry & QCOW2_COPIED) != 0;
    return 0;
}

static bool continues(const struct qcow2 *q, const struct extent *first, const struct extent *next,
                      uint64_t clusters)
{
    if (first->kind != next->kind || first->kind == EXTENT_COMPRESSED) {
        return false;
    }
    return first->kind != EXTENT_DATA ||
           (first->in_place == next->in_place &&
            next->file_offset == first->file_offset + clusters * q->cluster_size);
}

static int map(struct qcow2 *q, uint64_t offset, uint64_t len, table_fn *get, struct extent *ret)
{
    unsigned cluster_bits = q->header.cluster_bits;
    unsigned table_bits = cluster_bits + q->l2_bits;
    uint64_t l1_entry;
    int r = get(q, TABLE_L1, q->header.l1_offset + (offset >> table_bits) * 8, &l1_entry);
    if (r < 0) {
        return r;
    }
    len = MIN(len, (1ULL << table_bits) - (offset & ((1ULL << table_bits) - 1)));
    uint64_t table = l1_entry & QCOW2_OFFSET;
    if (table == 0) {
        *ret = (struct extent){.kind = EXTENT_BACKING, .len = len, .file = &q->file};
        return 0;
    }
    if (table % q->cluster_size != 0 || table >= q->file_end) {
        return -EUCLEAN;
    }
    bool shared = (l1_entry & QCOW2_COPIED) == 0;
    uint64_t index = (offset >> cluster_bits) & ((1ULL << q->l2_bits) - 1);
    uint64_t per_page = q->cache.page_size / 8;
    uint64_t in_cluster = offset & (q->cluster_size - 1);
    uint64_t want = (in_cluster + len - 1) / q->cluster_size + 1;
    want = MIN(want, per_page - index % per_page);
    struct extent first = {0};
    uint64_t clusters = 0;
    while (clusters < want) {
        uint64_t entry;
        struct extent next = {0};
        r = get(q, TABLE_L2, table + (index + clusters) * 8, &entry);
        if (r == 0) {
            r = classify(q, entry, shared, &next);
        }
        if (r < 0 && clusters == 0) {
            return r;
        }
        if (r < 0 || (clusters > 0 && !continues(q, &first, &next, clusters))) {
            break;
        }
        if (clusters++ == 0) {
            first = next;
        }
    }
    first.len = MIN(len, clusters * q->cluster_size - in_cluster);
    first.file_offset += in_cluster;
    *ret = first;
    return 0;
}

int qcow2_map(struct qcow2 *q, uint64_t offset, uint64_t len, struct extent *ret)
{
    return map(q, offset, len, table_get, ret);
}

int qcow2_find(struct qcow2 *q, uint64_t offset, uint64_t len, struct extent *ret)
{
    struct extent e;
    (void)pthread_mutex_lock(&q->lock);
    int r = map(q, offset, len, table_peek, &e);
    if (r == 0 && e.in_place) {
        uint64_t first = e.file_offset & ~(q->cluster_size - 1);
        for (uint64_t at = first; at < e.file_offset + e.len && e.in_place; at += q->cluster_size) {
            e.in_place = !qcow2_is_metadata(q, at) && !q->broken;
        }
    }
    (void)pthread_mutex_unlock(&q->lock);
    if (r < 0 || e.kind == EXTENT_COMPRESSED) {
        return -EAGAIN; /* errors, too, are the worker's to tell */
    }
    if (e.kind == EXTENT_BACKING) {
        if (q->backing == NULL || offset >= q->backing->size) {
            e.kind = EXTENT_ZERO;
        } else {
            e.len = MIN(e.len, q->backing->size - offset);
            if (q->backing->image != NULL) {
                r = qcow2_find(q->backing->image, offset, e.len, &e);
            } else {
                e.kind = EXTENT_DATA;
                e.file = &q->backing->file;
                e.file_offset = offset;
            }
            e.in_place = false;
        }
    }
    if (r == 0) {
        *ret = e;
    }
    return r;
}

static int read_backing(struct qcow2 *q, uint64_t offset, struct iov_cursor *cursor, uint64_t len)
{
    const struct qcow2_layer *layer = q->backing;
    uint64_t below = 0;
    if (layer != NULL && offset < layer->size) {
        below = MIN(len, layer->size - offset);
        int r = layer->image != NULL ? qcow2_read(layer->image, offset, cursor, below)
                                     : disk_file_read_iov(&layer->file, offset, cursor, below);
        if (r < 0) {
            return r;
        }
    }
    iov_put_zeros(cursor, len - below);
    return 0;
}

int qcow2_read(struct qcow2 *q, uint64_t offset, struct iov_cursor *cursor, uint64_t len)
{
    while (len > 0) {
        struct extent e;
        int r = qcow2_map(q, offset, len, &e);
        if (r < 0) {
            return r == -EUCLEAN ? -EIO : r;
        }
        switch (e.kind) {
        case EXTENT_DATA:
            r = disk_file_read_iov(&q->file, e.file_offset, cursor, e.len);
            break;
        case EXTENT_ZERO:
            iov_put_zeros(cursor, e.len);
            break;
        case EXTENT_BACKING:
            r = read_backing(q, offset, cursor, e.len);
            break;
        case EXTENT_COMPRESSED:
            r = qcow2_unpack(q, e.entry);
            if (r == 0) {
                iov_put(cursor, q->unpacked + (offset & (q->cluster_size - 1)), (size_t)e.len);
            }
            break;
        }
        if (r < 0) {
            return r;
        }
        offset += e.len;
        len -= e.len;
    }
    return 0;
}
