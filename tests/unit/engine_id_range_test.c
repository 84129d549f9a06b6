#include "engine/id_range.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/path.h"
#include "unit.h"

START_TEST(modes_are_read)
{
    static const struct {
        const char *text;
        int result;
        enum id_range_mode mode;
        unsigned size;
    } cases[] = {
        {NULL, 0, ID_RANGE_HOST, 65536},
        {"", 0, ID_RANGE_HOST, 65536},
        {"host", 0, ID_RANGE_HOST, 65536},
        {"auto", 0, ID_RANGE_AUTO, 65536},
        {"auto:size=1024", 0, ID_RANGE_AUTO, 1024},
        {"private", 0, ID_RANGE_PRIVATE, 65536},
        {"remap", 0, ID_RANGE_PRIVATE, 65536},
        {"container:web", 0, ID_RANGE_JOINED, 65536},
        {"container:", -EINVAL, 0, 0},
        {"auto:size=1023", -EINVAL, 0, 0},
        {"auto:size=99999999", -EINVAL, 0, 0},
        {"auto:uid=5", -EINVAL, 0, 0},
        {"keep-id", -EINVAL, 0, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        enum id_range_mode mode;
        unsigned size;
        ck_assert_int_eq(id_range_parse(cases[i].text, &mode, &size, NULL), cases[i].result);
        if (cases[i].result == 0) {
            ck_assert_int_eq(mode, cases[i].mode);
            ck_assert_uint_eq(size, cases[i].size);
        }
    }
}
END_TEST

/* A row that counts as living. */
static void insert(struct db *db, const char *id)
{
    ck_assert_int_eq(db_run(db, NULL,
                            "INSERT INTO workload (id, name, image, state, created, config)"
                            " VALUES (?, ?, 'i', 'running', 1, '{}')",
                            "ss", id, id),
                     1);
}

START_TEST(ranges_are_disjoint_until_none_is_left_and_come_back)
{
    char dir[] = "/tmp/isola-ids-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(dir));
    AUTO(db_closep) struct db *db = NULL;
    ck_assert_int_eq(db_open(dir, &db, NULL), 0);
    struct engine engine = {.db = db};
    const struct workload_config config = {.userns = "auto:size=16777216"};
    struct id_range before = {0};
    struct id_range range = {0};
    struct err err = ERR_NONE;
    char id[16];
    int r = 0;
    unsigned count = 0;
    for (; r == 0 && count < 1000; count++) {
        (void)snprintf(id, sizeof(id), "%u", count);
        insert(db, id);
        before = range;
        r = id_range_reserve(&engine, id, &config, &range, &err);
        ck_assert(r < 0 || count == 0 || range.uid_start >= before.uid_start + before.size);
    }
    ck_assert_int_eq(r, -ENOSPC);
    ck_assert_ptr_nonnull(strstr(err_text(&err), "/etc/subuid"));
    if (count > 1) {
        /* The first one ends: its place is the next one's. */
        ck_assert_int_eq(
            db_run(db, NULL, "UPDATE workload SET state = 'exited' WHERE id = '0'", ""), 1);
        ck_assert_int_eq(id_range_reserve(&engine, id, &config, &range, NULL), 0);
        ck_assert_int_eq(db_run(db, NULL, "DELETE FROM workload WHERE id = '0'", ""), 1);
        ck_assert_int_eq(id_range_reserve(&engine, id, &config, &before, NULL), 0);
        ck_assert_uint_eq(before.uid_start, range.uid_start);
    }
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, dir), 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        modes_are_read,
        ranges_are_disjoint_until_none_is_left_and_come_back,
        NULL,
    };
    return unit_run("engine_id_range", tests);
}
