#include "image/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/err.h"
#include "base/io.h"
#include "image/digest.h"
#include "image/erofs.h"
#include "image/manifest.h"
#include "image/store_internal.h"

#define READ_SIZE ((size_t)1 << 20)

struct verify {
    struct image_store *store;
    bool repair;
    struct image_list images;
    struct strv damaged; /* digests */
    struct strv *problems;
};

/* What a person would pull or remove. */
static char *shown_name(const struct image_row *row)
{
    return row->name != NULL ? reference_familiar(row->name) : strndup(row->id, 19);
}

/* 1 right, 0 damaged (what it is instead is in real), or a negative errno. */
static int check_blob(struct verify *v, int dir_fd, const char *name, char real[DIGEST_TEXT_SIZE],
                      struct err *err)
{
    AUTO(digest_freep) struct digest *digest = NULL;
    AUTO(freep) char *buffer = malloc(READ_SIZE);
    AUTO(closep) int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        return 1; /* swept meanwhile */
    }
    if (fd < 0 || buffer == NULL || digest_new(&digest) < 0) {
        return err_set(err, fd < 0 ? errno : ENOMEM, "read blob '%s/blobs/sha256/%s'",
                       v->store->path, name);
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    for (;;) {
        ssize_t n = read_upto(fd, buffer, READ_SIZE);
        if (n == -EIO) {
            (void)strcpy(real, "unreadable");
            return 0;
        }
        if (n < 0) {
            return err_set(err, (int)-n, "read blob '%s/blobs/sha256/%s'", v->store->path, name);
        }
        if (n == 0) {
            break;
        }
        digest_update(digest, buffer, (size_t)n);
    }
    digest_final(digest, real);
    return str_eq(real + DIGEST_HEX_OFFSET, name);
}

static int add_damaged(struct verify *v, const char *name, const char *real)
{
    int r = strv_addf(v->problems, "blob %.12s is damaged: its content is %s", name, real);
    return r < 0 ? r : strv_addf(&v->damaged, "sha256:%s", name);
}

static int check_blobs(struct verify *v, struct err *err)
{
    int fd = openat(v->store->fd, "blobs/sha256", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(closedirp) DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        int r = err_set(err, errno, "list '%s/blobs/sha256'", v->store->path);
        (void)close_fd(fd);
        return r;
    }
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        AUTO(freep) char *digest = str_printf("sha256:%s", entry->d_name);
        char real[DIGEST_TEXT_SIZE];
        if (digest == NULL) {
            return err_set(err, ENOMEM, "verify");
        }
        if (!digest_is_valid(digest)) {
            continue; /* ".", "..", and files that somebody makes now */
        }
        int r = check_blob(v, dirfd(dir), entry->d_name, real, err);
        if (r == 0 && add_damaged(v, entry->d_name, real) < 0) {
            r = err_set(err, ENOMEM, "verify");
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* 1: the blob cannot be used, and a problem says so. */
static int check_part(struct verify *v, const struct image_row *row, const char *what,
                      const char *digest)
{
    bool damaged = strv_has(&v->damaged, digest);
    if (!damaged && store_blob_exists(v->store, digest, NULL)) {
        return 0;
    }
    AUTO(freep) char *name = shown_name(row);
    int r = name == NULL
                ? -ENOMEM
                : strv_addf(v->problems, "image %s: its %s %.12s is %s; %s isola pull %s", name,
                            what, digest + DIGEST_HEX_OFFSET, damaged ? "damaged" : "missing",
                            damaged && !v->repair ? "run isola image check --repair, then"
                                                  : "get it again with:",
                            name);
    return r < 0 ? r : 1;
}

/* 1: the image is of no use any more. */
static int check_image(struct verify *v, const struct image_row *row, const char *digest)
{
    AUTO(buf_donep) struct buf text = {0};
    AUTO(manifest_donep) struct manifest manifest = {0};
    int bad = check_part(v, row, "manifest", digest);
    int config = bad < 0 ? bad : check_part(v, row, "configuration", row->id);
    if (bad != 0 || config != 0) {
        return config < 0 ? config : 1;
    }
    if (store_blob_read(v->store, digest, MANIFEST_SIZE_MAX, &text, NULL) < 0 ||
        manifest_parse(text.data != NULL ? text.data : "", text.len, NULL, &manifest, NULL) < 0) {
        return 1;
    }
    for (size_t i = 0; i < manifest.layer_count; i++) {
        int r = check_part(v, row, "layer", manifest.layers[i].digest);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int check_images(struct verify *v, struct strv *lost, struct err *err)
{
    AUTO(sqlite3_finalizep) sqlite3_stmt *s = NULL;
    int r = store_prepare(v->store, &s, err, "SELECT digest FROM images WHERE id = ?", "s", "");
    for (size_t i = 0; r >= 0 && i < v->images.count; i++) {
        const struct image_row *row = &v->images.rows[i];
        if (i > 0 && str_eq(row->id, v->images.rows[i - 1].id)) {
            continue;
        }
        (void)sqlite3_reset(s);
        if (sqlite3_bind_text(s, 1, row->id, -1, SQLITE_TRANSIENT) != SQLITE_OK ||
            sqlite3_step(s) != SQLITE_ROW) {
            continue; /* removed meanwhile */
        }
        const char *digest = (const char *)sqlite3_column_text(s, 0);
        r = digest == NULL || !digest_is_valid(digest) ? 1 : check_image(v, row, digest);
        if (r == 1) {
            r = strv_add(lost, row->id);
        }
        if (r < 0) {
            return err_set(err, -r, "verify");
        }
    }
    return MIN(r, 0);
}

static int repair(struct verify *v, const struct strv *lost, struct err *err)
{
    for (size_t i = 0; i < v->damaged.count; i++) {
        char path[BLOB_PATH_SIZE];
        store_blob_path(v->damaged.items[i], path);
        if (unlinkat(v->store->fd, path, 0) < 0 && errno != ENOENT) {
            return err_set(err, errno, "remove '%s/%s'", v->store->path, path);
        }
    }
    for (size_t i = 0; i < lost->count; i++) {
        struct err own = ERR_NONE;
        int r = image_remove(v->store, lost->items[i], &own);
        if (r == -EBUSY) {
            r = strv_add(v->problems, err_text(&own));
        }
        if (r < 0 && r != -ENOENT) {
            return own.code != 0 ? err_say(err, own.code, "%s", own.text)
                                 : err_set(err, -r, "repair");
        }
    }
    return 0;
}

int image_store_verify(struct image_store *store, bool mend, struct strv *ret_problems,
                       struct err *err)
{
    struct verify v = {.store = store, .repair = mend, .problems = ret_problems};
    AUTO(strv_donep) struct strv lost = {0};
    /* Nobody sweeps meanwhile. */
    AUTO(closep) int lock = store_lock_shared(store, err);
    int r = lock < 0 ? lock : check_blobs(&v, err);
    r = r < 0 ? r : image_store_list(store, &v.images, err);
    r = r < 0 ? r : check_images(&v, &lost, err);
    r = r < 0 || !mend ? r : repair(&v, &lost, err);
    r = r < 0 ? r : image_erofs_check(store, mend, ret_problems, err);
    image_list_done(&v.images);
    strv_done(&v.damaged);
    lock = close_fd(lock);
    store_sweep_if_wanted(store);
    return r;
}
