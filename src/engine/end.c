#include "engine/end.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/path.h"
#include "base/process.h"
#include "engine/create.h"
#include "engine/event.h"
#include "engine/network.h"
#include "engine/start.h"
#include "engine/volume.h"
#include "image/store.h"
#include "wall/wall.h"

/* What a workload whose shim was killed is said to have ended with: 128 + SIGKILL. */
#define EXIT_CODE_LOST 137

#define REMOVE_TRIES 500

#define BACKOFF_FIRST_NS (100 * NS_PER_MS)
#define BACKOFF_MAX_NS (60 * NS_PER_SEC)
/* A run that lasted this long makes the back-off start anew. */
#define BACKOFF_FORGET_NS (10 * NS_PER_SEC)

bool end_is_due(const struct workload *workload)
{
    switch (workload->state) {
    case WORKLOAD_STARTING:
    case WORKLOAD_RUNNING:
    case WORKLOAD_PAUSED:
        return workload->status.finished_ns != 0 || !workload_status_alive(&workload->status);
    case WORKLOAD_CREATED:
    case WORKLOAD_RESTARTING:
    case WORKLOAD_EXITED:
        return false;
    }
    return false;
}

/* Whether another workload may live in a network namespace that was made for this one. */
static bool may_share_network(struct engine *engine, const char *id)
{
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    struct err err = ERR_NONE;
    /* Failing to know, it is assumed: that only costs time. */
    return db_prepare(engine->db, &stmt, &err,
                      "SELECT 1 FROM workload WHERE id != ? AND config LIKE '%\"container:%'"
                      " AND state IN ('starting', 'running', 'paused') LIMIT 1",
                      "s", id) < 0 ||
           db_step(engine->db, stmt, &err) != 0;
}

/*
 * With published ports in one transaction, which is what keeps `system check` from seeing the half
 * and making the nftables elements anew.
 */
static void give_network_back(struct engine *engine, struct network_host *host,
                              const struct network_lease *lease)
{
    AUTO(db_tx_donep) struct db_tx tx = {0};
    struct err err = ERR_NONE;
    bool shared = lease->endpoint_count > 0 && may_share_network(engine, lease->workload);
    if (lease->ports.count > 0 && db_begin(engine->db, &tx, &err) < 0) {
        return; /* the lease stays, and `system check` finds it */
    }
    /* The first process is dead by now: its namespace takes the links along unless it is shared. */
    (void)network_detach(host, lease, shared ? NETWORK_LINKS_REMOVE : NETWORK_LINKS_DIE, &err);
    if (network_release(host, lease->workload, &err) == 0 && tx.db != NULL) {
        (void)db_commit(&tx, &err);
    }
}

static void clean_up_wall(struct engine *engine, const char *id)
{
    const struct wall *wall;
    if (wall_find(NULL, &wall, NULL) == 0) {
        (void)wall->remove(engine->containers_dir, id, NULL);
    }
}

static void clean_up_network(struct engine *engine, const char *id)
{
    struct network_host *host;
    struct err err = ERR_NONE;
    if (engine_network(engine, &host, &err) == 0) {
        AUTO(network_lease_donep) struct network_lease lease = {0};
        if (network_load(host, id, &lease, &err) == 0) {
            give_network_back(engine, host, &lease);
        }
    }
}

void end_remove_run_dir(struct engine *engine, const char *id)
{
    AUTO(freep) char *run = workload_run_path(engine, id, NULL);
    /* A shim whose workload was just killed may write its last status into the emptied directory.
     */
    int r = run != NULL ? remove_tree_at(AT_FDCWD, run) : 0;
    for (int try = 0; r == -ENOTEMPTY && try < REMOVE_TRIES; try++) {
        const struct timespec wait = {.tv_nsec = NS_PER_MS};
        (void)nanosleep(&wait, NULL);
        r = remove_tree_at(AT_FDCWD, run);
    }
}

void end_clean_up(struct engine *engine, const char *id)
{
    clean_up_wall(engine, id);
    clean_up_network(engine, id);
    end_remove_run_dir(engine, id);
}

static bool was_oom_killed(struct engine *engine, const char *id)
{
    const struct wall *wall;
    uint64_t kills = 0;
    return wall_find(NULL, &wall, NULL) == 0 &&
           wall->oom_kills(engine->containers_dir, id, &kills, NULL) == 0 && kills > 0;
}

static bool wants_restart(const struct workload *workload)
{
    struct restart_policy policy;
    if (create_restart_policy(workload->config.restart, &policy, NULL) < 0 ||
        workload->run.stop_asked) {
        return false;
    }
    switch (policy.kind) {
    case RESTART_NO:
        return false;
    case RESTART_ON_FAILURE:
        return workload->run.exit_code != 0 &&
               (policy.max == 0 || workload->run.restarts < policy.max);
    case RESTART_ALWAYS:
    case RESTART_UNLESS_STOPPED:
        return true;
    }
    return false;
}

static int add_die_event(struct engine *engine, const struct workload *workload, struct err *err)
{
    AUTO(strv_donep) struct strv attributes = {0};
    (void)strv_addf(&attributes, "exitCode=%d", (int)workload->run.exit_code);
    (void)strv_addf(&attributes, "image=%s", workload->config.image);
    (void)strv_addf(&attributes, "name=%s", workload->name);
    if (workload->run.oom_killed) {
        int r = event_add(engine->db, "container", "oom", workload->id, &attributes, err);
        if (r < 0) {
            return r;
        }
    }
    return event_add(engine->db, "container", "die", workload->id, &attributes, err);
}

/* The row goes first: whoever dies behind it leaves only files that `system check` sweeps. */
static int destroy(struct engine *engine, struct workload *workload, bool volumes, bool died,
                   struct err *err)
{
    AUTO(strv_donep) struct strv attributes = {0};
    (void)strv_addf(&attributes, "image=%s", workload->config.image);
    (void)strv_addf(&attributes, "name=%s", workload->name);
    AUTO(db_tx_donep) struct db_tx tx = {0};
    struct image_store *store;
    int r = db_begin(engine->db, &tx, err);
    if (r == 0 && died) {
        r = add_die_event(engine, workload, err);
    }
    if (r == 0) {
        r = db_run(engine->db, err, "DELETE FROM workload WHERE id = ?", "s", workload->id);
    }
    if (r >= 0) {
        r = event_add(engine->db, "container", "destroy", workload->id, &attributes, err);
    }
    if (r >= 0) {
        r = db_commit(&tx, err);
    }
    if (r < 0) {
        return r;
    }
    for (size_t i = 0; volumes && i < workload->config.anonymous_volume.count; i++) {
        const char *equals = strchr(workload->config.anonymous_volume.items[i], '=');
        if (equals != NULL) {
            (void)volume_remove(engine, equals + 1, NULL);
        }
    }
    if (engine_store(engine, &store, NULL) == 0) {
        (void)image_unpin(store, workload->id, NULL);
    }
    AUTO(freep) char *dir = workload_root_path(engine, workload->id, NULL);
    r = dir == NULL ? -ENOMEM : remove_tree_at(AT_FDCWD, dir);
    workload_remove_lock(engine, workload->id);
    return r < 0 ? err_set(err, -r, "remove '%s'", dir) : 0;
}

/*
 * The caller holds the lock, and removes the run directory behind us: with the status file in it an
 * end that is cut short here is ended again, with the same exit code. keep_wall: somebody else
 * removes what the wall has made.
 */
static int finish(struct engine *engine, struct workload *workload, bool keep_wall, struct err *err)
{
    struct workload_run *run = &workload->run;
    const struct workload_status *status = &workload->status;
    bool started = workload->state != WORKLOAD_STARTING || status->started_ns != 0;
    if (started) {
        run->started_ns = status->started_ns != 0 ? status->started_ns : run->started_ns;
        run->oom_killed = status->oom_killed || was_oom_killed(engine, workload->id);
        run->finished_ns = status->finished_ns != 0 ? status->finished_ns : clock_realtime_ns();
        run->exit_code = status->finished_ns != 0 ? status->exit_code : EXIT_CODE_LOST;
        run->error = status_reason_text(status->finished_ns != 0 ? status->reason
                                                                 : STATUS_REASON_WAITER_KILLED);
    } else {
        run->error = "its start was cut short"; /* the last run's end stays what it was */
    }
    run->pid = 0;
    if (!keep_wall) {
        clean_up_wall(engine, workload->id);
    }
    clean_up_network(engine, workload->id);
    if (workload->config.rm) {
        return destroy(engine, workload, true, true, err);
    }
    bool never_ran = !started && run->started_ns == 0;
    workload->state = never_ran                            ? WORKLOAD_CREATED
                      : started && wants_restart(workload) ? WORKLOAD_RESTARTING
                                                           : WORKLOAD_EXITED;
    AUTO(db_tx_donep) struct db_tx tx = {0};
    int r = db_begin(engine->db, &tx, err);
    if (r == 0) {
        r = workload_save(engine, workload, err);
    }
    if (r == 0 && started) {
        r = add_die_event(engine, workload, err);
    }
    return r < 0 ? r : db_commit(&tx, err);
}

int end_run(struct engine *engine, const char *id, struct err *err)
{
    AUTO(workload_donep) struct workload workload = {0};
    AUTO(closep) int lock = workload_lock(engine, id, err);
    if (lock < 0) {
        return lock;
    }
    struct err missing = ERR_NONE;
    int r = workload_load(engine, id, &workload, &missing);
    if (r == -ENOENT) {
        end_clean_up(engine, id); /* of one who was removing it and did not come to the end */
        workload_remove_lock(engine, id);
        return 0;
    }
    if (r < 0) {
        return err_say(err, -r, "%s", err_text(&missing));
    }
    if (!end_is_due(&workload)) {
        return 0;
    }
    if (workload.status.finished_ns == 0) {
        /* Nobody lives any more, but the status may have been written after we read it. */
        workload_done(&workload);
        r = workload_load(engine, id, &workload, err);
        if (r < 0) {
            return r;
        }
    }
    r = finish(engine, &workload, false, err);
    if (r == 0) {
        end_remove_run_dir(engine, id);
    }
    return r < 0 ? err_wrap(err, -r, "end the run of '%s'", workload.name) : 0;
}

int end_remove_ahead(struct engine *engine, const char *id, int exit_code, struct err *err)
{
    AUTO(workload_donep) struct workload workload = {0};
    AUTO(closep) int lock = workload_lock(engine, id, err);
    int r = lock < 0 ? lock : workload_load(engine, id, &workload, err);
    if (r < 0) {
        return r;
    }
    if (workload.state != WORKLOAD_RUNNING || !workload.config.rm ||
        workload.status.started_ns == 0) {
        return err_say(err, EINVAL, "workload '%s' is %s", workload.name,
                       workload_state_name(workload.state));
    }
    workload.status.finished_ns = clock_realtime_ns();
    workload.status.exit_code = exit_code;
    r = finish(engine, &workload, true, err);
    return r < 0 ? err_wrap(err, -r, "end the run of '%s'", workload.name) : 0;
}

static int64_t backoff_ns(const struct workload *workload)
{
    if (workload->run.finished_ns - workload->run.started_ns > BACKOFF_FORGET_NS) {
        return BACKOFF_FIRST_NS;
    }
    int64_t wait = BACKOFF_FIRST_NS << MIN(workload->run.restarts, (int64_t)20);
    return MIN(wait, BACKOFF_MAX_NS);
}

int end_run_and_restart(struct engine *engine, const char *id, struct err *err)
{
    int r = end_run(engine, id, err);
    while (r == 0) {
        AUTO(workload_donep) struct workload workload = {0};
        struct err missing = ERR_NONE;
        if (workload_load(engine, id, &workload, &missing) < 0 ||
            workload.state != WORKLOAD_RESTARTING) {
            return 0;
        }
        int64_t wait = backoff_ns(&workload);
        const struct timespec ts = {.tv_sec = wait / NS_PER_SEC, .tv_nsec = wait % NS_PER_SEC};
        (void)nanosleep(&ts, NULL);
        workload_done(&workload);
        /* A stop, start or rm while we slept has changed the state. */
        if (workload_load(engine, id, &workload, &missing) < 0 ||
            workload.state != WORKLOAD_RESTARTING) {
            return 0;
        }
        const struct start_options options = {.restart = true};
        r = start_workload(engine, id, &options, NULL, NULL, err);
        if (r == 0) {
            return 0;
        }
        /* It could not even start: that counts as a failed run. */
        workload_done(&workload);
        AUTO(closep) int lock = workload_lock(engine, id, NULL);
        if (lock < 0 || workload_load(engine, id, &workload, &missing) < 0 ||
            workload.state != WORKLOAD_EXITED) {
            return r;
        }
        workload.run.finished_ns = clock_realtime_ns();
        workload.state = wants_restart(&workload) ? WORKLOAD_RESTARTING : WORKLOAD_EXITED;
        r = workload_save(engine, &workload, err);
    }
    return r;
}

int end_remove(struct engine *engine, const char *id, bool force, bool volumes, struct err *err)
{
    AUTO(workload_donep) struct workload workload = {0};
    AUTO(closep) int lock = workload_lock(engine, id, err);
    if (lock < 0) {
        return lock;
    }
    int r = workload_load(engine, id, &workload, err);
    if (r < 0) {
        return r;
    }
    bool alive = (workload.state == WORKLOAD_RUNNING || workload.state == WORKLOAD_PAUSED) &&
                 workload.status.finished_ns == 0 && workload_status_alive(&workload.status);
    if (alive && !force) {
        (void)err_say(err, EBUSY, "workload '%s' is %s", workload.name,
                      workload_state_name(workload.state));
        err_hint(err, "stop it first or use `isola rm -f`");
        return -EBUSY;
    }
    if (workload.state != WORKLOAD_CREATED && workload.state != WORKLOAD_EXITED) {
        end_clean_up(engine, id);
    }
    if (alive) {
        workload.run.exit_code = EXIT_CODE_LOST;
        r = add_die_event(engine, &workload, err);
    }
    return r < 0 ? r : destroy(engine, &workload, volumes || workload.config.rm, false, err);
}
