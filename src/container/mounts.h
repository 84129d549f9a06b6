/*
 * mounts.h - the container's file tree, built mount by mount from descriptors.
 *
 * Sources are opened on the host's side as detached mounts (mounts_open()), by the runtime when it
 * has the rights and else by the container's first process; then the first process attaches them
 * below the new root (mounts_attach()). Targets are resolved by openat2() below the root's
 * descriptor, and a mount goes from descriptor to descriptor: no path is used twice.
 */
#ifndef CONTAINER_MOUNTS_H
#define CONTAINER_MOUNTS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "container/mount_options.h"
#include "container/spec.h"

struct cgroup;
struct err;

struct mount_plan {
    const struct spec *spec;
    int bundle_fd;
    int rootfs_fd; /* detached mount of the root; owned when own_rootfs */
    bool own_rootfs;
    int *
        sources; /* for each bind mount of the spec a detached mount; of a copy the file; else -1 */
    int copies_socket; /* see container_create_args.copies_fd */
    struct mount_options *options;
    const struct cgroup *cgroup; /* for mounts of type cgroup; NULL: none */
    bool has_dev;                /* /dev is a fresh tmpfs: nodes and links are made in it */
};

void mount_plan_done(struct mount_plan *plan);
DEFINE_DONEP(struct mount_plan, mount_plan_done)

/* Parses options; opens nothing. rootfs_fd may be -1. */
int mount_plan_init(struct mount_plan *plan, const struct spec *spec, int bundle_fd, int rootfs_fd,
                    struct err *err);

/* Opens the root and all bind sources that are not open yet. */
int mounts_open(struct mount_plan *plan, struct err *err);

/*
 * Id-maps the sources that ask for it. user_ns: the container's user namespace, used by mounts that
 * have no maps of their own, or -1. Needs rights over the file systems.
 */
int mounts_idmap(struct mount_plan *plan, int user_ns, struct err *err);

/* In the container's mount namespace: cuts it off from the host's and attaches everything. */
int mounts_attach(struct mount_plan *plan, struct err *err);

/* What comes after the mounts: devices, links, masked and read-only paths, a read-only root. */
int mounts_finish(const struct mount_plan *plan, struct err *err);

/* Makes the root the root; afterwards nothing of the host's tree can be reached. */
int mounts_enter(const struct mount_plan *plan, bool no_pivot, struct err *err);

/*
 * Attaches the detached mount at path below root_fd. The target is made when missing: a directory,
 * or an empty file when is_dir is false.
 */
int mount_attach_at(int root_fd, int mount_fd, const char *path, bool is_dir, struct err *err);

/* A new detached mount of a file system; options as "key=value" or "key". Descriptor or -errno. */
int mount_new(const char *type, const char *source, const char *const *options, size_t count,
              uint64_t attr, struct err *err);

/*
 * AUTO(leave_openp) int fd: for descriptors of the first process that its exec closes, all at once.
 * Only when they become many are they closed one by one.
 */
#define LEFT_OPEN_MAX 256
static inline void leave_openp(int *fd)
{
    if (*fd >= LEFT_OPEN_MAX) {
        (void)close_fd(*fd);
    }
}

/*
 * The files that the container has as copies (isola-copy), in a tmpfs of its own: it sees neither
 * where the originals lie nor the others. Puts detached mounts of them into sources. The root must
 * be attached.
 */
int mount_copies_make(struct mount_plan *plan, struct err *err);

/* Devices of devices.c. */
int devices_create(const struct mount_plan *plan, struct err *err);
/* Puts the terminal at /dev/console. */
int console_attach(int root_fd, int slave_fd, struct err *err);
/* Mounts of type cgroup, in cgroup_mount.c. */
int cgroup_mount(const struct mount_plan *plan, const struct spec_mount *mount,
                 const struct mount_options *options, struct err *err);

#endif
