#include "image/wal.h"

#include <stddef.h>
#include <stdint.h>

static int on_commit(void *data, sqlite3 *db, const char *name, int pages)
{
    const struct wal_limits *limits = data;
    if (pages >= limits->pages) {
        (void)sqlite3_busy_timeout(db, 0);
        (void)sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
        (void)sqlite3_busy_timeout(db, limits->busy_timeout_ms);
    }
    return SQLITE_OK;
}

void wal_keep_short(sqlite3 *db, const struct wal_limits *limits)
{
    (void)sqlite3_busy_timeout(db, limits->busy_timeout_ms);
    /* Else every command that is alone would end with a checkpoint and its two fsyncs. */
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    (void)sqlite3_wal_hook(db, on_commit, (void *)(uintptr_t)limits);
}
