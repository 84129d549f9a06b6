/*
 * emu.c - the emulator for the host's own processes.
 */
#include <stdio.h>

#include "base/dirs.h"
#include "base/err.h"
#include "cmd/commands.h"
#include "engine/binfmt.h"
#include "engine/emulator.h"

struct register_options {
    bool credentials, boot;
};

#define AT(member) offsetof(struct register_options, member)

static const struct option_spec register_options[] = {
    {"boot", 0, OPTION_FLAG, AT(boot), NULL, "Also after each boot (/etc/binfmt.d)", NULL},
    {"credentials", 0, OPTION_FLAG, AT(credentials), NULL,
     "Setuid programs have the rights of their files", NULL},
    {0},
};

static int run_register(struct command_context *context, void *data, int argc, char **argv,
                        struct err *err)
{
    (void)context;
    (void)argc;
    (void)argv;
    const struct register_options *o = data;
    if (!emulator_has("arm64")) {
        return err_say(err, ENOTSUP, "no other CPU is emulated on this one");
    }
    AUTO(freep) char *program = dirs_helper(EMULATOR_PROGRAM);
    return program == NULL ? err_set(err, ENOMEM, "find %s", EMULATOR_PROGRAM)
                           : binfmt_register(program, o->credentials, o->boot, err);
}

static int run_unregister(struct command_context *context, void *data, int argc, char **argv,
                          struct err *err)
{
    (void)context;
    (void)data;
    (void)argc;
    (void)argv;
    return binfmt_unregister(err);
}

static int run_status(struct command_context *context, void *data, int argc, char **argv,
                      struct err *err)
{
    (void)context;
    (void)data;
    (void)argc;
    (void)argv;
    AUTO(binfmt_state_donep) struct binfmt_state state = {0};
    int r = binfmt_look(&state, err);
    if (r < 0) {
        return r;
    }
    if (!state.registered) {
        (void)printf("linux/arm64: not registered%s\n", state.mounted ? "" : " (no binfmt_misc)");
        return 1;
    }
    (void)printf("linux/arm64: %s, flags %s%s%s\n", state.interpreter, state.flags,
                 state.at_boot ? ", at boot" : "", state.enabled ? "" : ", switched off");
    return 0;
}

const struct command emu_commands[] = {
    {.group = "emu",
     .name = "register",
     .operands = "",
     .summary = "Let the kernel run all arm64 programs of this host by the emulator",
     .options = register_options,
     .options_size = sizeof(struct register_options),
     .run = run_register},
    {.group = "emu",
     .name = "status",
     .operands = "",
     .summary = "Show what is registered; exit code 1: nothing",
     .run = run_status},
    {.group = "emu",
     .name = "unregister",
     .operands = "",
     .summary = "Undo register",
     .run = run_unregister},
    {0},
};
