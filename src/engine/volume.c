#include "engine/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/copy.h"
#include "base/err.h"
#include "base/json.h"
#include "base/path.h"
#include "engine/event.h"
#include "engine/workload.h"

void volume_done(struct volume *volume)
{
    free(volume->name);
    free(volume->mountpoint);
    strv_done(&volume->labels);
    *volume = (struct volume){0};
}

void volume_list_done(struct volume_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        volume_done(&list->items[i]);
    }
    free(list->items);
    *list = (struct volume_list){0};
}

static char *volume_path(struct engine *engine, const char *name, const char *below)
{
    return str_printf("%s/volumes/%s%s", engine->dirs.root, name, below);
}

int volume_create(struct engine *engine, const char *name, const struct strv *labels, char **ret,
                  struct err *err)
{
    char random_name[WORKLOAD_ID_SIZE];
    bool anonymous = name == NULL;
    if (anonymous) {
        if (workload_new_id(random_name) < 0) {
            return err_set(err, EIO, "name a volume");
        }
        name = random_name;
    }
    if (!name_is_safe(name)) {
        return err_say(err, EINVAL, "volume name '%s' must be of [a-zA-Z0-9_.+-]", name);
    }
    AUTO(freep) char *path = volume_path(engine, name, "/_data");
    AUTO(freep) char *copy = strdup(name);
    json_t *config =
        labels != NULL ? json_pack("{s:o}", "labels", json_from_strv(labels)) : json_object();
    AUTO(freep) char *text = json_dumps(config, JSON_COMPACT);
    json_decref(config);
    if (path == NULL || copy == NULL || text == NULL) {
        return err_set(err, ENOMEM, "volume '%s'", name);
    }
    AUTO(freep) char *all = volume_path(engine, "", "");
    AUTO(db_tx_donep) struct db_tx tx = {0};
    int r = db_begin(engine->db, &tx, err);
    if (r < 0) {
        return r;
    }
    /* Setuid programs of strangers may lie in there: nobody else on this host may enter. */
    r = all == NULL ? -ENOMEM : mkdir_parents(all, 0700);
    /* The directory first: a row without one would be a lie, a directory without row is swept. */
    if (r == 0) {
        r = mkdir_parents(path, 0755);
    }
    if (r < 0) {
        return err_set(err, -r, "make directory '%s'", path);
    }
    r = db_run(engine->db, err,
               "INSERT INTO volume (name, created, anonymous, config) VALUES (?, ?, ?, ?)"
               " ON CONFLICT DO NOTHING",
               "siis", name, clock_realtime_ns(), (int64_t)anonymous, text);
    if (r == 1) {
        r = event_add(engine->db, "volume", "create", name, NULL, err);
    }
    if (r < 0 || (r = db_commit(&tx, err)) < 0) {
        return r;
    }
    *ret = TAKE_PTR(copy);
    return 0;
}

int volume_list(struct engine *engine, struct volume_list *ret, struct err *err)
{
    AUTO(volume_list_donep) struct volume_list list = {0};
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    int r = db_prepare(engine->db, &stmt, err,
                       "SELECT name, created, anonymous, config,"
                       " (SELECT count(*) FROM volume_use WHERE volume = name)"
                       " FROM volume ORDER BY name",
                       "");
    while (r >= 0 && (r = db_step(engine->db, stmt, err)) == 1) {
        struct volume *items = reallocarray(list.items, list.count + 1, sizeof(*items));
        if (items == NULL) {
            return err_set(err, ENOMEM, "list volumes");
        }
        list.items = items;
        struct volume *volume = &items[list.count];
        *volume = (struct volume){
            .name = strdup(db_text(stmt, 0)),
            .mountpoint = volume_path(engine, db_text(stmt, 0), "/_data"),
            .created_ns = sqlite3_column_int64(stmt, 1),
            .anonymous = sqlite3_column_int(stmt, 2) != 0,
            .users = sqlite3_column_int64(stmt, 4),
        };
        list.count++;
        if (volume->name == NULL || volume->mountpoint == NULL) {
            return err_set(err, ENOMEM, "list volumes");
        }
        AUTO(json_unrefp) json_t *config = NULL;
        const char *text = db_text(stmt, 3);
        r = json_parse(text, strlen(text), "volume.config", &config, err);
        if (r == 0) {
            r = json_get_strings(config, NULL, "labels", &volume->labels, err);
        }
    }
    if (r < 0) {
        return r;
    }
    *ret = list;
    list = (struct volume_list){0};
    return 0;
}

json_t *volume_describe(const struct volume *volume)
{
    char created[TIME_TEXT_SIZE];
    json_t *labels = json_object();
    for (size_t i = 0; i < volume->labels.count; i++) {
        const char *label = volume->labels.items[i];
        size_t key = strcspn(label, "=");
        (void)json_object_setn_new(labels, label, key,
                                   json_string(label[key] == '=' ? label + key + 1 : ""));
    }
    format_time(volume->created_ns, created);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:{}}", "Name", volume->name, "Driver",
                     "local", "Mountpoint", volume->mountpoint, "CreatedAt", created, "Scope",
                     "local", "Labels", labels, "Options");
}

/*
 * Aside inside the transaction, away behind it: a new volume of that name must not find the old
 * data, nor lose its own. *ret_aside is the caller's.
 */
static int put_aside(struct engine *engine, const char *name, char **ret_aside, struct err *err)
{
    char random_name[WORKLOAD_ID_SIZE];
    if (workload_new_id(random_name) < 0) {
        return err_set(err, EIO, "remove volume '%s'", name);
    }
    AUTO(freep) char *path = volume_path(engine, name, "");
    AUTO(freep) char *aside = volume_path(engine, ".", random_name);
    if (path == NULL || aside == NULL) {
        return err_set(err, ENOMEM, "remove volume '%s'", name);
    }
    if (rename(path, aside) < 0 && errno != ENOENT) {
        return err_set(err, errno, "remove '%s'", path);
    }
    *ret_aside = TAKE_PTR(aside);
    return 0;
}

int volume_remove(struct engine *engine, const char *name, struct err *err)
{
    AUTO(db_tx_donep) struct db_tx tx = {0};
    int r = db_begin(engine->db, &tx, err);
    if (r < 0) {
        return r;
    }
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    r = db_prepare(engine->db, &stmt, err,
                   "SELECT (SELECT substr(workload, 1, 12) FROM volume_use WHERE volume = name)"
                   " FROM volume WHERE name = ?",
                   "s", name);
    if (r == 0) {
        r = db_step(engine->db, stmt, err);
    }
    if (r < 0) {
        return r;
    }
    if (r == 0) {
        return err_say(err, ENOENT, "no such volume: %s", name);
    }
    if (sqlite3_column_type(stmt, 0) != SQLITE_NULL) {
        return err_say(err, EBUSY, "volume '%s' is in use by workload %s; remove that first", name,
                       db_text(stmt, 0));
    }
    r = db_run(engine->db, err, "DELETE FROM volume WHERE name = ?", "s", name);
    if (r >= 0) {
        r = event_add(engine->db, "volume", "destroy", name, NULL, err);
    }
    (void)sqlite3_reset(stmt);
    AUTO(freep) char *aside = NULL;
    if (r >= 0) {
        r = put_aside(engine, name, &aside, err);
    }
    if (r < 0) {
        return r;
    }
    r = db_commit(&tx, err);
    if (r < 0) {
        AUTO(freep) char *path = volume_path(engine, name, "");
        (void)(path != NULL && rename(aside, path) < 0);
        return r;
    }
    r = remove_tree_at(AT_FDCWD, aside);
    return r < 0 ? err_set(err, -r, "remove '%s'", aside) : 0;
}

uint64_t volume_size(const struct engine *engine, const char *name)
{
    AUTO(freep) char *path = str_printf("%s/volumes/%s", engine->dirs.root, name);
    return path != NULL ? tree_size_at(AT_FDCWD, path) : 0;
}

int volume_prune(struct engine *engine, bool all, struct strv *removed, uint64_t *bytes,
                 struct err *err)
{
    AUTO(volume_list_donep) struct volume_list list = {0};
    int r = volume_list(engine, &list, err);
    for (size_t i = 0; r == 0 && i < list.count; i++) {
        const struct volume *volume = &list.items[i];
        if (volume->users > 0 || (!volume->anonymous && !all)) {
            continue;
        }
        uint64_t size = volume_size(engine, volume->name);
        r = volume_remove(engine, volume->name, err);
        if (r == -EBUSY || r == -ENOENT) {
            r = 0; /* somebody took it, or was faster */
            continue;
        }
        if (r == 0) {
            *bytes += size;
            r = strv_add(removed, volume->name);
        }
    }
    return r;
}

int volume_claim(struct engine *engine, const char *workload_id, struct mount_specs *mounts,
                 struct err *err)
{
    for (size_t i = 0; i < mounts->count; i++) {
        struct mount_spec *mount = &mounts->items[i];
        if (mount->type != MOUNT_VOLUME) {
            continue;
        }
        char *name = NULL;
        int r = volume_create(engine, mount->source, NULL, &name, err);
        if (r < 0) {
            return r;
        }
        free(mount->source);
        mount->source = name;
        r = db_run(engine->db, err,
                   "INSERT OR IGNORE INTO volume_use (workload, volume) VALUES (?, ?)", "ss",
                   workload_id, name);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static bool is_empty_dir(int fd)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closedirp) DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
    struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (!str_eq(entry->d_name, ".") && !str_eq(entry->d_name, "..")) {
            return false;
        }
    }
    return dir != NULL;
}

/* A new volume starts with what the image has at its place, owner and mode included. */
static int fill(const struct mount_spec *mount, const char *path, int rootfs_fd, struct err *err)
{
    AUTO(closep) int to = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (to < 0) {
        return err_set(err, errno, "open volume '%s'", path);
    }
    if (mount->no_copy || !is_empty_dir(to)) {
        return 0;
    }
    AUTO(closep) int from = open_in_root(rootfs_fd, mount->target, O_RDONLY | O_DIRECTORY, 0);
    if (from < 0) {
        return from == -ENOENT || from == -ENOTDIR
                   ? 0
                   : err_set(err, -from, "open '%s' of the image", mount->target);
    }
    int r = copy_children(from, to);
    if (r == 0) {
        r = copy_attributes(from, to);
    }
    return r < 0 ? err_set(err, -r, "copy '%s' of the image into volume '%s'", mount->target,
                           mount->source)
                 : 0;
}

static int prepare_bind(const struct mount_spec *mount, struct err *err)
{
    if (access(mount->source, F_OK) == 0) {
        return 0;
    }
    if (errno != ENOENT || !mount->create_source) {
        return err_set(err, errno, "bind source '%s'", mount->source);
    }
    int r = mkdir_parents(mount->source, 0755);
    return r < 0 ? err_set(err, -r, "make bind source '%s'", mount->source) : 0;
}

int volume_prepare(struct engine *engine, struct mount_specs *mounts, int rootfs_fd,
                   struct err *err)
{
    for (size_t i = 0; i < mounts->count; i++) {
        struct mount_spec *mount = &mounts->items[i];
        int r = 0;
        if (mount->type == MOUNT_BIND) {
            r = prepare_bind(mount, err);
        } else if (mount->type == MOUNT_VOLUME) {
            char *path = volume_path(engine, mount->source, "/_data");
            if (path == NULL) {
                return err_set(err, ENOMEM, "volume");
            }
            /* A removal that was killed between the directory and the row leaves none. */
            r = mkdir_parents(path, 0755);
            r = r < 0 ? err_set(err, -r, "make directory '%s'", path)
                      : fill(mount, path, rootfs_fd, err);
            free(mount->source);
            mount->source = path;
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}
