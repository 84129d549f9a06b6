/*
 * start_internal.h - what the parts of a start share: start.c, start_prepare.c, vm_idle.c.
 */
#ifndef ENGINE_START_INTERNAL_H
#define ENGINE_START_INTERNAL_H

#include "base/cleanup.h"
#include "engine/id_range.h"
#include "engine/mount_spec.h"
#include "engine/namespaces.h"
#include "engine/network.h"
#include "engine/network_host.h"
#include "engine/shim_process.h"
#include "engine/user.h"
#include "engine/workload.h"
#include "engine/workload_network.h"

#define RESOLV_CONF "/etc/resolv.conf"

/* What a start gathers on its way; all of it ends with the start. */
struct start {
    struct engine *engine;
    struct workload workload;
    struct workload_run before; /* what a start that fails leaves; texts are workload.run.json's */
    struct network_host *host;
    struct network_request request;
    struct network_lease lease;
    struct mount_specs mounts;
    struct user user;
    struct id_range ids;
    int rootfs_fd;
    int control_fd;
    struct shim_identity shim;
    char *root_dir; /* ROOT/workloads/ID */
    char *run_dir;  /* RUN/workloads/ID */
    char *init_path, *emulator_path;
    struct namespaces namespaces;
    char hostname[WORKLOAD_HOSTNAME_SIZE];
};

void start_done(struct start *start);
DEFINE_DONEP(struct start, start_done)

/* The paths of the workload, which is loaded and whose lock the caller holds. */
int start_find_dirs(struct start *start, struct err *err);

/*
 * start_prepare.c: reserves what a run needs and writes RUN/workloads/ID. restart counts as one
 * more. On failure the caller undoes it (end_clean_up()).
 */
int start_prepare(struct start *start, bool restart, struct err *err);

/* The same for a machine that is only to give or take files: no state, no network, no names. */
int start_prepare_idle(struct start *start, struct err *err);

struct network_names start_names(const struct start *start);

#endif
