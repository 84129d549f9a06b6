/*
 * machine.h - machines that people run by `isola machine`: shared by machine*.c only.
 *
 * RUN/machines/NAME holds what belongs to a running one: config.json, api.sock (isola-vmm's),
 * console.sock and console.log (of a detached one), pid, errors. It goes when the machine ends.
 */
#ifndef CMD_MACHINE_H
#define CMD_MACHINE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/str.h"

struct err;

struct machine_place {
    char *name;
    char *folder;
    char *api, *console, *log, *log_old, *pid, *errors, *config;
};

/* Paths only. The name must be one that a file may have: -EINVAL. */
int machine_place_init(const char *run_dir, const char *name, struct machine_place *ret,
                       struct err *err);
void machine_place_done(struct machine_place *place);
DEFINE_DONEP(struct machine_place, machine_place_done)
/* Makes the folder; that of a machine which is gone is used again. -EEXIST: it runs. */
int machine_place_make(const struct machine_place *place, struct err *err);
void machine_place_remove(const struct machine_place *place);
/* The process of the machine; 0: it is gone. */
pid_t machine_place_pid(const struct machine_place *place);

/* machine_client.c: one request to its API. body may be NULL; *ret (may be NULL) is new. */
int machine_call(const struct machine_place *place, const char *method, const char *path,
                 json_t *body, json_t **ret, struct err *err);

/* machine_process.c */
struct machine_start {
    const struct machine_place *place;
    bool configured;            /* place->config is there */
    bool no_jail;               /* its monitor keeps our rights */
    const char *state, *memory; /* or a snapshot, made absolute */
    json_t *bases;              /* what it is the difference to; borrowed */
};
/* Runs it with this terminal as its serial port. Returns its exit code. */
int machine_run_attached(const struct machine_start *start, struct err *err);
/* Leaves it behind with a process that keeps its serial port. */
int machine_run_detached(const struct machine_start *start, struct err *err);

/* machine_console.c: the keys of a terminal, up to C-a x. */
struct machine_keys {
    bool escaped;
};
enum machine_key { MACHINE_KEYS_GO_ON, MACHINE_KEYS_LEAVE };
/* Takes n bytes that were typed, writes what is the machine's to fd. */
enum machine_key machine_keys_pass(struct machine_keys *keys, const char *data, size_t n, int fd);
int machine_console(const struct machine_place *place, struct err *err);
/* The keeper's part: out_fd's bytes to the log and to who is connected, his to in_fd; until out_fd
 * ends. */
int machine_keep_console(const struct machine_place *place, int listen_fd, int in_fd, int out_fd);

#endif
