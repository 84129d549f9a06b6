/*
 * fs.h - the file system device (virtio 1.2, 5.11), whose requests another process serves.
 *
 * The device looks into no request. It moves bytes between the guest's buffers and a stream socket
 * (vmm/fs/fs_process.h), on the loop's thread and without ever waiting there; nothing is kept in
 * between.
 */
#ifndef VMM_VIRTIO_FS_H
#define VMM_VIRTIO_FS_H

#include <stdint.h>

struct err;
struct loop;
struct memory;
struct virtio;

#define VIRTIO_FS_TAG_MAX 36 /* bytes; one that is as long has no NUL */

struct virtio_fs_config {
    const char *tag; /* what the guest mounts */
    int fd;          /* a non-blocking stream socket behind the hello; the device's on success */
    /* The server has ended, or said what it must not: once, on the loop's thread, lock held. */
    void (*lost)(void *data);
    void *data;
};

int virtio_fs_new(const char *instance, const struct virtio_fs_config *config,
                  struct memory *memory, struct loop *loop, struct virtio **ret, struct err *err);

#endif
