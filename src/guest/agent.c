#include "guest/agent.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "guest/boot.h"
#include "guest/network.h"

/* How long a machine waits for somebody to ask why it is of no use, or how its workload ended. */
#define ASK_TIMEOUT_NS (30 * NS_PER_SEC)
/* How long the host may take to close its connections when it has been told. */
#define CLOSE_TIMEOUT_NS (3 * NS_PER_SEC)

/* After the workload's start: it has the machine to itself first. */
#define LATE_NS NS_PER_SEC

static void on_off(struct loop_source *source, void *data)
{
    (void)source;
    struct agent *agent = data;
    loop_quit(agent->loop, 0);
}

static void power_off_in(struct agent *agent, int64_t ns)
{
    if (agent->off != NULL) {
        (void)loop_timer_set(agent->off, ns);
    } else if (loop_add_timer(agent->loop, ns, on_off, agent, &agent->off) < 0) {
        loop_quit(agent->loop, 0);
    }
}

void agent_fail(struct agent *agent, const struct err *err)
{
    /* The console, too: it is all that is left when nothing connects. */
    (void)fprintf(stderr, "isola-guest: %s\n", err_text(err));
    if (agent->failed.code != 0) {
        return;
    }
    agent->failed = *err;
    if (agent->failed.code == 0) {
        agent->failed.code = EIO;
    }
    for (struct connection *c = agent->connections, *next; c != NULL; c = next) {
        next = c->next;
        if (c == agent->events || c->waits) {
            connection_send_error(c, &agent->failed, false);
        }
    }
    power_off_in(agent, ASK_TIMEOUT_NS);
}

void agent_connection_closed(struct agent *agent)
{
    bool waiting = false;
    for (const struct connection *c = agent->connections; c != NULL; c = c->next) {
        waiting |= c->told;
    }
    if (agent->workload.reported && !waiting) {
        loop_quit(agent->loop, 0);
    }
}

void agent_report_exit(struct agent *agent)
{
    struct workload *w = &agent->workload;
    bool told = false;
    for (struct connection *c = agent->connections, *next; c != NULL; c = next) {
        next = c->next;
        if (c->waits || (c == agent->events && !w->reported)) {
            c->waits = false;
            c->told = true;
            connection_send(c, guest_exit_new(&w->exit));
            connection_end(c);
            told = true;
        }
    }
    w->reported |= told;
    power_off_in(agent, w->reported ? CLOSE_TIMEOUT_NS : ASK_TIMEOUT_NS);
    if (told) {
        agent_connection_closed(agent); /* they may be gone already */
    }
}

static void on_late(struct loop_source *source, void *data)
{
    struct agent *agent = data;
    loop_remove(source);
    boot_late_modules(&agent->late);
}

void agent_load_late(struct agent *agent)
{
    if (agent->late.count > 0) {
        (void)loop_add_timer(agent->loop, LATE_NS, on_late, agent, NULL);
    }
}

static void on_child(const struct signalfd_siginfo *info, void *data)
{
    (void)info;
    struct agent *agent = data;
    int status;
    pid_t pid;
    /* Everybody whose parent is gone ends up here, too. */
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (!workload_reap(agent, pid, status)) {
            (void)exec_reap(agent, pid, status);
        }
    }
}

static void on_connection(struct loop_source *source, int fd, uint32_t events, void *data)
{
    (void)source;
    (void)events;
    struct agent *agent = data;
    struct connection *c;
    int accepted;
    while ((accepted = transport_accept(&agent->transport, fd)) >= 0) {
        if (connection_new(agent, accepted, &c) < 0) {
            return;
        }
    }
}

/* The host hears of the machine through this one before it asks anything. It may have no such port.
 */
static void connect_events(struct agent *agent)
{
    int fd = transport_connect(&agent->transport, GUEST_PORT_EVENTS);
    if (fd >= 0 && connection_new(agent, fd, &agent->events) == 0 && agent->failed.code == 0) {
        connection_send(agent->events, json_pack("{s:s}", "type", "ready"));
    }
}

static int boot(struct agent *agent, struct err *err)
{
    int r = boot_console(err);
    r = r < 0 ? r : boot_mounts(err);
    r = r < 0 ? r : boot_modules(BOOT_MODULES, &agent->late, err);
    r = r < 0 ? r : boot_leave_initramfs(err);
    return r < 0 ? r : network_start_loopback(err);
}

static int serve(struct agent *agent, const struct err *boot_error)
{
    struct err err = ERR_NONE;
    int r = loop_new(&agent->loop);
    r = r < 0 ? r : loop_add_signal(agent->loop, SIGCHLD, on_child, agent);
    if (r == 0) {
        agent->listen_fd = r = transport_listen(&agent->transport, GUEST_PORT_CONTROL);
    }
    if (r >= 0) {
        r = loop_add_fd(agent->loop, agent->listen_fd, EPOLLIN, on_connection, agent, NULL);
    }
    if (r < 0) {
        (void)err_set(&err, -r, "boot: listen on port %d", GUEST_PORT_CONTROL);
        const struct err *first = boot_error->code != 0 ? boot_error : &err;
        (void)fprintf(stderr, "isola-guest: %s\n", err_text(first));
        return r;
    }
    connect_events(agent);
    if (boot_error->code != 0) {
        agent_fail(agent, boot_error);
    }
    return loop_run(agent->loop);
}

/* Ends when the host has closed what it was told on, so that nothing is lost on the way. */
static void clean_up(struct agent *agent)
{
    exec_done_all(agent);
    workload_done(agent);
    while (agent->connections != NULL) {
        connection_close(agent->connections);
    }
    connection_sweep(agent);
    agent->listen_fd = close_fd(agent->listen_fd);
    loop_free(agent->loop);
}

int agent_main(const char *unix_dir)
{
    struct err boot_error = ERR_NONE;
    struct agent agent = {
        .transport = {.unix_dir = unix_dir},
        .listen_fd = -1,
        .workload = {.start_fd = -1,
                     .stdio = {.theirs = {-1, -1, -1},
                               .sockets = {-1, -1, -1},
                               .ours = {-1, -1, -1},
                               .console = {-1, -1},
                               .terminal_fd = -1}},
    };
    if (getpid() != 1) {
        (void)fprintf(stderr, "isola-guest: is process 1 of a virtual machine; see isola(1)\n");
        return 125;
    }
    /* A host that is gone is an error of a write, not a reason to die. */
    (void)signal(SIGPIPE, SIG_IGN);
    (void)boot(&agent, &boot_error);
    (void)serve(&agent, &boot_error);
    clean_up(&agent);
    boot_power_off();
    return 0;
}
