/*
 * dirs.h - where Isola keeps its things.
 *
 * root: what must survive a reboot (images, volumes, workloads). run: what must not (sockets,
 * pids). Defaults: /var/lib/isola and /run/isola for root; below XDG_DATA_HOME and XDG_RUNTIME_DIR
 * for others. ISOLA_ROOT and ISOLA_RUN override both.
 */
#ifndef BASE_DIRS_H
#define BASE_DIRS_H

#include "base/cleanup.h"

struct err;

struct dirs {
    char *root; /* absolute, exists */
    char *run;  /* absolute, exists */
};

/* NULL arguments mean the environment or the default. Makes both directories (mode 0711). */
int dirs_init(const char *root, const char *run, struct dirs *ret, struct err *err);
void dirs_done(struct dirs *dirs);
DEFINE_DONEP(struct dirs, dirs_done)

/*
 * The path of one of our own helper programs ("isola-shim"), that the caller frees: beside the
 * running program (a build tree), else in libexec, or in bin if only there. NULL without memory.
 */
char *dirs_helper(const char *program);

#endif
