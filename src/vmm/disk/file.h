/*
 * file.h - the host file or block device under a disk: opened, locked, read and written whole.
 */
#ifndef VMM_DISK_FILE_H
#define VMM_DISK_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "vmm/disk/iov.h"

struct err;

struct disk_file {
    int fd;
    bool read_only;
    bool block_device;
    bool direct;        /* O_DIRECT */
    uint64_t size;      /* bytes, when it was opened */
    uint32_t mem_align; /* direct: of buffers, bytes */
    dev_t device;       /* with inode: which file it is */
    ino_t inode;
};

struct disk_file_options {
    bool read_only;
    bool direct;
    int dir_fd; /* >= 0: path stays below it; -1: any path */
};

/*
 * Opens path, or takes fd over when fd >= 0 (also on failure); path then only names it in errors.
 * Regular files and block devices only. The content is not looked at.
 */
int disk_file_open(const char *path, int fd, const struct disk_file_options *options,
                   struct disk_file *ret, struct err *err);
void disk_file_close(struct disk_file *file);
DEFINE_DONEP(struct disk_file, disk_file_close)

/*
 * A writer shuts out everybody else, readers shut out writers: other machines and QEMU's programs,
 * whose locks these are (docs/disk.md). Held until the file is closed by all who share its
 * description. -EBUSY when somebody is there and stays for 200 ms.
 */
int disk_file_lock(const struct disk_file *file, const char *path, struct err *err);

/* All block. Whole or a negative errno; reads behind the end of the file give zeros. */
int disk_file_read(const struct disk_file *file, uint64_t offset, void *data, size_t len);
int disk_file_write(const struct disk_file *file, uint64_t offset, const void *data, size_t len);
int disk_file_read_iov(const struct disk_file *file, uint64_t offset, struct iov_cursor *cursor,
                       uint64_t len);
int disk_file_write_iov(const struct disk_file *file, uint64_t offset, struct iov_cursor *cursor,
                        uint64_t len);
int disk_file_write_zeros(const struct disk_file *file, uint64_t offset, uint64_t len);
int disk_file_sync(const struct disk_file *file);

/* Zeros to be written from: iovecs of one page that holds nothing else. */
#define DISK_ZEROS_PAGE ((size_t)4096)
extern const uint8_t disk_zeros[DISK_ZEROS_PAGE];

#endif
