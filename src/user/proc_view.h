/*
 * proc_view.h - what the guest finds below /proc where the host's shows this program (proc(5)).
 *
 * A path is one of them as it is written: nothing is looked up, and what is opened relative to a
 * descriptor of /proc shows the host's. Threads: any.
 */
#ifndef USER_PROC_VIEW_H
#define USER_PROC_VIEW_H

#include <stddef.h>

struct user;

/* Where the "exe" of this process, or of another that we run, really is: path itself for all
 * others. */
const char *proc_view_exe(const struct user *user, const char *path, char *room, size_t size);

/*
 * Opens a text that is made for it: maps of this process, auxv and cmdline where the kernel could
 * not be told, cpuinfo. flags: the host's of open(2). -ENOENT: it is none of these.
 */
int proc_view_open(struct user *user, const char *path, int flags);

/* Tells the kernel where arguments, environment and auxiliary vector are, for everybody's /proc. */
void proc_view_announce(struct user *user);

#endif
