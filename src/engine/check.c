#include "engine/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/path.h"
#include "base/str.h"
#include "engine/end.h"
#include "engine/network.h"
#include "engine/volume.h"
#include "image/store.h"
#include "wall/wall.h"

/* A restart waits at most a minute; later than this nobody is waiting any more. */
#define RESTART_OVERDUE_NS (90 * NS_PER_SEC)

struct check {
    struct engine *engine;
    bool repair;
    struct strv known; /* ids of all workloads */
    struct strv live;  /* ids of those that run */
    struct strv *findings;
};

static int check_runs(struct check *c, struct err *err)
{
    AUTO(workload_list_donep) struct workload_list list = {0};
    int r = workload_list(c->engine, &list, err);
    for (size_t i = 0; r == 0 && i < list.count; i++) {
        const struct workload *w = &list.items[i];
        bool overdue = w->state == WORKLOAD_RESTARTING &&
                       clock_realtime_ns() - w->run.finished_ns > RESTART_OVERDUE_NS;
        bool due = end_is_due(w);
        if (due || overdue) {
            r = strv_addf(c->findings, "workload '%s': %s", w->name,
                          due ? "its run ended unnoticed" : "nobody waits for its restart");
        }
        if (r == 0 && due && c->repair) {
            r = end_run(c->engine, w->id, err);
        } else if (r == 0 && overdue && c->repair) {
            struct workload copy = *w;
            copy.state = WORKLOAD_EXITED;
            r = workload_save(c->engine, &copy, err);
        }
    }
    return r;
}

static int list_known(struct check *c, struct err *err)
{
    AUTO(workload_list_donep) struct workload_list list = {0};
    int r = workload_list(c->engine, &list, err);
    for (size_t i = 0; r == 0 && i < list.count; i++) {
        const struct workload *w = &list.items[i];
        r = strv_add(&c->known, w->id);
        if (r == 0 && (w->state == WORKLOAD_RUNNING || w->state == WORKLOAD_PAUSED ||
                       w->state == WORKLOAD_STARTING)) {
            r = strv_add(&c->live, w->id);
        }
    }
    return r < 0 ? err_wrap(err, -r, "list workloads") : 0;
}

/* Names in dir that are not in keep. A missing directory has none. */
static int strangers(const char *dir, const struct strv *keep, struct strv *ret)
{
    AUTO(closedirp) DIR *d = opendir(dir);
    struct dirent *entry;
    while (d != NULL && (entry = readdir(d)) != NULL) {
        if (entry->d_name[0] == '.' || strv_has(keep, entry->d_name)) {
            continue;
        }
        int r = strv_add(ret, entry->d_name);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* Directories named by ids, below ROOT and RUN, whose workload is gone. */
static int check_dirs(struct check *c, const char *base, const char *below, const struct strv *keep,
                      struct err *err)
{
    AUTO(freep) char *dir = str_printf("%s/%s", base, below);
    AUTO(strv_donep) struct strv names = {0};
    int r = dir == NULL ? -ENOMEM : strangers(dir, keep, &names);
    for (size_t i = 0; r == 0 && i < names.count; i++) {
        AUTO(freep) char *path = str_printf("%s/%s", dir, names.items[i]);
        r = path == NULL ? -ENOMEM : strv_addf(c->findings, "left over: %s", path);
        if (r == 0 && c->repair) {
            r = remove_tree_at(AT_FDCWD, path);
        }
    }
    return r < 0 ? err_wrap(err, -r, "check '%s'", dir) : 0;
}

static int check_containers(struct check *c, struct err *err)
{
    const struct wall *wall;
    AUTO(strv_donep) struct strv names = {0};
    int r = wall_find(NULL, &wall, err);
    if (r == 0) {
        r = strangers(c->engine->containers_dir, &c->live, &names);
    }
    for (size_t i = 0; r == 0 && i < names.count; i++) {
        if (!container_id_is_valid(names.items[i]) || strlen(names.items[i]) != 64) {
            continue; /* caches of the wall itself */
        }
        r = strv_addf(c->findings, "left over: container %.12s", names.items[i]);
        if (r == 0 && c->repair) {
            r = wall->remove(c->engine->containers_dir, names.items[i], err);
        }
    }
    return r < 0 ? err_wrap(err, -r, "check containers") : 0;
}

static int check_network(struct check *c, struct err *err)
{
    struct network_host *host;
    int r = engine_network(c->engine, &host, err);
    return r < 0 ? r : network_check(host, &c->live, c->repair, c->findings, err);
}

static int check_images(struct check *c, struct err *err)
{
    struct image_store *store;
    AUTO(strv_donep) struct strv users = {0};
    int r = engine_store(c->engine, &store, err);
    if (r == 0) {
        r = image_pins(store, &users, err);
    }
    for (size_t i = 0; r == 0 && i < users.count; i++) {
        if (strv_has(&c->known, users.items[i])) {
            continue;
        }
        r = strv_addf(c->findings, "an image is kept for workload %.12s, which is gone",
                      users.items[i]);
        if (r == 0 && c->repair) {
            r = image_unpin(store, users.items[i], err);
        }
    }
    return r < 0 ? r : image_store_check(store, c->repair, c->findings, err);
}

static int check_volumes(struct check *c, struct err *err)
{
    AUTO(volume_list_donep) struct volume_list list = {0};
    AUTO(strv_donep) struct strv names = {0};
    int r = volume_list(c->engine, &list, err);
    for (size_t i = 0; r == 0 && i < list.count; i++) {
        r = strv_add(&names, list.items[i].name);
    }
    return r < 0 ? r : check_dirs(c, c->engine->dirs.root, "volumes", &names, err);
}

int check_system(struct engine *engine, bool repair, struct strv *findings, struct err *err)
{
    struct check c = {.engine = engine, .repair = repair, .findings = findings};
    int r = check_runs(&c, err);
    if (r == 0) {
        r = list_known(&c, err);
    }
    if (r == 0) {
        r = check_containers(&c, err);
    }
    if (r == 0) {
        r = check_network(&c, err);
    }
    if (r == 0) {
        r = check_dirs(&c, engine->dirs.run, "workloads", &c.live, err);
    }
    if (r == 0) {
        r = check_dirs(&c, engine->dirs.run, "locks", &c.known, err);
    }
    if (r == 0) {
        r = check_dirs(&c, engine->dirs.root, "workloads", &c.known, err);
    }
    if (r == 0) {
        r = check_volumes(&c, err);
    }
    if (r == 0) {
        r = check_images(&c, err);
    }
    strv_done(&c.known);
    strv_done(&c.live);
    return r;
}
