#include "container/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "base/copy.h"
#include "base/err.h"
#include "base/path.h"
#include "base/str.h"
#include "container/idmap.h"
#include "container/kernel.h"
#include "container/labels.h"

void mount_plan_done(struct mount_plan *plan)
{
    for (size_t i = 0; plan->sources != NULL && i < plan->spec->mount_count; i++) {
        (void)close_fd(plan->sources[i]);
    }
    if (plan->own_rootfs) {
        (void)close_fd(plan->rootfs_fd);
    }
    free(plan->sources);
    free(plan->options);
    *plan = (struct mount_plan){.rootfs_fd = -1, .bundle_fd = -1, .copies_socket = -1};
}

int mount_plan_init(struct mount_plan *plan, const struct spec *spec, int bundle_fd, int rootfs_fd,
                    struct err *err)
{
    size_t count = spec->mount_count;
    *plan = (struct mount_plan){
        .spec = spec,
        .bundle_fd = bundle_fd,
        .rootfs_fd = rootfs_fd,
        .own_rootfs = rootfs_fd < 0,
        .copies_socket = -1,
    };
    plan->sources = malloc((count + 1) * sizeof(*plan->sources));
    plan->options = calloc(count + 1, sizeof(*plan->options));
    if (plan->sources == NULL || plan->options == NULL) {
        return err_set(err, ENOMEM, "plan the mounts");
    }
    for (size_t i = 0; i < count; i++) {
        plan->sources[i] = -1;
    }
    for (size_t i = 0; i < count; i++) {
        int r = mount_options_parse(&spec->mounts[i], i, &plan->options[i], err);
        if (r < 0) {
            return r;
        }
        if (str_eq(spec->mounts[i].destination, "/dev")) {
            plan->has_dev = !plan->options[i].bind;
        }
    }
    return 0;
}

int mounts_open(struct mount_plan *plan, struct err *err)
{
    const struct spec *spec = plan->spec;
    if (plan->rootfs_fd < 0) {
        plan->rootfs_fd = open_tree(plan->bundle_fd, spec->root_path,
                                    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
        if (plan->rootfs_fd < 0) {
            return err_set(err, errno, "root.path: open '%s'", spec->root_path);
        }
    }
    for (size_t i = 0; i < spec->mount_count; i++) {
        const struct mount_options *options = &plan->options[i];
        if (!options->bind || plan->sources[i] >= 0) {
            continue;
        }
        unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
        plan->sources[i] =
            options->copy ? openat(plan->bundle_fd, spec->mounts[i].source, O_RDONLY | O_CLOEXEC)
                          : open_tree(plan->bundle_fd, spec->mounts[i].source,
                                      flags | (options->recursive ? AT_RECURSIVE : 0));
        if (plan->sources[i] < 0) {
            return err_set(err, errno, "mounts[%zu].source: open '%s'", i, spec->mounts[i].source);
        }
    }
    return 0;
}

static int set_attr(int fd, bool recursive, struct mount_attr *attr)
{
    unsigned flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
    return mount_setattr(fd, "", flags, attr, sizeof(*attr)) < 0 ? -errno : 0;
}

int mounts_idmap(struct mount_plan *plan, int user_ns, struct err *err)
{
    for (size_t i = 0; i < plan->spec->mount_count; i++) {
        const struct spec_mount *mount = &plan->spec->mounts[i];
        if (!plan->options[i].idmap || plan->options[i].copy || plan->sources[i] < 0) {
            continue;
        }
        AUTO(closep) int own = -1;
        if (mount->uid_maps.count > 0) {
            own = idmap_user_namespace(&mount->uid_maps, &mount->gid_maps, err);
            if (own < 0) {
                return err_wrap(err, -own, "mounts[%zu].uidMappings", i);
            }
        }
        int map = own >= 0 ? own : user_ns;
        if (map < 0) {
            return err_say(err, EINVAL,
                           "mounts[%zu].options: idmap needs uidMappings or a user namespace", i);
        }
        struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)map};
        int r = set_attr(plan->sources[i], plan->options[i].idmap_recursive, &attr);
        if (r < 0) {
            (void)err_set(err, -r, "mounts[%zu]: id-map '%s'", i, mount->source);
            if (r == -EINVAL) {
                err_hint(err, "its file system may not support id-mapped mounts");
            }
            return r;
        }
    }
    return 0;
}

int mount_new(const char *type, const char *source, const char *const *options, size_t count,
              uint64_t attr, struct err *err)
{
    AUTO(leave_openp) int fs = fsopen(type, FSOPEN_CLOEXEC);
    if (fs < 0) {
        return err_set(err, errno, "file system '%s'", type);
    }
    if (source != NULL && fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0) < 0) {
        return err_set(err, errno, "%s: source '%s'", type, source);
    }
    for (size_t i = 0; i < count; i++) {
        const char *equals = strchr(options[i], '=');
        int r;
        if (equals == NULL) {
            r = fsconfig(fs, FSCONFIG_SET_FLAG, options[i], NULL, 0);
        } else {
            char key[64];
            (void)snprintf(key, sizeof(key), "%.*s", (int)(equals - options[i]), options[i]);
            r = fsconfig(fs, FSCONFIG_SET_STRING, key, equals + 1, 0);
        }
        if (r < 0) {
            return err_set(err, errno, "%s: option '%s'", type, options[i]);
        }
    }
    if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) {
        return err_set(err, errno, "create '%s'", type);
    }
    int fd = fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)attr);
    return fd < 0 ? err_set(err, errno, "mount '%s'", type) : fd;
}

/* A missing target is made; what is there must be of the same kind as the mount. */
static int open_target(int root_fd, const char *path, bool is_dir, struct err *err)
{
    int fd = open_in_root(root_fd, path, O_PATH, 0);
    if (fd == -ENOENT && is_dir) {
        fd = mkdir_in_root(root_fd, path, 0755);
    } else if (fd == -ENOENT) {
        AUTO(freep) char *parent = strdup(path);
        if (parent == NULL) {
            return err_set(err, ENOMEM, "make '%s'", path);
        }
        char *slash = strrchr(parent, '/');
        if (slash != NULL) {
            *slash = '\0';
        }
        AUTO(leave_openp)
        int dir = mkdir_in_root(root_fd, slash != NULL && slash != parent ? parent : "/", 0755);
        if (dir < 0) {
            return err_set(err, -dir, "make the directory of '%s'", path);
        }
        AUTO(leave_openp)
        int made = open_in_root(root_fd, path, O_RDONLY | O_CREAT | O_NOCTTY, 0644);
        if (made < 0) {
            return err_set(err, -made, "make '%s'", path);
        }
        fd = open_in_root(root_fd, path, O_PATH, 0);
    }
    return fd < 0 ? err_set(err, -fd, "open '%s' in the container", path) : fd;
}

static int move_to(int mount_fd, int target, const char *path, struct err *err)
{
    if (move_mount(mount_fd, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) <
        0) {
        return err_set(err, errno, "mount at '%s'", path);
    }
    return 0;
}

int mount_attach_at(int root_fd, int mount_fd, const char *path, bool is_dir, struct err *err)
{
    AUTO(leave_openp) int target = open_target(root_fd, path, is_dir, err);
    return target < 0 ? target : move_to(mount_fd, target, path, err);
}

static bool fd_is_dir(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Attributes and propagation of a bind mount. */
static int dress_bind(int fd, const struct mount_options *options, bool keep_shared)
{
    uint64_t recursive = options->recursive_set | options->recursive_clear;
    if (recursive != 0) {
        struct mount_attr attr = {.attr_set = options->recursive_set,
                                  .attr_clr = options->recursive_clear};
        int r = set_attr(fd, true, &attr);
        if (r < 0) {
            return r;
        }
    }
    unsigned long propagation = options->propagation;
    if (propagation == 0 && !keep_shared) {
        propagation = MS_SLAVE;
    }
    struct mount_attr attr = {.attr_set = options->attr_set, .attr_clr = options->attr_clear};
    int r = 0;
    if (attr.attr_set != 0 || attr.attr_clr != 0) {
        r = set_attr(fd, false, &attr);
        if (r == -EPERM && attr.attr_clr != 0) {
            /* In a user namespace flags of the source are locked: they stay. */
            attr.attr_clr = attr.attr_set & MOUNT_ATTR__ATIME ? MOUNT_ATTR__ATIME : 0;
            r = attr.attr_set != 0 ? set_attr(fd, false, &attr) : 0;
        }
    }
    if (r == 0 && propagation != 0) {
        struct mount_attr spread = {.propagation = propagation};
        r = set_attr(fd, options->propagation == 0 || options->propagation_recursive, &spread);
    }
    return r;
}

/* Files of /proc that may be replaced; anything else there would fake what programs trust. */
static bool may_cover_proc(const char *path)
{
    static const char *const names[] = {
        "/proc/cpuinfo",
        "/proc/diskstats",
        "/proc/meminfo",
        "/proc/stat",
        "/proc/swaps",
        "/proc/uptime",
        "/proc/loadavg",
        "/proc/slabinfo",
        "/proc/sys/kernel/ns_last_pid",
        "/proc/net/dev",
        "/proc/sys/crypto/fips_enabled",
    };
    for (size_t i = 0; i < COUNT(names); i++) {
        if (strcmp(path, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static int attach_bind(struct mount_plan *plan, size_t i, struct err *err)
{
    const struct spec_mount *mount = &plan->spec->mounts[i];
    int fd = plan->sources[i];
    bool shared = (plan->spec->rootfs_propagation & MS_SHARED) != 0;
    int r = dress_bind(fd, &plan->options[i], shared);
    if (r < 0) {
        return err_set(err, -r, "mounts[%zu]: set options of '%s'", i, mount->destination);
    }
    AUTO(leave_openp)
    int target = open_target(plan->rootfs_fd, mount->destination, fd_is_dir(fd), err);
    if (target < 0) {
        return target;
    }
    struct statfs where;
    struct statfs what;
    if (fstatfs(target, &where) == 0 && where.f_type == PROC_SUPER_MAGIC &&
        !may_cover_proc(mount->destination) &&
        !(fstatfs(fd, &what) == 0 && what.f_type == PROC_SUPER_MAGIC)) {
        return err_say(err, EPERM, "mounts[%zu].destination = \"%s\": must not lie inside /proc", i,
                       mount->destination);
    }
    return move_to(fd, target, mount->destination, err);
}

static bool is_virtual(const char *type)
{
    static const char *const types[] = {"proc",   "sysfs",   "tmpfs", "devpts", "mqueue",
                                        "cgroup", "cgroup2", "ramfs", "bpf",    "overlay"};
    for (size_t i = 0; i < COUNT(types); i++) {
        if (str_eq(type, types[i])) {
            return true;
        }
    }
    return false;
}

/* /proc and /sys of the root must be directories of their own: a link would move the mask. */
static int open_plain_target(int root_fd, const char *path, struct err *err)
{
    int fd = open_resolved(root_fd, path, O_PATH | O_DIRECTORY, 0,
                           RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
    if (fd == -ENOENT) {
        fd = mkdir_in_root(root_fd, path, 0755);
    }
    if (fd == -ELOOP) {
        return err_say(err, ELOOP, "'%s' in the root file system is a symbolic link", path);
    }
    return fd < 0 ? err_set(err, -fd, "open '%s' in the container", path) : fd;
}

/* tmpcopyup: what the image has at a directory, copied into the tmpfs that will cover it. */
static int copy_up(int from_fd, int to_fd, struct err *err)
{
    AUTO(closep) int to = openat(to_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closep) int from = openat(from_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = to < 0 || from < 0 ? -errno : copy_children(from, to);
    if (r == 0) {
        r = copy_attributes(from, to);
    }
    return r < 0 ? err_set(err, -r, "copy the directory") : 0;
}

/* proc and sysfs keep the labels of the policy; for mqueue see label_queues(). */
static bool takes_context(const char *type, const struct mount_options *options)
{
    bool given = false;
    for (size_t i = 0; i < options->data_count; i++) {
        given = given || strncmp(options->data[i], "context=", strlen("context=")) == 0;
    }
    return !given && !str_eq(type, "proc") && !str_eq(type, "sysfs") && !str_eq(type, "mqueue");
}

/* linux.mountLabel, for the options of a new mount. *ret_text is the caller's. */
static int add_context(const struct spec *spec, char **ret_text, const char **data, size_t *count,
                       struct err *err)
{
    if (spec->mount_label == NULL) {
        return 0;
    }
    *ret_text = str_printf("context=%s", spec->mount_label);
    if (*ret_text == NULL) {
        return err_set(err, ENOMEM, "linux.mountLabel");
    }
    data[(*count)++] = *ret_text;
    return 0;
}

/* The IPC namespace made this file system, with a label of its own: too late for context=. */
static int label_queues(int mount_fd, const char *label, struct err *err)
{
    AUTO(leave_openp) int dir = openat(mount_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir < 0 ? err_set(err, errno, "linux.mountLabel: open the message queues")
                   : labels_set_file(dir, label, err);
}

static int attach_new(struct mount_plan *plan, size_t i, struct err *err)
{
    const struct spec_mount *mount = &plan->spec->mounts[i];
    struct mount_options *options = &plan->options[i];
    uint64_t attr = options->attr_set;
    bool late_readonly = options->copy_up && (attr & MOUNT_ATTR_RDONLY) != 0;
    const char *data[COUNT(options->data) + 2];
    size_t count = 0;
    for (; count < options->data_count; count++) {
        data[count] = options->data[count];
    }
    AUTO(freep) char *label = NULL;
    if (takes_context(mount->type, options)) {
        int r = add_context(plan->spec, &label, data, &count, err);
        if (r < 0) {
            return r;
        }
    }
    if ((attr & MOUNT_ATTR_RDONLY) != 0 && !is_virtual(mount->type)) {
        data[count++] = "ro";
    }
    AUTO(leave_openp)
    int fd = mount_new(mount->type, mount->source, data, count,
                       late_readonly ? attr & ~(uint64_t)MOUNT_ATTR_RDONLY : attr, err);
    if (fd < 0) {
        return err_wrap(err, -fd, "mounts[%zu] at '%s'", i, mount->destination);
    }
    if (plan->spec->mount_label != NULL && str_eq(mount->type, "mqueue")) {
        int r = label_queues(fd, plan->spec->mount_label, err);
        if (r < 0) {
            return r;
        }
    }
    bool plain = str_eq(mount->type, "proc") || str_eq(mount->type, "sysfs");
    AUTO(leave_openp)
    int target = plain ? open_plain_target(plan->rootfs_fd, mount->destination, err)
                       : open_target(plan->rootfs_fd, mount->destination, true, err);
    if (target < 0) {
        return target;
    }
    if (options->copy_up) {
        int r = copy_up(target, fd, err);
        if (r < 0) {
            return err_wrap(err, -r, "mounts[%zu]: copy up '%s'", i, mount->destination);
        }
    }
    struct mount_attr late = {
        .attr_set = options->recursive_set | (late_readonly ? MOUNT_ATTR_RDONLY : 0),
        .propagation = options->propagation,
    };
    int r = late.attr_set != 0 || late.propagation != 0 ? set_attr(fd, false, &late) : 0;
    if (r < 0) {
        return err_set(err, -r, "mounts[%zu]: set options of '%s'", i, mount->destination);
    }
    return move_to(fd, target, mount->destination, err);
}

/*
 * The root must hang somewhere before it can become "/": on top of the old one, in our own mount
 * namespace only. Our own "/" stays the old root until mounts_enter().
 */
static int attach_root(struct mount_plan *plan, struct err *err)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0) {
        return err_set(err, errno, "cut the mounts off from the host's");
    }
    struct mount_attr attr = {.propagation = MS_SLAVE};
    int r = set_attr(plan->rootfs_fd, true, &attr);
    if (r == 0 && move_mount(plan->rootfs_fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0) {
        r = -errno;
    }
    return r < 0 ? err_set(err, -r, "attach the root file system") : 0;
}

int mounts_attach(struct mount_plan *plan, struct err *err)
{
    int r = attach_root(plan, err);
    if (r >= 0) {
        r = mount_copies_make(plan, err);
    }
    for (size_t i = 0; r >= 0 && i < plan->spec->mount_count; i++) {
        const struct spec_mount *mount = &plan->spec->mounts[i];
        if (plan->options[i].bind) {
            r = attach_bind(plan, i, err);
        } else if (str_eq(mount->type, "cgroup") || str_eq(mount->type, "cgroup2")) {
            r = cgroup_mount(plan, mount, &plan->options[i], err);
        } else {
            r = attach_new(plan, i, err);
        }
    }
    return r;
}

/* A clone of a mount, put over path when that exists. */
static int cover(int from_fd, int target, const char *path, struct err *err)
{
    AUTO(leave_openp)
    int clone = open_tree(from_fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    if (clone < 0) {
        return err_set(err, errno, "mask '%s'", path);
    }
    return move_to(clone, target, path, err);
}

static int make_empty(const struct spec *spec, struct err *err)
{
    const char *options[3] = {"size=0k", "mode=555"};
    size_t count = 2;
    AUTO(freep) char *label = NULL;
    int r = add_context(spec, &label, options, &count, err);
    return r < 0 ? r
                 : mount_new("tmpfs", "tmpfs", options, count,
                             MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                                 MOUNT_ATTR_NOEXEC,
                             err);
}

static int mask_paths(const struct mount_plan *plan, struct err *err)
{
    const struct spec_strings *paths = &plan->spec->masked_paths;
    AUTO(leave_openp) int null = -1;
    AUTO(leave_openp) int empty = -1;
    for (size_t i = 0; i < paths->count; i++) {
        AUTO(leave_openp) int target = open_in_root(plan->rootfs_fd, paths->items[i], O_PATH, 0);
        if (target == -ENOENT || target == -ENOTDIR || target == -EACCES) {
            continue;
        }
        if (target < 0) {
            return err_set(err, -target, "linux.maskedPaths[%zu]: open '%s'", i, paths->items[i]);
        }
        bool is_dir = fd_is_dir(target);
        bool first = is_dir && empty < 0;
        if (first) {
            empty = make_empty(plan->spec, err);
            if (empty < 0) {
                return empty;
            }
        }
        if (!is_dir && null < 0) {
            /* The host's own, and still the real one: what we bind must be what we checked. */
            struct stat st;
            null = open("/dev/null", O_PATH | O_CLOEXEC | O_NOFOLLOW);
            if (null < 0 || fstat(null, &st) < 0 || !S_ISCHR(st.st_mode) ||
                st.st_rdev != makedev(1, 3)) {
                return err_say(err, ENODEV, "mask '%s': the host's /dev/null is not device 1:3",
                               paths->items[i]);
            }
        }
        /* Before Linux 6.15 only a mount that is attached can be cloned: the first one is itself.
         */
        int r = first ? move_to(empty, target, paths->items[i], err)
                      : cover(is_dir ? empty : null, target, paths->items[i], err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int readonly_paths(const struct mount_plan *plan, struct err *err)
{
    const struct spec_strings *paths = &plan->spec->readonly_paths;
    for (size_t i = 0; i < paths->count; i++) {
        AUTO(leave_openp) int target = open_in_root(plan->rootfs_fd, paths->items[i], O_PATH, 0);
        if (target == -ENOENT || target == -ENOTDIR) {
            continue;
        }
        if (target < 0) {
            return err_set(err, -target, "linux.readonlyPaths[%zu]: open '%s'", i, paths->items[i]);
        }
        AUTO(leave_openp)
        int clone = open_tree(target, "",
                              OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
        struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
        int r = clone < 0 ? -errno : set_attr(clone, true, &attr);
        if (r < 0) {
            return err_set(err, -r, "make '%s' read-only", paths->items[i]);
        }
        r = move_to(clone, target, paths->items[i], err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int mounts_finish(const struct mount_plan *plan, struct err *err)
{
    int r = devices_create(plan, err);
    if (r >= 0) {
        r = readonly_paths(plan, err);
    }
    if (r >= 0) {
        r = mask_paths(plan, err);
    }
    if (r >= 0 && plan->spec->root_readonly) {
        struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
        r = set_attr(plan->rootfs_fd, false, &attr);
        if (r < 0) {
            return err_set(err, -r, "root.readonly: make the root read-only");
        }
    }
    return r;
}

int mounts_enter(const struct mount_plan *plan, bool no_pivot, struct err *err)
{
    if (fchdir(plan->rootfs_fd) < 0) {
        return err_set(err, errno, "enter the root file system");
    }
    if (no_pivot) {
        if (chroot(".") < 0) {
            return err_set(err, errno, "change to the root file system");
        }
    } else {
        /* The old root lands on top of the new one and is then taken off: no directory needed. */
        if (sys_pivot_root(".", ".") < 0) {
            (void)err_set(err, errno, "pivot_root");
            err_hint(err, "on an initramfs use --no-pivot");
            return -err->code;
        }
        if (umount2(".", MNT_DETACH) < 0) {
            return err_set(err, errno, "take the old root off");
        }
    }
    if (chdir("/") < 0) {
        return err_set(err, errno, "chdir to '/'");
    }
    /* Only now: pivot_root takes no shared root. The mounts below it have their own. */
    unsigned long propagation = plan->spec->rootfs_propagation & ~(unsigned long)MS_REC;
    if (propagation != 0 && propagation != MS_SLAVE &&
        mount(NULL, "/", NULL, propagation, NULL) < 0) {
        return err_set(err, errno, "linux.rootfsPropagation");
    }
    return 0;
}
