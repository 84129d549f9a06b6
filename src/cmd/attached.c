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

int attached_run(struct engine *engine, const char *id, bool tty, int *control_fd,
                 const struct attached_options *options, struct err *err)
{
    struct target target = {
        .engine = engine,
        .id = id,
        .roles = (unsigned)SHIM_WATCH |
                 (options->input || options->started ? (unsigned)SHIM_INPUT : 0U) |
                 (options->reaper ? (unsigned)SHIM_REAPER : 0U),
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
    int r = session_run(control_fd, &session, &end, &exit_code, err);
    if (r < 0) {
        return r;
    }
    switch (end) {
    case SESSION_DETACHED:
        (void)fprintf(stderr, "\r\n");
        return 0;
    case SESSION_EXITED:
        if (exit_code == 128 + SIGKILL) {
            explain(engine, id);
        }
        if (options->reaper) {
            const struct shim_message reaped = {.type = SHIM_REAPED};
            r = end_run(engine, id, err);
            if (r == 0) {
                (void)send(*control_fd, &reaped, sizeof(reaped), MSG_NOSIGNAL);
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
