/*
 * rootfs.h - a workload's root file system: the image's layers and its own upper directory.
 */
#ifndef ENGINE_ROOTFS_H
#define ENGINE_ROOTFS_H

#include <stdbool.h>

struct err;
struct strv;

/*
 * An overlay as a detached mount: it is in no mount table until it is attached somewhere, works as
 * a directory descriptor meanwhile, and is gone when the descriptor is closed. layers: directories,
 * uppermost first. upper and work are made when missing; NULL: read-only view of the layers.
 * Returns the descriptor or a negative errno.
 */
int rootfs_mount(const struct strv *layers, const char *upper, const char *work, struct err *err);

#endif
