/*
 * qcow2_internal.h - what the writing parts of a qcow2 image share.
 */
#ifndef VMM_DISK_QCOW2_INTERNAL_H
#define VMM_DISK_QCOW2_INTERNAL_H

#include "vmm/disk/qcow2.h"

int table_init(struct qcow2 *q);
void table_done(struct qcow2 *q);
/* Eight bytes, big endian, at offset (a multiple of 8). */
int table_get(struct qcow2 *q, enum table_kind kind, uint64_t offset, uint64_t *ret);
int table_set(struct qcow2 *q, enum table_kind kind, uint64_t offset, uint64_t value);
/* From memory: -EAGAIN when it is not there. The lock is held. */
int table_peek(struct qcow2 *q, enum table_kind kind, uint64_t offset, uint64_t *ret);
/* The page with the byte at offset, until the next call; to be written through table_page_write().
 */
int table_page_get(struct qcow2 *q, enum table_kind kind, uint64_t offset, struct table_page **ret);
/* Before and after a change of the page's bytes. */
void table_page_lock(struct qcow2 *q);
void table_page_unlock(struct qcow2 *q, struct table_page *page);
/* Writes back what is dirty, in order, each kind on disk before the next. */
int table_write_back(struct qcow2 *q);
/* Drops the (clean) pages of a range. */
void table_forget(struct qcow2 *q, uint64_t offset, uint64_t len);

/* For q->tables, which both threads look at: changes are made with the lock held. */
int cluster_set_add(struct cluster_set *set, uint64_t cluster);
void cluster_set_remove(struct cluster_set *set, uint64_t cluster);
bool cluster_set_has(const struct cluster_set *set, uint64_t cluster);

int refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *ret, bool *ret_has_block);
/* The block must be there. */
int refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t value);
/* Makes the block that holds the count of cluster; cluster itself becomes that block. */
int refcount_make_block(struct qcow2 *q, uint64_t cluster);
/* Up to want neighbours, at least one, each with count 1, in the file; zeros: so they read. */
int refcount_alloc(struct qcow2 *q, uint64_t want, uint64_t *ret_offset, uint64_t *ret_count,
                   bool *ret_zeros);
/* Undoes an allocation that nothing points to yet. */
void refcount_undo(struct qcow2 *q, uint64_t offset, uint64_t count);
/* One reference less when what pointed there is off the disk. */
int refcount_free_later(struct qcow2 *q, uint64_t cluster);
int refcount_apply_frees(struct qcow2 *q);
/* Makes the file reach over what was allocated. */
int refcount_extend_file(struct qcow2 *q, uint64_t end);

/* fdatasync; after a failure nobody knows what is on disk, and nothing is written any more. */
int qcow2_sync(struct qcow2 *q);
/* The image contradicts itself: says so in its header, writes no more. Returns -EIO. */
int qcow2_mark_corrupt(struct qcow2 *q);
/* The cluster holds a table of this image, its header, or lies outside. */
bool qcow2_is_metadata(const struct qcow2 *q, uint64_t offset);
/* The host bytes that a compressed entry spans. */
void qcow2_packed_range(const struct qcow2 *q, uint64_t entry, uint64_t *ret_offset,
                        uint64_t *ret_len);
/* Fills q->unpacked. */
int qcow2_unpack(struct qcow2 *q, uint64_t entry);
/*
 * The L2 table for offset, ours alone to write: made when there is none, copied when a snapshot
 * shares it.
 */
int qcow2_own_table(struct qcow2 *q, uint64_t offset, uint64_t *ret);
/* Where the entry of offset lies in its table. */
uint64_t qcow2_entry_place(const struct qcow2 *q, uint64_t table, uint64_t offset);
/* Frees, later, what an entry that was replaced pointed to. */
int qcow2_release(struct qcow2 *q, uint64_t entry);
/* Flushes when much waits to be freed. */
int qcow2_limit_freed(struct qcow2 *q);
/* Sets the incompatible feature bits in the header, on disk. */
int qcow2_set_incompatible(struct qcow2 *q, uint64_t bits);
/* Counts all references anew: after a crash of a program that left them behind (dirty bit). */
int qcow2_repair(struct qcow2 *q, const char *path, struct err *err);
/* The length of the snapshot table, and fn for the L1 table of each. */
typedef int qcow2_snapshot_fn(struct qcow2 *q, uint64_t l1_offset, uint32_t l1_entries, void *data);
int qcow2_snapshots(struct qcow2 *q, qcow2_snapshot_fn *fn, void *data, uint64_t *ret_len);

#endif
