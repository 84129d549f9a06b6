#include "cmd/attached.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "cmd/session.h"
#include "engine/control.h"
#include "engine/end.h"
#include "engine/shim_process.h"
#include "engine/status.h"

/* Of isola-vmm, and of workloads that choose to end so. */
#define EXIT_MACHINE_FAILED 126

struct target {
    struct engine *engine;
    const char *id;
    uint32_t roles;
    int held_fd;
};

static void pass_signal(int signal, void *data)
{
    const struct target *target = data;
    (void)control_kill(target->engine, target->id, signal, NULL);
}

static int reconnect(const struct shim_seen *seen, void *data)
{
    const struct target *target = data;
    return shim_process_reconnect(target->engine, target->id, target->held_fd, NULL, target->roles,
                                  seen, NULL);
}

/* An exit code that is not the workload's own is explained: nobody can inspect what --rm removed.
 */
static void explain(struct engine *engine, const char *id)
{
    AUTO(workload_donep) struct workload workload = {0};
    if (workload_load(engine, id, &workload, NULL) < 0) {
        return;
    }
    const char *why = status_reason_text(workload.status.reason);
    if (why != NULL) {
        (void)fprintf(stderr, "isola: '%s' ended: %s\n", workload.name, why);
    }
}

static void say_reaped(int control_fd)
{
    const struct shim_message reaped = {.type = SHIM_REAPED};
    (void)send(control_fd, &reaped, sizeof(reaped), MSG_NOSIGNAL);
}

/*
 * With SHIM_ENDING the workload is removed before its shim has come to its end. Where that cannot
 * be, the end is waited for as ever.
 */
static int follow(struct target *target, int *control_fd, const struct session_options *session,
                  enum session_end *ret_end, int *ret_code, struct err *err)
{
    int r = session_run(control_fd, session, ret_end, ret_code, err);
    if (r == 0 && *ret_end == SESSION_ENDING) {
        if (end_remove_ahead(target->engine, target->id, *ret_code, NULL) == 0) {
            say_reaped(*control_fd);
            return 0;
        }
        r = session_run(control_fd, session, ret_end, ret_code, err);
    }
    return r;
}

int attached_run(struct engine *engine, const char *id, bool tty, int *control_fd,
                 const struct attached_options *options, struct err *err)
{
    struct target target = {
        .engine = engine,
        .id = id,
        .roles = (unsigned)SHIM_WATCH |
                 (options->input || options->started ? (unsigned)SHIM_INPUT : 0U) |
                 (options->reaper ? (unsigned)SHIM_REAPER : 0U) |
                 (options->remover ? (unsigned)SHIM_REMOVER : 0U),
    };
    const struct session_options session = {
        .tty = tty,
        .input = options->input,
        .proxy = options->proxy,
        .detach_keys = options->detach_keys,
        .signal = pass_signal,
        .reconnect = reconnect,
        .data = &target,
    };
    enum session_end end;
    int exit_code = 0;
    AUTO(closep) int held = shim_process_hold(engine, id);
    target.held_fd = held;
    int r = follow(&target, control_fd, &session, &end, &exit_code, err);
    if (r < 0) {
        return r;
    }
    switch (end) {
    case SESSION_DETACHED:
        (void)fprintf(stderr, "\r\n");
        return 0;
    case SESSION_ENDING:
        return exit_code;
    case SESSION_EXITED:
        if (exit_code == 128 + SIGKILL || exit_code == EXIT_MACHINE_FAILED) {
            explain(engine, id);
        }
        if (options->reaper) {
            r = end_run(engine, id, err);
            if (r == 0) {
                say_reaped(*control_fd);
            }
        }
        return r < 0 ? r : exit_code;
    case SESSION_LOST: {
        AUTO(workload_donep) struct workload workload = {0};
        r = workload_find(engine, id, &workload, err);
        if (r == -ENOENT) {
            return err_say(err, EPIPE, "the workload's isola-shim was killed");
        }
        return r < 0 ? r : (int)workload.run.exit_code;
    }
    }
    return -EINVAL;
}
