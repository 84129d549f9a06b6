/*
 * shim_process.h - starting isola-shim, and talking to the one of a running workload.
 */
#ifndef ENGINE_SHIM_PROCESS_H
#define ENGINE_SHIM_PROCESS_H

#include <stdint.h>

#include "engine/network.h"
#include "engine/shim_protocol.h"
#include "engine/workload.h"

struct err;

struct shim_process {
    const struct engine *engine;
    const struct workload *workload;
    const char *run_dir;
    const char *log_dir; /* NULL: no log */
    int rootfs_fd;
};

/* A shim that was just started: it is not in the status file yet. */
struct shim_identity {
    pid_t pid;
    uint64_t start_time;
};

/* Starts it detached from us. Returns our end of the control connection. */
int shim_process_spawn(const struct shim_process *process, struct shim_identity *ret,
                       struct err *err);

/*
 * Connects to the shim of a running workload with these roles. Waits while the shim lives and has
 * nobody who listens: its worker was killed, and is followed by another. Returns the connection.
 */
int shim_process_connect(struct engine *engine, const struct workload *workload, uint32_t roles,
                         struct err *err);

/*
 * The way to the shim of the run that is on now, also when the run is ended and its directory gone,
 * and never to that of a later run. An O_PATH descriptor or a negative errno.
 */
int shim_process_hold(struct engine *engine, const char *id);

/*
 * The same as connect after a connection broke: roles and what was seen are as before
 * (engine/shim_protocol.h, SHIM_RESUME). held_fd: of shim_process_hold(), or -1; identity may be
 * NULL.
 */
int shim_process_reconnect(struct engine *engine, const char *id, int held_fd,
                           const struct shim_identity *identity, uint32_t roles,
                           const struct shim_seen *seen, struct err *err);

/* Has it read RUN/workloads/ID/dns again. */
int shim_process_dns(struct engine *engine, const struct workload *workload, struct err *err);

/*
 * The directory of the files that the running workload has as its hosts, hostname and resolv.conf:
 * those that the user did not mount himself. A descriptor; -ENOENT: there are none.
 */
int shim_process_files(struct engine *engine, const struct workload *workload, struct err *err);

/*
 * Waits for the end of the run, whoever notes it. timeout_ns < 0: for ever. Returns 0 and the exit
 * code, or -ETIMEDOUT.
 */
int shim_process_wait(struct engine *engine, const struct workload *workload, int64_t timeout_ns,
                      int *ret_exit_code, struct err *err);

#endif
