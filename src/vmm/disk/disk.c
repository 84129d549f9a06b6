#include "vmm/disk/disk.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/str.h"
#include "freestanding/byteorder.h"
#include "vmm/disk/disk_internal.h"
#include "vmm/disk/qcow2.h"

/*
 * A guest can write any magic number into its raw disk. So a format is guessed only for an image
 * that is read, never for one that a guest may have written under another name for its format.
 */
static int find_format(const struct disk_file *file, const char *path,
                       const struct disk_options *options, bool *ret_qcow2, struct err *err)
{
    if (options->format != NULL) {
        *ret_qcow2 = str_eq(options->format, "qcow2");
        if (!*ret_qcow2 && !str_eq(options->format, "raw")) {
            return err_say(err, EINVAL, "open disk '%s': unknown format '%s'; raw and qcow2 exist",
                           path, options->format);
        }
        return 0;
    }
    if (!options->read_only) {
        return err_say(err, EINVAL,
                       "open disk '%s': a disk that is written needs its format: raw or qcow2",
                       path);
    }
    uint8_t magic[4];
    int r = disk_file_read(file, 0, magic, sizeof(magic));
    if (r < 0) {
        return err_set(err, -r, "read disk '%s'", path);
    }
    *ret_qcow2 = load_be32(magic) == QCOW2_MAGIC;
    return 0;
}

int disk_open(const char *path, int fd, const struct disk_options *options, struct loop *loop,
              struct disk **ret, struct err *err)
{
    const struct disk_file_options file_options = {
        .read_only = options->read_only, .direct = options->direct, .dir_fd = -1};
    AUTO(disk_file_closep) struct disk_file file = {.fd = -1};
    int r = disk_file_open(path, fd, &file_options, &file, err);
    if (r == 0) {
        r = disk_file_lock(&file, path, err);
    }
    bool qcow2 = false;
    if (r == 0) {
        r = find_format(&file, path, options, &qcow2, err);
    }
    if (r < 0) {
        return r;
    }
    return qcow2 ? qcow2_disk_open(&file, path, options, loop, ret, err)
                 : raw_open(&file, loop, ret, err);
}

void disk_free(struct disk *disk)
{
    if (disk != NULL) {
        (void)disk_drain(disk);
        disk->ops->free(disk);
    }
}

uint64_t disk_size(const struct disk *disk)
{
    return disk->size;
}

bool disk_read_only(const struct disk *disk)
{
    return disk->read_only;
}

bool disk_can_discard(const struct disk *disk)
{
    return disk->can_discard;
}

static int check(const struct disk *disk, const struct disk_request *request)
{
    if (request->op == DISK_FLUSH) {
        return 0;
    }
    if (request->offset % DISK_SECTOR != 0 || request->len % DISK_SECTOR != 0) {
        return -EINVAL;
    }
    if (request->offset > disk->size || request->len > disk->size - request->offset) {
        return -ERANGE;
    }
    if (request->op != DISK_READ && disk->read_only) {
        return -EROFS;
    }
    if ((request->op == DISK_READ || request->op == DISK_WRITE) &&
        iov_length(request->iov, request->iov_count) != request->len) {
        return -EINVAL;
    }
    return 0;
}

void disk_complete(struct disk *disk, struct disk_request *request, int error)
{
    disk->under_way--;
    request->done(request, error);
}

void disk_submit(struct disk *disk, struct disk_request *request)
{
    request->next = NULL;
    request->inner = NULL;
    request->pending = 0;
    request->result = 0;
    disk->under_way++;
    int r = check(disk, request);
    if (r < 0 || (request->len == 0 && request->op != DISK_FLUSH)) {
        disk_complete(disk, request, r);
        return;
    }
    /* What cannot be written has nothing to flush. */
    if (request->op == DISK_FLUSH && disk->read_only) {
        disk_complete(disk, request, 0);
        return;
    }
    disk->ops->submit(disk, request);
}

void disk_kick(struct disk *disk)
{
    disk->ops->kick(disk);
}

int disk_drain(struct disk *disk)
{
    disk->ops->kick(disk);
    while (disk->under_way > 0) {
        disk->ops->wait(disk);
    }
    return 0;
}
