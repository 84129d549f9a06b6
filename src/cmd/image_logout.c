#include <stdio.h>

#include "base/err.h"
#include "cmd/image_commands.h"
#include "image/docker_config.h"
#include "image/reference.h"

static int logout_run(struct command_context *context, void *options, int argc, char **argv,
                      struct err *err)
{
    (void)context;
    (void)options;
    const char *name = argc > 0 ? argv[0] : REFERENCE_DEFAULT_REGISTRY;
    int r = docker_config_erase(name, err);
    if (r == 0) {
        (void)printf("Removed the login for %s\n", name);
    }
    return r;
}

const struct command image_logout_command = {.operands_max = 1, .run = logout_run};
