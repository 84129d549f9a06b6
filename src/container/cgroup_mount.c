/* Mounts of type cgroup: the container's own part of the hierarchies, in the host's layout. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/path.h"
#include "base/str.h"
#include "container/cgroup.h"
#include "container/kernel.h"
#include "container/mounts.h"

/* One for all that hangs below fd. */
static int set_attr(int fd, uint64_t attr_set, struct err *err)
{
    struct mount_attr attr = {.attr_set = attr_set};
    return attr_set != 0 &&
                   mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0
               ? err_set(err, errno, "set options of the cgroup mounts")
               : 0;
}

/* The container's directory of one hierarchy, as a detached bind mount from the host's tree. */
static int open_bind(const struct cgroup *cgroup, const struct cgroup_hierarchy *hierarchy,
                     struct err *err)
{
    char path[PATH_MAX];
    int r = cgroup_file(cgroup, hierarchy, NULL, path);
    int fd = r < 0 ? r : open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    return fd < 0 ? err_set(err, r < 0 ? -r : errno, "open cgroup '%s'", path) : fd;
}

static int open_unified(const struct mount_plan *plan, const struct cgroup_hierarchy *hierarchy,
                        uint64_t attr, struct err *err)
{
    /* With a cgroup namespace the kernel itself shows only what is below its root. */
    if (plan->spec->namespaces[SPEC_NS_CGROUP].listed) {
        int fd = mount_new("cgroup2", "cgroup", NULL, 0, attr, NULL);
        if (fd >= 0) {
            return fd;
        }
    }
    int fd = open_bind(plan->cgroup, hierarchy, err);
    int r = fd < 0 ? fd : set_attr(fd, attr, err);
    if (r < 0) {
        (void)close_fd(fd);
        return r;
    }
    return fd;
}

static int attach_v1(const struct mount_plan *plan, const struct spec_mount *mount, uint64_t attr,
                     struct err *err)
{
    static const char *const options[] = {"mode=755"};
    const struct cgroup *cgroup = plan->cgroup;
    AUTO(leave_openp) int base = mount_new("tmpfs", "cgroup", options, COUNT(options), 0, err);
    if (base < 0) {
        return base;
    }
    int r = mount_attach_at(plan->rootfs_fd, base, mount->destination, true, err);
    for (size_t i = 0; r == 0 && i < cgroup->count; i++) {
        const struct cgroup_hierarchy *hierarchy = &cgroup->hierarchies[i];
        AUTO(leave_openp)
        int fd = hierarchy->unified ? open_unified(plan, hierarchy, 0, err)
                                    : open_bind(cgroup, hierarchy, err);
        if (fd < 0) {
            return fd;
        }
        if (mkdirat(base, hierarchy->name, 0755) < 0 ||
            move_mount(fd, "", base, hierarchy->name, MOVE_MOUNT_F_EMPTY_PATH) < 0) {
            return err_set(err, errno, "mount cgroup '%s'", hierarchy->name);
        }
        /* "cpu,cpuacct" is also known by each of its names. */
        if (strchr(hierarchy->name, ',') != NULL) {
            AUTO(strv_donep) struct strv names = {0};
            if (strv_split(&names, hierarchy->name, ",") < 0) {
                return err_set(err, ENOMEM, "mount cgroup '%s'", hierarchy->name);
            }
            for (size_t j = 0; j < names.count; j++) {
                if (symlinkat(hierarchy->name, base, names.items[j]) < 0 && errno != EEXIST) {
                    return err_set(err, errno, "link cgroup '%s'", names.items[j]);
                }
            }
        }
    }
    return r < 0 ? r : set_attr(base, attr, err);
}

int cgroup_mount(const struct mount_plan *plan, const struct spec_mount *mount,
                 const struct mount_options *options, struct err *err)
{
    const struct cgroup *cgroup = plan->cgroup;
    if (cgroup == NULL || cgroup->count == 0) {
        /* Without a cgroup of its own there is nothing to show: an empty place. */
        AUTO(leave_openp) int fd = mount_new("tmpfs", "cgroup", NULL, 0, options->attr_set, err);
        return fd < 0 ? fd : mount_attach_at(plan->rootfs_fd, fd, mount->destination, true, err);
    }
    if (cgroup_has_v1(cgroup) && !str_eq(mount->type, "cgroup2")) {
        return attach_v1(plan, mount, options->attr_set, err);
    }
    const struct cgroup_hierarchy *unified = cgroup_find(cgroup, "");
    if (unified == NULL || !unified->unified) {
        return err_say(err, EOPNOTSUPP, "mount '%s': the host has no cgroup v2",
                       mount->destination);
    }
    AUTO(leave_openp) int fd = open_unified(plan, unified, options->attr_set, err);
    return fd < 0 ? fd : mount_attach_at(plan->rootfs_fd, fd, mount->destination, true, err);
}
