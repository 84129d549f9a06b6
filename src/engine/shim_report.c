/*
 * A wall that knows how its workload ended before its process is gone tells it by a pipe: for a
 * virtual machine KVM takes tens of milliseconds more. Who waits for a workload that is removed at
 * its end (--rm) need not: the client removes it from the database at once, and what only goes when
 * the process has gone - the wall's own state and RUN/workloads/ID - is removed by us.
 *
 * What comes through the pipe is the machine's word, which a guest may have taken over: it decides
 * on nothing but this workload's own end, and a process that says that it ends has to.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/path.h"
#include "base/process.h"
#include "engine/shim.h"
#include "engine/shim_proxy.h"
#include "vmm/report.h"
#include "wall/wall.h"

/* For what takes the machine apart; a busy host may take seconds. */
#define END_NS (10 * NS_PER_SEC)

static enum status_reason reason_of(uint32_t why)
{
    static const enum status_reason reasons[] = {
        [VMM_REPORT_CODE] = STATUS_REASON_NONE,
        [VMM_REPORT_SHUTDOWN] = STATUS_REASON_MACHINE_SHUTDOWN,
        [VMM_REPORT_PANIC] = STATUS_REASON_MACHINE_PANIC,
        [VMM_REPORT_UNEMULATED] = STATUS_REASON_MACHINE_UNEMULATED,
        [VMM_REPORT_SHARE_LOST] = STATUS_REASON_MACHINE_SHARE_LOST,
    };
    return why < COUNT(reasons) ? reasons[why] : STATUS_REASON_NONE;
}

/* False when there is none, or nothing that we know. */
static bool take(struct shim *shim, struct vmm_report *ret)
{
    loop_remove(TAKE_PTR(shim->report_source));
    if (shim->report_fd < 0) {
        return false;
    }
    ssize_t n = read(shim->report_fd, ret, sizeof(*ret));
    shim->report_fd = close_fd(shim->report_fd);
    if (n != (ssize_t)sizeof(*ret) || ret->size != sizeof(*ret)) {
        return false;
    }
    if (shim->status.reason == STATUS_REASON_NONE) {
        shim->status.reason = reason_of(ret->why);
    }
    shim->status.oom_killed = ret->oom_kills > 0;
    return true;
}

static void on_late(struct loop_source *timer, void *data)
{
    const struct shim *shim = data;
    (void)timer;
    (void)pidfd_signal(shim->process_fd, SIGKILL);
}

/* Only the one who waits at its terminal: who watches and removes nothing hears of the real end. */
static struct shim_client *find_remover(const struct shim *shim)
{
    for (struct shim_client *c = shim->clients; c != NULL; c = c->next) {
        if (!c->gone && (c->roles & SHIM_REAPER) != 0 && (c->roles & SHIM_REMOVER) != 0) {
            return c;
        }
    }
    return NULL;
}

static void on_report(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source, (void)fd, (void)events;
    struct shim *shim = data;
    struct vmm_report report;
    if (!take(shim, &report) || report.why != VMM_REPORT_CODE ||
        shim->phase != SHIM_PHASE_RUNNING || shim->awaited != 0 || shim_client_is_slow(shim)) {
        return;
    }
    struct shim_client *remover = find_remover(shim);
    if (remover == NULL ||
        loop_add_timer(shim->loop, END_NS, on_late, shim, &shim->report_timer) < 0) {
        return;
    }
    /* Everything that SHIM_EXITED comes behind. */
    if (shim->proxy != NULL) {
        shim_proxy_stop(shim->proxy);
    }
    shim_io_drain(shim);
    if (!remover->gone) {
        shim->remover = remover;
        shim_client_send(remover, SHIM_ENDING, report.exit_code & 0xff, NULL, 0);
    }
}

int shim_report_watch(struct shim *shim)
{
    int r = shim->report_fd < 0 ? 0 : set_nonblock(shim->report_fd, true);
    return r < 0 || shim->report_fd < 0 ? r
                                        : loop_add_fd(shim->loop, shim->report_fd, EPOLLIN,
                                                      on_report, shim, &shim->report_source);
}

void shim_report_read(struct shim *shim)
{
    struct vmm_report report;
    loop_remove(TAKE_PTR(shim->report_timer));
    (void)take(shim, &report);
}

void shim_report_removed(struct shim *shim)
{
    shim->remover = NULL;
    atomic_store(&shim->shared->removed, true);
    atomic_store(&shim->shared->ended, true);
    if (shim->phase == SHIM_PHASE_EXITED) {
        shim_report_sweep(shim);
        shim->reaper = NULL;
        shim_leave(shim);
    }
}

void shim_report_sweep(const struct shim *shim)
{
    const struct shim_options *options = shim->options;
    const struct wall *wall;
    if (wall_find(options->wall, &wall, NULL) == 0) {
        (void)wall->remove(options->containers_dir, options->id, NULL);
    }
    (void)remove_tree_at(AT_FDCWD, options->run_dir);
}
