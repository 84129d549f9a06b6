#include "guest/rootfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/str.h"
#include "guest/boot.h"

#define DISKS "/sys/block"
#define LAYERS GUEST_RUN "/l"
#define SCRATCH GUEST_RUN "/scratch"
#define MERGED GUEST_RUN "/root"

/* The device whose serial this is: "/dev/vdb", the caller's. */
static int find_disk(const char *serial, char **ret, struct err *err)
{
    AUTO(closedirp) DIR *dir = opendir(DISKS);
    struct dirent *entry;
    if (dir == NULL) {
        return err_set(err, errno, "list '" DISKS "'");
    }
    while ((entry = readdir(dir)) != NULL) {
        AUTO(buf_donep) struct buf text = {0};
        AUTO(freep) char *path = str_printf("%s/serial", entry->d_name);
        if (path == NULL) {
            return err_set(err, ENOMEM, "find disk '%s'", serial);
        }
        if (read_file_at(dirfd(dir), path, GUEST_SERIAL_SIZE + 1, &text) < 0 || text.len == 0) {
            continue;
        }
        text.data[strcspn(text.data, "\n")] = '\0';
        if (str_eq(text.data, serial)) {
            *ret = str_printf("/dev/%s", entry->d_name);
            return *ret != NULL ? 0 : err_set(err, ENOMEM, "find disk '%s'", serial);
        }
    }
    return err_say(err, ENODEV, "no disk has the serial '%s'", serial);
}

static int mount_at(const char *source, const char *at, const char *type, unsigned long flags,
                    const char *options)
{
    int r = mkdir_parents(at, 0755);
    return r < 0 ? r : mount(source, at, type, flags, options) < 0 ? -errno : 0;
}

/* The n-th layer at LAYERS/n. */
static int mount_layer(const struct guest_layer *layer, size_t n, struct err *err)
{
    char at[sizeof(LAYERS) + 24];
    AUTO(freep) char *disk = NULL;
    (void)snprintf(at, sizeof(at), LAYERS "/%zu", n);
    if (layer->directory != NULL) {
        int r = mount_at(layer->directory, at, NULL, MS_BIND, NULL);
        return r < 0 ? err_set(err, -r, "root: layer %zu: bind '%s'", n, layer->directory) : 0;
    }
    int r = find_disk(layer->serial, &disk, err);
    if (r < 0) {
        return err_wrap(err, -r, "root: layer %zu", n);
    }
    r = mount_at(disk, at, "erofs", MS_RDONLY, NULL);
    if (r < 0) {
        (void)err_set(err, -r, "root: layer %zu: mount '%s' (disk '%s') as erofs", n, disk,
                      layer->serial);
        if (r == -ENODEV) {
            err_hint(err, "the module erofs is not loaded");
        }
    }
    return r;
}

static int mount_scratch(const struct guest_scratch *scratch, struct err *err)
{
    AUTO(freep) char *disk = NULL;
    char options[64] = "mode=755";
    int r;
    if (scratch->serial == NULL) {
        if (scratch->tmpfs_size > 0) {
            (void)snprintf(options, sizeof(options), "mode=755,size=%llu",
                           (unsigned long long)scratch->tmpfs_size);
        }
        r = mount_at("scratch", SCRATCH, "tmpfs", 0, options);
        return r < 0 ? err_set(err, -r, "root: mount a tmpfs for changes") : 0;
    }
    r = find_disk(scratch->serial, &disk, err);
    if (r < 0) {
        return err_wrap(err, -r, "root: disk for changes");
    }
    r = mount_at(disk, SCRATCH, scratch->fstype, MS_NOATIME, NULL);
    return r < 0 ? err_set(err, -r, "root: mount '%s' (disk '%s') as %s for changes", disk,
                           scratch->serial, scratch->fstype)
                 : 0;
}

static int mount_shares(const struct guest_config *config, struct err *err)
{
    for (size_t i = 0; i < config->share_count; i++) {
        const struct guest_share *share = &config->shares[i];
        int r =
            mount_at(share->tag, share->path, "virtiofs", share->read_only ? MS_RDONLY : 0, NULL);
        if (r < 0) {
            return err_set(err, -r, "share '%s': mount on '%s'", share->tag, share->path);
        }
    }
    return 0;
}

/* What is mounted somewhere needs a place there: a directory, or for a file a file. */
static int make_place(int root, const json_t *mount)
{
    const char *to = json_string_value(json_object_get(mount, "destination"));
    const char *from = json_string_value(json_object_get(mount, "source"));
    const char *type = json_string_value(json_object_get(mount, "type"));
    const char *slash = to == NULL ? NULL : strrchr(to, '/');
    struct stat st;
    if (slash == NULL) {
        return 0; /* whoever mounts it says what is wrong with it */
    }
    if (!str_eq(type, "bind") || from == NULL || stat(from, &st) < 0 || S_ISDIR(st.st_mode)) {
        AUTO(closep) int dir = mkdir_in_root(root, to, 0755);
        return MIN(dir, 0);
    }
    AUTO(freep) char *parent = strndup(to, (size_t)(slash - to) + 1);
    AUTO(closep) int dir = parent == NULL ? -ENOMEM : mkdir_in_root(root, parent, 0755);
    if (dir < 0 || !path_is_plain_name(slash + 1)) {
        return MIN(dir, 0);
    }
    AUTO(closep)
    int fd = openat(dir, slash + 1, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
    return fd < 0 ? -errno : 0;
}

/*
 * The lowest layer, so that places of mounts are no changes of the workload's: `diff` and `commit`
 * look at those.
 */
static int make_places(const char *at, const json_t *mounts)
{
    size_t index;
    json_t *mount;
    int r = mkdir_parents(at, 0755);
    AUTO(closep) int root = r < 0 ? r : open(at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    r = root < 0 ? -errno : 0;
    json_array_foreach ((json_t *)(uintptr_t)mounts, index, mount) {
        r = r < 0 ? r : make_place(root, mount);
    }
    return r;
}

/* The root directory of the merged tree shows owner and mode of upper: those of the image. */
static int make_upper(void)
{
    struct stat st;
    if (stat(LAYERS "/0", &st) < 0) {
        return -errno;
    }
    if (mkdir(SCRATCH "/work", 0700) < 0 && errno != EEXIST) {
        return -errno;
    }
    if (mkdir(SCRATCH "/upper", 0755) < 0) {
        return errno == EEXIST ? 0 : -errno;
    }
    return chown(SCRATCH "/upper", st.st_uid, st.st_gid) < 0 ||
                   chmod(SCRATCH "/upper", st.st_mode & 07777) < 0
               ? -errno
               : 0;
}

/* Names relative to LAYERS, for the kernel takes one page of options. */
static int mount_overlay(size_t layers, bool user_xattrs)
{
    AUTO(buf_donep) struct buf options = {0};
    AUTO(closep) int before = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r = buf_add_str(&options, user_xattrs ? "userxattr," : "redirect_dir=off,metacopy=off,");
    r = r < 0
            ? r
            : buf_add_str(&options, "upperdir=../scratch/upper,workdir=../scratch/work,lowerdir=");
    for (size_t i = 0; r == 0 && i < layers; i++) {
        r = buf_printf(&options, i == 0 ? "%zu" : ":%zu", i);
    }
    if (r < 0 || options.len >= (size_t)sysconf(_SC_PAGESIZE)) {
        return r < 0 ? r : -E2BIG;
    }
    if (before < 0 || chdir(LAYERS) < 0) {
        return -errno;
    }
    r = mount_at("isola", MERGED, "overlay", 0, options.data);
    return fchdir(before) < 0 && r == 0 ? -errno : r;
}

/* An image may have a link there that leads to nothing; it would be no place for a mount. */
static int make_room(int root, const char *path)
{
    const char *slash = strrchr(path, '/');
    AUTO(closep) int there = open_in_root(root, path, O_PATH, 0);
    if (there != -ENOENT) {
        return MIN(there, 0);
    }
    AUTO(freep) char *parent = strndup(path, (size_t)(slash - path) + 1);
    AUTO(closep) int dir = parent == NULL ? -ENOMEM : mkdir_in_root(root, parent, 0755);
    return dir < 0 ? dir : unlinkat(dir, slash + 1, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int rootfs_build(const struct guest_config *config, const json_t *mounts, struct err *err)
{
    char places[sizeof(LAYERS) + 24];
    (void)snprintf(places, sizeof(places), LAYERS "/%zu", config->layer_count);
    int r = mount_shares(config, err);
    for (size_t i = 0; r == 0 && i < config->layer_count; i++) {
        r = mount_layer(&config->layers[i], i, err);
    }
    r = r < 0 ? r : mount_scratch(&config->scratch, err);
    if (r < 0) {
        return r;
    }
    r = make_places(places, mounts);
    if (r < 0) {
        return err_set(err, -r, "root: make places for mounts");
    }
    r = make_upper();
    if (r < 0) {
        return err_set(err, -r, "root: make directories for changes");
    }
    r = mount_overlay(config->layer_count + 1, config->user_xattrs);
    if (r < 0) {
        return err_set(err, -r, "root: mount an overlay of %zu layers", config->layer_count);
    }
    int fd = open_tree(AT_FDCWD, MERGED, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (fd < 0) {
        return err_set(err, errno, "root: take the overlay");
    }
    (void)umount2(MERGED, MNT_DETACH);
    for (size_t i = 0; r == 0 && i < config->file_count; i++) {
        r = make_room(fd, config->files[i].path);
        if (r < 0) {
            (void)err_set(err, -r, "root: make room for '%s'", config->files[i].path);
        }
    }
    if (r < 0) {
        (void)close(fd);
    }
    return r < 0 ? r : fd;
}

int rootfs_write_files(const struct guest_config *config, struct err *err)
{
    int r = mkdir_parents(GUEST_FILES_DIR, 0755);
    for (size_t i = 0; r == 0 && i < config->file_count; i++) {
        const struct guest_file *file = &config->files[i];
        char path[sizeof(GUEST_FILES_DIR) + 24];
        (void)snprintf(path, sizeof(path), GUEST_FILES_DIR "/%zu", i);
        AUTO(closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        r = fd < 0 ? -errno : write_full(fd, file->text, strlen(file->text));
        r = r < 0 ? r : fchmod(fd, file->mode) < 0 ? -errno : 0;
        if (r < 0) {
            return err_set(err, -r, "write '%s'", file->path);
        }
    }
    return r < 0 ? err_set(err, -r, "make '" GUEST_FILES_DIR "'") : 0;
}
