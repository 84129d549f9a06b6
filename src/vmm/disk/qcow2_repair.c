#include <errno.h>

#include "base/err.h"
#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/disk/qcow2_internal.h"

/* Counters of 4 bytes take at most 64 MiB; larger files are for `qemu-img check`. */
#define CLUSTERS_MAX ((uint64_t)16 << 20)
#define SNAPSHOT_HEADER 40
#define SNAPSHOT_EXTRA_MAX 1024U
#define L1_ENTRIES_MAX ((32U << 20) / 8)

int qcow2_snapshots(struct qcow2 *q, qcow2_snapshot_fn *fn, void *data, uint64_t *ret_len)
{
    uint64_t at = q->header.snapshots_offset;
    for (uint32_t i = 0; i < q->header.snapshots; i++) {
        uint8_t raw[SNAPSHOT_HEADER];
        if (at >= q->file_end || q->file_end - at < sizeof(raw)) {
            return -EIO;
        }
        int r = disk_file_read(&q->file, at, raw, sizeof(raw));
        uint64_t l1_offset = load_be64(raw);
        uint32_t l1_entries = load_be32(raw + 8);
        uint32_t ids = load_be32(raw + 12); /* lengths of id and name, 16 bits each */
        uint32_t extra = load_be32(raw + 36);
        if (r == 0 &&
            (extra > SNAPSHOT_EXTRA_MAX || l1_entries > L1_ENTRIES_MAX ||
             (l1_entries > 0 && (l1_offset % q->cluster_size != 0 || l1_offset >= q->file_end)))) {
            r = -EIO;
        }
        if (r == 0 && fn != NULL) {
            r = fn(q, l1_offset, l1_entries, data);
        }
        if (r < 0) {
            return r;
        }
        at += (sizeof(raw) + extra + (ids >> 16) + (ids & 0xffff) + 7) & ~7ULL;
    }
    *ret_len = at - q->header.snapshots_offset;
    return 0;
}

struct census {
    uint32_t *counts; /* of each cluster of the file */
    uint64_t clusters;
    uint8_t *table; /* a cluster */
};

static int count_range(const struct qcow2 *q, struct census *census, uint64_t offset, uint64_t len)
{
    if (len == 0) {
        return 0;
    }
    uint64_t first = offset >> q->header.cluster_bits;
    uint64_t last = (offset + len - 1) >> q->header.cluster_bits;
    for (uint64_t cluster = first; cluster <= last; cluster++) {
        if (cluster >= census->clusters || census->counts[cluster] == UINT32_MAX) {
            return -EIO;
        }
        census->counts[cluster]++;
    }
    return 0;
}

static int count_table(struct qcow2 *q, struct census *census, uint64_t table)
{
    int r = count_range(q, census, table, q->cluster_size);
    if (r == 0) {
        r = disk_file_read(&q->file, table, census->table, (size_t)q->cluster_size);
    }
    for (uint64_t i = 0; i < q->cluster_size / 8 && r == 0; i++) {
        uint64_t entry = load_be64(census->table + i * 8);
        uint64_t offset = entry & QCOW2_OFFSET;
        uint64_t len = q->cluster_size;
        if ((entry & QCOW2_COMPRESSED) != 0) {
            qcow2_packed_range(q, entry, &offset, &len);
        } else if (offset == 0) {
            continue;
        } else if (offset % q->cluster_size != 0) {
            return -EIO;
        }
        r = count_range(q, census, offset, len);
    }
    return r;
}

static int count_l1(struct qcow2 *q, uint64_t l1_offset, uint32_t l1_entries, void *data)
{
    struct census *census = data;
    int r = count_range(q, census, l1_offset, l1_entries * 8ULL);
    for (uint32_t i = 0; i < l1_entries && r == 0; i++) {
        uint8_t raw[8];
        r = disk_file_read(&q->file, l1_offset + i * 8ULL, raw, sizeof(raw));
        uint64_t table = r == 0 ? load_be64(raw) & QCOW2_OFFSET : 0;
        if (table != 0) {
            r = table % q->cluster_size == 0 ? count_table(q, census, table) : -EIO;
        }
    }
    return r;
}

static int count_all(struct qcow2 *q, struct census *census)
{
    const struct qcow2_header *h = &q->header;
    uint64_t reftable = (uint64_t)h->reftable_clusters << h->cluster_bits;
    int r = count_range(q, census, 0, q->cluster_size);
    if (r == 0) {
        r = count_range(q, census, h->reftable_offset, reftable);
    }
    for (uint64_t i = 0; i < reftable / 8 && r == 0; i++) {
        uint64_t block;
        r = table_get(q, TABLE_REFTABLE, h->reftable_offset + i * 8, &block);
        if (r == 0 && block != 0) {
            r = count_range(q, census, block, q->cluster_size);
        }
    }
    if (r == 0) {
        r = count_range(q, census, h->snapshots_offset, q->snapshots_len);
    }
    uint64_t len;
    if (r == 0) {
        r = qcow2_snapshots(q, count_l1, census, &len);
    }
    return r < 0 ? r : count_l1(q, h->l1_offset, h->l1_entries, census);
}

static int fix_counts(struct qcow2 *q, const struct census *census)
{
    unsigned bits = 1U << q->header.refcount_order;
    for (uint64_t cluster = 0; cluster < census->clusters; cluster++) {
        uint64_t count;
        bool has_block;
        uint32_t want = census->counts[cluster];
        int r = refcount_get(q, cluster, &count, &has_block);
        if (r == 0 && count != want) {
            if (!has_block || (bits < 32 && want >> bits != 0)) {
                return -EIO;
            }
            r = refcount_set(q, cluster, want);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* An entry says "copied" exactly when nobody else points there. */
static int fix_flag(struct qcow2 *q, const struct census *census, enum table_kind kind,
                    uint64_t place, uint64_t *ret_entry)
{
    uint64_t entry;
    int r = table_get(q, kind, place, &entry);
    if (r < 0) {
        return r;
    }
    *ret_entry = entry;
    uint64_t cluster = (entry & QCOW2_OFFSET) >> q->header.cluster_bits;
    if ((kind == TABLE_L2 && (entry & QCOW2_COMPRESSED) != 0) || cluster == 0) {
        return 0;
    }
    uint64_t right = entry & ~QCOW2_COPIED;
    right |= census->counts[cluster] == 1 ? QCOW2_COPIED : 0;
    return right == entry ? 0 : table_set(q, kind, place, right);
}

static int fix_flags(struct qcow2 *q, const struct census *census)
{
    for (uint32_t i = 0; i < q->header.l1_entries; i++) {
        uint64_t entry;
        int r = fix_flag(q, census, TABLE_L1, q->header.l1_offset + i * 8ULL, &entry);
        uint64_t table = r == 0 ? entry & QCOW2_OFFSET : 0;
        for (uint64_t k = 0; k < q->cluster_size / 8 && r == 0 && table != 0; k++) {
            r = fix_flag(q, census, TABLE_L2, table + k * 8, &entry);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int qcow2_repair(struct qcow2 *q, const char *path, struct err *err)
{
    struct census census = {.clusters = q->file_end >> q->header.cluster_bits};
    if (census.clusters > CLUSTERS_MAX) {
        return err_say(err, EFBIG,
                       "open disk '%s': it was not closed and is too large to be repaired here; "
                       "run `qemu-img check -r all`",
                       path);
    }
    AUTO(freep) uint32_t *counts = calloc((size_t)census.clusters, sizeof(*counts));
    AUTO(freep) uint8_t *table = malloc((size_t)q->cluster_size);
    if (counts == NULL || table == NULL) {
        return err_set(err, ENOMEM, "repair disk '%s'", path);
    }
    census.counts = counts;
    census.table = table;
    int r = count_all(q, &census);
    if (r == 0) {
        r = fix_counts(q, &census);
    }
    if (r == 0) {
        r = fix_flags(q, &census);
    }
    if (r == 0) {
        r = qcow2_flush(q);
    }
    if (r == 0) {
        r = qcow2_set_incompatible(q, q->header.incompatible & ~QCOW2_DIRTY);
    }
    if (r == -EIO) {
        return err_say(err, EIO,
                       "open disk '%s': it was not closed and its tables contradict each other; "
                       "run `qemu-img check -r all`",
                       path);
    }
    return r < 0 ? err_set(err, -r, "repair disk '%s'", path) : 0;
}
