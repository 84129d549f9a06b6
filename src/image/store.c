#include "image/store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "base/json.h"
#include "image/store_internal.h"

static const char *column(sqlite3_stmt *statement, int i)
{
    const char *text = (const char *)sqlite3_column_text(statement, i);
    return text != NULL ? text : "";
}

/* One descriptor of index.json. */
static json_t *index_entry(sqlite3_stmt *s)
{
    struct platform p;
    if (platform_set(&p, column(s, 4), column(s, 5), column(s, 6)) < 0) {
        return NULL;
    }
    json_t *platform = json_pack("{s:s, s:s}", "architecture", p.architecture, "os", p.os);
    if (platform != NULL && p.variant[0] != '\0') {
        (void)json_object_set_new(platform, "variant", json_string(p.variant));
    }
    json_t *entry =
        json_pack("{s:s, s:s, s:I, s:o}", "mediaType", column(s, 1), "digest", column(s, 0), "size",
                  (json_int_t)sqlite3_column_int64(s, 2), "platform", platform);
    if (entry != NULL && sqlite3_column_type(s, 3) != SQLITE_NULL) {
        (void)json_object_set_new(
            entry, "annotations",
            json_pack("{s:s}", "org.opencontainers.image.ref.name", column(s, 3)));
    }
    return entry;
}

int store_write_index(struct image_store *store, struct err *err)
{
    /* The lock keeps an older view of the index from replacing a newer one. */
    AUTO(closep) int lock = lock_file_at(store->fd, "index.lock", LOCK_EXCLUSIVE, true);
    if (lock < 0) {
        return err_set(err, -lock, "lock '%s/index.json'", store->path);
    }
    AUTO(sqlite3_finalizep) sqlite3_stmt *s = NULL;
    int r = store_prepare(store, &s, err,
                          "SELECT m.digest, m.media_type, m.size, n.name, i.os, i.architecture,"
                          " i.variant FROM images i JOIN manifests m ON m.digest = i.digest"
                          " LEFT JOIN names n ON n.image_id = i.id ORDER BY n.name, m.digest",
                          "");
    if (r < 0) {
        return r;
    }
    json_t *manifests = json_array();
    AUTO(json_unrefp)
    json_t *index = json_pack("{s:i, s:s, s:o}", "schemaVersion", 2, "mediaType",
                              "application/vnd.oci.image.index.v1+json", "manifests", manifests);
    int step;
    while ((step = sqlite3_step(s)) == SQLITE_ROW) {
        if (index == NULL || json_array_append_new(manifests, index_entry(s)) < 0) {
            return err_set(err, ENOMEM, "write '%s/index.json'", store->path);
        }
    }
    if (step != SQLITE_DONE) {
        return store_db_fail(store, err, "list images");
    }
    AUTO(freep) char *text = json_dumps(index, JSON_INDENT(1));
    if (text == NULL) {
        return err_set(err, ENOMEM, "write '%s/index.json'", store->path);
    }
    r = replace_file_at(store->fd, "index.json", text, strlen(text), 0644, true);
    return r < 0 ? err_set(err, -r, "write '%s/index.json'", store->path) : 0;
}

int image_pin(struct image_store *store, const char *user, const char *image_id, struct err *err)
{
    int r = store_exec(store, err,
                       "INSERT OR REPLACE INTO pins(user, image_id)"
                       " SELECT ?1, id FROM images WHERE id = ?2",
                       "ss", user, image_id);
    if (r == 0) {
        return err_say(err, ENOENT, "image %.19s was removed meanwhile", image_id);
    }
    return MIN(r, 0);
}

int image_unpin(struct image_store *store, const char *user, struct err *err)
{
    return MIN(store_exec(store, err, "DELETE FROM pins WHERE user = ?", "s", user), 0);
}

int image_pins(struct image_store *store, struct strv *ret_users, struct err *err)
{
    AUTO(sqlite3_finalizep) sqlite3_stmt *s = NULL;
    int r = store_prepare(store, &s, err, "SELECT user FROM pins ORDER BY user", "");
    while (r == 0) {
        int step = sqlite3_step(s);
        if (step == SQLITE_DONE) {
            return 0;
        }
        r = step != SQLITE_ROW                      ? store_db_fail(store, err, "list users")
            : strv_add(ret_users, column(s, 0)) < 0 ? err_set(err, ENOMEM, "list users")
                                                    : 0;
    }
    return r;
}

void image_list_done(struct image_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->rows[i].id);
        free(list->rows[i].digest);
        free(list->rows[i].name);
        free(list->rows[i].platform);
    }
    free(list->rows);
    *list = (struct image_list){0};
}

static int list_add(struct image_list *list, sqlite3_stmt *s)
{
    struct image_row *rows = reallocarray(list->rows, list->count + 1, sizeof(*rows));
    if (rows == NULL) {
        return -ENOMEM;
    }
    list->rows = rows;
    struct image_row *row = &rows[list->count++];
    bool named = sqlite3_column_type(s, 2) != SQLITE_NULL;
    *row = (struct image_row){
        .id = strdup(column(s, 0)),
        .digest = strdup(column(s, 1)),
        .name = named ? strdup(column(s, 2)) : NULL,
        .platform = str_printf("%s/%s%s%s", column(s, 3), column(s, 4),
                               column(s, 5)[0] != '\0' ? "/" : "", column(s, 5)),
        .created_ns = sqlite3_column_int64(s, 6),
        .size = (uint64_t)sqlite3_column_int64(s, 7),
        .users = (uint64_t)sqlite3_column_int64(s, 8),
    };
    bool whole = row->id != NULL && row->digest != NULL && row->platform != NULL &&
                 (!named || row->name != NULL);
    return whole ? 0 : -ENOMEM;
}

int image_store_list(struct image_store *store, struct image_list *ret, struct err *err)
{
    AUTO(image_list_donep) struct image_list list = {0};
    AUTO(sqlite3_finalizep) sqlite3_stmt *s = NULL;
    int r = store_prepare(store, &s, err,
                          "SELECT i.id, coalesce(n.digest, i.digest), n.name, i.os,"
                          " i.architecture, i.variant, i.created, i.size,"
                          " (SELECT count(*) FROM pins p WHERE p.image_id = i.id)"
                          " FROM images i LEFT JOIN names n ON n.image_id = i.id"
                          " ORDER BY i.created DESC, i.id, n.name",
                          "");
    if (r < 0) {
        return r;
    }
    int step;
    while ((step = sqlite3_step(s)) == SQLITE_ROW) {
        if (list_add(&list, s) < 0) {
            return err_set(err, ENOMEM, "list images");
        }
    }
    if (step != SQLITE_DONE) {
        return store_db_fail(store, err, "list images");
    }
    *ret = list;
    list = (struct image_list){0};
    return 0;
}

int image_layer_sizes(struct image_store *store, const char *image_id, uint64_t **ret_sizes,
                      size_t *ret_count, struct err *err)
{
    AUTO(sqlite3_finalizep) sqlite3_stmt *s = NULL;
    AUTO(freep) uint64_t *sizes = calloc(IMAGE_LAYERS_MAX, sizeof(*sizes));
    size_t count = 0;
    if (sizes == NULL) {
        return err_set(err, ENOMEM, "list layers");
    }
    int r = store_prepare(store, &s, err,
                          "SELECT coalesce(l.size, 0) FROM image_layers il LEFT JOIN layers l"
                          " ON l.key = il.key WHERE il.image_id = ? ORDER BY il.position",
                          "s", image_id);
    if (r < 0) {
        return r;
    }
    int step;
    while ((step = sqlite3_step(s)) == SQLITE_ROW && count < IMAGE_LAYERS_MAX) {
        sizes[count++] = (uint64_t)sqlite3_column_int64(s, 0);
    }
    if (step != SQLITE_DONE && step != SQLITE_ROW) {
        return store_db_fail(store, err, "list layers");
    }
    *ret_sizes = TAKE_PTR(sizes);
    *ret_count = count;
    return 0;
}

static int name_set(struct image_store *store, const char *image_id, const char *name,
                    const char *digest, struct err *err)
{
    int r = store_exec(store, err,
                       "INSERT OR REPLACE INTO names(name, os, architecture, variant, image_id,"
                       " digest, updated) SELECT ?1, os, architecture, variant, id,"
                       " coalesce(?2, digest), ?3 FROM images WHERE id = ?4",
                       "ssis", name, digest, clock_realtime_ns(), image_id);
    return r == 0 ? err_say(err, ENOENT, "no image %.19s", image_id) : MIN(r, 0);
}

int image_name_set(struct image_store *store, const char *image_id, const char *name,
                   struct err *err)
{
    int r = name_set(store, image_id, name, NULL, err);
    return r < 0 ? r : store_write_index(store, err);
}

int image_name_remove(struct image_store *store, const char *name, struct err *err)
{
    int r = store_exec(store, err, "DELETE FROM names WHERE name = ?", "s", name);
    if (r == 0) {
        AUTO(freep) char *shown = reference_familiar(name);
        return err_say(err, ENOENT, "no image has the name '%s'", shown != NULL ? shown : name);
    }
    return r < 0 ? r : store_write_index(store, err);
}

int store_layer_find(struct image_store *store, const char *diff_id, const char *leaning,
                     char **ret_key, struct err *err)
{
    AUTO(sqlite3_finalizep) sqlite3_stmt *s = NULL;
    int r = store_prepare(store, &s, err, "SELECT key FROM layers WHERE key = ? OR key = ? LIMIT 1",
                          "ss", diff_id + DIGEST_HEX_OFFSET, leaning + DIGEST_HEX_OFFSET);
    if (r < 0) {
        return r;
    }
    int step = sqlite3_step(s);
    if (step == SQLITE_DONE) {
        return -ENOENT;
    }
    if (step != SQLITE_ROW) {
        return store_db_fail(store, err, "find layer");
    }
    AUTO(freep) char *key = strdup(column(s, 0));
    AUTO(freep) char *path = key != NULL ? str_printf("layers/%s", key) : NULL;
    if (path == NULL) {
        return err_set(err, ENOMEM, "find layer");
    }
    if (faccessat(store->fd, path, F_OK, 0) < 0) {
        return -ENOENT;
    }
    *ret_key = TAKE_PTR(key);
    return 0;
}

int store_layer_add(struct image_store *store, const char *key, const char *diff_id, uint64_t size,
                    struct err *err)
{
    return MIN(store_exec(store, err,
                          "INSERT OR REPLACE INTO layers(key, diff_id, size) VALUES(?, ?, ?)",
                          "ssi", key, diff_id, (int64_t)size),
               0);
}

static int add_rows(struct image_store *store, const struct store_image *image, struct err *err)
{
    int r = store_exec(store, err,
                       "INSERT OR REPLACE INTO manifests(digest, image_id, media_type, size)"
                       " VALUES(?, ?, ?, ?)",
                       "sssi", image->digest, image->id, image->media_type,
                       (int64_t)image->manifest_size);
    if (r >= 0) {
        r = store_exec(store, err, "DELETE FROM image_layers WHERE image_id = ?", "s", image->id);
    }
    for (size_t i = 0; r >= 0 && i < image->layer_count; i++) {
        r = store_exec(store, err,
                       "INSERT INTO image_layers(image_id, position, diff_id, key)"
                       " VALUES(?, ?, ?, ?)",
                       "siss", image->id, (int64_t)i, image->layers[i].diff_id,
                       image->layers[i].key);
    }
    if (r >= 0) {
        r = store_exec(store, err,
                       "INSERT OR REPLACE INTO images(id, digest, os, architecture, variant,"
                       " created, size, added) VALUES(?1, ?2, ?3, ?4, ?5, ?6,"
                       " (SELECT coalesce(sum(l.size), 0) FROM image_layers il JOIN layers l"
                       " ON l.key = il.key WHERE il.image_id = ?1), ?7)",
                       "sssssii", image->id, image->digest, image->platform.os,
                       image->platform.architecture, image->platform.variant, image->created_ns,
                       clock_realtime_ns());
    }
    return MIN(r, 0);
}

int store_image_add(struct image_store *store, const struct store_image *image, const char *name,
                    const char *name_digest, struct err *err)
{
    int r = store_begin_durable(store, err);
    if (r < 0) {
        return r;
    }
    r = add_rows(store, image, err);
    if (r == 0 && name != NULL) {
        r = name_set(store, image->id, name, name_digest, err);
    }
    int end = store_end(store, r == 0, err);
    r = r < 0 ? r : end;
    return r < 0 ? r : store_write_index(store, err);
}
