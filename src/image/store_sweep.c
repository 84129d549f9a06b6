/*
 * Removal: rows first, in one transaction; files after that, by whoever gets the exclusive lock.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/err.h"
#include "base/json.h"
#include "base/path.h"
#include "image/store_internal.h"

/* Partly loaded blobs of this age are resumed no more. */
#define PARTIAL_AGE_MAX_SEC (24 * 3600)

static const char *column(sqlite3_stmt *statement, int i)
{
    const char *text = (const char *)sqlite3_column_text(statement, i);
    return text != NULL ? text : "";
}

static int count_rows(struct image_store *store, const char *sql, const char *argument,
                      int64_t *ret, struct err *err)
{
    AUTO(sqlite3_finalizep) sqlite3_stmt *s = NULL;
    int r = store_prepare(store, &s, err, sql, argument != NULL ? "s" : "", argument);
    if (r < 0) {
        return r;
    }
    if (sqlite3_step(s) != SQLITE_ROW) {
        return store_db_fail(store, err, "count");
    }
    *ret = sqlite3_column_int64(s, 0);
    return 0;
}

static int remove_rows(struct image_store *store, const char *id, struct err *err)
{
    int64_t users = 0;
    int r = count_rows(store, "SELECT count(*) FROM pins WHERE image_id = ?", id, &users, err);
    if (r < 0) {
        return r;
    }
    if (users > 0) {
        return err_say(err, EBUSY, "image %.12s is in use by %lld workload%s; remove %s first",
                       id + DIGEST_HEX_OFFSET, (long long)users, users == 1 ? "" : "s",
                       users == 1 ? "it" : "them");
    }
    static const char *const statements[] = {
        "DELETE FROM names WHERE image_id = ?",
        "DELETE FROM manifests WHERE image_id = ?",
        "DELETE FROM image_layers WHERE image_id = ?",
        "DELETE FROM images WHERE id = ?",
    };
    for (size_t i = 0; r >= 0 && i < COUNT(statements); i++) {
        r = store_exec(store, err, statements[i], "s", id);
    }
    return r == 0 ? err_say(err, ENOENT, "no such image %.19s", id) : MIN(r, 0);
}

int image_remove(struct image_store *store, const char *image_id, struct err *err)
{
    int r = store_begin_durable(store, err);
    if (r < 0) {
        return r;
    }
    r = remove_rows(store, image_id, err);
    int end = store_end(store, r == 0, err);
    r = r < 0 ? r : end;
    r = r < 0 ? r : store_write_index(store, err);
    uint64_t bytes;
    return r < 0 ? r : image_store_sweep(store, &bytes, err);
}

/* Digests in a manifest (config and layers) whose blobs are needed. */
static int add_manifest_blobs(struct image_store *store, const char *digest, struct strv *keep)
{
    AUTO(buf_donep) struct buf text = {0};
    AUTO(json_unrefp) json_t *manifest = NULL;
    int r = strv_add(keep, digest + DIGEST_HEX_OFFSET);
    if (r < 0 || store_blob_read(store, digest, MANIFEST_SIZE_MAX, &text, NULL) < 0 ||
        json_parse(text.data != NULL ? text.data : "", text.len, digest, &manifest, NULL) < 0) {
        return r;
    }
    const char *config =
        json_string_value(json_object_get(json_object_get(manifest, "config"), "digest"));
    if (digest_is_valid(config)) {
        r = strv_add(keep, config + DIGEST_HEX_OFFSET);
    }
    size_t i;
    json_t *layer;
    json_array_foreach (json_object_get(manifest, "layers"), i, layer) {
        const char *blob = json_string_value(json_object_get(layer, "digest"));
        if (r == 0 && digest_is_valid(blob)) {
            r = strv_add(keep, blob + DIGEST_HEX_OFFSET);
        }
    }
    return r;
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_kept(const struct strv *keep, const char *name)
{
    return keep->count > 0 &&
           bsearch(&name, keep->items, keep->count, sizeof(*keep->items), compare_strings) != NULL;
}

static int list_kept(struct image_store *store, const char *sql, bool manifests, struct strv *keep,
                     struct err *err)
{
    AUTO(sqlite3_finalizep) sqlite3_stmt *s = NULL;
    int r = store_prepare(store, &s, err, sql, "");
    if (r < 0) {
        return r;
    }
    int step;
    while ((step = sqlite3_step(s)) == SQLITE_ROW) {
        r = manifests ? add_manifest_blobs(store, column(s, 0), keep)
                      : strv_add(keep, column(s, 0));
        if (r < 0) {
            return err_set(err, -r, "list what is used");
        }
    }
    if (step != SQLITE_DONE) {
        return store_db_fail(store, err, "list what is used");
    }
    if (keep->count > 0) {
        qsort(keep->items, keep->count, sizeof(*keep->items), compare_strings);
    }
    return 0;
}

typedef void entry_fn(struct image_store *store, int dir_fd, const char *name, void *data);

static int each_entry(struct image_store *store, const char *directory, entry_fn *fn, void *data)
{
    int fd = openat(store->fd, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closedirp) DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        int r = errno == ENOENT ? 0 : -errno;
        (void)close_fd(fd);
        return r;
    }
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            fn(store, dirfd(dir), entry->d_name, data);
        }
    }
    return 0;
}

struct sweep {
    struct strv keep;
    uint64_t bytes;
    uint64_t files;
    bool dry;
    bool all_partials;
};

static void sweep_layer(struct image_store *store, int dir_fd, const char *name, void *data)
{
    struct sweep *sweep = data;
    if (is_kept(&sweep->keep, name)) {
        return;
    }
    int64_t size = 0;
    (void)count_rows(store, "SELECT coalesce(sum(size), 0) FROM layers WHERE key = ?", name, &size,
                     NULL);
    sweep->bytes += (uint64_t)size;
    sweep->files++;
    if (sweep->dry) {
        return;
    }
    /* What is in layers/ is whole, always: it leaves in one step and is taken apart elsewhere. */
    AUTO(freep) char *trash = str_printf("work/removed-%s", name);
    if (trash != NULL &&
        store_exec(store, NULL, "DELETE FROM layers WHERE key = ?", "s", name) >= 0 &&
        renameat(dir_fd, name, store->fd, trash) == 0) {
        (void)remove_tree_at(store->fd, trash);
    }
}

static void sweep_blob(struct image_store *store, int dir_fd, const char *name, void *data)
{
    (void)store;
    struct sweep *sweep = data;
    struct stat st;
    if (is_kept(&sweep->keep, name) || fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return;
    }
    sweep->bytes += (uint64_t)st.st_size;
    sweep->files++;
    if (!sweep->dry) {
        (void)unlinkat(dir_fd, name, 0);
    }
}

/* A virtual machine that still has one open keeps what it reads. */
static void sweep_erofs(struct image_store *store, int dir_fd, const char *name, void *data)
{
    (void)store;
    struct sweep *sweep = data;
    struct stat st;
    if (is_kept(&sweep->keep, name) || fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return;
    }
    sweep->bytes += (uint64_t)st.st_blocks * 512;
    sweep->files++;
    if (!sweep->dry) {
        (void)unlinkat(dir_fd, name, 0);
    }
}

static void sweep_work(struct image_store *store, int dir_fd, const char *name, void *data)
{
    (void)store;
    struct sweep *sweep = data;
    struct stat st;
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return;
    }
    bool young = time(NULL) - st.st_mtim.tv_sec < PARTIAL_AGE_MAX_SEC;
    if (S_ISREG(st.st_mode) && str_ends(name, ".partial") && young && !sweep->all_partials) {
        return;
    }
    sweep->bytes += S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    sweep->files++;
    if (!sweep->dry) {
        (void)remove_tree_at(dir_fd, name);
    }
}

static int sweep_all(struct image_store *store, struct sweep *sweep, struct err *err)
{
    int r = list_kept(store, "SELECT DISTINCT key FROM image_layers", false, &sweep->keep, err);
    if (r == 0) {
        r = each_entry(store, "layers", sweep_layer, sweep);
    }
    if (r == 0) {
        r = each_entry(store, "erofs", sweep_erofs, sweep);
    }
    strv_done(&sweep->keep);
    if (r == 0) {
        r = list_kept(store, "SELECT digest FROM manifests", true, &sweep->keep, err);
    }
    if (r == 0) {
        r = each_entry(store, "blobs/sha256", sweep_blob, sweep);
    }
    strv_done(&sweep->keep);
    if (r == 0) {
        r = each_entry(store, "work", sweep_work, sweep);
    }
    return r < 0 && (err == NULL || err->code == 0) ? err_set(err, -r, "sweep image store") : r;
}

int image_store_sweep(struct image_store *store, uint64_t *ret_bytes, struct err *err)
{
    *ret_bytes = 0;
    AUTO(closep) int lock = lock_file_at(store->fd, "lock", LOCK_EXCLUSIVE, false);
    if (lock == -EWOULDBLOCK) {
        /* Whoever adds now will sweep when done. */
        return MIN(store_exec(store, err, "INSERT OR REPLACE INTO meta VALUES('sweep', '1')", ""),
                   0);
    }
    if (lock < 0) {
        return err_set(err, -lock, "lock image store '%s'", store->path);
    }
    struct sweep sweep = {0};
    int r = sweep_all(store, &sweep, err);
    if (r == 0) {
        r = MIN(store_exec(store, err, "DELETE FROM meta WHERE key = 'sweep'", ""), 0);
    }
    *ret_bytes = sweep.bytes;
    return r;
}

void store_clean_work(struct image_store *store)
{
    AUTO(closep) int lock = lock_file_at(store->fd, "lock", LOCK_EXCLUSIVE, false);
    struct sweep sweep = {0};
    if (lock >= 0) {
        (void)each_entry(store, "work", sweep_work, &sweep);
    }
}

void store_sweep_if_wanted(struct image_store *store)
{
    int64_t wanted = 0;
    uint64_t bytes;
    if (count_rows(store, "SELECT count(*) FROM meta WHERE key = 'sweep'", NULL, &wanted, NULL) ==
            0 &&
        wanted > 0) {
        (void)image_store_sweep(store, &bytes, NULL);
    }
}

static void add_blob_size(struct image_store *store, int dir_fd, const char *name, void *data)
{
    (void)store;
    struct stat st;
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        *(uint64_t *)data += (uint64_t)st.st_size;
    }
}

struct erofs_usage {
    uint64_t bytes;
    uint64_t unused; /* of layers that only unused images have */
};

static void add_erofs_size(struct image_store *store, int dir_fd, const char *name, void *data)
{
    struct erofs_usage *usage = data;
    struct stat st;
    int64_t users = 0;
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return;
    }
    uint64_t bytes = (uint64_t)st.st_blocks * 512;
    usage->bytes += bytes;
    if (count_rows(store,
                   "SELECT count(*) FROM image_layers WHERE key = ? AND image_id IN"
                   " (SELECT image_id FROM pins)",
                   name, &users, NULL) == 0 &&
        users == 0) {
        usage->unused += bytes;
    }
}

int image_store_usage(struct image_store *store, struct store_usage *ret, struct err *err)
{
    static const char *const queries[] = {
        "SELECT count(*) FROM images",
        "SELECT count(DISTINCT image_id) FROM pins",
        "SELECT coalesce(sum(size), 0) FROM layers",
        ("SELECT coalesce(sum(size), 0) FROM layers WHERE key NOT IN (SELECT key FROM image_layers"
         " WHERE image_id IN (SELECT image_id FROM pins))"),
    };
    int64_t values[COUNT(queries)] = {0};
    for (size_t i = 0; i < COUNT(queries); i++) {
        int r = count_rows(store, queries[i], NULL, &values[i], err);
        if (r < 0) {
            return r;
        }
    }
    uint64_t blobs = 0;
    int r = each_entry(store, "blobs/sha256", add_blob_size, &blobs);
    if (r < 0) {
        return err_set(err, -r, "list '%s/blobs'", store->path);
    }
    struct erofs_usage erofs = {0};
    r = each_entry(store, "erofs", add_erofs_size, &erofs);
    if (r < 0) {
        return err_set(err, -r, "list '%s/erofs'", store->path);
    }
    *ret = (struct store_usage){
        .erofs_bytes = erofs.bytes,
        .images = (uint64_t)values[0],
        .images_used = (uint64_t)values[1],
        .layers_bytes = (uint64_t)values[2],
        .blobs_bytes = blobs,
        .reclaimable_bytes = (uint64_t)values[3] + erofs.unused,
    };
    return 0;
}

/* One problem of an image, or nothing. */
static int check_image(struct image_store *store, const char *id, const char *digest,
                       struct strv *problems, struct err *err)
{
    size_t before = problems->count;
    int r = 0;
    if (!store_blob_exists(store, id, NULL)) {
        r = strv_addf(problems, "image %.19s: its configuration is missing", id);
    }
    if (r == 0 && !store_blob_exists(store, digest, NULL)) {
        r = strv_addf(problems, "image %.19s: its manifest is missing", id);
    }
    AUTO(sqlite3_finalizep) sqlite3_stmt *s = NULL;
    if (r == 0) {
        r = store_prepare(store, &s, err, "SELECT key FROM image_layers WHERE image_id = ?", "s",
                          id);
    }
    while (r == 0 && sqlite3_step(s) == SQLITE_ROW) {
        AUTO(freep) char *path = str_printf("layers/%s", column(s, 0));
        if (path == NULL) {
            r = -ENOMEM;
        } else if (faccessat(store->fd, path, F_OK, 0) < 0) {
            r = strv_addf(problems, "image %.19s: layer %.12s is missing", id, column(s, 0));
        }
    }
    return r < 0 ? r : problems->count > before;
}

static int check_images(struct image_store *store, bool repair, struct strv *problems,
                        struct err *err)
{
    AUTO(strv_donep) struct strv broken = {0};
    {
        AUTO(sqlite3_finalizep) sqlite3_stmt *s = NULL;
        int r = store_prepare(store, &s, err, "SELECT id, digest FROM images", "");
        while (r >= 0 && sqlite3_step(s) == SQLITE_ROW) {
            r = check_image(store, column(s, 0), column(s, 1), problems, err);
            if (r == 1) {
                r = strv_add(&broken, column(s, 0));
            }
        }
        if (r < 0) {
            return r;
        }
    }
    for (size_t i = 0; repair && i < broken.count; i++) {
        int r = image_remove(store, broken.items[i], err);
        if (r == -EBUSY) {
            r = strv_add(problems, err_text(err));
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int image_store_check(struct image_store *store, bool repair, struct strv *ret_problems,
                      struct err *err)
{
    int r = check_images(store, repair, ret_problems, err);
    if (r < 0) {
        return r;
    }
    AUTO(closep) int lock = lock_file_at(store->fd, "lock", LOCK_EXCLUSIVE, false);
    if (lock < 0) {
        /* Somebody adds an image: what lies around now is his. */
        return lock == -EWOULDBLOCK ? 0 : err_set(err, -lock, "lock image store");
    }
    struct sweep sweep = {.dry = !repair, .all_partials = repair};
    r = sweep_all(store, &sweep, err);
    if (r == 0 && sweep.files > 0) {
        r = strv_addf(ret_problems, "image store: %llu left-over files or directories, %llu bytes",
                      (unsigned long long)sweep.files, (unsigned long long)sweep.bytes);
    }
    return MIN(r, 0);
}
