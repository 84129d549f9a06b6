/*
 * shim_process.h - starting isola-shim, and talking to the one of a running workload.
 */
#ifndef ENGINE_SHIM_PROCESS_H
#define ENGINE_SHIM_PROCESS_H

#include <stdint.h>

#include "engine/network.h"
#include "engine/workload.h"

struct err;

struct shim_process {
    const struct engine *engine;
    const struct workload *workload;
    const char *run_dir;
    const char *log_dir; /* NULL: no log */
    int rootfs_fd;
    const struct network_dns *dns;
};

/* Starts it detached from us. Returns our end of the control connection. */
int shim_process_spawn(const struct shim_process *process, struct err *err);

/* Connects to the shim of a running workload with these roles. Returns the connection. */
int shim_process_connect(struct engine *engine, const struct workload *workload, uint32_t roles,
                         struct err *err);

/*
 * Waits for the end of the run, whoever notes it. timeout_ns < 0: for ever. Returns 0 and the exit
 * code, or -ETIMEDOUT.
 */
int shim_process_wait(struct engine *engine, const struct workload *workload, int64_t timeout_ns,
                      int *ret_exit_code, struct err *err);

#endif
