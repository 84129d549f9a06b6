/*
 * rootfs.h - a workload's root file system: the image's layers and its own upper directory.
 */
#ifndef ENGINE_ROOTFS_H
#define ENGINE_ROOTFS_H

#include <stdbool.h>

struct err;
struct strv;

struct rootfs_options {
    const char *base; /* ROOT: the other paths are shown relative to it where they are below */
    const struct strv *layers; /* directories, uppermost first */
    const char *upper;         /* made when missing, dressed as the image's root */
    const char *work;          /* made when missing */
    /*
     * upper is removed after this one use, so nothing of it need reach the disk. Without that,
     * unmounting writes the whole file system that upper is on to the disk.
     */
    bool throw_away;
    bool view; /* to look at only: upper is read, and needs no work */
    /*
     * A user namespace whose maps turn the ids on disk into those of the workload, or -1. It must
     * map the host's root, too (id_range_namespace()). Linux 5.19, and 6.3 for layers on tmpfs.
     */
    int id_map_fd;
};

/*
 * An overlay as a detached mount: it is in no mount table until it is attached somewhere, works as
 * a directory descriptor meanwhile, and is gone when the descriptor is closed. A workload sees the
 * names of the layers among its mount options; they do not tell where ROOT is. Changes the working
 * directory for a moment, so it is for single-threaded callers. Returns the descriptor or a
 * negative errno.
 */
int rootfs_mount(const struct rootfs_options *options, struct err *err);

#endif
