#include "vmm/disk/create.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>

#include "base/err.h"
#include "base/macros.h"
#include "base/path.h"
#include "base/str.h"
#include "freestanding/byteorder.h"
#include "vmm/disk/file.h"
#include "vmm/disk/qcow2.h"

#define CLUSTER_BITS 16U
#define REFCOUNT_ORDER 4U
#define HEADER_LEN 112U /* with the compression type and its padding */
#define BACKING_FORMAT 0xe2792acaU
#define L1_BYTES_MAX ((uint64_t)32 << 20)

/* Where the parts of a new image lie, in clusters: header, refcount table, its blocks, L1. */
struct plan {
    unsigned bits;
    uint64_t size; /* bytes, of the disk */
    uint64_t l1_entries;
    uint64_t reftable, blocks, l1;
    uint64_t total;
};

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

static int make_plan(uint64_t size, unsigned bits, struct plan *ret)
{
    struct plan p = {.bits = bits, .size = size};
    uint64_t cluster = 1ULL << bits;
    uint64_t per_block = cluster * 8 >> REFCOUNT_ORDER;
    p.l1_entries = divide_up(size, cluster * (cluster / 8));
    if (p.l1_entries > L1_BYTES_MAX / 8) {
        return -EFBIG;
    }
    p.l1 = divide_up(p.l1_entries * 8, cluster);
    for (uint64_t before = 0;;) {
        p.total = 1 + p.reftable + p.blocks + p.l1;
        if (p.total == before) {
            break;
        }
        before = p.total;
        p.blocks = divide_up(p.total, per_block);
        p.reftable = divide_up(p.blocks * 8, cluster);
    }
    *ret = p;
    return 0;
}

static void fill_header(const struct plan *p, const struct disk_create_options *options,
                        uint8_t *header)
{
    size_t at = HEADER_LEN;
    store_be32(header, QCOW2_MAGIC);
    store_be32(header + 4, 3);
    store_be32(header + 20, p->bits);
    store_be64(header + 24, p->size);
    store_be32(header + 36, (uint32_t)p->l1_entries);
    store_be64(header + 40, p->l1 > 0 ? (1 + p->reftable + p->blocks) << p->bits : 0);
    store_be64(header + 48, 1ULL << p->bits);
    store_be32(header + 56, (uint32_t)p->reftable);
    store_be32(header + 96, REFCOUNT_ORDER);
    store_be32(header + 100, HEADER_LEN);
    if (options->backing != NULL) {
        size_t len = strlen(options->backing_format);
        store_be32(header + at, BACKING_FORMAT);
        store_be32(header + at + 4, (uint32_t)len);
        memcpy(header + at + 8, options->backing_format, len);
        /* Behind it the end of the extensions, eight zeros, then the name. */
        at += 8 + ((len + 7) & ~(size_t)7) + 8;
        store_be64(header + 8, at);
        store_be32(header + 16, (uint32_t)strlen(options->backing));
        memcpy(header + at, options->backing, strlen(options->backing));
    }
}

/* The header comes last: a file without it is no image. */
static int write_qcow2(const struct disk_file *file, const struct plan *p,
                       const struct disk_create_options *options)
{
    size_t cluster = (size_t)1 << p->bits;
    AUTO(freep) uint8_t *buffer = calloc(1, cluster);
    if (buffer == NULL) {
        return -ENOMEM;
    }
    int r = ftruncate(file->fd, (off_t)(p->total << p->bits)) < 0 ? -errno : 0;
    uint64_t first_block = 1 + p->reftable;
    for (uint64_t i = 0; i < p->blocks && r == 0; i++) {
        uint8_t entry[8];
        uint64_t per_block = (uint64_t)cluster / 2;
        store_be64(entry, (first_block + i) << p->bits);
        r = disk_file_write(file, cluster + i * 8, entry, sizeof(entry));
        memset(buffer, 0, cluster);
        for (uint64_t c = 0; c < per_block && i * per_block + c < p->total; c++) {
            buffer[c * 2 + 1] = 1;
        }
        if (r == 0) {
            r = disk_file_write(file, (first_block + i) << p->bits, buffer, cluster);
        }
    }
    if (r == 0) {
        r = disk_file_sync(file);
    }
    if (r == 0) {
        memset(buffer, 0, cluster);
        fill_header(p, options, buffer);
        r = disk_file_write(file, 0, buffer, cluster);
    }
    return r == 0 ? disk_file_sync(file) : r;
}

static int check(const char *name, const struct disk_create_options *o, struct err *err)
{
    bool qcow2 = str_eq(o->format, "qcow2");
    if (!qcow2 && !str_eq(o->format, "raw")) {
        return err_say(err, EINVAL, "create disk '%s': unknown format; raw and qcow2 exist", name);
    }
    if (o->size % 512 != 0 || o->size > INT64_MAX) {
        return err_say(err, EINVAL, "create disk '%s': size %llu is not a multiple of 512", name,
                       (unsigned long long)o->size);
    }
    if (o->backing == NULL) {
        return 0;
    }
    if (!qcow2) {
        return err_say(err, EINVAL, "create disk '%s': a raw disk has no backing file", name);
    }
    if (!str_eq(o->backing_format, "raw") && !str_eq(o->backing_format, "qcow2")) {
        return err_say(err, EINVAL, "create disk '%s': the backing file needs its format", name);
    }
    return 0;
}

static int find_size(int dir_fd, const char *name, const struct disk_create_options *o,
                     uint64_t *ret, struct err *err)
{
    *ret = o->size;
    if (o->size > 0 || o->backing == NULL) {
        return 0;
    }
    /* The backing file's name counts from the directory of the image. */
    const char *slash = strrchr(name, '/');
    int prefix = slash != NULL ? (int)(slash - name) + 1 : 0;
    AUTO(freep) char *path = str_printf("%.*s%s", prefix, name, o->backing);
    if (path == NULL) {
        return err_set(err, ENOMEM, "create disk '%s'", name);
    }
    AUTO(disk_file_closep) struct disk_file file = {.fd = -1};
    const struct disk_file_options options = {.read_only = true, .dir_fd = dir_fd};
    int r = disk_file_open(path, -1, &options, &file, err);
    *ret = (file.size + 511) & ~511ULL;
    if (r == 0 && str_eq(o->backing_format, "qcow2")) {
        struct qcow2_header header;
        r = qcow2_header_read(&file, path, &header, err);
        *ret = r == 0 ? (header.size + 511) & ~511ULL : 0;
    }
    return r;
}

static int fill(const struct disk_file *file, const char *name, uint64_t size,
                const struct disk_create_options *options, struct err *err)
{
    if (str_eq(options->format, "raw")) {
        if (ftruncate(file->fd, (off_t)size) < 0) {
            return err_set(err, errno, "create disk '%s'", name);
        }
        return 0;
    }
    unsigned bits = options->cluster_bits != 0 ? options->cluster_bits : CLUSTER_BITS;
    size_t names = options->backing != NULL ? strlen(options->backing) + 32 : 0;
    if (bits < 9 || bits > 21) {
        return err_say(err, EINVAL, "create disk '%s': clusters are of 512 bytes to 2 MiB", name);
    }
    if (names > QCOW2_BACKING_NAME_MAX || HEADER_LEN + names > (size_t)1 << bits) {
        return err_say(err, ENAMETOOLONG, "create disk '%s': the backing file's name is too long",
                       name);
    }
    struct plan plan;
    int r = make_plan(size, bits, &plan);
    if (r == 0) {
        r = write_qcow2(file, &plan, options);
    }
    return r < 0 ? err_set(err, -r, "create disk '%s'", name) : 0;
}

int disk_create(int dir_fd, const char *name, const struct disk_create_options *options,
                struct err *err)
{
    uint64_t size = 0;
    int r = check(name, options, err);
    if (r == 0) {
        r = find_size(dir_fd, name, options, &size, err);
    }
    if (r < 0) {
        return r;
    }
    AUTO(disk_file_closep) struct disk_file file = {.fd = -1};
    file.fd = open_resolved(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600,
                            RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
    if (file.fd < 0) {
        return err_set(err, -file.fd, "create disk '%s'", name);
    }
    r = fill(&file, name, size, options, err);
    if (r < 0) {
        (void)unlinkat(dir_fd, name, 0);
    }
    return r;
}
