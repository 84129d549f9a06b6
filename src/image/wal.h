/*
 * wal.h - keeping the write-ahead log of a sqlite database short.
 */
#ifndef IMAGE_WAL_H
#define IMAGE_WAL_H

#include <sqlite3.h>

struct wal_limits {
    int pages;           /* a commit that finds so many in the log empties it */
    int busy_timeout_ms; /* of the connection; set, too */
};

/*
 * Nobody waits for the emptying: where another process is in the way the next commit tries again.
 * The limits must outlive the connection. Call it once, after sqlite3_open_v2().
 *
 * sqlite's own way (sqlite3_wal_autocheckpoint) only copies the pages, and leaves it to the next
 * commit of the same process to begin the log anew: of processes that commit once none ever does.
 * And a process that is alone reads the whole log at its start, so each would be slower than the
 * one before.
 */
void wal_keep_short(sqlite3 *db, const struct wal_limits *limits);

#endif
