/*
 * db.h - the state database: ROOT/state.db, sqlite in WAL mode.
 *
 * Every change is a transaction, so kill -9 leaves the old state or the new. A struct db belongs to
 * one thread. Statements wait up to ten seconds for another process's write.
 */
#ifndef ENGINE_DB_H
#define ENGINE_DB_H

#include <sqlite3.h>
#include <stdint.h>

#include "base/cleanup.h"

struct db;
struct err;

/* Opens, creates or upgrades the database in dir. A newer schema than ours is refused. */
int db_open(const char *dir, struct db **ret_db, struct err *err);
void db_close(struct db *db);
DEFINE_FREEP(struct db *, db_close)

/*
 * A transaction that takes the write lock at once. Nests: only the outermost counts. A struct db_tx
 * on AUTO(db_tx_donep) that was not committed rolls back.
 */
struct db_tx {
    struct db *db; /* NULL: nothing to roll back */
};
int db_begin(struct db *db, struct db_tx *ret_tx, struct err *err);
int db_commit(struct db_tx *tx, struct err *err);
void db_tx_done(struct db_tx *tx);
DEFINE_DONEP(struct db_tx, db_tx_done)

/*
 * Prepares sql and binds one argument per letter of types: s const char * (NULL: SQL NULL),
 * i int64_t. The statement is the caller's, to give to sqlite3_finalize().
 */
int db_prepare(struct db *db, sqlite3_stmt **ret_stmt, struct err *err, const char *sql,
               const char *types, ...);
static inline void stmt_donep(sqlite3_stmt **stmt)
{
    (void)sqlite3_finalize(*stmt);
}

/* 1: a row is there; 0: the end; negative errno with err set. */
int db_step(struct db *db, sqlite3_stmt *stmt, struct err *err);

/*
 * Prepares, binds, runs. Returns the number of changed rows or a negative errno: -EEXIST for a
 * violated UNIQUE or PRIMARY KEY, -EBUSY when the write lock was not to be had, -ENOSPC, -EIO.
 */
int db_run(struct db *db, struct err *err, const char *sql, const char *types, ...);

int64_t db_last_id(struct db *db);

/* The text of a column, "" for NULL; valid until the next step. */
const char *db_text(sqlite3_stmt *stmt, int column);

#endif
