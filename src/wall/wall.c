#include "wall/wall.h"

#include <errno.h>
#include <fcntl.h>

#include "base/err.h"
#include "base/str.h"
#include "wall/vm.h"

static int container_wall_create(const struct wall_create *args, struct container_process *ret,
                                 bool *ret_exec_failed, struct err *err)
{
    AUTO(spec_freep) struct spec *spec = NULL;
    AUTO(closep) int bundle = open(args->bundle, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (bundle < 0) {
        return err_set(err, errno, "open bundle '%s'", args->bundle);
    }
    int r = spec_load(bundle, "config.json", &spec, err);
    if (r < 0) {
        return r;
    }
    struct container_create_args create = CONTAINER_CREATE_ARGS_INIT;
    create.root = args->root;
    create.id = args->id;
    create.bundle = args->bundle;
    create.spec = spec;
    create.rootfs_fd = args->rootfs_fd;
    create.io = args->io;
    create.start_fd = args->start_fd;
    create.systemd_cgroup =
        spec->cgroups_path != NULL && container_is_scope_path(spec->cgroups_path);
    create.cgroup_optional = true;
    create.copies_fd = args->copies_fd;
    return container_create(&create, ret, ret_exec_failed, err);
}

static int container_wall_remove(const char *root, const char *id, struct err *err)
{
    return container_delete(root, id, true, err);
}

static const struct wall container_wall = {
    .name = "container",
    .summary = "namespaces, cgroups and seccomp on the host's kernel",
    .create = container_wall_create,
    .start = container_start_fd,
    .exec = container_exec,
    .signal = container_kill,
    .pause = container_pause,
    .resume = container_resume,
    .update = container_update,
    .stats = container_stats,
    .oom_kills = container_oom_kills,
    .pids = container_pids,
    .remove = container_wall_remove,
};

const struct wall *const walls[] = {&container_wall, &vm_wall, NULL};

int wall_find(const char *name, const struct wall **ret, struct err *err)
{
    if (name == NULL || name[0] == '\0' || str_eq(name, "default")) {
        *ret = &container_wall;
        return 0;
    }
    for (size_t i = 0; walls[i] != NULL; i++) {
        if (str_eq(name, walls[i]->name)) {
            *ret = walls[i];
            return 0;
        }
    }
    return err_say(err, EOPNOTSUPP,
                   "isolation '%s' is not available: this isola has 'container' and 'vm'", name);
}
