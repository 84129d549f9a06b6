#include "cmd/kernel_install.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/err.h"
#include "engine/kernel_install.h"
#include "engine/kernel_unpack.h"
#include "engine/vm_store.h"

struct install_options {
    const char *from;
    const char *modules;
    const char *name;
    bool no_default;
};

#define AT(member) offsetof(struct install_options, member)

static const struct option_spec install_options[] = {
    {"from", 0, OPTION_STRING, AT(from), "FILE",
     "A package linux-image-*.deb, bzImage or vmlinux, instead of a download", NULL},
    {"modules", 0, OPTION_STRING, AT(modules), "DIR",
     "With a kernel file: its modules, as in /lib/modules/VERSION", NULL},
    {"name", 0, OPTION_STRING, AT(name), "NAME", "Instead of the version that the kernel says",
     NULL},
    {"no-default", 0, OPTION_FLAG, AT(no_default), NULL, "Leave the default kernel as it is", NULL},
    {0},
};

static int run_install(struct command_context *context, void *data, int argc, char **argv,
                       struct err *err)
{
    (void)argc;
    (void)argv;
    const struct install_options *o = data;
    AUTO(dirs_donep) struct dirs dirs = {0};
    AUTO(strv_donep) struct strv missing = {0};
    AUTO(freep) char *version = NULL;
    if (o->modules != NULL && o->from == NULL) {
        return err_say(err, EINVAL, "--modules goes with --from");
    }
    int r = dirs_init(context->global->root, context->global->run_dir, &dirs, err);
    if (r < 0) {
        return r;
    }
    (void)umask(022);
    const struct kernel_install install = {
        .root = dirs.root,
        .from = o->from,
        .modules = o->modules,
        .name = o->name,
        .not_default = o->no_default,
    };
    r = kernel_install(&install, &version, &missing, err);
    if (r < 0) {
        return r;
    }
    /* Of older kernels and programs; `system check` finds what stays. */
    AUTO(strv_donep) struct strv gone = {0};
    (void)vm_store_check(dirs.root, true, &gone, NULL);
    for (size_t i = 0; i < missing.count; i++) {
        (void)fprintf(stderr, "isola: kernel '%s' has no '%s': machines go without it\n", version,
                      missing.items[i]);
    }
    (void)printf("%s\n", version);
    return 0;
}

static int run_unpack(struct command_context *context, void *data, int argc, char **argv,
                      struct err *err)
{
    (void)data;
    (void)argc;
    AUTO(dirs_donep) struct dirs dirs = {0};
    AUTO(freep) char *path = NULL;
    int r = dirs_init(context->global->root, context->global->run_dir, &dirs, err);
    (void)umask(022);
    r = r < 0 ? r : kernel_unpack(dirs.root, argv[0], &path, err);
    if (r == 0) {
        (void)printf("%s\n", path);
    }
    return r;
}

const struct command kernel_install_commands[] = {
    {.group = "kernel",
     .name = "install",
     .operands = KERNEL_INSTALL_OPERANDS,
     .summary = KERNEL_INSTALL_SUMMARY,
     .options = install_options,
     .options_size = sizeof(struct install_options),
     .run = run_install},
    {.group = "kernel",
     .name = "unpack",
     .operands = KERNEL_UNPACK_OPERANDS,
     .summary = KERNEL_UNPACK_SUMMARY,
     .operands_min = 1,
     .operands_max = 1,
     .run = run_unpack},
    {0},
};
