/*
 * shim.h - the two processes beside each workload (isola-shim).
 *
 * The waiter is the parent of the workload's first process and of the worker. It holds the ends of
 * the workload's stdio and does nothing but wait: an exit status goes into memory that both share
 * (shim_shared.h). The worker has the event loop: log, status file, clients on shim.sock, health
 * checks, name service. A worker that is killed is followed by a new one, which goes on from the
 * shared memory and the status file; when the waiter is killed the worker ends the run.
 *
 * Neither links the database or the image store, and what needs memory for once (making the
 * container, executing a check) is done in a forked child.
 */
#ifndef ENGINE_SHIM_H
#define ENGINE_SHIM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/loop.h"
#include "base/str.h"
#include "engine/log_file.h"
#include "engine/shim_protocol.h"
#include "engine/shim_shared.h"
#include "engine/status.h"

struct err;
struct dns;

/* The command line of isola-shim; strings point into argv. */
struct shim_options {
    const char *id;
    const char *run_dir;        /* RUN/workloads/ID: config.json, status.json, shim.sock */
    const char *log_dir;        /* ROOT/workloads/ID; NULL: no log */
    const char *containers_dir; /* RUN/containers */
    const char *isola;          /* the program that ends runs */
    const char *root;           /* its --root and --run-dir */
    const char *run;
    const char *wall; /* "container" */
    uint64_t log_max_size;
    int64_t log_max_files;
    bool tty;
    bool keep_stdin; /* else standard input is /dev/null */
    int64_t control_fd;
    int64_t rootfs_fd;
    struct strv health_test;
    uint64_t health_interval;
    uint64_t health_timeout;
    uint64_t health_start_period;
    int64_t health_retries;
};

enum shim_phase {
    SHIM_PHASE_BUILDING,
    SHIM_PHASE_CREATED,
    SHIM_PHASE_RUNNING,
    SHIM_PHASE_EXITED,
};

struct shim_client {
    struct shim *shim;
    struct shim_client *next;
    struct loop_source *source;
    int fd;
    uint32_t roles;
    uint64_t at[2];   /* a stream's bytes that it has, or that are not for it */
    uint64_t tail_at; /* how much of the tail it has */
    bool gone;
    struct shim_packet *packets; /* that did not fit into the socket */
};

struct shim {
    const struct shim_options *options;
    struct shim_shared *shared;

    /* Made by the waiter, held by both */
    pid_t waiter_pid;
    int run_fd;
    int start_fd;   /* socket to the first process, which waits for its start */
    int wake_fd;    /* eventfd: the waiter has news in shared */
    int scratch[2]; /* the pipe between the workload's pipes and shared->data */
    int tail_fd;    /* the file of shim_tail.c */
    int listen_fd;  /* shim.sock */
    int files_fd;   /* a message with the directory of the workload's files waits in it */
    int report_fd;  /* a pipe in which the wall tells of its end; -1: it does not */
    bool successor; /* a worker was before this one */

    /* The worker's */
    struct loop *loop;
    enum shim_phase phase;
    struct workload_status status;
    bool failed;    /* the start failed: exit_code is that of the failure */
    int waiter_fd;  /* pidfd; -1: it was killed before the worker could look */
    int process_fd; /* pidfd of the first process */
    struct loop_source *process_timer;
    int process_tries;
    int log_dir_fd;
    struct log_writer log;
    /* Roles of clients that the worker before this one had; 0: they are back, or too late. */
    uint32_t awaited;
    struct loop_source *awaited_timer;

    /* The workload's stdio; -1 when closed. With a terminal only output[0], the pty's master. */
    int input_fd;
    int output_fd[2];
    struct loop_source *input_source; /* while input is waiting */
    struct loop_source *output_source[2];
    struct buf input;
    bool input_ended;
    bool input_held;  /* clients are not read: the workload has not taken what they sent */
    bool output_held; /* shared->data waits until slow clients have it */
    bool tail_failed; /* there was no memory for it */

    struct loop_source *listen_source;
    struct shim_client *clients;
    struct shim_client *reaper;  /* the run's end waits for it */
    struct shim_client *remover; /* was told SHIM_ENDING, and removes the workload */
    struct loop_source *report_source, *report_timer;

    struct dns *dns;          /* NULL: no user-defined network */
    struct shim_proxy *proxy; /* NULL: no port on [::1] */

    struct loop_source *health_timer;
    pid_t health_pid;
    bool health_timed_out;
};

/* Ends of the descriptors that the workload gets, on their way through the builder. */
struct shim_build_fds {
    int stdio[3];
    int console[2]; /* socket pair: [1] goes to the builder, the pty's master comes out of [0] */
    int start;
    int files;
    int report;
};

#define SHIM_BUILD_FDS_INIT                                                                        \
    {                                                                                              \
        .stdio = {-1, -1, -1}, .console = {-1, -1}, .start = -1, .files = -1, .report = -1         \
    }

void shim_build_fds_done(struct shim_build_fds *fds);
DEFINE_DONEP(struct shim_build_fds, shim_build_fds_done)

/* Runs the shim's whole life. Returns the exit code of the process. */
int shim_main(const struct shim_options *options);

/* shim_build.c */
/* Makes the workload's stdio and starts the builder, a child that answers in shared->create. */
int shim_build_create(struct shim *shim, struct shim_build_fds *fds, pid_t *ret_pid);
/* The pty's master, when there is one. */
int shim_build_receive(struct shim *shim, struct shim_build_fds *fds);
/* Starts the created workload and waits for the answer in shared->start. */
void shim_build_start(struct shim *shim, struct shim_build *ret);
/* After the builder's end: its answer, or how it died. */
void shim_build_finish(struct shim_build *build, int wait_status);
/* 125 to 127 */
uint32_t shim_build_exit_code(const struct shim_build *build);

/* shim.c: the worker. Returns its exit code. */
int shim_worker(struct shim *shim);
/* In a forked child: gives up what only the shim may hold open, for its end must be seen. */
void shim_close_ends(const struct shim *shim);
void shim_start(struct shim *shim);
/* Reads RUN/workloads/ID/proxy: opens what it asks for, or follows it. */
int shim_proxy_serve(struct shim *shim, struct err *err);
/* The workload is gone: sees to it that the run is ended in the database. */
void shim_end(struct shim *shim);
/* The first process has ended so: writes down its end. */
void shim_workload_exit(struct shim *shim, int wait_status);
/* The client that will end the run, if there is one, is the reaper from now on. */
void shim_find_reaper(struct shim *shim);
/* Leaves the loop when the run is ended and every client has what it is to have. */
void shim_leave(struct shim *shim);
/* A client that was connected before with these roles is back. */
void shim_client_is_back(struct shim *shim, uint32_t roles);
/* Ends the run by a process of its own, which outlives us. */
void shim_spawn_reap(const struct shim_options *options);

/* shim_report.c: what a wall tells of its end before it has ended. */
int shim_report_watch(struct shim *shim);
/* When it has ended: what was not read yet. */
void shim_report_read(struct shim *shim);
/* The remover has removed all but what the wall made and RUN/workloads/ID. */
void shim_report_removed(struct shim *shim);
/* Behind the end of a workload that was removed so: the rest. */
void shim_report_sweep(const struct shim *shim);

/* shim_orphan.c: the waiter was killed. */
void shim_orphan_start(struct shim *shim);

/* shim_io.c */
int shim_io_start(struct shim *shim);
void shim_io_input(struct shim *shim, const char *data, size_t len);
void shim_io_end_input(struct shim *shim);
/* For a terminal that is not the workload's own, when it has just started. */
void shim_io_tell_size(const struct shim *shim);
void shim_io_resize(struct shim *shim, uint32_t size);
/* Reads what is left in the pipes after the workload ended. */
void shim_io_drain(struct shim *shim);
/* Output is read unless a client cannot take it or is awaited. */
int shim_io_watch(struct shim *shim);
/* The clients of the worker before are back: first what that one had in its hands. */
int shim_io_go_on(struct shim *shim);

/* shim_tail.c */
struct shim_tail_part {
    uint32_t stream;
    uint32_t len;
    uint64_t offset; /* in all output of the stream */
    char data[SHIM_DATA_MAX];
};

bool shim_tail_is_used(const struct shim *shim);
/* Appends the chunk that is in shared->data. 0 or a negative errno: then nothing was changed. */
int shim_tail_add(struct shim *shim);
/* The part at *at, which moves behind it. 1; 0: no more; or a negative errno. */
int shim_tail_read(const struct shim *shim, uint64_t *at, struct shim_tail_part *ret);

/* shim_client.c */
int shim_client_add(struct shim *shim, int fd, uint32_t roles);
/* Makes shim.sock: by the waiter, so that who connects while no worker lives waits for the next. */
int shim_client_open(struct shim *shim);
int shim_client_listen(struct shim *shim);
/*
 * What is in shared->data: each client gets of it what it does not have. Slow ones get it later,
 * from a copy.
 */
void shim_client_output(struct shim *shim);
/* Sends each watching client the tail, as fast as it takes it. */
void shim_client_tail(struct shim *shim);
void shim_client_tell(struct shim *shim, enum shim_message_type type, uint32_t value,
                      const void *data, size_t len);
void shim_client_send(struct shim_client *client, enum shim_message_type type, uint32_t value,
                      const void *data, size_t len);
/* Stops (and resumes) reading from those who send standard input. */
void shim_client_hold_input(struct shim *shim, bool hold);
/* True while a packet waits for a client. */
bool shim_client_is_slow(const struct shim *shim);
/* Frees clients that went away. */
void shim_client_sweep(struct shim *shim);

/* shim_health.c */
int shim_health_start(struct shim *shim);
/* True when pid was a check of ours. */
bool shim_health_reap(struct shim *shim, pid_t pid, int wait_status);

#endif
