#include "container/rdt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/io.h"
#include "base/path.h"
#include "base/str.h"
#include "container/spec.h"
#include "unit.h"

/* What the kernel's file system would hold; its groups get their files by mkdir, these by hand. */
static void put(const char *root, const char *name, const char *text)
{
    AUTO(freep) char *path = str_printf("%s/%s", root, name);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    (void)fputs(text, file);
    (void)fclose(file);
}

static void make_group(const char *root, const char *schemata)
{
    AUTO(freep) char *path = str_printf("%s/gold/mon_groups/web", root);
    ck_assert_int_eq(mkdir_parents(path, 0700), 0);
    put(root, "schemata", "L3:0=fff\n");
    put(root, "gold/schemata", schemata);
    put(root, "gold/tasks", "");
    put(root, "gold/mon_groups/web/tasks", "");
}

static char *get(const char *root, const char *name)
{
    AUTO(freep) char *path = str_printf("%s/%s", root, name);
    struct buf text = {0};
    ck_assert_int_eq(read_file(path, 4096, &text), 0);
    return buf_take(&text);
}

START_TEST(a_group_that_exists_must_have_the_share)
{
    static const struct {
        const char *l3;
        const char *mb;
        int want;
    } cases[] = {
        {NULL, NULL, 0},
        {"L3:0=0ff;1=f", NULL, 0},
        {"L3:1=00f", "MB:0=50", 0},
        {"L3:0=FF", NULL, 0},
        {"L3:0=fe", NULL, -EEXIST},
        {"L3:2=f", NULL, -EEXIST},
        {"L2:0=f", NULL, -EEXIST},
        {"nonsense", NULL, -EEXIST},
        {"L3:0=0ff\nL3CODE:0=f", NULL, -EEXIST},
        {NULL, "MB:0=5", -EEXIST},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char root[] = "/tmp/isola-rdt-XXXXXX";
        ck_assert_ptr_nonnull(mkdtemp(root));
        make_group(root, "    MB:0=50;1=100\n    L3:0=0ff;1=00f\n");
        struct spec_rdt rdt = {.set = true,
                               .clos_id = "gold",
                               .l3_cache_schema = cases[i].l3,
                               .mem_bw_schema = cases[i].mb,
                               .enable_cmt = true};
        struct rdt_group group;
        struct err err = ERR_NONE;
        ck_assert_int_eq(rdt_find(root, &rdt, "web", &group, &err), 0);
        int r = rdt_enter(root, &rdt, "web", 4711, &group, &err);
        ck_assert_msg(r == cases[i].want, "case %zu: %s", i, err_text(&err));
        AUTO(freep) char *tasks = get(root, "gold/tasks");
        ck_assert_str_eq(tasks, r == 0 ? "4711" : "");
        if (r == 0) {
            AUTO(freep) char *monitored = get(root, "gold/mon_groups/web/tasks");
            ck_assert_str_eq(monitored, "4711");
            ck_assert(group.monitored);
        }
        ck_assert(!group.made);
        ck_assert_int_eq(remove_tree_at(AT_FDCWD, root), 0);
    }
}
END_TEST

START_TEST(a_group_that_cannot_be_filled_is_taken_back)
{
    char root[] = "/tmp/isola-rdt-XXXXXX";
    ck_assert_ptr_nonnull(mkdtemp(root));
    put(root, "schemata", "L3:0=fff\n");
    const struct spec_rdt rdt = {.set = true, .l3_cache_schema = "L3:0=f"};
    struct rdt_group group;
    struct err err = ERR_NONE;
    ck_assert_int_eq(rdt_find(root, &rdt, "web", &group, &err), 0);
    ck_assert_str_eq(group.name, "web");
    ck_assert_int_lt(rdt_enter(root, &rdt, "web", 4711, &group, &err), 0);
    ck_assert_ptr_nonnull(strstr(err_text(&err), "l3CacheSchema"));
    AUTO(freep) char *path = str_printf("%s/web", root);
    struct stat st;
    ck_assert_int_eq(stat(path, &st), -1);
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, root), 0);
}
END_TEST

START_TEST(names_that_lead_away_and_a_missing_mount_are_refused)
{
    static const char *const names[] = {"..", "a/b", "info", "mon_groups", ""};
    struct rdt_group group;
    struct err err = ERR_NONE;
    for (size_t i = 0; i < COUNT(names); i++) {
        const struct spec_rdt rdt = {.set = true, .clos_id = names[i]};
        ck_assert_int_eq(rdt_find("/nonexistent", &rdt, "web", &group, NULL), -EINVAL);
    }
    const struct spec_rdt rdt = {.set = true, .enable_mbm = true};
    ck_assert_int_eq(rdt_find("/nonexistent", &rdt, "web", &group, &err), -ENODEV);
    ck_assert_ptr_nonnull(strstr(err_text(&err), "mount -t resctrl"));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_group_that_exists_must_have_the_share,
        a_group_that_cannot_be_filled_is_taken_back,
        names_that_lead_away_and_a_missing_mount_are_refused,
        NULL,
    };
    return unit_run("container_rdt", tests);
}
