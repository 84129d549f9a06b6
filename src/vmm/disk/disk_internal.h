/*
 * disk_internal.h - what the formats of a disk share.
 */
#ifndef VMM_DISK_DISK_INTERNAL_H
#define VMM_DISK_DISK_INTERNAL_H

#include "vmm/disk/disk.h"
#include "vmm/disk/file.h"
#include "vmm/disk/uring.h"

#define DISK_SECTOR ((uint64_t)512)

struct disk_ops {
    /* The request has passed the checks of disk_submit(). */
    void (*submit)(struct disk *disk, struct disk_request *request);
    void (*kick)(struct disk *disk);
    /* Blocks until something is done, and calls back. */
    void (*wait)(struct disk *disk);
    void (*free)(struct disk *disk);
};

/* A format embeds it first. */
struct disk {
    const struct disk_ops *ops;
    struct uring *uring; /* owned */
    uint64_t size;       /* bytes, multiple of 512 */
    bool read_only;
    bool can_discard;
    unsigned under_way;
};

void disk_complete(struct disk *disk, struct disk_request *request, int error);

/* The formats. They take the file over, also on failure. */
int raw_open(struct disk_file *file, struct loop *loop, struct disk **ret, struct err *err);
int qcow2_disk_open(struct disk_file *file, const char *path, const struct disk_options *options,
                    struct loop *loop, struct disk **ret, struct err *err);

/*
 * Moves len bytes between a place in the request's buffers and a place in a file. Reads behind the
 * end give zeros. On its way after uring_kick(). -ENOMEM: nothing was started.
 */
typedef void disk_transfer_fn(struct disk *disk, struct disk_request *request, int error);
int disk_transfer(struct disk *disk, struct disk_request *request, const struct disk_file *file,
                  uint64_t file_offset, uint64_t request_offset, uint64_t len,
                  disk_transfer_fn *done);

#endif
