/*
 * rootfs.h - the workload's root file system: layers, a place for changes, an overlay of them.
 */
#ifndef GUEST_ROOTFS_H
#define GUEST_ROOTFS_H

#include "guest/config.h"

struct err;

/*
 * Mounts layers, scratch and shares below GUEST_RUN. Returns the overlay as a detached mount, the
 * caller's, or a negative errno. Layers are never written to.
 */
int rootfs_build(const struct guest_config *config, struct err *err);

/* Writes the configuration's files below the root; links in the image are not followed out of it.
 */
int rootfs_write_files(int root_fd, const struct guest_config *config, struct err *err);

#endif
