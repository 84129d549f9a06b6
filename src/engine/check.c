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
#include "engine/status.h"
#include "engine/vm_store.h"
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

/* Whether end() is to be called: nobody works on the workload, and it is as the list said. */
static int confirm(struct check *c, const struct workload *seen, bool *ret_due, bool *ret_overdue,
                   struct err *err)
{
    AUTO(workload_donep) struct workload now = {0};
    struct err missing = ERR_NONE;
    AUTO(closep) int lock = workload_try_lock(c->engine, seen->id, err);
    if (lock < 0) {
        return lock == -EWOULDBLOCK ? 0 : lock;
    }
    int r = workload_load(c->engine, seen->id, &now, &missing);
    if (r < 0) {
        workload_remove_lock(c->engine, seen->id); /* removed meanwhile */
        return r == -ENOENT ? 0 : err_say(err, -r, "%s", err_text(&missing));
    }
    *ret_due = end_is_due(&now);
    *ret_overdue = now.state == WORKLOAD_RESTARTING &&
                   clock_realtime_ns() - now.run.finished_ns > RESTART_OVERDUE_NS;
    if (*ret_overdue && c->repair) {
        now.state = WORKLOAD_EXITED;
        r = workload_save(c->engine, &now, err);
    }
    return r;
}

static int check_runs(struct check *c, struct err *err)
{
    AUTO(workload_list_donep) struct workload_list list = {0};
    int r = workload_list(c->engine, &list, err);
    for (size_t i = 0; r == 0 && i < list.count; i++) {
        const struct workload *w = &list.items[i];
        bool due = false;
        bool overdue = false;
        if (end_is_due(w) || w->state == WORKLOAD_RESTARTING) {
            r = confirm(c, w, &due, &overdue, err);
        }
        if (r == 0 && (due || overdue)) {
            r = strv_addf(c->findings, "workload '%s': %s", w->name,
                          due ? "its run ended unnoticed" : "nobody waits for its restart");
        }
        if (r == 0 && due && c->repair) {
            r = end_run(c->engine, w->id, err);
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

enum keep {
    KEEP_KNOWN, /* what belongs to any workload */
    KEEP_LIVE,  /* only what belongs to one that runs */
};

/* Its workload is removed, but its shim has not come to its end yet (end_remove_ahead()). */
static bool is_ending(const struct engine *engine, const char *id)
{
    struct workload_status status;
    AUTO(freep) char *path = workload_run_path(engine, id, NULL);
    AUTO(closep)
    int dir = path == NULL ? -1 : open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return dir >= 0 && status_read(dir, &status) == 0 && status_shim_alive(&status);
}

/*
 * A second look, under the lock of the workload: since the lists were made it may have been
 * created, started or ended, or somebody is about to. Returns the lock when the thing is really
 * left over, -EALREADY when it is not.
 */
static int claim(struct check *c, const char *id, enum keep keep, struct err *err)
{
    AUTO(workload_donep) struct workload now = {0};
    struct err missing = ERR_NONE;
    AUTO(closep) int lock = workload_try_lock(c->engine, id, err);
    if (lock < 0) {
        return lock == -EWOULDBLOCK ? -EALREADY : lock;
    }
    int r = workload_load(c->engine, id, &now, &missing);
    if (r < 0 && r != -ENOENT) {
        return err_say(err, -r, "%s", err_text(&missing));
    }
    if (r == -ENOENT) {
        /* Ids do not come again: nobody will want this lock but those who look as we do. */
        workload_remove_lock(c->engine, id);
        if (is_ending(c->engine, id)) {
            return -EALREADY;
        }
    }
    bool runs = r == 0 && (now.state == WORKLOAD_STARTING || now.state == WORKLOAD_RUNNING ||
                           now.state == WORKLOAD_PAUSED);
    return runs || (r == 0 && keep == KEEP_KNOWN) ? -EALREADY : TAKE_FD(lock);
}

/* Directories named by ids, below ROOT and RUN, whose workload is gone. */
static int check_dirs(struct check *c, const char *base, const char *below, enum keep keep,
                      struct err *err)
{
    AUTO(freep) char *dir = str_printf("%s/%s", base, below);
    AUTO(strv_donep) struct strv names = {0};
    int r =
        dir == NULL ? -ENOMEM : strangers(dir, keep == KEEP_LIVE ? &c->live : &c->known, &names);
    for (size_t i = 0; r == 0 && i < names.count; i++) {
        const char *name = names.items[i];
        AUTO(freep) char *path = str_printf("%s/%s", dir, name);
        AUTO(closep) int lock = claim(c, name, keep, err);
        if (lock < 0) {
            r = lock == -EALREADY ? 0 : lock;
            continue;
        }
        r = path == NULL ? -ENOMEM : strv_addf(c->findings, "left over: %s", path);
        if (r == 0 && c->repair) {
            r = remove_tree_at(AT_FDCWD, path);
        }
    }
    return r < 0 ? err_wrap(err, -r, "check '%s'", dir) : 0;
}

/* Lock files of nobody: whoever holds one is at work, perhaps on a new workload. */
static int check_locks(struct check *c, struct err *err)
{
    AUTO(freep) char *dir = str_printf("%s/locks", c->engine->dirs.run);
    AUTO(strv_donep) struct strv names = {0};
    int r = dir == NULL ? -ENOMEM : strangers(dir, &c->known, &names);
    for (size_t i = 0; r == 0 && i < names.count; i++) {
        AUTO(closep) int lock = claim(c, names.items[i], KEEP_KNOWN, err);
        if (lock < 0) {
            r = lock == -EALREADY ? 0 : lock;
            continue;
        }
        r = strv_addf(c->findings, "left over: %s/%s", dir, names.items[i]);
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
        AUTO(closep) int lock = claim(c, names.items[i], KEEP_LIVE, err);
        if (lock < 0) {
            r = lock == -EALREADY ? 0 : lock;
            continue;
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
        AUTO(closep) int lock = claim(c, users.items[i], KEEP_KNOWN, err);
        if (lock < 0) {
            r = lock == -EALREADY ? 0 : lock;
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

/* Inside a transaction: a volume's directory is made in the one that writes its row. */
static int put_volumes_aside(struct check *c, const char *dir, struct err *err)
{
    AUTO(volume_list_donep) struct volume_list list = {0};
    AUTO(strv_donep) struct strv known = {0};
    AUTO(strv_donep) struct strv names = {0};
    int r = volume_list(c->engine, &list, err);
    for (size_t i = 0; r == 0 && i < list.count; i++) {
        r = strv_add(&known, list.items[i].name);
    }
    if (r == 0) {
        r = strangers(dir, &known, &names);
    }
    for (size_t i = 0; r == 0 && i < names.count; i++) {
        AUTO(freep) char *from = str_printf("%s/%s", dir, names.items[i]);
        AUTO(freep) char *to = str_printf("%s/.%s", dir, names.items[i]);
        r = from == NULL || to == NULL ? -ENOMEM : strv_addf(c->findings, "left over: %s", from);
        if (r == 0 && c->repair && rename(from, to) < 0) {
            r = -errno;
        }
    }
    return r;
}

/* Directories with a dot are of volumes whose removal was cut short. */
static int check_volumes(struct check *c, struct err *err)
{
    AUTO(freep) char *dir = str_printf("%s/volumes", c->engine->dirs.root);
    AUTO(db_tx_donep) struct db_tx tx = {0};
    int r = dir == NULL ? err_set(err, ENOMEM, "check volumes") : db_begin(c->engine->db, &tx, err);
    if (r == 0) {
        r = put_volumes_aside(c, dir, err);
        db_tx_done(&tx);
    }
    AUTO(closedirp) DIR *d = r == 0 ? opendir(dir) : NULL;
    struct dirent *entry;
    while (r == 0 && d != NULL && (entry = readdir(d)) != NULL) {
        const char *name = entry->d_name;
        if (name[0] != '.' || str_eq(name, ".") || str_eq(name, "..")) {
            continue;
        }
        /* Of those that were just put aside is told already. */
        AUTO(freep) char *told = str_printf("left over: %s/%s", dir, name + 1);
        if (told != NULL && !strv_has(c->findings, told)) {
            r = strv_addf(c->findings, "left over: %s/%s", dir, name);
        }
        if (r == 0 && c->repair) {
            r = remove_tree_at(dirfd(d), name);
        }
    }
    return r < 0 ? err_wrap(err, -r, "check volumes") : 0;
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
        r = check_dirs(&c, engine->dirs.run, "workloads", KEEP_LIVE, err);
    }
    if (r == 0) {
        r = check_locks(&c, err);
    }
    if (r == 0) {
        r = check_dirs(&c, engine->dirs.root, "workloads", KEEP_KNOWN, err);
    }
    if (r == 0) {
        r = check_volumes(&c, err);
    }
    if (r == 0) {
        r = check_images(&c, err);
    }
    if (r == 0) {
        r = vm_store_check(engine->dirs.root, repair, findings, err);
    }
    strv_done(&c.known);
    strv_done(&c.live);
    return r;
}
