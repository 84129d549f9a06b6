/*
 * attached.h - being attached to a workload until it ends or the user detaches.
 */
#ifndef CMD_ATTACHED_H
#define CMD_ATTACHED_H

#include <stdbool.h>

#include "engine/workload.h"

struct err;

struct attached_options {
    bool input;
    bool started; /* we started it: our end is the end of its standard input */
    bool proxy;   /* pass signals on */
    bool reaper;  /* we end the run, as was agreed with the shim at its start */
    bool remover; /* and that removes the workload (--rm), agreed as well */
    const char *detach_keys;
};

/*
 * Copies stdio over *control_fd, which is another after the shim's worker was replaced. Returns the
 * exit code for our own exit: the workload's, or 0 after detaching.
 */
int attached_run(struct engine *engine, const char *id, bool tty, int *control_fd,
                 const struct attached_options *options, struct err *err);

#endif
