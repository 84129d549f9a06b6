#include "vmm/disk/file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/macros.h"
#include "base/path.h"

#define PIECES 64
/* Larger ranges of zeros are left to the file system. */
#define ZEROS_WRITTEN ((uint64_t)64 * 1024)

/* Bytes that QEMU's programs lock to say what they do with an image, and what they do not stand. */
#define LOCK_READS 100
#define LOCK_WRITES 101
#define LOCK_RESIZES 103
#define LOCK_NO_READERS 200
#define LOCK_NO_WRITERS 201
#define LOCK_NO_RESIZERS 203
#define LOCK_TRIES 20
#define LOCK_WAIT_US 10000

const uint8_t disk_zeros[DISK_ZEROS_PAGE] __attribute__((aligned(4096)));

static int open_fd(const char *path, const struct disk_file_options *options)
{
    /* Not blocking: a path may name a FIFO, which is refused only when it is open. */
    int flags = (options->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY |
                (options->direct ? O_DIRECT : 0);
    if (options->dir_fd >= 0) {
        return open_resolved(options->dir_fd, path, flags, 0,
                             RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
    }
    int fd = open(path, flags);
    return fd < 0 ? -errno : fd;
}

/* What direct I/O asks of buffers and offsets. */
static int find_alignment(struct disk_file *file, const char *path, struct err *err)
{
    uint32_t offset_align = 512;
    file->mem_align = 512;
    struct statx st;
    if (file->block_device) {
        int size = 0;
        if (ioctl(file->fd, BLKSSZGET, &size) < 0 || size <= 0) {
            return err_set(err, errno, "ask '%s' for its sector size", path);
        }
        offset_align = (uint32_t)size;
        file->mem_align = (uint32_t)size;
    } else if (statx(file->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) == 0 &&
               (st.stx_mask & STATX_DIOALIGN) != 0) {
        if (st.stx_dio_offset_align != 0) {
            file->mem_align = MAX(st.stx_dio_mem_align, 1U);
            offset_align = st.stx_dio_offset_align;
        }
    }
    if (offset_align > 512) {
        return err_say(err, EINVAL,
                       "open disk '%s': direct I/O needs pieces of %u bytes there, and machines "
                       "use 512; leave direct out",
                       path, offset_align);
    }
    return 0;
}

static int inspect(struct disk_file *file, const char *path, struct err *err)
{
    struct stat st;
    if (fstat(file->fd, &st) < 0) {
        return err_set(err, errno, "stat disk '%s'", path);
    }
    file->device = st.st_dev;
    file->inode = st.st_ino;
    if (S_ISREG(st.st_mode)) {
        file->size = (uint64_t)st.st_size;
    } else if (S_ISBLK(st.st_mode)) {
        file->block_device = true;
        if (ioctl(file->fd, BLKGETSIZE64, &file->size) < 0) {
            return err_set(err, errno, "ask '%s' for its size", path);
        }
    } else {
        return err_say(err, EINVAL, "open disk '%s': neither a file nor a block device", path);
    }
    int flags = fcntl(file->fd, F_GETFL);
    if (flags < 0) {
        return err_set(err, errno, "open disk '%s'", path);
    }
    if (!file->read_only && (flags & O_ACCMODE) != O_RDWR) {
        return err_say(err, EBADF, "open disk '%s': descriptor is not open for writing", path);
    }
    if ((flags & O_ACCMODE) == O_WRONLY) {
        return err_say(err, EBADF, "open disk '%s': descriptor is not open for reading", path);
    }
    file->direct = (flags & O_DIRECT) != 0;
    return file->direct ? find_alignment(file, path, err) : 0;
}

int disk_file_open(const char *path, int fd, const struct disk_file_options *options,
                   struct disk_file *ret, struct err *err)
{
    AUTO(disk_file_closep)
    struct disk_file file = {.fd = fd, .read_only = options->read_only};
    if (fd < 0) {
        file.fd = open_fd(path, options);
        if (file.fd == -EXDEV) {
            return err_say(err, EXDEV, "open disk '%s': leads out of the directory of the image",
                           path);
        }
        if (file.fd < 0) {
            return err_set(err, -file.fd, "open disk '%s'", path);
        }
    } else if (options->direct && fcntl(fd, F_SETFL, O_DIRECT) < 0) {
        return err_set(err, errno, "switch disk '%s' to direct I/O", path);
    }
    int r = inspect(&file, path, err);
    if (r < 0) {
        return r;
    }
    *ret = file;
    file.fd = -1;
    return 0;
}

void disk_file_close(struct disk_file *file)
{
    file->fd = close_fd(file->fd);
}

static int lock_byte(int fd, short type, off_t start, off_t len)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
    return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

static bool byte_is_locked(int fd, off_t start)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = 1};
    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* 1: somebody is there. */
static int try_lock(const struct disk_file *file)
{
    static const off_t reader[] = {LOCK_READS, LOCK_NO_WRITERS, LOCK_NO_RESIZERS};
    int fd = file->fd;
    int r = 0;
    if (!file->read_only) {
        r = lock_byte(fd, F_WRLCK, 0, 0);
    }
    for (size_t i = 0; i < COUNT(reader) && r == 0 && file->read_only; i++) {
        r = lock_byte(fd, F_RDLCK, reader[i], 1);
    }
    if (r == -EAGAIN || r == -EACCES) {
        return 1;
    }
    return r == 0 && file->read_only &&
           (byte_is_locked(fd, LOCK_WRITES) || byte_is_locked(fd, LOCK_RESIZES) ||
            byte_is_locked(fd, LOCK_NO_READERS));
}

int disk_file_lock(const struct disk_file *file, const char *path, struct err *err)
{
    int r = try_lock(file);
    /* The kernel ends the requests of a machine that was killed a moment after the machine. */
    for (unsigned i = 0; r == 1 && i < LOCK_TRIES; i++) {
        (void)usleep(LOCK_WAIT_US);
        r = try_lock(file);
    }
    if (r == 1 && file->read_only) {
        return err_say(err, EBUSY, "open disk '%s': another machine or program writes to it", path);
    }
    if (r == 1) {
        return err_say(err, EBUSY,
                       "open disk '%s': another machine or program uses it; a disk that is "
                       "written has one user",
                       path);
    }
    return r < 0 ? err_set(err, -r, "lock disk '%s'", path) : 0;
}

int disk_file_read(const struct disk_file *file, uint64_t offset, void *data, size_t len)
{
    struct iovec iov = {.iov_base = data, .iov_len = len};
    struct iov_cursor cursor = {.iov = &iov, .count = 1};
    return disk_file_read_iov(file, offset, &cursor, len);
}

int disk_file_write(const struct disk_file *file, uint64_t offset, const void *data, size_t len)
{
    const char *from = data;
    while (len > 0) {
        ssize_t n = pwrite(file->fd, from, len, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : -EIO;
        }
        from += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

int disk_file_read_iov(const struct disk_file *file, uint64_t offset, struct iov_cursor *cursor,
                       uint64_t len)
{
    struct iovec pieces[PIECES];
    while (len > 0) {
        uint64_t want;
        unsigned count = iov_slice(cursor, len, pieces, PIECES, &want);
        if (count == 0) {
            return -EINVAL;
        }
        ssize_t n = preadv(file->fd, pieces, (int)count, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            iov_put_zeros(cursor, len);
            return 0;
        }
        iov_advance(cursor, (uint64_t)n);
        offset += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return 0;
}

int disk_file_write_iov(const struct disk_file *file, uint64_t offset, struct iov_cursor *cursor,
                        uint64_t len)
{
    struct iovec pieces[PIECES];
    while (len > 0) {
        uint64_t want;
        unsigned count = iov_slice(cursor, len, pieces, PIECES, &want);
        if (count == 0) {
            return -EINVAL;
        }
        ssize_t n = pwritev(file->fd, pieces, (int)count, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : -EIO;
        }
        iov_advance(cursor, (uint64_t)n);
        offset += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return 0;
}

int disk_file_write_zeros(const struct disk_file *file, uint64_t offset, uint64_t len)
{
    if (len > ZEROS_WRITTEN &&
        fallocate(file->fd, FALLOC_FL_ZERO_RANGE, (off_t)offset, (off_t)len) == 0) {
        return 0;
    }
    while (len > 0) {
        struct iovec pieces[PIECES];
        unsigned count = 0;
        uint64_t total = 0;
        while (count < PIECES && total < len) {
            size_t piece = (size_t)MIN(len - total, (uint64_t)DISK_ZEROS_PAGE);
            pieces[count].iov_base = (void *)(uintptr_t)disk_zeros;
            pieces[count++].iov_len = piece;
            total += piece;
        }
        struct iov_cursor cursor = {.iov = pieces, .count = count};
        int r = disk_file_write_iov(file, offset, &cursor, total);
        if (r < 0) {
            return r;
        }
        offset += total;
        len -= total;
    }
    return 0;
}

int disk_file_sync(const struct disk_file *file)
{
    return fdatasync(file->fd) < 0 ? -errno : 0;
}
