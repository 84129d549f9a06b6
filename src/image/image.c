#include "image/image.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "image/reference.h"
#include "image/store_internal.h"

#define SHORT_ID_MIN 4
#define HEX "0123456789abcdef"
#define ID_HEX_LENGTH ((size_t)64)

static const char *column(sqlite3_stmt *statement, int i)
{
    const char *text = (const char *)sqlite3_column_text(statement, i);
    return text != NULL ? text : "";
}

/* The best row of a query for (image_id, os, architecture, variant, name), newest first. */
static int choose(struct image_store *store, sqlite3_stmt *s, const struct platform *want,
                  const char *repository, char **ret_id, char *ret_other, struct err *err)
{
    AUTO(freep) char *best = NULL;
    int best_score = -1;
    struct platform host;
    platform_host(&host);
    int step;
    while ((step = sqlite3_step(s)) == SQLITE_ROW) {
        struct platform have;
        if (repository != NULL) {
            AUTO(freep) char *have_repository = NULL;
            AUTO(freep) char *tag = NULL;
            if (reference_split(column(s, 4), &have_repository, &tag) < 0 ||
                !str_eq(have_repository, repository)) {
                continue;
            }
        }
        if (platform_set(&have, column(s, 1), column(s, 2), column(s, 3)) < 0) {
            continue;
        }
        int score = platform_match(want != NULL ? want : &host, &have);
        if (score == 0 && want != NULL) {
            platform_format(&have, ret_other);
            continue;
        }
        if (score > best_score) {
            free(best);
            best = strdup(column(s, 0));
            best_score = score;
        }
    }
    if (step != SQLITE_DONE) {
        return store_db_fail(store, err, "find image");
    }
    if (best == NULL) {
        return -ENOENT;
    }
    *ret_id = TAKE_PTR(best);
    return 0;
}

#define ROW "SELECT image_id, os, architecture, variant, name FROM names "

static int find_by_reference(struct image_store *store, const struct reference *ref,
                             const struct platform *want, char **ret_id, char *other,
                             struct err *err)
{
    AUTO(sqlite3_finalizep) sqlite3_stmt *s = NULL;
    AUTO(freep) char *repository = reference_full_repository(ref);
    AUTO(freep) char *full = reference_full(ref);
    if (repository == NULL || full == NULL) {
        return err_set(err, ENOMEM, "find image");
    }
    if (ref->digest == NULL) {
        int r =
            store_prepare(store, &s, err, ROW "WHERE name = ? ORDER BY updated DESC", "s", full);
        return r < 0 ? r : choose(store, s, want, NULL, ret_id, other, err);
    }
    int r = store_prepare(store, &s, err,
                          ROW "WHERE digest = ?1 OR image_id IN (SELECT image_id FROM manifests"
                              " WHERE digest = ?1) ORDER BY updated DESC",
                          "s", ref->digest);
    return r < 0 ? r : choose(store, s, want, repository, ret_id, other, err);
}

/* hex: 4 to 64 digits of an id or of a manifest's digest. */
static int find_by_id(struct image_store *store, const char *hex, char **ret_id, struct err *err)
{
    AUTO(sqlite3_finalizep) sqlite3_stmt *s = NULL;
    AUTO(freep) char *low = str_printf("sha256:%s", hex);
    AUTO(freep) char *high = str_printf("sha256:%sg", hex);
    if (low == NULL || high == NULL) {
        return err_set(err, ENOMEM, "find image");
    }
    int r = store_prepare(store, &s, err,
                          "SELECT id FROM images WHERE id >= ?1 AND id < ?2 UNION"
                          " SELECT image_id FROM manifests WHERE digest = ?1 LIMIT 2",
                          "ss", low, high);
    if (r < 0) {
        return r;
    }
    int step = sqlite3_step(s);
    if (step == SQLITE_DONE) {
        return -ENOENT;
    }
    AUTO(freep) char *id = step == SQLITE_ROW ? strdup(column(s, 0)) : NULL;
    if (id == NULL) {
        return store_db_fail(store, err, "find image");
    }
    if (sqlite3_step(s) == SQLITE_ROW) {
        return err_say(err, EEXIST, "image id '%s' fits more than one image; give more digits",
                       hex);
    }
    *ret_id = TAKE_PTR(id);
    return 0;
}

static int find_id(struct image_store *store, const char *name, const struct platform *want,
                   char **ret_id, struct err *err)
{
    bool prefixed = str_starts(name, "sha256:");
    const char *hex = prefixed ? name + DIGEST_HEX_OFFSET : name;
    bool is_hex = strspn(hex, HEX) == strlen(hex) && strlen(hex) <= ID_HEX_LENGTH &&
                  strlen(hex) >= SHORT_ID_MIN;
    char other[PLATFORM_TEXT_SIZE] = "";
    if (prefixed || (is_hex && strlen(hex) == ID_HEX_LENGTH)) {
        int r = is_hex ? find_by_id(store, hex, ret_id, err) : -ENOENT;
        return r == -ENOENT ? err_say(err, ENOENT, "no such image '%s'", name) : r;
    }
    AUTO(reference_donep) struct reference ref = {0};
    int r = reference_parse(name, &ref, err);
    if (r < 0) {
        return r;
    }
    r = find_by_reference(store, &ref, want, ret_id, other, err);
    if (r == -ENOENT && is_hex && other[0] == '\0') {
        r = find_by_id(store, hex, ret_id, err);
    }
    if (r != -ENOENT) {
        return r;
    }
    if (other[0] != '\0' && want != NULL) {
        char wanted[PLATFORM_TEXT_SIZE];
        platform_format(want, wanted);
        return err_say(err, ENOENT,
                       "image '%s' is here for %s only; get it with: isola pull --platform %s %s",
                       name, other, wanted, name);
    }
    return err_say(err, ENOENT, "no such image '%s'; get it with: isola pull %s", name, name);
}

static int read_layers(struct image_store *store, struct image *image, struct err *err)
{
    AUTO(sqlite3_finalizep) sqlite3_stmt *s = NULL;
    int r = store_prepare(store, &s, err,
                          "SELECT key, diff_id FROM image_layers WHERE image_id = ?"
                          " ORDER BY position DESC",
                          "s", image->id);
    int step = SQLITE_DONE;
    while (r >= 0 && (step = sqlite3_step(s)) == SQLITE_ROW) {
        AUTO(freep) char *path = str_printf("%s/layers/%s", store->path, column(s, 0));
        r = path == NULL ? -ENOMEM : strv_add(&image->diff_ids, column(s, 1));
        /* overlayfs refuses one directory twice; the lower one is hidden by the upper anyway. */
        if (r >= 0 && !strv_has(&image->layers, path)) {
            r = strv_add(&image->layers, path);
        }
    }
    if (r < 0) {
        return err_set(err, -r, "list layers");
    }
    if (step != SQLITE_DONE) {
        return store_db_fail(store, err, "list layers");
    }
    for (size_t i = 0; i < image->diff_ids.count / 2; i++) {
        char **a = &image->diff_ids.items[i];
        char **b = &image->diff_ids.items[image->diff_ids.count - 1 - i];
        char *swap = *a;
        *a = *b;
        *b = swap;
    }
    return 0;
}

static int read_row(struct image_store *store, struct image *image, struct err *err)
{
    AUTO(sqlite3_finalizep) sqlite3_stmt *s = NULL;
    int r = store_prepare(store, &s, err,
                          "SELECT digest, os, architecture, variant, created, size FROM images"
                          " WHERE id = ?",
                          "s", image->id);
    if (r < 0) {
        return r;
    }
    if (sqlite3_step(s) != SQLITE_ROW) {
        return err_say(err, ENOENT, "image %.19s was removed meanwhile", image->id);
    }
    image->digest = strdup(column(s, 0));
    image->created_ns = sqlite3_column_int64(s, 4);
    image->size = (uint64_t)sqlite3_column_int64(s, 5);
    if (image->digest == NULL ||
        platform_set(&image->platform, column(s, 1), column(s, 2), column(s, 3)) < 0) {
        return err_set(err, ENOMEM, "read image");
    }
    AUTO(sqlite3_finalizep) sqlite3_stmt *names = NULL;
    r = store_prepare(store, &names, err, "SELECT name FROM names WHERE image_id = ? ORDER BY name",
                      "s", image->id);
    while (r == 0 && sqlite3_step(names) == SQLITE_ROW) {
        r = strv_add(&image->names, column(names, 0));
    }
    return r;
}

int image_resolve(struct image_store *store, const char *name, const struct platform *platform,
                  struct image *ret, struct err *err)
{
    AUTO(image_donep) struct image image = {0};
    AUTO(buf_donep) struct buf text = {0};
    int r = find_id(store, name, platform, &image.id, err);
    if (r == 0) {
        r = read_row(store, &image, err);
    }
    if (r == 0) {
        r = read_layers(store, &image, err);
    }
    if (r == 0) {
        r = store_blob_read(store, image.id, CONFIG_SIZE_MAX, &text, err);
    }
    if (r == 0) {
        r = json_parse(text.data != NULL ? text.data : "", text.len, "image configuration",
                       &image.json, err);
    }
    if (r == 0) {
        r = image_config_read(json_object_get(image.json, "config"), &image.config, err);
    }
    if (r < 0) {
        return r;
    }
    *ret = image;
    image = (struct image){0};
    return 0;
}

void image_done(struct image *image)
{
    free(image->id);
    free(image->digest);
    strv_done(&image->names);
    image_config_done(&image->config);
    strv_done(&image->layers);
    strv_done(&image->diff_ids);
    json_decref(image->json);
    *image = (struct image){0};
}
