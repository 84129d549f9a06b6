#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/macros.h"
#include "freestanding/byteorder.h"
#include "vmm/disk/qcow2.h"

#define HEADER_V2 72
#define HEADER_V3 104
#define L1_BYTES_MAX ((uint64_t)32 << 20)
#define REFTABLE_BYTES_MAX ((uint64_t)8 << 20)
#define SNAPSHOTS_MAX 65536
/* Header, extensions and the backing file's name lie in the first cluster; more is not looked at.
 */
#define HEADER_AREA ((size_t)65536)

#define EXTENSION_END 0U
#define EXTENSION_BACKING_FORMAT 0xe2792acaU

struct reader {
    const char *path;
    const uint8_t *data;
    size_t len;
    struct qcow2_header *h;
    struct err *err;
};

static int bad(const struct reader *r, const char *field, uint64_t value, const char *why)
{
    return err_say(r->err, EINVAL, "open disk '%s': qcow2 header: %s %llu %s", r->path, field,
                   (unsigned long long)value, why);
}

static int read_fixed(const struct reader *r)
{
    struct qcow2_header *h = r->h;
    const uint8_t *d = r->data;
    if (r->len < HEADER_V2) {
        return bad(r, "file size", r->len, "is less than a header");
    }
    if (load_be32(d) != QCOW2_MAGIC) {
        return bad(r, "magic", load_be32(d), "is not that of qcow2");
    }
    h->version = load_be32(d + 4);
    if (h->version != 2 && h->version != 3) {
        return bad(r, "version", h->version, "is not known; 2 and 3 are");
    }
    if (h->version == 3 && r->len < HEADER_V3) {
        return bad(r, "file size", r->len, "is less than a header");
    }
    h->cluster_bits = load_be32(d + 20);
    h->size = load_be64(d + 24);
    h->l1_entries = load_be32(d + 36);
    h->l1_offset = load_be64(d + 40);
    h->reftable_offset = load_be64(d + 48);
    h->reftable_clusters = load_be32(d + 56);
    h->snapshots = load_be32(d + 60);
    h->snapshots_offset = load_be64(d + 64);
    if (h->snapshots == 0) {
        h->snapshots_offset = 0;
    }
    h->refcount_order = 4;
    h->header_len = HEADER_V2;
    if (load_be32(d + 32) != 0) {
        return bad(r, "crypt_method", load_be32(d + 32),
                   "means encryption, which is not supported; use an encrypted device below");
    }
    if (h->version == 3) {
        h->incompatible = load_be64(d + 72);
        h->compatible = load_be64(d + 80);
        h->autoclear = load_be64(d + 88);
        h->refcount_order = load_be32(d + 96);
        h->header_len = load_be32(d + 100);
    }
    return 0;
}

static int check_features(const struct reader *r)
{
    static const struct {
        uint64_t bit;
        const char *name;
    } refused[] = {
        {1ULL << 2, "external data file"},
        {1ULL << 4, "extended L2 entries"},
    };
    uint64_t known = QCOW2_DIRTY | QCOW2_CORRUPT | 1ULL << 3;
    for (size_t i = 0; i < COUNT(refused); i++) {
        if ((r->h->incompatible & refused[i].bit) != 0) {
            return err_say(r->err, ENOTSUP,
                           "open disk '%s': qcow2 feature '%s' is not supported; "
                           "`qemu-img convert -O qcow2` makes an image without it",
                           r->path, refused[i].name);
        }
    }
    uint64_t unknown = r->h->incompatible & ~known;
    if (unknown != 0) {
        return err_say(r->err, ENOTSUP, "open disk '%s': unknown incompatible qcow2 feature bit %d",
                       r->path, __builtin_ctzll(unknown));
    }
    if ((r->h->incompatible & (1ULL << 3)) != 0) {
        if (r->h->header_len <= HEADER_V3) {
            return bad(r, "header_length", r->h->header_len, "has no compression type");
        }
        uint8_t type = r->data[HEADER_V3];
        if (type > 1) {
            return bad(r, "compression_type", type, "is not known; 0 (deflate) and 1 (zstd) are");
        }
        r->h->zstd = type == 1;
    }
    return 0;
}

/* Whole clusters inside what a file can be. */
static bool is_place(const struct qcow2_header *h, uint64_t offset)
{
    return offset % (1ULL << h->cluster_bits) == 0 && offset >= 1ULL << h->cluster_bits &&
           offset < 1ULL << 56;
}

static int check_tables(const struct reader *r)
{
    const struct qcow2_header *h = r->h;
    if (h->size > INT64_MAX) {
        return bad(r, "size", h->size, "is more than a disk can have");
    }
    uint64_t cluster = 1ULL << h->cluster_bits;
    uint64_t per_l1 = cluster * (cluster / 8);
    uint64_t need = h->size / per_l1 + (h->size % per_l1 != 0);
    if (h->l1_entries < need) {
        return bad(r, "l1_size", h->l1_entries, "is too small for the size of the disk");
    }
    if (h->l1_entries > L1_BYTES_MAX / 8) {
        return bad(r, "l1_size", h->l1_entries, "is more than 32 MiB");
    }
    if (h->l1_entries > 0 && !is_place(h, h->l1_offset)) {
        return bad(r, "l1_table_offset", h->l1_offset, "is not that of a cluster");
    }
    if (!is_place(h, h->reftable_offset)) {
        return bad(r, "refcount_table_offset", h->reftable_offset, "is not that of a cluster");
    }
    if (h->reftable_clusters == 0 || h->reftable_clusters > REFTABLE_BYTES_MAX >> h->cluster_bits) {
        return bad(r, "refcount_table_clusters", h->reftable_clusters,
                   "is nothing, or more than 8 MiB");
    }
    if (h->snapshots > SNAPSHOTS_MAX) {
        return bad(r, "nb_snapshots", h->snapshots, "is more than 65536");
    }
    if (h->snapshots > 0 && !is_place(h, h->snapshots_offset)) {
        return bad(r, "snapshots_offset", h->snapshots_offset, "is not that of a cluster");
    }
    return 0;
}

static int check_fields(const struct reader *r)
{
    const struct qcow2_header *h = r->h;
    if (h->cluster_bits < 9 || h->cluster_bits > 21) {
        return bad(r, "cluster_bits", h->cluster_bits, "is not between 9 and 21");
    }
    if (h->refcount_order > 6) {
        return bad(r, "refcount_order", h->refcount_order, "is more than 6");
    }
    if (h->version == 3 && (h->header_len < HEADER_V3 || h->header_len % 8 != 0)) {
        return bad(r, "header_length", h->header_len, "is less than 104 or not a multiple of 8");
    }
    if (h->header_len > 1ULL << h->cluster_bits || h->header_len > r->len) {
        return bad(r, "header_length", h->header_len, "is more than the first cluster");
    }
    int error = check_features(r);
    return error < 0 ? error : check_tables(r);
}

/* The bytes of the first cluster, at most what was read. */
static size_t first_cluster(const struct reader *r)
{
    return MIN(r->len, (size_t)1 << r->h->cluster_bits);
}

static int read_extensions(const struct reader *r, size_t end)
{
    size_t at = r->h->header_len;
    while (end - at >= 8) {
        uint32_t type = load_be32(r->data + at);
        uint32_t len = load_be32(r->data + at + 4);
        at += 8;
        if (type == EXTENSION_END) {
            break;
        }
        if (len > end - at) {
            return bad(r, "extension length", len, "leads out of the first cluster");
        }
        if (type == EXTENSION_BACKING_FORMAT) {
            if (len >= sizeof(r->h->backing_format)) {
                return bad(r, "backing format length", len, "is too much");
            }
            memcpy(r->h->backing_format, r->data + at, len);
            r->h->backing_format[len] = '\0';
        }
        at += MIN(((size_t)len + 7) & ~(size_t)7, end - at);
    }
    return 0;
}

static int read_backing(const struct reader *r, uint64_t *ret_offset)
{
    uint64_t offset = load_be64(r->data + 8);
    uint32_t len = load_be32(r->data + 16);
    *ret_offset = 0;
    if (offset == 0) {
        return 0;
    }
    size_t end = first_cluster(r);
    if (len > QCOW2_BACKING_NAME_MAX) {
        return bad(r, "backing_file_size", len, "is more than 1023");
    }
    if (offset < r->h->header_len || offset > end || len > end - offset) {
        return bad(r, "backing_file_offset", offset, "leads out of the first cluster");
    }
    memcpy(r->h->backing, r->data + offset, len);
    r->h->backing[len] = '\0';
    if (strlen(r->h->backing) != len) {
        return bad(r, "backing_file_name", strlen(r->h->backing), "bytes are followed by a NUL");
    }
    *ret_offset = offset;
    return 0;
}

int qcow2_header_read(const struct disk_file *file, const char *path, struct qcow2_header *ret,
                      struct err *err)
{
    size_t len = (size_t)MIN(file->size, (uint64_t)HEADER_AREA);
    AUTO(freep) uint8_t *data = malloc(HEADER_AREA);
    if (data == NULL) {
        return err_set(err, ENOMEM, "open disk '%s'", path);
    }
    int error = disk_file_read(file, 0, data, len);
    if (error < 0) {
        return err_set(err, -error, "read the header of disk '%s'", path);
    }
    *ret = (struct qcow2_header){0};
    const struct reader r = {.path = path, .data = data, .len = len, .h = ret, .err = err};
    error = read_fixed(&r);
    if (error == 0) {
        error = check_fields(&r);
    }
    uint64_t backing = 0;
    if (error == 0) {
        error = read_backing(&r, &backing);
    }
    if (error == 0) {
        /* Extensions end where the name begins, if it comes behind them. */
        error = read_extensions(&r, backing > 0 ? (size_t)backing : first_cluster(&r));
    }
    return error;
}
