/*
 * isola-shim - the process beside each workload. Started by isola only; see engine/shim.h.
 */
#include <stddef.h>
#include <stdio.h>

#include "base/err.h"
#include "base/option.h"
#include "container/self.h"
#include "engine/shim.h"

#define AT(member) offsetof(struct shim_options, member)

static const struct option_spec options[] = {
    {"id", 0, OPTION_STRING, AT(id), "ID", "Workload", NULL},
    {"run-dir", 0, OPTION_STRING, AT(run_dir), "DIR", "Bundle, status and socket", NULL},
    {"log-dir", 0, OPTION_STRING, AT(log_dir), "DIR", "Where the log goes", NULL},
    {"containers", 0, OPTION_STRING, AT(containers_dir), "DIR", "State of the wall", NULL},
    {"isola", 0, OPTION_STRING, AT(isola), "PROGRAM", "Ends runs", NULL},
    {"root", 0, OPTION_STRING, AT(root), "DIR", "For PROGRAM", NULL},
    {"run", 0, OPTION_STRING, AT(run), "DIR", "For PROGRAM", NULL},
    {"wall", 0, OPTION_STRING, AT(wall), "NAME", "Isolation", NULL},
    {"log-max-size", 0, OPTION_SIZE, AT(log_max_size), "SIZE", "Rotate at", NULL},
    {"log-max-files", 0, OPTION_INT, AT(log_max_files), "N", "Files to keep", NULL},
    {"tty", 0, OPTION_FLAG, AT(tty), NULL, "Terminal", NULL},
    {"stdin", 0, OPTION_FLAG, AT(keep_stdin), NULL, "Standard input from clients", NULL},
    {"control-fd", 0, OPTION_INT, AT(control_fd), "FD", "Socket to who starts us", NULL},
    {"rootfs-fd", 0, OPTION_INT, AT(rootfs_fd), "FD", "Root file system", NULL},
    {"health", 0, OPTION_LIST, AT(health_test), "WORD", "Health check, a word each", NULL},
    {"health-interval", 0, OPTION_SIZE, AT(health_interval), "NS", "Between checks", NULL},
    {"health-timeout", 0, OPTION_SIZE, AT(health_timeout), "NS", "Of one check", NULL},
    {"health-start-period", 0, OPTION_SIZE, AT(health_start_period), "NS", "Grace", NULL},
    {"health-retries", 0, OPTION_INT, AT(health_retries), "N", "Failures that count", NULL},
    {0},
};

int main(int argc, char **argv)
{
    struct err err = ERR_NONE;
    struct shim_options o = {.control_fd = -1, .rootfs_fd = -1};
    const struct option_parse parse = {.specs = options, .target = &o};
    bool help = false;
    int r = self_protect(argv, &err);
    if (r == 0) {
        r = option_parse(&parse, argc, argv, &help, &err);
    }
    if (r < 0) {
        (void)fprintf(stderr, "isola-shim: %s\n", err_text(&err));
        return 125;
    }
    if (help || o.id == NULL || o.run_dir == NULL || o.containers_dir == NULL || o.control_fd < 0) {
        (void)fprintf(stderr, "isola-shim: started by isola only; see isola(1)\n");
        return 125;
    }
    return shim_main(&o);
}
