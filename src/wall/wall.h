/*
 * wall.h - one table of operations over the walls.
 *
 * A wall makes a process run behind it from the same description, an OCI bundle. What is above (the
 * engine, the shim) knows no namespaces and no virtual machines.
 */
#ifndef WALL_WALL_H
#define WALL_WALL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "container/container.h"

struct err;

struct wall_create {
    const char *root; /* the wall's state directory */
    const char *id;
    const char *bundle; /* holds config.json */
    int rootfs_fd;      /* detached mount of the root file system */
    struct container_io io;
    int start_fd;  /* see container_create_args.start_fd */
    int copies_fd; /* and copies_fd there */
    int report_fd; /* of a wall that reports: its end is told here, see vmm/report.h. -1: none */
};

struct wall {
    const char *name; /* "container" */
    const char *summary;
    bool reports; /* it tells of its end before the exit status comes: wall_create.report_fd */
    /*
     * Whether this host can run it; -EOPNOTSUPP or another error with the remedy in err. May take
     * some milliseconds. NULL: nothing to look at.
     */
    int (*check)(struct err *err);
    int (*create)(const struct wall_create *args, struct container_process *ret,
                  bool *ret_exec_failed, struct err *err);
    int (*start)(const char *root, const char *id, int start_fd, bool *ret_exec_failed,
                 struct err *err);
    /* The process that exec starts from when only words are given: the workload's own (free it). */
    int (*exec_spec)(const char *root, const char *id, struct spec **ret_spec, struct err *err);
    int (*exec)(const struct container_exec_args *args, struct container_process *ret,
                bool *ret_exec_failed, struct err *err);
    /*
     * Tells the workload how large its terminal is, where that is not the pty that create() handed
     * over. NULL: it is.
     */
    int (*resize)(const char *root, const char *id, unsigned rows, unsigned columns,
                  struct err *err);
    int (*signal)(const char *root, const char *id, int signal, bool all, struct err *err);
    int (*pause)(const char *root, const char *id, struct err *err);
    int (*resume)(const char *root, const char *id, struct err *err);
    int (*update)(const char *root, const char *id, const struct spec_resources *resources,
                  struct err *err);
    int (*stats)(const char *root, const char *id, struct container_stats *ret, struct err *err);
    /* How many processes the kernel killed for want of memory. */
    int (*oom_kills)(const char *root, const char *id, uint64_t *ret, struct err *err);
    int (*pids)(const char *root, const char *id, pid_t **ret, size_t *ret_count, struct err *err);
    /* Idempotent: kills what lives, removes what the wall made. */
    int (*remove)(const char *root, const char *id, struct err *err);
};

/* All of this build, the thinnest first; ends with NULL. */
extern const struct wall *const walls[];

/* -EOPNOTSUPP with err set for a wall that this build or host does not have. NULL: "container". */
int wall_find(const char *name, const struct wall **ret, struct err *err);

#endif
