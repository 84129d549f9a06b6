/*
 * workload.h - a workload as state.db knows it, and whether it lives.
 */
#ifndef ENGINE_WORKLOAD_H
#define ENGINE_WORKLOAD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "engine/config.h"
#include "engine/engine.h"
#include "engine/status.h"

struct err;

#define WORKLOAD_ID_SIZE ((size_t)65) /* 64 hex digits and NUL */
#define WORKLOAD_SHORT_ID_LENGTH ((size_t)12)

enum workload_state {
    WORKLOAD_CREATED,
    WORKLOAD_STARTING, /* an isola holds its lock, or died while it did */
    WORKLOAD_RUNNING,
    WORKLOAD_PAUSED,
    WORKLOAD_RESTARTING, /* waits before its next start */
    WORKLOAD_EXITED,
};

/* The column `runtime`: what the last run was. */
struct workload_run {
    int64_t started_ns;
    int64_t finished_ns;
    int64_t exit_code;
    int64_t pid;
    int64_t restarts; /* by the restart policy, since the last start by hand */
    bool oom_killed;
    bool stop_asked;   /* a user stopped it: the restart policy rests */
    const char *error; /* why the start failed or the exit is unknown; points into json */
    json_t *json;
};

struct workload {
    char id[WORKLOAD_ID_SIZE];
    char *name;
    enum workload_state state;
    int64_t created_ns;
    struct workload_config config;
    struct workload_run run;
    struct workload_status status; /* of the shim; zeroed unless state says that it lives */
    /*
     * Who started it was killed before it noted the start: state and run are as if it had. Noted by
     * workload_find() and workload_list().
     */
    bool adopted;
};

void workload_done(struct workload *workload);
DEFINE_DONEP(struct workload, workload_done)

/* Docker's words. */
const char *workload_state_name(enum workload_state state);

/*
 * By name, id or unique beginning of an id. A run that has ended unnoticed is ended in the database
 * first (engine/end.h), so that what the caller reads is true. -ENOENT, -EEXIST (ambiguous).
 */
int workload_find(struct engine *engine, const char *name, struct workload *ret, struct err *err);

/* The same without ending runs: for those who hold the lock. */
int workload_load(struct engine *engine, const char *id, struct workload *ret, struct err *err);

struct workload_list {
    struct workload *items; /* newest first */
    size_t count;
};
void workload_list_done(struct workload_list *list);
DEFINE_DONEP(struct workload_list, workload_list_done)

int workload_list(struct engine *engine, struct workload_list *ret, struct err *err);

/* Inserts the row; -EEXIST with the name in err when the name is taken. Inside a transaction. */
int workload_insert(struct engine *engine, const struct workload *workload, struct err *err);

/* Writes state and run. */
int workload_save(struct engine *engine, const struct workload *workload, struct err *err);

/* Writes name and config as well. */
int workload_save_config(struct engine *engine, const struct workload *workload, struct err *err);

/* Excludes other processes from this workload until the descriptor is closed. */
int workload_lock(struct engine *engine, const char *id, struct err *err);

/* The same, but -EWOULDBLOCK, err untouched, when another process has it. */
int workload_try_lock(struct engine *engine, const char *id, struct err *err);

/* By the holder of the lock of a workload that is gone; the next to lock notices (base/lock.h). */
void workload_remove_lock(struct engine *engine, const char *id);

/* Paths that the caller frees: below ROOT/workloads/ID and RUN/workloads/ID. NULL: no memory. */
char *workload_root_path(const struct engine *engine, const char *id, const char *name);
char *workload_run_path(const struct engine *engine, const char *id, const char *name);

/* True while a process of the shim or the first process lives. */
bool workload_status_alive(const struct workload_status *status);

/* A new random id. */
int workload_new_id(char ret[WORKLOAD_ID_SIZE]);

/* A random name of two words; try says how often it was taken before. */
void workload_new_name(int try, char *ret, size_t size);

#endif
