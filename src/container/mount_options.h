/*
 * mount_options.h - the words of a mount's options, sorted by what has to be done with them.
 */
#ifndef CONTAINER_MOUNT_OPTIONS_H
#define CONTAINER_MOUNT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "container/spec.h"

struct err;
struct strv;

struct mount_options {
    bool bind;
    bool recursive; /* rbind */
    bool copy_up;   /* tmpcopyup */
    bool copy;      /* isola-copy: a bind mount of a copy of the source, a file */
    bool idmap;
    bool idmap_recursive;
    uint64_t attr_set; /* MOUNT_ATTR_* of the mount */
    uint64_t attr_clear;
    uint64_t recursive_set; /* of the mount and all below it */
    uint64_t recursive_clear;
    unsigned long propagation; /* MS_SHARED..., 0: not given */
    bool propagation_recursive;
    const char *data[32]; /* for the file system: "mode=755", "newinstance" */
    size_t data_count;
};

/* Sorts the options; index is the mount's place in the spec, for the error text. */
int mount_options_parse(const struct spec_mount *mount, size_t index, struct mount_options *ret,
                        struct err *err);

/* Appends every option word that is understood, for the features document. 0 or -ENOMEM. */
int mount_options_list(struct strv *ret);

#endif
