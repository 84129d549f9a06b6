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

/* Keys that detach: at most this many in a row. */
#define DETACH_KEYS_MAX 16

struct session_options {
    bool tty;                /* the workload has a terminal: raw mode, sizes are passed on */
    bool input;              /* copy our standard input */
    bool proxy;              /* pass signals on (without tty) */
    const char *detach_keys; /* "ctrl-p,ctrl-q"; NULL: that; "": none */
    /* Passes a signal to the workload. */
    void (*signal)(int signal, void *data);
    void *data;
};

enum session_end {
    SESSION_EXITED,
    SESSION_DETACHED,
    SESSION_LOST, /* the other side vanished without an exit code */
};

/*
 * Copies between our stdio and a shim's connection until the workload ends or the user detaches.
 * The connection stays open. *ret_exit_code is set for SESSION_EXITED.
 */
int session_run(int control_fd, const struct session_options *options, enum session_end *ret_end,
                int *ret_exit_code, struct err *err);

/*
 * The same with a pty's master (tty) and a process that is our child or adopted by us; without a
 * terminal master_fd is -1 and stdio was inherited. Waits for the process.
 */
int session_run_process(int master_fd, pid_t pid, const struct session_options *options,
                        enum session_end *ret_end, int *ret_exit_code, struct err *err);

/* Checks --detach-keys. */
int session_parse_keys(const char *text, uint8_t keys[DETACH_KEYS_MAX], size_t *ret_count,
                       struct err *err);

#endif
