/*
 * agent.h - process 1 of a virtual machine, which is also the host's hand in it. docs/vm-guest.md
 * has the protocol, the order of the boot and the failure cases.
 *
 * One thread, one loop. Everything below belongs to it.
 */
#ifndef GUEST_AGENT_H
#define GUEST_AGENT_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/loop.h"
#include "container/guest_protocol.h"
#include "guest/boot.h"
#include "guest/config.h"
#include "guest/connection.h"
#include "guest/guest_stdio.h"
#include "guest/transport.h"

#define GUEST_CONTAINERS "/run/isola/containers"
#define GUEST_BUNDLE "/run/isola/bundle"

enum workload_state {
    WORKLOAD_NONE,
    WORKLOAD_CREATED, /* by "configure" */
    WORKLOAD_RUNNING, /* by "start" */
    WORKLOAD_EXITED,
};

struct workload {
    enum workload_state state;
    char *id;
    pid_t pid;
    int start_fd;
    struct guest_stdio stdio;
    struct guest_exit exit;
    bool reported; /* somebody has been told how it ended */
};

struct exec;

struct agent {
    struct transport transport;
    struct loop *loop;
    int listen_fd;
    struct connection *connections;
    struct connection *closed; /* to be freed when no callback of theirs runs */
    struct connection *events; /* to the host's port for events; NULL: it has none */
    struct workload workload;
    struct exec *execs;
    struct err failed;       /* code 0: nothing. Else the machine is of no use, and this is why */
    struct boot_late late;   /* modules that wait until the workload runs */
    struct loop_source *off; /* the timer that ends a machine which nobody asks any more */
};

/* Runs until the machine is switched off. unix_dir: see transport.h. Returns an exit code. */
int agent_main(const char *unix_dir);

/* Keeps why the machine is of no use, tells the host, and soon switches off. */
void agent_fail(struct agent *agent, const struct err *err);

/* The workload ended and its output is delivered: tells everyone who waits for it. */
void agent_report_exit(struct agent *agent);

/* The workload runs: what it needs not to begin is loaded in a second. */
void agent_load_late(struct agent *agent);

/* One that was told the end may have been the last: then the machine is switched off. */
void agent_connection_closed(struct agent *agent);

/* request.c: answers one request. */
void request_handle(struct connection *connection, json_t *message);

/* workload.c */
int workload_configure(struct agent *agent, const struct guest_config *config,
                       bool *ret_exec_failed, struct err *err);
int workload_start(struct agent *agent, bool *ret_exec_failed, struct err *err);
/* From the loop, for the child that this may be. True when it was. */
bool workload_reap(struct agent *agent, pid_t pid, int status);
void workload_done(struct agent *agent);

/* exec.c */
int exec_start(struct connection *connection, const json_t *message, bool *ret_exec_failed,
               struct err *err);
/* A process of isola-files, which reads or writes files for the host. */
int exec_start_files(struct connection *connection, const json_t *message, struct err *err);
bool exec_reap(struct agent *agent, pid_t pid, int status);
/* The host has closed the connection: the process is killed. */
void exec_abandon(struct agent *agent, const struct connection *connection);
/* -ESRCH when no process has that name. */
int exec_signal(struct agent *agent, const char *name, int signal, struct err *err);
int exec_resize(struct agent *agent, const char *name, unsigned rows, unsigned columns,
                struct err *err);
void exec_done_all(struct agent *agent);

/* processes.c: the workload's processes for `top`; NULL without memory. */
json_t *processes_describe(const pid_t *pids, size_t count);

#endif
