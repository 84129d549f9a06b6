/*
 * engine.h - one opened engine: directories, state database, image store, networks.
 *
 * For one thread and one command; any number of processes may have one open. Functions that change
 * a workload hold its lock (workload_lock()) from the first look at its state to the last write.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "base/cleanup.h"
#include "base/dirs.h"
#include "engine/db.h"

struct err;
struct image_store;
struct network_host;

struct engine {
    struct dirs dirs;
    struct db *db;
    char *containers_dir;      /* RUN/containers: state of the walls */
    struct image_store *store; /* by engine_store() */
    struct network_host *host; /* by engine_network() */
};

/* NULL: environment or default (base/dirs.h). */
int engine_open(const char *root, const char *run, struct engine **ret, struct err *err);
void engine_close(struct engine *engine);
DEFINE_FREEP(struct engine *, engine_close)

/* Opened on first use; the engine's. */
int engine_store(struct engine *engine, struct image_store **ret, struct err *err);
int engine_network(struct engine *engine, struct network_host **ret, struct err *err);

#endif
