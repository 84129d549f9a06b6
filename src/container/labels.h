/*
 * labels.h - AppArmor profiles and SELinux labels of a container's processes.
 *
 * Both are asked for through files of /proc and take effect at the exec that follows.
 */
#ifndef CONTAINER_LABELS_H
#define CONTAINER_LABELS_H

#include <stdbool.h>

#include "container/spec.h"

struct err;

bool labels_wanted(const struct spec_process *process);

/*
 * Checks that the host has what the labels are for; mount_label may be NULL. -EOPNOTSUPP names the
 * field and the label.
 */
int labels_check(const struct spec_process *process, const char *mount_label, struct err *err);

/*
 * proc_fd: a procfs that nobody else can have mounted over (runc CVE-2025-52881). Asks the kernel
 * whether the calling process may take the labels, and leaves it as it was. -ENOENT for a profile
 * that is not loaded, -EINVAL for a label that the policy does not know.
 */
int labels_try(int proc_fd, const struct spec_process *process, struct err *err);

/* Labels the keys that the calling process makes, until its exec. */
int labels_set_keys(int proc_fd, const struct spec_process *process, struct err *err);

/* From the next exec of the calling process on. */
int labels_set(int proc_fd, const struct spec_process *process, struct err *err);

/* A label for an inode of a file system that takes no context= option. */
int labels_set_file(int fd, const char *label, struct err *err);

#endif
