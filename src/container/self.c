#include "container/self.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/path.h"
#include "container/kernel.h"

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* A mount of the one file, attached nowhere, that can never be made writable again. */
static int open_readonly_mount(const char *path)
{
    int fd = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    if (fd < 0) {
        return -errno;
    }
    if (mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0) {
        int r = -errno;
        (void)close(fd);
        return r;
    }
    return fd;
}

static int open_sealed_copy(const char *path)
{
    AUTO(closep) int from = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (from < 0 || fstat(from, &st) < 0) {
        return -errno;
    }
    AUTO(closep) int to = memfd_create("isola", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (to < 0) {
        return -errno;
    }
    for (off_t done = 0; done < st.st_size;) {
        ssize_t n = sendfile(to, from, NULL, (size_t)(st.st_size - done));
        if (n <= 0) {
            return n < 0 ? -errno : -EIO;
        }
        done += n;
    }
    if (fchmod(to, 0555) < 0 || fcntl(to, F_ADD_SEALS, SEALS) < 0) {
        return -errno;
    }
    return TAKE_FD(to);
}

int self_open(const char *path, struct err *err)
{
    int fd = open_readonly_mount(path);
    if (fd < 0) {
        fd = open_sealed_copy(path);
    }
    return fd < 0 ? err_set(err, -fd, "protect '%s' from being overwritten", path) : fd;
}

/* True when no file descriptor that leads here can ever be opened for writing. */
static bool is_protected(void)
{
    struct statfs fs;
    if (statfs("/proc/self/exe", &fs) < 0) {
        return false;
    }
    if ((fs.f_flags & ST_RDONLY) != 0) {
        return true;
    }
    if (fs.f_type != TMPFS_MAGIC) {
        return false; /* not a memory file */
    }
    AUTO(closep) int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    return file >= 0 && fcntl(file, F_GET_SEALS) == SEALS;
}

int self_protect(char *const argv[], struct err *err)
{
    if (is_protected()) {
        return 0;
    }
    AUTO(closep) int fd = self_open("/proc/self/exe", err);
    if (fd < 0) {
        return fd;
    }
    (void)syscall(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH);
    return err_set(err, errno, "execute the protected copy of this program");
}
