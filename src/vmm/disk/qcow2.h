/*
 * qcow2.h - a qcow2 image, versions 2 and 3, as calls that block.
 *
 * One thread, the worker, calls everything here but qcow2_find(), which looks into memory only and
 * may be called by one other thread at the same time.
 *
 * What is written reaches the file in an order that keeps the image consistent after a crash at any
 * point: data and reference counts, then what points to them, then what points to that. What is no
 * longer pointed to is freed only when that is on disk, so a crash can lose space but not content
 * (docs/disk.md).
 */
#ifndef VMM_DISK_QCOW2_H
#define VMM_DISK_QCOW2_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/disk/disk.h"
#include "vmm/disk/file.h"
#include "vmm/disk/iov.h"

#define QCOW2_MAGIC 0x514649fbU
#define QCOW2_BACKING_NAME_MAX ((size_t)1023)
#define QCOW2_DEPTH_MAX 16

/* Entries of the L1 and L2 tables. */
#define QCOW2_COPIED (1ULL << 63)
#define QCOW2_COMPRESSED (1ULL << 62)
#define QCOW2_ZERO 1ULL
#define QCOW2_OFFSET 0x00fffffffffffe00ULL

struct qcow2_header {
    uint32_t version; /* 2 or 3 */
    unsigned cluster_bits;
    uint64_t size; /* bytes, of the virtual disk */
    uint64_t l1_offset;
    uint32_t l1_entries;
    uint64_t reftable_offset;
    uint32_t reftable_clusters;
    uint32_t snapshots;
    uint64_t snapshots_offset;
    uint64_t incompatible, compatible, autoclear;
    unsigned refcount_order;                  /* log2 of the bits of a count */
    uint32_t header_len;                      /* bytes */
    bool zstd;                                /* compressed clusters: zstd instead of deflate */
    char backing[QCOW2_BACKING_NAME_MAX + 1]; /* "": none */
    char backing_format[16];                  /* "": not said */
};

/* Feature bits */
#define QCOW2_DIRTY 1ULL
#define QCOW2_CORRUPT 2ULL

/* Reads and checks the header; an error names the field. */
int qcow2_header_read(const struct disk_file *file, const char *path, struct qcow2_header *ret,
                      struct err *err);

/* Tables, cached by pages of the file; the order is that of writing them back. */
enum table_kind {
    TABLE_REFBLOCK,
    TABLE_REFTABLE,
    TABLE_L2,
    TABLE_L1,
    TABLE_KINDS,
};

struct table_page {
    uint64_t offset; /* in the file */
    uint8_t *data;   /* NULL: not in use */
    enum table_kind kind;
    bool dirty;
    uint32_t used;                /* when last */
    struct table_page *next_hash; /* in the same bucket */
};

#define TABLE_PAGES 96
#define TABLE_BUCKETS 64
#define TABLE_PAGE_MAX ((size_t)4096)

struct table_cache {
    struct table_page pages[TABLE_PAGES];
    struct table_page *buckets[TABLE_BUCKETS];
    size_t page_size; /* bytes: a cluster, at most TABLE_PAGE_MAX */
    uint32_t clock;
    unsigned dirty[TABLE_KINDS]; /* pages */
};

/* A set of cluster numbers: L2 tables and blocks of reference counts. */
struct cluster_set {
    uint64_t *slots; /* cluster + 1; 0: free */
    size_t size;     /* a power of two */
    size_t count;
};

struct qcow2_layer;

struct qcow2 {
    struct disk_file file;
    struct qcow2_header header;
    uint64_t cluster_size; /* bytes */
    uint64_t size;         /* of the virtual disk, bytes, multiple of 512 */
    unsigned l2_bits;      /* log2 of the entries of an L2 table */
    unsigned refblock_bits;
    struct qcow2_layer *backing; /* NULL: none */
    /* Guards the cache against changes while the other thread looks. */
    pthread_mutex_t lock;
    struct table_cache cache;
    /* Of the last compressed cluster that was read. */
    uint64_t unpacked_entry; /* its L2 entry; 0: none */
    uint8_t *unpacked;       /* a cluster */
    /* For writing */
    bool broken;        /* corrupt, or a flush failed: nothing is written any more */
    uint64_t file_end;  /* bytes, whole clusters */
    uint64_t fresh;     /* from here on the file was never written: zeros */
    uint64_t free_hint; /* no free cluster lies before it */
    struct cluster_set tables;
    uint64_t snapshots_len; /* bytes, of the snapshot table */
    /* Clusters to be freed when nothing on disk points to them any more, with repetitions. */
    uint64_t *freed;
    size_t freed_count, freed_size;
    uint8_t *bounce; /* for copies, QCOW2_BOUNCE bytes */
};

#define QCOW2_BOUNCE ((size_t)64 * 1024)

/* What an image stands on. */
struct qcow2_layer {
    struct disk_file file; /* raw */
    struct qcow2 *image;   /* or NULL */
    uint64_t size;         /* bytes */
};

/* The images above an image, for finding circles. */
struct qcow2_parent {
    const struct qcow2_parent *parent;
    const struct disk_file *file;
};

/* Takes file over, also on failure. prefix: directory of path below dir_fd, "" or ending in '/'. */
int qcow2_open(struct disk_file *file, const char *path, const struct disk_options *options,
               const char *prefix, const struct qcow2_parent *parent, struct qcow2 **ret,
               struct err *err);
/* Accepts NULL. Does not flush. */
void qcow2_free(struct qcow2 *q);
DEFINE_FREEP(struct qcow2 *, qcow2_free)

/* Offsets and lengths lie inside the disk. 0 or a negative errno. */
int qcow2_read(struct qcow2 *q, uint64_t offset, struct iov_cursor *cursor, uint64_t len);
int qcow2_write(struct qcow2 *q, uint64_t offset, struct iov_cursor *cursor, uint64_t len);

enum qcow2_clear {
    QCOW2_DISCARD, /* whole clusters; others stay */
    QCOW2_ZEROES,  /* space stays */
    QCOW2_ZEROES_UNMAP,
};
int qcow2_clear(struct qcow2 *q, uint64_t offset, uint64_t len, enum qcow2_clear how);
int qcow2_flush(struct qcow2 *q);

enum extent_kind {
    EXTENT_DATA, /* file, at file_offset */
    EXTENT_ZERO,
    EXTENT_BACKING,    /* whatever lies below; there may be nothing */
    EXTENT_COMPRESSED, /* entry */
};
struct extent {
    enum extent_kind kind;
    uint64_t len;
    const struct disk_file *file;
    uint64_t file_offset;
    uint64_t entry;
    bool in_place; /* EXTENT_DATA: may be written without any change of tables */
};

/*
 * What lies at offset of this image alone, as far as one answer reaches, at most len.
 * -EUCLEAN: the tables point astray there.
 */
int qcow2_map(struct qcow2 *q, uint64_t offset, uint64_t len, struct extent *ret);
/*
 * The same from memory, down the backing files: EXTENT_DATA or EXTENT_ZERO, or -EAGAIN when only
 * the worker can tell.
 */
int qcow2_find(struct qcow2 *q, uint64_t offset, uint64_t len, struct extent *ret);

#endif
