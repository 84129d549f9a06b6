/* One table of requests; each function answers itself when it succeeds. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "container/container.h"
#include "guest/agent.h"

typedef int request_fn(struct connection *c, json_t *message, bool *exec_failed, struct err *err);

static const struct json_path top = {.key = "request"};

static void send_ok(struct connection *c)
{
    connection_send(c, json_pack("{s:s}", "type", "ok"));
}

static int on_configure(struct connection *c, json_t *message, bool *exec_failed, struct err *err)
{
    AUTO(guest_config_donep) struct guest_config config = {0};
    int r = guest_config_parse(message, &config, err);
    if (r < 0) {
        return r; /* nothing was touched: the host may try again */
    }
    r = workload_configure(c->agent, &config, exec_failed, err);
    if (r < 0 && r != -EBUSY) {
        agent_fail(c->agent, err);
    }
    if (r == 0) {
        connection_send(c, json_pack("{s:s, s:i}", "type", "ok", "pid", c->agent->workload.pid));
    }
    return r;
}

static int on_start(struct connection *c, json_t *message, bool *exec_failed, struct err *err)
{
    (void)message;
    bool created = c->agent->workload.state == WORKLOAD_CREATED;
    int r = workload_start(c->agent, exec_failed, err);
    if (r < 0) {
        if (created) {
            agent_fail(c->agent, err);
        }
        return r;
    }
    c->waits = true;
    connection_send(c, json_pack("{s:s, s:i}", "type", "started", "pid", c->agent->workload.pid));
    return 0;
}

/* Also of a workload that has ended: how `start`'s connection is replaced when it was cut. */
static int on_wait(struct connection *c, json_t *message, bool *exec_failed, struct err *err)
{
    (void)message;
    (void)exec_failed;
    struct workload *w = &c->agent->workload;
    if (w->state != WORKLOAD_RUNNING && w->state != WORKLOAD_EXITED) {
        return err_say(err, ESRCH, "the workload has not been started");
    }
    c->waits = true;
    if (w->state == WORKLOAD_EXITED && w->stdio.open_outputs == 0) {
        agent_report_exit(c->agent);
    }
    return 0;
}

static int on_exec(struct connection *c, json_t *message, bool *exec_failed, struct err *err)
{
    return exec_start(c, message, exec_failed, err);
}

static int on_files(struct connection *c, json_t *message, bool *exec_failed, struct err *err)
{
    (void)exec_failed;
    return exec_start_files(c, message, err);
}

static int on_signal(struct connection *c, json_t *message, bool *exec_failed, struct err *err)
{
    (void)exec_failed;
    const char *name = NULL;
    int64_t signal = 0;
    bool all = false;
    int r = json_get_int(message, &top, "signal", 1, SIGRTMAX, &signal, err);
    if (r == 0) {
        r = err_say(err, EINVAL, "request.signal: is missing");
    }
    r = r < 0 ? r : json_get_string(message, &top, "name", &name, err);
    r = r < 0 ? r : json_get_bool(message, &top, "all", &all, err);
    if (r >= 0) {
        r = name != NULL
                ? exec_signal(c->agent, name, (int)signal, err)
                : container_kill(GUEST_CONTAINERS, c->agent->workload.id, (int)signal, all, err);
    }
    if (r == 0) {
        send_ok(c);
    }
    return r;
}

static int on_resize(struct connection *c, json_t *message, bool *exec_failed, struct err *err)
{
    (void)exec_failed;
    const char *name = NULL;
    int64_t rows = 0;
    int64_t columns = 0;
    int r = json_get_int(message, &top, "rows", 0, UINT16_MAX, &rows, err);
    r = r < 0 ? r : json_get_int(message, &top, "columns", 0, UINT16_MAX, &columns, err);
    r = r < 0 ? r : json_get_string(message, &top, "name", &name, err);
    if (r >= 0) {
        r = name != NULL ? exec_resize(c->agent, name, (unsigned)rows, (unsigned)columns, err)
                         : guest_stdio_resize(&c->agent->workload.stdio, (unsigned)rows,
                                              (unsigned)columns, err);
    }
    if (r == 0) {
        send_ok(c);
    }
    return r;
}

static int on_stats(struct connection *c, json_t *message, bool *exec_failed, struct err *err)
{
    (void)message;
    (void)exec_failed;
    struct container_stats stats = {0};
    int r = container_stats(GUEST_CONTAINERS, c->agent->workload.id, &stats, err);
    if (r == 0) {
        connection_send(c, guest_stats_new(&stats));
    }
    return r;
}

static int on_pids(struct connection *c, json_t *message, bool *exec_failed, struct err *err)
{
    (void)message;
    (void)exec_failed;
    AUTO(freep) pid_t *pids = NULL;
    size_t count = 0;
    int r = container_pids(GUEST_CONTAINERS, c->agent->workload.id, &pids, &count, err);
    if (r == 0) {
        connection_send(c, json_pack("{s:s, s:o}", "type", "pids", "processes",
                                     processes_describe(pids, count)));
    }
    return r;
}

static int on_pause(struct connection *c, json_t *message, bool *exec_failed, struct err *err)
{
    (void)message;
    (void)exec_failed;
    int r = container_pause(GUEST_CONTAINERS, c->agent->workload.id, err);
    if (r == 0) {
        send_ok(c);
    }
    return r;
}

static int on_resume(struct connection *c, json_t *message, bool *exec_failed, struct err *err)
{
    (void)message;
    (void)exec_failed;
    int r = container_resume(GUEST_CONTAINERS, c->agent->workload.id, err);
    if (r == 0) {
        send_ok(c);
    }
    return r;
}

static int on_update(struct connection *c, json_t *message, bool *exec_failed, struct err *err)
{
    (void)exec_failed;
    AUTO(spec_freep) struct spec *spec = NULL;
    json_t *resources = NULL;
    int r = json_get_object(message, &top, "resources", &resources, err);
    if (r <= 0) {
        return r < 0 ? r : err_say(err, EINVAL, "request.resources: is missing");
    }
    AUTO(freep) char *text = json_dumps(resources, JSON_COMPACT);
    r = text == NULL ? err_set(err, ENOMEM, "update")
                     : spec_parse_resources(text, strlen(text), "request.resources", &spec, err);
    r = r < 0 ? r
              : container_update(GUEST_CONTAINERS, c->agent->workload.id, &spec->resources, err);
    if (r == 0) {
        send_ok(c);
    }
    return r;
}

/* After a restore from a snapshot the clock is that of the snapshot. */
static int on_restored(struct connection *c, json_t *message, bool *exec_failed, struct err *err)
{
    (void)exec_failed;
    int64_t ns = 0;
    int r = json_get_int(message, &top, "realtime_ns", 1, INT64_MAX, &ns, err);
    const struct timespec now = {.tv_sec = ns / NS_PER_SEC, .tv_nsec = ns % NS_PER_SEC};
    if (r > 0 && clock_settime(CLOCK_REALTIME, &now) < 0) {
        r = err_set(err, errno, "set the clock");
    }
    if (r >= 0) {
        send_ok(c);
    }
    return MIN(r, 0);
}

static int on_power_off(struct connection *c, json_t *message, bool *exec_failed, struct err *err)
{
    (void)message;
    (void)exec_failed;
    (void)err;
    send_ok(c);
    loop_quit(c->agent->loop, 0);
    return 0;
}

static const struct {
    const char *type;
    request_fn *fn;
    bool needs_workload;
    bool even_failed; /* also when the machine is of no use */
} requests[] = {
    {"configure", on_configure, false, false},
    {"exec", on_exec, true, false},
    {"files", on_files, true, false},
    {"pause", on_pause, true, false},
    {"pids", on_pids, true, false},
    {"power-off", on_power_off, false, true},
    {"resize", on_resize, true, false},
    {"restored", on_restored, false, false},
    {"resume", on_resume, true, false},
    {"signal", on_signal, true, false},
    {"start", on_start, false, false},
    {"stats", on_stats, true, false},
    {"update", on_update, true, false},
    {"wait", on_wait, false, false},
};

void request_handle(struct connection *c, json_t *message)
{
    struct agent *agent = c->agent;
    struct err err = ERR_NONE;
    bool exec_failed = false;
    const char *type = guest_message_type(message);
    size_t i = 0;
    while (i < COUNT(requests) && !str_eq(requests[i].type, type)) {
        i++;
    }
    int r = 0;
    if (i == COUNT(requests)) {
        r = err_say(&err, EOPNOTSUPP, "this agent does not know the request '%.40s'", type);
    } else if (agent->failed.code != 0 && !requests[i].even_failed) {
        err = agent->failed;
        r = -err.code;
    } else if (requests[i].needs_workload && agent->workload.state == WORKLOAD_NONE) {
        r = err_say(&err, ESRCH, "there is no workload yet: configure it first");
    } else {
        r = requests[i].fn(c, message, &exec_failed, &err);
    }
    if (r < 0) {
        if (err.code == 0) {
            (void)err_set(&err, -r, "%.40s", type);
        }
        connection_send_error(c, &err, exec_failed);
    }
}
