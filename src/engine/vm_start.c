#include "engine/vm_start.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "base/str.h"
#include "engine/engine.h"
#include "engine/vm_bundle.h"
#include "engine/workload.h"
#include "image/erofs.h"
#include "image/image.h"
#include "wall/vm.h"

bool vm_start_wanted(const struct workload *workload)
{
    return str_eq(workload->config.isolation, vm_wall.name);
}

int vm_start_refuse(const struct workload *workload, const char *what, struct err *err)
{
    if (!vm_start_wanted(workload)) {
        return 0;
    }
    (void)err_say(err, EOPNOTSUPP,
                  "%s: workload '%s' is behind the vm wall, its disk is the machine's", what,
                  workload->name);
    err_hint(err, "isola exec works in it");
    return -EOPNOTSUPP;
}

static int write_description(const char *run_dir, const json_t *vm, struct err *err)
{
    AUTO(freep) char *text = json_dumps(vm, JSON_COMPACT);
    AUTO(closep) int dir = open(run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r = text == NULL ? -ENOMEM
            : dir < 0    ? -errno
                         : replace_file_at(dir, VM_FILE, text, strlen(text), 0600, false);
    return r < 0 ? err_set(err, -r, "write '%s/%s'", run_dir, VM_FILE) : 0;
}

/* Asked once until the next boot: RUN does not survive one. */
static int check_host(const struct engine *engine, struct err *err)
{
    AUTO(freep) char *mark = str_printf("%s/vm-checked", engine->dirs.run);
    if (mark == NULL) {
        return err_set(err, ENOMEM, "check this host");
    }
    if (access(mark, F_OK) == 0) {
        return 0;
    }
    int r = vm_wall.check(err);
    if (r == 0) {
        AUTO(closep) int fd = open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        (void)fd; /* without it the next start asks again */
    }
    return r;
}

int vm_start_prepare(struct engine *engine, const struct workload *workload,
                     const struct network_lease *lease, const char *root_dir, const char *run_dir,
                     const char *hostname, const struct mount_specs *mounts, struct err *err)
{
    const struct workload_config *config = &workload->config;
    struct image_store *store = NULL;
    AUTO(image_donep) struct image image = {0};
    AUTO(strv_donep) struct strv layers = {0};
    AUTO(json_unrefp) json_t *vm = NULL;
    int r = check_host(engine, err);
    r = r < 0 ? r : engine_store(engine, &store, err);
    r = r < 0 ? r : image_resolve(store, config->image_id, NULL, &image, err);
    r = r < 0 ? r : image_erofs(store, &image, &layers, err);
    if (r < 0) {
        return r;
    }
    const struct vm_bundle_inputs inputs = {
        .id = workload->id,
        .config = config,
        .lease = lease,
        .root = engine->dirs.root,
        .root_dir = root_dir,
        .run_dir = run_dir,
        .hostname = hostname,
        .layers = &layers,
        .mounts = mounts,
    };
    r = vm_bundle_build(&inputs, &vm, err);
    return r < 0 ? r : write_description(run_dir, vm, err);
}
