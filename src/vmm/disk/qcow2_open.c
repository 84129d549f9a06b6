#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/err.h"
#include "base/macros.h"
#include "base/str.h"
#include "freestanding/byteorder.h"
#include "vmm/disk/qcow2_internal.h"

#define HEADER_AUTOCLEAR 88

struct opening {
    struct qcow2 *q;
    const char *path;
    const struct disk_options *options;
    const char *prefix;
    const struct qcow2_parent *parent;
    struct err *err;
};

static void free_layer(struct qcow2_layer *layer)
{
    if (layer != NULL) {
        qcow2_free(layer->image);
        disk_file_close(&layer->file);
        free(layer);
    }
}
DEFINE_FREEP(struct qcow2_layer *, free_layer)

void qcow2_free(struct qcow2 *q)
{
    if (q == NULL) {
        return;
    }
    free_layer(q->backing);
    table_done(q);
    free(q->tables.slots);
    free(q->freed);
    free(q->unpacked);
    free(q->bounce);
    disk_file_close(&q->file);
    free(q);
}

static int refuse_backing(const struct opening *o, int code, const char *why)
{
    return err_say(o->err, code, "open disk '%s': backing file '%s': %s", o->path,
                   o->q->header.backing, why);
}

static int check_backing(const struct opening *o)
{
    const struct qcow2_header *h = &o->q->header;
    size_t plain = strcspn(h->backing, ":/");
    if (o->options->dir_fd < 0) {
        return refuse_backing(o, EPERM, "this disk may have none");
    }
    if (h->backing[plain] == ':') {
        return refuse_backing(o, ENOTSUP, "only names of files are supported");
    }
    if (o->options->depth >= QCOW2_DEPTH_MAX) {
        return refuse_backing(o, ELOOP, "more than 16 below each other");
    }
    if (h->backing_format[0] == '\0') {
        return refuse_backing(o, EINVAL,
                              "the image does not say its format; `qemu-img rebase -u -F` does");
    }
    if (!str_eq(h->backing_format, "raw") && !str_eq(h->backing_format, "qcow2")) {
        return refuse_backing(o, ENOTSUP, "its format is neither raw nor qcow2");
    }
    return 0;
}

static int check_circle(const struct opening *o, const struct disk_file *file)
{
    const struct qcow2_parent self = {.parent = o->parent, .file = &o->q->file};
    for (const struct qcow2_parent *p = &self; p != NULL; p = p->parent) {
        if (p->file->device == file->device && p->file->inode == file->inode) {
            return refuse_backing(o, ELOOP, "the images stand on each other in a circle");
        }
    }
    return 0;
}

/* The directory part of name, with its slash, is the prefix of what that image names. */
static int open_image_below(const struct opening *o, const char *name, struct qcow2_layer *layer)
{
    char prefix[PATH_MAX];
    const char *slash = strrchr(name, '/');
    size_t len = slash != NULL ? (size_t)(slash - name) + 1 : 0;
    memcpy(prefix, name, len);
    prefix[len] = '\0';
    struct disk_options options = *o->options;
    options.read_only = true;
    options.depth++;
    const struct qcow2_parent parent = {.parent = o->parent, .file = &o->q->file};
    int r = qcow2_open(&layer->file, name, &options, prefix, &parent, &layer->image, o->err);
    if (r == 0) {
        layer->size = layer->image->size;
    }
    return r;
}

static int open_backing(const struct opening *o)
{
    const struct qcow2_header *h = &o->q->header;
    if (h->backing[0] == '\0') {
        return 0;
    }
    int r = check_backing(o);
    if (r < 0) {
        return r;
    }
    char name[PATH_MAX];
    const char *prefix = h->backing[0] == '/' ? "" : o->prefix;
    if ((size_t)snprintf(name, sizeof(name), "%s%s", prefix, h->backing) >= sizeof(name)) {
        return refuse_backing(o, ENAMETOOLONG, "its path is too long");
    }
    AUTO(free_layerp) struct qcow2_layer *layer = calloc(1, sizeof(*layer));
    if (layer == NULL) {
        return err_set(o->err, ENOMEM, "open disk '%s'", o->path);
    }
    layer->file.fd = -1;
    const struct disk_file_options options = {.read_only = true, .dir_fd = o->options->dir_fd};
    r = disk_file_open(name, -1, &options, &layer->file, o->err);
    if (r == 0) {
        r = check_circle(o, &layer->file);
    }
    if (r == 0) {
        r = disk_file_lock(&layer->file, name, o->err);
    }
    if (r == 0 && str_eq(h->backing_format, "qcow2")) {
        r = open_image_below(o, name, layer);
    } else if (r == 0) {
        layer->size = (layer->file.size + 511) & ~511ULL;
    }
    if (r < 0) {
        return err_wrap(o->err, -r, "disk '%s'", o->path);
    }
    o->q->backing = TAKE_PTR(layer);
    return 0;
}

/* Puts what a table points to into the set, when each entry points to a cluster of its own. */
static int scan(const struct opening *o, const char *what, uint64_t offset, uint64_t entries,
                uint64_t mask)
{
    struct qcow2 *q = o->q;
    for (uint64_t at = 0; at < entries * 8; at += QCOW2_BOUNCE) {
        size_t piece = (size_t)MIN(entries * 8 - at, (uint64_t)QCOW2_BOUNCE);
        int r = disk_file_read(&q->file, offset + at, q->bounce, piece);
        if (r < 0) {
            return err_set(o->err, -r, "read disk '%s'", o->path);
        }
        for (size_t i = 0; i < piece; i += 8) {
            uint64_t target = load_be64(q->bounce + i) & mask;
            const char *why = NULL;
            if (target == 0) {
                continue;
            }
            if (target % q->cluster_size != 0) {
                why = "is not that of a cluster";
            } else if (target >= q->file_end) {
                why = "lies outside the file";
            } else if (qcow2_is_metadata(q, target)) {
                why = "is that of another table";
            } else {
                r = cluster_set_add(&q->tables, target >> q->header.cluster_bits);
            }
            if (why != NULL) {
                return err_say(o->err, EIO, "open disk '%s': qcow2 %s %llu: offset 0x%llx %s",
                               o->path, what, (unsigned long long)((at + i) / 8),
                               (unsigned long long)target, why);
            }
            if (r < 0) {
                return err_set(o->err, -r, "open disk '%s'", o->path);
            }
        }
    }
    return 0;
}

static int check_places(const struct opening *o)
{
    const struct qcow2_header *h = &o->q->header;
    const struct {
        const char *name;
        uint64_t offset, len;
    } tables[] = {
        {"l1_table_offset", h->l1_offset, h->l1_entries * 8ULL},
        {"refcount_table_offset", h->reftable_offset,
         (uint64_t)h->reftable_clusters << h->cluster_bits},
        {"snapshots_offset", h->snapshots_offset, h->snapshots},
    };
    for (size_t i = 0; i < COUNT(tables); i++) {
        if (tables[i].len > 0 && (tables[i].offset >= o->q->file_end ||
                                  tables[i].len > o->q->file_end - tables[i].offset)) {
            return err_say(o->err, EINVAL,
                           "open disk '%s': qcow2 header: %s %llu lies outside the file", o->path,
                           tables[i].name, (unsigned long long)tables[i].offset);
        }
    }
    return 0;
}

static int check_overlap(const struct opening *o)
{
    const struct qcow2_header *h = &o->q->header;
    uint64_t reftable = (uint64_t)h->reftable_clusters << h->cluster_bits;
    uint64_t l1 = h->l1_entries * 8ULL;
    if (h->l1_entries > 0 && h->l1_offset < h->reftable_offset + reftable &&
        h->reftable_offset < h->l1_offset + l1) {
        return err_say(o->err, EINVAL,
                       "open disk '%s': qcow2 header: l1_table_offset %llu lies in the refcount "
                       "table",
                       o->path, (unsigned long long)h->l1_offset);
    }
    return 0;
}

static int clear_features(const struct opening *o)
{
    struct qcow2 *q = o->q;
    if (q->header.version < 3 || q->header.autoclear == 0) {
        return 0;
    }
    /* They vouch for something that our writing makes untrue: dirty bitmaps, for one. */
    static const uint8_t zero[8];
    int r = disk_file_write(&q->file, HEADER_AUTOCLEAR, zero, sizeof(zero));
    if (r == 0) {
        r = disk_file_sync(&q->file);
    }
    q->header.autoclear = 0;
    return r < 0 ? err_set(o->err, -r, "write the header of disk '%s'", o->path) : 0;
}

static int prepare_writing(const struct opening *o)
{
    struct qcow2 *q = o->q;
    const struct qcow2_header *h = &q->header;
    if ((h->incompatible & QCOW2_CORRUPT) != 0) {
        return err_say(o->err, EIO,
                       "open disk '%s': the image is marked corrupt; it can be read, or repaired "
                       "with `qemu-img check -r all`",
                       o->path);
    }
    q->bounce = malloc(QCOW2_BOUNCE);
    if (q->bounce == NULL) {
        return err_set(o->err, ENOMEM, "open disk '%s'", o->path);
    }
    int r = check_overlap(o);
    if (r == 0 && qcow2_snapshots(q, NULL, NULL, &q->snapshots_len) < 0) {
        r = err_say(o->err, EIO, "open disk '%s': qcow2 snapshot table is damaged", o->path);
    }
    if (r == 0) {
        r = scan(o, "refcount table entry", h->reftable_offset,
                 ((uint64_t)h->reftable_clusters << h->cluster_bits) / 8, UINT64_MAX);
    }
    if (r == 0) {
        r = scan(o, "L1 entry", h->l1_offset, h->l1_entries, QCOW2_OFFSET);
    }
    if (r == 0) {
        r = clear_features(o);
    }
    if (r == 0 && (h->incompatible & QCOW2_DIRTY) != 0) {
        r = qcow2_repair(q, o->path, o->err);
    }
    return r;
}

int qcow2_open(struct disk_file *file, const char *path, const struct disk_options *options,
               const char *prefix, const struct qcow2_parent *parent, struct qcow2 **ret,
               struct err *err)
{
    struct qcow2 *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        disk_file_close(file);
        return err_set(err, ENOMEM, "open disk '%s'", path);
    }
    made->file = *file;
    file->fd = -1;
    int r = table_init(made);
    if (r < 0) {
        disk_file_close(&made->file);
        free(made);
        return err_set(err, -r, "open disk '%s'", path);
    }
    AUTO(qcow2_freep) struct qcow2 *q = made;
    const struct opening o = {
        .q = q, .path = path, .options = options, .prefix = prefix, .parent = parent, .err = err};
    r = qcow2_header_read(&q->file, path, &q->header, err);
    if (r < 0) {
        return r;
    }
    q->cluster_size = 1ULL << q->header.cluster_bits;
    q->cache.page_size = (size_t)MIN(q->cluster_size, (uint64_t)TABLE_PAGE_MAX);
    q->l2_bits = q->header.cluster_bits - 3;
    q->refblock_bits = q->header.cluster_bits + 3 - q->header.refcount_order;
    q->size = (q->header.size + 511) & ~511ULL;
    q->file_end = (q->file.size + q->cluster_size - 1) & ~(q->cluster_size - 1);
    /* Only behind the end of a file is it known that nothing was written. */
    q->fresh = q->file.block_device ? UINT64_MAX : q->file_end;
    r = check_places(&o);
    if (r == 0 && !q->file.read_only) {
        r = prepare_writing(&o);
    }
    if (r == 0) {
        r = open_backing(&o);
    }
    if (r < 0) {
        return r;
    }
    *ret = TAKE_PTR(q);
    return 0;
}
