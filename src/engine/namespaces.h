/*
 * namespaces.h - the namespaces that a workload does not get for its own.
 */
#ifndef ENGINE_NAMESPACES_H
#define ENGINE_NAMESPACES_H

#include <stddef.h>

#include "engine/config.h"
#include "engine/engine.h"
#include "engine/id_range.h"
#include "engine/network.h"

struct err;

/* Paths as struct bundle_inputs has them: NULL one of its own, "" the host's. */
struct namespaces {
    char *net;
    char *ipc;
    char *pid;
    char *user;
    int fds[4]; /* what the paths lead to */
    size_t count;
};

/*
 * What --ipc, --pid, --userns and --network say, in a zeroed *ns, which is the caller's to end also
 * after a failure. The paths are good for as long as *ns and this process are. *ret_ids is set when
 * the ids of another workload are joined.
 */
int namespaces_resolve(struct engine *engine, const struct workload_config *config,
                       const struct network_request *request, struct namespaces *ns,
                       struct id_range *ret_ids, struct err *err);
void namespaces_done(struct namespaces *ns);

#endif
