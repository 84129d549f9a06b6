/*
 * gdb.h - gdb's remote protocol ("Debugging with GDB", appendix E) for a whole machine: its CPUs
 * are threads 1 to n, its memory is what the current CPU's page tables show.
 *
 * A machine with a debugger's socket starts with its CPUs standing at their entry, until a debugger
 * lets them go; one that leaves takes its breakpoints along. On the loop's thread.
 */
#ifndef VMM_GDB_H
#define VMM_GDB_H

#include "base/cleanup.h"

struct err;
struct gdb;
struct loop;
struct machine;

/*
 * A socket that listens, at "unix:PATH" (mode 0600) or "127.0.0.1:PORT", which every user of this
 * host reaches. The descriptor and *ret_path (NULL: none; to be removed at the end) are the
 * caller's.
 */
int gdb_socket(const char *where, char **ret_path, struct err *err);
/* fd listens and is the debugger's from then on, also on failure. */
int gdb_new(int fd, struct loop *loop, struct gdb **ret, struct err *err);
/* Tells the debugger that the machine is gone; when the loop does not run any more. */
void gdb_free(struct gdb *gdb);
DEFINE_FREEP(struct gdb *, gdb_free)

/* Before machine_start(): pauses it. NULL: it is gone again. */
int gdb_attach(struct gdb *gdb, struct machine *machine, struct err *err);

#endif
