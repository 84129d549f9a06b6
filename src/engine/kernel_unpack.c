#include "engine/kernel_unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/path.h"
#include "base/str.h"
#include "engine/kernel.h"
#include "vmm/boot/boot.h"

#define CACHE ".cache"
#define KEEP 8u

/* ROOT/kernels/.cache, made when missing. */
static int open_cache(const char *root, struct err *err)
{
    AUTO(closep) int dir = -1;
    AUTO(closep) int lock = -1;
    int r = kernel_store_lock(root, &dir, &lock, err);
    if (r < 0) {
        return r;
    }
    if (mkdirat(dir, CACHE, 0755) < 0 && errno != EEXIST) {
        return err_set(err, errno, "make the cache of kernels");
    }
    int fd = openat(dir, CACHE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 ? fd : err_set(err, errno, "open the cache of kernels");
}

/* Removes the oldest entry when there are more than KEEP; who has it open keeps it. */
static void trim(int cache)
{
    int again = openat(cache, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closedirp) DIR *list = again >= 0 ? fdopendir(again) : NULL;
    AUTO(freep) char *oldest = NULL;
    struct timespec age = {0};
    unsigned count = 0;
    const struct dirent *entry = NULL;
    while (list != NULL && (entry = readdir(list)) != NULL) {
        struct stat st;
        if (!str_ends(entry->d_name, ".vmlinux") ||
            fstatat(cache, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            continue;
        }
        bool older = st.st_mtim.tv_sec < age.tv_sec ||
                     (st.st_mtim.tv_sec == age.tv_sec && st.st_mtim.tv_nsec < age.tv_nsec);
        if (count++ == 0 || older) {
            age = st.st_mtim;
            free(oldest);
            oldest = strdup(entry->d_name);
        }
    }
    if (count > KEEP && oldest != NULL) {
        (void)unlinkat(cache, oldest, 0);
    }
}

int kernel_unpack(const char *root, const char *path, char **ret_path, struct err *err)
{
    AUTO(closep) int unpacked = -1;
    AUTO(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return err_set(err, errno, "open kernel '%s'", path);
    }
    AUTO(closep) int cache = open_cache(root, err);
    int r = cache < 0 ? cache : boot_unpack_kernel(fd, path, cache, &unpacked, err);
    if (r < 0) {
        return r;
    }
    trim(cache);
    r = path_of_fd(unpacked, ret_path);
    return r < 0 ? err_set(err, -r, "find the unpacked kernel '%s'", path) : 0;
}
