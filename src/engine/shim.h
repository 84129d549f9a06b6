/*
 * shim.h - the process beside each workload (isola-shim).
 *
 * One thread, one event loop. It is the parent of the workload's first process, owns its stdio, its
 * log and its status file, and answers clients on shim.sock. It links neither the database nor the
 * image store, and what it needs memory for once (making the container, executing a check) it does
 * in a forked child.
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
    struct strv dns_listen; /* ADDRESS=BRIDGE=DIR/NETWORK */
    struct strv dns_servers;
};

enum shim_phase {
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
    bool gone;
    struct shim_packet *packets; /* that did not fit into the socket */
};

struct shim {
    const struct shim_options *options;
    struct loop *loop;
    int run_fd;
    enum shim_phase phase;
    struct workload_status status;
    int start_fd;
    bool failed; /* the start failed: exit_code is that of the failure */
    int log_dir_fd;
    struct log_writer log;

    /* The workload's stdio; -1 when closed. With a terminal only output[0], the pty's master. */
    int input_fd;
    int output_fd[2];
    struct loop_source *input_source; /* while input is waiting */
    struct loop_source *output_source[2];
    struct buf input;
    bool input_ended;
    bool input_held; /* clients are not read: the workload has not taken what they sent */

    int listen_fd;
    struct loop_source *listen_source;
    struct shim_client *clients;
    struct shim_client *reaper; /* the run's end waits for it */
    bool ended; /* the database knows of the end, or somebody is told to see to it */

    struct dns *dns; /* NULL: no user-defined network */

    struct loop_source *health_timer;
    pid_t health_pid;
    bool health_timed_out;
};

/* Runs the shim's whole life. Returns the exit code of the process. */
int shim_main(const struct shim_options *options);

/* shim_io.c */
int shim_io_start(struct shim *shim);
void shim_io_input(struct shim *shim, const char *data, size_t len);
void shim_io_end_input(struct shim *shim);
void shim_io_resize(struct shim *shim, uint32_t size);
/* Reads what is left in the pipes after the workload ended. */
void shim_io_drain(struct shim *shim);
/* Reading of output stops while a client cannot take it. */
void shim_io_pause(struct shim *shim, bool pause);

/* shim_client.c */
int shim_client_add(struct shim *shim, int fd, uint32_t roles);
int shim_client_listen(struct shim *shim);
void shim_client_output(struct shim *shim, enum shim_message_type type, const char *data,
                        size_t len);
void shim_client_tell(struct shim *shim, enum shim_message_type type, uint32_t value,
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

/* shim.c */
/* In a forked child: gives up what only the shim may hold open, for its end must be seen. */
void shim_close_ends(const struct shim *shim);
void shim_start(struct shim *shim);
/* The workload is gone: sees to it that the run is ended in the database. */
void shim_end(struct shim *shim);
/* Leaves the loop when the run is ended and every client has what it is to have. */
void shim_leave(struct shim *shim);

#endif
