/*
 * rootfd.h - a workload's root file system for commands that read or write files in it. For the
 * container wall; machine_files.h is the other.
 */
#ifndef CMD_ROOTFD_H
#define CMD_ROOTFD_H

#include <stdbool.h>

#include "engine/workload.h"

struct err;

/*
 * A directory descriptor: of a running workload as it sees it, mounts included; of another one its
 * overlay, detached. The caller closes it.
 */
int rootfd_open(struct engine *engine, const struct workload *workload, struct err *err);

/*
 * The same for one path in the workload: of one that does not run, a path on one of its volumes or
 * bind mounts is looked up there, by the words of the path (links are not followed to a mount), and
 * those that a start would mount below it are mounted there, in a mount namespace that this process
 * is in from then on.
 * *ret_fd and *ret_path (absolute below it) are the caller's. write: refuses what is read-only.
 */
int rootfd_open_path(struct engine *engine, const struct workload *workload, const char *path,
                     bool write, int *ret_fd, char **ret_path, struct err *err);

/*
 * Of a running workload in a user namespace of its own: that namespace, in which its files have the
 * ids that it sees. *ret_fd stays as it is for others.
 */
int rootfd_open_ids(const struct workload *workload, int *ret_fd, struct err *err);

/* Goes there for good, as its root; fd -1: stays. Descriptors opened before remain usable. */
int rootfd_enter_ids(int fd, struct err *err);

#endif
