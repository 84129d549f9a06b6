#include "engine/db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/process.h"
#include "unit.h"

static const char insert[] = "INSERT INTO workload (id, name, image, state, created, config)"
                             " VALUES (?, ?, 'i', 'created', ?, '{}')";

static int64_t count(struct db *db)
{
    AUTO(stmt_donep) sqlite3_stmt *stmt = NULL;
    ck_assert_int_eq(db_prepare(db, &stmt, NULL, "SELECT count(*) FROM workload", ""), 0);
    ck_assert_int_eq(db_step(db, stmt, NULL), 1);
    return sqlite3_column_int64(stmt, 0);
}

START_TEST(a_name_is_taken_once)
{
    char dir[] = "/tmp/isola-db-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(dir));
    AUTO(db_closep) struct db *db = NULL;
    struct err err = ERR_NONE;
    ck_assert_msg(db_open(dir, &db, &err) == 0, "%s", err_text(&err));
    ck_assert_int_eq(db_run(db, &err, insert, "ssi", "1", "web", (int64_t)5), 1);
    ck_assert_int_eq(db_run(db, &err, insert, "ssi", "2", "web", (int64_t)5), -EEXIST);
    ck_assert_int_eq(count(db), 1);
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, dir), 0);
}
END_TEST

START_TEST(an_uncommitted_transaction_leaves_nothing)
{
    char dir[] = "/tmp/isola-db-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(dir));
    AUTO(db_closep) struct db *db = NULL;
    ck_assert_int_eq(db_open(dir, &db, NULL), 0);
    {
        AUTO(db_tx_donep) struct db_tx tx = {0};
        ck_assert_int_eq(db_begin(db, &tx, NULL), 0);
        ck_assert_int_eq(db_run(db, NULL, insert, "ssi", "1", "a", (int64_t)1), 1);
    }
    ck_assert_int_eq(count(db), 0);
    {
        AUTO(db_tx_donep) struct db_tx tx = {0};
        AUTO(db_tx_donep) struct db_tx inner = {0};
        ck_assert_int_eq(db_begin(db, &tx, NULL), 0);
        ck_assert_int_eq(db_begin(db, &inner, NULL), 0);
        ck_assert_int_eq(db_run(db, NULL, insert, "ssi", "1", "a", (int64_t)1), 1);
        ck_assert_int_eq(db_commit(&inner, NULL), 0);
        ck_assert_int_eq(db_commit(&tx, NULL), 0);
    }
    ck_assert_int_eq(count(db), 1);
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, dir), 0);
}
END_TEST

START_TEST(eight_processes_create_and_write_at_once)
{
    char dir[] = "/tmp/isola-db-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(dir));
    pid_t children[8];
    for (int i = 0; i < 8; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            struct db *db = NULL;
            int r = db_open(dir, &db, NULL);
            for (int n = 0; r >= 0 && n < 20; n++) {
                char id[32];
                (void)snprintf(id, sizeof(id), "%d-%d", i, n);
                r = db_run(db, NULL, insert, "ssi", id, id, (int64_t)n);
            }
            db_close(db);
            _exit(r < 0 ? 1 : 0);
        }
    }
    for (int i = 0; i < 8; i++) {
        int status = -1;
        ck_assert_int_eq(process_wait(children[i], &status), 0);
        ck_assert_int_eq(status, 0);
    }
    AUTO(db_closep) struct db *db = NULL;
    ck_assert_int_eq(db_open(dir, &db, NULL), 0);
    ck_assert_int_eq(count(db), 160);
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, dir), 0);
}
END_TEST

START_TEST(the_log_stays_short_when_each_process_writes_once)
{
    char dir[] = "/tmp/isola-db-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(dir));
    AUTO(closep) int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    for (int i = 0; i < 400; i++) {
        char id[32];
        AUTO(db_closep) struct db *db = NULL;
        (void)snprintf(id, sizeof(id), "%d", i);
        ck_assert_int_eq(db_open(dir, &db, NULL), 0);
        ck_assert_int_eq(db_run(db, NULL, insert, "ssi", id, id, (int64_t)i), 1);
    }
    ck_assert_int_eq(fstatat(dir_fd, "state.db-wal", &st, 0), 0);
    ck_assert_int_lt(st.st_size, 1 << 20);
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, dir), 0);
}
END_TEST

int main(void)
{
    return unit_run("engine/db", (const TTest *const[]){
                                     a_name_is_taken_once,
                                     an_uncommitted_transaction_leaves_nothing,
                                     eight_processes_create_and_write_at_once,
                                     the_log_stays_short_when_each_process_writes_once,
                                     NULL,
                                 });
}
