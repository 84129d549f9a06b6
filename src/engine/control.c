#include "engine/control.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/path.h"
#include "base/process.h"
#include "engine/end.h"
#include "engine/event.h"
#include "engine/shim_process.h"
#include "wall/wall.h"

static int find_running(struct engine *engine, const char *name, struct workload *ret,
                        struct err *err)
{
    int r = workload_find(engine, name, ret, err);
    if (r == 0 && ret->state != WORKLOAD_RUNNING && ret->state != WORKLOAD_PAUSED) {
        r = err_say(err, ESRCH, "workload '%s' does not run (%s)", ret->name,
                    workload_state_name(ret->state));
    }
    return r;
}

static int note(struct engine *engine, const struct workload *workload, const char *action,
                const char *attribute, struct err *err)
{
    AUTO(strv_donep) struct strv attributes = {0};
    (void)strv_addf(&attributes, "image=%s", workload->config.image);
    (void)strv_addf(&attributes, "name=%s", workload->name);
    if (attribute != NULL) {
        (void)strv_add(&attributes, attribute);
    }
    return event_add(engine->db, "container", action, workload->id, &attributes, err);
}

static int send_signal(struct engine *engine, const struct workload *workload, int signal,
                       struct err *err)
{
    const struct wall *wall;
    int r = wall_find(workload->config.isolation, &wall, err);
    if (r == 0) {
        r = wall->signal(engine->containers_dir, workload->id, signal, false, err);
    }
    if (r < 0) {
        return r;
    }
    AUTO(freep) char *attribute = str_printf("signal=%d", signal);
    return note(engine, workload, "kill", attribute, err);
}

/* From here on the restart policy rests. */
static int ask_stop(struct engine *engine, const char *id, struct err *err)
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
    workload.run.stop_asked = true;
    if (workload.state == WORKLOAD_RESTARTING) {
        workload.state = WORKLOAD_EXITED;
    }
    return workload_save(engine, &workload, err);
}

static int stop_signal_of(const struct workload *workload)
{
    const char *name = workload->config.stop_signal;
    return name != NULL ? signal_from_name(name) : SIGTERM;
}

int control_kill(struct engine *engine, const char *name, int signal, struct err *err)
{
    AUTO(workload_donep) struct workload workload = {0};
    int r = find_running(engine, name, &workload, err);
    if (r == 0 && (signal == SIGKILL || signal == stop_signal_of(&workload))) {
        /* Who ends it by hand does not want it back. */
        r = ask_stop(engine, workload.id, err);
    }
    return r < 0 ? r : send_signal(engine, &workload, signal, err);
}

/* Freezes or thaws; state and event follow. */
static int set_paused(struct engine *engine, const char *name, bool paused, struct err *err)
{
    AUTO(workload_donep) struct workload workload = {0};
    const struct wall *wall = NULL;
    int r = find_running(engine, name, &workload, err);
    if (r < 0) {
        return r;
    }
    AUTO(freep) char *id = strdup(workload.id);
    AUTO(closep) int lock = workload_lock(engine, workload.id, err);
    if (lock < 0) {
        return lock;
    }
    workload_done(&workload);
    r = id == NULL ? -ENOMEM : workload_load(engine, id, &workload, err);
    if (r == 0 && workload.state == WORKLOAD_PAUSED && paused) {
        return err_say(err, EALREADY, "workload '%s' is already paused", workload.name);
    }
    if (r == 0) {
        r = wall_find(workload.config.isolation, &wall, err);
    }
    if (r == 0 && paused) {
        r = wall->pause(engine->containers_dir, id, err);
    } else if (r == 0) {
        /* The cgroup knows: who paused or resumed may have been killed before it wrote the state.
         */
        struct err ours = ERR_NONE;
        r = wall->resume(engine->containers_dir, id, &ours);
        if (r == -EINVAL && workload.state == WORKLOAD_PAUSED) {
            r = 0;
        } else if (r < 0) {
            return r == -EINVAL
                       ? err_say(err, EALREADY, "workload '%s' is not paused", workload.name)
                       : err_say(err, -r, "%s", err_text(&ours));
        }
    }
    if (r == 0) {
        workload.state = paused ? WORKLOAD_PAUSED : WORKLOAD_RUNNING;
        r = workload_save(engine, &workload, err);
    }
    return r < 0 ? r : note(engine, &workload, paused ? "pause" : "unpause", NULL, err);
}

int control_pause(struct engine *engine, const char *name, struct err *err)
{
    return set_paused(engine, name, true, err);
}

int control_resume(struct engine *engine, const char *name, struct err *err)
{
    return set_paused(engine, name, false, err);
}

/*
 * Waits like shim_process_wait(). Thaws on the way: a pause that another command asks for after the
 * signal was sent would keep the workload from ever taking it.
 */
static int wait_awake(struct engine *engine, const struct workload *workload, int64_t timeout_ns,
                      int *ret_code, struct err *err)
{
    int64_t deadline = timeout_ns < 0 ? -1 : clock_monotonic_ns() + timeout_ns;
    for (int64_t slice = NS_PER_SEC / 10;; slice = MIN(slice * 2, 2 * NS_PER_SEC)) {
        int64_t left = deadline < 0 ? slice : MAX(deadline - clock_monotonic_ns(), (int64_t)0);
        *err = ERR_NONE;
        int r = shim_process_wait(engine, workload, MIN(slice, left), ret_code, err);
        if (r != -ETIMEDOUT || (deadline >= 0 && left <= slice)) {
            return r;
        }
        (void)control_resume(engine, workload->id, NULL);
    }
}

int control_stop(struct engine *engine, const char *name, int64_t timeout_s, int signal,
                 struct err *err)
{
    AUTO(workload_donep) struct workload workload = {0};
    int r = workload_find(engine, name, &workload, err);
    if (r == 0) {
        r = ask_stop(engine, workload.id, err);
    }
    if (r < 0 || (workload.state != WORKLOAD_RUNNING && workload.state != WORKLOAD_PAUSED)) {
        return r;
    }
    int code = 0;
    if (signal <= 0) {
        signal = stop_signal_of(&workload);
    }
    if (timeout_s < 0) {
        timeout_s = workload.config.stop_timeout;
    }
    /* The cgroup knows better than the state whether it is frozen: see set_paused(). */
    (void)control_resume(engine, workload.id, NULL);
    r = send_signal(engine, &workload, signal, err);
    if (r == 0) {
        r = wait_awake(engine, &workload, timeout_s < 0 ? -1 : timeout_s * NS_PER_SEC, &code, err);
    }
    if (r == -ETIMEDOUT) {
        *err = ERR_NONE;
        r = send_signal(engine, &workload, SIGKILL, err);
        if (r == 0 || r == -ESRCH) {
            r = wait_awake(engine, &workload, -1, &code, err);
        }
    }
    if (r == -ESRCH) {
        *err = ERR_NONE; /* it ended by itself meanwhile */
        r = 0;
    }
    if (r == 0) {
        r = end_run(engine, workload.id, err);
    }
    return r < 0 ? r : note(engine, &workload, "stop", NULL, err);
}

int control_rename(struct engine *engine, const char *name, const char *new_name, struct err *err)
{
    AUTO(workload_donep) struct workload workload = {0};
    if (!name_is_safe(new_name)) {
        return err_say(err, EINVAL,
                       "'%s' must start with a letter or digit and hold only [a-zA-Z0-9_.+-]",
                       new_name);
    }
    int r = workload_find(engine, name, &workload, err);
    if (r < 0) {
        return r;
    }
    /* Read again under the lock: the row is written whole, its state too. */
    char id[WORKLOAD_ID_SIZE];
    (void)snprintf(id, sizeof(id), "%s", workload.id);
    workload_done(&workload);
    AUTO(closep) int lock = workload_lock(engine, id, err);
    r = lock < 0 ? lock : workload_load(engine, id, &workload, err);
    if (r < 0) {
        return r;
    }
    free(workload.name);
    workload.name = strdup(new_name);
    workload.config.name = new_name;
    r = workload.name == NULL ? -ENOMEM : workload_save_config(engine, &workload, err);
    return r < 0 ? r : note(engine, &workload, "rename", NULL, err);
}

int control_wait(struct engine *engine, const char *name, int *ret_exit_code, struct err *err)
{
    AUTO(workload_donep) struct workload workload = {0};
    int r = workload_find(engine, name, &workload, err);
    if (r < 0) {
        return r;
    }
    if (workload.state == WORKLOAD_EXITED || workload.state == WORKLOAD_CREATED) {
        *ret_exit_code = (int)workload.run.exit_code;
        return 0;
    }
    return shim_process_wait(engine, &workload, -1, ret_exit_code, err);
}
