#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "cmd/machine_files.h"
#include "engine/vm_disk.h"
#include "engine/vm_start.h"
#include "image/layer_stack.h"

static int print_change(void *data, enum change_kind kind, const char *path)
{
    (void)data;
    (void)printf("%c %s\n", kind, path);
    return 0;
}

/* "Kpath" and a NUL each, from a guest: shown as those of a container would be. */
static int print_changes(void *data, int fd, struct err *err)
{
    (void)data;
    AUTO(fclosep) FILE *in = fdopen(fcntl(fd, F_DUPFD_CLOEXEC, 3), "r");
    AUTO(freep) char *line = NULL;
    size_t size = 0;
    ssize_t n;
    while (in != NULL && (n = getdelim(&line, &size, '\0', in)) > 0) {
        if (strchr("ACD", line[0]) == NULL || line[1] != '/' || line[n - 1] != '\0' ||
            n > PATH_MAX + 16) {
            return err_say(err, EBADMSG, "the machine's answer about its changes makes no sense");
        }
        (void)print_change(NULL, (enum change_kind)line[0], line + 1);
    }
    return in == NULL || ferror(in) != 0 ? err_set(err, errno, "read the machine's changes") : 0;
}

static int diff_machine(struct engine *engine, const struct workload *workload, struct err *err)
{
    static const char *const words[] = {"diff", NULL};
    AUTO(vm_idle_donep) struct vm_idle idle = VM_IDLE_INIT;
    AUTO(freep) char *disk = workload_root_path(engine, workload->id, VM_DISK_SCRATCH);
    if (disk != NULL && access(disk, F_OK) < 0 && errno == ENOENT) {
        return 0; /* never started */
    }
    int r = machine_files_open(engine, workload, &idle, err);
    r = r < 0 ? r : machine_files_read(idle.bundle, words, false, print_changes, NULL, err);
    return r < 0 ? r : vm_idle_close(&idle, err);
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
    if (r < 0 || vm_start_wanted(&workload)) {
        return r < 0 ? r : diff_machine(engine, &workload, err);
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
