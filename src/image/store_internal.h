/*
 * store_internal.h - the inside of an image store, for src/image only.
 */
#ifndef IMAGE_STORE_INTERNAL_H
#define IMAGE_STORE_INTERNAL_H

#include <sqlite3.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/lock.h"
#include "image/platform.h"
#include "image/reference.h"
#include "image/store.h"

/* Larger ones are refused before they are read; OCI distribution-spec 1.1 suggests 4 MiB. */
#define MANIFEST_SIZE_MAX ((size_t)4 << 20)
#define CONFIG_SIZE_MAX ((size_t)8 << 20)
#define IMAGE_LAYERS_MAX 1000

struct image_store {
    char *path; /* ROOT/images */
    int fd;
    sqlite3 *db;
    bool sweep_wanted;
};

static inline void sqlite3_finalizep(sqlite3_stmt **statement)
{
    (void)sqlite3_finalize(*statement);
}

/* sqlite's last error as ours. Returns a negative errno: -ENOSPC, -EROFS, -EBUSY or -EIO. */
int store_db_fail(struct image_store *store, struct err *err, const char *what);

/* Prepares sql and binds the texts of args (format: 's' text or NULL, 'i' int64_t). */
int store_prepare(struct image_store *store, sqlite3_stmt **ret, struct err *err, const char *sql,
                  const char *format, ...);
/* Prepares, runs to the end and counts changed rows. */
int store_exec(struct image_store *store, struct err *err, const char *sql, const char *format,
               ...);

/* A write transaction; the end rolls back unless ok. Returns 0 or a negative errno. */
int store_begin(struct image_store *store, struct err *err);
/* One whose end is on the disk when store_end() returns: before files go, or are relied upon. */
int store_begin_durable(struct image_store *store, struct err *err);
int store_end(struct image_store *store, bool ok, struct err *err);

/* The shared lock of one who adds, as a descriptor to close; waits for a sweep to end. */
int store_lock_shared(struct image_store *store, struct err *err);

/* Writes index.json anew from the index. */
int store_write_index(struct image_store *store, struct err *err);

/* "blobs/sha256/HEX" for a valid digest. */
#define BLOB_PATH_SIZE ((size_t)96)
void store_blob_path(const char *digest, char out[BLOB_PATH_SIZE]);
bool store_blob_exists(struct image_store *store, const char *digest, uint64_t *ret_size);
int store_blob_read(struct image_store *store, const char *digest, size_t max, struct buf *ret,
                    struct err *err);
/* Writes a small blob whose digest is known to be right. */
int store_blob_write(struct image_store *store, const char *digest, const void *data, size_t len,
                     struct err *err);

/* An unpacked layer that is there already: its key, freed by the caller; 0 or -ENOENT. */
int store_layer_find(struct image_store *store, const char *diff_id, const char *leaning,
                     char **ret_key, struct err *err);
int store_layer_add(struct image_store *store, const char *key, const char *diff_id, uint64_t size,
                    struct err *err);

struct store_layer {
    char *diff_id;
    char *key; /* hex: name of the directory below layers/ */
};

/* Everything that the index knows of an image; the blobs and layers are in place before. */
struct store_image {
    const char *id;
    const char *digest; /* of the manifest */
    const char *media_type;
    uint64_t manifest_size;
    struct platform platform;
    int64_t created_ns;
    const struct store_layer *layers; /* bottom first */
    size_t layer_count;
};

/*
 * Registers an image and, unless NULL, its name; name_digest (NULL: the manifest's) is what the
 * registry calls it, perhaps an index.
 */
int store_image_add(struct image_store *store, const struct store_image *image, const char *name,
                    const char *name_digest, struct err *err);

/* Removes what killed processes left in work/, unless somebody adds images now. */
void store_clean_work(struct image_store *store);

/* Sweeps if someone could not while we held the lock. Errors are not interesting. */
void store_sweep_if_wanted(struct image_store *store);

#endif
