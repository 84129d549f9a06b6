/*
 * rootfd.h - a workload's root file system for commands that read or write files in it.
 */
#ifndef CMD_ROOTFD_H
#define CMD_ROOTFD_H

#include "engine/workload.h"

struct err;

/*
 * A directory descriptor: of a running workload as it sees it, mounts included; of another one its
 * overlay, detached. The caller closes it.
 */
int rootfd_open(struct engine *engine, const struct workload *workload, struct err *err);

#endif
