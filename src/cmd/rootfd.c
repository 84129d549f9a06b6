#include "cmd/rootfd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/err.h"
#include "engine/rootfs.h"

int rootfd_open(struct engine *engine, const struct workload *workload, struct err *err)
{
    if (workload->state == WORKLOAD_RUNNING || workload->state == WORKLOAD_PAUSED) {
        char path[64];
        (void)snprintf(path, sizeof(path), "/proc/%d/root", (int)workload->status.pid);
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? err_set(err, errno, "open the root of '%s'", workload->name) : fd;
    }
    AUTO(freep) char *upper = workload_root_path(engine, workload->id, "upper");
    AUTO(freep) char *work = workload_root_path(engine, workload->id, "work");
    if (upper == NULL || work == NULL) {
        return err_set(err, ENOMEM, "open the root of '%s'", workload->name);
    }
    return rootfs_mount(&workload->config.layers, upper, work, workload->config.rm, err);
}
