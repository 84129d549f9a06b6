/*
 * mount_spec.h - what -v, --mount, --tmpfs and an image's VOLUME ask for, in one form.
 */
#ifndef ENGINE_MOUNT_SPEC_H
#define ENGINE_MOUNT_SPEC_H

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/str.h"

struct err;
struct workload_config;

enum mount_type {
    MOUNT_BIND,
    MOUNT_VOLUME,
    MOUNT_TMPFS,
};

struct mount_spec {
    enum mount_type type;
    char *source; /* bind: absolute path; volume: name, NULL while anonymous; tmpfs: NULL */
    char *target; /* absolute, normalised */
    bool read_only;
    bool create_source; /* -v makes a missing host directory, --mount does not */
    bool no_copy;       /* volume: do not fill it from the image */
    bool recursive;     /* bind: rbind */
    bool from_image;
    const char *propagation; /* static text: "rprivate", "rshared"... */
    struct strv options;     /* tmpfs: size=..., mode=... */
};

struct mount_specs {
    struct mount_spec *items;
    size_t count;
};

void mount_specs_done(struct mount_specs *specs);
DEFINE_DONEP(struct mount_specs, mount_specs_done)

/*
 * Reads all storage options of a workload, checks them and sorts them by target so that outer
 * mounts come first. Two mounts on one target are refused; VOLUMEs of the image give way to the
 * user's.
 */
int mount_specs_parse(const struct workload_config *config, struct mount_specs *ret,
                      struct err *err);

#endif
