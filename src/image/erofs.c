#include "image/erofs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/process.h"
#include "freestanding/byteorder.h"
#include "image/image.h"
#include "image/store_internal.h"

#define PROGRAM "mkfs.erofs"
#define SUPER_OFFSET 1024
#define SUPER_MAGIC 0xE0F5E1E2U
/*
 * With it the image does not depend on the time of day. Times after it would be cut to it, and the
 * program compares them as unsigned numbers, so that those before 1970 count as late: the last one.
 */
#define EPOCH "SOURCE_DATE_EPOCH=18446744073709551614"
/* Holes up to so much are written out as zeros. */
#define HOLES_MAX ((uint64_t)1 << 20)
/* mkfs.erofs 1.5 reads holes like data: at about 150 MiB a second. */
#define HOLES_REFUSED ((uint64_t)64 << 30)
#define DEPTH_MAX 256
#define UUID_TEXT_SIZE ((size_t)37)

/* How many bytes of the tree's files are not on the disk. */
static int count_holes(int parent, const char *name, int depth, uint64_t *holes)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    AUTO(closedirp) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL || depth > DEPTH_MAX) {
        int r = dir == NULL ? -errno : -ELOOP;
        if (dir == NULL) {
            (void)close_fd(fd);
        }
        return r;
    }
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        struct stat st;
        if (str_eq(entry->d_name, ".") || str_eq(entry->d_name, "..")) {
            continue;
        }
        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            return -errno;
        }
        uint64_t there = (uint64_t)st.st_blocks * 512;
        if (S_ISREG(st.st_mode) && (uint64_t)st.st_size > there) {
            *holes += (uint64_t)st.st_size - there;
        }
        int r = S_ISDIR(st.st_mode) ? count_holes(dirfd(dir), entry->d_name, depth + 1, holes) : 0;
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* The path of mkfs.erofs, the caller's; sbin is not in everyone's PATH. NULL: there is none. */
static char *find_program(void)
{
    AUTO(strv_donep) struct strv dirs = {0};
    const char *path = getenv("PATH");
    if (strv_split(&dirs, path != NULL ? path : "", ":") < 0 || strv_add(&dirs, "/usr/sbin") < 0 ||
        strv_add(&dirs, "/sbin") < 0) {
        return NULL;
    }
    for (size_t i = 0; i < dirs.count; i++) {
        char *found = str_printf("%s/" PROGRAM, dirs.items[i]);
        if (found != NULL && access(found, X_OK) == 0) {
            return found;
        }
        free(found);
    }
    return NULL;
}

/* The same layer has the same UUID: the first 128 bits of its key. */
static void uuid_of(const char *key, char out[UUID_TEXT_SIZE])
{
    (void)snprintf(out, UUID_TEXT_SIZE, "%.8s-%.4s-%.4s-%.4s-%.12s", key, key + 8, key + 12,
                   key + 16, key + 20);
}

/* Whether the file is EROFS and as long as it says. */
static bool is_whole(int dir_fd, const char *name)
{
    uint8_t super[128];
    struct stat st;
    AUTO(closep) int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || read_full_at(fd, super, sizeof(super), SUPER_OFFSET) < 0 ||
        load_le32(super) != SUPER_MAGIC) {
        return false;
    }
    unsigned block_bits = super[12];
    uint64_t blocks = load_le32(super + 36);
    return block_bits >= 9 && block_bits <= 16 && blocks > 0 &&
           (uint64_t)st.st_size >> block_bits == blocks;
}

static int run_mkfs(struct image_store *store, const char *key, const char *name, bool sparse,
                    struct err *err)
{
    char uuid[UUID_TEXT_SIZE];
    uuid_of(key, uuid);
    AUTO(freep) char *program = find_program();
    AUTO(freep) char *from = str_printf("%s/layers/%s", store->path, key);
    AUTO(freep) char *to = str_printf("%s/work/%s", store->path, name);
    if (program == NULL) {
        (void)err_say(err, ENOENT, "there is no " PROGRAM " to make a disk of layer %.12s", key);
        err_hint(err, "apt-get install erofs-utils");
        return -ENOENT;
    }
    if (from == NULL || to == NULL) {
        return err_set(err, ENOMEM, "make a disk of layer %.12s", key);
    }
    char *argv[16] = {"env", EPOCH, program, "--quiet", "-U", uuid};
    size_t n = 6;
    if (sparse) {
        argv[n++] = "--chunksize=4096";
    }
    argv[n++] = to;
    argv[n++] = from;
    int r = process_run(argv, NULL, err);
    return r < 0 ? err_wrap(err, -r, "make a disk of layer %.12s", key) : 0;
}

/* In place by rename, and on the disk before it has its name. */
static int commit(struct image_store *store, const char *key, const char *name)
{
    AUTO(closep) int work = openat(store->fd, "work", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closep) int dir = openat(store->fd, "erofs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closep) int fd = work < 0 ? -1 : openat(work, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || dir < 0) {
        return -errno;
    }
    if (!is_whole(work, name)) {
        return -EBADMSG;
    }
    return fchmod(fd, 0600) < 0 || fsync(fd) < 0 || renameat(work, name, dir, key) < 0 ||
                   fsync(dir) < 0
               ? -errno
               : 0;
}

static int make(struct image_store *store, const char *key, struct err *err)
{
    AUTO(freep) char *name = str_printf("%s.erofs", key);
    AUTO(closep) int layers = openat(store->fd, "layers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closep) int work = openat(store->fd, "work", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    uint64_t holes = 0;
    if (name == NULL || layers < 0 || work < 0) {
        return err_set(err, name == NULL ? ENOMEM : errno, "make a disk of layer %.12s", key);
    }
    int r = count_holes(layers, key, 0, &holes);
    if (r < 0) {
        return err_set(err, -r, "read layer %.12s", key);
    }
    if (holes > HOLES_REFUSED) {
        return err_say(err, EFBIG,
                       "layer %.12s has sparse files with %llu GiB of holes, more than a disk can "
                       "be made of in sensible time",
                       key, (unsigned long long)(holes >> 30));
    }
    (void)unlinkat(work, name, 0);
    r = run_mkfs(store, key, name, holes > HOLES_MAX, err);
    if (r == 0) {
        r = commit(store, key, name);
        r = r < 0 ? err_set(err, -r, "keep the disk of layer %.12s", key) : 0;
    }
    if (r < 0) {
        (void)unlinkat(work, name, 0);
    }
    return r;
}

static int get(struct image_store *store, const char *key, char **ret, struct err *err)
{
    AUTO(freep) char *path = str_printf("%s/erofs/%s", store->path, key);
    AUTO(freep) char *lock_name = str_printf("work/%s.erofs.lock", key);
    if (path == NULL || lock_name == NULL) {
        return err_set(err, ENOMEM, "find the disk of layer %.12s", key);
    }
    if (access(path, F_OK) < 0) {
        AUTO(closep) int lock = lock_file_at(store->fd, lock_name, LOCK_EXCLUSIVE, true);
        if (lock < 0) {
            return err_set(err, -lock, "lock '%s/%s'", store->path, lock_name);
        }
        /* Another process may have made it meanwhile. */
        int r = access(path, F_OK) == 0 ? 0 : make(store, key, err);
        (void)unlinkat(store->fd, lock_name, 0);
        if (r < 0) {
            return r;
        }
    }
    *ret = TAKE_PTR(path);
    return 0;
}

int image_erofs(struct image_store *store, const struct image *image, struct strv *ret_paths,
                struct err *err)
{
    AUTO(strv_donep) struct strv paths = {0};
    int r = 0;
    {
        /* Nobody sweeps meanwhile. */
        AUTO(closep) int lock = store_lock_shared(store, err);
        r = MIN(lock, 0);
        for (size_t i = 0; r == 0 && i < image->layers.count; i++) {
            const char *slash = strrchr(image->layers.items[i], '/');
            const char *key = slash != NULL ? slash + 1 : image->layers.items[i];
            char *path = NULL;
            r = strspn(key, "0123456789abcdef") == 64 && key[64] == '\0'
                    ? get(store, key, &path, err)
                    : err_say(err, EINVAL, "'%s' is no layer of the store", image->layers.items[i]);
            if (r == 0 && strv_push(&paths, path) < 0) {
                r = err_set(err, ENOMEM, "list disks");
            }
        }
    }
    store_sweep_if_wanted(store);
    for (size_t i = 0; r == 0 && i < paths.count; i++) {
        r = strv_add(ret_paths, paths.items[i]) < 0 ? err_set(err, ENOMEM, "list disks") : 0;
    }
    return r;
}

int image_erofs_check(struct image_store *store, bool repair, struct strv *ret_problems,
                      struct err *err)
{
    int fd = openat(store->fd, "erofs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closedirp) DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        int r = errno == ENOENT ? 0 : err_set(err, errno, "list '%s/erofs'", store->path);
        (void)close_fd(fd);
        return r;
    }
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.' || is_whole(dirfd(dir), entry->d_name)) {
            continue;
        }
        if (repair && unlinkat(dirfd(dir), entry->d_name, 0) < 0 && errno != ENOENT) {
            return err_set(err, errno, "remove '%s/erofs/%s'", store->path, entry->d_name);
        }
        int r = strv_addf(ret_problems, "disk of layer %.12s is damaged; %s", entry->d_name,
                          repair ? "it is made again when a virtual machine needs it"
                                 : "isola image check --repair removes it, and the next virtual "
                                   "machine makes it again");
        if (r < 0) {
            return err_set(err, -r, "verify");
        }
    }
    return 0;
}
