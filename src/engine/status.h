/*
 * status.h - what a shim knows of its workload: RUN/workloads/ID/status.json.
 *
 * Written by the shim only, replaced in one step. Readers believe a pid only together with its
 * start time.
 */
#ifndef ENGINE_STATUS_H
#define ENGINE_STATUS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum health {
    HEALTH_NONE,
    HEALTH_STARTING,
    HEALTH_HEALTHY,
    HEALTH_UNHEALTHY,
};

/* Why the exit code is not the workload's own. */
enum status_reason {
    STATUS_REASON_NONE,
    STATUS_REASON_WAITER_KILLED,
    STATUS_REASON_WORKERS_DIE,
    STATUS_REASON_MACHINE_KILLED,
    STATUS_REASON_MACHINE_SHUTDOWN,
    STATUS_REASON_MACHINE_PANIC,
    STATUS_REASON_MACHINE_UNEMULATED,
    STATUS_REASON_MACHINE_SHARE_LOST,
};

struct workload_status {
    pid_t shim_pid; /* the waiter */
    uint64_t shim_start;
    pid_t worker_pid;
    uint64_t worker_start;
    pid_t pid;
    uint64_t pid_start;
    int64_t started_ns;  /* 0: not started */
    int64_t finished_ns; /* 0: not ended */
    int exit_code;
    int64_t lost_output; /* bytes that the log could not take */
    enum health health;
    int health_failures; /* in a row */
    int64_t health_checked_ns;
    int health_exit_code;
    enum status_reason reason;
    bool oom_killed; /* as the wall has told; others are asked what they count */
};

#define STATUS_FILE "status.json"

/* dir_fd is the workload's directory below RUN. */
int status_write(int dir_fd, const struct workload_status *status);

/* -ENOENT when there is none. */
int status_read(int dir_fd, struct workload_status *ret);

/* True while one of the shim's two processes lives. */
bool status_shim_alive(const struct workload_status *status);

/* For the user; NULL: the exit code is the workload's own. */
const char *status_reason_text(enum status_reason reason);

/* "starting", "healthy", "unhealthy"; "none". */
const char *health_name(enum health health);

#endif
