#include "engine/engine.h"

#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/str.h"
#include "engine/network.h"
#include "image/store.h"

int engine_open(const char *root, const char *run, struct engine **ret, struct err *err)
{
    AUTO(engine_closep) struct engine *engine = calloc(1, sizeof(*engine));
    if (engine == NULL) {
        return err_set(err, ENOMEM, "open the engine");
    }
    int r = dirs_init(root, run, &engine->dirs, err);
    if (r == 0) {
        r = db_open(engine->dirs.root, &engine->db, err);
    }
    if (r < 0) {
        return r;
    }
    engine->containers_dir = str_printf("%s/containers", engine->dirs.run);
    if (engine->containers_dir == NULL) {
        return err_set(err, ENOMEM, "open the engine");
    }
    *ret = TAKE_PTR(engine);
    return 0;
}

void engine_close(struct engine *engine)
{
    if (engine == NULL) {
        return;
    }
    network_host_close(engine->host);
    image_store_close(engine->store);
    db_close(engine->db);
    free(engine->containers_dir);
    dirs_done(&engine->dirs);
    free(engine);
}

int engine_store(struct engine *engine, struct image_store **ret, struct err *err)
{
    if (engine->store == NULL) {
        int r = image_store_open(engine->dirs.root, STORE_READ_WRITE, &engine->store, err);
        if (r < 0) {
            return r;
        }
    }
    *ret = engine->store;
    return 0;
}

int engine_network(struct engine *engine, struct network_host **ret, struct err *err)
{
    if (engine->host == NULL) {
        int r = network_host_open(engine->db, &engine->dirs, &engine->host, err);
        if (r < 0) {
            return r;
        }
    }
    *ret = engine->host;
    return 0;
}
