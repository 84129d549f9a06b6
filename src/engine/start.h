/*
 * start.h - bringing a created or ended workload to life.
 */
#ifndef ENGINE_START_H
#define ENGINE_START_H

#include <stdbool.h>

#include "engine/workload.h"

struct err;

struct start_options {
    bool watch;   /* keep the control connection: output comes through it */
    bool reaper;  /* the caller will end the run itself after SHIM_EXITED */
    bool remover; /* and with that remove the workload: SHIM_ENDING is welcome */
    bool restart; /* by the restart policy: keeps the count */
};

/*
 * Starts it: shim, network, process. Takes the lock for the time of the start. On success
 * *ret_control (may be NULL) is the connection to the shim when options->watch, else -1, and is the
 * caller's. *ret_exit_code (may be NULL) is 125, 126 or 127 after a failure.
 */
int start_workload(struct engine *engine, const char *id, const struct start_options *options,
                   int *ret_control, int *ret_exit_code, struct err *err);

#endif
