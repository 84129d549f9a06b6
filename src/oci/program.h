/*
 * program.h - isola-oci's command line: the table of commands and what they share.
 */
#ifndef OCI_PROGRAM_H
#define OCI_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/option.h"

struct err;

/* Options before the command. */
struct oci_globals {
    const char *root;
    const char *log;
    const char *log_format;
    const char *log_level; /* taken for the sake of engines; errors are all that we log */
    const char *cgroup_manager;
    const char *rootless; /* true, false or auto; we look for ourselves */
    bool systemd_cgroup;
    bool debug;
    bool version;
    char **argv; /* of the whole program */
};

struct oci_command {
    const char *name;     /* NULL ends the table */
    const char *operands; /* "ID [SIGNAL]" */
    const char *summary;
    const struct option_spec *options; /* NULL: none */
    size_t options_size;
    int operands_min;
    int operands_max; /* -1: any number */
    bool stop_at_operand;
    bool protect_self; /* may be seen by a container: runs from a read-only mount of itself */
    /*
     * options is zeroed memory that the parser filled. Returns the exit code or a negative errno
     * with err set.
     */
    int (*run)(const struct oci_globals *globals, void *options, int argc, char **argv,
               struct err *err);
};

extern const struct oci_command oci_create_commands[]; /* create, run */
extern const struct oci_command oci_exec_commands[];
extern const struct oci_command oci_life_commands[]; /* start, kill, delete, pause, resume */
extern const struct oci_command oci_info_commands[]; /* state, list, ps, features, spec */
extern const struct oci_command oci_update_commands[];
extern const struct oci_command oci_events_commands[];

int oci_main(int argc, char **argv);

/* Exit code of a failed exec: 127 not found, 126 not executable, else 1. */
int oci_exec_exit_code(bool exec_failed, int r);

struct container_process;
/* Hands signals on to the process until it ends. Returns its exit code or a negative errno. */
int oci_wait_foreground(const struct container_process *process);
/* To be called before the process is made, so that no signal is lost. */
void oci_block_signals(void);

#endif
