#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

#include "base/err.h"
#include "cmd/commands.h"
#include "cmd/common.h"
#include "cmd/machine_files.h"
#include "cmd/rootfd.h"
#include "engine/vm_start.h"
#include "image/tar_writer.h"

struct export_options {
    const char *output;
};

static const struct option_spec options[] = {
    {"output", 'o', OPTION_STRING, offsetof(struct export_options, output), "FILE",
     "Write to a file, not to standard output", NULL},
    {0},
};

static int pass_archive(void *data, int fd, struct err *err)
{
    return tar_copy(fd, *(const int *)data, err);
}

static int export_machine(struct engine *engine, const struct workload *workload, int to,
                          struct err *err)
{
    static const char *const words[] = {"export", NULL};
    AUTO(vm_idle_donep) struct vm_idle idle = VM_IDLE_INIT;
    int r = machine_files_open(engine, workload, &idle, err);
    r = r < 0 ? r : machine_files_read(idle.bundle, words, false, pass_archive, &to, err);
    return r < 0 ? r : vm_idle_close(&idle, err);
}

static int run_export(struct command_context *context, void *data, int argc, char **argv,
                      struct err *err)
{
    (void)argc;
    const struct export_options *o = data;
    AUTO(engine_closep) struct engine *engine = NULL;
    AUTO(workload_donep) struct workload workload = {0};
    AUTO(closep) int root = -1;
    AUTO(closep) int file = -1;
    if (o->output == NULL && isatty(STDOUT_FILENO)) {
        return err_say(err, EINVAL, "not writing an archive to a terminal; use -o FILE or a pipe");
    }
    int r = command_engine(context, &engine, err);
    if (r == 0) {
        r = workload_find(engine, argv[0], &workload, err);
    }
    bool vm = r == 0 && vm_start_wanted(&workload);
    if (r == 0 && !vm) {
        root = rootfd_open(engine, &workload, err);
        r = root < 0 ? root : 0;
    }
    if (r == 0 && o->output != NULL) {
        file = open(o->output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        r = file < 0 ? err_set(err, errno, "open '%s'", o->output) : 0;
    }
    if (r < 0 || vm) {
        return r < 0 ? r : export_machine(engine, &workload, file >= 0 ? file : STDOUT_FILENO, err);
    }
    AUTO(closep) int ids = -1;
    r = rootfd_open_ids(&workload, &ids, err);
    r = r < 0 ? r : rootfd_enter_ids(ids, err);
    const struct tar_tree_rules rules = {.one_file_system = true};
    return r < 0 ? r : tar_write_tree(file >= 0 ? file : STDOUT_FILENO, root, "", &rules, err);
}

const struct command export_commands[] = {
    {
        .name = "export",
        .operands = "NAME",
        .summary = "Write the file system of a workload as a tar archive",
        .options = options,
        .options_size = sizeof(struct export_options),
        .operands_min = 1,
        .operands_max = 1,
        .run = run_export,
    },
    {0},
};
