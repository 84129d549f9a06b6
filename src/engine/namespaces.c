#include "engine/namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/process.h"
#include "base/str.h"
#include "engine/workload.h"

void namespaces_done(struct namespaces *ns)
{
    free(ns->net);
    free(ns->ipc);
    free(ns->pid);
    free(ns->user);
    for (size_t i = 0; i < ns->count; i++) {
        (void)close_fd(ns->fds[i]);
    }
    *ns = (struct namespaces){0};
}

/*
 * A namespace of a running workload: of its very process, whatever its pid is by the time that the
 * builder opens it. So the path leads to a descriptor that we hold until the workload is made.
 */
static int namespace_of(struct namespaces *ns, const struct workload *other, const char *type,
                        char **ret, struct err *err)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)other->status.pid, type);
    AUTO(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || !process_is_alive(other->status.pid, other->status.pid_start)) {
        return err_say(err, ESRCH, "join the %s namespace: workload '%s' has just ended", type,
                       other->name);
    }
    *ret = str_printf("/proc/%d/fd/%d", (int)getpid(), fd);
    if (*ret == NULL || ns->count == COUNT(ns->fds)) {
        return err_set(err, ENOMEM, "join a namespace");
    }
    ns->fds[ns->count++] = TAKE_FD(fd);
    return 0;
}

static int find_other(struct engine *engine, const char *name, const char *type,
                      struct workload *ret, struct err *err)
{
    int r = workload_find(engine, name, ret, err);
    if (r < 0) {
        return err_wrap(err, -r, "join the %s namespace", type);
    }
    return ret->state == WORKLOAD_RUNNING || ret->state == WORKLOAD_PAUSED
               ? 0
               : err_say(err, ESRCH, "join the %s namespace: workload '%s' does not run", type,
                         name);
}

static int join_namespace(struct namespaces *ns, struct engine *engine, const char *name,
                          const char *type, char **ret, struct err *err)
{
    AUTO(workload_donep) struct workload other = {0};
    int r = find_other(engine, name, type, &other, err);
    return r < 0 ? r : namespace_of(ns, &other, type, ret, err);
}

/* The ids, and the namespace, of another workload; where that has none of its own: none. */
static int join_ids(struct namespaces *ns, struct engine *engine, const char *name,
                    struct id_range *ret_ids, struct err *err)
{
    AUTO(workload_donep) struct workload other = {0};
    int r = find_other(engine, name, "user", &other, err);
    r = r < 0 ? r : id_range_of_process(other.status.pid, ret_ids, err);
    /* Behind it, for this is where it shows whose ids these were. */
    r = r < 0 ? r : namespace_of(ns, &other, "user", &ns->user, err);
    if (r == 0 && ret_ids->size == 0) {
        free(TAKE_PTR(ns->user));
    }
    return r;
}

/* "host" -> "", "container:NAME" -> its path, "private" or none -> NULL. */
static int parse_namespace(struct namespaces *ns, struct engine *engine, const char *option,
                           const char *mode, const char *type, char **ret, struct err *err)
{
    if (mode == NULL || str_eq(mode, "private") || str_eq(mode, "")) {
        return 0;
    }
    if (str_eq(mode, "host")) {
        *ret = strdup("");
        return *ret == NULL ? err_set(err, ENOMEM, "--%s", option) : 0;
    }
    if (str_eq(mode, "shareable") && str_eq(type, "ipc")) {
        return 0;
    }
    if (str_starts(mode, "container:")) {
        return join_namespace(ns, engine, mode + strlen("container:"), type, ret, err);
    }
    return err_say(err, EINVAL, "--%s '%s' is not private, host or container:NAME", option, mode);
}

int namespaces_resolve(struct engine *engine, const struct workload_config *config,
                       const struct network_request *request, struct namespaces *ns,
                       struct id_range *ret_ids, struct err *err)
{
    const char *ids_of = id_range_joined(config);
    int r = ids_of != NULL ? join_ids(ns, engine, ids_of, ret_ids, err) : 0;
    if (r == 0) {
        r = parse_namespace(ns, engine, "ipc", config->ipc, "ipc", &ns->ipc, err);
    }
    if (r == 0) {
        r = parse_namespace(ns, engine, "pid", config->pid, "pid", &ns->pid, err);
    }
    if (r == 0 && request->mode == NETWORK_MODE_HOST) {
        ns->net = strdup("");
        r = ns->net == NULL ? err_set(err, ENOMEM, "--network") : 0;
    } else if (r == 0 && request->mode == NETWORK_MODE_CONTAINER) {
        r = join_namespace(ns, engine, request->container, "net", &ns->net, err);
    }
    return r;
}
