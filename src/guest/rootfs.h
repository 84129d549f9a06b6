/*
 * rootfs.h - the workload's root file system: layers, a place for changes, an overlay of them.
 */
#ifndef GUEST_ROOTFS_H
#define GUEST_ROOTFS_H

#include "guest/config.h"

struct err;

/* Where rootfs_write_files() leaves them, named 0 and up. */
#define GUEST_FILES_DIR "/run/isola/files"

/*
 * Mounts layers, scratch and shares below GUEST_RUN; mounts are the OCI configuration's, which need
 * places. Returns the overlay as a detached mount, the caller's, or a negative errno. Layers are
 * never written to.
 */
int rootfs_build(const struct guest_config *config, const json_t *mounts, struct err *err);

/* Writes the configuration's files, from where they are mounted. */
int rootfs_write_files(const struct guest_config *config, struct err *err);

#endif
