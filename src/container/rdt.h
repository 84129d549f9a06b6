/*
 * rdt.h - linux.intelRdt: a share of cache and memory bandwidth, by the kernel's resctrl.
 *
 * A group is a directory below the mount of resctrl: CLOSID, or the container's id. Where
 * monitoring is asked for, CLOSID/mon_groups/ID counts for the container alone.
 */
#ifndef CONTAINER_RDT_H
#define CONTAINER_RDT_H

#include <stdbool.h>
#include <sys/types.h>

struct err;
struct spec_rdt;

#define RDT_ROOT "/sys/fs/resctrl"

/* What a container has there; which of it the runtime made, and has to remove. */
struct rdt_group {
    char name[256];
    bool made;
    bool monitored; /* mon_groups/ID was made */
};

/* The group of a container, checked. -ENODEV, naming the mount, when root is no resctrl. */
int rdt_find(const char *root, const struct spec_rdt *rdt, const char *id, struct rdt_group *ret,
             struct err *err);

/*
 * Makes the group when it is missing and writes its share, or compares with what one that is there
 * has; then moves the process in. After a failure nothing of ours is left.
 */
int rdt_enter(const char *root, const struct spec_rdt *rdt, const char *id, pid_t pid,
              struct rdt_group *group, struct err *err);

/* Removes what was made; gone already is success. */
int rdt_remove(const char *root, const struct rdt_group *group, const char *id, struct err *err);

#endif
