#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

ssize_t read_upto(int fd, void *data, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = read(fd, (char *)data + done, len - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int read_full(int fd, void *data, size_t len)
{
    ssize_t n = read_upto(fd, data, len);
    if (n < 0) {
        return (int)n;
    }
    return (size_t)n == len ? 0 : -ENODATA;
}

int read_full_at(int fd, void *data, size_t len, uint64_t offset)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = pread(fd, (char *)data + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            return -ENODATA;
        }
        done += (size_t)n;
    }
    return 0;
}

int write_full(int fd, const void *data, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = write(fd, (const char *)data + done, len - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        done += (size_t)n;
    }
    return 0;
}

int read_fd(int fd, size_t max, struct buf *buf)
{
    size_t start = buf->len;
    /* The size is a hint only: files in /proc report 0. */
    struct stat st;
    size_t chunk = 4096;
    bool sized = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0;
    if (sized) {
        chunk = MIN((size_t)st.st_size + 1, (size_t)1 << 20);
    }
    for (;;) {
        int r = buf_reserve(buf, chunk);
        if (r < 0) {
            return r;
        }
        ssize_t n = read(fd, buf->data + buf->len, chunk);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            buf->data[buf->len] = '\0';
            return 0;
        }
        buf->len += (size_t)n;
        buf->data[buf->len] = '\0';
        if (buf->len - start > max) {
            return -EFBIG;
        }
        if (sized && (size_t)n < chunk) {
            return 0; /* a file with a size gives less than asked for at its end only */
        }
    }
}

int read_file_at(int dir_fd, const char *path, size_t max, struct buf *buf)
{
    AUTO(closep) int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        return -errno;
    }
    return read_fd(fd, max, buf);
}

int read_file(const char *path, size_t max, struct buf *buf)
{
    return read_file_at(AT_FDCWD, path, max, buf);
}

int write_file_at(int dir_fd, const char *path, const char *text)
{
    AUTO(closep) int fd = openat(dir_fd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        return -errno;
    }
    /* One write only: kernel files take each write as a command of its own. */
    ssize_t n;
    do {
        n = write(fd, text, strlen(text));
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

int write_file(const char *path, const char *text)
{
    return write_file_at(AT_FDCWD, path, text);
}

int replace_file_at(int dir_fd, const char *name, const void *data, size_t len, mode_t mode,
                    bool sync)
{
    char temp[300];
    int n = snprintf(temp, sizeof(temp), ".%s.%d.tmp", name, (int)getpid());
    if (n < 0 || (size_t)n >= sizeof(temp)) {
        return -ENAMETOOLONG;
    }
    AUTO(closep)
    int fd = openat(dir_fd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0) {
        return -errno;
    }
    int r = write_full(fd, data, len);
    if (r == 0 && sync && fsync(fd) < 0) {
        r = -errno;
    }
    if (r == 0 && renameat(dir_fd, temp, dir_fd, name) < 0) {
        r = -errno;
    }
    if (r < 0) {
        (void)unlinkat(dir_fd, temp, 0);
        return r;
    }
    if (sync && fsync(dir_fd) < 0) {
        return -errno;
    }
    return 0;
}

int set_nonblock(int fd, bool on)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0) {
        return -errno;
    }
    flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

int set_cloexec(int fd, bool on)
{
    return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) < 0 ? -errno : 0;
}
