#include "cmd/rootfd.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "container/kernel.h"
#include "container/mounts.h"
#include "engine/mount_spec.h"
#include "engine/rootfs.h"

int rootfd_open(struct engine *engine, const struct workload *workload, struct err *err)
{
    if (workload->state == WORKLOAD_RUNNING || workload->state == WORKLOAD_PAUSED) {
        char path[64];
        (void)snprintf(path, sizeof(path), "/proc/%d/root", (int)workload->status.pid);
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? err_set(err, errno, "open the root of '%s'", workload->name) : fd;
    }
    AUTO(freep) char *upper = workload_root_path(engine, workload->id, "upper");
    AUTO(freep) char *work = workload_root_path(engine, workload->id, "work");
    if (upper == NULL || work == NULL) {
        return err_set(err, ENOMEM, "open the root of '%s'", workload->name);
    }
    const struct rootfs_options rootfs = {
        .id_map_fd = -1,
        .base = engine->dirs.root,
        .layers = &workload->config.layers,
        .upper = upper,
        .work = work,
        .throw_away = workload->config.rm,
    };
    return rootfs_mount(&rootfs, err);
}

int rootfd_open_ids(const struct workload *workload, int *ret_fd, struct err *err)
{
    char path[64];
    struct stat theirs;
    struct stat own;
    if (workload->state != WORKLOAD_RUNNING && workload->state != WORKLOAD_PAUSED) {
        return 0;
    }
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)workload->status.pid);
    AUTO(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &theirs) < 0 || stat("/proc/self/ns/user", &own) < 0) {
        return err_set(err, errno, "open the user namespace of '%s'", workload->name);
    }
    if (theirs.st_ino != own.st_ino) {
        *ret_fd = TAKE_FD(fd);
    }
    return 0;
}

int rootfd_enter_ids(int fd, struct err *err)
{
    if (fd < 0) {
        return 0;
    }
    if (setns(fd, CLONE_NEWUSER) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0) {
        return err_set(err, errno, "enter the user namespace of the workload");
    }
    return 0;
}

/* Without "//", "." and "..", as a program with the root as working directory would mean it. */
static char *normalise(const char *path)
{
    AUTO(strv_donep) struct strv words = {0};
    AUTO(buf_donep) struct buf out = {0};
    if (strv_split(&words, path, "/") < 0 || buf_add_str(&out, "") < 0) {
        return NULL;
    }
    for (size_t i = 0; i < words.count; i++) {
        if (str_eq(words.items[i], "..")) {
            char *slash = strrchr(out.data, '/');
            out.len = slash != NULL ? (size_t)(slash - out.data) : 0;
            out.data[out.len] = '\0';
        } else if (!str_eq(words.items[i], ".") && buf_printf(&out, "/%s", words.items[i]) < 0) {
            return NULL;
        }
    }
    return buf_take(&out);
}

/* The innermost bind mount or volume that path is on; NULL: on none. */
static const struct mount_spec *find_mount(const struct mount_specs *mounts, const char *path)
{
    const struct mount_spec *found = NULL;
    for (size_t i = 0; i < mounts->count; i++) {
        const struct mount_spec *mount = &mounts->items[i];
        size_t len = strlen(mount->target);
        if (strncmp(path, mount->target, len) == 0 && (path[len] == '/' || path[len] == '\0') &&
            mount->type != MOUNT_TMPFS && (found == NULL || len > strlen(found->target))) {
            found = mount;
        }
    }
    return found;
}

static char *source_of(struct engine *engine, const struct workload *workload,
                       const struct mount_spec *mount)
{
    if (mount->type == MOUNT_BIND) {
        return strdup(mount->source);
    }
    const char *name = mount->source != NULL
                           ? mount->source
                           : env_get(&workload->config.anonymous_volume, mount->target);
    return name != NULL ? str_printf("%s/volumes/%s/_data", engine->dirs.root, name) : NULL;
}

/* rest: what follows the mount's target; suffix: "", "/" or "/." of the user's path. */
static int open_mount(char *source, const char *rest, const char *suffix, int *ret_fd,
                      char **ret_path, struct err *err)
{
    struct stat st;
    if (stat(source, &st) < 0) {
        return err_set(err, errno, "open '%s'", source);
    }
    /* A file that was mounted is looked up in its directory. */
    char *slash = strrchr(source, '/');
    const char *name = S_ISDIR(st.st_mode) ? "" : slash;
    AUTO(freep) char *path = str_printf("%s%s%s", name, rest, suffix);
    if (path != NULL && path[0] == '\0') {
        free(path);
        path = strdup("/.");
    }
    if (!S_ISDIR(st.st_mode)) {
        *slash = '\0';
    }
    AUTO(closep)
    int fd = open(source[0] != '\0' ? source : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || path == NULL) {
        return err_set(err, fd < 0 ? errno : ENOMEM, "open '%s'", source);
    }
    *ret_fd = TAKE_FD(fd);
    *ret_path = TAKE_PTR(path);
    return 0;
}

static bool is_below(const char *path, const char *dir)
{
    size_t len = strlen(dir);
    return strncmp(path, dir, len) == 0 && (path[len] == '/' || len == 0);
}

static bool has_below(const struct mount_specs *mounts, const char *path)
{
    for (size_t i = 0; i < mounts->count; i++) {
        if (mounts->items[i].type != MOUNT_TMPFS && is_below(mounts->items[i].target, path)) {
            return true;
        }
    }
    return false;
}

static int attach_source(int root_fd, char *source, const struct mount_spec *mount, struct err *err)
{
    struct stat st;
    AUTO(closep)
    int fd = open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    struct mount_attr attr = {.attr_set = mount->read_only ? MOUNT_ATTR_RDONLY : 0};
    if (fd < 0 || fstat(fd, &st) < 0 ||
        (mount->read_only && mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)) {
        return err_set(err, errno, "open '%s', which is mounted at '%s'", source, mount->target);
    }
    return mount_attach_at(root_fd, fd, mount->target, S_ISDIR(st.st_mode), err);
}

/*
 * What a start would mount below path, for whoever walks over it; in a mount namespace that ends
 * with this process. The root is put over RUN there: before Linux 6.15 what is not attached takes
 * no mounts.
 */
static int attach_below(struct engine *engine, const struct workload *workload,
                        const struct mount_specs *mounts, const char *path, int root_fd,
                        struct err *err)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ||
        move_mount(root_fd, "", AT_FDCWD, engine->dirs.run, MOVE_MOUNT_F_EMPTY_PATH) < 0) {
        return err_set(err, errno, "attach the root of '%s'", workload->name);
    }
    int r = 0;
    for (size_t i = 0; i < mounts->count && r >= 0; i++) {
        const struct mount_spec *mount = &mounts->items[i];
        if (mount->type == MOUNT_TMPFS || !is_below(mount->target, path)) {
            continue;
        }
        AUTO(freep) char *source = source_of(engine, workload, mount);
        r = source != NULL ? attach_source(root_fd, source, mount, err)
                           : err_set(err, ENOENT, "find the volume of '%s'", mount->target);
    }
    return r < 0 ? r : 0;
}

int rootfd_open_path(struct engine *engine, const struct workload *workload, const char *path,
                     bool write, int *ret_fd, char **ret_path, struct err *err)
{
    AUTO(mount_specs_donep) struct mount_specs mounts = {0};
    AUTO(freep) char *normal = normalise(path);
    AUTO(freep) char *copy = strdup(path);
    if (normal == NULL || copy == NULL) {
        return err_set(err, ENOMEM, "open '%s'", path);
    }
    bool runs = workload->state == WORKLOAD_RUNNING || workload->state == WORKLOAD_PAUSED;
    int r = runs ? 0 : mount_specs_parse(&workload->config, &mounts, err);
    if (r < 0) {
        return r;
    }
    const struct mount_spec *mount = find_mount(&mounts, normal);
    bool read_only = mount != NULL ? mount->read_only : workload->config.read_only;
    if (write && !runs && read_only) {
        return err_set(err, EROFS, "write '%s'", path);
    }
    if (mount == NULL) {
        AUTO(closep) int fd = rootfd_open(engine, workload, err);
        r = fd < 0 ? fd : 0;
        if (r == 0 && has_below(&mounts, normal)) {
            r = attach_below(engine, workload, &mounts, normal, fd, err);
        }
        if (r < 0) {
            return r;
        }
        *ret_fd = TAKE_FD(fd);
        *ret_path = TAKE_PTR(copy);
        return 0;
    }
    AUTO(freep) char *source = source_of(engine, workload, mount);
    if (source == NULL) {
        return err_set(err, ENOENT, "find the volume of '%s'", mount->target);
    }
    const char *suffix = str_ends(path, "/.") ? "/." : str_ends(path, "/") ? "/" : "";
    return open_mount(source, normal + strlen(mount->target), suffix, ret_fd, ret_path, err);
}
