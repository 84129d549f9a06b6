#include "engine/db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/lock.h"
#include "base/str.h"
#include "image/wal.h"

static const struct wal_limits wal_limits = {.pages = 128, .busy_timeout_ms = 10000};

struct db {
    sqlite3 *sqlite;
    int depth; /* of nested transactions */
};

/*
 * The schema as steps: element i brings version i to i + 1. Steps are only ever appended. Objects
 * that are read as a whole are JSON; columns are what queries and constraints need.
 */
static const char *const migrations[] = {
    /* Workloads: state is 'created', 'starting', 'running' or 'exited'; what runs is in RUN. */
    "CREATE TABLE workload ("
    " id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, image TEXT NOT NULL, state TEXT NOT NULL,"
    " created INTEGER NOT NULL, config TEXT NOT NULL, runtime TEXT NOT NULL DEFAULT '{}'"
    ") WITHOUT ROWID;"
    "CREATE TABLE volume ("
    " name TEXT PRIMARY KEY, created INTEGER NOT NULL, anonymous INTEGER NOT NULL,"
    " config TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE volume_use ("
    " workload TEXT NOT NULL REFERENCES workload(id) ON DELETE CASCADE,"
    " volume TEXT NOT NULL REFERENCES volume(name), PRIMARY KEY (workload, volume)"
    ") WITHOUT ROWID;"
    "CREATE INDEX volume_use_volume ON volume_use(volume);"
    "CREATE TABLE event ("
    " id INTEGER PRIMARY KEY, time INTEGER NOT NULL, type TEXT NOT NULL, action TEXT NOT NULL,"
    " actor TEXT NOT NULL, attributes TEXT NOT NULL);"
    "CREATE INDEX event_time ON event(time);",
    /* Networks and what workloads have in them. Addresses are text as inet_ntop() writes them. */
    "CREATE TABLE network ("
    " id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, bridge TEXT NOT NULL UNIQUE,"
    " created INTEGER NOT NULL, config TEXT NOT NULL,"
    " next4 INTEGER NOT NULL DEFAULT 0, next6 INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;"
    "CREATE TABLE endpoint ("
    " id INTEGER PRIMARY KEY, workload TEXT NOT NULL REFERENCES workload(id) ON DELETE CASCADE,"
    " network TEXT NOT NULL REFERENCES network(id), position INTEGER NOT NULL,"
    " veth TEXT NOT NULL UNIQUE, ip4 TEXT, ip6 TEXT, mac TEXT NOT NULL, aliases TEXT NOT NULL,"
    " UNIQUE (workload, network), UNIQUE (workload, position),"
    " UNIQUE (network, ip4), UNIQUE (network, ip6));"
    "CREATE TABLE port ("
    " protocol INTEGER NOT NULL, host_port INTEGER NOT NULL, host TEXT NOT NULL,"
    " workload TEXT NOT NULL REFERENCES workload(id) ON DELETE CASCADE, port INTEGER NOT NULL,"
    " PRIMARY KEY (protocol, host_port, host)) WITHOUT ROWID;"
    "CREATE INDEX port_workload ON port(workload);",
    /* Identifiers ascend with time, and each index is a page more that every start writes. */
    "DROP INDEX event_time;",
    /* The host's ids of user namespaces; they count while the workload lives. */
    "CREATE TABLE id_range ("
    " workload TEXT PRIMARY KEY REFERENCES workload(id) ON DELETE CASCADE,"
    " start INTEGER NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID;",
};

static int fail(struct db *db, struct err *err, const char *what)
{
    static const struct {
        int sqlite;
        int code;
    } codes[] = {
        {SQLITE_CONSTRAINT, EEXIST}, {SQLITE_BUSY, EBUSY},     {SQLITE_LOCKED, EBUSY},
        {SQLITE_FULL, ENOSPC},       {SQLITE_NOMEM, ENOMEM},   {SQLITE_READONLY, EROFS},
        {SQLITE_CANTOPEN, EACCES},   {SQLITE_NOTADB, EBADMSG}, {SQLITE_CORRUPT, EBADMSG},
    };
    int code = EIO;
    for (size_t i = 0; i < COUNT(codes); i++) {
        if (sqlite3_errcode(db->sqlite) == codes[i].sqlite) {
            code = codes[i].code;
        }
    }
    (void)err_say(err, code, "%s: state.db: %s", what, sqlite3_errmsg(db->sqlite));
    if (code == EBUSY) {
        err_hint(err, "another isola holds the database; try again");
    }
    return -code;
}

static int user_version(struct db *db, int *ret, struct err *err)
{
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    int r = db_prepare(db, &stmt, err, "PRAGMA user_version", "");
    if (r < 0) {
        return r;
    }
    r = db_step(db, stmt, err);
    if (r < 0) {
        return r;
    }
    *ret = sqlite3_column_int(stmt, 0);
    return 0;
}

static int migrate(struct db *db, struct err *err)
{
    int version = 0;
    int r = user_version(db, &version, err);
    if (r < 0 || version == (int)COUNT(migrations)) {
        return r;
    }
    AUTO(db_tx_donep) struct db_tx tx = {0};
    r = db_begin(db, &tx, err);
    if (r < 0) {
        return r;
    }
    /* Another process may have done it while we waited for the lock. */
    r = user_version(db, &version, err);
    if (r < 0) {
        return r;
    }
    if (version > (int)COUNT(migrations)) {
        return err_say(err, EPROTO, "state.db has schema %d, newer than this isola's %zu; upgrade",
                       version, COUNT(migrations));
    }
    for (; version < (int)COUNT(migrations); version++) {
        if (sqlite3_exec(db->sqlite, migrations[version], NULL, NULL, NULL) != SQLITE_OK) {
            return fail(db, err, "upgrade");
        }
    }
    char pragma[64];
    (void)snprintf(pragma, sizeof(pragma), "PRAGMA user_version = %d", version);
    if (sqlite3_exec(db->sqlite, pragma, NULL, NULL, NULL) != SQLITE_OK) {
        return fail(db, err, "upgrade");
    }
    return db_commit(&tx, err);
}

/* Turning a new file into a WAL database is not safe against a second process doing the same. */
static int make_wal(struct db *db, const char *dir, struct err *err)
{
    AUTO(closep) int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0) {
        return err_set(err, errno, "open '%s'", dir);
    }
    AUTO(closep) int lock = lock_file_at(dir_fd, "state.lock", LOCK_EXCLUSIVE, true);
    if (lock < 0) {
        return err_set(err, -lock, "lock '%s/state.lock'", dir);
    }
    if (sqlite3_exec(db->sqlite, "PRAGMA journal_mode = WAL", NULL, NULL, NULL) != SQLITE_OK) {
        return fail(db, err, "create");
    }
    return migrate(db, err);
}

int db_open(const char *dir, struct db **ret_db, struct err *err)
{
    AUTO(db_closep) struct db *db = calloc(1, sizeof(*db));
    AUTO(freep) char *path = str_printf("%s/state.db", dir);
    if (db == NULL || path == NULL) {
        return err_set(err, ENOMEM, "open the state database");
    }
    mode_t old_mask = umask(0077);
    int rc = sqlite3_open_v2(
        path, &db->sqlite, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    (void)umask(old_mask);
    if (rc != SQLITE_OK) {
        return db->sqlite != NULL ? fail(db, err, "open") : err_set(err, ENOMEM, "open '%s'", path);
    }
    wal_keep_short(db->sqlite, &wal_limits);
    /*
     * NORMAL: no fsync a transaction. A crash of a process loses nothing; a crash of the machine
     * may lose the newest transactions, but then it has ended their workloads as well.
     */
    if (sqlite3_exec(db->sqlite, "PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON", NULL,
                     NULL, NULL) != SQLITE_OK) {
        return fail(db, err, "open");
    }
    int version = 0;
    int r = user_version(db, &version, err);
    if (r < 0) {
        return r;
    }
    r = version == 0 ? make_wal(db, dir, err) : migrate(db, err);
    if (r < 0) {
        return r;
    }
    *ret_db = TAKE_PTR(db);
    return 0;
}

void db_close(struct db *db)
{
    if (db == NULL) {
        return;
    }
    (void)sqlite3_close(db->sqlite);
    free(db);
}

int db_begin(struct db *db, struct db_tx *ret_tx, struct err *err)
{
    if (db->depth == 0 &&
        sqlite3_exec(db->sqlite, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK) {
        return fail(db, err, "begin");
    }
    db->depth++;
    ret_tx->db = db;
    return 0;
}

int db_commit(struct db_tx *tx, struct err *err)
{
    struct db *db = tx->db;
    if (db->depth > 1) {
        db->depth--;
        tx->db = NULL;
        return 0;
    }
    if (sqlite3_exec(db->sqlite, "COMMIT", NULL, NULL, NULL) != SQLITE_OK) {
        return fail(db, err, "commit");
    }
    db->depth--;
    tx->db = NULL;
    return 0;
}

void db_tx_done(struct db_tx *tx)
{
    struct db *db = tx->db;
    if (db == NULL) {
        return;
    }
    tx->db = NULL;
    db->depth--;
    /* An inner failure undoes all: the outer commit then fails, as there is nothing to commit. */
    if (sqlite3_get_autocommit(db->sqlite) == 0) {
        (void)sqlite3_exec(db->sqlite, "ROLLBACK", NULL, NULL, NULL);
    }
}

static int prepare(struct db *db, sqlite3_stmt **ret_stmt, struct err *err, const char *sql,
                   const char *types, va_list ap)
{
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v2(db->sqlite, sql, -1, &stmt, NULL) != SQLITE_OK) {
        return fail(db, err, sql);
    }
    for (int i = 0; types[i] != '\0'; i++) {
        int rc = SQLITE_MISUSE;
        if (types[i] == 's') {
            const char *text = va_arg(ap, const char *);
            rc = text == NULL ? sqlite3_bind_null(stmt, i + 1)
                              : sqlite3_bind_text(stmt, i + 1, text, -1, SQLITE_TRANSIENT);
        } else if (types[i] == 'i') {
            rc = sqlite3_bind_int64(stmt, i + 1, va_arg(ap, int64_t));
        }
        if (rc != SQLITE_OK) {
            return fail(db, err, sql);
        }
    }
    *ret_stmt = TAKE_PTR(stmt);
    return 0;
}

int db_prepare(struct db *db, sqlite3_stmt **ret_stmt, struct err *err, const char *sql,
               const char *types, ...)
{
    va_list ap;
    va_start(ap, types);
    int r = prepare(db, ret_stmt, err, sql, types, ap);
    va_end(ap);
    return r;
}

int db_step(struct db *db, sqlite3_stmt *stmt, struct err *err)
{
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) {
        return 1;
    }
    return rc == SQLITE_DONE ? 0 : fail(db, err, sqlite3_sql(stmt));
}

int db_run(struct db *db, struct err *err, const char *sql, const char *types, ...)
{
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    va_list ap;
    va_start(ap, types);
    int r = prepare(db, &stmt, err, sql, types, ap);
    va_end(ap);
    while (r >= 0) {
        r = db_step(db, stmt, err);
        if (r == 0) {
            return sqlite3_changes(db->sqlite);
        }
    }
    return r;
}

int64_t db_last_id(struct db *db)
{
    return sqlite3_last_insert_rowid(db->sqlite);
}

const char *db_text(sqlite3_stmt *stmt, int column)
{
    const unsigned char *text = sqlite3_column_text(stmt, column);
    return text != NULL ? (const char *)text : "";
}
