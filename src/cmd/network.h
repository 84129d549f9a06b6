/*
 * network.h - the two commands of `isola network` that only look: src/cmd/network_show.c.
 */
#ifndef CMD_NETWORK_H
#define CMD_NETWORK_H

#include <stdbool.h>

#include "base/str.h"
#include "cmd/command.h"

struct network_show_options {
    struct strv filter;
    const char *format;
    bool no_trunc;
    bool quiet;
};

extern const struct option_spec network_ls_options[];
extern const struct option_spec network_inspect_options[];

int network_run_ls(struct command_context *context, void *options, int argc, char **argv,
                   struct err *err);
int network_run_inspect(struct command_context *context, void *options, int argc, char **argv,
                        struct err *err);

#endif
