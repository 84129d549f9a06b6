#include "image/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "image/wal.h"

#define SCHEMA_VERSION 1
static const struct wal_limits wal_limits = {.pages = 64, .busy_timeout_ms = 20000};

static const char schema[] =
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;"
    "CREATE TABLE images(id TEXT PRIMARY KEY, digest TEXT NOT NULL, os TEXT NOT NULL,"
    "  architecture TEXT NOT NULL, variant TEXT NOT NULL, created INTEGER NOT NULL,"
    "  size INTEGER NOT NULL, added INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE manifests(digest TEXT PRIMARY KEY, image_id TEXT NOT NULL,"
    "  media_type TEXT NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE names(name TEXT, os TEXT, architecture TEXT, variant TEXT,"
    "  image_id TEXT NOT NULL, digest TEXT NOT NULL, updated INTEGER NOT NULL,"
    "  PRIMARY KEY(name, os, architecture, variant)) WITHOUT ROWID;"
    "CREATE INDEX names_image ON names(image_id);"
    "CREATE INDEX names_digest ON names(digest);"
    "CREATE TABLE layers(key TEXT PRIMARY KEY, diff_id TEXT NOT NULL, size INTEGER NOT NULL)"
    "  WITHOUT ROWID;"
    "CREATE TABLE image_layers(image_id TEXT, position INTEGER, diff_id TEXT NOT NULL,"
    "  key TEXT NOT NULL, PRIMARY KEY(image_id, position)) WITHOUT ROWID;"
    "CREATE TABLE pins(user TEXT PRIMARY KEY, image_id TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX pins_image ON pins(image_id);"
    "PRAGMA user_version = 1;";

int store_db_fail(struct image_store *store, struct err *err, const char *what)
{
    int code = EIO;
    switch (sqlite3_errcode(store->db)) {
    case SQLITE_FULL:
        code = ENOSPC;
        break;
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
        code = EACCES;
        break;
    case SQLITE_BUSY:
        code = EBUSY;
        break;
    case SQLITE_NOMEM:
        code = ENOMEM;
        break;
    default:
        break;
    }
    return err_say(err, code, "%s: index '%s/index.db': %s", what, store->path,
                   sqlite3_errmsg(store->db));
}

static int prepare_list(struct image_store *store, sqlite3_stmt **ret, struct err *err,
                        const char *sql, const char *format, va_list ap)
{
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL) != SQLITE_OK) {
        return store_db_fail(store, err, "prepare");
    }
    int result = SQLITE_OK;
    for (int i = 0; format[i] != '\0' && result == SQLITE_OK; i++) {
        if (format[i] == 's') {
            result =
                sqlite3_bind_text(statement, i + 1, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
        } else {
            result = sqlite3_bind_int64(statement, i + 1, va_arg(ap, int64_t));
        }
    }
    if (result != SQLITE_OK) {
        (void)sqlite3_finalize(statement);
        return store_db_fail(store, err, "bind");
    }
    *ret = statement;
    return 0;
}

int store_prepare(struct image_store *store, sqlite3_stmt **ret, struct err *err, const char *sql,
                  const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    int r = prepare_list(store, ret, err, sql, format, ap);
    va_end(ap);
    return r;
}

int store_exec(struct image_store *store, struct err *err, const char *sql, const char *format, ...)
{
    AUTO(sqlite3_finalizep) sqlite3_stmt *statement = NULL;
    va_list ap;
    va_start(ap, format);
    int r = prepare_list(store, &statement, err, sql, format, ap);
    va_end(ap);
    if (r < 0) {
        return r;
    }
    int step;
    do {
        step = sqlite3_step(statement);
    } while (step == SQLITE_ROW);
    if (step != SQLITE_DONE) {
        return store_db_fail(store, err, "write");
    }
    return sqlite3_changes(store->db);
}

int store_begin(struct image_store *store, struct err *err)
{
    return MIN(store_exec(store, err, "BEGIN IMMEDIATE", ""), 0);
}

int store_end(struct image_store *store, bool ok, struct err *err)
{
    int r = ok ? store_exec(store, err, "COMMIT", "") : 0;
    if (!ok || r < 0) {
        (void)store_exec(store, NULL, "ROLLBACK", "");
    }
    (void)sqlite3_exec(store->db, "PRAGMA synchronous = NORMAL", NULL, NULL, NULL);
    return MIN(r, 0);
}

int store_begin_durable(struct image_store *store, struct err *err)
{
    if (sqlite3_exec(store->db, "PRAGMA synchronous = FULL", NULL, NULL, NULL) != SQLITE_OK) {
        return store_db_fail(store, err, "write");
    }
    return store_begin(store, err);
}

static int read_version(struct image_store *store, int *ret, struct err *err)
{
    AUTO(sqlite3_finalizep) sqlite3_stmt *statement = NULL;
    int r = store_prepare(store, &statement, err, "PRAGMA user_version", "");
    if (r < 0) {
        return r;
    }
    if (sqlite3_step(statement) != SQLITE_ROW) {
        return store_db_fail(store, err, "read version");
    }
    *ret = sqlite3_column_int(statement, 0);
    return 0;
}

/* sqlite3 answers "busy" at once to two processes that turn one new file into a WAL database. */
static int make_schema(struct image_store *store, struct err *err)
{
    int version = 0;
    AUTO(closep) int lock = lock_file_at(store->fd, "index.lock", LOCK_EXCLUSIVE, true);
    if (lock < 0) {
        return err_set(err, -lock, "lock '%s/index.lock'", store->path);
    }
    if (sqlite3_exec(store->db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL) != SQLITE_OK) {
        return store_db_fail(store, err, "make index");
    }
    int r = store_begin(store, err);
    r = r < 0 ? r : read_version(store, &version, err);
    if (r < 0) {
        return r;
    }
    if (version == 0 && sqlite3_exec(store->db, schema, NULL, NULL, NULL) != SQLITE_OK) {
        r = store_db_fail(store, err, "make index");
        (void)store_end(store, false, NULL);
        return r;
    }
    return store_end(store, true, err);
}

static int open_db(struct image_store *store, bool create, struct err *err)
{
    AUTO(freep) char *path = str_printf("%s/index.db", store->path);
    if (path == NULL) {
        return err_set(err, ENOMEM, "open image store");
    }
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
    if (sqlite3_open_v2(path, &store->db, flags, NULL) != SQLITE_OK) {
        if (!create && access(path, F_OK) < 0) {
            return err_set(err, errno, "open image store '%s'", store->path);
        }
        return store_db_fail(store, err, "open");
    }
    wal_keep_short(store->db, &wal_limits);
    int version = 0;
    int r = read_version(store, &version, err);
    if (r == 0 && version == 0) {
        r = make_schema(store, err);
    }
    if (r == 0 && version > SCHEMA_VERSION) {
        return err_say(err, EPROTO, "image store '%s' was made by a newer Isola", store->path);
    }
    if (r == 0 &&
        sqlite3_exec(store->db, "PRAGMA synchronous = NORMAL", NULL, NULL, NULL) != SQLITE_OK) {
        return store_db_fail(store, err, "open");
    }
    return r;
}

/* Layers hold strangers' setuid programs and device nodes: nobody else on this host may enter. */
static int make_directories(struct image_store *store, struct err *err)
{
    static const struct {
        const char *name;
        mode_t mode;
    } dirs[] = {
        {"blobs", 0700}, {"blobs/sha256", 0755}, {"layers", 0700}, {"erofs", 0700}, {"work", 0700}};
    for (size_t i = 0; i < COUNT(dirs); i++) {
        if (mkdirat(store->fd, dirs[i].name, dirs[i].mode) < 0 && errno != EEXIST) {
            return err_set(err, errno, "make '%s/%s'", store->path, dirs[i].name);
        }
    }
    static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}\n";
    if (faccessat(store->fd, "oci-layout", F_OK, 0) < 0) {
        int r = replace_file_at(store->fd, "oci-layout", layout, sizeof(layout) - 1, 0644, false);
        if (r < 0) {
            return err_set(err, -r, "write '%s/oci-layout'", store->path);
        }
    }
    if (faccessat(store->fd, "index.json", F_OK, 0) < 0) {
        return store_write_index(store, err);
    }
    return 0;
}

int image_store_open(const char *root, enum store_mode mode, struct image_store **ret_store,
                     struct err *err)
{
    AUTO(image_store_closep) struct image_store *store = calloc(1, sizeof(*store));
    if (store == NULL) {
        return err_set(err, ENOMEM, "open image store");
    }
    store->fd = -1;
    store->path = str_printf("%s/images", root);
    if (store->path == NULL) {
        return err_set(err, ENOMEM, "open image store");
    }
    if (mode == STORE_READ_WRITE) {
        int r = mkdir_parents(store->path, 0711);
        if (r < 0) {
            return err_set(err, -r, "make image store '%s'", store->path);
        }
    }
    store->fd = open(store->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store->fd < 0) {
        return err_set(err, errno, "open image store '%s'", store->path);
    }
    int r = open_db(store, mode == STORE_READ_WRITE, err);
    if (r == 0 && mode == STORE_READ_WRITE) {
        r = make_directories(store, err);
    }
    if (r < 0) {
        return r;
    }
    *ret_store = TAKE_PTR(store);
    return 0;
}

void image_store_close(struct image_store *store)
{
    if (store == NULL) {
        return;
    }
    (void)sqlite3_close_v2(store->db);
    (void)close_fd(store->fd);
    free(store->path);
    free(store);
}

const char *image_store_path(const struct image_store *store)
{
    return store->path;
}

int image_store_fd(const struct image_store *store)
{
    return store->fd;
}

void store_blob_path(const char *digest, char out[BLOB_PATH_SIZE])
{
    (void)snprintf(out, BLOB_PATH_SIZE, "blobs/sha256/%.64s", digest + DIGEST_HEX_OFFSET);
}

bool store_blob_exists(struct image_store *store, const char *digest, uint64_t *ret_size)
{
    char path[BLOB_PATH_SIZE];
    struct stat st;
    store_blob_path(digest, path);
    if (fstatat(store->fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode)) {
        return false;
    }
    if (ret_size != NULL) {
        *ret_size = (uint64_t)st.st_size;
    }
    return true;
}

int store_blob_read(struct image_store *store, const char *digest, size_t max, struct buf *ret,
                    struct err *err)
{
    char path[BLOB_PATH_SIZE];
    if (!digest_is_valid(digest)) {
        return err_say(err, EINVAL, "'%s' is not a sha256 digest", digest);
    }
    store_blob_path(digest, path);
    int r = read_file_at(store->fd, path, max, ret);
    return r < 0 ? err_set(err, -r, "read blob '%s/%s'", store->path, path) : 0;
}

int store_blob_write(struct image_store *store, const char *digest, const void *data, size_t len,
                     struct err *err)
{
    AUTO(closep)
    int dir = openat(store->fd, "blobs/sha256", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = dir < 0 ? -errno : 0;
    if (r == 0 && !store_blob_exists(store, digest, NULL)) {
        r = replace_file_at(dir, digest + DIGEST_HEX_OFFSET, data, len, 0644, true);
    }
    return r < 0 ? err_set(err, -r, "write blob %s", digest) : 0;
}

int store_lock_shared(struct image_store *store, struct err *err)
{
    int fd = lock_file_at(store->fd, "lock", LOCK_SHARED, true);
    return fd < 0 ? err_set(err, -fd, "lock image store '%s'", store->path) : fd;
}
