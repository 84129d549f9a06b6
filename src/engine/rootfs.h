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
 * throw_away: upper is removed after this one use, so nothing of it need reach the disk (without
 * that, unmounting writes the whole file system of upper to the disk). Returns the descriptor or a
 * negative errno.
 */
int rootfs_mount(const struct strv *layers, const char *upper, const char *work, bool throw_away,
                 struct err *err);

#endif
