/*
 * end.h - the end of a run, and of a workload.
 */
#ifndef ENGINE_END_H
#define ENGINE_END_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/workload.h"

/* True when the database still says that it runs, but its shim says (or cannot say) otherwise. */
bool end_is_due(const struct workload *workload);

/*
 * Ends the run in the database: exit status, network, cgroup, event; then removes (--rm) or decides
 * about a restart. Nothing to end is success. Takes the workload's lock.
 */
int end_run(struct engine *engine, const char *id, struct err *err);

/*
 * end_run() after SHIM_ENDING, of a workload with --rm: it is removed, but for what its wall has
 * made and its RUN directory, which its shim removes when it hears SHIM_REAPED.
 */
int end_remove_ahead(struct engine *engine, const char *id, int exit_code, struct err *err);

/* end_run() for `isola reap`: also waits for and does the restart that the policy wants. */
int end_run_and_restart(struct engine *engine, const char *id, struct err *err);

/*
 * Removes a workload that does not run; force: kills it first. With volumes also its anonymous
 * ones. Takes the lock.
 */
int end_remove(struct engine *engine, const char *id, bool force, bool volumes, struct err *err);

/*
 * Ends and removes whatever a run left, seen by the database or not: processes, cgroup, network,
 * leases, RUN directory. Never fails; idempotent. The caller holds the lock.
 */
void end_clean_up(struct engine *engine, const char *id);

/* Only its directory below RUN, with status and socket. */
void end_remove_run_dir(struct engine *engine, const char *id);

#endif
