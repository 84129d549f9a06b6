/* isola-oci start, kill, delete, pause, resume */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/err.h"
#include "base/process.h"
#include "base/str.h"
#include "container/container.h"
#include "oci/program.h"

static int start_run(const struct oci_globals *globals, void *data, int argc, char **argv,
                     struct err *err)
{
    (void)data;
    (void)argc;
    bool exec_failed = false;
    int r = container_start(globals->root, argv[0], &exec_failed, err);
    return r < 0 && exec_failed ? oci_exec_exit_code(true, r) : r;
}

struct kill_options {
    bool all;
};

static const struct option_spec kill_options[] = {
    {"all", 'a', OPTION_FLAG, offsetof(struct kill_options, all), NULL,
     "every process of the container", NULL},
    {0},
};

static int kill_run(const struct oci_globals *globals, void *data, int argc, char **argv,
                    struct err *err)
{
    const struct kill_options *options = data;
    int signal = argc > 1 ? signal_from_name(argv[1]) : SIGTERM;
    if (signal < 0) {
        return err_say(err, EINVAL, "'%s' is not a signal", argv[1]);
    }
    return container_kill(globals->root, argv[0], signal, options->all, err);
}

struct delete_options {
    bool force;
};

static const struct option_spec delete_options[] = {
    {"force", 'f', OPTION_FLAG, offsetof(struct delete_options, force), NULL,
     "kill it first if it runs", NULL},
    {0},
};

static int delete_run(const struct oci_globals *globals, void *data, int argc, char **argv,
                      struct err *err)
{
    (void)argc;
    const struct delete_options *options = data;
    return container_delete(globals->root, argv[0], options->force, err);
}

static int pause_run(const struct oci_globals *globals, void *data, int argc, char **argv,
                     struct err *err)
{
    (void)data;
    (void)argc;
    return container_pause(globals->root, argv[0], err);
}

static int resume_run(const struct oci_globals *globals, void *data, int argc, char **argv,
                      struct err *err)
{
    (void)data;
    (void)argc;
    return container_resume(globals->root, argv[0], err);
}

const struct oci_command oci_life_commands[] = {
    {"start", "ID", "start a created container", NULL, 0, 1, 1, false, false, start_run},
    {"kill", "ID [SIGNAL]", "signal a container (default: TERM)", kill_options,
     sizeof(struct kill_options), 1, 2, false, false, kill_run},
    {"delete", "ID", "remove a stopped container", delete_options, sizeof(struct delete_options), 1,
     1, false, false, delete_run},
    {"pause", "ID", "freeze all processes of a container", NULL, 0, 1, 1, false, false, pause_run},
    {"resume", "ID", "let a paused container go on", NULL, 0, 1, 1, false, false, resume_run},
    {0},
};
