#include "base/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/cleanup.h"

int lock_file_at(int dir_fd, const char *name, enum lock_mode mode, bool wait)
{
    int operation = (mode == LOCK_SHARED ? LOCK_SH : LOCK_EX) | (wait ? 0 : LOCK_NB);
    for (;;) {
        AUTO(closep) int fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0) {
            return -errno;
        }
        while (flock(fd, operation) < 0) {
            if (errno != EINTR) {
                return -errno;
            }
        }
        struct stat ours;
        struct stat now;
        if (fstat(fd, &ours) < 0) {
            return -errno;
        }
        if (fstatat(dir_fd, name, &now, AT_SYMLINK_NOFOLLOW) == 0 && now.st_ino == ours.st_ino &&
            now.st_dev == ours.st_dev) {
            return TAKE_FD(fd);
        }
    }
}
