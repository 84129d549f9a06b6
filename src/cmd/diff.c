#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/err.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "image/layer_stack.h"

static int print_change(void *data, enum change_kind kind, const char *path)
{
    (void)data;
    (void)printf("%c %s\n", kind, path);
    return 0;
}

static int run_diff(struct command_context *context, void *data, int argc, char **argv,
                    struct err *err)
{
    (void)data;
    (void)argc;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(workload_donep) struct workload workload = {0};
    AUTO(layer_stack_closep) struct layer_stack lower = {0};
    int r = command_engine(context, &engine, err);
    if (r == 0) {
        r = workload_find(engine, argv[0], &workload, err);
    }
    if (r < 0) {
        return r;
    }
    AUTO(freep) char *path = workload_root_path(engine, workload.id, "upper");
    AUTO(closep) int upper = path != NULL ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (upper < 0) {
        /* Never started: nothing can have changed. */
        return path != NULL && errno == ENOENT ? 0 : err_set(err, errno, "open '%s'", path);
    }
    r = layer_stack_open(&workload.config.layers, &lower, err);
    return r < 0 ? r : layer_stack_diff(&lower, upper, print_change, NULL, err);
}

const struct command diff_commands[] = {
    {
        .name = "diff",
        .operands = "NAME",
        .summary = "Show what a workload changed in its file system",
        .operands_min = 1,
        .operands_max = 1,
        .run = run_diff,
    },
    {0},
};
