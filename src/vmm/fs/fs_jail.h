/*
 * fs_jail.h - what is left to isola-fs before its first request: the shared directory, and no
 * program, process or network.
 *
 * In this order, in a process of one thread. What a file is opened for comes in between.
 */
#ifndef VMM_FS_FS_JAIL_H
#define VMM_FS_FS_JAIL_H

struct err;

/*
 * Mount, network, ipc, uts and cgroup namespaces of its own. 1: they are there. 0: the process may
 * make none, which is so in the container of isola run, whose namespaces are the machine's.
 */
int fs_jail_leave_host(struct err *err);

/* The directory *root_fd, with what is mounted below it, becomes the root directory of the process:
 * there is nothing else. *root_fd is then open there. Only after a 1 from above. */
int fs_jail_set_root(int *root_fd, struct err *err);

/*
 * Capabilities on files, Landlock below root_fd (borrowed), a list of system calls; any other ends
 * the process.
 */
int fs_jail_enter(int root_fd, struct err *err);

#endif
