/*
 * session.h - a terminal or pipes in front, a workload or an executed command behind.
 */
#ifndef CMD_SESSION_H
#define CMD_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct err;
struct shim_seen;

/* Keys that detach: at most this many in a row. */
#define DETACH_KEYS_MAX 16

struct session_options {
    bool tty;                /* the workload has a terminal: raw mode, sizes are passed on */
    bool input;              /* copy our standard input */
    bool proxy;              /* pass signals on (without tty) */
    const char *detach_keys; /* "ctrl-p,ctrl-q"; NULL: that; "": none */
    /* Passes a signal to the workload. */
    void (*signal)(int signal, void *data);
    /*
     * The connection broke: makes another to the same shim, which goes on behind what was seen.
     * Returns it (ours), or a negative errno when the shim is gone. NULL: never.
     */
    int (*reconnect)(const struct shim_seen *seen, void *data);
    void *data;
};

enum session_end {
    SESSION_EXITED,
    SESSION_ENDING, /* the same, but the shim is still at it: SHIM_ENDING, of who asks for it */
    SESSION_DETACHED,
    SESSION_LOST, /* the other side vanished without an exit code */
};

/*
 * Copies between our stdio and a shim's connection until the workload ends or the user detaches.
 * The connection stays open; *control_fd is another after a reconnection. *ret_exit_code is set for
 * SESSION_EXITED and SESSION_ENDING.
 */
int session_run(int *control_fd, const struct session_options *options, enum session_end *ret_end,
                int *ret_exit_code, struct err *err);

/* A process that is our child or adopted by us, and our ends of its stdio; -1: none. */
struct session_process {
    pid_t pid;
    int master_fd;    /* of its terminal; then the pipes are none */
    int input_fd;     /* pipe to its standard input */
    int output_fd[2]; /* pipes from its standard output and error */
};

#define SESSION_PROCESS_INIT                                                                       \
    ((struct session_process){.master_fd = -1, .input_fd = -1, .output_fd = {-1, -1}})

/*
 * The same for such a process, until it ends: what its output pipes hold then is still copied.
 * Pipes are closed, and set to -1, as their streams end; the rest stays the caller's.
 */
int session_run_process(struct session_process *process, const struct session_options *options,
                        enum session_end *ret_end, int *ret_exit_code, struct err *err);

/* Checks --detach-keys. */
int session_parse_keys(const char *text, uint8_t keys[DETACH_KEYS_MAX], size_t *ret_count,
                       struct err *err);

#endif
