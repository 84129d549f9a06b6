/*
 * control.h - what is done to workloads that run.
 */
#ifndef ENGINE_CONTROL_H
#define ENGINE_CONTROL_H

#include "engine/workload.h"

struct err;

/* Sends a signal to the first process. -ESRCH when it does not run. */
int control_kill(struct engine *engine, const char *name, int signal, struct err *err);

/*
 * Its stop signal, then SIGKILL after timeout_s seconds (negative: its own). Not running: success.
 * The restart policy rests until the next start.
 */
int control_stop(struct engine *engine, const char *name, int64_t timeout_s, int signal,
                 struct err *err);

int control_pause(struct engine *engine, const char *name, struct err *err);
int control_resume(struct engine *engine, const char *name, struct err *err);
int control_rename(struct engine *engine, const char *name, const char *new_name, struct err *err);

/* Waits for the end of the run; not running: the exit code of the last one. */
int control_wait(struct engine *engine, const char *name, int *ret_exit_code, struct err *err);

#endif
