#include "engine/start.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/process.h"
#include "container/container.h"
#include "engine/end.h"
#include "engine/event.h"
#include "engine/shim_protocol.h"
#include "engine/start_internal.h"
#include "engine/vm_start.h"

/* The shim's next packet; -EPIPE when the connection has ended. */
static ssize_t receive(int fd, void *packet, size_t size)
{
    ssize_t n;
    do {
        n = recv(fd, packet, size, 0);
    } while (n < 0 && errno == EINTR);
    return n < (ssize_t)sizeof(struct shim_message) ? -EPIPE : n;
}

static uint32_t roles_of(const struct start_options *options)
{
    return options->watch
               ? (unsigned)SHIM_WATCH | SHIM_INPUT | (options->reaper ? SHIM_REAPER : 0U) |
                     (options->reaper && options->remover ? SHIM_REMOVER : 0U)
               : 0U;
}

static int send_start(int fd, const struct start_options *options)
{
    const struct shim_message messages[] = {
        {.type = SHIM_HELLO, .value = roles_of(options)},
        {.type = SHIM_START},
    };
    for (size_t i = 0; i < COUNT(messages); i++) {
        if (send(fd, &messages[i], sizeof(messages[i]), MSG_NOSIGNAL) < 0) {
            return -errno;
        }
    }
    return 0;
}

/* The worker of the shim was killed: the next one says how far the start has come. */
static int reconnect(struct start *start, const struct start_options *options, struct err *err)
{
    const struct shim_seen nothing = {{0}};
    start->control_fd = close_fd(start->control_fd);
    start->control_fd = shim_process_reconnect(start->engine, start->workload.id, -1, &start->shim,
                                               roles_of(options) | SHIM_STARTER, &nothing, NULL);
    return start->control_fd < 0
               ? err_say(err, EPIPE, "isola-shim died before the workload started")
               : 0;
}

/* Reads the shim's next word, which must be want. */
static int expect(struct start *start, const struct start_options *options, uint32_t want,
                  uint32_t *ret_value, struct err *err)
{
    char packet[sizeof(struct shim_message) + SHIM_DATA_MAX];
    struct shim_message message = {0};
    for (bool resumed = false;;) {
        ssize_t n = receive(start->control_fd, packet, sizeof(packet));
        if (n < 0) {
            int r = reconnect(start, options, err);
            if (r < 0) {
                return r;
            }
            resumed = true;
            continue;
        }
        memcpy(&message, packet, sizeof(message));
        *ret_value = message.value;
        if (message.type == want) {
            return 0;
        }
        if (message.type == SHIM_FAILED && (size_t)n == sizeof(message) + sizeof(*err)) {
            struct err theirs;
            memcpy(&theirs, packet + sizeof(message), sizeof(theirs));
            theirs.text[sizeof(theirs.text) - 1] = '\0';
            return err_say(err, theirs.code > 0 ? theirs.code : EIO, "%s", theirs.text);
        }
        if (resumed && message.type == SHIM_EXITED) {
            continue; /* told to all; what it means for the start comes as answer to us */
        }
        if (message.type == SHIM_EXITED) {
            return err_say(err, ECHILD, "the first process ended before its start (exit code %u)",
                           message.value);
        }
        if (message.type != SHIM_CREATED || want != SHIM_STARTED) {
            return err_say(err, EPROTO, "isola-shim said %u instead of %u", message.type, want);
        }
        /* The worker that was killed may not have read it. */
        (void)send_start(start->control_fd, options);
    }
}

static int attach_network(struct start *start, pid_t pid, struct err *err)
{
    if (start->namespaces.net != NULL) {
        return 0;
    }
    if (vm_start_wanted(&start->workload)) {
        return network_attach_taps(start->host, &start->lease, err);
    }
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
    AUTO(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return err_set(err, errno, "open '%s'", path);
    }
    /* Only now is it sure whose it is: a pid may be given again. */
    struct workload_status status;
    AUTO(closep) int dir = open(start->run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r = dir < 0 ? -errno : status_read(dir, &status);
    if (r < 0 || status.pid != pid || !process_is_alive(pid, status.pid_start)) {
        return err_say(err, ESRCH, "the workload's first process died before its start");
    }
    return network_attach(start->host, &start->lease, fd, err);
}

static int launch(struct start *start, const struct start_options *options, int *exit_code,
                  struct err *err)
{
    const struct network_names names = start_names(start);
    uint32_t value = 0;
    int r = workload_write_dns(start->host, &start->lease, &names, start->run_dir, err);
    if (r == 0) {
        const struct shim_process process = {
            .engine = start->engine,
            .workload = &start->workload,
            .run_dir = start->run_dir,
            .log_dir = str_eq(start->workload.config.log_driver, "none") ? NULL : start->root_dir,
            .rootfs_fd = start->rootfs_fd,
        };
        start->control_fd = shim_process_spawn(&process, &start->shim, err);
        r = start->control_fd < 0 ? start->control_fd : 0;
    }
    if (r == 0) {
        r = expect(start, options, SHIM_CREATED, &value, err);
        *exit_code = r < 0 && value != 0 ? (int)value : *exit_code;
    }
    if (r == 0) {
        start->workload.run.pid = (int64_t)value;
        r = attach_network(start, (pid_t)value, err);
    }
    if (r == 0) {
        /* If the connection is broken expect() makes a new one and says it again. */
        (void)send_start(start->control_fd, options);
        r = expect(start, options, SHIM_STARTED, &value, err);
        *exit_code = r < 0 && value != 0 ? (int)value : *exit_code;
    }
    return r;
}

static int note_start(struct start *start, struct err *err)
{
    struct workload *workload = &start->workload;
    AUTO(db_tx_donep) struct db_tx tx = {0};
    AUTO(strv_donep) struct strv attributes = {0};
    (void)strv_addf(&attributes, "image=%s", workload->config.image);
    (void)strv_addf(&attributes, "name=%s", workload->name);
    workload->state = WORKLOAD_RUNNING;
    workload->run = (struct workload_run){
        .started_ns = clock_realtime_ns(),
        .pid = workload->run.pid,
        .restarts = workload->run.restarts,
        .json = workload->run.json,
    };
    int r = db_begin(start->engine->db, &tx, err);
    if (r == 0) {
        r = workload_save(start->engine, workload, err);
    }
    if (r == 0) {
        r = event_add(start->engine->db, "container", "start", workload->id, &attributes, err);
    }
    return r < 0 ? r : db_commit(&tx, err);
}

/*
 * After a failure: nothing of the attempt is left but the row, which says why. A workload that ran
 * before is again what its last run left, exit code included.
 */
static void undo(struct start *start, int exit_code, const struct err *why)
{
    struct workload *workload = &start->workload;
    struct engine *engine = start->engine;
    start->control_fd = close_fd(start->control_fd);
    end_clean_up(engine, workload->id);
    int64_t restarts = workload->run.restarts;
    workload->run = start->before;
    workload->run.restarts = restarts;
    workload->run.error = err_text(why);
    workload->run.pid = 0;
    if (workload->run.started_ns == 0) {
        workload->state = WORKLOAD_CREATED;
        workload->run.exit_code = exit_code;
    } else {
        workload->state = WORKLOAD_EXITED;
    }
    (void)workload_save(engine, workload, NULL);
    workload->run.error = NULL;
}

static int load(struct start *start, const char *id, struct err *err)
{
    struct workload *workload = &start->workload;
    int r = workload_load(start->engine, id, workload, err);
    if (r < 0) {
        return r;
    }
    bool alive = workload_status_alive(&workload->status);
    if (alive && (workload->state == WORKLOAD_RUNNING || workload->state == WORKLOAD_PAUSED)) {
        return err_say(err, EALREADY, "workload '%s' already runs", workload->name);
    }
    /*
     * A start that was cut short, or an end that nobody noted: what it left goes first; so does an
     * idle machine (vm_idle.c), which leaves the state alone.
     */
    if ((workload->state != WORKLOAD_CREATED && workload->state != WORKLOAD_EXITED) ||
        vm_start_wanted(workload)) {
        end_clean_up(start->engine, id);
    } else {
        end_remove_run_dir(start->engine, id); /* of a run whose end was cut short */
    }
    start->before = workload->run;
    return start_find_dirs(start, err);
}

int start_workload(struct engine *engine, const char *id, const struct start_options *options,
                   int *ret_control, int *ret_exit_code, struct err *err)
{
    AUTO(start_donep) struct start start = {.engine = engine, .rootfs_fd = -1, .control_fd = -1};
    int exit_code = 125;
    AUTO(closep) int lock = workload_lock(engine, id, err);
    if (lock < 0) {
        return lock;
    }
    int r = load(&start, id, err);
    if (r < 0) {
        return r;
    }
    r = start_prepare(&start, options->restart, err);
    if (r == 0) {
        r = launch(&start, options, &exit_code, err);
    }
    if (r == 0) {
        r = note_start(&start, err);
    }
    if (r < 0) {
        (void)err_wrap(err, -r, "start '%s'", start.workload.name);
        if (r == -ECHILD && start.workload.config.kernel != NULL &&
            start.workload.config.kernel[0] == '/') {
            err_hint(err,
                     "a kernel needs drivers for virtio, vsock, EROFS, ext4 and overlayfs: in a "
                     "file they must be built in, isola kernel install brings them as modules");
        }
        undo(&start, exit_code, err);
        if (ret_exit_code != NULL) {
            *ret_exit_code = exit_code;
        }
        return r;
    }
    if (ret_control != NULL) {
        *ret_control = options->watch ? TAKE_FD(start.control_fd) : -1;
    }
    return 0;
}
