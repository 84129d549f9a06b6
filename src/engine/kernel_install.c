#include "engine/kernel_install.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "engine/kernel.h"
#include "engine/kernel_fetch.h"
#include "engine/kernel_modules.h"
#include "vmm/boot/boot.h"

#define TEMP_PREFIX ".new-"
#define GONE_PREFIX ".gone-"

/* What is to be installed, found. */
struct parts {
    int image;        /* bzImage or ELF */
    int modules;      /* a tree as /lib/modules/VERSION; -1: none */
    char *image_name; /* for errors */
    char *version;
};

static void parts_done(struct parts *parts)
{
    (void)close_fd(parts->image);
    (void)close_fd(parts->modules);
    free(parts->image_name);
    free(parts->version);
}
DEFINE_DONEP(struct parts, parts_done)

/* The folder of a new kernel while it is made: ROOT/kernels/.new-PID. */
struct place {
    int dir;  /* ROOT/kernels, borrowed */
    int temp; /* the folder */
    char name[32];
    char *path;
};

static void place_done(struct place *place)
{
    if (place->temp >= 0) {
        (void)close_fd(place->temp);
        (void)remove_tree_at(place->dir, place->name);
    }
    free(place->path);
}
DEFINE_DONEP(struct place, place_done)

/* Removes what a crash left; the lock is held, so nobody else is at work. */
static int sweep(int dir)
{
    int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closedirp) DIR *list = again >= 0 ? fdopendir(again) : NULL;
    if (list == NULL) {
        return -errno;
    }
    const struct dirent *entry = NULL;
    int r = 0;
    while (r == 0 && (entry = readdir(list)) != NULL) {
        if (str_starts(entry->d_name, TEMP_PREFIX) || str_starts(entry->d_name, GONE_PREFIX)) {
            r = remove_tree_at(dir, entry->d_name);
        }
    }
    return r;
}

static int place_open(const char *root, int dir, struct place *ret, struct err *err)
{
    struct place place = {.dir = dir, .temp = -1};
    (void)snprintf(place.name, sizeof(place.name), TEMP_PREFIX "%d", (int)getpid());
    int r = sweep(dir);
    if (r == 0 && mkdirat(dir, place.name, 0755) < 0) {
        r = -errno;
    }
    if (r < 0) {
        return err_set(err, -r, "make a folder in '%s/kernels'", root);
    }
    place.temp = openat(dir, place.name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    place.path = str_printf("%s/kernels/%s", root, place.name);
    if (place.temp < 0 || place.path == NULL) {
        r = err_set(err, place.temp < 0 ? errno : ENOMEM, "make a folder in '%s/kernels'", root);
        place_done(&place);
        return r;
    }
    *ret = place;
    return 0;
}

/* The version of a package: the only name in its lib/modules, opened as parts->modules. */
static int find_modules(int tree, const char *package, struct parts *parts, struct err *err)
{
    static const char *const folders[] = {"lib/modules", "usr/lib/modules"};
    for (size_t i = 0; i < COUNT(folders); i++) {
        int fd = open_in_root(tree, folders[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
        AUTO(closedirp) DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
        const struct dirent *entry = NULL;
        while (list != NULL && (entry = readdir(list)) != NULL) {
            if (!name_is_safe(entry->d_name)) {
                continue;
            }
            parts->modules =
                openat(dirfd(list), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            if (parts->modules >= 0) {
                parts->version = strdup(entry->d_name);
                return parts->version != NULL ? 0 : err_set(err, ENOMEM, "read '%s'", package);
            }
        }
    }
    return err_say(err, ENOEXEC, "package '%s' has no kernel with modules", package);
}

static int open_package(const char *package, const struct place *place, struct parts *parts,
                        struct err *err)
{
    AUTO(freep) char *dir = str_printf("%s/package", place->path);
    if (dir == NULL) {
        return err_set(err, ENOMEM, "unpack package '%s'", package);
    }
    int r = kernel_unpack_package(package, dir, err);
    if (r < 0) {
        return r;
    }
    AUTO(closep) int tree = openat(place->temp, "package", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (tree < 0) {
        return err_set(err, errno, "open package '%s'", package);
    }
    r = find_modules(tree, package, parts, err);
    if (r < 0) {
        return r;
    }
    parts->image_name = str_printf("boot/vmlinuz-%s", parts->version);
    parts->image = parts->image_name != NULL
                       ? open_in_root(tree, parts->image_name, O_RDONLY | O_CLOEXEC, 0)
                       : -ENOMEM;
    return parts->image >= 0
               ? 0
               : err_set(err, -parts->image, "open '%s' of package '%s'",
                         parts->image_name != NULL ? parts->image_name : "boot", package);
}

static int open_file(const struct kernel_install *install, struct parts *parts, struct err *err)
{
    if (install->modules != NULL) {
        parts->modules = open(install->modules, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (parts->modules < 0) {
            return err_set(err, errno, "open '%s'", install->modules);
        }
    }
    if (install->name != NULL) {
        return 0;
    }
    char version[BOOT_VERSION_SIZE];
    int r = boot_kernel_version(parts->image, parts->image_name, version, err);
    if (r == -ENOENT) {
        err_hint(err, "name it with --name");
    }
    if (r < 0) {
        return r;
    }
    parts->version = strdup(version);
    return parts->version != NULL ? 0 : err_set(err, ENOMEM, "read '%s'", install->from);
}

/* A kernel file, or a package by its first bytes. */
static int open_from(const struct kernel_install *install, const struct place *place,
                     struct parts *parts, struct err *err)
{
    char magic[8] = "";
    AUTO(closep) int fd = open(install->from, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? pread(fd, magic, sizeof(magic), 0) : -1;
    if (n < 0) {
        return err_set(err, errno, "open '%s'", install->from);
    }
    if (n == sizeof(magic) && memcmp(magic, "!<arch>\n", sizeof(magic)) == 0) {
        return install->modules == NULL
                   ? open_package(install->from, place, parts, err)
                   : err_say(err, EINVAL, "--modules goes with a kernel file; '%s' is a package",
                             install->from);
    }
    parts->image_name = strdup(install->from);
    if (parts->image_name == NULL) {
        return err_set(err, ENOMEM, "open '%s'", install->from);
    }
    parts->image = TAKE_FD(fd);
    return open_file(install, parts, err);
}

static int open_fetched(const struct place *place, struct parts *parts, struct err *err)
{
    AUTO(freep) char *package = NULL;
    AUTO(freep) char *dir = str_printf("%s/download", place->path);
    if (dir == NULL || mkdirat(place->temp, "download", 0755) < 0) {
        return err_set(err, dir == NULL ? ENOMEM : errno, "download a kernel");
    }
    int r = kernel_fetch(dir, &package, err);
    return r < 0 ? r : open_package(package, place, parts, err);
}

/* Makes place/kernel/{vmlinux,modules}. */
static int build(const struct parts *parts, const struct place *place, struct strv *missing,
                 struct err *err)
{
    AUTO(closep) int dir = -1;
    AUTO(closep) int image = -1;
    AUTO(closep) int modules = -1;
    if (mkdirat(place->temp, "kernel", 0755) < 0 ||
        (dir = openat(place->temp, "kernel", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
        (image = openat(dir, "vmlinux", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644)) < 0 ||
        mkdirat(dir, "modules", 0755) < 0 ||
        (modules = openat(dir, "modules", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
        return err_set(err, errno, "make the kernel's folder");
    }
    int r = boot_unpack_to(parts->image, parts->image_name, image, err);
    if (r == 0 && parts->modules >= 0) {
        r = kernel_modules_copy(parts->modules, modules, missing, err);
    }
    /* All of it is on the disk before it gets its name. */
    if (r == 0 && syncfs(dir) < 0) {
        r = err_set(err, errno, "write the kernel");
    }
    return r;
}

/* Gives the folder its name; one of that name goes in the same step. */
static int publish(const struct place *place, const char *version, struct err *err)
{
    int r = renameat2(place->temp, "kernel", place->dir, version, RENAME_NOREPLACE);
    if (r < 0 && errno == EEXIST) {
        r = renameat2(place->temp, "kernel", place->dir, version, RENAME_EXCHANGE);
    }
    if (r < 0 || fsync(place->dir) < 0) {
        return err_set(err, errno, "keep kernel '%s'", version);
    }
    return 0;
}

static bool has_default(const char *root)
{
    AUTO(closep) int fd = kernel_open(root, NULL, NULL);
    return fd >= 0;
}

int kernel_install(const struct kernel_install *install, char **ret_version,
                   struct strv *ret_missing, struct err *err)
{
    AUTO(closep) int dir = -1;
    AUTO(closep) int lock = -1;
    AUTO(place_donep) struct place place = {.temp = -1};
    AUTO(parts_donep) struct parts parts = {.image = -1, .modules = -1};
    int r = kernel_store_lock(install->root, &dir, &lock, err);
    r = r < 0 ? r : place_open(install->root, dir, &place, err);
    if (r < 0) {
        return r;
    }
    r = install->from != NULL ? open_from(install, &place, &parts, err)
                              : open_fetched(&place, &parts, err);
    if (r < 0) {
        return r;
    }
    const char *version = install->name != NULL ? install->name : parts.version;
    if (!name_is_safe(version) || str_eq(version, "default")) {
        return err_say(err, EINVAL, "'%s' cannot be the name of a kernel", version);
    }
    r = build(&parts, &place, ret_missing, err);
    r = r < 0 ? r : publish(&place, version, err);
    if (r == 0 && (!install->not_default || !has_default(install->root))) {
        r = kernel_store_point(dir, version, err);
    }
    if (r < 0) {
        return r;
    }
    char *copy = strdup(version);
    if (copy == NULL) {
        return err_set(err, ENOMEM, "install kernel");
    }
    *ret_version = copy;
    return 0;
}
