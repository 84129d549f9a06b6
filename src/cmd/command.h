/*
 * command.h - one command of a command line: a row in a table.
 *
 * A program (isola, isola-image) is a table of these. The row carries all that --help, completion
 * and the man page check need; run() parses nothing that the row does not declare.
 */
#ifndef CMD_COMMAND_H
#define CMD_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "base/dirs.h"
#include "base/option.h"

struct err;

/* Exit codes beside the workload's own; Docker's meanings. */
enum {
    EXIT_ENGINE = 125,     /* Isola failed */
    EXIT_CANNOT_RUN = 126, /* the command cannot be executed */
    EXIT_NOT_FOUND = 127,  /* there is no such command */
};

/* Options before the command; the environment of every run(). */
struct global_options {
    const char *root;
    const char *run_dir;
    bool debug;
};

struct command_context {
    const struct global_options *global;
    const struct command *command;
    const char *program; /* "isola" */
    char *const *whole;  /* the whole command line, unparsed */
};

struct command {
    const char *group;    /* "image" in `isola image pull`; NULL for top-level commands */
    const char *name;     /* NULL ends the table */
    const char *operands; /* "IMAGE [COMMAND [ARG...]]" */
    const char *summary;  /* one line without full stop */
    const struct option_spec *options; /* NULL: none */
    size_t options_size;               /* of the struct that options point into */
    int operands_min;
    int operands_max; /* -1: any number */
    bool stop_at_operand;
    bool hidden; /* for our own programs, not for people */
    int failure; /* exit code when run() fails: EXIT_ENGINE for run; 0 means 1, as for Docker */
    /*
     * NULL, or the program of ours that has this command ("isola-image"): it is executed with the
     * whole command line, and the fields from operands_min on are not looked at.
     */
    const char *helper;
    /*
     * options is a zeroed block of options_size bytes, filled by the parser and freed by the caller
     * (strv members too: kind OPTION_LIST). argv[0..argc-1] are the operands. Returns the exit code
     * (0...) or a negative errno with err set.
     */
    int (*run)(struct command_context *context, void *options, int argc, char **argv,
               struct err *err);
    /* Puts non-zero defaults into the zeroed block; may be NULL. */
    void (*defaults)(void *options);
};

/*
 * Runs the command that argv names: global options, group, name, options, operands. Prints help or
 * the error ("isola: ...", once, on standard error). tables ends with NULL, each table with a NULL
 * name. Returns the exit code.
 */
int command_main(const char *program, const struct command *const *tables, int argc, char **argv);

/* The row of `group name` (group NULL: top level), or NULL. */
const struct command *command_find(const struct command *const *tables, const char *group,
                                   const char *name);

/* The option table of the global options, for completion. */
const struct option_spec *command_global_options(void);

#endif
