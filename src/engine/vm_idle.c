#include "engine/vm_idle.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/process.h"
#include "engine/end.h"
#include "engine/start_internal.h"
#include "wall/vm.h"

static int boot(struct vm_idle *idle, const struct start *start, struct err *err)
{
    struct container_process process = {.pidfd = -1};
    int pair[2];
    AUTO(closep) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        return err_set(err, errno, "start the machine");
    }
    AUTO(closep) int ours = pair[0];
    AUTO(closep) int theirs = pair[1];
    struct wall_create create = {
        .root = start->engine->containers_dir,
        .id = start->workload.id,
        .bundle = start->run_dir,
        .rootfs_fd = -1,
        .io = CONTAINER_IO_INIT,
        .start_fd = theirs,
        .copies_fd = -1,
    };
    for (int i = 0; i < 3; i++) {
        create.io.stdio[i] = null;
    }
    create.io.parent_death_signal = SIGKILL;
    int r = vm_wall.create(&create, &process, NULL, err);
    if (r < 0) {
        return r;
    }
    theirs = close_fd(theirs); /* so that its death is heard on ours */
    idle->pid = process.pid;
    idle->pidfd = process.pidfd;
    return vm_start_idle(create.root, create.id, ours, err);
}

/* The lock keeps starts away until we are done. */
static int lock_and_boot(struct vm_idle *idle, struct err *err)
{
    AUTO(start_donep)
    struct start start = {.engine = idle->engine, .rootfs_fd = -1, .control_fd = -1};
    idle->lock = workload_lock(idle->engine, idle->id, err);
    int r =
        idle->lock < 0 ? idle->lock : workload_load(idle->engine, idle->id, &start.workload, err);
    if (r < 0) {
        return r;
    }
    if (start.workload.state != WORKLOAD_CREATED && start.workload.state != WORKLOAD_EXITED) {
        return err_say(err, EAGAIN, "workload '%s' has just been started: try again",
                       start.workload.name);
    }
    end_clean_up(idle->engine, idle->id); /* one of these that was killed may be left */
    idle->booted = true;
    r = start_find_dirs(&start, err);
    /* Its workload never starts, so nothing of this is seen but by the machine. */
    start.workload.config.interactive = false;
    start.workload.config.tty = false;
    r = r < 0 ? r : start_prepare_idle(&start, err);
    r = r < 0 ? r : boot(idle, &start, err);
    return r < 0 ? err_wrap(err, -r, "start the machine of '%s' for its files", start.workload.name)
                 : 0;
}

int vm_idle_open(struct engine *engine, const struct workload *workload, struct vm_idle *ret,
                 struct err *err)
{
    *ret = (struct vm_idle)VM_IDLE_INIT;
    ret->engine = engine;
    ret->id = strdup(workload->id);
    ret->bundle = workload_run_path(engine, workload->id, NULL);
    if (ret->id == NULL || ret->bundle == NULL) {
        return err_set(err, ENOMEM, "open the files of '%s'", workload->name);
    }
    if (workload->state == WORKLOAD_PAUSED) {
        return err_say(err, EBUSY,
                       "workload '%s' is paused, and its machine with it; unpause it first",
                       workload->name);
    }
    return workload->state == WORKLOAD_RUNNING ? 0 : lock_and_boot(ret, err);
}

int vm_idle_close(struct vm_idle *idle, struct err *err)
{
    int r =
        idle->booted ? vm_power_off(idle->engine->containers_dir, idle->id, idle->pidfd, err) : 0;
    vm_idle_done(idle);
    return r;
}

void vm_idle_done(struct vm_idle *idle)
{
    int status;
    if (idle->booted) {
        end_clean_up(idle->engine, idle->id);
        if (idle->pid > 0) {
            (void)process_wait(idle->pid, &status);
        }
    }
    idle->booted = false;
    idle->lock = close_fd(idle->lock);
    idle->pidfd = close_fd(idle->pidfd);
    free(idle->id);
    free(idle->bundle);
    idle->id = idle->bundle = NULL;
}
