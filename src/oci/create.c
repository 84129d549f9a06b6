/* isola-oci create, run */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/str.h"
#include "container/container.h"
#include "oci/program.h"

struct create_options {
    const char *bundle;
    const char *config;
    const char *console_socket;
    const char *pid_file;
    int64_t preserve_fds;
    bool no_pivot;
    bool no_new_keyring;
    bool no_subreaper;
    bool detach;
    bool keep;
};

#define CREATE_OPTIONS                                                                             \
    {"bundle",      'b',                                                                           \
     OPTION_STRING, offsetof(struct create_options, bundle),                                       \
     "DIR",         "directory of config.json (default: the current one)",                         \
     NULL},                                                                                        \
        {"config",      'f',                                                                       \
         OPTION_STRING, offsetof(struct create_options, config),                                   \
         "FILE",        "configuration in the bundle (default: config.json)",                      \
         NULL},                                                                                    \
        {"console-socket",                                                                         \
         0,                                                                                        \
         OPTION_STRING,                                                                            \
         offsetof(struct create_options, console_socket),                                          \
         "SOCKET",                                                                                 \
         "Unix socket that gets the terminal",                                                     \
         NULL},                                                                                    \
        {"pid-file",    0,                                                                         \
         OPTION_STRING, offsetof(struct create_options, pid_file),                                 \
         "FILE",        "write the pid of the first process to FILE",                              \
         NULL},                                                                                    \
        {"preserve-fds",                                                                           \
         0,                                                                                        \
         OPTION_INT,                                                                               \
         offsetof(struct create_options, preserve_fds),                                            \
         "N",                                                                                      \
         "pass N descriptors from 3 on",                                                           \
         NULL},                                                                                    \
        {"no-pivot",  0,                                                                           \
         OPTION_FLAG, offsetof(struct create_options, no_pivot),                                   \
         NULL,        "move the root instead of pivot_root (initramfs)",                           \
         NULL},                                                                                    \
    {                                                                                              \
        "no-new-keyring", 0, OPTION_FLAG, offsetof(struct create_options, no_new_keyring), NULL,   \
            "keep the caller's session keyring", NULL                                              \
    }

static const struct option_spec create_options[] = {CREATE_OPTIONS, {0}};

static const struct option_spec run_options[] = {
    CREATE_OPTIONS,
    {"detach", 'd', OPTION_FLAG, offsetof(struct create_options, detach), NULL,
     "return once the workload runs", NULL},
    {"keep", 0, OPTION_FLAG, offsetof(struct create_options, keep), NULL,
     "do not delete the container when it ends", NULL},
    {"no-subreaper", 0, OPTION_FLAG, offsetof(struct create_options, no_subreaper), NULL, NULL,
     NULL}, /* engines say so; we never adopt any */
    {0},
};

static int load(const struct create_options *options, struct spec **ret, struct err *err)
{
    const char *bundle = options->bundle != NULL ? options->bundle : ".";
    AUTO(closep) int dir = open(bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        return err_set(err, errno, "open bundle '%s'", bundle);
    }
    return spec_load(dir, options->config != NULL ? options->config : "config.json", ret, err);
}

static int check(const struct create_options *options, struct err *err)
{
    if (options->preserve_fds < 0 || options->preserve_fds > 1024) {
        return err_say(err, EINVAL, "--preserve-fds: %lld is not between 0 and 1024",
                       (long long)options->preserve_fds);
    }
    for (int64_t i = 0; i < options->preserve_fds; i++) {
        if (set_cloexec(3 + (int)i, false) < 0) {
            return err_set(err, errno, "--preserve-fds: descriptor %d", 3 + (int)i);
        }
    }
    return 0;
}

static int create(const struct oci_globals *globals, const struct create_options *options,
                  const char *id, bool start, struct container_process *ret, bool *ret_exec_failed,
                  struct err *err)
{
    AUTO(spec_freep) struct spec *spec = NULL;
    int r = check(options, err);
    r = r < 0 ? r : load(options, &spec, err);
    if (r < 0) {
        return r;
    }
    struct container_create_args args = CONTAINER_CREATE_ARGS_INIT;
    args.root = globals->root;
    args.id = id;
    args.bundle = options->bundle != NULL ? options->bundle : ".";
    args.spec = spec;
    args.io.console_path = options->console_socket;
    args.io.pid_file = options->pid_file;
    args.io.preserve_fds = (unsigned)options->preserve_fds;
    args.no_pivot = options->no_pivot;
    args.no_new_keyring = options->no_new_keyring;
    args.systemd_cgroup = globals->systemd_cgroup || str_eq(globals->cgroup_manager, "systemd");
    args.no_cgroup = str_eq(globals->cgroup_manager, "disabled");
    args.start = start;
    r = container_create(&args, ret, ret_exec_failed, err);
    if (r == 0) {
        *err = ERR_NONE; /* what was tried in vain on the way is of no interest */
    }
    return r;
}

static int create_run(const struct oci_globals *globals, void *data, int argc, char **argv,
                      struct err *err)
{
    (void)argc;
    bool exec_failed = false;
    AUTO(container_process_donep) struct container_process process = {.pidfd = -1};
    int r = create(globals, data, argv[0], false, &process, &exec_failed, err);
    return r < 0 ? r : 0;
}

static int run_run(const struct oci_globals *globals, void *data, int argc, char **argv,
                   struct err *err)
{
    (void)argc;
    const struct create_options *options = data;
    bool exec_failed = false;
    AUTO(container_process_donep) struct container_process process = {.pidfd = -1};
    if (!options->detach) {
        oci_block_signals();
    }
    int r = create(globals, options, argv[0], true, &process, &exec_failed, err);
    if (r < 0) {
        return exec_failed ? oci_exec_exit_code(true, r) : r;
    }
    if (options->detach) {
        return 0;
    }
    int code = oci_wait_foreground(&process);
    if (!options->keep) {
        r = container_delete(globals->root, argv[0], true, err);
    }
    if (code < 0) {
        return err_set(err, -code, "wait for container '%s'", argv[0]);
    }
    return r < 0 ? r : code;
}

const struct oci_command oci_create_commands[] = {
    {"create", "ID", "make a container; start it later", create_options,
     sizeof(struct create_options), 1, 1, false, true, create_run},
    {"run", "ID", "create and start a container and wait for it", run_options,
     sizeof(struct create_options), 1, 1, false, true, run_run},
    {0},
};
