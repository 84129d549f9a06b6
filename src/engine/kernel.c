#include "engine/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/io.h"
#include "base/lock.h"
#include "base/path.h"
#include "base/str.h"

#define FOLDER "kernels"
#define DEFAULT "default"
#define LINK_TEMP ".default.tmp"
#define LOCK_NAME ".lock"
#define ORDER_MAX ((size_t)1 << 20)

void kernel_list_done(struct kernel_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].version);
    }
    free(list->items);
    *list = (struct kernel_list){0};
}

/* ROOT/kernels, or -ENOENT. */
static int open_folder(const char *root)
{
    AUTO(closep) int root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0) {
        return -errno;
    }
    int fd = openat(root_fd, FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int kernel_store_lock(const char *root, int *ret_dir, int *ret_lock, struct err *err)
{
    AUTO(closep) int root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0 || (mkdirat(root_fd, FOLDER, 0755) < 0 && errno != EEXIST)) {
        return err_set(err, errno, "make '%s/" FOLDER "'", root);
    }
    AUTO(closep) int dir = openat(root_fd, FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0) {
        return err_set(err, errno, "open '%s/" FOLDER "'", root);
    }
    int lock = lock_file_at(dir, LOCK_NAME, LOCK_EXCLUSIVE, true);
    if (lock < 0) {
        return err_set(err, -lock, "lock '%s/" FOLDER "'", root);
    }
    *ret_dir = TAKE_FD(dir);
    *ret_lock = lock;
    return 0;
}

int kernel_store_point(int dir, const char *version, struct err *err)
{
    (void)unlinkat(dir, LINK_TEMP, 0);
    if (symlinkat(version, dir, LINK_TEMP) < 0 || renameat(dir, LINK_TEMP, dir, DEFAULT) < 0) {
        return err_set(err, errno, "make kernel '%s' the default", version);
    }
    return 0;
}

static size_t count_modules(int kernel_fd)
{
    AUTO(buf_donep) struct buf order = {0};
    size_t count = 0;
    if (read_file_at(kernel_fd, "modules/order", ORDER_MAX, &order) == 0) {
        for (size_t i = 0; i < order.len; i++) {
            count += order.data[i] == '\n';
        }
    }
    return count;
}

/* One name of the folder; 1 when it is a kernel. */
static int read_kernel(int folder, const char *name, const char *def, struct kernel *ret)
{
    struct stat st;
    if (!name_is_safe(name) || str_eq(name, DEFAULT)) {
        return 0;
    }
    AUTO(closep) int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstatat(fd, "vmlinux", &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode)) {
        return 0;
    }
    *ret = (struct kernel){
        .version = strdup(name),
        .bytes = (uint64_t)st.st_size,
        .modules = count_modules(fd),
        .created_ns = st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec,
        .is_default = str_eq(name, def),
    };
    return ret->version != NULL ? 1 : -ENOMEM;
}

static int by_version(const void *a, const void *b)
{
    const struct kernel *left = a;
    const struct kernel *right = b;
    return strverscmp(left->version, right->version);
}

static int list_folder(int folder, struct kernel_list *ret)
{
    AUTO(kernel_list_donep) struct kernel_list list = {0};
    AUTO(freep) char *def = NULL;
    int r = read_link_at(folder, DEFAULT, &def);
    if (r < 0 && r != -ENOENT) {
        return r;
    }
    int again = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closedirp) DIR *dir = again >= 0 ? fdopendir(again) : NULL;
    if (dir == NULL) {
        return -errno;
    }
    const struct dirent *entry = NULL;
    while ((entry = readdir(dir)) != NULL) {
        struct kernel kernel;
        r = read_kernel(folder, entry->d_name, def, &kernel);
        if (r <= 0) {
            if (r < 0) {
                return r;
            }
            continue;
        }
        struct kernel *more = reallocarray(list.items, list.count + 1, sizeof(*more));
        if (more == NULL) {
            free(kernel.version);
            return -ENOMEM;
        }
        list.items = more;
        list.items[list.count++] = kernel;
    }
    if (list.count > 1) {
        qsort(list.items, list.count, sizeof(*list.items), by_version);
    }
    *ret = list;
    list = (struct kernel_list){0};
    return 0;
}

int kernel_list(const char *root, struct kernel_list *ret, struct err *err)
{
    AUTO(closep) int folder = open_folder(root);
    if (folder == -ENOENT) {
        *ret = (struct kernel_list){0};
        return 0;
    }
    int r = folder < 0 ? folder : list_folder(folder, ret);
    return r < 0 ? err_set(err, -r, "list the kernels in '%s/" FOLDER "'", root) : 0;
}

static int missing(const char *version, struct err *err)
{
    if (version == NULL) {
        (void)err_say(err, ENOENT, "there is no kernel for virtual machines");
        err_hint(err, "get one with: isola kernel install");
        return -ENOENT;
    }
    return err_say(err, ENOENT, "no such kernel: '%s'", version);
}

int kernel_open(const char *root, const char *version, struct err *err)
{
    AUTO(closep) int folder = open_folder(root);
    AUTO(freep) char *def = NULL;
    int r = folder < 0 ? folder : 0;
    if (r == 0 && version == NULL) {
        r = read_link_at(folder, DEFAULT, &def);
    }
    const char *name = version != NULL ? version : def;
    if (r == -ENOENT || (r == 0 && (!name_is_safe(name) || str_eq(name, DEFAULT)))) {
        return missing(version, err);
    }
    int fd = r < 0 ? r : openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd == -1 && errno == ENOENT) {
        return missing(version, err);
    }
    return fd >= 0 ? fd : err_set(err, fd == -1 ? errno : -fd, "open kernel '%s'", name);
}

int kernel_set_default(const char *root, const char *version, struct err *err)
{
    AUTO(closep) int dir = -1;
    AUTO(closep) int lock = -1;
    int r = kernel_store_lock(root, &dir, &lock, err);
    if (r < 0) {
        return r;
    }
    AUTO(closep) int kernel = kernel_open(root, version, err);
    return kernel < 0 ? kernel : kernel_store_point(dir, version, err);
}

/* The default was removed: the newest takes its place, or there is none. */
static int choose_default(int dir, struct err *err)
{
    AUTO(kernel_list_donep) struct kernel_list list = {0};
    int r = list_folder(dir, &list);
    if (r < 0) {
        return err_set(err, -r, "list kernels");
    }
    const struct kernel *newest = NULL;
    for (size_t i = 0; i < list.count; i++) {
        if (newest == NULL || list.items[i].created_ns > newest->created_ns) {
            newest = &list.items[i];
        }
        if (list.items[i].is_default) {
            return 0;
        }
    }
    if (newest != NULL) {
        return kernel_store_point(dir, newest->version, err);
    }
    return unlinkat(dir, DEFAULT, 0) < 0 && errno != ENOENT
               ? err_set(err, errno, "remove the default kernel")
               : 0;
}

int kernel_remove(const char *root, const char *version, struct err *err)
{
    AUTO(closep) int dir = -1;
    AUTO(closep) int lock = -1;
    int r = kernel_store_lock(root, &dir, &lock, err);
    if (r < 0) {
        return r;
    }
    AUTO(closep) int kernel = kernel_open(root, version, err);
    if (kernel < 0) {
        return kernel;
    }
    /* In one step out of sight; a crash leaves what the next change sweeps. */
    AUTO(freep) char *temp = str_printf(".gone-%s", version);
    if (temp == NULL) {
        return err_set(err, ENOMEM, "remove kernel '%s'", version);
    }
    r = remove_tree_at(dir, temp);
    if (r == 0 && renameat(dir, version, dir, temp) < 0) {
        r = -errno;
    }
    r = r < 0 ? r : remove_tree_at(dir, temp);
    return r < 0 ? err_set(err, -r, "remove kernel '%s'", version) : choose_default(dir, err);
}
