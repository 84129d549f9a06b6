#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/lock.h"
#include "unit.h"

static int open_scratch(char *name)
{
    ck_assert_ptr_nonnull(mkdtemp(name));
    int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    return fd;
}

START_TEST(links_cannot_leave_the_root)
{
    char name[] = "/tmp/isola-path-XXXXXX";
    AUTO(closep) int root = open_scratch(name);
    ck_assert_int_eq(symlinkat("/", root, "abs"), 0);
    ck_assert_int_eq(symlinkat("../../../..", root, "up"), 0);
    ck_assert_int_eq(symlinkat("/proc/self/root", root, "magic"), 0);

    struct stat here;
    struct stat there;
    ck_assert_int_eq(fstat(root, &here), 0);
    const char *links[] = {"abs", "up", "/..", "up/../.."};
    for (size_t i = 0; i < COUNT(links); i++) {
        AUTO(closep) int fd = open_in_root(root, links[i], O_PATH, 0);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(fstat(fd, &there), 0);
        ck_assert_uint_eq(there.st_ino, here.st_ino);
    }
    ck_assert_int_eq(open_in_root(root, "magic", O_PATH, 0), -ENOENT);

    AUTO(closep) int made = mkdir_in_root(root, "abs/../a/b/c", 0755);
    ck_assert_int_ge(made, 0);
    ck_assert_int_eq(faccessat(root, "a/b/c", F_OK, 0), 0);
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, name), 0);
    ck_assert_int_ne(access(name, F_OK), 0);
}
END_TEST

START_TEST(removal_does_not_follow_links)
{
    char outer[] = "/tmp/isola-path-XXXXXX";
    char inner[] = "/tmp/isola-path-XXXXXX";
    AUTO(closep) int keep = open_scratch(outer);
    AUTO(closep) int gone = open_scratch(inner);
    ck_assert_int_eq(replace_file_at(keep, "file", "x", 1, 0600, false), 0);
    ck_assert_int_eq(symlinkat(outer, gone, "link"), 0);
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, inner), 0);
    ck_assert_int_eq(faccessat(keep, "file", F_OK, 0), 0);
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, outer), 0);
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, outer), 0);
}
END_TEST

START_TEST(a_replaced_file_is_the_old_or_the_new)
{
    char name[] = "/tmp/isola-path-XXXXXX";
    AUTO(closep) int dir = open_scratch(name);
    ck_assert_int_eq(replace_file_at(dir, "f", "old", 3, 0640, false), 0);
    AUTO(closep) int reader = openat(dir, "f", O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(replace_file_at(dir, "f", "newer", 5, 0640, true), 0);
    AUTO(buf_donep) struct buf old = {0};
    AUTO(buf_donep) struct buf new = {0};
    ck_assert_int_eq(read_fd(reader, 100, &old), 0);
    ck_assert_int_eq(read_file_at(dir, "f", 100, &new), 0);
    ck_assert_str_eq(old.data, "old");
    ck_assert_str_eq(new.data, "newer");
    ck_assert_int_eq(read_file_at(dir, "f", 3, &new), -EFBIG);
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, name), 0);
}
END_TEST

START_TEST(an_exclusive_lock_excludes)
{
    char name[] = "/tmp/isola-path-XXXXXX";
    AUTO(closep) int dir = open_scratch(name);
    int first = lock_file_at(dir, "l", LOCK_EXCLUSIVE, false);
    ck_assert_int_ge(first, 0);
    ck_assert_int_eq(lock_file_at(dir, "l", LOCK_EXCLUSIVE, false), -EWOULDBLOCK);
    (void)close(first);
    AUTO(closep) int second = lock_file_at(dir, "l", LOCK_EXCLUSIVE, false);
    ck_assert_int_ge(second, 0);
    ck_assert_int_eq(remove_tree_at(AT_FDCWD, name), 0);
}
END_TEST

START_TEST(only_plain_words_are_safe_names)
{
    ck_assert(name_is_safe("web-1.2_x+y"));
    ck_assert(!name_is_safe(""));
    ck_assert(!name_is_safe("-x"));
    ck_assert(!name_is_safe("../x"));
    ck_assert(!name_is_safe("a/b"));
    ck_assert(!name_is_safe("a\nb"));
}
END_TEST

int main(void)
{
    return unit_run("base/path", (const TTest *const[]){
                                     links_cannot_leave_the_root,
                                     removal_does_not_follow_links,
                                     a_replaced_file_is_the_old_or_the_new,
                                     an_exclusive_lock_excludes,
                                     only_plain_words_are_safe_names,
                                     NULL,
                                 });
}
