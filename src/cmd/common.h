/*
 * common.h - what many commands of isola do alike.
 */
#ifndef CMD_COMMON_H
#define CMD_COMMON_H

#include "cmd/command.h"
#include "engine/engine.h"
#include "engine/workload.h"

struct err;

/* The engine that the global options name. */
int command_engine(const struct command_context *context, struct engine **ret, struct err *err);

/*
 * Calls fn for each operand. A failure is printed and the others go on; the name is printed after a
 * success. Returns the exit code, 1 when any failed.
 */
int command_each(struct engine *engine, int argc, char **argv,
                 int (*fn)(struct engine *engine, const char *name, void *data, struct err *err),
                 void *data);

/* Asks on the terminal; true at once with force. */
bool command_confirm(const char *question, bool force);

/* "Deleted Volumes:" and the names below it, with an empty line behind; nothing for none. */
void command_print_deleted(const char *what, const struct strv *names);

/* The image, pulled when the policy ("missing", "always", "never") says so. */
int command_ensure_image(struct engine *engine, const char *image, const char *platform,
                         const char *policy, bool quiet, struct err *err);

/* Runs another of our programs and waits; its standard output goes to our standard error. */
int command_run_helper(const char *program, char *const argv[], struct err *err);
/* The same with its standard output on ours. -ECHILD: it failed and said why itself. */
int command_run_helper_output(const char *program, char *const argv[], struct err *err);
/*
 * The same, and fn writes what it finds on its standard input. When fn fails the program is killed
 * before it sees the end of that.
 */
int command_run_helper_input(const char *program, char *const argv[],
                             int (*fn)(void *data, int fd, struct err *err), void *data,
                             struct err *err);

#endif
