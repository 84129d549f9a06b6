#include "engine/kernel.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/str.h"
#include "cmd/commands.h"
#include "cmd/format.h"
#include "cmd/kernel_install.h"
#include "engine/vm_store.h"

struct kernel_options {
    const char *format;
    bool quiet;
};

#define AT(member) offsetof(struct kernel_options, member)

static const struct option_spec ls_options[] = {
    {"format", 0, OPTION_STRING, AT(format), "TEMPLATE", "json, table ... or a Go template", NULL},
    {"quiet", 'q', OPTION_FLAG, AT(quiet), NULL, "Only versions", NULL},
    {0},
};

static int open_dirs(const struct command_context *context, struct dirs *ret, struct err *err)
{
    return dirs_init(context->global->root, context->global->run_dir, ret, err);
}

static json_t *describe(const struct kernel *kernel)
{
    char size[32];
    char age[64];
    format_size(kernel->bytes, size, sizeof(size));
    format_age(clock_realtime_ns() - kernel->created_ns, age, sizeof(age) - 4);
    (void)strncat(age, " ago", 5);
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:b, s:s}", "Version", kernel->version, "Installed",
                     age, "Size", size, "Bytes", (json_int_t)kernel->bytes, "Modules",
                     (json_int_t)kernel->modules, "IsDefault", kernel->is_default, "Default",
                     kernel->is_default ? "*" : "");
}

static int run_ls(struct command_context *context, void *data, int argc, char **argv,
                  struct err *err)
{
    (void)argc;
    (void)argv;
    const struct kernel_options *o = data;
    const char *template =
        o->format != NULL ? o->format
        : o->quiet        ? "{{.Version}}"
                          : "table "
                            "{{.Version}}\t{{.Size}}\t{{.Modules}}\t{{.Installed}}\t{{.Default}}";
    AUTO(dirs_donep) struct dirs dirs = {0};
    AUTO(kernel_list_donep) struct kernel_list list = {0};
    AUTO(format_freep) struct format *format = NULL;
    int r = open_dirs(context, &dirs, err);
    r = r < 0 ? r : kernel_list(dirs.root, &list, err);
    r = r < 0 ? r : format_new(template, NULL, &format, err);
    for (size_t i = 0; r == 0 && i < list.count; i++) {
        AUTO(json_unrefp) json_t *row = describe(&list.items[i]);
        r = row == NULL ? err_set(err, ENOMEM, "list kernels") : format_add(format, row, err);
    }
    return r < 0 ? r : format_finish(format, stdout, err);
}

static int run_rm(struct command_context *context, void *data, int argc, char **argv,
                  struct err *err)
{
    (void)data;
    AUTO(dirs_donep) struct dirs dirs = {0};
    int r = open_dirs(context, &dirs, err);
    if (r < 0) {
        return r;
    }
    int exit_code = 0;
    for (int i = 0; i < argc; i++) {
        struct err one = ERR_NONE;
        if (kernel_remove(dirs.root, argv[i], &one) < 0) {
            (void)fflush(stdout);
            (void)fprintf(stderr, "isola: %s\n", err_text(&one));
            exit_code = 1;
        } else {
            (void)printf("%s\n", argv[i]);
        }
    }
    /* What was made for them goes along; `system check` finds what does not. */
    AUTO(strv_donep) struct strv gone = {0};
    (void)vm_store_check(dirs.root, true, &gone, NULL);
    return exit_code;
}

static int run_default(struct command_context *context, void *data, int argc, char **argv,
                       struct err *err)
{
    (void)data;
    (void)argc;
    AUTO(dirs_donep) struct dirs dirs = {0};
    int r = open_dirs(context, &dirs, err);
    r = r < 0 ? r : kernel_set_default(dirs.root, argv[0], err);
    if (r == 0) {
        (void)printf("%s\n", argv[0]);
    }
    return r;
}

const struct command kernel_commands[] = {
    {.group = "kernel",
     .name = "default",
     .operands = "VERSION",
     .summary = "Choose the kernel that machines get",
     .operands_min = 1,
     .operands_max = 1,
     .run = run_default},
    {.group = "kernel",
     .name = "install",
     .operands = KERNEL_INSTALL_OPERANDS,
     .summary = KERNEL_INSTALL_SUMMARY,
     .helper = "isola-kernel"},
    {.group = "kernel",
     .name = "ls",
     .operands = "",
     .summary = "List kernels for virtual machines",
     .options = ls_options,
     .options_size = sizeof(struct kernel_options),
     .run = run_ls},
    {.group = "kernel",
     .name = "rm",
     .operands = "VERSION [VERSION...]",
     .summary = "Remove kernels",
     .operands_min = 1,
     .operands_max = -1,
     .run = run_rm},
    {.group = "kernel",
     .name = "unpack",
     .operands = KERNEL_UNPACK_OPERANDS,
     .summary = KERNEL_UNPACK_SUMMARY,
     .helper = "isola-kernel"},
    {0},
};
