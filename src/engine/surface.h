/*
 * surface.h - how much of the host's kernel a wall leaves open, as numbers to compare.
 */
#ifndef ENGINE_SURFACE_H
#define ENGINE_SURFACE_H

#include <stddef.h>

#include "engine/config.h"

struct err;
struct wall;

/* Different system calls of the native architecture, whatever their arguments. */
struct surface {
    size_t calls;     /* that whoever is behind the wall, or has taken its process, may make */
    size_t cpu_calls; /* vm: of them, those of a thread that runs a CPU; else 0 */
    size_t devices;   /* vm: that the workload's kernel talks to; else 0 */
    const char *note; /* what the numbers mean; static */
};

/* For a workload with this configuration from an image of so many layers; wall NULL: behind none.
 */
int surface_of(const struct wall *wall, const struct workload_config *config, size_t layers,
               struct surface *ret, struct err *err);

#endif
