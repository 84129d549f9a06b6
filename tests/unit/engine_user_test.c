#include "engine/user.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/path.h"
#include "base/str.h"
#include "unit.h"

static char root[] = "/tmp/isola-user-XXXXXX";

static int make_root(const char *passwd, const char *group)
{
    ck_assert_ptr_nonnull(mkdtemp(root));
    int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(mkdirat(fd, "etc", 0755), 0);
    const struct {
        const char *path;
        const char *text;
    } files[] = {{"etc/passwd", passwd}, {"etc/group", group}};
    for (size_t i = 0; i < COUNT(files); i++) {
        if (files[i].text == NULL) {
            continue;
        }
        int file = openat(fd, files[i].path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        ck_assert_int_eq(write(file, files[i].text, strlen(files[i].text)), strlen(files[i].text));
        (void)close(file);
    }
    return fd;
}

static void remove_root(void)
{
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, root), 0);
}

static const char passwd_text[] = "root:x:0:0:root:/root:/bin/sh\n"
                                  "web:x:33:44::/srv/web:/bin/sh\n"
                                  "short:x:50:51\n";
static const char group_text[] = "root:x:0:\nstaff:x:44:\nmore:x:70:other,web\nnone:x:71:webx\n";

START_TEST(users_and_groups_are_found_by_name_and_number)
{
    static const struct {
        const char *text;
        uid_t uid;
        gid_t gid;
        size_t groups;
        const char *home;
    } cases[] = {
        {NULL, 0, 0, 0, "/root"},
        {"", 0, 0, 0, "/root"},
        {"web", 33, 44, 1, "/srv/web"},
        {"33", 33, 44, 1, "/srv/web"},
        {"web:root", 33, 0, 0, "/srv/web"},
        {"web:70", 33, 70, 0, "/srv/web"},
        {"999", 999, 0, 0, "/"},
        {"999:staff", 999, 44, 0, "/"},
        {"short", 50, 51, 0, "/"},
        {":staff", 0, 44, 0, "/root"},
        {"0:0", 0, 0, 0, "/root"},
        {"4294967294:4294967294", 4294967294U, 4294967294U, 0, "/"},
    };
    AUTO(closep) int fd = make_root(passwd_text, group_text);
    for (size_t i = 0; i < COUNT(cases); i++) {
        AUTO(user_donep) struct user user = {0};
        struct err err = ERR_NONE;
        ck_assert_msg(user_resolve(fd, cases[i].text, NULL, &user, &err) == 0, "%s: %s",
                      cases[i].text, err_text(&err));
        ck_assert_uint_eq(user.uid, cases[i].uid);
        ck_assert_uint_eq(user.gid, cases[i].gid);
        ck_assert_uint_eq(user.group_count, cases[i].groups);
        ck_assert_str_eq(user.home, cases[i].home);
    }
    remove_root();
}
END_TEST

START_TEST(more_groups_are_added_once_each)
{
    AUTO(closep) int fd = make_root(passwd_text, group_text);
    AUTO(strv_donep) struct strv extra = {0};
    AUTO(user_donep) struct user user = {0};
    ck_assert_int_eq(strv_add(&extra, "staff"), 0);
    ck_assert_int_eq(strv_add(&extra, "more"), 0);
    ck_assert_int_eq(strv_add(&extra, "4242"), 0);
    ck_assert_int_eq(strv_add(&extra, "4242"), 0);
    ck_assert_int_eq(user_resolve(fd, "web", &extra, &user, NULL), 0);
    ck_assert_uint_eq(user.group_count, 3);
    ck_assert_uint_eq(user.groups[0], 70);
    ck_assert_uint_eq(user.groups[1], 44);
    ck_assert_uint_eq(user.groups[2], 4242);
    remove_root();
}
END_TEST

START_TEST(who_is_not_there_is_named)
{
    static const char *const bad[] = {"nobody",     "web:nogroup", "-1",
                                      "4294967295", "0x10",        "99999999999999999999"};
    AUTO(closep) int fd = make_root(passwd_text, group_text);
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct user user = {0};
        struct err err = ERR_NONE;
        ck_assert_int_eq(user_resolve(fd, bad[i], NULL, &user, &err), -ENOENT);
        ck_assert_ptr_nonnull(strstr(err_text(&err), bad[i]));
        ck_assert_ptr_null(user.home);
    }
    remove_root();
}
END_TEST

START_TEST(hostile_files_are_read_as_far_as_they_make_sense)
{
    static const char hostile[] = "\n\n:::::::::::::::::::::::\n"
                                  "web:x:not-a-number:0::/:\n"
                                  "web:x:-5:0::/:\n"
                                  "web:x:4294967295:0::/:\n"
                                  "web:x:99999999999999999999:0::/:\n"
                                  "web\n"
                                  "web:x\n"
                                  "web:x:7:8::relative/home:/bin/sh:extra:fields:many\n"
                                  "last:x:9:10::/h";
    AUTO(closep) int fd = make_root(hostile, ":\n::::\nmore:x:no:web\nmore:x:5:,,,web,,\n");
    AUTO(user_donep) struct user user = {0};
    AUTO(user_donep) struct user last = {0};
    ck_assert_int_eq(user_resolve(fd, "web", NULL, &user, NULL), 0);
    ck_assert_uint_eq(user.uid, 7);
    ck_assert_uint_eq(user.gid, 8);
    ck_assert_str_eq(user.home, "/");
    ck_assert_uint_eq(user.group_count, 1);
    ck_assert_uint_eq(user.groups[0], 5);
    ck_assert_int_eq(user_resolve(fd, "last", NULL, &last, NULL), 0);
    ck_assert_uint_eq(last.uid, 9);
    remove_root();
}
END_TEST

START_TEST(an_image_without_accounts_takes_numbers)
{
    AUTO(closep) int fd = make_root(NULL, NULL);
    AUTO(user_donep) struct user user = {0};
    struct user none = {0};
    ck_assert_int_eq(user_resolve(fd, "5:6", NULL, &user, NULL), 0);
    ck_assert_uint_eq(user.uid, 5);
    ck_assert_uint_eq(user.gid, 6);
    ck_assert_int_eq(user_resolve(fd, "web", NULL, &none, NULL), -ENOENT);
    remove_root();
}
END_TEST

START_TEST(links_pipes_and_giants_do_not_lead_out_or_hang)
{
    AUTO(closep) int fd = make_root(NULL, NULL);
    struct user user = {0};
    /* The host's passwd has root's home; the image's link must not reach it. */
    ck_assert_int_eq(symlinkat("../../../../../../../../etc/passwd", fd, "etc/passwd"), 0);
    ck_assert_int_eq(symlinkat("/etc/group", fd, "etc/group"), 0);
    ck_assert_int_eq(user_resolve(fd, "root", NULL, &user, NULL), -ENOENT);
    ck_assert_int_eq(unlinkat(fd, "etc/passwd", 0), 0);
    ck_assert_int_eq(mkfifoat(fd, "etc/passwd", 0644), 0);
    ck_assert_int_lt(user_resolve(fd, "root", NULL, &user, NULL), 0);
    ck_assert_int_eq(unlinkat(fd, "etc/passwd", 0), 0);
    AUTO(closep) int file = openat(fd, "etc/passwd", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    ck_assert_int_eq(ftruncate(file, (off_t)1 << 40), 0);
    ck_assert_int_lt(user_resolve(fd, "root", NULL, &user, NULL), 0);
    remove_root();
}
END_TEST

int main(void)
{
    return unit_run("engine/user", (const TTest *const[]){
                                       users_and_groups_are_found_by_name_and_number,
                                       more_groups_are_added_once_each,
                                       who_is_not_there_is_named,
                                       hostile_files_are_read_as_far_as_they_make_sense,
                                       an_image_without_accounts_takes_numbers,
                                       links_pipes_and_giants_do_not_lead_out_or_hang,
                                       NULL,
                                   });
}
