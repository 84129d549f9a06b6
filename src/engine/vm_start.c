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

int vm_start_prepare(const struct vm_start_inputs *in, struct err *err)
{
    const struct workload_config *config = &in->workload->config;
    struct image_store *store = NULL;
    AUTO(image_donep) struct image image = {0};
    AUTO(strv_donep) struct strv layers = {0};
    AUTO(json_unrefp) json_t *vm = NULL;
    int r = check_host(in->engine, err);
    r = r < 0 ? r : engine_store(in->engine, &store, err);
    r = r < 0 ? r : image_resolve(store, config->image_id, NULL, &image, err);
    r = r < 0 ? r : image_erofs(store, &image, &layers, err);
    if (r < 0) {
        return r;
    }
    const struct vm_bundle_inputs bundle = {
        .id = in->workload->id,
        .config = config,
        .lease = in->lease,
        .root = in->engine->dirs.root,
        .root_dir = in->root_dir,
        .run_dir = in->run_dir,
        .hostname = in->hostname,
        .layers = &layers,
        .mounts = in->mounts,
        .idle = in->idle,
    };
    r = vm_bundle_build(&bundle, &vm, err);
    return r < 0 ? r : write_description(in->run_dir, vm, err);
}
